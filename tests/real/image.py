"""The container image: built by ``image/build`` out of a copy of this tree, and unpacked, so that it can be run.

`built_image` gives the same one to all tests of a session. ``IMAGE_LAYOUT=DIR`` names an OCI layout that is taken
instead of building one, to try an image that was built before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.real.clients import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EPOCH", "TAG", "Image", "build_image", "built_image", "copy_tree", "needs_image_tools", "unpack_image"]

TAG: Final = "mirrorwitness"
"""What ``image/build`` calls the image in its layout."""

EPOCH: Final = 1_767_225_600
"""The time of everything in the images of tests: the tree that they are built from may have no commit."""

TOOLS: Final = ("buildah", "mmdebstrap", "skopeo", "umoci")
BUILD_SECONDS: Final = 600
"""A build takes 70 s on two cores that do nothing else."""

needs_image_tools: Final = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, TOOLS)),
    reason=f"needs root and {', '.join(TOOLS)}: scripts/real/install-deploy image",
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is unpacked.

    Attributes:
        digest: of its manifest.
        config: what it says of itself (OCI image configuration).
        root: its files.
        layout: the OCI layout it came from; its bill of materials lies beside it.
        tree: the copy of this tree that it was built from; None where IMAGE_LAYOUT named it.
    """

    digest: str
    config: dict[str, Any]
    root: Path
    layout: Path
    tree: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(each.split("=", 1) for each in self.config["config"]["Env"])

    @property
    def bill(self) -> Path:
        """Its bill of materials."""
        return self.layout.with_name(f"{self.layout.name}.cdx.json")


def copy_tree(target: Path, *, source: Path = ROOT) -> None:
    """Copy what is, or may come, under version control: other work in the tree does not change it during a build."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=source, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def build_image(tree: Path, layout: Path) -> str:
    """Build the image of a tree; return its digest."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "REVISION": "test", "PYTHON": sys.executable}
    command = [str(tree / "image" / "build"), str(layout)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def unpack_image(layout: Path, root: Path) -> Image:
    """Unpack the image of a layout."""
    blobs = layout / "blobs" / "sha256"
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_bytes())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    command = ["umoci", "raw", "unpack", "--image", f"{layout}:{TAG}", str(root)]
    subprocess.run(command, check=True, capture_output=True)
    return Image(entry["digest"], config, root, layout)


@contextmanager
def built_image() -> Iterator[Image]:
    """Build the image, or take the one that IMAGE_LAYOUT names, and unpack it for as long as the block."""
    with tempfile.TemporaryDirectory(prefix="mw-image-") as scratch:
        # Its users, root and another one, have to get at their files.
        Path(scratch).chmod(0o755)
        root = Path(scratch) / "root"
        if given := os.environ.get("IMAGE_LAYOUT"):
            yield unpack_image(Path(given).absolute(), root)
            return
        layout, tree = Path(scratch) / "layout", Path(scratch) / "tree"
        copy_tree(tree)
        build_image(tree, layout)
        yield replace(unpack_image(layout, root), tree=tree)
