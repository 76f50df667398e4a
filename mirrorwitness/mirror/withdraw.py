"""Carry out what was decided about withdrawn versions: tombstones, manifests of what is held, moves of bytes.

Order, and why a kill anywhere leaves no lie behind (P2, P5); `mirrorwitness.mirror.package` calls in this order:

1. `restore`: bytes that were released come back from quarantine, verified. Nothing names them yet;
2. `hold`: the document gets the manifests of held versions, and goes through the same gate as all others;
3. `bury`: tombstones, facts that are true whatever comes next. One stone is one object, so telling it twice tells it
   once;
4. documents and record without the barred versions: from here on nobody counts on their bytes;
5. `move`: bytes go to quarantine, or are deleted; then the record says so. Both can be done twice.

What this does not do: decide (`mirrorwitness.mirror.withdrawal`), or write documents.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import IntegrityMismatchError, ObjectMissingError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import PackageRecord, Tombstone
from mirrorwitness.mirror.gate import changed_promise
from mirrorwitness.mirror.keep import read_stored
from mirrorwitness.mirror.withdrawal import Event, Place, judge, make_stone
from mirrorwitness.npm.json_text import split_members
from mirrorwitness.npm.manifest import read_manifest
from mirrorwitness.npm.offloop import run_off_loop
from mirrorwitness.npm.ranges import version_order
from mirrorwitness.npm.splice import read_version_text, restore_versions
from mirrorwitness.storage.side_by_side import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.tarballs import Tarballs
    from mirrorwitness.mirror.withdrawal import Judgement, Release, WithdrawnPolicy
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.storage import Storage

__all__ = ["Withdrawals", "judge_package"]

SAID_LIMIT: Final = 4096
"""Bytes of each thing that upstream said and a tombstone repeats; a stub's list of versions may be longer than that."""

MANIFEST_LIMIT: Final = 256 * 1024
"""Bytes of the largest manifest that a tombstone keeps; the largest real ones have some 100 kB."""

AT_ONCE: Final = 8
"""Tombstones and moves of one package at once: a package may have 37,000 versions, and other packages are at work."""

SHOWN: Final = 5
"""Versions named in an alarm; it says how many there are."""


