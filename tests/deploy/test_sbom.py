"""The image's bill of materials, ``image/sbom.py``: every package once, with its digest, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "image" / "sbom.py"
DIGEST = "sha256:" + "ab" * 32
PACKAGES = f"zlib1g 1:1.2.13.dfsg-1 amd64 {'2' * 64}\ntzdata 2026f-0+deb12u1 all {'1' * 64}\n"


def write_bom(
    folder: Path, *, packages: str = PACKAGES, wheels: dict[str, bytes] | None = None
) -> tuple[int, str, str]:
    folder.mkdir()
    (folder / "debian.txt").write_text(packages)
    (folder / "wheels").mkdir()
    default = {"mirrorwitness-1.2.0-py3-none-any.whl": b"ours", "ruamel_yaml-0.1.post1-cp311-abi3-any.whl": b"theirs"}
    for name, body in (default if wheels is None else wheels).items():
        (folder / "wheels" / name).write_bytes(body)
    words: list[str | Path] = [
        "--debian",
        folder / "debian.txt",
        "--wheels",
        folder / "wheels",
        "--digest",
        DIGEST,
        "--epoch",
        "86400",
    ]
    done = subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def component(kind: str, name: str, version: str, purl: str, digest: str) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes}


@pytest.mark.slow
def test_it_names_everything_with_its_digest(tmp_path: Path) -> None:
    """Packages and wheels, and the image itself as what is described."""
    code, text, _ = write_bom(tmp_path / "one")
    assert code == 0
    bom = json.loads(text)
    theirs, ours = (hashlib.sha256(body).hexdigest() for body in (b"theirs", b"ours"))
    assert bom["components"] == [
        component("library", "tzdata", "2026f-0+deb12u1", "pkg:deb/debian/tzdata@2026f-0%2Bdeb12u1?arch=all", "1" * 64),
        component(
            "library", "zlib1g", "1:1.2.13.dfsg-1", "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64", "2" * 64
        ),
        component("application", "mirrorwitness", "1.2.0", "pkg:pypi/mirrorwitness@1.2.0", ours),
        component("library", "ruamel-yaml", "0.1.post1", "pkg:pypi/ruamel-yaml@0.1.post1", theirs),
    ]
    image = bom["metadata"]["component"]
    assert bom["metadata"]["timestamp"] == "1970-01-02T00:00:00+00:00"
    assert (image["type"], image["version"], image["hashes"][0]["content"]) == ("container", "1.2.0", "ab" * 32)
    assert bom["dependencies"] == [
        {"ref": image["bom-ref"], "dependsOn": [each["bom-ref"] for each in bom["components"]]}
    ]


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    """Wherever they lie, and in whatever order the packages are listed."""
    reversed_list = "".join(reversed(PACKAGES.splitlines(keepends=True)))
    assert write_bom(tmp_path / "one") == write_bom(tmp_path / "two", packages=reversed_list + reversed_list)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "wheels", "expected"),
    [
        ("zlib1g 1 amd64\n", None, "has 3 words"),
        ("", {}, "there are 0 wheels of mirrorwitness, expected one"),
        ("", {"mirrorwitness.whl": b""}, "mirrorwitness.whl is no name of a wheel"),
    ],
)
def test_what_is_not_understood_is_refused(
    packages: str, wheels: dict[str, bytes] | None, expected: str, tmp_path: Path
) -> None:
    """A bill that leaves something out would be worse than none."""
    code, text, errors = write_bom(tmp_path / "one", packages=packages, wheels=wheels)
    assert (code, text) == (1, "")
    assert expected in errors
