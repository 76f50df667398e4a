"""Request paths: what each one asks for.

    /<name>                                    PackumentRoute
    /<name>/<version or tag>                   VersionRoute
    /<name>/-/<file>                           TarballRoute
    /<name>/-/<file>.tlog-proof                ProofRoute
    /-/package/<name>/dist-tags                DistTagsRoute
    /-/npm/v1/keys                             KeysRoute
    /-/npm/v1/attestations/<name>@<version>    AttestationsRoute
    /-/about.json  /-/about                    AboutRoute
    /-/about.json.note                         AboutNoteRoute
    /-/summary/<digits>/<digest>               SummaryRoute
    /-/ping  /-/whoami  /-/healthz  /-/readyz  FixedRoute
    /-/metrics  /-/status                      FixedRoute
    /-/at/<size>/<any of the first eight>      ViewRoute
    everything else                            NoRoute, with a sentence for people

Rules:

- A path is split at its slashes first and each segment is then percent-decoded once; so ``/@s%2fn``, ``/@s%2Fn``,
  ``/@s/n`` and ``/%40s%2Fn`` are one package, ``%252f`` is no slash, and ``..%2f`` is part of a name that no package
  has.
- What is decoded is only ever compared (with names that npm allows, with versions and files of a document), never
  joined to a path.
- Nothing is lower-cased, no empty segment is skipped, and one trailing slash is allowed.
- A view is entered once: below ``/-/at/<size>`` there is no other, and nothing that is about the mirror as a whole.
- The only reserved name is ``-`` with something behind it: ``/-`` and ``/-/-/<file>`` are the package called ``-``.
  ``/about`` is the package of that name.

This module is pure; it does not know what is stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.layout import PROOF_SUFFIX
from mirrorwitness.npm.names import decode_path, parse_name

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName

__all__ = [
    "MAX_PATH_BYTES",
    "AboutNoteRoute",
    "AboutRoute",
    "AttestationsRoute",
    "DistTagsRoute",
    "Fixed",
    "FixedRoute",
    "KeysRoute",
    "NoRoute",
    "PackumentRoute",
    "ProofRoute",
    "Route",
    "SummaryRoute",
    "TarballRoute",
    "VersionRoute",
    "ViewRoute",
    "kind_of",
    "parse_path",
]

MAX_PATH_BYTES: Final = 2048
"""Longest path in bytes: a name (214) and a file (255) of percent-encoded characters fit."""


class Fixed(StrEnum):
    """A path whose answer is always the same, or about the process itself."""

    PING = "ping"
    WHOAMI = "whoami"
    HEALTH = "healthz"
    READY = "readyz"
    METRICS = "metrics"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class PackumentRoute:
    """All that is known about one package."""

    name: PackageName


@dataclass(frozen=True, slots=True)
class VersionRoute:
    """One version's document; `wanted` is a version or a dist-tag."""

    name: PackageName
    wanted: str


@dataclass(frozen=True, slots=True)
class TarballRoute:
    """One tarball; `file` is what the client asked for and nothing else is known of it."""

    name: PackageName
    file: str


@dataclass(frozen=True, slots=True)
class ProofRoute:
    """The proof beside one tarball; `file` is the tarball's name as the client gave it."""

    name: PackageName
    file: str


@dataclass(frozen=True, slots=True)
class DistTagsRoute:
    """The dist-tags of one package."""

    name: PackageName


@dataclass(frozen=True, slots=True)
class KeysRoute:
    """The registry's signing keys."""


@dataclass(frozen=True, slots=True)
class AttestationsRoute:
    """The attestations of one version."""

    name: PackageName
    version: str


@dataclass(frozen=True, slots=True)
class AboutRoute:
    """What this mirror says of itself."""


@dataclass(frozen=True, slots=True)
class AboutNoteRoute:
    """The same, signed."""


@dataclass(frozen=True, slots=True)
class SummaryRoute:
    """One node of the summary of all versions; `digest` is 64 hex digits."""

    digest: str


@dataclass(frozen=True, slots=True)
class FixedRoute:
    """A path without parameters."""

    answer: Fixed


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nothing that a read-only mirror has; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class ViewRoute:
    """A route as the registry stood at a tree size."""

    size: int
    route: PackumentRoute | VersionRoute | TarballRoute | ProofRoute | DistTagsRoute | KeysRoute | AttestationsRoute


Route: TypeAlias = (
    PackumentRoute
    | VersionRoute
    | TarballRoute
    | ProofRoute
    | ViewRoute
    | DistTagsRoute
    | KeysRoute
    | AttestationsRoute
    | AboutRoute
    | AboutNoteRoute
    | SummaryRoute
    | FixedRoute
    | NoRoute
)

_AUDIT: Final = "this read-only mirror has no advisories: audit against the registry itself, or install with --no-audit"
_SEARCH: Final = "this read-only mirror has no search: search at the registry itself"
_ACCOUNT: Final = "this read-only mirror has no accounts: log in, publish and change packages at the registry itself"
_NOTHING: Final = (
    "this read-only mirror answers /<name>, /<name>/<version>, /<name>/-/<file>, /-/package/<name>/dist-tags, "
    "/-/npm/v1/keys, /-/npm/v1/attestations/<name>@<version>, /-/ping, /-/about.json, /-/summary/<digits>/<digest>, "
    "/-/at/<size>/… and /-/status"
)

