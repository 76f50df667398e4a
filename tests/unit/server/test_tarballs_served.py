"""Tarballs: whole, in part, and only those that a document names."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.server.forms import Index, find_file
from tests.fakes.storage import MemoryStorage
from tests.unit.server.mirror_builder import make_client, make_document, make_manifest, store, store_package

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirrorwitness.storage import ObjectReader

BODY = bytes(range(256)) * 40
PATH = "/@s%2fn/-/n-1.0.0.tgz"
KEY = "npm/@s/n/-/n-1.0.0.tgz"


def _mirror() -> dict[str, bytes]:
    objects: dict[str, bytes] = {}
    store_package(objects, "@s/n", {"1.0.0": BODY})
    return objects


@pytest.mark.parametrize("path", [PATH, "/@s/n/-/n-1.0.0.tgz", "/%40s%2Fn/-/n-1.0.0.tgz", "/@s/n/-/n-1%2E0.0.tgz"])
async def test_whole_tarball_is_streamed_as_stored(path: str) -> None:
    """The bytes are those that were verified, uncompressed, for ever."""
    answer = await make_client(_mirror()).get(path, accept_encoding="gzip")
    assert answer.body == BODY
    assert len(answer.pieces) == 3, "piece by piece, as the storage gives them"
    assert len(answer.headers.pop("etag")) == 34
    assert answer.headers == {
        "content-type": "application/octet-stream",
        "cache-control": "public, max-age=31536000, immutable",
        "accept-ranges": "bytes",
        "content-length": str(len(BODY)),
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    }


async def test_head_of_a_tarball_reads_nothing() -> None:
    """HEAD has the headers that GET has, and never opens the object."""
    storage = MemoryStorage(_mirror())
    client = make_client(storage)
    head = await client.head(PATH)
    assert storage.keys_of("open") == []
    assert head.headers == (await client.get(PATH)).headers


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-0", 0, 0), ("bytes=100-4999", 100, 4999), ("bytes=5000-", 5000, 10239), ("BYTES=-7", 10233, 10239)],
)
async def test_single_range_is_206(header: str, start: int, end: int) -> None:
    """One range comes with its place in the whole."""
    answer = await make_client(_mirror()).get(PATH, range=header)
    assert (answer.status, answer.body) == (206, BODY[start : end + 1])
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(BODY)}"


@pytest.mark.parametrize("header", ["bytes=10240-", "bytes=99999-100000", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
async def test_range_outside_is_416(header: str) -> None:
    """A range behind the end is refused with the true size."""
    answer = await make_client(_mirror()).get(PATH, range=header)
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */10240")
    assert "10240 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,5-6", "bytes=" + ",".join(["0-"] * 1000), "bytes=5-2", "items=0-1", "bytes=-", "bytes=a-b", ""],
)
async def test_attack_range_bomb_gets_the_whole_once(header: str) -> None:
    """Many ranges, or no range at all, cost one plain answer."""
    answer = await make_client(_mirror()).get(PATH, range=header)
    assert (answer.status, answer.body) == (200, BODY)


async def test_if_range_guards_the_range() -> None:
    """A client that resumes another object's download gets all of this one."""
    client = make_client(_mirror())
    etag = (await client.head(PATH)).headers["etag"]
    assert (await client.get(PATH, range="bytes=1-2", if_range=etag)).status == 206
    for other in ('"other"', f"W/{etag}", "Fri, 01 Jan 2100 00:00:00 GMT"):
        answer = await client.get(PATH, range="bytes=1-2", if_range=other)
        assert (answer.status, answer.body) == (200, BODY)


async def test_tarball_conditions() -> None:
    """304 comes before a range; If-Match that fails is 412."""
    client = make_client(_mirror())
    etag = (await client.head(PATH)).headers["etag"]
    assert (await client.get(PATH, if_none_match=etag, range="bytes=0-1")).status == 304
    assert (await client.get(PATH, if_match='"other"')).status == 412
    assert (await client.get(PATH, if_none_match='"other"')).body == BODY


async def test_empty_tarball_ignores_ranges() -> None:
    """Nothing can be cut out of nothing."""
    objects: dict[str, bytes] = {}
    store_package(objects, "n", {"1.0.0": b""})
    answer = await make_client(objects).get("/n/-/n-1.0.0.tgz", range="bytes=0-")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("file", ["n-9.9.9.tgz", "packument.json", "n-9.9.9.tgz.tlog-proof", "N-1.0.0.tgz", "n-1.0.0"])
