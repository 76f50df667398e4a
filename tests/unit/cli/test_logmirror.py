"""The commands of a log mirror as its operator runs them: flags, output, exit codes, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.errors import ExitCode, IntegrityMismatchError, StorageUnavailableError, UpstreamUnreachableError
from mirrorwitness.logmirror.attest import Attested, holdings_key
from mirrorwitness.logmirror.paths import checkpoint_key, pending_key
from mirrorwitness.run.attesting import AttestResult
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.local_cells import cell_path
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.tlog.merkle import leaf_hash
from mirrorwitness.witness.records import Identity
from tests.fakes.serving import serve
from tests.fakes.storage import MemoryStorage
from tests.fakes.thread import run_in_thread
from tests.unit.logmirror.sources import LabServer, LabSource
from tests.unit.logmirror.tarballs import SUM_KEY, SumLog, hold, publish
from tests.unit.logmirror.test_attest import KEY as ARTIFACT_KEY
from tests.unit.logmirror.world import LAB, OURS, OURS_PQ
from tests.unit.witness.world import OURS as WITNESS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirrorwitness.tlog.keys import SignerKey

pytestmark = pytest.mark.slow
VKEY = str(LAB.keys[0].verifier)


@dataclass(slots=True)
class Shell:
    """Runs commands in a folder with keys and a storage."""

    folder: Path

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run a command, hold it to its exit code, and return its standard output."""
        done = CliRunner().invoke(main, ("logmirror", *arguments))
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stdout

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """The same with ``--json``: standard output is one document, which has the exit code too."""
        document: dict[str, Any] = json.loads(self.run(*arguments, "--json", expect=expect))
        assert document["exit_code"] == expect
        return document

    def refuse(self, *arguments: str, expect: int) -> str:
        """Run a command that fails, and return what it tells people."""
        done = CliRunner().invoke(main, ("logmirror", *arguments))
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stderr

    def key(self, key: SignerKey = OURS) -> str:
        """Write the file of a key."""
        path = self.folder / f"{key.verifier.key_id.hex()}.key"
        path.write_text(format_signer_key(key))
        path.chmod(0o600)
        return str(path)

    def stored(self, key: str, place: str = "copies") -> Path:
        """Return the path of an object."""
        return self.folder / place / key

    def options(self, *keys: SignerKey, url: str = "", place: str = "copies") -> tuple[str, ...]:
        """Whose log mirror it is."""
        given = [part for key in keys or (OURS,) for part in ("--key", self.key(key))]
        return ("--storage", f"file:{self.folder / place}", *given, "--log", VKEY + (f"={url}" if url else ""))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@contextmanager
