"""The commands of a witness as its operator runs them: flags, output, exit codes, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import KeyType, parse_signer_key, parse_verifier_key
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.records import IDENTITY_KEY, public_key, record_key
from tests.unit.cli.witness_shell import VKEY, Shell, cosigned
from tests.unit.witness.world import LOG, OURS, OURS_PQ, START, cosign, forge, read_cosignatures

if TYPE_CHECKING:
    from collections.abc import Iterator

FORK = LOG.fork(6)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@contextmanager
def serving(shell: Shell, *more: str, kill: bool = False) -> Iterator[str]:
    """Run ``witness serve`` as a process; gives its address. It ends with exit code 0, unless it is killed."""
    command = [sys.executable, "-m", "mirrorwitness", "witness", "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *shell.options, *more],
        stdout=subprocess.PIPE,
        text=True,
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        code = process.wait(timeout=20)
        rest = process.stdout.read()
        process.stdout.close()
    assert (code, rest) == (-signal.SIGKILL if kill else 0, "")


def post(base: str, body: bytes) -> tuple[int, str, bytes]:
    """Post a request; return status, content type and body."""
    request = urllib.request.Request(f"{base}/add-checkpoint", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read()


@pytest.mark.parametrize(
    ("algorithm", "kind"), [((), KeyType.COSIGNATURE), (("--algorithm", "ml-dsa-44"), KeyType.ML_DSA_44)]
)
def test_keygen_makes_a_key_that_only_its_owner_can_read(
    shell: Shell, algorithm: tuple[str, ...], kind: KeyType
) -> None:
    """0600 whatever the umask; the public half on standard output, one line."""
    path = shell.folder / "w1.key"
    before = os.umask(0)
    try:
        printed = shell.run("keygen", "--name", "witness.example/w1", *algorithm, "--out", str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    verifier = parse_verifier_key(printed.removesuffix("\n"), *COSIGNER_KEYS)
    key = parse_signer_key(path.read_text(encoding="utf-8").removesuffix("\n"), *COSIGNER_KEYS)
    assert (verifier.name, verifier.kind, key.verifier) == ("witness.example/w1", kind, verifier)
    assert key.seed.hex() not in printed
    again = shell.run("keygen", "--name", "witness.example/w1", "--out", str(shell.folder / "w2.key"))
    assert again != printed


def test_keygen_never_replaces_a_key(shell: Shell) -> None:
    """Exit 2, and the file is as it was; the same for a folder that is not there, and for a name that is none."""
    path = shell.write("w1.key", "mine")
    said = shell.refuse("keygen", "--name", "w", "--out", path, expect=2)
    assert f"{path} exists already: a key is never replaced" in said
    assert Path(path).read_bytes() == b"mine"
    said = shell.refuse("keygen", "--name", "w", "--out", str(shell.folder / "no/w1.key"), expect=2)
    assert "cannot be written" in said
    said = shell.refuse("keygen", "--name", "a name", "--out", str(shell.folder / "w2.key"), expect=2)
    assert "key name 'a name'" in said
    assert not (shell.folder / "w2.key").exists()


def test_a_key_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a key is none: the disk was full."""

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device"):
        write_key(tmp_path / "w1.key", "secret")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_p7_serve_is_killed_and_goes_on(shell: Shell) -> None:
    """The listening line, a cosignature, kill -9; after it the witness knows its size and refuses the fork."""
    with serving(shell, kill=True) as base:
        status, kind, body = post(base, LOG.request(0, 10))
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        assert read_cosignatures(body, LOG.tree(10).text, OURS)
    with serving(shell) as base:
        assert post(base, LOG.request(0, 20)) == (409, "text/x.tlog.size", b"10\n")
        assert post(base, FORK.request(10, 20))[0] == 422
        assert post(base, format_add_checkpoint(10, (), FORK.note(10)))[0] == 422
        status, _, body = post(base, LOG.request(10, 20))
        assert status == 200
        with urllib.request.urlopen(f"{base}/{origin_hash(LOG.origin)}/checkpoint", timeout=10) as answer:
            assert answer.read() == LOG.note(20) + body
    (kept,) = shell.stored("evidence/witness").rglob("*.json")
    document = shell.json("evidence", str(kept), expect=4)
    assert [tree["size"] for tree in document["trees"]] == [10, 10]


