"""The files of a bundle: what a writer leaves behind, and what a reader takes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    StorageRefusedError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamUnreachableError,
)
from mirrorwitness.mirror import bundlefile
from mirrorwitness.mirror.bundlefile import open_bundle_file, open_writer

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"objects/" + "a" * 64: b"", "objects/" + "b" * 64: b"x" * 3_000_000, "manifest.json": b"{}"}
SUM = "manifest.json.sha256"


async def write(path: Path, files: dict[str, bytes] = FILES) -> Path:
    async with open_writer(path) as writer:
        for name, body in files.items():
            await writer.put(name, body)
            await writer.put(name, body)  # each once
        await writer.put(SUM, b"sum")
    return path


async def fail(path: Path) -> None:
    """Write a part of a bundle, and fail."""
    async with open_writer(path) as writer:
        await writer.put("manifest.json", b"{}")
        raise KeyError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["one.tar", "one"])
async def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    """Every size, block limits included; two times are once."""
    sizes = {f"objects/{size:064x}": bytes([size % 256]) * size for size in (0, 1, 511, 512, 513, 1024)}
    file = await open_bundle_file(await write(tmp_path / name, {**FILES, **sizes}))
    assert {name: await file.read(name, limit=1 << 22) for name in file.sizes} == {**FILES, **sizes, SUM: b"sum"}
    with pytest.raises(UpstreamNotFoundError, match=r"manifest.json.note is not there"):
        await file.read("manifest.json.note", limit=10)
    with pytest.raises(UpstreamProtocolError, match="expected at most 10"):
        await file.read("objects/" + "b" * 64, limit=10)
    assert names_in(tmp_path) == [name]


async def test_other_programs_read_the_tar(tmp_path: Path) -> None:
    """It is an ordinary tar, to look into."""
    path = await write(tmp_path / "one.tar")
    done = subprocess.run(["tar", "tf", path], check=True, capture_output=True, text=True)  # noqa: ASYNC221
    assert done.stdout.split() == [*FILES, SUM]


@pytest.mark.parametrize("name", ["one.tar", "one"])
async def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, name: str) -> None:
    """There is a bundle once it is whole, and nothing before; what a killed one left is written over."""
    for _ in range(2):
        with pytest.raises(KeyError):
            await fail(tmp_path / name)
        assert names_in(tmp_path) == []
    left = tmp_path / f"{name}.partial"
    if name == "one":
        (left / "objects").mkdir(parents=True)
    else:
        left.write_bytes(b"left")
    await write(tmp_path / name)
    assert names_in(tmp_path) == [name]


async def test_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    """What is there may be the only copy."""
    path = await write(tmp_path / "one.tar")
    with pytest.raises(ConfigurationError, match="never replaced"):
        await write(path)


@pytest.mark.parametrize("name", ["absent/one.tar", "file/one"])
async def test_where_nothing_can_be_written(tmp_path: Path, name: str) -> None:
    """The storage is at fault, and the message says what it said."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageRefusedError, match="cannot be written"):
        await write(tmp_path / name)


async def test_what_is_no_bundle(tmp_path: Path) -> None:
    """Nothing, an empty directory, an empty file, a text, a bundle without its end."""
    with pytest.raises(ConfigurationError, match="no such file"):
        await open_bundle_file(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UpstreamProtocolError, match="an export writes them last"):
        await open_bundle_file(tmp_path / "empty")
    (tmp_path / "none.tar").write_bytes(b"")
    with pytest.raises(UpstreamUnreachableError, match="its end is missing"):
        await open_bundle_file(tmp_path / "none.tar")
    (tmp_path / "text.tar").write_bytes(b"text" * 512)
    with pytest.raises(UpstreamProtocolError, match="no header as an export writes it"):
        await open_bundle_file(tmp_path / "text.tar")
    body = (await write(tmp_path / "one.tar")).read_bytes()
    (tmp_path / "end.tar").write_bytes(body[:-512])
    with pytest.raises(UpstreamProtocolError, match="expected its end at byte"):
        await open_bundle_file(tmp_path / "end.tar")


async def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    """A medium that is pulled out, or a copy that goes on: never taken for the end."""
    path = await write(tmp_path / "one")
    file = await open_bundle_file(path)
    (path / "objects" / ("b" * 64)).write_bytes(b"x")
    with pytest.raises(UpstreamUnreachableError, match="it was longer when it was opened"):
        await file.read("objects/" + "b" * 64, limit=1 << 22)
    (path / "objects" / ("b" * 64)).unlink()
    with pytest.raises(UpstreamUnreachableError, match="cannot be read"):
        await file.read("objects/" + "b" * 64, limit=1 << 22)


async def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of files, and a size that a header can say."""
    path = await write(tmp_path / "one")
    monkeypatch.setattr(bundlefile, "MAX_ENTRIES", 2)
    with pytest.raises(UpstreamProtocolError, match="more than 2 files"):
        await open_bundle_file(path)
    monkeypatch.setattr(bundlefile, "_MAX_SIZE", 3)
    with pytest.raises(ConfigurationError, match="more than the 3 that fit into a tar"):
        await write(tmp_path / "two.tar")
    assert names_in(tmp_path) == ["one"]
