"""What is fuzzed of the checksum database: records, what registries send that goes into them, and bundles.

`tests.fuzz.targets` says what a target is; these are merged into its table.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.mirror.bundle import (
    BundledFile,
    BundledLog,
    BundledPackage,
    LogStep,
    Manifest,
    format_manifest,
    parse_manifest,
)
from mirrorwitness.npm.canonical import canonical_manifest
from mirrorwitness.npm.confusion import compare_manifests
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.tarball import read_tarball
from mirrorwitness.sumdb.records import format_record, parse_record

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SUMDB_TARGETS"]

_MANIFEST: Final = json.dumps({
    "name": "@scope/left",
    "version": "v1.0.0",
    "bin": "./cli.js",
    "dependencies": {"a": "^1", "b": "user/repo#x"},
    "optionalDependencies": ["c@1"],
    "bundledDependencies": True,
    "scripts": {"postinstall": "node_modules/.bin/x"},
    "os": "linux",
    "number": [1.0, -0, 1e21, 9007199254740993],
}).encode()

_DIGEST: Final = "sha256-" + "A" * 43 + "="
_RECORD: Final = (
    "npm-sumdb/1\nregistry registry.example:8080/npm\npackage @scope/left@1.0.0-beta.1\n"
    f"integrity sha512-{'A' * 86}== sha1-{'A' * 27}=\ntarball-size 1234\nshasum {'a' * 40}\nmanifest {_DIGEST}\n"
    f"tarball-manifest -\npublished 2026-01-02T03:04:05.678Z\nsignature SHA256:x AAAA\nattestations {_DIGEST}\n"
)


def _record(body: bytes) -> bool:
    try:
        record = parse_record(body)
    except UpstreamProtocolError:
        return False
    assert format_record(record) == body
    return True


def _tarball(body: bytes) -> bool:
    try:
        read_tarball(body)
    except UpstreamProtocolError:
        return False
    return True


def _packed_tarball(body: bytes) -> bool:
    """The archive before it is packed: the fuzzer does not get through a checksum of gzip."""
    return _tarball(gzip.compress(body, compresslevel=1))


def _canonical(body: bytes) -> bool:
    canonical = canonical_manifest(body)
    assert canonical is None or canonical_manifest(canonical) == canonical
    return canonical is not None


def _confusion(body: bytes) -> bool:
    assert all(found.field == "package.json" for found in compare_manifests(body, body, has_gyp=True))
    return not compare_manifests(_MANIFEST, body)


def _bundle(body: bytes) -> bool:
    try:
        manifest = parse_manifest(body)
    except UpstreamProtocolError:
        return False
    assert format_manifest(manifest) == body
    return True


def _make_bundle() -> bytes:
    """Return the manifest of a bundle that has everything that one can have."""
    a, b, c, d = ("0123"[number] * 64 for number in range(4))
    file = BundledFile(
        version=Version("1.0.0"), file="left-1.0.0.tgz", sha256=a, size=9, integrity="sha512-x", proof=c, attestations=d
    )
    log = BundledLog(checkpoint="note\n", since=LogStep(size=4, root="AA==", hashes=("AA==",)))
    package = BundledPackage(name=PackageName("@scope/left"), packument=b, files=(file,))
    objects = dict.fromkeys((a, b, c, d), 9)
    return format_manifest(Manifest(packages=(package,), objects=objects, previous=a, keys=d, log=log))


def _archive() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for name, content in (("package/" + "x" * 120, b"long"), ("package/package.json", _MANIFEST)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    return raw.getvalue()


SUMDB_TARGETS: Final[dict[str, tuple[Callable[[bytes], bool], tuple[bytes, ...]]]] = {
    "sumdb-record": (
        _record,
        (
            f"{_RECORD}event publish\n".encode(),
            f"{_RECORD}event conflict\nother-integrity sha512-{'B' * 86}==\nevidence {_DIGEST}\n".replace(
                f"{'B' * 86}==", f"{'B' * 85}A=="
            ).encode(),
        ),
    ),
    "npm-tarball": (_tarball, (_archive(), gzip.compress(_archive(), mtime=0))),
    "npm-packed-tarball": (_packed_tarball, (_archive(),)),
    "npm-canonical": (_canonical, (_MANIFEST, b"{}")),
    "npm-confusion": (_confusion, (_MANIFEST,)),
    "bundle-manifest": (_bundle, (_make_bundle(), format_manifest(Manifest(packages=(), objects={})))),
}
"""Each with its seeds, by name."""
