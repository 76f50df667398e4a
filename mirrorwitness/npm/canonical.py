"""The canonical form of a version's manifest, and its hash: what the checksum database remembers of it.

To reproduce it elsewhere, take the object below ``versions`` in the registry's full document and

1. remove, at its top level only, every member whose name begins with ``_`` and those of `REGISTRY_MEMBERS`;
2. write the rest by the JSON Canonicalization Scheme: members sorted by the UTF-16 code units of their names, no white
   space, the shortest escapes, numbers as JavaScript writes them, in UTF-8;
3. hash these bytes with SHA-256.

Rules:

- Numbers are doubles, as everywhere in JSON: ``1.0`` is ``1``, and what is beyond 2^53 is rounded as JavaScript rounds.
- There is no canonical form (None) where two JSON readers may see two things: a member name twice in one object at any
  depth, a lone surrogate, a number that no double holds (``1e400``), nesting deeper than the interpreter's limit.
- What is removed is made by the registry, and changed by it later: ``dist`` got signatures and attestations added to
  history, ``deprecated`` comes and goes, ``hasInstallScript`` was added to all versions, ``maintainers`` are the
  accounts of that time, readmes were cut off old versions, and copies of registries add times of their own.

So a hash that changes while the integrity does not says that the registry tells another story of the same bytes.

What it does not do: compare a manifest with its tarball (`mirrorwitness.npm.confusion`).

SPEC: RFC 8785, JSON Canonicalization Scheme; research/B 2.1, 2.2, 2.5.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["REGISTRY_MEMBERS", "canonical_manifest", "hash_manifest"]

REGISTRY_MEMBERS: Final = frozenset({
    "dist",
    "deprecated",
    "hasInstallScript",
    "maintainers",
    "publish_time",
    "readme",
    "readmeFilename",
    "time",
    "users",
})
"""Members of a version that registries make and change; so do all that begin with an underscore."""

_SAFE: Final = 2**53
"""Whole numbers below are what a double holds exactly."""

_SAFE_DIGITS: Final = 16

_Json: TypeAlias = "bool | int | float | str | Sequence[_Json] | dict[str, _Json] | None"


def canonical_manifest(text: bytes) -> bytes | None:
    """Return the canonical form of a version's manifest.

    Args:
        text: the version's object as it stands in the registry's full document.

    Returns:
        Its canonical form without what registries make; None where there is none.
    """
    try:
        parsed = cast(
            "_Json", json.loads(text, object_pairs_hook=_take_members, parse_int=_parse_int, parse_constant=_refuse)
        )
        if not isinstance(parsed, dict):
            return None
        kept = {key: value for key, value in parsed.items() if not key.startswith("_") and key not in REGISTRY_MEMBERS}
        return rfc8785.dumps(kept)
    except (ValueError, RecursionError):  # CanonicalizationError is a ValueError
        return None


def hash_manifest(text: bytes) -> bytes | None:
    """Return the SHA-256 of a manifest's canonical form; None where it has none."""
    canonical = canonical_manifest(text)
    return None if canonical is None else hashlib.sha256(canonical).digest()


def _take_members(pairs: list[tuple[str, _Json]]) -> dict[str, _Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _parse_int(text: str) -> int | float:
    if len(text) <= _SAFE_DIGITS and -_SAFE < (value := int(text)) < _SAFE:
        return value
    return float(text)


def _refuse(text: str) -> _Json:
    raise ValueError(f"{text} is not JSON")
