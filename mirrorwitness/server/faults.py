"""What can be wrong with a request, and with a mirror that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import MirrorWitnessError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DamagedObjectError", "RequestError"]


class RequestError(MirrorWitnessError):
    """A request that gets an error for an answer, through no fault of the mirror.

    Attributes:
        status: the HTTP status.
        headers: headers that belong to it, such as ``Allow``.
    """

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class DamagedObjectError(StorageError):
    """A stored object that is missing, or not what the mirror wrote; the message is made for clients too."""
