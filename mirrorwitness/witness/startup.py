"""Whether a witness may start on a storage at all (P7): whose it is, and whether anything that it signed was lost.

Rules:

- A storage belongs to the keys that ever signed from it (`Identity`), and so does an anchor; a witness that brings none
  of them is refused, so that neither is used under the wrong key. A new key beside an old one is a rotation, and is
  taken in.
- What the storage and the anchor know of keys is joined: a key that either of them has as retired never signs again.
- Where checkpoints are published, here or in the anchor, and the identity or a log's record is gone, state was lost:
  refused, naming the ways out. `restore_identity` is the end of one of them.
- Of up to `CHECKED_LOGS` logs the record is compared with what is published before the first request; of more, each
  before its first request.
- What a crash took of what was published is published again, of all logs, one after the other (`publish_again`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    RolledBackError,
    StorageError,
)
from mirrorwitness.storage.swap import swap
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.witness.records import IDENTITY_KEY, PUBLIC_PREFIX, RECORD_PREFIX, WAY_OUT, Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.logs import LogSet
    from mirrorwitness.witness.service import Witness
    from mirrorwitness.witness.state import WitnessState

__all__ = [
    "check_identity",
    "check_kept",
    "check_states",
    "open_identity",
    "publish_again",
    "restore_identity",
    "retire_keys",
]

CHECKED_LOGS: Final = 200
"""Three reads each: some seconds of a bucket's time."""

IDENTITY_LIMIT: Final = 1024 * 1024

_log = logging.getLogger("mirrorwitness.witness")


@dataclass(frozen=True, slots=True)
class _Place:
    """The storage or the anchor, and what it says of whose it is.

    Attributes:
        name: for messages.
        storage: the place.
        identity: what is written there; None where nothing is.
        etag: the storage's token of it.
    """

    name: str
    storage: Storage
    identity: Identity | None
    etag: str | None


async def open_identity(
    storage: Storage, anchor: Storage | None, keys: Sequence[VerifierKey]
) -> tuple[VerifierKey, ...]:
    """Check that these keys may sign from this storage, and note them; return all keys that ever signed from it.

    Raises:
        ConfigurationError: another witness's storage or anchor, or a retired key.
        RolledBackError: state was lost.
        StorageError: the storage failed.
    """
    identity, places = await _look(storage, anchor, keys)
    if places[0].identity is None:
        lost = await _find_lost(places)
        if lost is not None:
            identity, places = await _look(storage, anchor, keys)
            if places[0].identity is None:  # else another process began, and signed, since we looked first
                raise RolledBackError(lost)
    return await _note(identity, places)


async def check_identity(
    storage: Storage, anchor: Storage | None, keys: Sequence[VerifierKey]
) -> tuple[VerifierKey, ...]:
    """Do as `open_identity` where state may have been lost, and write nothing.

    Raises:
        ConfigurationError: another witness's storage or anchor, or a retired key.
        RolledBackError: an identity is damaged.
        StorageError: the storage failed.
    """
    identity, _ = await _look(storage, anchor, keys)
    return _parse(identity)


async def restore_identity(storage: Storage, anchor: Storage | None, keys: Sequence[VerifierKey]) -> None:
    """Note whose storage this is, after the operator said from which checkpoint it goes on.

    Raises:
        ConfigurationError: another witness's storage or anchor, or a retired key.
        RolledBackError: an identity is damaged.
        StorageError: the storage failed.
    """
    await _note(*await _look(storage, anchor, keys))


async def check_kept(storage: Storage, anchor: Storage | None, keys: Sequence[VerifierKey]) -> None:
    """Check that keys which sign already may go on: none was retired meanwhile, and whose storage it is stands there.

    Raises:
        ConfigurationError: another witness's storage or anchor, or a retired key.
        RolledBackError: an identity is gone, or damaged.
        StorageError: the storage failed.
    """
    _, places = await _look(storage, anchor, keys)
    for place in places:
        if place.identity is None:
            raise RolledBackError(f"{place.name} has no witness's identity any more ({IDENTITY_KEY}): {WAY_OUT}")


async def check_states(storage: Storage, anchor: Storage | None, logs: LogSet, state: WitnessState) -> None:
    """Check that nothing that was published is unknown to the state.

    Raises:
        RolledBackError: state was lost, or is older than what was published.
        StorageError: the storage failed.
    """
    shown: list[tuple[str, str]] = []
    for place, name in ((storage, "this storage"), (anchor, "the anchor")):
        if place is not None:
            shown += [(name, key) for key in await list_keys(place, PUBLIC_PREFIX)]
    # Listed last, as another process writes the record of a log's first cosignature before it publishes that.
    known = {key.removeprefix(RECORD_PREFIX).removesuffix(".json") for key in await list_keys(storage, RECORD_PREFIX)}
    for name, key in shown:
        digest = key.removeprefix(PUBLIC_PREFIX).removesuffix("/checkpoint")
        if digest not in known:
            log = logs.by_hash(digest)
            subject = repr(log.origin) if log else f"a log that is not configured any more ({digest})"
            raise RolledBackError(f"{name} has a published checkpoint of {subject}, and no state: {WAY_OUT}")
    if len(logs) <= CHECKED_LOGS:
        for log in logs:
            async with state.lock(log.origin):
                await state.find(log.origin)


