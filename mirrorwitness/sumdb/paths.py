"""Where a checksum database keeps things: the keys of everything that belongs to one log.

    log/checkpoint                       the published checkpoint: the log's signatures, and the quorum's
    log/tile/<L>/<N>[.p/<W>]             tiles, never changed
    log/tile/entries/<N>[.p/<W>]         the records, never changed
    log/index/<name>                     which leaves are about a package (`mirrorwitness.sumdb.index`)
    state/sumdb/head.json                the newest tree of the sequencer, and what leads to it; swapped
    state/sumdb/staged/<size>-<root>     the records that a head added, until they are in bundles and tiles
    state/sumdb/identity.json            whose log this storage holds
    state/sumdb/keys/<digest>.json       the signing keys of a registry, also those that it has dropped
    state/sumdb/refused/<name>.json      versions that were not logged, and why
    evidence/sumdb/<name>/<version>/<digest>.json  documents that cannot both be true

Rules:

- Everything a client may read lies under ``log/``, which any file server can serve: below it are the paths of C2SP
  tlog-tiles, and the index.
- A scoped name keeps its slash; no key is the "directory" of another. Names keep their letters as they are.

This module is pure; it never looks at what is stored.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.names import parse_name
from mirrorwitness.storage.components import component_of, component_path, escape_version
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, Tile, entries_path, parse_tile_path, tile_path

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.tlog.merkle import Hash

__all__ = [
    "CHECKPOINT_KEY",
    "EVIDENCE_PREFIX",
    "HEAD_KEY",
    "IDENTITY_KEY",
    "INDEX_PREFIX",
    "LOG_PREFIX",
    "REFUSED_PREFIX",
    "STAGED_PREFIX",
    "STATE_PREFIX",
    "TILE_PREFIX",
    "evidence_key",
    "evidence_prefix",
    "index_key",
    "name_of_index_key",
    "parse_tile_key",
    "partial_prefix",
    "refused_key",
    "registry_keys_key",
    "size_of_staged_key",
    "staged_key",
    "tile_key",
]

LOG_PREFIX: Final = "log/"
CHECKPOINT_KEY: Final = f"{LOG_PREFIX}checkpoint"
TILE_PREFIX: Final = f"{LOG_PREFIX}tile/"
INDEX_PREFIX: Final = f"{LOG_PREFIX}index/"

STATE_PREFIX: Final = "state/sumdb/"
HEAD_KEY: Final = f"{STATE_PREFIX}head.json"
IDENTITY_KEY: Final = f"{STATE_PREFIX}identity.json"
STAGED_PREFIX: Final = f"{STATE_PREFIX}staged/"
REFUSED_PREFIX: Final = f"{STATE_PREFIX}refused/"

EVIDENCE_PREFIX: Final = "evidence/sumdb/"
HEADS_PREFIX: Final = "evidence/sumdb-heads/"
"""Checkpoints that the log's keys signed and that its head does not go on from, as witnesses showed them."""

_STAGED: Final = re.compile(rf"{STAGED_PREFIX}([1-9][0-9]{{0,18}})-[0-9a-f]{{64}}")


def tile_key(tile: Tile | EntriesTile) -> str:
    """Return the key of a tile, or of a bundle of records."""
    if isinstance(tile, Tile):
        return LOG_PREFIX + tile_path(tile, Dialect.TILES)
    return LOG_PREFIX + entries_path(tile, Dialect.TILES)


def partial_prefix(tile: Tile | EntriesTile) -> str:
    """Return the prefix under which all partial forms of a tile lie."""
    return f"{tile_key(tile.full())}.p/"


def parse_tile_key(key: str) -> Tile | EntriesTile:
    """Read the key of a tile, or of a bundle of records; `tile_key` gives back the same text.

    Raises:
        UpstreamProtocolError: it is no such key.
    """
    return parse_tile_path(key.removeprefix(LOG_PREFIX), Dialect.TILES)


def index_key(name: PackageName) -> str:
    """Return the key of a package's index."""
    return INDEX_PREFIX + component_path(name)


def name_of_index_key(key: str) -> PackageName:
    """Return the package whose index has a key; no name is so long that its key would be a digest.

    Raises:
        ConfigurationError: it is the index of no package.
    """
    return parse_name(key.removeprefix(INDEX_PREFIX))


def staged_key(size: int, root: Hash) -> str:
    """Return the key of the records that lead to a head."""
    return f"{STAGED_PREFIX}{size}-{root.hex()}"


def size_of_staged_key(key: str) -> int:
    """Return the size of the tree that staged records lead to.

    Raises:
        UpstreamProtocolError: it is no such key.
    """
    found = _STAGED.fullmatch(key)
    if found is None:
        raise UpstreamProtocolError(
            f"{key[:200]!r} is not the key of staged records: expected {STAGED_PREFIX}SIZE-ROOT"
        )
    return int(found[1])


def registry_keys_key(registry: str) -> str:
    """Return the key of the signing keys of a registry, named as records name it."""
    return f"{STATE_PREFIX}keys/{hashlib.sha256(registry.encode()).hexdigest()}.json"


def refused_key(name: PackageName) -> str:
    """Return the key of what was refused of a package."""
    return f"{REFUSED_PREFIX}{component_path(f'{name}.json')}"


def evidence_prefix(name: PackageName, version: Version | None = None) -> str:
    """Return the prefix under which the evidence about a package, or about one version of it, lies."""
    inner = "" if version is None else f"{component_of(escape_version(version))}/"
    return f"{EVIDENCE_PREFIX}{component_path(name)}/{inner}"


def evidence_key(name: PackageName, version: Version, digest: str) -> str:
    """Return the key of a piece of evidence; `digest` is the hex SHA-256 of its content."""
    return f"{evidence_prefix(name, version)}{digest}.json"


def shown_head_key(note: bytes) -> str:
    """Return the key of a checkpoint that a witness showed, and that the log's head does not go on from."""
    return f"{HEADS_PREFIX}{hashlib.sha256(note).hexdigest()}.txt"
