"""Where things are kept in a storage: the keys of everything that belongs to a mirror.

    npm/<name>/packument.json             the full document, the default answer
    npm/<name>/install-v1.json            the abbreviated document
    npm/<name>/-/<file>                   tarballs
    npm/<name>/attestations/<version>.json  the registry's attestations for one version
    about/keys.json  about/mirror.json    signing keys; what this mirror is
    state/package/<name>.json             what we know of one package (`mirrorwitness.mirror.catalogue`)
    state/unfinished/<name>.json          why a package is not complete, and when it was tried
    state/run/last.json                   the last finished run
    evidence/<name>/<version>/<digest>.json  two documents that cannot both be true

Rules:

- Everything a client may read lies under ``npm/`` and ``about/``; nothing else is ever served.
- A scoped name keeps its slash; no key is the "directory" of another; bytes of names are kept as they are
  (``Buffer`` and ``buffer`` are two packages).
- A component longer than the storage's limit, or one that begins with a dot, is replaced by its SHA-256, so any name
  that npm allows has a key.
- A tarball keeps the file name that upstream's URL has (legacy names differ from ``<name>-<version>.tgz``), because
  lockfiles in the field hold that URL. `assign_files` makes them unique and safe within one package.

This module is pure; it never looks at what is stored.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from mirrorwitness.storage import MAX_COMPONENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.npm.names import PackageName, Version

__all__ = [
    "EVIDENCE_PREFIX",
    "KEYS_KEY",
    "LAST_RUN_KEY",
    "MIRROR_KEY",
    "PACKAGE_PREFIX",
    "PUBLIC_PREFIXES",
    "RECORD_PREFIX",
    "STORED_BASE",
    "UNFINISHED_PREFIX",
    "assign_files",
    "attestations_key",
    "evidence_key",
    "install_key",
    "name_of_record_key",
    "packument_key",
    "record_key",
    "tarball_key",
    "tarball_prefix",
    "tarball_url",
    "unfinished_key",
]

PACKAGE_PREFIX: Final = "npm/"
RECORD_PREFIX: Final = "state/package/"
UNFINISHED_PREFIX: Final = "state/unfinished/"
EVIDENCE_PREFIX: Final = "evidence/"
KEYS_KEY: Final = "about/keys.json"
MIRROR_KEY: Final = "about/mirror.json"
LAST_RUN_KEY: Final = "state/run/last.json"
PUBLIC_PREFIXES: Final = (PACKAGE_PREFIX, "about/")

STORED_BASE: Final = "http://mirror.invalid"
"""Base of the tarball URLs in stored packuments where no public URL is configured.

``.invalid`` never resolves (RFC 2606), so a document that is served without `mirrorwitness serve` and without a public
URL fails loudly instead of sending clients to a third host.
"""

_SAFE_FILE: Final = re.compile(r"[A-Za-z0-9_~!()*'@+][A-Za-z0-9._~!()*'@+-]*\Z")


def packument_key(name: PackageName) -> str:
    """Return the key of a package's full document."""
    return f"{_package(name)}/packument.json"


def install_key(name: PackageName) -> str:
    """Return the key of a package's abbreviated document."""
    return f"{_package(name)}/install-v1.json"


def tarball_prefix(name: PackageName) -> str:
    """Return the prefix under which a package's tarballs lie."""
    return f"{_package(name)}/-/"


def tarball_key(name: PackageName, file: str) -> str:
    """Return the key of one tarball; `file` is a value of `assign_files`."""
    return f"{_package(name)}/-/{_component(file)}"


def attestations_key(name: PackageName, version: Version) -> str:
    """Return the key of the attestations of one version."""
    return f"{_package(name)}/attestations/{_component(f'{_escape(version)}.json')}"


def record_key(name: PackageName) -> str:
    """Return the key of what we know of one package."""
    return RECORD_PREFIX + _component_path(f"{name}.json")


def unfinished_key(name: PackageName) -> str:
    """Return the key of a package's note of unfinished work."""
    return UNFINISHED_PREFIX + _component_path(f"{name}.json")


def name_of_record_key(key: str, *, prefix: str) -> str | None:
    """Return the name a record or unfinished key was made of, or None where it was too long and is hashed."""
    text = key.removeprefix(prefix).removesuffix(".json")
    return None if "sha256=" in text else text


def evidence_key(name: PackageName, version: Version, digest: str) -> str:
    """Return the key of a piece of evidence; `digest` is the hex SHA-256 of its content."""
    return f"{EVIDENCE_PREFIX}{_component_path(name)}/{_component(_escape(version))}/{digest}.json"


def tarball_url(base: str, name: PackageName, file: str) -> str:
    """Return the URL under which a client gets a tarball, below `base` (no trailing slash)."""
    return f"{base}/{quote(name, safe='@/~!()*')}/-/{quote(_component(file), safe='@~!()*+')}"


def assign_files(name: PackageName, urls: Mapping[Version, str]) -> dict[Version, str]:
    """Choose the file name of each version's tarball: upstream's own where it is safe and unique.

    Args:
        name: the package.
        urls: each version's ``dist.tarball``.

    Returns:
        A file name for each version, no two alike. The choice for one version depends only on its own URL and on
        which other versions claim the same file; the canonical ``<name>-<version>.tgz`` always wins its name.
    """
    canonical = {version: f"{name.rpartition('/')[2]}-{version}.tgz" for version in urls}
    owner = {file: version for version, file in canonical.items()}
    chosen: dict[Version, str] = {}
    taken: set[str] = set()
    for version in sorted(urls):
        file = _file_of(urls[version])
        if file is None or owner.get(file, version) != version or file in taken:
            file = canonical[version]
        if not _SAFE_FILE.match(file) or file in taken:
            file = f"sha256={hashlib.sha256(version.encode('utf-8', 'surrogatepass')).hexdigest()}.tgz"
        taken.add(file)
        chosen[version] = file
    return chosen


def _file_of(url: str) -> str | None:
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    file = unquote(path.rpartition("/")[2])
    return file if _SAFE_FILE.match(file) else None


def _package(name: PackageName) -> str:
    return PACKAGE_PREFIX + _component_path(name)


def _component_path(text: str) -> str:
    return "/".join(_component(part) for part in text.split("/"))


def _component(text: str) -> str:
    if text.startswith(".") or len(text.encode("utf-8", "surrogatepass")) > MAX_COMPONENT_BYTES:
        return f"sha256={hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return text


def _escape(version: Iterable[str]) -> str:
    return quote("".join(version), safe="+~!()*@")