class Withdrawals:
    """Withdrawn versions of single packages, under one policy.

    Args:
        storage: the mirror.
        catalogue: its records and tombstones.
        tarballs: moves bytes.
        policy: what the operator wants.
        stamp: gives the time of day as ISO 8601.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        catalogue: Catalogue,
        tarballs: Tarballs,
        policy: WithdrawnPolicy,
        stamp: Callable[[], str],
    ) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._tarballs = tarballs
        self._stamp = stamp
        self.policy = policy

    def __repr__(self) -> str:
        return f"<Withdrawals {self.policy}>"

    def judge(
        self, packument: Packument, record: PackageRecord, releases: Collection[Release], *, is_deleted: bool = False
    ) -> Judgement:
        """Decide about a package; `is_deleted`: upstream has no document, and that was confirmed."""
        return judge_package(packument, record, releases, policy=self.policy, is_deleted=is_deleted)

    async def restore(self, record: PackageRecord, judgement: Judgement) -> PackageRecord:
        """Bring released bytes back from quarantine, and write the judgement into the record that is worked with."""
        name = record.name
        versions = {
            version: msgspec.structs.replace(
                item, withdrawn=judgement.stones.get(version, ""), released=version in judgement.released
            )
            for version, item in record.versions.items()
        }
        for version in judgement.back:
            item = versions[version]
            source, target = layout.quarantine_key(name, item.file), layout.tarball_key(name, item.file)
            try:
                await self._tarballs.move(source, target, item, what=f"{name}@{version}")
            except (IntegrityMismatchError, ObjectMissingError):
                # Gone from quarantine: a run that died here has moved them already, or nobody has them.
                if await self._storage.stat(target) is None:
                    versions[version] = msgspec.structs.replace(item, place=Place.PURGED)
                    continue
            versions[version] = msgspec.structs.replace(item, place=Place.PUBLIC)
        return msgspec.structs.replace(record, versions=versions)

    async def hold(self, packument: Packument, record: PackageRecord, judgement: Judgement) -> Packument:
        """Return the document with the manifests of the versions that are served although upstream withdrew them."""
        held = sorted((v for v in judgement.held if not record.versions[v].damaged), key=version_order)
        if not held:
            return packument
        name = packument.name
        stored = await read_stored(self._storage, name)
        manifests: dict[Version, bytes] = {}
        times: dict[str, str] = {}
        for version in held:
            text, published = await self._find_manifest(stored, record, version)
            manifest = None if text is None else read_manifest(version, msgspec.Raw(text), name)
            if text is None or manifest is None or manifest.refused is not None:
                continue
            if changed_promise(manifest, record.versions[version]) is not None:
                continue  # not the manifest of these bytes: somebody altered the document
            manifests[version] = text
            if published is not None:
                times[version] = published
        if not manifests:
            return packument
        # Upstream's stub says nothing any more, of the readme or of the owner; what we have does.
        base = stored if stored is not None and not packument.versions else packument
        listed = packument.versions.keys()
        return await run_off_loop(
            base.size, lambda: restore_versions(base, listed=listed, manifests=manifests, times=times)
        )

    async def bury(
        self, packument: Packument, record: PackageRecord, judgement: Judgement, *, is_deleted: bool
    ) -> list[str]:
        """Write tombstones for what is new, and return sentences for the operator.

        Args:
            packument: upstream's document.
            record: the package's record as it was before the judgement.
            judgement: what was decided.
            is_deleted: upstream has no document any more.
        """
        if not judgement.fresh:
            return []
        stored = await read_stored(self._storage, packument.name)
        said = {"status": msgspec.Raw(b'"404, confirmed"')} if is_deleted else _quote(packument)
        digest = _digest(packument, record, is_deleted=is_deleted)

        async def write(version: Version) -> None:
            event = judgement.fresh[version]
            text = None if stored is None or version not in stored.versions else read_version_text(stored, version)
            before = None if stored is None else stored.time.get(version)
            tombstone = Tombstone(
                name=packument.name,
                version=version,
                event=event,
                seen=self._stamp(),
                policy=self.policy,
                upstream=said,
                held=record.versions[version],
                published=packument.time.get(version) or before,
                manifest=msgspec.UNSET if text is None else _keep(text),
            )
            await self._catalogue.add_tombstone(tombstone, make_stone(event, digest))

        await for_each(judgement.fresh, write, at_once=min(AT_ONCE, len(judgement.fresh)))
        return self._alarms(packument.name, record, judgement)

    async def move(self, record: PackageRecord, judgement: Judgement) -> PackageRecord:
        """Take barred bytes to where they belong, and return the record that says so. No document names them."""
        name = record.name
        versions = dict(record.versions)

        async def move(version: Version) -> None:
            item, place = versions[version], judgement.places[version]
            key, aside = layout.tarball_key(name, item.file), layout.quarantine_key(name, item.file)
            if place is Place.QUARANTINE:
                try:
                    await self._tarballs.move(key, aside, item, what=f"{name}@{version}")
                except ObjectMissingError:
                    pass  # moved by a run that died, or lost before
                except IntegrityMismatchError:
                    # Rotten bytes prove nothing; what must not happen is that they stay in the public part.
                    await self._storage.delete(key)
            else:
                await self._storage.delete(key)
                await self._storage.delete(aside)
            versions[version] = msgspec.structs.replace(item, place=place)

        await for_each(judgement.places, move, at_once=min(AT_ONCE, len(judgement.places)))
        return msgspec.structs.replace(record, versions=versions)

    async def _find_manifest(
        self, stored: Packument | None, record: PackageRecord, version: Version
    ) -> tuple[bytes | None, str | None]:
        """Return the manifest that was served last, and the time of publication: from the document or a tombstone."""
        if stored is not None and version in stored.versions:
            return read_version_text(stored, version), stored.time.get(version)
        name = record.name
        tombstone = await self._catalogue.read_tombstone(name, version, record.versions[version].withdrawn)
        if tombstone is None or tombstone.manifest is msgspec.UNSET:
            # The newest may tell of a version that had left the document before; an older one has it.
            stones = [stone for _, stone in await self._catalogue.read_tombstones(name, version)]
            fitting = [stone for stone in stones if stone.manifest is not msgspec.UNSET]
            tombstone = fitting[-1] if fitting else tombstone
        if tombstone is None or tombstone.manifest is msgspec.UNSET:
            return None, None
        return bytes(tombstone.manifest), tombstone.published

    def _alarms(self, name: PackageName, record: PackageRecord, judgement: Judgement) -> list[str]:
        alarms: list[str] = []
        for event, count in Counter(judgement.fresh.values()).items():
            versions = [version for version, found in judgement.fresh.items() if found is event]
            served = sum(record.versions[version].served for version in versions)
            if event is Event.RELISTED:
                alarms.append(f"{name}: upstream lists {count} versions again that it withdrew: {_sample(versions)}")
                continue
            fates = Counter(_fate(version, judgement) for version in versions)
            fate = ", ".join(f"{number} {words}" for words, number in fates.items())
            alarms.append(
                f"{name}: upstream withdrew {count} versions that this mirror has, {served} of them served"
                f" ({event}): {_sample(versions)}; {fate}"
            )
        return alarms


def judge_package(
    packument: Packument,
    record: PackageRecord,
    releases: Collection[Release],
    *,
    policy: WithdrawnPolicy,
    is_deleted: bool = False,
) -> Judgement:
    """Decide about the withdrawn versions of a package, from upstream's document and our record."""
    event = Event.DELETED if is_deleted else Event.UNPUBLISHED
    return judge(
        packument.versions,
        record.versions,
        policy=policy,
        event=Event.SECURITY_HOLDER if packument.security_holder else event,
        digest=_digest(packument, record, is_deleted=is_deleted),
        releases=releases,
    )


