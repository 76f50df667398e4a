"""The commands of a checksum database as its operator runs them: flags, output, exit codes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY
from mirrorwitness.tlog.checkpoint import LOG_KEYS, open_checkpoint
from mirrorwitness.tlog.keys import KeyType, parse_signer_key, parse_verifier_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.thread import ThreadedRegistry

ORIGIN = "sum.example.org"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass
class Shell:
    """Runs commands in a folder with a log and its key."""

    folder: Path

    @property
    def storage(self) -> tuple[str, str]:
        """The flag of the storage."""
        return "--storage", f"file:{self.folder / 'sumdb'}"

    @property
    def key(self) -> Path:
        """The file of the log's keys."""
        return self.folder / "sumdb.key"

    def growing(self, registry: ThreadedRegistry) -> tuple[str, ...]:
        """Return the flags of whoever adds records."""
        return (*self.storage, "--key", str(self.key), "--registry", registry.url)

    def invoke(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        """Run a command, hold it to its exit code, and return what it printed to both outputs."""
        done = CliRunner().invoke(main, ("sumdb", *arguments))
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stdout, done.stderr

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run it with ``--json``: standard output is one document, which has the exit code too."""
        document: dict[str, Any] = json.loads(self.invoke(*arguments, "--json", expect=expect)[0])
        assert document["exit_code"] == expect
        assert document["schema"] == f"mirrorwitness-sumdb-{arguments[0]}-1"
        return document

    def stored(self, key: str) -> Path:
        """Return the path of an object."""
        return self.folder / "sumdb" / key

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[str]:
        """Run ``sumdb serve`` as a process; gives its address. It ends with exit code 0."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mirrorwitness", "sumdb", "serve", "--listen", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:")
            yield line.removeprefix("listening on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=30)
            rest = process.stdout.read()
            process.stdout.close()
        assert (code, rest) == (0, "")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A folder with a new log."""
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    shell.invoke("init", *shell.storage, "--name", ORIGIN, "--out", str(shell.key))
    return shell


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def test_init_makes_two_keys_in_one_file_and_prints_their_public_halves(shell: Shell) -> None:
    """Ed25519 first and ML-DSA-44, a line each; nobody else can read the private ones, and nothing prints them."""
    out = shell.folder / "other.key"
    storage = f"file:{shell.folder / 'other'}"
    stdout, stderr = shell.invoke("init", "--storage", storage, "--name", "other.example", "--out", str(out))
    public = [parse_verifier_key(line, *LOG_KEYS) for line in stdout.splitlines()]
    private = [parse_signer_key(line, *LOG_KEYS) for line in out.read_text().splitlines()]
    assert [key.verifier for key in private] == public
    assert [key.kind for key in public] == [KeyType.ED25519, KeyType.ML_DSA_44]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "keep one copy of it, offline" in stderr
    assert "PRIVATE" not in stdout + stderr


def test_init_never_replaces_a_key_or_a_log(shell: Shell) -> None:
    """Exit 2, what is there stays, and no second key is left behind."""
    key, head = shell.key.read_bytes(), shell.stored(HEAD_KEY).read_bytes()
    other = f"file:{shell.folder / 'other'}"
    _, stderr = shell.invoke("init", "--storage", other, "--name", "x.example", "--out", str(shell.key), expect=2)
    assert "a key is never replaced" in stderr
    document = shell.json("init", *shell.storage, "--name", ORIGIN, "--out", str(shell.folder / "second.key"), expect=2)
    assert "never begun anew" in document["error"]["message"]
    assert not (shell.folder / "second.key").exists()
    assert (shell.key.read_bytes(), shell.stored(HEAD_KEY).read_bytes()) == (key, head)


def test_serve_grows_by_look_ups_and_stops_on_sigterm(shell: Shell, registry: ThreadedRegistry) -> None:
    """The contract of every server; without witnesses it says on whose word checkpoints are published."""
    registry.sim.publish("left", "1.0.0")
    with shell.serving(*shell.growing(registry)) as url:
        found = parse_lookup(get(f"{url}/lookup/left@1.0.0"), has_checkpoint=True)
        assert b"\npackage left@1.0.0\n" in found.record
    with shell.serving(*shell.storage, "--read-only") as url:
        assert get(f"{url}/checkpoint") == shell.stored(CHECKPOINT_KEY).read_bytes()
    with shell.serving(*shell.storage, "--at", "1") as url:
        assert parse_lookup(get(f"{url}/lookup/left@1.0.0"), has_checkpoint=False) == type(found)(
            found.index, found.record, found.proof
        )


def test_serve_as_the_environment_and_the_file_say(shell: Shell, registry: ThreadedRegistry) -> None:
    """Storage and registry by the rules of all commands: flags, then environment, then file."""
    (shell.folder / "mirrorwitness.toml").write_text(
        f'storage = "file:sumdb"\n[[registry]]\nurl = "{registry.url}"\n', encoding="utf-8"
    )
    registry.sim.publish("left", "1.0.0")
    with shell.serving("--key", str(shell.key)) as url:
        assert b"left@1.0.0" in parse_lookup(get(f"{url}/lookup/left@1.0.0"), has_checkpoint=True).record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--key", "none.key"), "--key none.key: cannot be read"),
        ((), "no key: give --key FILE"),
        (("--key", "sumdb.key", "--witness", "x"), "expected VKEY=URL"),
        (("--key", "sumdb.key", "--policy", "none.policy"), "--policy none.policy"),
        (("--key", "sumdb.key", "--authority", "@acme"), "expected NAME=URL"),
        (("--key", "sumdb.key", "--listen", "nowhere"), "--listen"),
        (("--key", "sumdb.key", "--refresh", "soon"), "soon"),
    ],
)
def test_serve_says_which_flag_is_wrong(
    shell: Shell, registry: ThreadedRegistry, arguments: tuple[str, ...], message: str
) -> None:
    """Exit 2, and nothing is served."""
    stdout, stderr = shell.invoke("serve", *shell.storage, "--registry", registry.url, *arguments, expect=2)
    assert stdout == ""
    assert message in stderr


def test_a_key_that_others_can_read_is_refused(shell: Shell, registry: ThreadedRegistry) -> None:
    """It may be somebody else's already."""
    shell.key.chmod(0o644)
    _, stderr = shell.invoke("serve", *shell.growing(registry), expect=2)
    assert "others can use it" in stderr


def test_ingest_logs_named_packages(shell: Shell, registry: ThreadedRegistry) -> None:
    """All versions of each, published at the end; a second time there is nothing to do."""
    for name, version in (("left", "1.0.0"), ("left", "1.1.0"), ("@s/right", "1.0.0")):
        registry.sim.publish(name, version)
    document = shell.json("ingest", "left", "@s/right", *shell.growing(registry))
    assert document["counts"]["log_records"] == 3
    keys = [parse_signer_key(line, *LOG_KEYS).verifier for line in shell.key.read_text().splitlines()]
    published = open_checkpoint(shell.stored(CHECKPOINT_KEY).read_bytes(), keys, origin=ORIGIN)
    assert published.checkpoint.size == 3
    stdout, stderr = shell.invoke("ingest", "left", "@s/right", *shell.growing(registry))
    assert "0 updated, 2 unchanged" in stdout
    assert "no witness is asked" in stderr


def test_ingest_of_a_lockfile(shell: Shell, registry: ThreadedRegistry) -> None:
    """The packages that it pins; entries that no registry has are named."""
    registry.sim.publish("left", "1.0.0")
    packages = {
        "": {},
        "node_modules/left": {"version": "1.0.0"},
        "node_modules/forked": {"version": "1.0.0", "resolved": "git+ssh://git@git.example/forked.git#abc"},
    }
    lockfile = shell.folder / "package-lock.json"
    lockfile.write_text(json.dumps({"lockfileVersion": 3, "packages": packages}), encoding="utf-8")
    document = shell.json("ingest", "--lockfile", str(lockfile), *shell.growing(registry))
    assert document["counts"]["log_records"] == 1
    assert any("node_modules/forked" in alarm for alarm in document["alarms"])


def test_ingest_of_other_bytes_is_exit_4(shell: Shell, registry: ThreadedRegistry) -> None:
    """A conflict is logged, and the evidence is named."""
    registry.sim.publish("left", "1.0.0")
    shell.invoke("ingest", "left", *shell.growing(registry))
    registry.sim.republish("left", "1.0.0", {"index.js": b"other"})
    document = shell.json("ingest", "left", *shell.growing(registry), expect=4)
    assert document["counts"]["log_conflicts"] == 1
    (evidence,) = document["evidence"]
    assert any(shell.stored(evidence).iterdir())


@pytest.mark.parametrize("arguments", [(), ("left", "--once"), ("--once", "--follow"), ("left", "--follow")])
def test_ingest_wants_names_or_the_feed(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Exit 2: either says what to log."""
    _, stderr = shell.invoke("ingest", *arguments, *shell.storage, expect=2)
    assert "give NAMES or --lockfile; or, for the feed, --once or --follow" in stderr


def test_ingest_without_a_feed_says_so(shell: Shell, registry: ThreadedRegistry) -> None:
    """Exit 2."""
    assert "no feed to follow" in shell.json("ingest", "--once", *shell.growing(registry), expect=2)["error"]["message"]
    _, stderr = shell.invoke("ingest", "--once", *shell.growing(registry), expect=2)
    assert "no feed to follow" in stderr


def test_fsck_of_a_log_that_is_whole(shell: Shell, registry: ThreadedRegistry) -> None:
    """Exit 0, and what was looked at."""
    registry.sim.publish("left", "1.0.0")
    shell.invoke("ingest", "left", *shell.growing(registry))
    document = shell.json("fsck", *shell.storage)
    assert (document["origin"], document["size"], document["packages"], document["faults"]) == (ORIGIN, 1, 1, [])
    assert "faults          none" in shell.invoke("fsck", *shell.storage)[0]


def test_fsck_names_what_was_tampered_with(shell: Shell, registry: ThreadedRegistry) -> None:
    """Exit 4: one bit of a tile."""
    registry.sim.publish("left", "1.0.0")
    shell.invoke("ingest", "left", *shell.growing(registry))
    tile = shell.stored("log/tile/0/000.p/1")
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    document = shell.json("fsck", *shell.storage, expect=4)
    assert document["fault_count"] == len(document["faults"])
    assert "log/tile/0/000.p/1" in {fault["key"] for fault in document["faults"]}
    assert "log/tile/0/000.p/1" in shell.invoke("fsck", *shell.storage, expect=4)[0]


def test_fsck_of_no_log(tmp_path: Path) -> None:
    """Exit 2, and what to do."""
    document = Shell(tmp_path).json("fsck", "--storage", f"file:{tmp_path / 'nothing'}", expect=2)
    assert "begin one first" in document["error"]["message"]
