"""A client over a log in memory, for tests of what it believes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mirrorwitness.sumdb.client import MAX_AGE, SumdbClient
from mirrorwitness.sumdb.ratchet import Ratchet
from mirrorwitness.sumdb.terms import Terms, make_terms
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.tlog.policy import parse_policy
from tests.fakes.storage import MemoryStorage
from tests.fakes.sumdb import LOG_KEY, POLICY, FakeSumdb, filler, make_record

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage

__all__ = ["LEFT", "NOW", "TERMS", "UNWITNESSED", "Reader", "make_log"]

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
TERMS = make_terms([LOG_KEY.verifier], parse_policy(POLICY))
UNWITNESSED = make_terms([LOG_KEY.verifier], None)
LEFT = make_record("left", "1.0.0", b"left")


def make_log(size: int = 700, *, shown: int | None = None) -> FakeSumdb:
    """Return a log that has `LEFT` at index 5."""
    records = filler(size)
    records[5:6] = [LEFT]
    return FakeSumdb(records, size=shown)


class Reader:
    """One state and one log, read by as many runs as a test wants.

    Attributes:
        log: the log.
        storage: what was verified before.
        now: the time of day.
    """

    def __init__(self, log: FakeSumdb, storage: Storage | None = None) -> None:
        self.log = log
        self.storage = storage or MemoryStorage()
        self.now = NOW

    @property
    def trust(self) -> TrustStore:
        """What was verified before."""
        return TrustStore(self.storage, place="state")

    def ratchet(self, terms: Terms = TERMS) -> Ratchet:
        """Return a ratchet, as of a new run."""
        return Ratchet(terms=terms, source=self.log, trust=self.trust, now=lambda: self.now)

    def client(self, terms: Terms = TERMS, *, max_age: timedelta = MAX_AGE) -> SumdbClient:
        """Return a client, as of a new run."""
        return SumdbClient(
            terms=terms,
            source=self.log,
            lookups=self.log,
            trust=self.trust,
            now=lambda: self.now,
            max_age=max_age,
        )