@pytest.mark.slow
def test_serve_with_all_of_its_options(shell: Shell) -> None:
    """Two keys, an anchor, a list that contradicts a flag, no extension lines, a rate."""
    listed = shell.write("logs.txt", f"logs/v0\nvkey {VKEY}\n")
    more = ("--anchor", f"file:{shell.folder / 'anchor'}", "--log-list", listed, "--key", shell.key(OURS_PQ))
    with serving(shell, *more, "--refuse-extensions", "--sign-subtree", "--rate", "0.001") as base:
        assert post(base, LOG.request(0, 10, "an extension"))[0] == 400
        status, _, body = post(base, LOG.request(0, 10))
        assert status == 200
        assert len(read_cosignatures(body, LOG.tree(10).text, OURS, OURS_PQ)) == 2
        statuses = [post(base, LOG.request(10, 10))[0] for _ in range(9)]
        assert statuses == [200] * 8 + [429]
    assert (shell.folder / "anchor" / public_key(LOG.origin)).read_bytes() == shell.stored(
        public_key(LOG.origin)
    ).read_bytes()


def test_serve_refuses_what_is_wrong(shell: Shell) -> None:
    """Exit 2 with the thing in the message."""
    for arguments, said in [
        (("--listen", "nonsense", *shell.options), "--listen 'nonsense'"),
        (("--storage", f"file:{shell.folder / 'state'}", "--log", VKEY), "no key: give --key FILE"),
        ((*shell.options, "--log", "nonsense"), "verifier key 'nonsense'"),
        ((*shell.options, "--log-list", str(shell.folder / "absent.txt")), "absent.txt"),
        ((*shell.options, "--sign-subtree"), "--sign-subtree needs a key of ML-DSA-44"),
        ((*shell.options, "--log", str(OURS.verifier)), "verifier key"),
    ]:
        assert said in shell.refuse("serve", *arguments, expect=2)


def _lose_state(shell: Shell) -> None:
    """Cosign a checkpoint, and lose the record of it."""
    assert shell.run("adopt", *shell.options, "--checkpoint", shell.write("first.txt", cosigned())) == (
        f"goes on from {LOG.tree(10)}\n"
    )
    shell.stored(record_key(LOG.origin)).unlink()


@pytest.mark.slow
def test_serve_refuses_lost_state_and_adopt_is_the_way_out(shell: Shell) -> None:
    """Exit 4 and the ways out; after `adopt` the state is there again, and with an older checkpoint it is exit 4."""
    _lose_state(shell)
    said = shell.refuse("serve", "--listen", "127.0.0.1:0", *shell.options, expect=4)
    assert "no state: nothing is signed" in said
    assert "`mirrorwitness witness adopt`" in said
    older = shell.write("older.txt", cosigned(9))
    document = shell.json("adopt", *shell.options, "--checkpoint", older, expect=4)
    assert document["error"]["kind"] == "RolledBackError"
    newest = shell.write("newest.txt", cosigned())
    document = shell.json("adopt", *shell.options, "--checkpoint", newest)
    assert (document["origin"], document["size"]) == (LOG.origin, 10)
    assert json.loads(shell.stored(record_key(LOG.origin)).read_bytes())["size"] == 10
    assert json.loads(shell.stored(IDENTITY_KEY).read_bytes())["keys"] == [str(OURS.verifier)]


def test_adopt_refuses_what_is_no_evidence(shell: Shell) -> None:
    """Exit 4 without our line; exit 2 for a file that is none, or not there, and for a log that was not given."""
    for body, code, kind in [
        (LOG.note(10), 4, "SignatureError"),
        (LOG.note(10, more=[forge(cosign(OURS, LOG.tree(10).text, START))]), 4, "SignatureError"),
        (b"nonsense", 2, "ConfigurationError"),
    ]:
        path = shell.write("checkpoint.txt", body)
        document = shell.json("adopt", *shell.options, "--checkpoint", path, expect=code)
        assert document["error"]["kind"] == kind
    absent = str(shell.folder / "absent.txt")
    assert "absent.txt" in shell.refuse("adopt", *shell.options, "--checkpoint", absent, expect=2)
    good = shell.write("checkpoint.txt", cosigned())
    assert "not among those given" in shell.refuse("adopt", *shell.options[:4], "--checkpoint", good, expect=2)


def test_retire_ends_a_key(shell: Shell) -> None:
    """It is printed, the same when it is said again, and `serve` and `adopt` refuse the key with exit 2."""
    shell.run("adopt", *shell.options, "--checkpoint", shell.write("checkpoint.txt", cosigned()))
    assert shell.run("retire", *shell.options) == f"retired {OURS.verifier}\n"
    assert shell.json("retire", *shell.options)["retired"] == [str(OURS.verifier)]
    assert "was retired" in shell.refuse("serve", "--listen", "127.0.0.1:0", *shell.options, expect=2)
    path = shell.write("newest.txt", cosigned(20))
    assert "was retired" in shell.refuse("adopt", *shell.options, "--checkpoint", path, expect=2)
