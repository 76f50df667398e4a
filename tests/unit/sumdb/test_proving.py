"""Stored logs and proofs out of them: stand-ins, caches, and sources that lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, ObjectMissingError, ProofError, UpstreamProtocolError
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb import proving
from mirrorwitness.sumdb.growth import EMPTY_EDGE, grow
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, TILE_PREFIX, tile_key
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.merkle import EMPTY_ROOT, check_consistency, check_inclusion, leaf_hash
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from mirrorwitness.tlog.merkle import Hash

ENTRIES = [b"entry %d\n" % at for at in range(600)]


def stored(*sizes: int) -> tuple[MemoryStorage, dict[int, Hash]]:
    """Return a storage with a log that grew in steps, and its roots."""
    storage = MemoryStorage()
    edge, roots = EMPTY_EDGE, {0: EMPTY_ROOT}
    for size in sizes:
        growth = grow(edge, ENTRIES[edge.size : size])
        for tile, body in growth.tiles.items():
            storage.set_bytes(tile_key(tile), body)
        for bundle, body in growth.bundles.items():
            storage.set_bytes(tile_key(bundle), body)
        edge = growth.edge
        roots[size] = edge.root
    return storage, roots


async def test_every_entry_is_proven_in_every_tree_with_and_without_the_root() -> None:
    """Proofs verify; the earlier tree may have lost its partial tiles to the full ones."""
    storage, roots = stored(10, 300, 600)
    storage.remove("log/tile/0/000.p/10")
    storage.remove("log/tile/entries/000.p/10")
    for is_trusting in (True, False):
        prover = Prover(StoredLog(storage))
        for size in (10, 300, 600):
            root = None if is_trusting else roots[size]
            assert await prover.root(size) == roots[size]
            for index in range(0, size, 7):
                proof = await prover.inclusion(index, size, root=root)
                entry = await prover.entry(index, size)
                assert entry == ENTRIES[index]
                check_inclusion(proof, index=index, size=size, leaf=leaf_hash(entry), root=roots[size])
            for old in (0, 10, 300):
                if old <= size:
                    proof = await prover.consistency(old, size, root=root)
                    ends = {"old_size": old, "old_root": roots[old], "new_size": size, "new_root": roots[size]}
                    check_consistency(proof, **ends)  # type: ignore[arg-type]
    assert await Prover(StoredLog(storage)).root(0) == EMPTY_ROOT


async def test_tiles_and_bundles_are_read_once_and_forgotten_when_others_were_used_more() -> None:
    """A full tile answers for partial ones of its place."""
    storage, _ = stored(256, 600)
    prover = Prover(StoredLog(storage), tiles_kept=3, bundles_kept=1)
    for index in range(0, 256, 50):
        await prover.inclusion(index, 600)
        await prover.entry(index, 600)
    reads = storage.keys_of("read")
    assert sorted(reads) == ["log/tile/0/000", "log/tile/0/002.p/88", "log/tile/1/000.p/2", "log/tile/entries/000"]
    await prover.root(100)
    assert await prover.entry(100, 200) == ENTRIES[100]
    assert storage.keys_of("read") == reads
    await prover.entry(300, 600)
    await prover.entry(0, 600)
    assert storage.keys_of("read")[4:] == ["log/tile/entries/001", "log/tile/entries/000"]
    assert repr(prover).endswith("3 tiles and 1 bundles kept>")


async def test_a_source_that_lies_is_noticed_where_the_root_is_known_and_is_not_remembered() -> None:
    """Replaced bytes: refused under the root, and read anew the next time."""
    storage, roots = stored(600)
    key = "log/tile/0/001"
    sound = storage.objects[key]
    storage.set_bytes(key, bytes([sound[0] ^ 1]) + sound[1:])
    prover = Prover(StoredLog(storage))
    await prover.inclusion(256, 600)  # nobody asked for a check
    with pytest.raises(ProofError, match="its parent says"):
        await prover.inclusion(256, 600, root=roots[600])
    storage.set_bytes(key, sound)
    proof = await prover.inclusion(256, 600, root=roots[600])
    check_inclusion(proof, index=256, size=600, leaf=leaf_hash(ENTRIES[256]), root=roots[600])


async def test_no_question_is_no_answer() -> None:
    """An entry behind the tree, and a tree that shrinks."""
    prover = Prover(StoredLog(stored(10)[0]))
    for index in (-1, 10):
        with pytest.raises(ConfigurationError):
            await prover.entry(index, 10)
        with pytest.raises(ConfigurationError):
            await prover.inclusion(index, 10)
    with pytest.raises(ConfigurationError):
        await prover.consistency(11, 10)


async def test_a_tile_of_another_length_and_a_bundle_that_is_none_are_refused() -> None:
    """The key is named; what is missing is named with what was looked for in its place."""
    storage, _ = stored(300)
    log = StoredLog(storage)
    storage.set_bytes("log/tile/0/000", b"x" * 8191)
    with pytest.raises(UpstreamProtocolError, match="log/tile/0/000: 8191 bytes, expected 8192"):
        await log.read_tiles([Tile(0, 0, 256)])
    storage.set_bytes("log/tile/entries/000", b"\xff\xff")
    with pytest.raises(UpstreamProtocolError, match="cut off"):
        await Prover(log).entry(0, 300)
    storage.remove("log/tile/entries/000")
    with pytest.raises(ObjectMissingError, match=r"log/tile/entries/000$"):
        await log.read_entries([EntriesTile(0, 256)])
    with pytest.raises(ObjectMissingError, match=r"entries/000\.p/7, and in its place .*entries/000$"):
        await log.read_entries([EntriesTile(0, 7)])
    assert await log.read_tiles([]) == {}
    assert repr(log).startswith("<StoredLog log/ in <MemoryStorage")


async def test_the_published_checkpoint_is_read_as_it_is() -> None:
    """Nobody looks into it here; none is said so."""
    storage = MemoryStorage({CHECKPOINT_KEY: b"anything", "copy/checkpoint": b"another"})
    assert await StoredLog(storage).read_head() == b"anything"
    assert await StoredLog(storage, "copy/").read_head() == b"another"
    with pytest.raises(ObjectMissingError):
        await StoredLog(storage, "none/").read_head()


async def test_hashes_of_large_nodes_are_kept_of_a_source_that_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time no tile is read for them, in every tree that has the node; one whose root is named reads anew."""
    monkeypatch.setattr(proving, "NODE_ENTRIES", 4)
    storage, roots = stored(300, 600)
    prover = Prover(StoredLog(storage), tiles_kept=1)
    for size in (300, 600, 300):
        for index in range(0, size, 7):
            proof = await prover.inclusion(index, size)
            check_inclusion(proof, index=index, size=size, leaf=leaf_hash(ENTRIES[index]), root=roots[size])
    for key in await list_keys(storage, TILE_PREFIX):
        if "/entries/" not in key and not key.startswith(f"{TILE_PREFIX}0/000"):
            storage.remove(key)
    check_inclusion(await prover.inclusion(0, 600), index=0, size=600, leaf=leaf_hash(ENTRIES[0]), root=roots[600])
    with pytest.raises(ObjectMissingError):
        await prover.inclusion(0, 600, root=roots[600])
