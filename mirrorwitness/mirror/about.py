"""What a mirror says of itself, for people and machines: ``about/mirror.json``, served at ``/-/about.json``.

It claims nothing that the mirror did not count itself, and says when it was counted. It is not signed yet (part 2).
This module is pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.mirror.catalogue import RunRecord
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy

__all__ = ["make_about"]

SCHEMA = "mirrorwitness-about-1"


def make_about(
    *,
    software: str,
    sources: Sequence[str],
    contact: str | None,
    policy: SignaturePolicy,
    keys: KeyRing,
    run: RunRecord,
    selection: Selection,
) -> dict[str, object]:
    """Describe a mirror after a run.

    Args:
        software: name and version.
        sources: base URLs of the registries it copies from, the authority first.
        contact: whom to write to, or None.
        policy: how registry signatures are judged.
        keys: the registry's signing keys.
        run: the run that was just recorded.
        selection: what was asked for; only its size is told.
    """
    counts = run.counts
    return {
        "schema": SCHEMA,
        "software": software,
        "kind": "partial",
        "selection": {
            "names": len(selection.names()),
            "globs": len(selection.globs()),
            "deny_rules": len(selection.denied),
        },
        "sources": list(sources),
        "contact": contact,
        "signature_policy": str(policy),
        "keyids": sorted(key.keyid for key in keys.keys),
        "last_run": run.finished,
        "last_complete": run.last_complete,
        "coverage": {
            "packages": counts.get("packages_unchanged", 0) + counts.get("packages_updated", 0),
            "packages_unfinished": counts.get("packages_unfinished", 0) + counts.get("packages_diverged", 0),
            "versions": counts.get("versions", 0),
            "bytes": counts.get("bytes", 0),
            "signatures": {
                name.removeprefix("signature_"): count
                for name, count in sorted(counts.items())
                if name.startswith("signature_")
            },
        },
        "note": "Every byte matched its digest when it was stored. That proves authenticity, never safety.",
    }
