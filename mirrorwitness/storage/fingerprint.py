"""Fingerprint: whether two listings of a storage said the same, and if not, near which keys they differ. Pure.

Rules:

- It takes the same memory for ten objects and for ten million: each key falls into one of `BUCKETS` buckets, and of a
  bucket there is the sum of the digests of what was listed in it, in whatever order.
- Where the sums of a bucket differ, something in it was written, added or removed. Where they are the same, nothing
  was, but by a chance of one in 2^128.

What it does not do: say which object of a bucket it was; look at those in it again.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo

__all__ = ["BUCKETS", "Fingerprint"]

BUCKETS: Final = 16_384
"""About 1 MB of sums; of ten million objects some 600 are in one bucket, and looked at again when one changed."""

_DIGEST_BYTES: Final = 16


class Fingerprint:
    """Sums of what a listing said."""

    def __init__(self) -> None:
        self._sums = [0] * BUCKETS

    def add(self, info: ObjectInfo) -> None:
        """Take an object as it was listed; each one once."""
        said = f"{info.key}\0{info.size}\0{info.etag}".encode()
        self._sums[self.bucket(info.key)] += int.from_bytes(blake2b(said, digest_size=_DIGEST_BYTES).digest())

    def bucket(self, key: str) -> int:
        """Return which bucket a key falls into."""
        return int.from_bytes(blake2b(key.encode(), digest_size=4).digest()) % BUCKETS

    def differing(self, other: Fingerprint) -> frozenset[int]:
        """Return the buckets in which two listings differ."""
        pairs = zip(self._sums, other._sums, strict=True)
        return frozenset(number for number, (one, two) in enumerate(pairs) if one != two)
