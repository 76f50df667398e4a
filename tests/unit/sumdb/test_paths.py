"""Keys of a checksum database: one spelling each, readable again, none below another."""

from __future__ import annotations

import hashlib

import pytest

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.storage import check_key
from mirrorwitness.sumdb.paths import (
    evidence_key,
    evidence_prefix,
    index_key,
    name_of_index_key,
    parse_tile_key,
    partial_prefix,
    refused_key,
    registry_keys_key,
    size_of_staged_key,
    staged_key,
    tile_key,
)
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.tiles import EntriesTile, Tile

TILES = {
    Tile(0, 0, 256): "log/tile/0/000",
    Tile(3, 1_234_067, 7): "log/tile/3/x001/x234/067.p/7",
    EntriesTile(1, 256): "log/tile/entries/001",
    EntriesTile(1000, 255): "log/tile/entries/x001/000.p/255",
}


@pytest.mark.parametrize(("tile", "key"), TILES.items(), ids=list(TILES.values()))
def test_tiles_and_bundles_lie_where_the_specification_has_them(tile: Tile | EntriesTile, key: str) -> None:
    """Below ``log/`` are the paths of tlog-tiles, so that any file server serves the log; they read back."""
    assert tile_key(tile) == check_key(key)
    assert parse_tile_key(key) == tile
    assert partial_prefix(tile) == key.partition(".p/")[0] + ".p/"


@pytest.mark.parametrize("key", ["log/tile/0/00", "log/tile/64/000", "log/index/left", "log/tile/0/000.p/256"])
def test_other_keys_are_no_tiles(key: str) -> None:
    """A key that no tile has is refused."""
    with pytest.raises(UpstreamProtocolError):
        parse_tile_key(key)


@pytest.mark.parametrize("name", ["left", "@scope/name", "Buffer", "a" * 214])
def test_the_index_of_any_name_has_a_key_that_says_it(name: str) -> None:
    """A name is kept letter by letter."""
    key = check_key(index_key(PackageName(name)))
    assert key == f"log/index/{name}"
    assert name_of_index_key(key) == name


def test_keys_of_state_and_evidence() -> None:
    """The keys that other parts of the database use."""
    name, version = PackageName("@scope/name"), Version("1.0.0-a/b")
    digest = hashlib.sha256(b"registry.example").hexdigest()
    assert registry_keys_key("registry.example") == f"state/sumdb/keys/{digest}.json"
    assert refused_key(name) == "state/sumdb/refused/@scope/name.json"
    assert evidence_prefix(name) == "evidence/sumdb/@scope/name/"
    assert evidence_key(name, version, "ab") == "evidence/sumdb/@scope/name/1.0.0-a%2Fb/ab.json"


def test_staged_records_say_to_which_tree_they_lead() -> None:
    """The key has the size and the whole root: two batches never share one."""
    key = check_key(staged_key(17, EMPTY_ROOT))
    assert key == f"state/sumdb/staged/17-{EMPTY_ROOT.hex()}"
    assert size_of_staged_key(key) == 17


@pytest.mark.parametrize("rest", ["17", "017-" + "0" * 64, "0-" + "0" * 64, "17-" + "0" * 63, "17-" + "G" * 64])
def test_other_keys_are_no_staged_records(rest: str) -> None:
    """A key of another form is refused."""
    with pytest.raises(UpstreamProtocolError, match="SIZE-ROOT"):
        size_of_staged_key(f"state/sumdb/staged/{rest}")