async def test_p2_file_that_no_document_names_is_not_there(file: str) -> None:
    """P2: an object beside the named ones is nobody's, even where it exists."""
    objects = _mirror() | {f"npm/@s/n/-/{file}": b"stray"}
    answer = await make_client(objects).get(f"/@s/n/-/{file}")
    assert answer.status == 404


async def test_p2_withdrawn_version_closes_both_doors() -> None:
    """P2: a version that left the document is downloadable by nobody, though its bytes are still stored."""
    objects = _mirror()
    store(objects, make_document("@s/n", {}))
    client = make_client(objects)
    assert (await client.get("/@s/n")).json()["versions"] == {}
    assert (await client.get(PATH)).status == 404


async def test_row_23_refused_version_is_at_neither_door() -> None:
    """Row 23: a version whose inner name is another's is not served, and the others are."""
    objects = _mirror()
    bad = make_manifest("@s/n", "2.0.0", b"") | {"version": "3.0.0"}
    store(objects, make_document("@s/n", {"1.0.0": make_manifest("@s/n", "1.0.0", BODY), "2.0.0": bad}))
    objects["npm/@s/n/-/n-2.0.0.tgz"] = b""
    client = make_client(objects)
    assert list((await client.get("/@s/n")).json()["versions"]) == ["1.0.0"]
    assert (await client.get("/@s/n/-/n-2.0.0.tgz")).status == 404
    assert (await client.get("/@s/n/2.0.0")).status == 404


async def test_row_35_legacy_file_names_keep_working() -> None:
    """Row 35: the file of the stored URL counts, not the computed name."""
    objects: dict[str, bytes] = {"npm/n/-/n-1.0.0beta.tgz": b"old"}
    manifest = make_manifest("n", "1.0.0-beta", b"old", file="n-1.0.0beta.tgz")
    store(objects, make_document("n", {"1.0.0-beta": manifest}))
    client = make_client(objects)
    url = (await client.get("/n/1.0.0-beta")).json()["dist"]["tarball"]
    assert url == "http://mirror.example/n/-/n-1.0.0beta.tgz"
    assert (await client.get("/n/-/n-1.0.0beta.tgz")).body == b"old"
    assert (await client.get("/n/-/n-1.0.0-beta.tgz")).status == 404


async def test_p2_named_but_missing_tarball_is_our_fault() -> None:
    """P2: a broken mirror says so with 500, the key and what to run; never 404, which would mean "no such version"."""
    objects = _mirror()
    del objects[KEY]
    client = make_client(objects)
    for answer in (await client.get(PATH), await client.get(PATH, range="bytes=0-1")):
        assert answer.status == 500
        assert KEY in answer.json()["error"]
        assert "mirrorwitness audit" in answer.json()["error"]


async def test_tarball_that_breaks_half_way_is_cut() -> None:
    """An answer that cannot be finished is broken off, so that the length is wrong and no client believes it."""
    client = make_client(_Truncating(_mirror()))
    with pytest.raises(StorageUnavailableError, match="gave 4096 bytes, expected 10240"):
        await client.get(PATH)


async def test_tarball_that_changes_between_two_looks_is_503() -> None:
    """The size of one object is never put on the bytes of another."""
    storage = MemoryStorage(_mirror())
    client = make_client(storage)
    assert (await client.head(PATH)).status == 200
    storage.set_bytes(KEY, b"other" * 2048)
    for headers in ({"range": "bytes=0-1"}, {"if_none_match": '"x"'}):
        assert (await client.get(PATH, **headers)).status == 503


@pytest.mark.parametrize(
    "url",
    ["http://m.invalid/n/-/..", "http://m.invalid/n/-/a%2fb.tgz", "http://m.invalid/n/-/", "http://[", "x\0", "/.a"],
)
def test_row_20_unsafe_stored_file_is_no_file(url: str) -> None:
    """Row 20: even a stored document cannot make a key out of its package."""
    assert find_file(url) is None


def test_index_says_its_size() -> None:
    """An index costs what its text costs, and something for each entry."""
    index = Index(source="e", files={}, tags={}, names=frozenset())
    assert index.size == 300


class _Truncating(MemoryStorage):
    """A storage whose streams end after their first piece."""

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[ObjectReader]:
        async with super().open(key, start=start, length=min(length or 4096, 4096)) as reader:
            yield reader
