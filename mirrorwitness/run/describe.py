"""Publish what a mirror says of itself: the description, its signature, and the root of the summary of all versions.

Rules:

- The description names the root that the storage has at that moment, so of two workers that publish at once neither
  brings an older tree back for longer than until the next publication.
- The document is written first, the note second. Whoever reads the note reads nothing else, so the two need not agree.
- A mirror that has lost its key stops signing visibly: a note of an older run is removed, never left to grow old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import orjson

from mirrorwitness.errors import ConfigurationError, ObjectMissingError, StorageError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.about import ABOUT_SCHEMA, describe_summary, format_about, sign_about
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.health import current_cursors, lag_of
from mirrorwitness.mirror.keeper import SummaryKeeper
from mirrorwitness.mirror.nodes import NodeStore
from mirrorwitness.mirror.notes import Notes
from mirrorwitness.mirror.parts import Digests
from mirrorwitness.mirror.snapshot import read_cursors
from mirrorwitness.mirror.summarize import Summarizer
from mirrorwitness.run.session import now, open_mirror
from mirrorwitness.tlog.keys import parse_signer_key
from mirrorwitness.tlog.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from mirrorwitness.config import Config
    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.nodes import Head
    from mirrorwitness.run.session import Wishes
    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import SignerKey

__all__ = [
    "Rebuilt",
    "find_signer",
    "make_summarizer",
    "publish_about",
    "read_lag",
    "read_mirror_key",
    "rebuild_summary",
    "take_in",
]

_KEY_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What `rebuild_summary` did.

    Attributes:
        head: the new root.
        nodes: nodes of the new tree.
        removed: nodes that belong to no tree.
        is_described: whether a description was there, which names the new root now.
    """

    head: Head
    nodes: int
    removed: int
    is_described: bool


def read_mirror_key(config: Config) -> SignerKey | None:
    """Read the configured key, None where there is none.

    Raises:
        ConfigurationError: the file cannot be read, or holds something else.
    """
    path = config.mirror_key
    if path is None:
        return None
    try:
        return parse_signer_key(_read(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"mirror_key {path}: {error}") from error


def make_summarizer(storage: Storage) -> Summarizer:
    """Put together what writes a mirror's summary."""
    return Summarizer(catalogue=Catalogue(storage), nodes=NodeStore(storage), now=now)


async def read_lag(storage: Storage, *, at: datetime) -> float | None:
    """Return how far a mirror is behind its registry's feed, in seconds: of several shards the slowest one.

    Returns:
        None where no feed is followed, or a follower has not caught up yet.
    """
    cursors, damaged = await read_cursors(storage)
    lags = [lag_of(cursor.record, at) for cursor in current_cursors(cursors)]
    known = [lag for lag in lags if lag is not None]
    return None if damaged or len(known) < len(lags) else max(known, default=None)


async def publish_about(storage: Storage, about: dict[str, object], key: SignerKey | None) -> None:
    """Write a mirror's description, and its signature where it has a key.

    Raises:
        StorageError: the storage failed.
    """
    body = format_about(about)
    await storage.put(layout.MIRROR_KEY, body, content_type="application/json")
    if key is None:
        await storage.delete(layout.NOTE_KEY)
    else:
        await storage.put(layout.NOTE_KEY, sign_about(body, key), content_type="text/plain; charset=utf-8")


async def find_signer(config: Config, storage: Storage) -> SignerKey | None:
    """Return the configured key, for a command that will publish another root outside of a run.

    Raises:
        ConfigurationError: the description is signed and no key is configured, or the key cannot be read.
    """
    key = read_mirror_key(config)
    if key is None and await storage.stat(layout.NOTE_KEY) is not None:
        raise ConfigurationError(
            "the mirror's description is signed, and it has to name the new summary: configure mirror_key, "
            f"or remove {layout.NOTE_KEY}"
        )
    return key


async def take_in(
    storage: Storage, records: Sequence[PackageRecord], *, key: SignerKey | None, directory: Path | None
) -> None:
    """Bring the summary up to date for packages that were changed outside of a run, and publish its root.

    Args:
        storage: the mirror.
        records: the packages as they are now.
        key: what `find_signer` gave.
        directory: where temporary files go.

    Raises:
        StorageError: the storage failed, or the summary is damaged.
    """
    with SummaryKeeper(summarizer=make_summarizer(storage), directory=directory) as keeper:
        for record in records:
            await keeper.note(record)
        await _republish(storage, await keeper.update(), key)


async def rebuild_summary(wishes: Wishes) -> Rebuilt:
    """Write a mirror's summary anew from its records, publish its root, and remove all nodes that are not part of it.

    Raises:
        ConfigurationError: the description is signed, and no key is configured.
        StorageError: the storage failed.
    """
    async with open_mirror(wishes.config) as storage:
        key = await find_signer(wishes.config, storage)
        with Notes(wishes.config.spool_directory) as notes, Digests(wishes.config.spool_directory) as live:
            head = await make_summarizer(storage).rebuild(notes, live.add)
            is_described = await _republish(storage, head, key)
            nodes, removed = await _sweep(storage, live)
    return Rebuilt(head, nodes, removed, is_described)


async def _sweep(storage: Storage, live: Digests) -> tuple[int, int]:
    nodes = removed = 0
    store = NodeStore(storage)
    for number in range(256):
        part = f"{number:02x}"
        known = await live.part(part)
        nodes += len(known)
        removed += await store.sweep_all(known.__contains__, part=part)
    return nodes, removed


async def _republish(storage: Storage, head: Head, key: SignerKey | None) -> bool:
    """Let the description name another root."""
    try:
        body, _ = await storage.read(layout.MIRROR_KEY, limit=MAX_NOTE_BYTES)
    except ObjectMissingError:
        return False
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise StorageError(f"{layout.MIRROR_KEY} is damaged: {error}; the next sync writes it again") from error
    about = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    if about.get("schema") != ABOUT_SCHEMA:
        raise StorageError(f"{layout.MIRROR_KEY} was written by another version; the next sync writes it again")
    about["summary"] = describe_summary(head)
    about["mirror_key"] = None if key is None else str(key.verifier)
    await publish_about(storage, about, key)
    return True


def _read(path: Path) -> str:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}") from error
    if len(body) > _KEY_BYTES:
        raise ConfigurationError(f"has {len(body)} bytes; a key has under 300")
    return body.decode("utf-8", "replace").strip()
