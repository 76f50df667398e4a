"""A checksum database in memory: a log that grows by records of the tests, and the application over it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.server.lookups import Lookups
from mirrorwitness.server.sumdb import make_sumdb_app
from mirrorwitness.sumdb.log import Proposal, create_log, open_log
from mirrorwitness.sumdb.records import Event, Record
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from tests.fakes.storage import MemoryStorage
from tests.unit.server.asgi_client import AsgiClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.server.lookups import Bring
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.log import Log, Sequenced

__all__ = ["KEYS", "NOW", "ORIGIN", "SumdbWorld", "make_record"]

ORIGIN = "sum.example/npm"
KEYS = (
    make_signer_key(ORIGIN, bytes([11] * 32)),
    make_signer_key(ORIGIN, bytes([12] * 32), KeyType.ML_DSA_44),
)
NOW = 1_700_000_000.0


def make_record(name: str, version: str, *, event: Event = Event.PUBLISH, content: bytes = b"") -> Record:
    """Return a record of some bytes."""
    digest = hashlib.sha512(content or f"{name}@{version}".encode()).digest()
    return Record(
        registry="registry.example",
        name=PackageName(name),
        version=Version(version),
        integrity=f"sha512-{base64.b64encode(digest).decode()}",
        tarball_size=100,
        shasum=None,
        manifest=None,
        tarball_manifest=None,
        published=None,
        signatures=(),
        attestations=None,
        event=event,
    )


@dataclass
class SumdbWorld:
    """What outlives a process.

    Attributes:
        storage: has the log.
        log: the open log.
    """

    storage: Storage = field(default_factory=MemoryStorage)
    opened: Log | None = None

    @property
    def log(self) -> Log:
        assert self.opened is not None
        return self.opened

    async def start(self) -> None:
        """Begin a log, and open it."""
        await create_log(self.storage, origin=ORIGIN, keys=KEYS, now=NOW)
        self.opened = await open_log(self.storage, origin=ORIGIN, keys=KEYS, now=lambda: NOW)

    async def grow(self, *records: Record, publishes: bool = True) -> tuple[Sequenced, ...]:
        """Log some records, and publish the head as the log signed it."""
        done = await self.log.append([Proposal(record) for record in records])
        if publishes:
            await self.log.publish(self.log.head)
        return done

    async def fill(self, count: int, name: str = "filler") -> None:
        """Log so many records of one package."""
        await self.grow(*[make_record(name, f"{number}.0.0") for number in range(count)])

    def client(
        self,
        *,
        bring: Bring | None = None,
        wait_published: Callable[[int], Awaitable[None]] | None = None,
        at: int | None = None,
        deadline: float = 20.0,
    ) -> AsgiClient:
        """Return a client of a new process."""
        lookups = Lookups(storage=self.storage, bring=bring, wait_published=wait_published, deadline=deadline)
        return AsgiClient(make_sumdb_app(storage=self.storage, lookups=lookups, at=at), host="sum.example")
