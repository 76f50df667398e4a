"""What is pending: which checkpoints are kept, and how far a copy goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageRefusedError
from mirrorwitness.logmirror.record import (
    KEPT_PENDINGS,
    PendingRecord,
    add_pending,
    parse_pending_record,
    pending_of,
    raise_next,
)
from tests.unit.logmirror.world import LAB

if TYPE_CHECKING:
    from mirrorwitness.logmirror.decision import Pending

RECORD = PendingRecord(origin=LAB.origin, secret="ab" * 32)


def pending(size: int) -> Pending:
    return pending_of(LAB.checkpoint(size))


def sizes(record: PendingRecord) -> list[int]:
    return [each.size for each in record.known(None).pendings]


def test_the_last_pending_checkpoints_are_kept() -> None:
    """Those below the mirror checkpoint are of no more use; the same size comes in the place of the one before."""
    record = RECORD
    for size in range(10, 30):
        record = add_pending(record, pending(size), above=0)
    assert sizes(record) == list(range(30 - KEPT_PENDINGS, 30))
    assert sizes(add_pending(record, pending(30), above=28)) == [28, 29, 30]
    assert sizes(add_pending(record, pending(29), above=0)) == sizes(record)


def test_the_next_entry_only_grows() -> None:
    """Whoever knows less changes nothing."""
    record = raise_next(RECORD, 300)
    assert record.next == 300
    assert raise_next(record, 300) is record
    assert raise_next(record, 299) is record


@pytest.mark.parametrize("body", [b'{"origin":"%s","secret":"%s","next":-1}', b'{"origin":"%s","secret":"ab"}'])
def test_what_is_no_record(body: bytes) -> None:
    """The message has the key, and what deleting it means."""
    origin, secret = LAB.origin.encode(), b"ab" * 32
    with pytest.raises(StorageRefusedError, match=r"k is not what is pending .* takes the entries anew"):
        parse_pending_record(body % ((origin, secret)[: body.count(b"%s")]), origin=LAB.origin, key="k")
