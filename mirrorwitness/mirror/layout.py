"""Where things are kept in a storage: the keys of everything that belongs to a mirror.

    npm/<name>/packument.json             the full document, the default answer
    npm/<name>/install-v1.json            the abbreviated document
    npm/<name>/-/<file>                   tarballs
    npm/<name>/-/<file>.tlog-proof        the log's word for each, where one is asked (`mirrorwitness.mirror.voucher`)
    npm/<name>/attestations/<version>.json  the registry's attestations for one version
    about/keys.json  about/mirror.json    signing keys; what this mirror is
    about/mirror.json.note                the same, signed
    about/summary/<2 digits>/<digest>     nodes of the summary of all versions (`mirrorwitness.mirror.summary`)
    state/package/<name>.json             what we know of one package (`mirrorwitness.mirror.catalogue`)
    state/unfinished/<name>.json          why a package is not complete, and when it was tried
    state/run/last.json                   the last finished run
    state/summary/head.json               which node is the summary's root
    state/summary/replaced/<time>-<digest>  nodes that are not part of it any more
    state/coverage.json                   how much the mirror serves
    state/cursor/<I>-of-<N>.json          where the follower of a shard stands
    state/budget/<yyyy-mm>.json           requests to upstream that were taken in a month
    state/pause/<digest>.json             until when a host is to be left alone
    state/tombstones/<name>/<version>/<event>-<digest>.json  what upstream withdrew, and when we saw it
    state/releases/<name>/<version>/<event>-<digest>.json  which of these the operator lifted, and why
    state/sources/<digest>.json           which sources sent wrong bytes, and until when they are not asked
    state/bundle/exported/<id>.json       manifests of bundles that were written (`mirrorwitness.mirror.bundle`)
    state/bundle/imported.json            which bundles were taken in
    trust/<hash of a log's origin>/…      its newest verified checkpoint, and tiles (`mirrorwitness.sumdb.trust`)
    quarantine/<name>/<file>              tarballs that security took away; no door leads here
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

from mirrorwitness.storage.components import component_of, component_path, escape_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.npm.names import PackageName, Version

__all__ = [
    "BUDGET_PREFIX",
    "COVERAGE_KEY",
    "CURSOR_PREFIX",
    "EVIDENCE_PREFIX",
    "KEYS_KEY",
    "LAST_RUN_KEY",
    "MIRROR_KEY",
    "NODE_PREFIX",
    "NOTE_KEY",
    "PACKAGE_PREFIX",
    "PAUSE_PREFIX",
    "PROOF_SUFFIX",
    "PUBLIC_PREFIXES",
    "RECORD_PREFIX",
    "REPLACED_PREFIX",
    "STORED_BASE",
    "SUMMARY_HEAD_KEY",
    "UNFINISHED_PREFIX",
    "assign_files",
    "attestations_key",
    "budget_key",
    "cursor_key",
    "evidence_key",
    "evidence_prefix",
    "file_of_url",
    "install_key",
    "name_of_record_key",
    "node_key",
    "packument_key",
    "pause_key",
    "proof_key",
    "quarantine_key",
    "record_key",
    "release_key",
    "release_prefix",
    "source_key",
    "tarball_key",
    "tarball_prefix",
    "tarball_url",
    "tombstone_key",
    "tombstone_prefix",
    "unfinished_key",
]

PACKAGE_PREFIX: Final = "npm/"
RECORD_PREFIX: Final = "state/package/"
UNFINISHED_PREFIX: Final = "state/unfinished/"
EVIDENCE_PREFIX: Final = "evidence/"
KEYS_KEY: Final = "about/keys.json"
MIRROR_KEY: Final = "about/mirror.json"
NOTE_KEY: Final = "about/mirror.json.note"
NODE_PREFIX: Final = "about/summary/"
SUMMARY_HEAD_KEY: Final = "state/summary/head.json"
REPLACED_PREFIX: Final = "state/summary/replaced/"
BUDGET_PREFIX: Final = "state/budget/"
PAUSE_PREFIX: Final = "state/pause/"
COVERAGE_KEY: Final = "state/coverage.json"
CURSOR_PREFIX: Final = "state/cursor/"
LAST_RUN_KEY: Final = "state/run/last.json"
PUBLIC_PREFIXES: Final = (PACKAGE_PREFIX, "about/")

PROOF_SUFFIX: Final = ".tlog-proof"
"""What the name of a proof has behind that of its tarball; no tarball's name ends so."""

STORED_BASE: Final = "http://mirror.invalid"
"""Base of the tarball URLs in stored packuments where no public URL is configured.

``.invalid`` never resolves (RFC 2606), so a document that is served without `mirrorwitness serve` and without a public
URL fails loudly instead of sending clients to a third host.
"""

_SAFE_FILE: Final = re.compile(r"[A-Za-z0-9_~!()*'@+][A-Za-z0-9._~!()*'@+-]*\Z")

_STORED_FILE: Final = re.compile(r"(?:sha256=[0-9a-f]{64}(?:\.tgz)?|[A-Za-z0-9_~!()*'@+][A-Za-z0-9._~!()*'@+-]*)\Z")
"""What `tarball_key` accepts: a safe name, or the digest that stands in for one."""


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
    return f"{_package(name)}/-/{component_of(file)}"


def proof_key(name: PackageName, file: str) -> str:
    """Return the key of the proof beside one tarball; `file` is the tarball's, a value of `assign_files`."""
    component = component_of(file + PROOF_SUFFIX)
    return f"{_package(name)}/-/{component.removesuffix(PROOF_SUFFIX)}{PROOF_SUFFIX}"


