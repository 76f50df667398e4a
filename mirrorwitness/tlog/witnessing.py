"""The witness protocol as a log speaks it: the request to cosign a checkpoint, and what a witness says of sizes.

    old <N>
    <base64 of a hash>                none to 63 lines
    <an empty line>
    <the checkpoint, as it was signed>

Rules:

- A witness that last cosigned another size than ``old`` answers 409 with that size, as `SIZE_TYPE`.
- Parsing is strict; `format_known_size` of what was parsed gives back the same bytes.

What it does not do: read requests and choose answers (`mirrorwitness.witness.protocol`), or ask
(`mirrorwitness.sumdb.cosign`).

SPEC: C2SP tlog-witness, main as of July 2026 ("add-checkpoint").
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.tlog.merkle import Hash

__all__ = ["SIZE_TYPE", "format_add_checkpoint", "format_known_size", "parse_known_size"]

SIZE_TYPE: Final = "text/x.tlog.size"
"""Content-Type of the size in a 409. Exactly this: clients compare it for equality (research/A 0)."""


def format_add_checkpoint(old: int, proof: Iterable[Hash], checkpoint: bytes) -> bytes:
    """Write the body of an ``add-checkpoint``.

    Args:
        old: the size that the witness cosigned last; 0 for never.
        proof: the consistency proof from there.
        checkpoint: the whole note.
    """
    lines = [f"old {old}", *[base64.b64encode(value).decode() for value in proof]]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint


def format_known_size(size: int) -> bytes:
    """Write the body of a 409."""
    return b"%d\n" % size


def parse_known_size(body: bytes) -> int:
    """Read the body of a 409: the size that the witness cosigned last, 0 for never.

    Raises:
        UpstreamProtocolError: it is no size.
    """
    # Latin-1 reads any byte; whatever is not an ASCII digit is refused.
    text = body.decode("latin-1")
    if not text.endswith("\n"):
        raise UpstreamProtocolError(f"the witness's size {body[:100]!r}: expected a line")
    return parse_size(text[:-1], "the witness's size")
