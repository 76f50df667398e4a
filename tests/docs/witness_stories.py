"""The worlds of a witness, in which the handbook's commands are run (`tests.docs.stories`)."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key, parse_signer_key
from mirrorwitness.witness.conformance import lab_vkeys
from mirrorwitness.witness.lab import LabLog
from mirrorwitness.witness.records import public_key
from tests.docs.handbook import Story
from tests.fakes.serving import serve
from tests.fakes.thread import run_in_thread
from tests.unit.witness.log_server import LogServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ORIGIN", "OTHER", "WITNESS", "beginner", "make_log", "run", "vkey_of", "witness"]

ORIGIN: Final = "log.example.org/2026"
WITNESS: Final = make_signer_key("witness.example.org/w1", bytes([1] * 32), KeyType.COSIGNATURE)
OTHER: Final = make_signer_key("witness.example.org/w2", bytes([4] * 32), KeyType.COSIGNATURE)


def make_log() -> LabLog:
    """Return the log of all pages."""
    return LabLog(ORIGIN, [make_signer_key(ORIGIN, bytes([3] * 32))])


def run(*words: str) -> str:
    """Run a command that a page does not show; return what it prints."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code in {0, 3, 4}, (result.output, result.exception)
    return result.output


def vkey_of(path: str) -> str:
    """Return the public half of the first key in a file."""
    return str(parse_signer_key(Path(path).read_text(encoding="utf-8").splitlines()[0], *KeyType).verifier)


@contextmanager
def witness() -> Iterator[Story]:
    """Make a witness that cosigned one log up to 1,000 entries, and knows a second key."""
    log = make_log()
    write_key(Path("w1.key"), format_signer_key(WITNESS))
    server = LogServer(log, 1000)
    with run_in_thread(serve(server)):
        options = ("--storage", "file:state", "--key", "w1.key", "--log", server.flag)
        run("witness", "poll", "--once", *options)
        published = Path("state", public_key(log.origin))
        Path("newest.txt").write_bytes(published.read_bytes())
        Path("checkpoint.txt").write_bytes(published.read_bytes())
        Path("policy.txt").write_text(
            f"log {log.keys[0].verifier}\nwitness w1 {WITNESS.verifier}\nquorum w1\n", encoding="utf-8"
        )
        shutil.copytree("state", "copy")

        def grow() -> None:
            server.grow(1500)

        def fork() -> None:
            server.grow(1500, log.fork(9))
            run("witness", "poll", "--once", *options)
            (kept,) = Path("state/evidence/witness").rglob("*.json")
            shutil.copy(kept, "fork.json")

        def restore() -> None:
            server.grow(1500)
            run("witness", "poll", "--once", *options)
            Path("newest.txt").write_bytes(published.read_bytes())
            shutil.rmtree("state/state")
            shutil.copytree("copy/state", "state/state")

        def forget() -> None:
            shutil.rmtree("state/state")

        yield Story(
            events={"grow": grow, "fork": fork, "restore": restore, "forget": forget},
            shown={
                "VKEY=https://log.example.org/2026": server.flag,
                "VKEY=URL": server.flag,
                "VKEY": str(log.keys[0].verifier),
                "ADDRESS": "you@example.org",
            },
        )


@contextmanager
def beginner() -> Iterator[Story]:
    """Make a log with 1,000 entries and nothing else: the witness is begun by the page."""
    log = make_log()
    server = LogServer(log, 1000)
    seed = "02" * 32
    suite = lab_vkeys(bytes.fromhex(seed))
    with run_in_thread(serve(server)):
        options = ("--storage", "file:state", "--key", "w1.key", "--log", server.flag)

        def grow() -> None:
            server.grow(1500)

        def cosigned() -> None:
            for name in ("newest.txt", "checkpoint.txt"):
                Path(name).write_bytes(Path("state", public_key(log.origin)).read_bytes())
            witness_key = run("witness", "inspect", "newest.txt")
            assert "witness.example.org/w1" in witness_key

        def prove() -> None:
            vkey = vkey_of("w1.key")
            text = f"log {log.keys[0].verifier}\nwitness w1 {vkey}\nquorum w1\n"
            Path("policy.txt").write_text(text, encoding="utf-8")
            Path("entry.bin").write_bytes(log.entry(999))
            server.bodies[server.head_path] = Path("checkpoint.txt").read_bytes()

        def fork() -> None:
            # The page has just retired its witness: another one sees the fork.
            write_key(Path("other.key"), format_signer_key(OTHER))
            other = ("--storage", "file:forked", "--key", "other.key", "--log", server.flag)
            run("witness", "poll", "--once", *other)
            server.grow(1500, log.fork(9))
            run("witness", "poll", "--once", *other)
            (kept,) = Path("forked/evidence/witness").rglob("*.json")
            shutil.copy(kept, "fork.json")
            server.grow(1000, log)

        def poll() -> None:
            run("witness", "poll", "--once", *options)

        def enable() -> None:
            run("witness", "logs", "--storage", "file:state", "--enable", log.origin)

        def second() -> None:
            for name, kind in (("w2.key", "ed25519"), ("pq.key", "ml-dsa-44")):
                run("witness", "keygen", "--name", f"trial.example.org/{name[:2]}", "--algorithm", kind, "--out", name)

        yield Story(
            events={
                "grow": grow,
                "cosigned": cosigned,
                "prove": prove,
                "fork": fork,
                "poll": poll,
                "enable": enable,
                "second": second,
            },
            shown={
                "VKEY=https://log.example.org/2026": server.flag,
                "VKEY=URL": server.flag,
                "VKEY": str(log.keys[0].verifier),
                "--log VKEY1 --log VKEY2": " ".join(f"--log {vkey}" for vkey in suite),
                "W2_VKEY": lambda: vkey_of("w2.key"),
                "PQ_VKEY": lambda: vkey_of("pq.key"),
                "$SEED": seed,
                "file:state --key w1.pem": "file:other --key w1.pem",
                "ADDRESS": "you@example.org",
            },
            elsewhere={"awskms:": "tests/unit/run/test_kms.py", "--print-logs": "the seed is a reader's own"},
        )
