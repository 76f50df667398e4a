"""Keep serving what we had of versions whose manifest upstream changed (P5): carry the stored manifests over.

Rules:

- A manifest is carried over only where the stored bytes still match its digest, and where the record, if there is one,
  says the same: neither a rotten tarball nor a tampered document survives this way (P1, P2).
- A stored document that is missing or damaged has nothing to carry over; that is no error.

What this does not do: decide which versions (`mirrorwitness.mirror.gate`), or write anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import IntegrityMismatchError, ObjectMissingError, UpstreamProtocolError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import HeldVersion
from mirrorwitness.mirror.gate import changed_promise
from mirrorwitness.mirror.tarballs import check_stored
from mirrorwitness.npm.integrity import Verifier, make_expectation
from mirrorwitness.npm.offloop import PACKUMENT_LIMIT, parse_off_loop, run_off_loop
from mirrorwitness.npm.splice import splice_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Manifest, Packument
    from mirrorwitness.storage import Storage

__all__ = ["carry_over", "read_stored"]


async def carry_over(
    storage: Storage, packument: Packument, versions: Iterable[Version], *, held: Mapping[Version, HeldVersion]
) -> tuple[Packument, dict[Version, HeldVersion]]:
    """Put the stored manifests of `versions` in the place of upstream's, where they are sound.

    Args:
        storage: the mirror.
        packument: upstream's document.
        versions: the versions that upstream changed.
        held: the package's record.

    Returns:
        The document to render, and what is stored of the versions that were carried over.

    Raises:
        StorageError: the storage failed.
    """
    kept: dict[Version, HeldVersion] = {}
    stored: Packument | None = None
    for version in versions:
        stored = stored or await read_stored(storage, packument.name)
        manifest = None if stored is None else stored.versions.get(version)
        item = None if manifest is None else await _find_sound(storage, packument.name, manifest, held.get(version))
        if item is not None:
            kept[version] = item
    if stored is None or not kept:
        return packument, kept
    source = stored
    size = packument.size + stored.size
    return await run_off_loop(size, lambda: splice_versions(packument, stored=source, versions=kept)), kept


async def read_stored(storage: Storage, name: PackageName) -> Packument | None:
    """Return the stored full document, or None where there is none or it is damaged."""
    try:
        body, _ = await storage.read(layout.packument_key(name), limit=PACKUMENT_LIMIT)
        return await parse_off_loop(body, name)
    except (ObjectMissingError, UpstreamProtocolError):
        return None


async def _find_sound(
    storage: Storage, name: PackageName, manifest: Manifest, mine: HeldVersion | None
) -> HeldVersion | None:
    """Return what is stored under a stored manifest, or None where bytes, manifest and record do not agree."""
    file = layout.file_of_url(manifest.tarball)
    expectation = make_expectation(manifest.integrity, manifest.shasum)
    if manifest.refused is not None or file is None or expectation.strength == "none":
        return None
    if mine is not None and (mine.file != file or changed_promise(manifest, mine) is not None):
        return None
    try:
        verifier = await check_stored(storage, layout.tarball_key(name, file), Verifier(expectation))
    except (IntegrityMismatchError, ObjectMissingError):
        return None
    return mine or HeldVersion(
        file=file,
        size=verifier.size,
        sri=verifier.sri(),
        integrity=manifest.integrity,
        shasum=manifest.shasum,
        weak=expectation.strength == "weak",
    )
