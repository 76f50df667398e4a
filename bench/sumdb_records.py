"""Realistic records for `bench sumdb`, and the keys of its log."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import Event, Record
from mirrorwitness.tlog.keys import KeyType, make_signer_key

__all__ = ["KEYS", "ORIGIN", "make_record"]

ORIGIN: Final = "bench.example/npm"
KEYS: Final = (make_signer_key(ORIGIN, b"e" * 32), make_signer_key(ORIGIN, b"m" * 32, KeyType.ML_DSA_44))
VERSIONS: Final = 10
SIGNATURE: Final = base64.b64encode(b"s" * 71).decode()
KEYID: Final = "SHA256:" + "k" * 43


def make_record(number: int) -> Record:
    """Return the record of a version."""
    package, version = divmod(number, VERSIONS)
    digest = hashlib.sha512(b"%d" % number).digest()
    return Record(
        registry="registry.example",
        name=PackageName(f"@scope{package % 97}/package-number-{package}"),
        version=Version(f"1.{version}.0"),
        integrity="sha512-" + base64.b64encode(digest).decode(),
        tarball_size=10_000 + number,
        shasum=digest.hex()[:40],
        manifest=digest[:32],
        tarball_manifest=digest[32:],
        published="2026-01-02T03:04:05.678Z",
        signatures=((KEYID, SIGNATURE),),
        attestations=digest[16:48],
        event=Event.PUBLISH,
    )
