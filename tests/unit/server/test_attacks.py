"""Requests that mean harm: none reaches an object outside the public part, another's cache entry, or a document."""

from __future__ import annotations

import pytest

from tests.fakes.storage import MemoryStorage
from tests.unit.server.mirror_builder import make_client, store_package

SECRET = b'{"secret": "state"}'


def _objects() -> dict[str, bytes]:
    objects = {
        "state/run/last.json": SECRET,
        "state/package/n.json": SECRET,
        "evidence/n/1.0.0/00.json": SECRET,
        "about/mirror.json": b"{}",
        "npm/n/install-v1.json": SECRET,
        "npm/n/attestations/9.json": SECRET,
        "npm/n/-/stray.tgz": SECRET,
    }
    store_package(objects, "n", {"1.0.0": b"bytes"})
    return objects


@pytest.mark.parametrize(
    "path",
    [
        "/state/run/last.json",
        "/state/package/n.json",
        "/state%2frun%2flast.json",
        "/../state/run/last.json",
        "/n/../../state/run/last.json",
        "/n/-/../../../state/run/last.json",
        "/n/-/..%2f..%2f..%2fstate%2frun%2flast.json",
        "/n/-/%2e%2e%2f%2e%2e%2fstate%2frun%2flast.json",
        "/n/-/..%252f..%252fstate",
        "/n/-/..%5c..%5cstate",
        "/n/-/%00",
        "/n/-/n-1.0.0.tgz%00",
        "/n/-/n-1.0.0.tgz%00.txt",
        "/n/-/stray.tgz",
        "/n/..%2fstate%2frun%2flast.json",
        "/n/install-v1.json",
        "/n/packument.json",
        "/n/attestations/9.json",
        "/npm/n/packument.json",
        "/evidence/n/1.0.0/00.json",
        "/@..%2fstate/run",
        "/@state%2frun/last.json",
        "/about/mirror.json",
        "/-/npm/v1/attestations/n@9",
        "/-/npm/v1/attestations/n@..%2f..%2fpackument",
        "/-/npm/v1/keys/../../../state",
        "/-/package/..%2fstate/dist-tags",
        "/-/about.json/../../state",
        "/-/../state/run/last.json",
    ],
)
async def test_row_20_attack_path_traversal_gets_404(path: str) -> None:
    """Row 20: no path leads outside of what documents name, and no key with a dot is even asked of the storage."""
    storage = MemoryStorage(_objects())
    answer = await make_client(storage).get(path)
    assert answer.status == 404
    assert b"secret" not in answer.body
    assert [call.key for call in storage.operations if not call.key.startswith(("npm/", "about/"))] == []
    assert [call.key for call in storage.operations if ".." in call.key or "\0" in call.key] == []


@pytest.mark.parametrize("path", ["/n%", "/n/-/%2", "/n/%ff%fe", "n", "http://mirror.example/n", "*"])
async def test_attack_malformed_path_gets_400(path: str) -> None:
    """A path that cannot be decoded is refused before anything is looked up."""
    storage = MemoryStorage(_objects())
    answer = await make_client(storage).get(path)
    assert (answer.status, storage.operations) == (400, [])


async def test_attack_over_long_path_gets_414() -> None:
    """The length is judged before the path is."""
    answer = await make_client(_objects()).get("/" + "n" * 2048)
    assert (answer.status, answer.json()) == (414, {"error": "the path has 2049 bytes, more than 2048"})


async def test_attack_oversized_head_gets_431() -> None:
    """Neither many headers nor long ones are looked at."""
    client = make_client(_objects())
    many = [(b"x", b"1")] * 100
    assert (await client.request("GET", "/n", lines=many)).status == 431
    assert (await client.request("GET", "/n", lines=many[:-1])).status == 200
    assert (await client.request("GET", "/n", lines=[(b"x", b"1" * 16_384)])).status == 431


