"""What clients get for each kind of document, and when they are told that theirs is still good."""

from __future__ import annotations

import gzip
import json
from typing import Any

import brotli  # type: ignore[import-untyped]  # the project ships no annotations
import pytest
import zstandard

from mirrorwitness.mirror.layout import KEYS_KEY, MIRROR_KEY, NOTE_KEY, attestations_key, node_key
from mirrorwitness.npm.names import PackageName, Version
from tests.unit.server.mirror_builder import make_client, make_document, make_manifest, store, store_package

ABBREVIATED = "application/vnd.npm.install-v1+json"
BASE = "http://mirror.example"


def _mirror(**extra: Any) -> dict[str, bytes]:
    objects: dict[str, bytes] = {}
    store_package(objects, "@s/n", {"1.0.0": b"one", "2.0.0": b"two"}, readme="long " * 1000, **extra)
    return objects


@pytest.mark.parametrize("path", ["/@s%2fn", "/@s%2Fn", "/@s/n", "/%40s%2Fn"])
async def test_p4_full_packument_keeps_everything_but_the_tarball_urls(path: str) -> None:
    """P4: only ``dist.tarball`` differs from what is stored, and it points at us."""
    objects = _mirror(unknown={"kept": [1, None]})
    answer = await make_client(objects).get(path)
    expected = json.loads(objects["npm/@s/n/packument.json"])
    for version, manifest in expected["versions"].items():
        manifest["dist"]["tarball"] = f"{BASE}/@s/n/-/n-{version}.tgz"
    assert answer.json() == expected
    etag = answer.headers.pop("etag")
    assert len(etag) == 34
    assert answer.headers == {
        "content-type": "application/json",
        "cache-control": "public, max-age=300",
        "vary": "accept, accept-encoding",
        "content-length": str(len(answer.body)),
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    }


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (f"{ABBREVIATED}; q=1.0, application/json; q=0.8, */*", ABBREVIATED),
        (f"application/json, {ABBREVIATED};q=0.1", ABBREVIATED),
        (f"{ABBREVIATED};q=0, application/json", "application/json"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("", "application/json"),
    ],
)
async def test_abbreviated_form_only_where_it_is_named(accept: str, content_type: str) -> None:
    """Clients that name the install type get it; a browser, curl and yarn 4 get the whole document."""
    answer = await make_client(_mirror()).get("/@s%2fn", accept=accept)
    assert answer.headers["content-type"] == content_type
    assert ("readme" in answer.json()) == (content_type == "application/json")


async def test_abbreviated_form_names_our_tarballs() -> None:
    """Both forms name the same files."""
    answer = await make_client(_mirror()).get("/@s%2fn", accept=ABBREVIATED)
    document = answer.json()
    assert set(document) == {"name", "dist-tags", "versions", "modified"}
    assert [manifest["dist"]["tarball"] for manifest in document["versions"].values()] == [
        f"{BASE}/@s/n/-/n-1.0.0.tgz",
        f"{BASE}/@s/n/-/n-2.0.0.tgz",
    ]
    assert document["versions"]["1.0.0"]["hasInstallScript"] is True


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [("gzip", "gzip"), ("gzip, deflate, br", "br"), ("gzip, deflate, br, zstd", "zstd"), ("x-gzip", "gzip")],
)
async def test_body_is_compressed_as_the_client_accepts(accept_encoding: str, coding: str) -> None:
    """The coding that is named is the coding that is sent, and decodes to the same document."""
    client = make_client(_mirror())
    plain = await client.get("/@s/n")
    answer = await client.get("/@s/n", accept_encoding=accept_encoding)
    decode = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstandard.ZstdDecompressor().decompress}
    assert answer.headers["content-encoding"] == coding
    assert decode[coding](answer.body) == plain.body
    assert len(answer.body) < len(plain.body)


async def test_each_representation_has_its_own_strong_etag() -> None:
    """A cache that mixes forms, codings or hosts up would be told so."""
    objects: dict[str, bytes] = {}
    store_package(objects, "@s/n", {f"1.0.{patch}": b"" for patch in range(20)})
    tags: list[str] = []
    for host in ("mirror.example", "other.example:8080"):
        client = make_client(objects, host=host)
        for accept in ("application/json", ABBREVIATED):
            for coding in ("identity", "gzip", "br", "zstd"):
                answer = await client.get("/@s/n", accept=accept, accept_encoding=coding)
                tags.append(answer.headers["etag"])
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


