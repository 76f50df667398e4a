"""Request paths of a checksum database: what each one asks for.

    /checkpoint                            CheckpointRoute
    /tile/<L>/<N>[.p/<W>]                  TileRoute
    /tile/entries/<N>[.p/<W>]              TileRoute
    /lookup/<name>@<version>               LookupRoute, with a size in ?size=N
    /lookup/<name>                         PackageRoute, the same
    /index/<name>                          IndexRoute
    /healthz  /readyz  /metrics            StateRoute
    /-/at/<size>/<any of the first six>    the same, as it stood at that size

Rules:

- One spelling for each tile and each number; a name is read as npm's clients write it, with ``/`` or ``%2f``.
- What is decoded is only ever compared or made a key by `mirrorwitness.sumdb.paths`, never joined to a path.
- Only a look-up has a query; everywhere else one is an error, so that caches see one address for one answer.

This module is pure; it does not know what is stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.names import decode_name
from mirrorwitness.sumdb.lookups import LOOKUP, parse_lookup_path, parse_size_query
from mirrorwitness.tlog.checkpoint import parse_size
from mirrorwitness.tlog.tiles import Dialect, parse_tile_path

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.tlog.tiles import EntriesTile, Tile

__all__ = [
    "CheckpointRoute",
    "IndexRoute",
    "LogRoute",
    "LookupRoute",
    "NoRoute",
    "PackageRoute",
    "Placed",
    "Route",
    "State",
    "StateRoute",
    "TileRoute",
    "kind_of",
    "parse_request",
]


class State(StrEnum):
    """A path about the process itself."""

    HEALTH = "healthz"
    READY = "readyz"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class CheckpointRoute:
    """The published checkpoint."""


@dataclass(frozen=True, slots=True)
class TileRoute:
    """One tile, or one bundle of records."""

    tile: Tile | EntriesTile


@dataclass(frozen=True, slots=True)
class LookupRoute:
    """The newest record of one version; `size` is the tree that was asked for."""

    name: PackageName
    version: Version
    size: int | None


@dataclass(frozen=True, slots=True)
class PackageRoute:
    """All records of one package."""

    name: PackageName
    size: int | None


@dataclass(frozen=True, slots=True)
class IndexRoute:
    """Which leaves are about one package."""

    name: PackageName


LogRoute: TypeAlias = CheckpointRoute | TileRoute | LookupRoute | PackageRoute | IndexRoute


@dataclass(frozen=True, slots=True)
class Placed:
    """Something of the log, and the size of the tree in which it is looked at; None for the newest."""

    route: LogRoute
    at: int | None = None


@dataclass(frozen=True, slots=True)
class StateRoute:
    """About the process."""

    state: State


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nothing that a checksum database has."""


Route: TypeAlias = Placed | StateRoute | NoRoute

_KINDS: Final[dict[type[LogRoute], str]] = {
    CheckpointRoute: "checkpoint",
    TileRoute: "tile",
    LookupRoute: "lookup",
    PackageRoute: "lookup",
    IndexRoute: "index",
}
_STATES: Final = {f"/{state}": StateRoute(state) for state in State}
_AT: Final = re.compile(r"/-/at/([^/]*)(/.*)", re.DOTALL)
_INDEX: Final = "index/"
_TILE: Final = "tile/"


def parse_request(path: str, query: str) -> Route:
    """Say what a request asks for.

    Args:
        path: as it came over the wire, percent-encoded.
        query: what stands behind the question mark; empty where there is none.

    Raises:
        ConfigurationError: it is malformed; the message says how.
    """
    state = _STATES.get(path)
    found = _AT.fullmatch(path)
    at = None if found is None else _parse_at(found[1])
    route = state or _parse_log(path if found is None else found[2], query)
    if query and not isinstance(route, LookupRoute | PackageRoute | NoRoute):
        raise ConfigurationError("a query is not possible here: only a look-up has one, ?size=N")
    return route if isinstance(route, StateRoute | NoRoute) else Placed(route, at)


def kind_of(route: Route) -> str:
    """Return the word for a route's kind, for metrics."""
    if isinstance(route, Placed):
        return _KINDS[type(route.route)]
    return "operations" if isinstance(route, StateRoute) else "none"


def _parse_at(text: str) -> int:
    try:
        return parse_size(text, "size of the tree in the path:")
    except UpstreamProtocolError as error:
        raise ConfigurationError(str(error)) from error


def _parse_log(path: str, query: str) -> LogRoute | NoRoute:
    inner = path.removeprefix("/")
    if inner == "checkpoint":
        return CheckpointRoute()
    if inner.startswith(LOOKUP):
        name, version = parse_lookup_path(inner)
        size = parse_size_query(query)
        return PackageRoute(name, size) if version is None else LookupRoute(name, version, size)
    if inner.startswith(_INDEX):
        return IndexRoute(decode_name(inner.removeprefix(_INDEX)))
    if inner.startswith(_TILE):
        try:
            return TileRoute(parse_tile_path(inner, Dialect.TILES))
        except UpstreamProtocolError as error:
            raise ConfigurationError(str(error)) from error
    return NoRoute()
