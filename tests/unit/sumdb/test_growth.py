"""The edge of a tree, and staged entries, against what does not fit; the growth itself is in tests/property."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.sumdb.growth import EMPTY_EDGE, edge_bundle, format_staged, grow, make_edge, parse_staged
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.tiles import EntriesTile, Tile

ENTRIES = [b"entry %d\n" % at for at in range(300)]
GROWN = grow(EMPTY_EDGE, ENTRIES).edge


def test_the_last_bundle() -> None:
    """Only one that is not full is read again."""
    assert edge_bundle(0) is None
    assert edge_bundle(256) is None
    assert edge_bundle(300) == EntriesTile(1, 44)


def test_an_edge_with_the_wrong_entries_is_refused() -> None:
    """Entries of a damaged bundle would be hashed into nothing, and served."""
    tiles = dict(GROWN.tiles)
    assert make_edge(300, GROWN.root, tiles, GROWN.entries) == GROWN
    for entries in (GROWN.entries[:-1], [*GROWN.entries, b"x"], [b"x", *GROWN.entries[1:]], []):
        with pytest.raises(ProofError, match="entries do not have the 44 hashes"):
            make_edge(300, GROWN.root, tiles, entries)


def test_an_edge_with_another_root_is_refused() -> None:
    """The tiles are those that the head vouches for, or nothing is appended to them."""
    with pytest.raises(ProofError, match="expected"):
        make_edge(300, EMPTY_ROOT, dict(GROWN.tiles), GROWN.entries)
    with pytest.raises(ProofError, match="missing"):
        make_edge(300, GROWN.root, {Tile(0, 1, 44): GROWN.tiles[Tile(0, 1, 44)]}, GROWN.entries)


def test_an_edge_at_a_full_tile_has_no_entries() -> None:
    """Nothing of a full bundle is held."""
    grown = grow(EMPTY_EDGE, ENTRIES[:256]).edge
    assert grown.entries == ()
    assert make_edge(256, grown.root, dict(grown.tiles), []) == grown


def test_staged_entries_that_are_not_as_many_as_said_are_refused() -> None:
    """One more, one less, cut off, and a byte behind."""
    body = format_staged(ENTRIES[:3])
    for cut, count in ((body, 2), (body, 4), (body[:-1], 3), (body + b"x", 3), (body[:1], 0), (b"", 1)):
        with pytest.raises(UpstreamProtocolError, match="staged: "):
            parse_staged(cut, count)


def test_nothing_is_not_staged() -> None:
    """A head without news has nothing staged."""
    with pytest.raises(ConfigurationError, match="no entries"):
        format_staged([])
