"""Reading logs over HTTP on loopback: what is asked for, and what goes wrong on the way."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    SignatureError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, Patience, SickAnswerError, open_fetcher
from mirrorwitness.sumdb.logclient import TILES_AT_ONCE, LogClient, dialect_of
from mirrorwitness.sumdb.served import Traffic
from mirrorwitness.tlog.checkpoint import GO_ORIGIN
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, Tile, all_tiles
from mirrorwitness.witness.logs import WitnessedLog
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.unit.tlog import signing
from tests.unit.witness.log_server import LogServer, make_lab

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

QUICK = Backoff(attempts=2, base=0.001, cap=0.001)
LAB = make_lab()
BOTH = pytest.mark.parametrize("dialect", list(Dialect))


@asynccontextmanager
async def reading(
    server: LogServer, dialect: Dialect = Dialect.TILES, gate: HostGate | None = None
) -> AsyncGenerator[LogClient, None]:
    patience = Patience(connect=5, head=0.3, grace=0.3)
    async with serve(server), open_fetcher(FetchOptions(patience=patience)) as fetcher:
        yield LogClient(
            log=server.log,
            url=f"{server.base}/",
            dialect=dialect,
            fetcher=fetcher,
            gate=gate or HostGate(),
            tries=QUICK,
        )


async def read(server: LogServer, *tiles: Tile) -> dict[Tile, bytes]:
    async with reading(server) as client:
        return await client.read_tiles(tiles)


async def fails_to_read(server: LogServer, *tiles: Tile) -> UpstreamError:
    async with reading(server) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.read_tiles(tiles)
    return caught.value


@BOTH
async def test_head_and_tiles_in_both_dialects(dialect: Dialect) -> None:
    """What is read is what the log has, and nothing else is asked for."""
    server = LogServer(LAB, 3000, dialect=dialect)
    tiles = [Tile(0, 11, 184), Tile(0, 7, 256), Tile(1, 0, 11)]
    async with reading(server, dialect) as client:
        head = await client.open_head()
        found = await client.read_tiles(tiles)
        assert "LogClient" in repr(client)
    assert (head.checkpoint.size, head.checkpoint.root) == (3000, LAB.root(3000))
    assert found == {tile: server.tile(tile) for tile in tiles}
    root = "/tile/8" if dialect is Dialect.SUMDB else "/tile"
    paths = {f"{root}/0/011.p/184", f"{root}/0/007", f"{root}/1/000.p/11"}
    assert server.asked[0] == ("/latest" if dialect is Dialect.SUMDB else "/checkpoint")
    assert sorted(server.asked[1:]) == sorted(paths)


def test_gos_own_log_always_speaks_its_own_dialect() -> None:
    """Whatever the operator says of the others."""
    go = WitnessedLog(GO_ORIGIN, (signing.LOG.verifier,))
    other = WitnessedLog("log.example/a", (signing.LOG.verifier,))
    assert [dialect_of(go.origin, dialect) for dialect in Dialect] == [Dialect.SUMDB, Dialect.SUMDB]
    assert [dialect_of(other.origin, dialect) for dialect in Dialect] == list(Dialect)


@pytest.mark.parametrize(
    "url", ["ftp://log.example", "https://user@log.example", "https://log.example/a?b", "http://log.example/#a", "x"]
)
async def test_a_url_to_which_no_path_can_be_added_is_refused(url: str) -> None:
    """The message names the log."""
    async with open_fetcher() as fetcher:
        gate, log = HostGate(), WitnessedLog("log.example/a", (signing.LOG.verifier,))
        with pytest.raises(ConfigurationError, match=r"log 'log\.example/a'"):
            LogClient(log=log, url=url, dialect=Dialect.TILES, fetcher=fetcher, gate=gate)


async def test_many_tiles_are_read_eight_at_a_time() -> None:
    """A log is never asked for more at once."""
    server, gate = LogServer(LAB, 5000), HostGate()
    server.latency = 0.01
    under_way: list[int] = []
    server.on_ask = lambda _path: under_way.extend(host.in_flight for host in gate.statistics().values())
    tiles = list(all_tiles(0, 5000))
    async with reading(server, gate=gate) as client:
        assert (await client.read_tiles(tiles)).keys() == set(tiles)
    assert max(under_way) == TILES_AT_ONCE == 8


async def test_a_partial_tile_that_is_gone_is_replaced_by_the_full_one() -> None:
    """What the log grew beyond our head is in it; who cuts it is not this client."""
    server = LogServer(LAB, 300)
    server.grow(600)
    server.gone.add("/tile/0/001.p/44")
    assert await read(server, Tile(0, 1, 44)) == {Tile(0, 1, 256): server.tile(Tile(0, 1, 256))}
    assert server.asked == ["/tile/0/001.p/44", "/tile/0/001"]


async def test_a_bucket_that_says_403_for_what_is_not_there() -> None:
    """One that must not be listed: the full tile is taken then, too."""
    server = LogServer(LAB, 300)
    server.grow(600)
    server.fail("/tile/0/001.p/44", Fault.status(403))
    assert list(await read(server, Tile(0, 1, 44))) == [Tile(0, 1, 256)]


async def test_a_tile_that_is_in_neither_form_there() -> None:
    """The message names both places."""
    server = LogServer(LAB, 300)
    server.gone.add("/tile/0/001.p/44")
    error = await fails_to_read(server, Tile(0, 1, 44))
    assert isinstance(error, UpstreamNotFoundError)
    assert "/tile/0/001.p/44: status 404, and in its place" in str(error)
    assert str(error).endswith("/tile/0/001: status 404")


async def test_a_full_tile_that_is_gone_ends_the_reading() -> None:
    """A pruned log: nothing is asked for in its place, and nothing more after it."""
    server = LogServer(LAB, 300)
    server.gone.add("/tile/0/000")
    assert isinstance(await fails_to_read(server, Tile(0, 0, 256)), UpstreamNotFoundError)
    assert server.asked == ["/tile/0/000"]


async def test_a_refusal_other_than_403_is_no_missing_tile() -> None:
    """401: the full tile would be refused too."""
    server = LogServer(LAB, 300)
    server.fail("/tile/0/001.p/44", Fault.status(401))
    assert isinstance(await fails_to_read(server, Tile(0, 1, 44)), UpstreamRefusedError)
    assert server.asked == ["/tile/0/001.p/44"]


@pytest.mark.parametrize(("size", "found"), [(31, "31 bytes, expected 64"), (65, "at most 64 bytes expected")])
async def test_oversized_and_short_tiles(size: int, found: str) -> None:
    """A tile of the wrong length is none, whatever its bytes are, and a large one is not even read."""
    server = LogServer(LAB, 2)
    server.bodies["/tile/0/000.p/2"] = bytes(size)
    error = await fails_to_read(server, Tile(0, 0, 2))
    assert isinstance(error, UpstreamProtocolError)
    assert found in str(error)


async def test_a_sick_answer_is_asked_for_again() -> None:
    """A 500, an answer that is cut, gzip that nobody asked for; and then the tile."""
    for fault in (Fault.status(500), Fault.truncated(7), Fault.gzip_unasked()):
        server = LogServer(LAB, 2)
        server.fail("/tile/0/000.p/2", fault, times=1)
        assert await read(server, Tile(0, 0, 2)) == {Tile(0, 0, 2): server.tile(Tile(0, 0, 2))}
        assert len(server.asked) == 2


async def test_a_sick_answer_is_not_asked_for_endlessly() -> None:
    """After the last try the error says what came."""
    server = LogServer(LAB, 2)
    server.fail("/tile/0/000.p/2", Fault.gzip_unasked())
    error = await fails_to_read(server, Tile(0, 0, 2))
    assert isinstance(error, SickAnswerError)
    assert len(server.asked) == QUICK.attempts


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.hang(), Fault.drip(0.2)])
async def test_slow_tiles_are_given_up(fault: Fault) -> None:
    """A log that never answers, or a byte at a time: the fetcher's deadlines, not ours, and an error."""
    server = LogServer(LAB, 2)
    server.fail("/tile/0/000.p/2", fault)
    with trio.fail_after(5):
        assert isinstance(await fails_to_read(server, Tile(0, 0, 2)), UpstreamUnreachableError)


