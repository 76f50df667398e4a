"""Views by tree size: what the registry had when the log had so many records, at both doors (P2)."""

from __future__ import annotations

import msgspec
import pytest
import trio

from mirrorwitness.mirror.catalogue import HeldVersion, PackageRecord
from mirrorwitness.mirror.layout import proof_key, record_key
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.server.views import Views
from mirrorwitness.sumdb.index import IndexLine, PackageIndex, format_index
from mirrorwitness.sumdb.paths import index_key
from mirrorwitness.sumdb.records import Event
from tests.fakes.storage import MemoryStorage
from tests.unit.server.mirror_builder import make_client, store_package

NAME = PackageName("left")
BODIES = {"1.0.0": b"one", "1.1.0": b"two", "2.0.0": b"three"}
EVENTS = [
    (3, "publish", "1.0.0"),
    (5, "publish", "1.1.0"),
    (7, "unpublish", "1.0.0"),
    (9, "publish", "2.0.0"),
    (11, "conflict", "1.1.0"),
    (12, "publish", "1.0.0"),
]


def make_mirror(*, has_index: bool = True, has_record: bool = True) -> dict[str, bytes]:
    """Return a mirror with three versions, whose leaves are known from the log's index, its own record, or both."""
    objects: dict[str, bytes] = {}
    store_package(objects, "left", BODIES)
    for version in BODIES:
        objects[proof_key(NAME, f"left-{version}.tgz")] = f"proof of {version}".encode()
    if has_index:
        lines = [IndexLine(i, Event(event), Version(v), "registry.example", "A" * 22) for i, event, v in EVENTS]
        objects[index_key(NAME)] = format_index(PackageIndex(NAME, tuple(lines)))
    if has_record:
        leaves = {"1.0.0": 3, "1.1.0": 5, "2.0.0": None}
        held = {
            Version(version): HeldVersion(file=f"left-{version}.tgz", size=3, sri="", leaf=leaf)
            for version, leaf in leaves.items()
        }
        objects[record_key(NAME)] = msgspec.json.encode(PackageRecord(name=NAME, versions=held))
    return objects


@pytest.mark.parametrize(
    ("size", "versions", "latest", "times"),
    [
        (4, ["1.0.0"], "1.0.0", ["1.0.0"]),
        (6, ["1.0.0", "1.1.0"], "1.1.0", ["1.0.0", "1.1.0"]),
        (8, ["1.1.0"], "1.1.0", ["1.0.0", "1.1.0"]),
        (10, ["1.1.0", "2.0.0"], "2.0.0", ["1.0.0", "1.1.0", "2.0.0"]),
        (12, ["2.0.0"], "2.0.0", ["1.0.0", "1.1.0", "2.0.0"]),
        (13, ["1.0.0", "2.0.0"], "2.0.0", ["1.0.0", "1.1.0", "2.0.0"]),
        (10**18, ["1.0.0", "2.0.0"], "2.0.0", ["1.0.0", "1.1.0", "2.0.0"]),
    ],
)
async def test_a_view_has_what_was_published_below_its_size(
    size: int, versions: list[str], latest: str, times: list[str]
) -> None:
    """Versions, dist-tags and times of that size; what was withdrawn or in conflict by then is not there."""
    client = make_client(make_mirror())
    document = (await client.get(f"/-/at/{size}/left")).json()
    assert (list(document["versions"]), document["dist-tags"]["latest"]) == (versions, latest)
    assert list(document["time"]) == ["modified", *times]
    short = (await client.get(f"/-/at/{size}/left", accept="application/vnd.npm.install-v1+json")).json()
    assert list(short["versions"]) == versions
    assert (await client.get(f"/-/at/{size}/-/package/left/dist-tags")).json() == {"latest": latest}
    assert (await client.get(f"/-/at/{size}/left/latest")).json()["version"] == latest


async def test_p2_both_doors_of_a_view_are_the_same() -> None:
    """URLs in its documents stay in it; what it does not have has no tarball, no proof and no document in it."""
    client = make_client(make_mirror())
    document = (await client.get("/-/at/6/left")).json()
    urls = [manifest["dist"]["tarball"] for manifest in document["versions"].values()]
    assert urls == [f"http://mirror.example/-/at/6/left/-/left-{version}.tgz" for version in ("1.0.0", "1.1.0")]
    assert (await client.get("/-/at/6/left/-/left-1.1.0.tgz")).body == b"two"
    proof = await client.get("/-/at/6/left/-/left-1.1.0.tgz.tlog-proof")
    assert (proof.body, proof.headers["content-type"]) == (b"proof of 1.1.0", "text/plain; charset=utf-8")
    for path in ("left/2.0.0", "left/-/left-2.0.0.tgz", "left/-/left-2.0.0.tgz.tlog-proof"):
        answer = await client.get(f"/-/at/6/{path}")
        assert answer.status == 404
        assert "tree size 6" in answer.json()["error"]
    assert (await client.get("/left/2.0.0")).status == 200


async def test_a_package_that_came_later_is_not_there() -> None:
    """404, as the registry would have said; so is one of which the log knows nothing."""
    client = make_client(make_mirror())
    assert (await client.get("/-/at/3/left")).status == 404
    assert (await client.get("/-/at/3/left/latest")).status == 404
    assert (await client.get("/-/at/3/-/package/left/dist-tags")).status == 404
    nothing = make_client(make_mirror(has_index=False, has_record=False))
    assert (await nothing.get("/-/at/9/left")).status == 404
    assert (await nothing.get("/left")).status == 200
    assert (await nothing.get("/-/at/9/absent")).status == 404


