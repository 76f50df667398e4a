"""What may stand after ``--storage``, and what each wrong address is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage.address import LocalAddress, S3Address, open_storage, parse_address
from mirrorwitness.storage.local import LocalStorage
from mirrorwitness.storage.local_names import Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:/srv/mirror", LocalAddress(Path("/srv/mirror"))),
        ("file:///srv/mirror", LocalAddress(Path("/srv/mirror"))),
        ("file:./a%20b c", LocalAddress(Path("a%20b c"))),
        ("file:m?fsync=off", LocalAddress(Path("m"), fsync=False)),
        ("file:m?fsync=on&names=escaped&threads=4", LocalAddress(Path("m"), names=Names.ESCAPED, threads=4)),
        ("s3://bucket", S3Address("bucket")),
        ("s3://bucket/", S3Address("bucket")),
        ("s3://bucket/a/b/", S3Address("bucket", "a/b/")),
        (
            "s3://my.bucket_1/a?endpoint=http://127.0.0.1:9000/&region=eu-1&profile=ci",
            S3Address("my.bucket_1", "a/", "http://127.0.0.1:9000", "eu-1", "ci"),
        ),
        ("s3://bucket?endpoint=https%3A%2F%2Fs3.example", S3Address("bucket", endpoint="https://s3.example")),
    ],
)
def test_addresses(text: str, expected: LocalAddress | S3Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither file: nor s3://"),
        ("/srv/mirror", "neither file: nor s3://"),
        ("http://user:secret@host/x", r"'http://…@host/x' begins with neither"),
        ("file:", "names no directory"),
        ("file:?fsync=off", "names no directory"),
        ("file:a\0b", "names no directory"),
        ("file://host/dir", "names a host"),
        ("file:m?sync=off", "option 'sync'; expected fsync, names, threads"),
        ("file:m?fsync=no", r"fsync is 'no', expected on\|off"),
        ("file:m?fsync=on&fsync=off", "option 'fsync' twice"),
        ("file:m?threads=0", "threads is '0'"),
        ("file:m?threads=999", "expected at most 256"),
        ("s3://", "cannot be a bucket's name"),
        ("s3://a/b", "'a' cannot be a bucket's name"),
        ("s3://KEY:secret@bucket/x", "holds credentials or a port"),
        ("s3://bucket:9000/x", "holds credentials or a port"),
        ("s3://bucket/a//b", "has an empty component"),
        ("s3://bucket/../b", "begins with a dot"),
        ("s3://bucket/" + "x/" * 150, "at most 256 bytes"),
        ("s3://bucket?endpoint=", "endpoint is ''"),
        ("s3://bucket?endpoint=host:9000", "expected http"),
        ("s3://bucket?endpoint=http://host:9000/path", "and nothing else"),
        ("s3://bucket?endpoint=http://u:secret@host", r"http://…@host.*and nothing else"),
        ("s3://bucket?endpoint=http://host:99999", "is not a URL"),
        ("s3://bucket?endpoint=http://[::1", "is not a URL"),
        ("s3://bucket?region=a/b", "region is 'a/b'"),
    ],
)
def test_wrong_addresses_are_told_what_was_expected(text: str, message: str) -> None:
    """Every message says what is wrong; none repeats a secret."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


async def test_open_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory is made, and no S3 code is loaded for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mirrorwitness.storage.s3", None)
    async with open_storage("file:a/b?fsync=off&threads=2") as storage:
        assert isinstance(storage, LocalStorage)
        await storage.put("k", b"x")
    assert (tmp_path / "a/b/k").read_bytes() == b"x"