async def test_a_redirect_on_the_log_itself_is_followed() -> None:
    """A log may move its files about."""
    server = LogServer(LAB, 2)
    server.fail("/tile/0/000.p/2", Fault.redirect("/log/moved"))
    server.bodies["/moved"] = server.tile(Tile(0, 0, 2))
    assert await read(server, Tile(0, 0, 2)) == {Tile(0, 0, 2): server.tile(Tile(0, 0, 2))}
    assert server.asked == ["/tile/0/000.p/2", "/moved"]


async def test_a_redirect_elsewhere_is_refused() -> None:
    """A log cannot send us to other hosts, such as those inside."""
    server, inside = LogServer(LAB, 2), LogServer(LAB, 2)
    async with serve(inside), reading(server) as client:
        server.fail("/checkpoint", Fault.redirect(f"{inside.base}/checkpoint"))
        with pytest.raises(UpstreamRefusedError, match="is not allowed"):
            await client.open_head()
    assert inside.asked == []


async def test_a_head_that_is_not_there() -> None:
    """The message has the address."""
    server = LogServer(LAB, 2)
    server.gone.add("/checkpoint")
    async with reading(server) as client:
        with pytest.raises(UpstreamNotFoundError, match="/log/checkpoint: status 404"):
            await client.open_head()


