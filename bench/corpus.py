"""Real npm tarballs found on this machine, laid out as a registry that a static file server can be.

Rules:

- Nothing is downloaded. The tarballs are those that npm clients left in their caches (``make test-real`` fills one);
  where fewer unique ones are there than are wanted, they are used again under other names, and the caller says so.
- Where there are none at all, bodies of the same sizes are made up (median 6.5 KB, mean 127 KB; research/F 0).
- A manifest is the ``package.json`` of its tarball with ``dist`` added, signed by a test key, so documents have real
  members and sizes.

What is written below a directory: ``<name>/packument.json`` (and ``.gz``), ``<name>/-/<file>`` (links), ``keys.json``;
and for bandersnatch ``simple.json``, ``pypi/<name>/json``, ``packages/<name>/<file>`` (links to the same files).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.fakes.registry_build import Signer, integrity_of, shasum_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Corpus", "Tarball", "find_tarballs", "lay_out", "lay_out_as_pypi"]

CACHES: Final = (
    Path(__file__).resolve().parents[1] / ".cache/bench/npm/_cacache/content-v2",
    Path.home() / ".npm/_cacache/content-v2",
    Path(__file__).resolve().parents[1] / ".cache/real",
)
"""Where npm clients keep what they fetched."""

MAX_TARBALL: Final = 8 * 1024 * 1024
"""Larger ones (1 in 200) are left out: one of 44 MB would be a fifth of all bytes (research/F 0, corpus M)."""

README_BYTES: Final = 20_000
QUANTILES: Final = (250, 1_500, 2_800, 4_400, 6_500, 9_500, 18_000, 34_000, 75_000, 400_000, 1_500_000)
"""Sizes from the smallest to the 99th percentile (research/F 0); made-up bodies are drawn between neighbours."""


@dataclass(frozen=True, slots=True)
class Tarball:
    """One real tarball.

    Attributes:
        path: where it is.
        size: bytes.
        integrity: SHA-512 as SRI text.
        shasum: SHA-1 in hex.
        manifest: its package.json.
        readme: its readme's beginning.
    """

    path: Path
    size: int
    integrity: str
    shasum: str
    manifest: dict[str, Any]
    readme: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was laid out.

    Attributes:
        names: the packages.
        files: tarballs below the directory, as ``<name>/-/<file>``.
        size: bytes of all tarballs.
        unique: how many different tarballs there are among them.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    size: int
    unique: int


def find_tarballs(scratch: Path, *, most: int) -> tuple[list[Tarball], bool]:
    """Return up to `most` different tarballs, and whether they are real."""
    found: dict[str, Tarball] = {}
    for path in _candidates():
        tarball = _read(path)
        if tarball is not None:
            found.setdefault(tarball.integrity, tarball)
        if len(found) == most:
            break
    if found:
        return list(found.values()), True
    return [_make_up(scratch, number) for number in range(most)], False


def lay_out(root: Path, tarballs: list[Tarball], *, base: str, packages: int, versions: int) -> Corpus:
    """Write `packages` packages of `versions` tarballs each, as a registry at `base` has them."""
    signer = Signer(1)
    names: list[str] = []
    files: list[str] = []
    size = 0
    for number in range(packages):
        name = f"@bench/package-{number:05d}" if number % 5 == 4 else f"bench-package-{number:05d}"
        names.append(name)
        (root / name / "-").mkdir(parents=True, exist_ok=True)
        chosen = {f"1.{minor}.0": tarballs[(number * versions + minor) % len(tarballs)] for minor in range(versions)}
        document = _document(name, chosen, base, signer)
        (root / name / "packument.json").write_bytes(document)
        (root / name / "packument.json.gz").write_bytes(gzip.compress(document, 6, mtime=0))
        for version, tarball in chosen.items():
            file = f"{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
            files.append(file)
            size += tarball.size
            if not (root / file).exists():
                (root / file).symlink_to(tarball.path)
    (root / "keys.json").write_text(json.dumps({"keys": [signer.key()]}), encoding="utf-8")
    return Corpus(tuple(names), tuple(files), size, min(len(tarballs), len(files)))


def lay_out_as_pypi(root: Path, corpus: Corpus, *, base: str) -> list[str]:
    """Write the same files as PyPI has them, and return the projects' names.

    A scope has no place in PyPI's names, so ``@bench/package-00004`` is ``bench-package-00004`` there.
    """
    releases: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in corpus.files:
        name, _, last = file.partition("/-/")
        project = name.removeprefix("@").replace("/", "-")
        tarball = (root / file).resolve()
        link = root / "packages" / project / last
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tarball)
        release = {
            "filename": last,
            "url": f"{base}/packages/{project}/{last}",
            "size": tarball.stat().st_size,
            "digests": {"sha256": hashlib.sha256(tarball.read_bytes()).hexdigest()},
            "packagetype": "sdist",
            "upload_time_iso_8601": "2024-01-01T00:00:00.000000Z",
        }
        releases.setdefault(project, {})[last.removesuffix(".tgz").rpartition("-")[2]] = [release]
    for project, versions in releases.items():
        document = {"info": {"name": project}, "last_serial": 1, "releases": versions}
        (root / "pypi" / project).mkdir(parents=True, exist_ok=True)
        (root / "pypi" / project / "json").write_text(json.dumps(document), encoding="utf-8")
    projects = [{"name": project, "_last-serial": 1} for project in releases]
    index = {"meta": {"api-version": "1.1", "_last-serial": 1}, "projects": projects}
    (root / "simple.json").write_text(json.dumps(index), encoding="utf-8")
    return list(releases)


def _document(name: str, chosen: dict[str, Tarball], base: str, signer: Signer) -> bytes:
    versions = {
        version: {
            **tarball.manifest,
            "name": name,
            "version": version,
            "_id": f"{name}@{version}",
            "dist": {
                "integrity": tarball.integrity,
                "shasum": tarball.shasum,
                "tarball": f"{base}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz",
                "fileCount": 10,
                "unpackedSize": tarball.size * 4,
                "signatures": [signer.sign(name, version, tarball.integrity)],
            },
        }
        for version, tarball in chosen.items()
    }
    times = {version: f"2024-01-{number % 28 + 1:02d}T00:00:00.000Z" for number, version in enumerate(versions)}
    document = {
        "_id": name,
        "_rev": "1-0123456789abcdef",
        "name": name,
        "dist-tags": {"latest": list(versions)[-1]},
        "versions": versions,
        "time": {"created": "2024-01-01T00:00:00.000Z", "modified": "2024-02-01T00:00:00.000Z", **times},
        "readme": list(chosen.values())[-1].readme,
        "readmeFilename": "README.md",
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _candidates() -> Iterator[Path]:
    for cache in CACHES:
        for directory, folders, files in os.walk(cache):
            folders.sort()
            yield from (Path(directory) / file for file in sorted(files))


def _read(path: Path) -> Tarball | None:
    """Read a file that may be a tarball: gzip, with a package.json one directory down."""
    try:
        if path.is_symlink() or not 100 < path.stat().st_size <= MAX_TARBALL:
            return None
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return None
        manifest, readme = _look_inside(path)
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError):
        return None
    if manifest is None:
        return None
    body = path.read_bytes()
    return Tarball(path, len(body), integrity_of(body), shasum_of(body), manifest, readme)


def _look_inside(path: Path) -> tuple[dict[str, Any] | None, str]:
    manifest: dict[str, Any] | None = None
    readme = ""
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            inner = member.name.partition("/")[2].lower()
            file = archive.extractfile(member) if inner in {"package.json", "readme.md"} else None
            if file is not None and inner == "package.json":
                manifest = json.loads(file.read())
            elif file is not None:
                readme = file.read(README_BYTES).decode("utf-8", "replace")
    return (manifest if isinstance(manifest, dict) else None), readme


def _make_up(scratch: Path, number: int) -> Tarball:
    chance = random.Random(number)  # noqa: S311 - the same sizes each time
    place = chance.randrange(len(QUANTILES) - 1)
    body = hashlib.shake_128(str(number).encode()).digest(chance.randint(QUANTILES[place], QUANTILES[place + 1]))
    scratch.mkdir(exist_ok=True)
    path = scratch / f"{number}.tgz"
    path.write_bytes(body)
    manifest = {"description": "made up", "dependencies": {f"dependency-{i}": "^1.0.0" for i in range(8)}}
    return Tarball(path, len(body), integrity_of(body), shasum_of(body), manifest, "made up\n" * 400)
