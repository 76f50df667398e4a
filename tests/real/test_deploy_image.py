"""The container image: what is in it, that it runs, and that building it again gives the same one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.deploy.pods import Start
from tests.fakes.thread import serve_in_thread
from tests.real.cluster import launch
from tests.real.image import build_image, needs_image_tools
from tests.real.overlays import find_tool, needs_k8s_tools
from tests.real.servers import wait_for_http

if TYPE_CHECKING:
    import os

    from tests.real.cluster import Pod
    from tests.real.image import Image

pytestmark = [needs_image_tools, pytest.mark.timeout(900)]

USER: Final = 65532
MOST_BYTES: Final = 150_000_000
HOME: Final = "/var/lib/mirrorwitness"
TOOLS: Final = re.compile(
    r"(ba|da|z|k|c)?sh|busybox|apt(-get)?|dpkg(-.*)?|pip[0-9.]*|perl|curl|wget|gcc|ld|openssl|su(do)?"
)

VALIDATE: Final = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text()) and "not valid")
"""
"""For the Python that has the schemas; silent where there is nothing to say."""


def bill_of(image: Image) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(image.bill.read_bytes())
    return found


def files_of(image: Image) -> dict[str, os.stat_result]:
    """Return all files, no links and folders, by their path in the image."""
    return {
        path.relative_to(image.root).as_posix(): path.stat(follow_symlinks=False)
        for path in image.root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def run(image: Image, place: Path, *words: str, environment: dict[str, str] | None = None) -> Pod:
    """Start the image with its own folder as a volume."""
    place.mkdir()
    home = place.parent / "home"
    home.mkdir(exist_ok=True)
    shutil.chown(home, USER, USER)
    start = Start(words[0], "", words, environment or {}, {}, {"/tmp": 2**26}, USER, USER)
    return launch(image, start, place, volumes={HOME: home})


def test_it_is_small(image: Image) -> None:
    """Below 150 MB, uncompressed."""
    assert sum({each.st_ino: each.st_size for each in files_of(image).values()}.values()) < MOST_BYTES


def test_it_has_no_shell_and_no_tools(image: Image) -> None:
    """The only program is Python; no file runs as somebody else."""
    files = files_of(image)
    programs = {name for name, each in files.items() if each.st_mode & 0o111}
    native = {name for name in programs if (image.root / name).read_bytes()[:4] == b"\x7fELF" and ".so" not in name}
    assert native == {"usr/bin/python3.11"}
    assert {name for name in programs if TOOLS.fullmatch(name.rpartition("/")[2])} == set()
    assert {name for name, each in files.items() if each.st_mode & 0o6000} == set()


def test_its_user_can_write_nowhere_but_at_home(image: Image) -> None:
    """Also without a read-only root: everything else is root's, and nobody else may write it."""
    open_places = set()
    for path in image.root.rglob("*"):
        found = path.stat(follow_symlinks=False)
        if not path.is_symlink() and (found.st_uid == USER or found.st_mode & 0o002):
            open_places.add(path.relative_to(image.root).as_posix())
    assert open_places == {"tmp", HOME.lstrip("/")}


def test_what_it_says_of_itself(image: Image) -> None:
    """User, entry point, where it works, which version of which commit; and nothing of what built it."""
    config = image.config["config"]
    assert (config["User"], config["WorkingDir"]) == (f"{USER}:{USER}", HOME)
    assert (config["Entrypoint"], config["Cmd"]) == (["/opt/mirrorwitness/bin/mirrorwitness"], ["--help"])
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels.keys() == {"licenses", "revision", "title", "version"}
    assert (labels["title"], labels["version"]) == ("mirrorwitness", version_of("mirrorwitness"))
    assert len(image.config["rootfs"]["diff_ids"]) == 1


@pytest.mark.slow
def test_it_runs_as_its_user_and_mirrors_and_serves(image: Image, tmp_path: Path) -> None:
    """Its version; a sync from a registry on loopback, and what it stored, served."""
    tmp_path.chmod(0o755)
    version = run(image, tmp_path / "version", "--version")
    assert (version.wait(), version.output.read_text().split()[-1]) == (0, version_of("mirrorwitness"))
    environment = {"MIRRORWITNESS_STORAGE": f"file:{HOME}/mirror"}
    with serve_in_thread() as registry:
        registry.sim.publish("left", "1.0.0")
        words = ("sync", "--once", "left", "--registry", registry.url)
        sync = run(image, tmp_path / "sync", *words, environment=environment)
        assert sync.wait() == 0, sync.said()
    server = run(image, tmp_path / "serve", "serve", "--listen", "127.88.3.1:4873", environment=environment)
    try:
        wait_for_http(server.process, "http://127.88.3.1:4873/left")
        assert server.terminate() == 0, server.said()
    finally:
        server.process.kill()
        server.process.wait()
    stored = tmp_path / "home" / "mirror" / "npm" / "left" / "-" / "left-1.0.0.tgz"
    assert (stored.stat().st_uid, stored.stat().st_size > 0) == (USER, True)


@needs_k8s_tools
def test_its_bill_of_materials_is_valid_and_complete(image: Image) -> None:
    """By the schema of CycloneDX; it has every installed distribution and every package whose files are there."""
    command = [find_tool("python"), "-c", VALIDATE, str(image.bill)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    bill = bill_of(image)
    assert bill["metadata"]["component"]["hashes"] == [
        {"alg": "SHA-256", "content": image.digest.removeprefix("sha256:")}
    ]
    named = {(each["purl"].split("/")[0], each["name"], each["version"]) for each in bill["components"]}
    installed = set()
    for path in (image.root / "opt/mirrorwitness").glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        installed.add(("pkg:pypi", name.replace("_", "-").lower(), version))
    assert {each for each in named if each[0] == "pkg:pypi"} == installed
    packages = {path.name for path in (image.root / "usr/share/doc").iterdir()}
    assert packages <= {name for kind, name, _ in named if kind == "pkg:deb"}


def test_every_wheel_in_it_is_one_that_the_lock_file_names(image: Image) -> None:
    """By its hash; our own is the exception."""
    lock = (Path(__file__).parents[2] / "requirements" / "run.txt").read_text(encoding="utf-8")
    locked = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock))
    wheels = [each for each in bill_of(image)["components"] if each["purl"].startswith("pkg:pypi/")]
    unknown = {each["name"] for each in wheels if each["hashes"][0]["content"] not in locked}
    assert unknown == {"mirrorwitness"}


@pytest.mark.slow
def test_building_it_again_gives_the_same_bytes(image: Image, tmp_path: Path) -> None:
    """In another folder, from nothing: the digest and the bill of materials."""
    if image.tree is None:
        pytest.skip("IMAGE_LAYOUT names an image that was not built here")
    shutil.copytree(image.tree, tmp_path / "elsewhere", ignore=shutil.ignore_patterns(".cache"))
    assert build_image(tmp_path / "elsewhere", tmp_path / "again") == image.digest
    assert (tmp_path / "again.cdx.json").read_bytes() == image.bill.read_bytes()
