"""What a registry publishes, made by the same rules each time: tarballs, manifests, signatures.

Everything is a function of its arguments, so two runs, or a test and the process it starts, agree on every byte.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Signer",
    "abbreviate",
    "default_files",
    "etag_of",
    "file_name",
    "filler",
    "integrity_of",
    "make_dist",
    "make_tarball",
    "shasum_of",
]

_NPM_MTIME: Final = 499_162_500
"""The time stamp that npm gives every file it packs: 26 October 1985."""

_ABBREVIATED: Final = [
    "name",
    "version",
    "deprecated",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bin",
    "directories",
    "dist",
    "engines",
    "_hasShrinkwrap",
    "funding",
    "os",
    "cpu",
    "libc",
    "acceptDependencies",
]


def make_tarball(files: Mapping[str, bytes], *, name: str, version: str) -> bytes:
    """Pack files as npm does, under ``package/``, with a package.json where none is given."""
    if "package.json" not in files:
        files = {"package.json": json.dumps({"name": name, "version": version}).encode(), **files}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(content)
            info.mtime = _NPM_MTIME
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), compresslevel=1, mtime=0)


def default_files(name: str, version: str) -> dict[str, bytes]:
    """Return what a version holds where nobody says otherwise."""
    return {"index.js": f"module.exports = '{name}@{version}'\n".encode()}


def make_dist(tarball: bytes, url: str) -> dict[str, Any]:
    """Return what a manifest says about a tarball."""
    return {
        "integrity": integrity_of(tarball),
        "shasum": shasum_of(tarball),
        "tarball": url,
        "fileCount": 2,
        "unpackedSize": len(tarball) * 2,
    }


def file_name(name: str, version: str) -> str:
    """Return npm's own name of a version's tarball."""
    return f"{name.rpartition('/')[2]}-{version}.tgz"


def filler(seed: str, size: int) -> bytes:
    """Return bytes that do not compress and depend on the seed only."""
    return hashlib.shake_128(seed.encode()).digest(size)


def integrity_of(data: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def shasum_of(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def etag_of(body: bytes) -> str:
    """Return the ETag of a document as the public registry makes it: its MD5 in quotes."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


class Signer:
    """A registry's signing key (ECDSA P-256), derived from a number: a test key, never a secret."""

    def __init__(self, seed: int = 1, *, expires: str | None = None) -> None:
        self._key = ec.derive_private_key(seed, ec.SECP256R1())
        self.expires = expires
        public = self._key.public_key()
        self.public = base64.b64encode(
            public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        ).decode()
        point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        wire = b"".join(struct.pack(">I", len(part)) + part for part in (b"ecdsa-sha2-nistp256", b"nistp256", point))
        self.keyid = "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")

    def key(self) -> dict[str, str | None]:
        """Return the key as the keys document lists it."""
        kind = "ecdsa-sha2-nistp256"
        return {"expires": self.expires, "keyid": self.keyid, "keytype": kind, "scheme": kind, "key": self.public}

    def sign(self, name: str, version: str, integrity: str) -> dict[str, str]:
        """Return an entry for ``dist.signatures``."""
        signature = self._key.sign(f"{name}@{version}:{integrity}".encode(), ec.ECDSA(hashes.SHA256()))
        return {"keyid": self.keyid, "sig": base64.b64encode(signature).decode()}


def abbreviate(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the abbreviated form of a packument by the rule of research/B 2.2."""
    versions: dict[str, Any] = {}
    for version, manifest in document.get("versions", {}).items():
        short = {key: manifest[key] for key in _ABBREVIATED if manifest.get(key) not in ({}, [], "", None, False)}
        if {"preinstall", "install", "postinstall"} & set(manifest.get("scripts") or ()):
            short["hasInstallScript"] = True
        versions[version] = short
    return {
        "name": document.get("name"),
        "dist-tags": document.get("dist-tags", {}),
        "versions": versions,
        "modified": document.get("time", {}).get("modified"),
    }