@pytest.mark.parametrize(
    "host",
    [
        "evil.example/path",
        "user@evil.example",
        "evil.example?x",
        "evil.example#x",
        "evil.example:80:80",
        "evil.example:",
        "evil.example:0",
        "evil.example:65536",
        "evil.example:8a",
        "evil.example\\",
        "evil..example",
        ".evil.example",
        "-evil.example",
        "[::1",
        "::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[evil]",
        "x[::1]",
        'evil"example',
        "evil\xe9.example",
        "a b",
        "a,b",
        "a" * 254,
        "",
    ],
)
async def test_attack_host_header_injection_gets_400(host: str) -> None:
    """A host that is more than a host never stands in a document."""
    answer = await make_client(_objects(), host=host).get("/n")
    assert answer.status == 400
    assert "evil" not in answer.json()["error"]


async def test_attack_two_hosts_get_400() -> None:
    """A second Host line is not a choice."""
    answer = await make_client(_objects()).request("GET", "/n", lines=[(b"host", b"evil.example")])
    assert answer.status == 400


async def test_missing_host_matters_only_where_it_is_needed() -> None:
    """HTTP/1.0 without a host gets bytes, and documents where a public URL is configured."""
    client = make_client(_objects(), host=None)
    assert (await client.get("/n")).status == 400
    assert (await client.get("/n/-/n-1.0.0.tgz")).body == b"bytes"
    assert (await make_client(_objects(), host=None, public_url="https://m.example").get("/n")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_host": "evil.example/path"},
        {"x_forwarded_proto": "javascript"},
        {"x_forwarded_prefix": "/a/../b"},
        {"x_forwarded_prefix": "a"},
        {"x_forwarded_prefix": "//evil.example"},
        {"x_forwarded_prefix": '/"x'},
        {"x_forwarded_prefix": "/" + "a" * 256},
    ],
)
async def test_attack_bad_forwarded_headers_get_400_where_trusted(headers: dict[str, str]) -> None:
    """A trusted proxy that passes nonsense on does not put it into documents."""
    assert (await make_client(_objects(), trust_forwarded=True).get("/n", **headers)).status == 400
    assert (await make_client(_objects()).get("/n", **headers)).status == 200


async def test_attack_client_value_behind_a_proxy_list_is_not_believed() -> None:
    """Of a list, the value of the nearest proxy counts: what the client sent stands first."""
    client = make_client(_objects(), trust_forwarded=True)
    answer = await client.get("/n/1.0.0", x_forwarded_host="evil.example, npm.example")
    assert answer.json()["dist"]["tarball"] == "http://npm.example/n/-/n-1.0.0.tgz"


async def test_attack_cache_key_confusion() -> None:
    """No request is answered from another's cache entry, however alike their texts are joined."""
    objects: dict[str, bytes] = {}
    store_package(objects, "a", {"1.0.0": b"a", "full": b"x"})
    store_package(objects, "@a/full", {"1.0.0": b"b"})
    store_package(objects, "A", {"1.0.0": b"c"})
    storage = MemoryStorage(objects)
    paths = ["/a", "/a/full", "/a/1.0.0", "/@a/full", "/@a/full/1.0.0", "/A", "/-/package/a/dist-tags"]
    shared = make_client(storage)
    for path in paths * 2:
        for host in ("mirror.example", "mirror.example:81"):
            alone = await make_client(objects, host=host).get(path)
            again = await shared.request("GET", path, {"host": host})
            assert (again.status, again.body, again.headers) == (alone.status, alone.body, alone.headers)


async def test_attack_query_does_not_split_the_cache() -> None:
    """A query means nothing, so it cannot be used to fill the cache or to dodge it."""
    storage = MemoryStorage(_objects())
    client = make_client(storage)
    for _ in range(3):
        assert (await client.get("/n")).status == 200
    assert storage.keys_of("read") == ["npm/n/packument.json"]


async def test_row_22_names_that_differ_in_case_are_two_packages() -> None:
    """Row 22: ``Buffer`` is not ``buffer``."""
    objects: dict[str, bytes] = {}
    store_package(objects, "Buffer", {"1.0.0": b"B"})
    client = make_client(objects)
    assert (await client.get("/Buffer/-/Buffer-1.0.0.tgz")).body == b"B"
    assert (await client.get("/buffer")).status == 404
    assert (await client.get("/Buffer/-/buffer-1.0.0.tgz")).status == 404