async def test_an_oversized_head_is_not_read() -> None:
    """No more than a note can have."""
    server = LogServer(LAB, 2)
    server.bodies["/checkpoint"] = bytes(MAX_NOTE_BYTES + 1)
    async with reading(server) as client:
        with pytest.raises(UpstreamProtocolError, match=f"at most {MAX_NOTE_BYTES} bytes"):
            await client.open_head()


async def test_a_head_of_another_log_and_one_that_nobody_signed() -> None:
    """Wrong origin: not what we asked for. Right origin and a stranger's key: a signature that does not verify."""
    server, other = LogServer(LAB, 2), make_lab("b")
    async with reading(server) as client:
        server.bodies["/checkpoint"] = other.checkpoint(2)
        with pytest.raises(UpstreamProtocolError, match=r"the origin is '.*/b', expected '.*/a'"):
            await client.open_head()
        server.bodies["/checkpoint"] = LAB.sign(LAB.text(2), other.keys[0])
        with pytest.raises(SignatureError, match="no trusted key signed"):
            await client.open_head()


async def test_bundles_of_entries_in_both_dialects_of_paths() -> None:
    """As they are; a full one in the place of a partial one that is gone, and what was read is counted."""
    server = LogServer(LAB, 300)
    server.bodies |= {"/tile/entries/000": b"full", "/tile/entries/001": b"instead"}
    async with reading(server) as client:
        found = await client.read_entries([EntriesTile(0, 256), EntriesTile(1, 44)])
        assert found == {EntriesTile(0, 256): b"full", EntriesTile(1, 256): b"instead"}
        assert client.traffic == Traffic(2, 11)
    server = LogServer(LAB, 300, dialect=Dialect.SUMDB)
    server.bodies["/tile/8/data/001.p/44"] = b"records"
    async with reading(server, Dialect.SUMDB) as client:
        assert await client.read_entries([EntriesTile(1, 44)]) == {EntriesTile(1, 44): b"records"}


async def test_an_oversized_bundle_is_not_read() -> None:
    """No more than its entries can have."""
    server = LogServer(LAB, 300)
    server.bodies["/tile/entries/000.p/1"] = bytes(65_538)
    async with reading(server) as client:
        with pytest.raises(UpstreamProtocolError, match="at most 65537 bytes"):
            await client.read_entries([EntriesTile(0, 1)])


async def test_nothing_is_asked_where_nothing_is_wanted() -> None:
    """An empty proof needs no tiles."""
    server = LogServer(LAB, 300)
    async with reading(server) as client:
        assert await client.read_tiles([]) == {}
        assert "Served" in repr(client._served)
    assert server.asked == []