def attestations_key(name: PackageName, version: Version) -> str:
    """Return the key of the attestations of one version."""
    return f"{_package(name)}/attestations/{component_of(f'{escape_version(version)}.json')}"


def record_key(name: PackageName) -> str:
    """Return the key of what we know of one package."""
    return RECORD_PREFIX + component_path(f"{name}.json")


def unfinished_key(name: PackageName) -> str:
    """Return the key of a package's note of unfinished work."""
    return UNFINISHED_PREFIX + component_path(f"{name}.json")


def node_key(digest: str) -> str:
    """Return the key of a node of the summary; `digest` is the hex SHA-256 of its bytes."""
    return f"{NODE_PREFIX}{digest[:2]}/{digest}"


def name_of_record_key(key: str, *, prefix: str) -> str | None:
    """Return the name a record or unfinished key was made of, or None where it was too long and is hashed."""
    text = key.removeprefix(prefix).removesuffix(".json")
    return None if "sha256=" in text else text


def budget_key(month: str) -> str:
    """Return the key of a month's budget of requests; `month` is ``2026-09``."""
    return f"{BUDGET_PREFIX}{month}.json"


def pause_key(origin: str) -> str:
    """Return the key of a host's pause; `origin` is its scheme, name and port."""
    return f"{PAUSE_PREFIX}{hashlib.sha256(origin.encode()).hexdigest()[:32]}.json"


def cursor_key(shard: str) -> str:
    """Return the key of a shard's cursor; `shard` is a value of `Shard.key`."""
    return f"{CURSOR_PREFIX}{shard}.json"


def evidence_key(name: PackageName, version: Version, digest: str) -> str:
    """Return the key of a piece of evidence; `digest` is the hex SHA-256 of its content."""
    return f"{evidence_prefix(name, version)}{digest}.json"


def evidence_prefix(name: PackageName, version: Version | None = None) -> str:
    """Return the prefix under which the evidence about a package, or about one version of it, lies."""
    inner = "" if version is None else f"{component_of(escape_version(version))}/"
    return f"{EVIDENCE_PREFIX}{component_path(name)}/{inner}"


def tombstone_prefix(name: PackageName, version: Version | None = None) -> str:
    """Return the prefix under which the tombstones of a package, or of one version of it, lie."""
    inner = "" if version is None else f"{component_of(escape_version(version))}/"
    return f"state/tombstones/{component_path(name)}/{inner}"


def tombstone_key(name: PackageName, version: Version, stone: str) -> str:
    """Return the key of a tombstone; `stone` is a value of `mirrorwitness.mirror.withdrawal.make_stone`."""
    return f"{tombstone_prefix(name, version)}{stone}.json"


def release_prefix(name: PackageName) -> str:
    """Return the prefix under which lies what an operator lifted of a package."""
    return f"state/releases/{component_path(name)}/"


def release_key(name: PackageName, version: Version, stone: str) -> str:
    """Return the key that says that an operator lifted one tombstone."""
    return f"{release_prefix(name)}{component_of(escape_version(version))}/{stone}.json"


def source_key(digest: str) -> str:
    """Return the key of the note about a dropped source; `digest` is the hex SHA-256 of its base URL."""
    return f"state/sources/{digest}.json"


def quarantine_key(name: PackageName, file: str) -> str:
    """Return the key of a tarball in quarantine; `file` is a value of `assign_files`."""
    return f"quarantine/{component_path(name)}/{component_of(file)}"


def tarball_url(base: str, name: PackageName, file: str) -> str:
    """Return the URL under which a client gets a tarball, below `base` (no trailing slash)."""
    return f"{base}/{quote(name, safe='@/~!()*')}/-/{quote(component_of(file), safe='@~!()*+')}"


def assign_files(
    name: PackageName, urls: Mapping[Version, str], *, held: Mapping[Version, str] | None = None
) -> dict[Version, str]:
    """Choose the file name of each version's tarball: upstream's own where it is safe and unique.

    Args:
        name: the package.
        urls: each version's ``dist.tarball``.
        held: file names of tarballs that are stored already; they keep their names (P5: never moved, never renamed).

    Returns:
        A file name for each version, no two alike, none that a held tarball of another version has. The canonical
        ``<name>-<version>.tgz`` wins its name unless a held tarball has it.
    """
    held = held or {}
    canonical = {version: f"{name.rpartition('/')[2]}-{version}.tgz" for version in urls}
    owner = {file: version for version, file in canonical.items()}
    chosen = {version: held[version] for version in urls if version in held}
    taken = set(held.values())
    for version in sorted(urls.keys() - chosen.keys()):
        file = _file_of(urls[version])
        if file is None or file in taken or owner.get(file, version) != version:
            file = canonical[version]
        if file in taken or not _SAFE_FILE.match(file):
            file = f"sha256={hashlib.sha256(version.encode('utf-8', 'surrogatepass')).hexdigest()}.tgz"
        taken.add(file)
        chosen[version] = file
    return chosen


def file_of_url(url: str) -> str | None:
    """Return the file name that a URL made by `tarball_url` has, or None where it is not such a URL."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    file = unquote(path.rpartition("/")[2])
    return file if _STORED_FILE.match(file) else None


def _file_of(url: str) -> str | None:
    file = file_of_url(url)
    is_safe = file is not None and _SAFE_FILE.match(file) and not file.endswith(PROOF_SUFFIX)
    return file if is_safe else None


def _package(name: PackageName) -> str:
    return PACKAGE_PREFIX + component_path(name)
