"""Our checksum database and software that is not ours: a witness that it asks, and Go's code that reads its tiles.

Tiles, proofs and lines are checked by golang.org/x/mod and Go's standard library alone (``scripts/real/go``).
"""

from __future__ import annotations

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.fakes.registry import Signer
from tests.fakes.thread import serve_in_thread
from tests.real.clients import mirrorwitness
from tests.real.witness_peers import (
    GO_PROGRAM,
    ask_peer,
    make_directory,
    needs,
    run_tool,
    start_litewitness,
    start_ours,
    start_sumdb,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry
    from tests.real.witness_peers import Witness

ORIGIN = "sum.example.org/real"
AGENT = ("ssh-agent", "ssh-add", "ssh-keygen")
PACKAGES = ("left", "right", "@scope/middle")
VERSIONS = 100


@dataclass(frozen=True)
class Database:
    """A log that is begun, and a registry to fill it from."""

    directory: Path
    vkeys: tuple[str, str]
    registry: ThreadedRegistry

    @property
    def options(self) -> list[str]:
        """Where it is, and what fills it."""
        storage = f"file:{self.directory / 'sumdb'}"
        return ["--storage", storage, "--key", str(self.directory / "key"), "--registry", self.registry.url]

    def judge(self, url: str, *witnesses: Witness, records: int = 50) -> str:
        """Let Go check the log: signed by both of its keys and by all witnesses, records and earlier trees proven."""
        cosigners = [self.vkeys[1], *(vkey for witness in witnesses for vkey in witness.vkeys)]
        flags = [word for vkey in cosigners for word in ("-cosigner", vkey)]
        return ask_peer([*_reading(url, self.vkeys[0], flags), "-records", str(records)])


@contextmanager
def begun() -> Iterator[Database]:
    """Begin a log, as its operator does."""
    with make_directory() as directory, serve_in_thread() as registry:
        signer = Signer()
        for name in PACKAGES:
            for number in range(VERSIONS):
                registry.sim.publish(name, f"1.{number}.0", signer=signer)
        storage = f"file:{directory / 'sumdb'}"
        made = mirrorwitness("sumdb", "init", "--storage", storage, "--name", ORIGIN, "--out", str(directory / "key"))
        assert made.code == 0
        first, second = made.output.split()
        yield Database(directory, (first, second), registry)


def asked(*witnesses: Witness) -> list[str]:
    """Return the flags that name witnesses; all of them have to have cosigned."""
    return [word for each in witnesses for vkey in each.vkeys for word in ("--witness", f"{vkey}={each.url}")]


@pytest.mark.timeout(300)
@needs("debian", *AGENT)
@needs("go")
def test_litewitness_and_our_witness_cosign_our_log_and_go_verifies_it() -> None:
    """Both of two, all three keys; Go proves records and earlier trees from our tiles, over HTTP, as the log grows."""
    with begun() as database, start_litewitness(database.vkeys[:1]) as lite, start_ours(database.vkeys) as ours:
        options = [*database.options, *asked(lite, ours)]
        assert mirrorwitness("sumdb", "ingest", *PACKAGES[:2], *options).code == 0
        with start_sumdb(database.directory, options) as url:
            assert database.judge(url, lite, ours) == "size 200: 50 records and 50 earlier trees proven\n"
            paths = [f"{url}/lookup/{PACKAGES[2]}@1.{number}.0" for number in range(60)]
            with ThreadPoolExecutor(8) as pool:
                proofs = list(pool.map(fetch, paths))
            assert all(proof.startswith("c2sp.org/tlog-proof@v1\n") for proof in proofs)
            assert (
                database.judge(url, lite, ours, records=260) == "size 260: 260 records and 260 earlier trees proven\n"
            )
        storage = database.options[:2]
        assert mirrorwitness("sumdb", "fsck", *storage).code == 0


@pytest.mark.timeout(300)
@needs("debian", *AGENT)
@needs("go")
def test_without_litewitness_nothing_new_is_published() -> None:
    """The quorum is both: the older checkpoint stays, a look-up of what is new is told to come back."""
    with begun() as database, start_ours(database.vkeys) as ours:
        with start_litewitness(database.vkeys[:1]) as lite:
            options = [*database.options, *asked(lite, ours)]
            assert mirrorwitness("sumdb", "ingest", PACKAGES[0], *options).code == 0
        with start_sumdb(database.directory, options) as url:
            before = fetch(f"{url}/checkpoint")
            with pytest.raises(urllib.error.HTTPError) as caught:
                fetch(f"{url}/lookup/{PACKAGES[1]}@1.0.0")
            with caught.value as answer:
                assert (answer.code, answer.headers["Retry-After"]) == (503, "5")
            assert fetch(f"{url}/checkpoint") == before
            assert fetch(f"{url}/lookup/{PACKAGES[0]}@1.0.0").startswith("c2sp.org/tlog-proof@v1\n")


@needs("go")
def test_go_refuses_a_tile_of_ours_with_one_changed_bit() -> None:
    """Which shows that it looks: the same log, one bit of a tile flipped."""
    with begun() as database, start_ours(database.vkeys) as ours:
        options = [*database.options, *asked(ours)]
        assert mirrorwitness("sumdb", "ingest", PACKAGES[0], *options).code == 0
        tile = database.directory / "sumdb" / "log" / "tile" / "0" / "000.p" / "100"
        body = tile.read_bytes()
        tile.write_bytes(body[:40] + bytes([body[40] ^ 1]) + body[41:])
        with start_sumdb(database.directory, [*database.options[:2], "--read-only"]) as url:
            cosigners = [word for vkey in (database.vkeys[1], *ours.vkeys) for word in ("-cosigner", vkey)]
            assert run_tool(_reading(url, database.vkeys[0], cosigners)).code == 1


def _reading(url: str, vkey: str, cosigners: Sequence[str]) -> list[str]:
    return [str(GO_PROGRAM), "readlog", "-url", url, "-log", vkey, *cosigners]


def fetch(url: str) -> str:
    """Return the body of an answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
        return text
