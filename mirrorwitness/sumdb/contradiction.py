"""Contradictions: a witness says that it saw more of our log than we have, or another history of it. Pure.

Rules:

- A claim is *proven* by a checkpoint that our own log's keys signed and that our head does not go on from: a larger
  tree, or another one of the same or a smaller size. Nobody but a holder of the log's keys can make one.
- Everything else is the witness's word. It may be true: a witness does not have to show what it cosigned.

What it does not do: ask the witness (`mirrorwitness.sumdb.cosign`), or decide what follows
(`mirrorwitness.sumdb.publisher`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.errors import SecurityError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.merkle import check_consistency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.cosignature import Statement
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["Contradiction", "is_against", "open_shown"]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What a witness says against our head.

    Attributes:
        witness: its name.
        what: what it says, as the end of a sentence that begins with its name.
        said: the body of its answer.
        shown: a checkpoint that our own keys signed and that our head does not go on from; None: its word alone.
    """

    witness: str
    what: str
    said: bytes = field(repr=False)
    shown: bytes | None = field(default=None, repr=False)


def open_shown(body: bytes, keys: Sequence[VerifierKey], origin: str) -> Checkpoint | None:
    """Return the tree that a text is a checkpoint of; None where our log did not sign it, or it is none at all.

    Args:
        body: what the witness showed.
        keys: the log's keys.
        origin: the log.
    """
    try:
        return open_checkpoint(body, keys, origin=origin).checkpoint
    except (UpstreamProtocolError, SecurityError):
        return None


def is_against(shown: Checkpoint, head: Statement, proof: Sequence[Hash]) -> bool:
    """Say whether a tree that our log signed proves that our head is not its continuation.

    Args:
        shown: the tree.
        head: what our head says.
        proof: of consistency, from the size that is shown to our head's; of no meaning where that is not smaller.
    """
    if shown.size > head.end:
        return True
    given = proof if shown.size < head.end else ()
    try:
        check_consistency(given, old_size=shown.size, old_root=shown.root, new_size=head.end, new_root=head.root)
    except SecurityError:
        return True
    return False