async def publish_again(witness: Witness) -> None:
    """Publish what a machine that lost power, or a process that died, left unpublished; while requests are answered.

    *Errors*: logged; such a log's next request is told the same. *Cancellation*: at any time, for good.
    """
    for log in witness.logs:
        try:
            await witness.publish_again(log)
        except RolledBackError as error:
            _log.error("witness_rolled_back", extra={"origin": log.origin, "error": str(error)})
        except StorageError as error:
            _log.error("witness_storage", extra={"origin": log.origin, "error": str(error)})


async def retire_keys(storage: Storage, anchor: Storage | None, keys: Sequence[VerifierKey]) -> Identity:
    """Note that keys never sign from this storage again; idempotent.

    Raises:
        StorageError: the storage failed; the anchor may be written and the storage not.
    """
    identity = Identity()
    for place in (anchor, storage):
        if place is None:
            continue
        found, etag = await _read(place)
        before = found or Identity()
        names = [str(key) for key in keys]
        identity = msgspec.structs.replace(
            before,
            keys=tuple(dict.fromkeys([*before.keys, *names])),
            retired=tuple(dict.fromkeys([*before.retired, *names])),
        )
        await _write(place, identity, etag)
    return identity


async def _look(storage: Storage, anchor: Storage | None, keys: Sequence[VerifierKey]) -> tuple[Identity, list[_Place]]:
    """Return whose storage this is once these keys belong to it, and what is written now, the storage first."""
    places = [_Place("this storage", storage, *await _read(storage))]
    if anchor is not None:
        places.append(_Place("the anchor", anchor, *await _read(anchor)))
    given = [str(key) for key in keys]
    for place in places:
        owners = place.identity.keys if place.identity is not None else ()
        if owners and not set(given) & set(owners):
            raise ConfigurationError(
                f"{place.name} is that of the witness {_names(owners)}, and none of its keys was given; in a rotation "
                "the new key is given beside the old one"
            )
    known = [place.identity for place in places if place.identity is not None]
    retired = dict.fromkeys(text for identity in known for text in identity.retired)
    refused = [key.name for key in keys if str(key) in retired]
    if refused:
        raise ConfigurationError(f"the key {refused[0]} was retired, and never signs again; make a new one")
    names = dict.fromkeys([*(text for identity in known for text in identity.keys), *given])
    return Identity(keys=tuple(names), retired=tuple(retired)), places


async def _note(identity: Identity, places: Sequence[_Place]) -> tuple[VerifierKey, ...]:
    for place in places:
        if place.identity != identity:
            await _write(place.storage, identity, place.etag)
    return _parse(identity)


async def _find_lost(places: Sequence[_Place]) -> str | None:
    """Say what shows that the storage, which has no identity, is not a new one; None where nothing does."""
    for place in places:
        for prefix, title in ((PUBLIC_PREFIX, "published checkpoints"), (RECORD_PREFIX, "records of logs")):
            if (await place.storage.list(prefix, limit=1)).objects:
                return f"{place.name} has {title}, and this storage no witness's identity: {WAY_OUT}"
        if place.identity is not None:
            return f"{place.name} knows this witness, and the storage has no state at all: {WAY_OUT}"
    return None


def _parse(identity: Identity) -> tuple[VerifierKey, ...]:
    return tuple([parse_verifier_key(text, *COSIGNER_KEYS) for text in identity.keys])


async def _read(storage: Storage) -> tuple[Identity | None, str | None]:
    try:
        body, info = await storage.read(IDENTITY_KEY, limit=IDENTITY_LIMIT)
    except ObjectMissingError:
        return None, None
    try:
        return msgspec.json.decode(body, type=Identity), info.etag
    except UNREADABLE_JSON as error:
        raise RolledBackError(f"{IDENTITY_KEY} is damaged: {error}; restore it from the anchor or a copy") from error


async def _write(storage: Storage, identity: Identity, etag: str | None) -> None:
    """Write an identity; another replica may have written the same at the same time."""
    try:
        await swap(storage, IDENTITY_KEY, msgspec.json.encode(identity), etag=etag)
    except PreconditionFailedError as error:
        lost = error
    else:
        return
    found, _ = await _read(storage)
    if found is None or not set(identity.keys) <= set(found.keys) or set(found.retired) != set(identity.retired):
        raise lost


def _names(vkeys: Sequence[str]) -> str:
    return ", ".join(sorted({text.partition("+")[0] for text in vkeys}))
