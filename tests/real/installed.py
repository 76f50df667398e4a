"""What an install put on the disk, compared with the tarballs that the lockfile names."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.real.clients import APP

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find_differences", "find_packages", "locked_tarballs", "tarball_path"]

DIRECT: Final = frozenset(json.loads((APP / "package.json").read_bytes())["dependencies"])


def tarball_path(storage: Path, name: str, version: str) -> Path:
    """Return where a directory storage has a tarball."""
    return storage / "npm" / name / "-" / f"{name.rpartition('/')[2]}-{version}.tgz"


def locked_tarballs(storage: Path) -> dict[tuple[str, str], bytes]:
    """Return the stored tarballs of the example's lockfile by name and version; each must have the locked digest."""
    packages = json.loads((APP / "package-lock.json").read_bytes())["packages"]
    found: dict[tuple[str, str], bytes] = {}
    for path, entry in packages.items():
        if not path:
            continue
        name = entry.get("name", path.rpartition("node_modules/")[2])
        data = tarball_path(storage, name, entry["version"]).read_bytes()
        digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        assert digest == entry["integrity"], f"{name}@{entry['version']}"
        found[name, entry["version"]] = data
    return found


def find_packages(project: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield name, version and directory of everything installed below a project, however deep."""
    for top, directories, files in os.walk(project / "node_modules"):
        here = Path(top)
        directories[:] = [each for each in directories if each not in {".bin", ".cache"}]
        parent = here.parent.parent if here.parent.name.startswith("@") else here.parent
        if "package.json" in files and parent.name == "node_modules":
            manifest = json.loads((here / "package.json").read_bytes())
            yield manifest["name"], manifest["version"], here


def find_differences(project: Path, tarballs: dict[tuple[str, str], bytes]) -> list[str]:
    """Return what an install does not have as the locked tarballs have it; empty where every byte is right."""
    wrong = [f"{name} is not installed" for name in DIRECT if not (project / "node_modules" / name).exists()]
    for name, version, directory in find_packages(project):
        if (name, version) not in tarballs:
            wrong.append(f"{name}@{version} is installed and is not in the lockfile")
            continue
        with tarfile.open(fileobj=io.BytesIO(tarballs[name, version])) as archive:
            for member in archive:
                file = archive.extractfile(member)
                path = directory / member.name.partition("/")[2]
                if file is not None and (not path.is_file() or path.read_bytes() != file.read()):
                    wrong.append(f"{name}@{version}: {path.relative_to(directory)}")
    return wrong
