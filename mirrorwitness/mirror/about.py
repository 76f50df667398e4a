"""What a mirror says of itself, for people and machines: ``about/mirror.json``, served at ``/-/about.json``.

Rules:

- It claims nothing that the mirror did not count itself, and says when it was counted.
- What is selected is told by digests, and by lists of at most `LISTED` items, so that it stays small.
- ``schema`` comes first and names what this is: where the text is signed, the signature can never be taken for one over
  a checkpoint or anything else that the key's owner might sign.

The signed form is a note whose text is exactly the document and a newline (`sign_about`), so one read gives both, and a
document never meets the signature of another. This module is pure.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import orjson

from mirrorwitness.tlog.note import sign_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mirrorwitness.mirror.catalogue import RunRecord
    from mirrorwitness.mirror.coverage import Coverage
    from mirrorwitness.mirror.nodes import Head
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy
    from mirrorwitness.tlog.keys import SignerKey

__all__ = ["ABOUT_SCHEMA", "Kind", "describe_summary", "find_kind", "format_about", "make_about", "sign_about"]

ABOUT_SCHEMA: Final = "mirrorwitness-about-2"

LISTED: Final = 200
"""Names or globs that are listed; of more only the number and a digest are told."""


class Kind(StrEnum):
    """What sort of mirror it is."""

    FULL = "full"
    """Every package and every version that its registry has."""
    PARTIAL = "partial"
    """A selection of packages or versions."""
    AUDITED = "audited"
    """Only versions that an auditor approved."""


def find_kind(selection: Selection, *, is_audited: bool = False) -> Kind:
    """Say what sort of mirror a selection makes.

    Args:
        selection: what is asked for.
        is_audited: only approved versions are taken of it.
    """
    if is_audited:
        return Kind.AUDITED
    is_everything = any(
        rule.pattern == "*" and rule.versions is None and rule.latest is None and rule.tag is None
        for rule in selection.rules
    )
    return Kind.FULL if is_everything and not selection.denied else Kind.PARTIAL


def make_about(
    *,
    software: str,
    sources: Sequence[str],
    contact: str | None,
    policy: SignaturePolicy,
    keys: KeyRing,
    run: RunRecord,
    selection: Selection,
    coverage: Coverage | None,
    summary: Head | None,
    lag: float | None = None,
    mirror_key: str | None = None,
    is_audited: bool = False,
) -> dict[str, object]:
    """Describe a mirror after a run.

    Args:
        software: name and version.
        sources: base URLs of the registries it copies from, the authority first.
        contact: whom to write to, or None.
        policy: how registry signatures are judged.
        keys: the registry's signing keys.
        run: the run that was just recorded.
        selection: what was asked for.
        coverage: how much is served, or None where it was never counted.
        summary: the root of the summary of all versions, or None where there is none.
        lag: seconds since everything that the registry's feed had shown was stored; None where no feed is followed.
        mirror_key: the public key that the description is signed with, or None.
        is_audited: only approved versions are taken.
    """
    counts = run.counts
    return {
        "schema": ABOUT_SCHEMA,
        "software": software,
        "kind": find_kind(selection, is_audited=is_audited),
        "selection": {
            "names": _describe_list(selection.names()),
            "globs": _describe_list(selection.globs()),
            "deny_rules": len(selection.denied),
        },
        "sources": list(sources),
        "contact": contact,
        "mirror_key": mirror_key,
        "signature_policy": str(policy),
        "keyids": sorted(key.keyid for key in keys.keys),
        "lag_seconds": None if lag is None else round(lag),
        "last_run": run.finished,
        "last_complete": run.last_complete,
        "packages_unfinished": counts.get("packages_unfinished", 0) + counts.get("packages_diverged", 0),
        "coverage": None if coverage is None else _describe_coverage(coverage),
        "summary": None if summary is None else describe_summary(summary),
        "note": "Every byte matched its digest when it was stored. That proves authenticity, never safety.",
    }


def describe_summary(head: Head) -> dict[str, object]:
    """Return what a description says of the summary."""
    return {
        "format": head.format,
        "root": head.root,
        "packages": head.packages,
        "versions": head.versions,
        "updated": head.updated,
    }


def format_about(about: dict[str, object]) -> bytes:
    """Write a description: one line of JSON, without a newline."""
    return orjson.dumps(about)


def sign_about(body: bytes, key: SignerKey) -> bytes:
    """Return the note that signs a description."""
    return sign_note(body + b"\n", [key])


def _describe_coverage(coverage: Coverage) -> dict[str, object]:
    return {
        "packages": coverage.packages,
        "versions": coverage.versions,
        "bytes": coverage.bytes,
        "signatures": dict(sorted(coverage.signatures.items())),
        "counted": coverage.counted or None,
    }


def _describe_list(items: Iterable[str]) -> dict[str, object]:
    listed = sorted(items)
    digest = hashlib.sha256("".join([f"{item}\n" for item in listed]).encode()).hexdigest()
    return {"count": len(listed), "sha256": digest, "list": listed if len(listed) <= LISTED else None}
