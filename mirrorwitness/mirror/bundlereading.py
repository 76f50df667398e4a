"""Read pieces of a bundle, and believe their digests alone: the manifest, and single objects.

Rules:

- The manifest is the one that the digest beside it names, and where it names a signer, that key signed it. Whether
  that is the right key is for the caller to say.
- The files are those that the manifest names, with these sizes: none is missing, and none rides along.

What it does not do: say whether what is in an object is true (`mirrorwitness.mirror.bundlecheck`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mirrorwitness.errors import IntegrityMismatchError, SignatureError, UpstreamProtocolError
from mirrorwitness.mirror.bundle import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    NOTE,
    SUM,
    check_note,
    format_sum,
    id_of,
    object_path,
    parse_manifest,
)
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    from mirrorwitness.mirror.bundle import Manifest
    from mirrorwitness.mirror.bundlefile import BundleFile

__all__ = ["open_manifest", "read_object"]


async def open_manifest(file: BundleFile) -> tuple[str, Manifest]:
    """Return the id and the manifest of a bundle, and check that its files are those that it names.

    Raises:
        IntegrityMismatchError: the manifest is not the one that its digest names.
        SignatureError: its signature does not verify under the key that it names.
        UpstreamError: it cannot be read, or is no bundle.
    """
    body = await file.read(MANIFEST, limit=MAX_MANIFEST_BYTES)
    bundle = id_of(body)
    if await file.read(SUM, limit=len(format_sum(bundle))) != format_sum(bundle):
        raise IntegrityMismatchError(f"{file.path}: {MANIFEST} has the SHA-256 {bundle}, {SUM} says another")
    manifest = parse_manifest(body)
    expected = {object_path(digest): size for digest, size in manifest.objects.items()}
    found = {name: size for name, size in file.sizes.items() if name not in {MANIFEST, SUM, NOTE}}
    odd = sorted(dict(expected.items() ^ found.items()))
    if odd:
        here, there = found.get(odd[0]), expected.get(odd[0])
        raise UpstreamProtocolError(
            f"{file.path}: {odd[0]} has {'nothing' if here is None else f'{here:,} bytes'}, the manifest says "
            f"{'nothing' if there is None else f'{there:,}'}; {len(odd)} objects differ"
        )
    if (NOTE in file.sizes) != (manifest.signer is not None):
        raise SignatureError(f"{file.path}: its manifest names the signer {manifest.signer}, and {NOTE} says otherwise")
    if manifest.signer is not None:
        check_note(bundle, await file.read(NOTE, limit=MAX_NOTE_BYTES), parse_verifier_key(manifest.signer))
    return bundle, manifest


async def read_object(file: BundleFile, manifest: Manifest, digest: str) -> bytes:
    """Return an object of a bundle, verified.

    Raises:
        IntegrityMismatchError: its bytes are others.
        UpstreamError: it cannot be read.
    """
    body = await file.read(object_path(digest), limit=manifest.objects.get(digest, 0))
    found = hashlib.sha256(body).hexdigest()
    if found != digest:
        raise IntegrityMismatchError(f"{file.path}: {object_path(digest)} has the SHA-256 {found}")
    return body
