"""What is remembered of a log between runs."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError, PreconditionFailedError, StorageUnavailableError
from mirrorwitness.sumdb import trust as module
from mirrorwitness.sumdb.terms import make_terms
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.tlog.tiles import Tile
from tests.fakes.storage import MemoryStorage
from tests.fakes.sumdb import LOG_KEY_PQ, ORIGIN
from tests.unit.sumdb.checked_log import TERMS, make_log


async def test_a_head_is_replaced_only_where_it_is_the_one_that_was_read() -> None:
    """Of two writers one wins, also of the first two."""
    log, storage = make_log(10), MemoryStorage()
    store = TrustStore(storage, place="state")
    assert await store.read_head(TERMS) is None
    await store.write_head(ORIGIN, log.checkpoint(5), replaces=None)
    with pytest.raises(PreconditionFailedError):
        await store.write_head(ORIGIN, log.checkpoint(6), replaces=None)
    known = await store.read_head(TERMS)
    assert known is not None
    assert (known.tree, known.note) == (log.tree(5), log.checkpoint(5))
    await store.write_head(ORIGIN, log.checkpoint(7), replaces=known)
    with pytest.raises(PreconditionFailedError):
        await store.write_head(ORIGIN, log.checkpoint(8), replaces=known)
    assert repr(store) == "<TrustStore in state>"


async def test_a_head_that_a_key_signed_which_is_not_trusted_any_more() -> None:
    """The message says that the old key can be named as well."""
    store = TrustStore(MemoryStorage(), place="state")
    await store.write_head(ORIGIN, make_log(10).checkpoint(), replaces=None)
    with pytest.raises(ConfigurationError, match="name the old key as well"):
        await store.read_head(make_terms([LOG_KEY_PQ.verifier], None))


async def test_tiles_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest and oldest go first: nobody asks for them again."""
    monkeypatch.setattr(module, "MAX_TILES", 2)
    storage = MemoryStorage()
    store = TrustStore(storage, place="state")
    tiles = {tile: bytes(tile.byte_size) for tile in (Tile(0, 1, 256), Tile(0, 2, 256), Tile(1, 0, 2))}
    await store.keep_tiles(ORIGIN, tiles)
    assert await store.read_tiles(ORIGIN, tiles) == {tile: tiles[tile] for tile in list(tiles)[1:]}


async def test_a_full_tile_is_found_in_the_place_of_a_partial_one() -> None:
    """The partial one first, where both are there."""
    store = TrustStore(MemoryStorage(), place="state")
    full, partial = Tile(0, 0, 256), Tile(0, 0, 3)
    await store.keep_tiles(ORIGIN, {full: bytes(full.byte_size)})
    assert await store.read_tiles(ORIGIN, [partial]) == {full: bytes(full.byte_size)}
    await store.keep_tiles(ORIGIN, {partial: bytes(96)})
    assert await store.read_tiles(ORIGIN, [partial]) == {partial: bytes(96)}


async def test_a_tile_that_cannot_be_read_is_not_there() -> None:
    """A cache is no reason to stop."""
    storage = MemoryStorage()
    store = TrustStore(storage, place="state")
    tile = Tile(0, 0, 256)
    await store.keep_tiles(ORIGIN, {tile: bytes(tile.byte_size)})
    storage.fail_before("read", "*", StorageUnavailableError("no disk"))
    assert await store.read_tiles(ORIGIN, [tile]) == {}