def _digest(packument: Packument, record: PackageRecord, *, is_deleted: bool) -> str:
    """Return the digest that names a withdrawal: of upstream's document, or of the last one that it deleted."""
    said = f"deleted after {record.rev} {record.packument_sha256}".encode() if is_deleted else packument.body
    return hashlib.sha256(said).hexdigest()


def _quote(packument: Packument) -> dict[str, msgspec.Raw]:
    """Return what a document says about a withdrawal, each part cut to `SAID_LIMIT`."""
    members = split_members(packument.body)
    parts = {"_rev": members.get("_rev"), "dist-tags": members.get("dist-tags")}
    if packument.unpublished:
        parts["time.unpublished"] = split_members(members["time"]).get("unpublished")
    if packument.security_holder:
        parts |= {"description": members.get("description"), "repository": members.get("repository")}
    return {name: _cut(raw) for name, raw in parts.items() if raw is not None}


def _cut(raw: msgspec.Raw) -> msgspec.Raw:
    text = bytes(raw)
    if len(text) <= SAID_LIMIT and _is_plain(text):
        return msgspec.Raw(text)
    return msgspec.Raw(msgspec.json.encode(text[:SAID_LIMIT].decode("utf-8", "replace") + "…"))


def _keep(manifest: bytes) -> msgspec.Raw | msgspec.UnsetType:
    return msgspec.Raw(manifest) if len(manifest) <= MANIFEST_LIMIT and _is_plain(manifest) else msgspec.UNSET


def _is_plain(text: bytes) -> bool:
    """Whether a tombstone that holds this text can be read again: no lone surrogates."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _fate(version: Version, judgement: Judgement) -> str:
    if version not in judgement.barred:
        return "held: served on"
    place = judgement.places.get(version)
    if place is Place.QUARANTINE:
        return "quarantined: no longer served"
    return (
        "purged: no longer served, bytes deleted" if place is Place.PURGED else "hidden: no longer served, bytes kept"
    )


def _sample(versions: Sequence[Version]) -> str:
    return f"{', '.join(versions[:SHOWN])}{' …' if len(versions) > SHOWN else ''}"
