"""Whether two addresses name two storages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage.apart import check_apart, is_begun

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("file:a", "file:a", "are one storage"),
        ("file:a", "file:./b/../a?fsync=off", "are one storage"),
        ("file:a", "file:link", "are one storage"),
        ("file:a", "file:a/b/c", "file:a/b/c lies inside file:a;"),
        ("file:a", "file:link/b", "file:link/b lies inside file:a;"),
        ("file:a/b", "file:a", "file:a/b lies inside file:a;"),
        ("file:none", "file:none", "are one storage"),
        ("s3://bucket", "s3://bucket/", "are one storage"),
        ("s3://bucket/x", "s3://bucket/x/?region=eu", "are one storage"),
        ("s3://bucket", "s3://bucket/x", "s3://bucket/x lies inside s3://bucket;"),
        ("s3://bucket/x/y", "s3://bucket/x", "s3://bucket/x/y lies inside s3://bucket/x;"),
        ("nonsense", "file:a", "begins with neither"),
    ],
)
def test_what_is_refused(source: str, target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One storage under two names, and one within the other."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
        check_apart(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("file:a", "file:ab"),
        ("file:a", "file:b"),
        ("file:a", "s3://bucket/a"),
        ("s3://bucket/x", "s3://bucket/xy"),
        ("s3://bucket", "s3://bucket?endpoint=http://127.0.0.1:1"),
        ("s3://bucket", "s3://other"),
    ],
)
def test_what_is_apart(source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where names begin alike, or nothing is there yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    check_apart(source, target)
    check_apart(target, source)


def test_a_directory_is_begun_once_it_has_its_marker(tmp_path: Path) -> None:
    """Nobody knows of a bucket."""
    address = f"file:{tmp_path}"
    assert not is_begun(address)
    (tmp_path / ".mirrorwitness").touch()
    assert is_begun(address)
    assert is_begun("s3://bucket")
