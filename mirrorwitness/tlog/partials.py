"""Where a log, or a copy of one, has partial tiles and bundles, and which of them nobody needs any more. Pure.

A log that is committed after every few entries leaves its last bundle and tiles again each time: kept for ever, these
would be a hundred times what the entries are.

Rules:

- What the tree that is served has in full may go: a client that looks for a partial one takes the full one.
- It is not promised to be complete: a process remembers where it wrote partial ones, and one that begins knows where
  the tree is that was cosigned last. What is left elsewhere stays, and does no harm.

SPEC: C2SP tlog-tiles, "Partial Tiles".
"""

from __future__ import annotations

from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, edge_tiles, width_of

__all__ = ["Partials"]


class Partials:
    """Where partial tiles and bundles may lie."""

    def __init__(self) -> None:
        self._places: set[Tile | EntriesTile] = set()

    def __repr__(self) -> str:
        return f"<Partials at {len(self._places)} places>"

    def note(self, size: int) -> None:
        """Remember where the tree of a size has partial ones."""
        for tile in edge_tiles(size):
            self._places.add(tile.full())
            if not tile.level:
                self._places.add(EntriesTile(tile.index, TILE_WIDTH))

    def add(self, place: Tile | EntriesTile) -> None:
        """Remember that there are partial ones at a place, which is named by its full form."""
        self._places.add(place)

    def unneeded(self, size: int) -> list[Tile | EntriesTile]:
        """Return the places whose partial forms the tree of a size does not need."""
        return [place for place in self._places if _is_full(place, size)]

    def forget(self, place: Tile | EntriesTile) -> None:
        """Know that nothing partial is left there."""
        self._places.discard(place)


def _is_full(place: Tile | EntriesTile, size: int) -> bool:
    level = place.level if isinstance(place, Tile) else 0
    return width_of(level, place.index, size) == TILE_WIDTH
