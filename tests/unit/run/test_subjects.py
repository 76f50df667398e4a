"""What `check` is given: which arguments are what, and what they say."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, LockfileError
from mirrorwitness.run.subjects import Subject, read_subjects
from mirrorwitness.sumdb.verdict import Wanted
from tests.fakes.registry_build import make_tarball
from tests.fakes.sumdb import integrity_of
from tests.unit.sumdb.checked_log import make_log

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version

LOCK = {
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "app"},
        "node_modules/left": {"version": "1.0.0", "integrity": integrity_of(b"left")},
        "node_modules/a/node_modules/left": {"version": "1.0.0", "integrity": integrity_of(b"left")},
        "node_modules/bare": {"version": "2.0.0"},
        "node_modules/forked": {"version": "1.0.0", "resolved": "git+https://git.example/forked.git#abc"},
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wanted(name: str, version: str, integrity: str | None = None, *, is_pinned: bool = True) -> Wanted:
    names: tuple[PackageName, Version] = (name, version)  # type: ignore[assignment]  # new types
    return Wanted(*names, integrity, is_pinned=is_pinned)


def write(path: str, body: bytes | str) -> None:
    Path(path).write_bytes(body if isinstance(body, bytes) else body.encode())


async def read(*arguments: str) -> tuple[Subject, ...]:
    return await read_subjects(arguments, registry=None)


async def refused(*arguments: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await read(*arguments)
    return str(caught.value)


async def test_entries_of_a_lockfile_with_their_lines() -> None:
    """Each version once, in all its places; what no log can have comes last, with the reason."""
    write("package-lock.json", json.dumps(LOCK, indent=2))
    left, bare, forked = await read("package-lock.json")
    assert left == Subject(
        "package-lock.json", "left@1.0.0", wanted("left", "1.0.0", integrity_of(b"left")), lines=(7, 11)
    )
    assert bare == Subject("package-lock.json", "bare@2.0.0", wanted("bare", "2.0.0"), lines=(15,))
    assert (forked.title, forked.wanted, forked.lines) == ("node_modules/forked", None, (18,))
    assert forked.skipped == "from git: git+https://git.example/forked.git"


async def test_a_name_is_no_file() -> None:
    """Nothing is pinned; the registry that is expected goes to every subject."""
    assert await read("@s/left@1.0.0", "left@v2.0.0-rc.1+b") == (
        Subject("@s/left@1.0.0", "@s/left@1.0.0", wanted("@s/left", "1.0.0", is_pinned=False), is_file=False),
        Subject(
            "left@v2.0.0-rc.1+b", "left@2.0.0-rc.1+b", wanted("left", "2.0.0-rc.1+b", is_pinned=False), is_file=False
        ),
    )
    (subject,) = await read_subjects(["left@1.0.0"], registry="registry.example")
    assert subject.wanted is not None
    assert subject.wanted.registry == "registry.example"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("left", "no such file, and not NAME@VERSION either"),
        ("./left@1.0.0", "no such file"),
        ("left@^1.0.0", "expected an exact version behind the @, such as left@1.2.3"),
        ("left@latest", "expected an exact version"),
        ("left@1", "expected an exact version"),
        (".", "is a directory"),
        ("a b@1.0.0", "is not of the form"),
    ],
)
async def test_arguments_that_are_neither(argument: str, reason: str) -> None:
    """The message says what was expected."""
    assert reason in await refused(argument)


async def test_lockfiles_that_are_not_read_yet() -> None:
    """A clear error, and no half check."""
    write("yarn.lock", "# yarn lockfile v1\n")
    with pytest.raises(LockfileError, match="is a yarn lockfile, which mirrorwitness does not read yet"):
        await read("yarn.lock")


def tarball(path: str, name: str = "left", version: str = "1.0.0") -> bytes:
    data = make_tarball({"index.js": b"1"}, name=name, version=version)
    Path(path).write_bytes(data)
    return data


async def test_a_tarball_is_what_its_bytes_and_its_package_json_say() -> None:
    """Found by its name, or by its first bytes."""
    data = tarball("left-1.0.0.tgz")
    assert await read("left-1.0.0.tgz") == (
        Subject("left-1.0.0.tgz", "left@1.0.0", wanted("left", "1.0.0", integrity_of(data))),
    )
    data = tarball("download", "@s/left", "v2.0.0")
    assert await read("download") == (
        Subject(
            "download",
            "@s/left@2.0.0",
            wanted("@s/left", "2.0.0", integrity_of(data)),
            note="the file download is @s/left@2.0.0 by its own package.json",
        ),
    )


async def test_a_tarball_that_may_be_several_things() -> None:
    """Two files called package.json, or none."""
    for count, reason in ((2, "has 2 files called package.json"), (0, "has no package.json")):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for _ in range(count):
                info = tarfile.TarInfo("package/package.json")
                info.size = 2
                archive.addfile(info, io.BytesIO(b"{}"))
        write("a.tgz", raw.getvalue())
        assert f"a.tgz: {reason}" in await refused("a.tgz")


async def test_the_proof_beside_a_tarball_is_taken_along() -> None:
    """As it is; nobody has looked into it."""
    tarball("left-1.0.0.tgz")
    write("left-1.0.0.tgz.tlog-proof", b"anything")
    (subject,) = await read("left-1.0.0.tgz")
    assert subject.proof == b"anything"


async def test_a_tarball_that_cannot_be_read() -> None:
    """An error; with a proof beside it, it is what that says, and its bytes are others."""
    write("left-1.0.0.tgz", b"\x1f\x8bnothing")
    assert "left-1.0.0.tgz: tarball: " in await refused("left-1.0.0.tgz")
    log = make_log(20)
    write("left-1.0.0.tgz.tlog-proof", log.proof(5, 20) + log.checkpoint(20))
    (subject,) = await read("left-1.0.0.tgz")
    assert subject.wanted == wanted("left", "1.0.0", integrity_of(b"\x1f\x8bnothing"))
    write("left-1.0.0.tgz.tlog-proof", b"anything")
    assert "left-1.0.0.tgz.tlog-proof: tlog-proof: " in await refused("left-1.0.0.tgz")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"package.json": b"[]"}, "has no name and version"),
        ({"package.json": b'{"name": "left"}'}, "has no name and version"),
        ({"package.json": b'{"name": "..", "version": "1.0.0"}'}, "begins with"),
    ],
)
async def test_tarballs_that_say_nothing(files: dict[str, bytes], reason: str) -> None:
    """Nobody could say what to look for."""
    write("a.tgz", make_tarball(files, name="left", version="1.0.0"))
    assert reason in await refused("a.tgz")