def serving(shell: Shell, *options: str, kill: bool = False) -> Iterator[str]:
    """Run ``logmirror serve`` as a process; gives its address. It ends with exit code 0, unless it is killed."""
    command = [sys.executable, "-m", "mirrorwitness", "logmirror", "serve", "--listen", "127.0.0.1:0", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=shell.folder, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        code = process.wait(timeout=20)
        process.stdout.close()
    assert code == (-signal.SIGKILL if kill else 0)


def size_of(shell: Shell, place: str = "copies") -> int:
    """Return the size of the checkpoint that is served."""
    body = shell.stored(checkpoint_key(LAB.origin), place).read_bytes()
    return open_checkpoint(body, [LAB.keys[0].verifier], origin=LAB.origin).checkpoint.size


def test_a_log_is_pulled_served_and_pushed(shell: Shell) -> None:
    """Poll fills a copy, serve serves it and takes more, push brings it on, also after kill -9."""
    source = LabSource(LAB, 300)
    with run_in_thread(serve(LabServer(source))) as url:
        options = shell.options(OURS, OURS_PQ, url=url)
        found = shell.json("poll", "--once", *options)
        assert [(log["before"], log["after"], log["action"]) for log in found["logs"]] == [(0, 300, "cosigned")]
        assert "unchanged" in shell.run("poll", "--once", *options)
        pushed = ("push", "--log", f"{VKEY}={url}", "--mirror-key", str(OURS.verifier))
        with serving(shell, *options, kill=True) as mirror:
            source.size = 600
            done = shell.json(*pushed, "--to", mirror)
            assert (done["size"], len(done["cosigned_by"])) == (600, 1)
            copy = f"{mirror}/{origin_hash(LAB.origin)}"
            assert "cosigned" in shell.run("poll", "--once", *shell.options(ARTIFACT_KEY, url=copy, place="other"))
        source.size = 900
        with serving(shell, *options) as mirror:
            assert "mirror.example/m1" in shell.run(*pushed, "--to", mirror)
            assert "status 404" in shell.refuse(*pushed, "--to", f"{mirror}/wrong", expect=5)
    assert (size_of(shell), size_of(shell, "other")) == (900, 600)
    for path in ("tile/0/000", "tile/0/001", "tile/entries/001"):
        key = checkpoint_key(LAB.origin).replace("checkpoint", path)
        assert shell.stored(key).read_bytes() == shell.stored(key, "other").read_bytes()


def test_what_a_poll_exits_with(shell: Shell) -> None:
    """5 where nothing could be read, 4 where a log contradicts itself, 2 where nothing is to be polled."""
    source = LabSource(LAB, 300)
    with run_in_thread(serve(LabServer(source))) as url:
        shell.run("poll", "--once", *shell.options(url=url))
        source.lab, source.size = LAB.fork(3), 400
        assert "forked" in shell.run("poll", "--once", *shell.options(url=url), expect=4)
        assert list((shell.folder / "copies" / "evidence").rglob("*.json"))
        source.lab, source.size = LAB, 299
        assert "older-head" in shell.run("poll", "--once", *shell.options(url=url), expect=4)
    shell.run("poll", "--once", *shell.options(url=url), expect=5)
    assert "no log to poll" in shell.refuse("poll", "--once", *shell.options(), expect=2)
    for wrong in ((), ("--once", "--follow"), ("--follow", "--json"), ("--once", "--every", "0")):
        shell.refuse("poll", *wrong, *shell.options(url=url), expect=2)


def test_a_mirror_that_follows_ends_with_a_signal(shell: Shell) -> None:
    """SIGTERM while it waits: exit code 0, and what it had was signed."""
    with run_in_thread(serve(LabServer(LabSource(LAB, 300)))) as url:
        command = [sys.executable, "-m", "mirrorwitness", "logmirror", "poll", "--follow", *shell.options(url=url)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=shell.folder, env=environment)
        assert process.stderr is not None
        for line in process.stderr:
            if "log_pulled" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        process.stderr.close()
    assert size_of(shell) == 300


def test_attack_a_witness_s_key_is_refused(shell: Shell) -> None:
    """Where the storage, or the log, knows it in another role: nothing is written."""
    place = ("--storage", f"file:{shell.folder / 'copies'}", "--key", shell.key(WITNESS_KEY))
    done = CliRunner().invoke(main, ("witness", "poll", "--once", *place, "--log", f"{VKEY}=http://127.0.0.1:1"))
    assert done.exit_code == 5, done.output
    told = shell.refuse("poll", "--once", *shell.options(WITNESS_KEY, url="http://127.0.0.1:1"), expect=2)
    assert "the log mirror needs a name and a key of its own" in told
    assert not shell.stored("state/logmirror/identity.json").exists()
    told = shell.refuse("retire", *shell.options(WITNESS_KEY), expect=2)
    assert "never was one of its log mirror; give it up with `mirrorwitness witness retire`" in told
    shell.run("poll", "--once", *shell.options(url="http://127.0.0.1:1"), expect=5)
    copies = ("--storage", f"file:{shell.folder / 'copies'}", "--key", shell.key(), "--log", VKEY)
    newest = shell.folder / "newest.txt"
    newest.write_bytes(LAB.checkpoint(7))
    for words in (("serve",), ("poll", "--once"), ("adopt", "--checkpoint", str(newest))):
        done = CliRunner().invoke(main, ("witness", *words, *copies))
        assert done.exit_code == 2, done.output
        assert "that of the log mirror of this storage; the witness needs a name and a key of its own" in done.stderr
    done = CliRunner().invoke(main, ("witness", "retire", *copies[:4]))
    assert done.exit_code == 2, done.output
    assert "give it up with `mirrorwitness logmirror retire`" in done.stderr
    assert msgspec.json.decode(shell.stored("state/witness/identity.json").read_bytes(), type=Identity) == Identity(
        keys=(str(WITNESS_KEY.verifier),)
    )
    same = ("--storage", f"file:{shell.folder / 'x'}", "--anchor", f"file:{shell.folder / 'x'}")
    assert "is --storage" in shell.refuse("poll", "--once", *same, "--key", shell.key(), "--log", VKEY, expect=2)


def test_adopt_and_retire(shell: Shell) -> None:
    """A state that was restored stops the mirror, and its messages name the commands that help."""
    source = LabSource(LAB, 300)
    with run_in_thread(serve(LabServer(source))) as url:
        options = shell.options(url=url)
        shell.run("poll", "--once", *options)
        record = Path(cell_path(str(shell.stored(f"state/logmirror/logs/{origin_hash(LAB.origin)}.json"))))
        old = record.read_bytes()
        source.size = 600
        shell.run("poll", "--once", *options)
        record.write_bytes(old)
        told = shell.refuse("poll", "--once", *options, expect=4)
        assert "`mirrorwitness logmirror adopt`" in told
        assert "witness adopt" not in told
        newest = shell.folder / "newest.txt"
        newest.write_bytes(shell.stored(checkpoint_key(LAB.origin)).read_bytes())
        assert shell.json("adopt", *options, "--checkpoint", str(newest))["size"] == 600
        assert "600" in shell.run("adopt", *options, "--checkpoint", str(newest))
        source.size = 700
        shell.run("poll", "--once", *options)
        assert size_of(shell) == 700
        assert "retired mirror.example/m1" in shell.run("retire", *options)
        assert len(shell.json("retire", *options)["retired"]) == 1
        assert "was retired" in shell.refuse("poll", "--once", *options, expect=2)
    assert shell.stored(pending_key(LAB.origin)).exists()


def write_storage(shell: Shell, storage: MemoryStorage, place: str) -> None:
    """Write what a storage in memory has into a directory."""

    async def write() -> None:
        async with open_storage(f"file:{shell.folder / place}") as directory:
            for key, body in storage.objects.items():
                await directory.put(key, body)

    trio.run(write)


def write_log(shell: Shell, log: SumLog, place: str) -> None:
    """Write a small log where its operator's storage has it."""
    storage = MemoryStorage()
    entries = log.records[: log.size]
    storage.set_bytes("log/checkpoint", log.note(log.size))
    storage.set_bytes(f"log/tile/0/000.p/{log.size}", b"".join(map(leaf_hash, entries)))
    storage.set_bytes(f"log/tile/entries/000.p/{log.size}", format_entries(entries))
    write_storage(shell, storage, place)


def test_attest_names_the_first_gap_and_signs_what_it_may(shell: Shell) -> None:
    """3 with a gap, 0 without, 4 where other bytes are held, 5 where the log cannot be read."""
    log, storage = SumLog().log(publish("1.0.0"), publish("1.0.1")), MemoryStorage()
    hold(storage, "1.0.0")
    write_storage(shell, storage, "mirror")
    write_log(shell, log, "mirror")
    place = ("--storage", f"file:{shell.folder / 'mirror'}", "--key", shell.key(ARTIFACT_KEY))
    options = (*place, "--log", str(SUM_KEY.verifier))
    found = shell.json("attest", *options, expect=3)
    assert found["logs"][0]["first_gaps"] == [
        {
            "leaf": 1,
            "name": "left-pad",
            "version": "1.0.1",
            "registry": "r.example",
            "why": "no tarball is held",
            "differs": False,
        }
    ]
    assert "leaf 1, left-pad@1.0.1 of r.example: no tarball is held" in shell.refuse("attest", *options, expect=3)
    hold(storage, "1.0.1")
    write_storage(shell, storage, "mirror")
    assert shell.json("attest", *options)["logs"][0]["signed"] == 2
    assert "sum.example" in shell.run("attest", *options, "--again", "--trust-records")
    hold(storage, "1.0.1", stored=b"something else")
    write_storage(shell, storage, "mirror")
    assert "another one" in shell.refuse("attest", *options, "--again", expect=4)
    assert shell.stored(holdings_key(SUM_KEY.name), "mirror").exists()
    unreachable = (*options[:-1], f"{options[-1]}=http://127.0.0.1:1")
    assert shell.json("attest", *unreachable, expect=5)["logs"] == []
    assert "127.0.0.1:1" in shell.refuse("attest", *unreachable, expect=5)
    assert "no log" in shell.refuse("attest", *place, expect=2)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([UpstreamUnreachableError("x")], ExitCode.UPSTREAM),
        ([UpstreamUnreachableError("x"), StorageUnavailableError("x")], ExitCode.PARTIAL),
        ([UpstreamUnreachableError("x"), IntegrityMismatchError("x")], ExitCode.DIVERGENCE),
        ([], ExitCode.COMPLETE),
    ],
)
def test_what_several_logs_exit_with(errors: list[Any], code: ExitCode) -> None:
    """What weighs most."""
    done = Attested("o", 5, 5, 5, is_new=True)
    logs = () if errors else (done,)
    assert AttestResult(logs, tuple([("o", error) for error in errors])).exit_code() is code