async def test_not_modified_answers_without_body() -> None:
    """A client that has the document gets 304 with what a cache needs, and nothing else."""
    client = make_client(_mirror())
    first = await client.get("/@s/n", accept_encoding="gzip")
    etag = first.headers["etag"]
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await client.get("/@s/n", accept_encoding="gzip", if_none_match=condition)
        assert (again.status, again.body) == (304, b"")
        assert {name: again.headers[name] for name in ("etag", "vary", "cache-control")} == {
            "etag": etag,
            "vary": "accept, accept-encoding",
            "cache-control": "public, max-age=300",
        }
        assert "content-length" not in again.headers
    assert (await client.get("/@s/n", accept_encoding="gzip", if_none_match='"other"')).status == 200
    assert (await client.get("/@s/n", if_none_match=etag)).status == 200, "the tag is of another coding"


async def test_date_conditions_are_ignored() -> None:
    """We have no date that moves with every change, so none is believed."""
    answer = await make_client(_mirror()).get("/@s/n", if_modified_since="Fri, 01 Jan 2100 00:00:00 GMT")
    assert answer.status == 200


async def test_if_match_that_fails_is_412() -> None:
    """A client that insists on another document is told."""
    client = make_client(_mirror())
    etag = (await client.get("/@s/n")).headers["etag"]
    assert (await client.get("/@s/n", if_match=etag)).status == 200
    assert (await client.get("/@s/n", if_match=f"W/{etag}")).status == 412


@pytest.mark.parametrize("path", ["/@s/n", "/@s/n/latest", "/-/ping", "/-/package/@s/n/dist-tags", "/absent"])
async def test_head_is_get_without_body(path: str) -> None:
    """HEAD has the status and headers of GET, with the true length."""
    client = make_client(_mirror())
    head, get = await client.head(path), await client.get(path)
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


@pytest.mark.parametrize("wanted", ["2.0.0", "latest"])
async def test_one_version_by_number_or_tag(wanted: str) -> None:
    """``/<name>/<version or tag>`` is that version's manifest."""
    objects = _mirror()
    answer = await make_client(objects).get(f"/@s%2fn/{wanted}")
    expected = json.loads(objects["npm/@s/n/packument.json"])["versions"]["2.0.0"]
    expected["dist"]["tarball"] = f"{BASE}/@s/n/-/n-2.0.0.tgz"
    assert answer.json() == expected
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize("wanted", ["3.0.0", "next", "__proto__", "^1.0.0", "%00"])
async def test_absent_version_is_404(wanted: str) -> None:
    """What is not a version or tag of the document is not found."""
    answer = await make_client(_mirror()).get(f"/@s/n/{wanted}")
    assert answer.status == 404
    assert "of @s/n" in answer.json()["error"]


async def test_dist_tags() -> None:
    """The tags are those of the served document."""
    answer = await make_client(_mirror()).get("/-/package/@s%2fn/dist-tags")
    assert (answer.status, answer.json()) == (200, {"latest": "2.0.0"})


async def test_p4_latest_is_repaired_alike_in_document_and_dist_tags() -> None:
    """P4: where ``latest`` points at a version we do not have, both answers resolve it to the same one."""
    objects: dict[str, bytes] = {}
    document = make_document("n", {"1.0.0": make_manifest("n", "1.0.0", b"")})
    store(objects, document | {"dist-tags": {"latest": "9.9.9", "old": "1.0.0", "gone": "0.1.0"}})
    client = make_client(objects)
    expected = {"latest": "1.0.0", "old": "1.0.0"}
    assert (await client.get("/-/package/n/dist-tags")).json() == expected
    assert (await client.get("/n")).json()["dist-tags"] == expected
    assert (await client.get("/n/latest")).json()["version"] == "1.0.0"


async def test_row_02_unpublished_package_is_served_as_it_is_stored() -> None:
    """Row 2: a stub without versions or dist-tags is an answer, not a crash."""
    stub = {"_id": "n", "name": "n", "time": {"unpublished": {"versions": ["1.0.0"]}}}
    objects = {"npm/n/packument.json": json.dumps(stub).encode()}
    client = make_client(objects)
    assert (await client.get("/n")).json() == stub
    assert (await client.get("/n", accept=ABBREVIATED)).status == 200
    assert (await client.get("/-/package/n/dist-tags")).json() == {}
    assert (await client.get("/n/latest")).status == 404