_EXACT: Final[dict[str, Route]] = {
    "ping": FixedRoute(Fixed.PING),
    "whoami": FixedRoute(Fixed.WHOAMI),
    "healthz": FixedRoute(Fixed.HEALTH),
    "readyz": FixedRoute(Fixed.READY),
    "metrics": FixedRoute(Fixed.METRICS),
    "status": FixedRoute(Fixed.STATUS),
    "about": AboutRoute(),
    "about.json": AboutRoute(),
    "about.json.note": AboutNoteRoute(),
    "npm/v1/keys": KeysRoute(),
}
_ABSENT: Final = (
    ("npm/v1/security/", _AUDIT),
    ("v1/search", _SEARCH),
    ("all", _SEARCH),
    ("npm/v1/", _ACCOUNT),
    ("user/", _ACCOUNT),
    ("org/", _ACCOUNT),
    ("team/", _ACCOUNT),
    ("v1/login", _ACCOUNT),
)
_ATTESTATIONS: Final = "npm/v1/attestations/"
_SUMMARY: Final = re.compile(r"summary/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_VIEW: Final = re.compile(r"at/(0|[1-9][0-9]{0,18})/(.*)", re.DOTALL)
_PACKAGE: Final = "package/"
_DIST_TAGS: Final = "/dist-tags"


def parse_path(path: str) -> Route:
    """Say what a request path asks for.

    Args:
        path: the path as it came over the wire, percent-encoded, without a query.

    Returns:
        The route; `NoRoute` for everything that is not one of ours.

    Raises:
        ConfigurationError: the path is malformed: it does not begin with a slash, or a percent sign does not begin a
            character.
    """
    if not path.startswith("/"):
        raise ConfigurationError("the request path does not begin with a slash")
    return _parse(path[1:].removesuffix("/"), is_view=False)


def _parse(path: str, *, is_view: bool) -> Route:
    head, slash, rest = path.partition("/")
    if _is_dash(head) and slash and not _is_dash(rest.partition("/")[0]):
        return _parse_special(rest, is_view=is_view)
    return _parse_package(path)


_KINDS: Final[dict[type[Route], str]] = {
    PackumentRoute: "packument",
    VersionRoute: "version",
    TarballRoute: "tarball",
    ProofRoute: "proof",
    ViewRoute: "view",
    DistTagsRoute: "dist-tags",
    KeysRoute: "keys",
    AttestationsRoute: "attestations",
    AboutRoute: "about",
    AboutNoteRoute: "about",
    SummaryRoute: "summary",
    FixedRoute: "operations",
    NoRoute: "none",
}


def kind_of(route: Route) -> str:
    """Return the word for a route's kind, for metrics."""
    return _KINDS[type(route)]


def _is_dash(segment: str) -> bool:
    return segment in {"-", "%2d", "%2D"}


def _parse_special(rest: str, *, is_view: bool) -> Route:
    exact = _EXACT.get(rest)
    if exact:
        return exact
    if rest.startswith(_PACKAGE) and rest.endswith(_DIST_TAGS):
        route = _parse_package(rest.removeprefix(_PACKAGE).removesuffix(_DIST_TAGS))
        return DistTagsRoute(route.name) if isinstance(route, PackumentRoute) else NoRoute(_NOTHING)
    if rest.startswith(_ATTESTATIONS):
        return _parse_attestations(rest.removeprefix(_ATTESTATIONS))
    if node := _SUMMARY.fullmatch(rest):
        return SummaryRoute(node[2])
    if not is_view and (view := _VIEW.fullmatch(rest)):
        return _parse_view(int(view[1]), view[2])
    return NoRoute(next((reason for prefix, reason in _ABSENT if rest.startswith(prefix)), _NOTHING))


def _parse_view(size: int, rest: str) -> Route:
    match _parse(rest, is_view=True):
        case (
            PackumentRoute()
            | VersionRoute()
            | TarballRoute()
            | ProofRoute()
            | DistTagsRoute()
            | KeysRoute()
            | AttestationsRoute()
            | FixedRoute(Fixed.PING | Fixed.WHOAMI)
        ) as route:
            return route if isinstance(route, FixedRoute) else ViewRoute(size, route)
        case NoRoute() as nothing:
            return nothing
        case _:
            return NoRoute(_NOTHING)


def _parse_attestations(rest: str) -> Route:
    # `name@version` is not a name, so the decoding is borrowed from a path with a name in front.
    _, segments = decode_path(f"x/{rest}")
    name, at, version = "/".join(segments).rpartition("@")
    parsed = _find_name(name)
    return AttestationsRoute(parsed, version) if parsed and at and version else NoRoute(_NOTHING)


def _parse_package(path: str) -> Route:
    _, segments = decode_path(f"x/{path}")
    first, *rest = segments
    if first.startswith("@") and "/" not in first and rest:
        first = f"{first}/{rest.pop(0)}"
    name = _find_name(first)
    if name is None:
        return NoRoute(f"{first[:100]!a} is not the name of a package. {_NOTHING}" if first else _NOTHING)
    match rest:
        case []:
            return PackumentRoute(name)
        case ["-", file] if file.endswith(PROOF_SUFFIX) and file != PROOF_SUFFIX:
            return ProofRoute(name, file.removesuffix(PROOF_SUFFIX))
        case ["-", file] if file:
            return TarballRoute(name, file)
        case [wanted] if wanted not in {"", "-"}:
            return VersionRoute(name, wanted)
        case _:
            return NoRoute(_NOTHING)


def _find_name(text: str) -> PackageName | None:
    try:
        return parse_name(text)
    except ConfigurationError:
        return None
