"""Digests: what bytes were promised to be, and what they are.

Rules:

- An integrity string is a list of hashes as in Subresource Integrity: ``sha512-<base64>``, separated by white space,
  options behind ``?`` dropped. Base64 is strict (canonical alphabet and padding) and a digest has its algorithm's
  length; what is not so is no hash.
- The strongest known algorithm decides (sha512 > sha384 > sha256 > sha1) and any one of its digests may match; weaker
  ones are not looked at. md5 and unknown algorithms are kept for the record and never trusted.
- ``shasum`` counts only where there is no integrity at all: a document with an integrity that cannot be used promises
  nothing, however good its shasum.
- Verifying needs at most two hash objects: the one that decides, and sha512 for the record.

What this module does not do: read files, or decide what a weak or missing promise is worth.

SPEC: W3C Subresource Integrity 3.5; npm's ``ssri``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mirrorwitness.errors import IntegrityMismatchError

__all__ = [
    "MAX_INTEGRITY_LENGTH",
    "Expectation",
    "Hash",
    "Integrity",
    "Strength",
    "Verifier",
    "is_same_content",
    "make_expectation",
    "parse_integrity",
]

MAX_INTEGRITY_LENGTH: Final = 8192
"""Longest integrity string in characters that is read: 80 sha512 hashes. Real ones have one or two."""

_DIGEST_BYTES: Final = {"sha512": 64, "sha384": 48, "sha256": 32, "sha1": 20}
"""The known algorithms, strongest first, and the length of their digests."""

_WEAK: Final = "sha1"
_RECORDED: Final = "sha512"
_HASH: Final = re.compile(r"([a-z0-9]+)-([A-Za-z0-9+/]+={0,2})(?:\?[\x21-\x7e]*)?")
_SHASUM: Final = re.compile(r"[0-9a-fA-F]{40}")

Strength: TypeAlias = Literal["strong", "weak", "none"]
"""strong: SHA-2; weak: SHA-1 only; none: nothing that can be checked."""


@dataclass(frozen=True, slots=True)
class Hash:
    """One hash of an integrity string.

    Attributes:
        algorithm: its name, lower case, known or not.
        digest: the decoded digest.
    """

    algorithm: str
    digest: bytes

    def __str__(self) -> str:
        """Return the hash as it stands in an integrity string."""
        return f"{self.algorithm}-{base64.b64encode(self.digest).decode()}"


@dataclass(frozen=True, slots=True)
class Integrity:
    """All hashes of an integrity string, in order, unknown algorithms included."""

    hashes: tuple[Hash, ...]

    def digests(self, algorithm: str) -> frozenset[bytes]:
        """Return the digests of one algorithm."""
        return frozenset(found.digest for found in self.hashes if found.algorithm == algorithm)

    @property
    def strongest(self) -> str | None:
        """The strongest known algorithm that it has a digest of."""
        return next((algorithm for algorithm in _DIGEST_BYTES if self.digests(algorithm)), None)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What bytes must match.

    Attributes:
        strength: how much a match proves.
        algorithm: the algorithm that decides; None where nothing can be checked.
        digests: any one of these is right.
    """

    strength: Strength
    algorithm: str | None = None
    digests: frozenset[bytes] = frozenset()


def parse_integrity(text: str) -> Integrity:
    """Read an integrity string; what is no hash in it is left away, so the result can be empty."""
    if len(text) > MAX_INTEGRITY_LENGTH:
        return Integrity(())
    found = [_parse_hash(word) for word in text.split()]
    return Integrity(tuple([entry for entry in found if entry is not None]))


def make_expectation(integrity: str | None, shasum: str | None) -> Expectation:
    """Say what a version's bytes must match.

    Args:
        integrity: ``dist.integrity``, None or empty where there is none.
        shasum: ``dist.shasum``, hex SHA-1; used only where there is no integrity.

    Returns:
        The expectation; its strength is ``none`` where neither can be used.
    """
    if not integrity:
        if shasum and _SHASUM.fullmatch(shasum):
            return Expectation("weak", _WEAK, frozenset({bytes.fromhex(shasum)}))
        return Expectation("none")
    parsed = parse_integrity(integrity)
    algorithm = parsed.strongest
    if algorithm is None:
        return Expectation("none")
    return Expectation("weak" if algorithm == _WEAK else "strong", algorithm, parsed.digests(algorithm))


def is_same_content(first: str | None, second: str | None) -> bool | None:
    """Return whether two integrity strings promise the same bytes.

    Args:
        first: an integrity string.
        second: another one.

    Returns:
        True or False by the strongest algorithm that both have: the same set of digests, because one that gained a
        digest promises other bytes as well. None where they have no known algorithm in common, so nothing can be said.
    """
    left, right = parse_integrity(first or ""), parse_integrity(second or "")
    for algorithm in _DIGEST_BYTES:
        if left.digests(algorithm) and right.digests(algorithm):
            return left.digests(algorithm) == right.digests(algorithm)
    return None


class Verifier:
    """Hashes bytes as they come and compares at the end."""

    def __init__(self, expectation: Expectation) -> None:
        self._expectation = expectation
        self._size = 0
        self._record = hashlib.sha512()
        # Which hash decides is upstream's choice; SHA-1 is used where it is all there is, and called weak.
        algorithm = expectation.algorithm
        separate = algorithm is not None and algorithm != _RECORDED
        self._deciding = hashlib.new(algorithm, usedforsecurity=False) if separate and algorithm else None

    def __repr__(self) -> str:
        """Show what is expected and how much came."""
        return f"<Verifier {self._expectation.algorithm} {self._expectation.strength}, {self._size} bytes so far>"

    @property
    def size(self) -> int:
        """How many bytes came so far."""
        return self._size

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._size += memoryview(chunk).nbytes
        self._record.update(chunk)
        if self._deciding is not None:
            self._deciding.update(chunk)

    def sri(self) -> str:
        """Return the sha512 of the bytes so far as an integrity string. For records; never for a served document."""
        return str(Hash(_RECORDED, self._record.digest()))

    def check(self) -> None:
        """Check the bytes so far against the expectation.

        Raises:
            IntegrityMismatchError: they do not match, or there is nothing that they could match (strength ``none``).
        """
        expected = self._expectation
        if expected.algorithm is None:
            raise IntegrityMismatchError(f"nothing to check {self._size} bytes against: no usable integrity or shasum")
        found = (self._deciding or self._record).digest()
        if found not in expected.digests:
            wanted = " or ".join(sorted(str(Hash(expected.algorithm, digest)) for digest in expected.digests))
            raise IntegrityMismatchError(
                f"expected {wanted}, found {Hash(expected.algorithm, found)} ({self._size} bytes)"
            )


def _parse_hash(word: str) -> Hash | None:
    found = _HASH.fullmatch(word)
    if found is None:
        return None
    try:
        digest = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return None
    entry = Hash(found[1], digest)
    if f"{found[1]}-{found[2]}" != str(entry):  # bits behind the end: a second spelling of the same digest
        return None
    return entry if _DIGEST_BYTES.get(entry.algorithm, len(digest)) == len(digest) else None
