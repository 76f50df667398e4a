"""Where a log mirror keeps things: the keys of its part of a storage. Pure.

    logmirror/<hash of the origin>/checkpoint          what it cosigned last
    logmirror/<hash of the origin>/tile/…              tiles and entry bundles, as the log itself serves them
    state/logmirror/<hash of the origin>.json          pending checkpoints and the next entry
    state/logmirror/logs/<hash of the origin>.json     what it cosigned last (`mirrorwitness.witness.records`)
    state/logmirror/identity.json                      whose keys ever signed from here

Everything below ``logmirror/`` is public: it is the monitoring prefix, and any file server can serve it.

SPEC: C2SP tlog-mirror, "Introduction"; tlog-tiles for what is below the hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, entries_path, tile_path

if TYPE_CHECKING:
    from mirrorwitness.tlog.tiles import Tile

__all__ = ["PUBLIC_PREFIX", "STATE_PREFIX", "checkpoint_key", "partial_prefix", "pending_key", "tile_key"]

PUBLIC_PREFIX: Final = "logmirror/"
STATE_PREFIX: Final = "state/logmirror/"


def checkpoint_key(origin: str) -> str:
    """Return the key of the checkpoint that is served of a log."""
    return f"{PUBLIC_PREFIX}{origin_hash(origin)}/checkpoint"


def tile_key(origin: str, tile: Tile | EntriesTile) -> str:
    """Return the key of a tile, or of a bundle of entries."""
    prefix = f"{PUBLIC_PREFIX}{origin_hash(origin)}/"
    if isinstance(tile, EntriesTile):
        return prefix + entries_path(tile, Dialect.TILES)
    return prefix + tile_path(tile, Dialect.TILES)


def partial_prefix(origin: str, tile: Tile | EntriesTile) -> str:
    """Return the prefix of all partial forms of a full tile or bundle."""
    return f"{tile_key(origin, tile)}.p/"


def pending_key(origin: str) -> str:
    """Return the key of what is pending for a log."""
    return f"{STATE_PREFIX}{origin_hash(origin)}.json"
