"""What a 404 says: which thing this mirror does not have, and as of when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.server.routes import (
    AboutNoteRoute,
    AttestationsRoute,
    DistTagsRoute,
    KeysRoute,
    PackumentRoute,
    ProofRoute,
    SummaryRoute,
    TarballRoute,
    VersionRoute,
)

if TYPE_CHECKING:
    from mirrorwitness.server.routes import Route
    from mirrorwitness.server.views import At

__all__ = ["describe_absent"]


def describe_absent(route: Route, at: At) -> str:
    """Return one sentence for a person."""
    match route:
        case PackumentRoute(name) | DistTagsRoute(name):
            reason = f"does not have the package {name}"
        case VersionRoute(name, wanted):
            reason = f"has no version or dist-tag {wanted[:100]!a} of {name}"
        case TarballRoute(name, file):
            reason = f"has no file {file[:100]!a} of {name}"
        case ProofRoute(name, file):
            reason = f"has no proof for the file {file[:100]!a} of {name}"
        case AttestationsRoute(name, version):
            reason = f"has no attestations for {version[:100]!a} of {name}"
        case KeysRoute():
            reason = "has no signing keys: the registry it copies has none, or nothing has been copied yet"
        case AboutNoteRoute():
            reason = "does not sign its description; /-/about.json has it"
        case SummaryRoute(digest):
            reason = f"has no node {digest} in its summary, or not any more; /-/about.json names the root"
        case _:
            reason = "has not described itself yet: nothing has been copied"
    then = "" if at.size is None else f", as the registry stood at tree size {at.size}"
    return f"this mirror {reason}{then}"
