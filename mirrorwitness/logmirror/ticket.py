"""Tickets: a pending checkpoint in the client's hand, for when the mirror does not remember it any more. Pure.

    version (1 byte) / HMAC-SHA-256 over the origin and the checkpoint / the checkpoint

Rules:

- The secret is drawn once for each log, and lies in its record (`mirrorwitness.logmirror.record`): a ticket is good
  after a restart and at every replica, and never for another log.
- A ticket says that this mirror once proved that checkpoint to be consistent with all that it knew. So only what is
  authenticated counts: the log's own signature is not enough, a log that forks has that as well.
- What cannot be opened is no ticket: the client is told of a checkpoint that is known.

SPEC: C2SP tlog-mirror: "The mirror MUST authenticate any information it derives from a ticket".
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from mirrorwitness.logmirror.protocol import MAX_TICKET_BYTES

__all__ = ["SECRET_BYTES", "make_ticket", "open_ticket"]

SECRET_BYTES: Final = 32

_VERSION: Final = b"\x01"
_DIGEST_BYTES: Final = 32
_HEAD_BYTES: Final = len(_VERSION) + _DIGEST_BYTES


def make_ticket(secret: bytes, origin: str, checkpoint: bytes) -> bytes:
    """Return the ticket for a checkpoint; an empty one where the note is too long for any."""
    if len(checkpoint) > MAX_TICKET_BYTES - _HEAD_BYTES:
        return b""
    return _VERSION + _authenticate(secret, origin, checkpoint) + checkpoint


def open_ticket(secret: bytes, origin: str, ticket: bytes) -> bytes | None:
    """Return the checkpoint of a ticket of ours, None for anything else."""
    version, digest, checkpoint = ticket[:1], ticket[1:_HEAD_BYTES], ticket[_HEAD_BYTES:]
    if version != _VERSION or not hmac.compare_digest(digest, _authenticate(secret, origin, checkpoint)):
        return None
    return checkpoint


def _authenticate(secret: bytes, origin: str, checkpoint: bytes) -> bytes:
    name = origin.encode()
    message = b"log mirror ticket\n%d\n%b\n%b" % (len(name), name, checkpoint)
    return hmac.new(secret, message, hashlib.sha256).digest()