async def test_keys_about_and_attestations_are_copied() -> None:
    """Stored documents about the mirror and its registry come as they are."""
    objects = _mirror()
    name, version = PackageName("@s/n"), Version("1.0.0")
    stored = {
        "/-/npm/v1/keys": KEYS_KEY,
        "/-/about.json": MIRROR_KEY,
        "/-/about": MIRROR_KEY,
        "/-/npm/v1/attestations/@s%2fn@1.0.0": attestations_key(name, version),
        "/-/npm/v1/attestations/@s/n@1.0.0": attestations_key(name, version),
    }
    client = make_client(objects)
    assert [(await client.get(path)).status for path in stored] == [404] * len(stored)
    objects |= {key: json.dumps({"is": key}).encode() for key in stored.values()}
    client = make_client(objects)
    assert {path: (await client.get(path)).json() for path in stored} == {
        path: {"is": key} for path, key in stored.items()
    }
    assert (await client.get("/-/npm/v1/attestations/@s/n@9.9.9")).status == 404
    assert (await client.get("/-/npm/v1/attestations/absent@1.0.0")).status == 404


async def test_the_signed_description_and_nodes_of_the_summary_are_text_as_stored() -> None:
    """To the byte, since both are checked by their bytes; a node is kept by caches for ever, the description is not."""
    digest = "ab" * 32
    stored = {"/-/about.json.note": NOTE_KEY, f"/-/summary/ab/{digest}": node_key(digest)}
    client = make_client({})
    for path, reason in zip(stored, ("does not sign", "no node"), strict=True):
        answer = await client.get(path)
        assert (answer.status, reason in answer.json()["error"]) == (404, True)
    client = make_client({key: f"{key} — {'x' * 2000}\n".encode() for key in stored.values()})
    kept = ("public, max-age=300", "public, max-age=31536000, immutable")
    for (path, key), expected in zip(stored.items(), kept, strict=True):
        for coding in ("identity", "gzip"):
            answer = await client.get(path, accept_encoding=coding)
            body = gzip.decompress(answer.body) if coding == "gzip" else answer.body
            assert (answer.status, body) == (200, f"{key} — {'x' * 2000}\n".encode())
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers["cache-control"] == expected


async def test_fixed_answers() -> None:
    """Ping, whoami and health answer without the storage's help but for readiness."""
    client = make_client({})
    answers = {
        path: await client.get(path) for path in ("/-/ping", "/-/whoami", "/-/healthz", "/-/readyz", "/-/v1/search")
    }
    assert {path: answer.status for path, answer in answers.items()} == {
        "/-/ping": 200,
        "/-/whoami": 401,
        "/-/healthz": 200,
        "/-/readyz": 200,
        "/-/v1/search": 404,
    }
    assert answers["/-/ping"].json() == {}
    assert "no accounts" in answers["/-/whoami"].json()["error"]
    assert {answer.headers["cache-control"] for answer in answers.values()} == {"no-store"}


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"])
async def test_writing_is_405_that_says_why(method: str) -> None:
    """A read-only mirror says so, with the methods it has; the body is not read."""
    answer = await make_client(_mirror()).request(method, "/@s%2fn")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "read-only mirror" in answer.json()["error"]


async def test_audit_post_is_404_which_npm_tolerates() -> None:
    """``npm install`` goes on after a 404 from the audit endpoints; 405 is not known to be safe."""
    answer = await make_client({}).request("POST", "/-/npm/v1/security/advisories/bulk")
    assert answer.status == 404
    assert "no advisories" in answer.json()["error"]


async def test_public_url_wins_over_the_request() -> None:
    """With a public URL configured, no header reaches a document."""
    client = make_client(_mirror(), public_url="https://npm.example.org/mirror/", trust_forwarded=True)
    answer = await client.get("/@s/n/latest", x_forwarded_host="other.example", x_forwarded_proto="http")
    assert answer.json()["dist"]["tarball"] == "https://npm.example.org/mirror/@s/n/-/n-2.0.0.tgz"


async def test_forwarded_headers_count_only_where_trusted() -> None:
    """A proxy's headers make the base URL where the operator said so, and nowhere else."""
    forwarded = {"x_forwarded_host": "npm.example.org", "x_forwarded_proto": "https", "x_forwarded_prefix": "/r/npm/"}
    plain = await make_client(_mirror()).get("/@s/n/latest", **forwarded)
    trusted = await make_client(_mirror(), trust_forwarded=True).get("/@s/n/latest", **forwarded)
    assert plain.json()["dist"]["tarball"] == f"{BASE}/@s/n/-/n-2.0.0.tgz"
    assert trusted.json()["dist"]["tarball"] == "https://npm.example.org/r/npm/@s/n/-/n-2.0.0.tgz"
    assert trusted.headers["vary"] == "accept-encoding, x-forwarded-proto, x-forwarded-host, x-forwarded-prefix"


async def test_packument_max_age_is_an_option() -> None:
    """The operator decides how long caches keep documents."""
    answer = await make_client(_mirror(), packument_max_age=7).get("/@s/n")
    assert answer.headers["cache-control"] == "public, max-age=7"
