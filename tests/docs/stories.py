"""The worlds in which the handbook's commands are run: a mirror, a witness and a checksum database of their own.

Each is made in the working directory, which must be empty, over fakes on loopback, and gives a `Story`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.logmirror.paths import checkpoint_key
from mirrorwitness.tlog.keys import format_signer_key
from tests.docs.handbook import Story
from tests.docs.logmirror_examples import fill_mirror
from tests.docs.witness_stories import OTHER, WITNESS, beginner, make_log, run, vkey_of, witness
from tests.fakes.feed_process import Workplace, run_feed
from tests.fakes.registry import Signer
from tests.fakes.served_mirror import serve_mirror
from tests.fakes.serving import serve
from tests.fakes.sumdb import POLICY, FakeSumdb, filler, integrity_of, make_record
from tests.fakes.thread import run_in_thread, serve_in_thread
from tests.unit.logmirror.sources import LabServer, LabSource
from tests.unit.logmirror.tarballs import SUM_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["STORIES"]


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
        run("init", "left-pad", "right-pad", "--storage", "file:mirror", "--contact", "you@example.org")
        run("sync", "--once")
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
def sumdb() -> Iterator[Story]:
    """Make a checksum database with two records that asks one witness, and a policy that wants two."""
    write_key(Path("w1.key"), format_signer_key(WITNESS))
    with serve_in_thread() as registry:
        registry.sim.publish("left-pad", "1.3.0", data=b"the tarball of left-pad")
        printed = run("sumdb", "init", "--storage", "file:sumdb", "--name", "sum.example.org", "--out", "sumdb.key")
        vkey = next(word for word in printed.split() if word.startswith("sum.example.org+"))
        filled = ("--storage", "file:sumdb", "--key", "sumdb.key", "--registry", registry.url)
        run("sumdb", "ingest", "left-pad", *filled)
        Path("policy.txt").write_text(
            f"log {vkey}\nwitness w1 {WITNESS.verifier}\nwitness w2 {OTHER.verifier}\ngroup both all w1 w2\n"
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
            shown={
                "https://registry.example": registry.url,
                "--registry URL": f"--registry {registry.url}",
                "VKEY": vkey,
            },
        )


@contextmanager
def copier() -> Iterator[Story]:
    """Make a log of 1,000 entries, and an npm mirror with its checksum database in one storage."""
    log = make_log()
    source = LabSource(log, 1000)
    trio.run(fill_mirror, "file:mirror", "1.3.0", "1.3.1")
    with run_in_thread(serve(LabServer(source))) as url:

        def grow() -> None:
            source.size = 1500

        def newest() -> None:
            Path("newest.txt").write_bytes(Path("copies", checkpoint_key(log.origin)).read_bytes())

        yield Story(
            events={"grow": grow, "newest": newest},
            shown={
                "VKEY=https://log.example.org/2026": f"{log.keys[0].verifier}={url}",
                "VKEY=https://sum.example.org": str(SUM_KEY.verifier),
                "VKEY": str(log.keys[0].verifier),
                "https://mirror.example.org": "http://127.0.0.1:7381",
                "--mirror-key MIRROR": lambda: f"--mirror-key {vkey_of('m1.key')}",
            },
        )


def _write_lockfile(entry: dict[str, str]) -> None:
    lock = {"lockfileVersion": 3, "packages": {"": {"name": "app"}, "node_modules/left-pad": entry}}
    Path("package-lock.json").write_text(json.dumps(lock, indent=2), encoding="utf-8")


@contextmanager
def checker() -> Iterator[Story]:
    """Make a project whose lockfile pins what a checksum database has, with two witnesses."""
    data = b"the tarball of left-pad"
    log = FakeSumdb([*filler(5), make_record("left-pad", "1.3.0", data=data)])
    entry = {"version": "1.3.0", "integrity": integrity_of(data)}
    _write_lockfile(entry)
    Path("witnesses.policy").write_bytes(POLICY)
    with run_in_thread(serve(log)):
        vkey = log.flag.partition("=http")[0]
        yield Story(
            shown={"VKEY=https://sumdb.example.org": log.flag, "VKEY": vkey},
            elsewhere={"left-pad-1.3.0.tgz": "tests/unit/cli/test_check.py checks tarballs"},
        )


@contextmanager
def logger() -> Iterator[Story]:
    """Make a registry, a lockfile, and witnesses that neither answer nor are needed: the log is begun by the page."""
    data = b"the tarball of left-pad"
    _write_lockfile({"version": "1.3.0", "integrity": integrity_of(data)})
    Path("witnesses.policy").write_text(f"witness w1 {WITNESS.verifier}\nquorum none\n", encoding="utf-8")
    with serve_in_thread() as registry:
        registry.sim.publish("left-pad", "1.3.0", data=data)
        yield Story(
            shown={
                "VKEY=https://sum.example.org": lambda: f"{vkey_of('sumdb.key')}=http://127.0.0.1:7390",
                "--witness VKEY=URL": f"--witness {WITNESS.verifier}=http://127.0.0.1:1",
                "--registry URL": f"--registry {registry.url}",
                "VKEY=https://w1.example.org": f"{WITNESS.verifier}=http://127.0.0.1:1",
                "VKEY=https://w2.example.org": f"{OTHER.verifier}=http://127.0.0.1:2",
                "s3://sumdb": "file:sumdb",
            },
            elsewhere={"sumdb monitor": "tests/unit/cli/test_sumdb_monitor.py"},
        )


@contextmanager
def project() -> Iterator[Story]:
    """Make a project with one dependency; its pages show numbers of a project with more."""
    data = b"the tarball of left-pad"
    with serve_in_thread() as registry:
        registry.sim.publish("left-pad", "1.3.0", data=data)
        resolved = f"{registry.url}/left-pad/-/left-pad-1.3.0.tgz"
        entry = {"version": "1.3.0", "resolved": resolved, "integrity": integrity_of(data)}
        _write_lockfile(entry)
        Path(".npmrc").write_text(f"registry={registry.url}\n", encoding="utf-8")
        sizes = {"44 tarballs, 5.0 MB": "1 tarballs, 23 B", "44 versions, 5.0 MB": "1 versions, 23 B"}
        more = {"from npm config get registry": "from ….npmrc", "43 updated": "1 updated", "44 unsigned": "1 unsigned"}
        yield Story(shown={**sizes, **more})


@contextmanager
def follower() -> Iterator[Story]:
    """Make a mirror that follows a feed."""
    with run_feed("--demo", "6") as feed:
        Workplace(Path()).configure(registry=feed.registry, feed=feed.feed)
        yield Story()


@contextmanager
def withdrawn() -> Iterator[Story]:
    """Make a mirror from which upstream took a package away, and a source that was dropped."""
    with serve_in_thread() as registry:
        registry.sim.publish("left-pad", "1.1.0", data=b"the tarball of left-pad")
        Path(".npmrc").write_text(f"registry={registry.url}\n", encoding="utf-8")
        run("init", "left-pad", "--storage", "file:mirror", "--contact", "you@example.org")
        run("sync", "--once")
        registry.sim.replace_by_holder("left-pad")
        run("sync", "--once")
        yield Story(
            shown={"file:/srv/mirror": "file:static", "http://127.0.0.1:8080": "http://127.0.0.1:8080"},
            elsewhere={
                "s3://": "tests/real/test_store_check.py",
                "release https://": "tests/unit/mirror/test_sources.py drops one",
                "--at 41000000": "tests/real/test_views.py",
            },
        )


@contextmanager
def nothing() -> Iterator[Story]:
    """Make an empty world."""
    yield Story()


STORIES: Final[dict[str, Callable[[], AbstractContextManager[Story]]]] = {
    "mirror": mirror,
    "witness": witness,
    "sumdb": sumdb,
    "beginner": beginner,
    "copier": copier,
    "checker": checker,
    "logger": logger,
    "project": project,
    "follower": follower,
    "withdrawn": withdrawn,
    "nothing": nothing,
}
