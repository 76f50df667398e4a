"""``scripts/dist.py`` refuses a release whose two builds differ, and says where."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "scripts" / "dist.py"


@pytest.fixture(scope="module")
def dist() -> Any:
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("dist_script", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wheel(path: Path, members: dict[str, str], *, year: int = 2020) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), text)
    return path


def write_archive(path: Path, members: dict[str, str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_two_builds_that_are_equal_pass(dist: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And their digest is shown."""
    paths = [write_wheel(tmp_path / each / "a.whl", {"x": "1"}) for each in ("one", "two")]
    dist.compare(*paths)
    assert capsys.readouterr().out.startswith("a.whl: the same bytes, sha256 ")


def test_a_member_that_differs_is_named(dist: Any, tmp_path: Path) -> None:
    """Of the wheel, and of the source archive; also one that only one of them has."""
    one, two = {"a": "1", "b": "1"}, {"a": "1", "b": "2", "c": "3"}
    for name, write in (("a.whl", write_wheel), ("a.tar.gz", write_archive)):
        with pytest.raises(dist.DistError, match=rf"{name}: two builds differ in b, c$"):
            dist.compare(write(tmp_path / "one" / name, one), write(tmp_path / "two" / name, two))


def test_a_time_that_differs_is_a_difference(dist: Any, tmp_path: Path) -> None:
    """Although every member has the same content."""
    paths = [write_wheel(tmp_path / str(year) / "a.whl", {"x": "1"}, year=year) for year in (2020, 2021)]
    with pytest.raises(dist.DistError, match="differ in times, modes or order"):
        dist.compare(*paths)


def test_a_program_that_fails_ends_it_with_what_it_printed(dist: Any, tmp_path: Path) -> None:
    """Nothing goes on after a step that did not work."""
    with pytest.raises(dist.DistError, match=r"sh -c echo why; exit 3: exit status 3\nwhy"):
        dist.run("sh", "-c", "echo why; exit 3", cwd=tmp_path)
