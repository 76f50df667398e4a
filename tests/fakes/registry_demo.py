"""What the registry simulator serves when it runs as a process of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.registry_build import Signer, filler
from tests.fakes.registry_packages import Package

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.registry import RegistrySimulator

__all__ = ["add_demo", "demo_names", "demo_version", "load_recorded"]


def demo_names(count: int) -> list[str]:
    """Return the names of the demonstration packages; every fifth is scoped."""
    return [f"@demo/package-{i:05d}" if i % 5 == 4 else f"demo-package-{i:05d}" for i in range(count)]


def demo_version(number: int) -> str:
    """Return the version numbers of the demonstration packages, oldest first."""
    return f"1.{number}.0"


def add_demo(
    sim: RegistrySimulator, packages: int, versions: int, *, tarball_size: int = 15_000, signer: Signer | None = None
) -> None:
    """Publish demonstration packages; every byte depends on the arguments only (but for the signatures)."""
    for name in demo_names(packages):
        for number in range(versions):
            version = demo_version(number)
            files = {"index.js": b"module.exports = 1\n", "data.bin": filler(f"{name}@{version}", tarball_size)}
            sim.publish(name, version, files=files, signer=signer)


def load_recorded(sim: RegistrySimulator, directory: Path) -> None:
    """Serve what a directory holds.

    ``<name>/packument.json`` (its tarball URLs are pointed at the simulator), ``<name>/-/<file>``, ``keys.json``, and
    ``attestations/<name>@<version>.json``.
    """
    for path in sorted(directory.rglob("packument.json")):
        name = path.parent.relative_to(directory).as_posix()
        document = json.loads(path.read_bytes())
        for manifest in document.get("versions", {}).values():
            manifest["dist"]["tarball"] = f"{{base}}/{name}/-/{manifest['dist']['tarball'].rpartition('/')[2]}"
        package = sim._packages.setdefault(name, Package(name))
        package.document = document
        package.rev = 1
        for tarball in sorted((path.parent / "-").glob("*")):
            package.tarballs[tarball.name] = tarball.read_bytes()
    if (directory / "keys.json").exists():
        sim.keys = json.loads((directory / "keys.json").read_bytes())["keys"]
    for path in sorted((directory / "attestations").rglob("*.json")):
        key = path.relative_to(directory / "attestations").as_posix().removesuffix(".json")
        sim.attestations[key] = path.read_bytes()
