"""The worlds in which the handbook's commands are run: a mirror, a witness and a checksum database of their own.

Each is made in the working directory, which must be empty, over fakes on loopback, and gives a `Story`.
"""

from __future__ import annotations

import contextlib
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key
from mirrorwitness.witness.lab import LabLog
from mirrorwitness.witness.records import public_key
from tests.docs.handbook import Story
from tests.fakes.registry import Signer
from tests.fakes.served_mirror import serve_mirror
from tests.fakes.serving import serve
from tests.fakes.thread import run_in_thread, serve_in_thread
from tests.unit.witness.log_server import LogServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["STORIES"]

_WITNESS: Final = make_signer_key("witness.example.org/w1", bytes([1] * 32), KeyType.COSIGNATURE)
_OTHER: Final = make_signer_key("witness.example.org/w2", bytes([4] * 32), KeyType.COSIGNATURE)


def _run(*words: str) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code in {0, 3, 4}, result.output
    return result.output


@contextmanager
def mirror() -> Iterator[Story]:
    """Make a mirror of two packages, one of them signed, that was synchronised once."""
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(serve_in_thread())
        sim = registry.sim
        signer = Signer()
        sim.keys = [signer.key()]
        sim.publish("left-pad", "1.3.0", data=b"the tarball of left-pad", signer=signer)
        sim.publish("right-pad", "1.0.1", data=b"the tarball of right-pad")
        Path(".npmrc").write_text(f"registry={registry.url}\n", encoding="utf-8")
        _run("init", "left-pad", "right-pad", "--storage", "file:mirror", "--contact", "you@example.org")
        _run("sync", "--once")
        tarball = Path("mirror/npm/left-pad/-/left-pad-1.3.0.tgz")

        def equivocate() -> None:
            sim.publish("left-pad", "1.3.0", data=b"other bytes, published again")

        def forgive() -> None:
            sim.publish("left-pad", "1.3.0", data=b"the tarball of left-pad", signer=signer)

        def rot() -> None:
            tarball.chmod(0o644)
            tarball.write_bytes(b"what a failing disk gives")

        def hold() -> None:
            sim.replace_by_holder("left-pad")

        def deny() -> None:
            with Path("mirrorwitness.toml").open("a", encoding="utf-8") as file:
                file.write('\n[[deny]]\nname = "left-pad"\nreason = "case 4711"\n')

        def publish() -> None:
            sim.publish("right-pad", "1.0.2", data=b"a newer tarball")

        urls: dict[str, str] = {}

        def other() -> str:
            if "other" not in urls:
                shutil.copytree("mirror", "other")
                urls["other"] = stack.enter_context(serve_mirror("other"))
            return urls["other"]

        yield Story(
            events={
                "equivocate": equivocate,
                "forgive": forgive,
                "rot": rot,
                "hold": hold,
                "deny": deny,
                "publish": publish,
            },
            shown={
                "https://registry.example": registry.url,
                "https://npm.example.org": lambda: urls.setdefault("ours", stack.enter_context(serve_mirror("mirror"))),
                "https://mirror.example.net": other,
            },
        )


@contextmanager
def witness() -> Iterator[Story]:
    """Make a witness that cosigned one log up to 1,000 entries, and knows a second key."""
    log = LabLog("log.example.org/2026", [make_signer_key("log.example.org/2026", bytes([3] * 32))])
    write_key(Path("w1.key"), format_signer_key(_WITNESS))
    server = LogServer(log, 1000)
    with run_in_thread(serve(server)):
        options = ("--storage", "file:state", "--key", "w1.key", "--log", server.flag)
        _run("witness", "poll", "--once", *options)
        published = Path("state", public_key(log.origin))
        Path("newest.txt").write_bytes(published.read_bytes())
        Path("checkpoint.txt").write_bytes(published.read_bytes())
        Path("policy.txt").write_text(
            f"log {log.keys[0].verifier}\nwitness w1 {_WITNESS.verifier}\nquorum w1\n", encoding="utf-8"
        )
        shutil.copytree("state", "copy")

        def grow() -> None:
            server.grow(1500)

        def fork() -> None:
            server.grow(1500, log.fork(9))
            _run("witness", "poll", "--once", *options)
            (kept,) = Path("state/evidence/witness").rglob("*.json")
            shutil.copy(kept, "fork.json")

        def restore() -> None:
            server.grow(1500)
            _run("witness", "poll", "--once", *options)
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
def sumdb() -> Iterator[Story]:
    """Make a checksum database with two records that asks one witness, and a policy that wants two."""
    write_key(Path("w1.key"), format_signer_key(_WITNESS))
    with serve_in_thread() as registry:
        registry.sim.publish("left-pad", "1.3.0", data=b"the tarball of left-pad")
        printed = _run("sumdb", "init", "--storage", "file:sumdb", "--name", "sum.example.org", "--out", "sumdb.key")
        vkey = next(word for word in printed.split() if word.startswith("sum.example.org+"))
        filled = ("--storage", "file:sumdb", "--key", "sumdb.key", "--registry", registry.url)
        _run("sumdb", "ingest", "left-pad", *filled)
        Path("policy.txt").write_text(
            f"log {vkey}\nwitness w1 {_WITNESS.verifier}\nwitness w2 {_OTHER.verifier}\ngroup both all w1 w2\n"
            "quorum both\n",
            encoding="utf-8",
        )
        Path("witnesses.policy").write_bytes(Path("policy.txt").read_bytes())
        shutil.copytree("sumdb", "copy")

        def damage() -> None:
            tile = Path("sumdb/log/tile/0/000.p/1")
            tile.chmod(0o644)
            tile.write_bytes(bytes(32))

        yield Story(
            events={"damage": damage},
            shown={"https://registry.example": registry.url, "--registry URL": f"--registry {registry.url}", "VKEY": vkey},
        )


@contextmanager
def nothing() -> Iterator[Story]:
    """Make an empty world."""
    yield Story()


STORIES: Final[dict[str, Callable[[], AbstractContextManager[Story]]]] = {
    "mirror": mirror,
    "witness": witness,
    "sumdb": sumdb,
    "nothing": nothing,
}
