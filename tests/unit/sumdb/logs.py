"""Records and logs for tests: a record for each number, and the keys of a log."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.log import Log, Proposal, create_log, open_log
from mirrorwitness.sumdb.records import Event, Record
from mirrorwitness.tlog.keys import KeyType, make_signer_key

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import SignerKey

__all__ = [
    "KEYS",
    "ORIGIN",
    "REGISTRY",
    "begin_log",
    "integrity_of",
    "make_proposal",
    "make_proposals",
    "make_record",
    "reopen",
]

ORIGIN = "log.example/npm"
REGISTRY = "registry.example"
KEYS = (make_signer_key(ORIGIN, b"e" * 32), make_signer_key(ORIGIN, b"m" * 32, KeyType.ML_DSA_44))


def integrity_of(text: str) -> str:
    """Return the integrity of some bytes."""
    return "sha512-" + base64.b64encode(hashlib.sha512(text.encode()).digest()).decode()


def make_record(
    name: str = "left",
    version: str = "1.0.0",
    *,
    content: str = "",
    event: Event = Event.PUBLISH,
    registry: str = REGISTRY,
    signatures: tuple[tuple[str, str], ...] = (),
) -> Record:
    """Return a record of a version; what it holds is decided by `content`."""
    return Record(
        registry=registry,
        name=PackageName(name),
        version=Version(version),
        integrity=integrity_of(content or f"{name}@{version}"),
        tarball_size=1000,
        shasum=None,
        manifest=hashlib.sha256(b"manifest").digest(),
        tarball_manifest=None,
        published="2026-01-02T03:04:05.678Z",
        signatures=signatures,
        attestations=None,
        event=event,
    )


def make_proposal(name: str = "left", version: str = "1.0.0", *, content: str = "") -> Proposal:
    """Return the proposal of a published version."""
    return Proposal(make_record(name, version, content=content))


def make_proposals(start: int, end: int) -> list[Proposal]:
    """Return proposals by number, ten versions of each package."""
    return [make_proposal(f"p{number // 10}", f"1.0.{number % 10}") for number in range(start, end)]


async def begin_log(storage: Storage, *, keys: tuple[SignerKey, ...] = KEYS, now: float = 1000.0) -> Log:
    """Begin a log and open it."""
    await create_log(storage, origin=ORIGIN, keys=keys, now=now)
    return await reopen(storage, keys=keys, now=now)


async def reopen(storage: Storage, *, keys: tuple[SignerKey, ...] = KEYS, now: float = 1000.0) -> Log:
    """Open a log that was begun."""
    return await open_log(storage, origin=ORIGIN, keys=keys, now=lambda: now)