async def test_without_the_logs_index_the_mirrors_own_leaves_count() -> None:
    """A version that no log vouched for is in no view."""
    client = make_client(make_mirror(has_index=False))
    found = {size: (await client.get(f"/-/at/{size}/left")) for size in (3, 4, 6, 100)}
    versions = {size: list(answer.json()["versions"]) for size, answer in found.items() if answer.status == 200}
    assert versions == {4: ["1.0.0"], 6: ["1.0.0", "1.1.0"], 100: ["1.0.0", "1.1.0"]}


async def test_a_server_can_stand_at_one_size() -> None:
    """`--at`: every route of a package is in that view, tarball URLs are the plain ones, and nothing newer is shown."""
    client = make_client(make_mirror(), at=6)
    document = (await client.get("/left")).json()
    assert list(document["versions"]) == ["1.0.0", "1.1.0"]
    assert document["versions"]["1.0.0"]["dist"]["tarball"] == "http://mirror.example/left/-/left-1.0.0.tgz"
    assert (await client.get("/left/-/left-2.0.0.tgz")).status == 404
    newer = (await client.get("/-/at/100/left")).json()
    assert list(newer["versions"]) == ["1.0.0", "1.1.0"]
    assert list((await client.get("/-/at/4/left")).json()["versions"]) == ["1.0.0"]


async def test_views_and_the_present_do_not_mix_in_caches(autojump_clock: trio.testing.MockClock) -> None:
    """One document each, whatever was asked before; a view follows what the log's index says since."""
    assert autojump_clock is not None
    storage = MemoryStorage(make_mirror())
    client = make_client(storage)
    for _ in range(2):
        for path, count in (("/left", 3), ("/-/at/4/left", 1), ("/-/at/10/left", 2), ("/left", 3)):
            answer = await client.get(path)
            assert len(answer.json()["versions"]) == count
    etags = {(await client.get(path)).headers["etag"] for path in ("/left", "/-/at/4/left", "/-/at/10/left")}
    assert len(etags) == 3
    lines = [IndexLine(1, Event.PUBLISH, Version("2.0.0"), "registry.example", "A" * 22)]
    storage.set_bytes(index_key(NAME), format_index(PackageIndex(NAME, tuple(lines))))
    await trio.sleep(2)
    assert list((await client.get("/-/at/4/left")).json()["versions"]) == ["2.0.0"]


async def test_a_damaged_index_is_an_error_that_names_it() -> None:
    """Nothing is guessed from it, and the present is served all the same."""
    objects = make_mirror()
    objects[index_key(NAME)] = b"rotten"
    client = make_client(objects)
    answer = await client.get("/-/at/4/left")
    assert (answer.status, "log/index/left" in answer.json()["error"]) == (500, True)
    assert (await client.get("/left")).status == 200


async def test_a_proof_is_served_beside_its_tarball() -> None:
    """It may be renewed, so caches keep it no longer than a document."""
    client = make_client(make_mirror())
    proof = await client.get("/left/-/left-1.0.0.tgz.tlog-proof")
    assert (proof.status, proof.body) == (200, b"proof of 1.0.0")
    assert proof.headers["cache-control"] == "public, max-age=300"
    assert (await client.get("/left/-/left-1.0.0.tgz.tlog-proof", if_none_match=proof.headers["etag"])).status == 304
    missing = make_mirror()
    del missing[proof_key(NAME, "left-1.0.0.tgz")]
    answer = await make_client(missing).get("/left/-/left-1.0.0.tgz.tlog-proof")
    assert (answer.status, "has no proof" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize("path", ["/-/at/5", "/-/at/5/", "/-/at/05/left", "/-/at/-1/left", "/-/at/5/-/at/4/left"])
async def test_paths_that_are_no_view(path: str) -> None:
    """A size has one spelling, and a view has no view in it."""
    assert (await make_client(make_mirror()).get(path)).status == 404


def test_views_show_their_state() -> None:
    """The representation counts what is kept."""
    storage = MemoryStorage()
    views = Views(storage=storage, stat=storage.stat, cache_bytes=1000)
    assert repr(views) == "<Views <ByteCache 0 entries, 0 of 1000 bytes>>"


async def test_a_view_has_nothing_about_the_mirror_as_a_whole() -> None:
    """Keys and ping are there, status and metrics are not."""
    client = make_client(make_mirror())
    assert (await client.get("/-/at/5/-/ping")).body == b"{}"
    assert (await client.get("/-/at/5/-/status")).status == 404
    deep = "/-/at/1" * 200
    assert (await client.get(f"{deep}/left")).status == 404


async def test_attack_one_size_after_another_is_one_view() -> None:
    """A view is told apart by its last leaf, so a cache has one of each and not one for each size that is asked for."""
    storage = MemoryStorage(make_mirror())
    views = Views(storage=storage, stat=storage.stat, cache_bytes=100_000)
    found = [await views.find(NAME, size) for size in range(20)]
    assert len({view.source for view in found}) == 1 + len(EVENTS)
    assert all(one == other for one in found for other in found if one.source == other.source)
