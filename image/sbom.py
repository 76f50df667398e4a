"""Say what an image is made of: every Debian package and every wheel, with version and digest, as CycloneDX JSON.

python sbom.py --debian DEBIAN.TXT --wheels FOLDER --digest sha256:… --epoch SECONDS

- The same inputs give the same bytes: no time of this run, no random number, everything sorted.
- A digest is that of the file which was unpacked into the image (``.deb``, ``.whl``), not of what lies there now.

It does not look into the image: `image/build` hands over what it unpacked and installed. SPEC: CycloneDX 1.6.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

PRODUCT: Final = "mirrorwitness"
PACKAGE_FIELDS: Final = 4
"""Of a line about a Debian package: name, version, architecture, SHA-256."""

WHEEL: Final = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[^-]+)(-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl")

Component = dict[str, object]


def read_packages(text: str) -> list[Component]:
    """Return the Debian packages of a list.

    Args:
        text: a line for each, ``NAME VERSION ARCHITECTURE SHA256``, as `image/build` writes it.

    Raises:
        ValueError: a line has another form.
    """
    found: list[Component] = []
    for line in sorted(set(text.splitlines())):
        words = line.split()
        if len(words) != PACKAGE_FIELDS:
            raise ValueError(f"{line!r} has {len(words)} words, expected name, version, architecture and SHA-256")
        name, version, architecture, digest = words
        address = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={architecture}"
        found.append(_component("library", name, version, address, digest))
    return found


def read_wheels(folder: Path) -> list[Component]:
    """Return the wheels of a folder, ours among them.

    Raises:
        ValueError: a file there has no name of a wheel.
    """
    return [_read_wheel(path) for path in sorted(folder.iterdir())]


def make_bom(packages: list[Component], wheels: list[Component], *, digest: str, epoch: int) -> Component:
    """Return the bill of materials.

    Args:
        packages: the Debian packages.
        wheels: the wheels, one of which is the product's.
        digest: of the image's manifest, ``sha256:…``.
        epoch: the time that everything in the image has, in seconds.

    Raises:
        ValueError: the product's wheel is not there, or twice.
    """
    ours = [each for each in wheels if each["name"] == PRODUCT]
    if len(ours) != 1:
        raise ValueError(f"there are {len(ours)} wheels of {PRODUCT}, expected one")
    # One component for each address: a package that two file systems share is one package.
    components = {str(each["bom-ref"]): each for each in [*packages, *wheels]}
    image: Component = {
        "type": "container",
        "bom-ref": f"pkg:oci/{PRODUCT}@{quote(digest, safe='')}",
        "name": PRODUCT,
        "version": ours[0]["version"],
        "purl": f"pkg:oci/{PRODUCT}@{quote(digest, safe='')}",
        "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, str(image['purl']))}",
        "version": 1,
        "metadata": {"timestamp": datetime.fromtimestamp(epoch, UTC).isoformat(), "component": image},
        "components": [components[ref] for ref in sorted(components)],
        "dependencies": [{"ref": image["bom-ref"], "dependsOn": sorted(components)}],
    }


def _read_wheel(path: Path) -> Component:
    parts = WHEEL.fullmatch(path.name)
    if parts is None:
        raise ValueError(f"{path.name} is no name of a wheel")
    name, version = parts["name"].replace("_", "-").lower(), parts["version"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kind = "application" if name == PRODUCT else "library"
    return _component(kind, name, version, f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}", digest)


def _component(kind: str, name: str, version: str, address: str, digest: str) -> Component:
    return {
        "type": kind,
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def main() -> None:
    """Write the bill of materials to standard output."""
    parser = argparse.ArgumentParser(description="Write an image's bill of materials, CycloneDX JSON.")
    parser.add_argument("--debian", type=Path, required=True, help="list of Debian packages")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the wheels that were installed")
    parser.add_argument("--digest", required=True, help="of the image's manifest")
    parser.add_argument("--epoch", type=int, required=True, help="time of everything in the image, in seconds")
    options = parser.parse_args()
    packages = read_packages(options.debian.read_text(encoding="utf-8"))
    bom = make_bom(packages, read_wheels(options.wheels), digest=options.digest, epoch=options.epoch)
    json.dump(bom, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
