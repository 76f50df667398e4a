"""What one process knows of one log, and of the places where the log's checkpoint is shown.

It is forgotten after every failure, and then read anew: `mirrorwitness.witness.state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage
    from mirrorwitness.witness.decision import Latest
    from mirrorwitness.witness.records import LogRecord

__all__ = ["Held", "Place"]


@dataclass(slots=True)
class Place:
    """One place where our newest checkpoint of a log is shown.

    Attributes:
        storage: where.
        name: for messages.
        etag: the storage's token of what is there; None where nothing is.
        lags: whether it was older than the record when it was read.
    """

    storage: Storage
    name: str
    etag: str | None = None
    lags: bool = False


@dataclass(slots=True)
class Held:
    """What is known of one log in this process.

    Attributes:
        origin: the log.
        latest: the latest tree that we cosigned.
        timestamp: of the newest cosignature; 0 where none was.
        record: the state; None where there is none.
        etag: the storage's token of it.
        places: where its checkpoint is shown: the anchor first.
    """

    origin: str
    latest: Latest
    timestamp: int
    record: LogRecord | None
    etag: str | None
    places: tuple[Place, ...]
