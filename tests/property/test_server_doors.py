"""P2 over random documents: what is named can be fetched, and what is not named cannot."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorwitness.mirror.layout import STORED_BASE, packument_key, tarball_key
from mirrorwitness.npm.names import PackageName
from tests.unit.server.mirror_builder import make_client

NAMES = st.sampled_from(["n", "@s/n", "-", "Upper", "a~b", "@s.t/x_y"])
VERSIONS = st.from_regex(r"[0-9]\.[0-9]\.[0-9](-[a-z.]{1,4})?(\+b)?", fullmatch=True)
SAFE_FILES = st.from_regex(r"[a-z@(~_]([a-zA-Z0-9.+~!()*'=_@-]){0,20}\.tgz", fullmatch=True)
ODD_FILES = st.sampled_from([
    "",
    "..",
    ".hidden",
    "a%2fb.tgz",
    "%00",
    "packument.json",
    "sha256=00.tgz",
    "a b.tgz",
    "%",
])
TARBALLS = st.one_of(SAFE_FILES, ODD_FILES).map(lambda file: f"{STORED_BASE}/x/-/{file}") | st.sampled_from([
    None,
    7,
    "",
])


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(NAMES)
    versions = draw(st.dictionaries(VERSIONS, TARBALLS, max_size=6))
    manifests = {
        version: {
            "name": draw(st.sampled_from([name, name, name, "other"])),
            "version": draw(st.sampled_from([version, version, version, "0.0.0"])),
            "dist": {"tarball": tarball, "shasum": "0" * 40},
        }
        for version, tarball in versions.items()
    }
    tags = draw(st.dictionaries(st.sampled_from(["latest", "next"]), VERSIONS))
    return {"name": name, "dist-tags": tags, "versions": manifests}


@settings(max_examples=150, deadline=None)
@given(document=_documents())
@pytest.mark.slow
def test_p2_named_tarballs_are_exactly_those_that_can_be_fetched(document: dict[str, Any]) -> None:
    """P2: the tarball URLs of the served documents are the files that answer 200, whatever is stored."""
    name = PackageName(document["name"])
    objects = {packument_key(name): json.dumps(document).encode()}
    candidates = {"packument.json", "stray.tgz"}
    for manifest in document["versions"].values():
        file = str(manifest["dist"]["tarball"]).rpartition("/")[2]
        candidates.add(file)
        objects[tarball_key(name, file or "empty")] = b"bytes"
    trio.run(_check, name, objects, candidates)


async def _check(name: PackageName, objects: dict[str, bytes], candidates: set[str]) -> None:
    client = make_client(objects)
    prefix = f"/{name.replace('/', '%2f')}"
    full = (await client.get(prefix)).json()
    short = (await client.get(prefix, accept="application/vnd.npm.install-v1+json")).json()
    urls = {version: manifest["dist"]["tarball"] for version, manifest in full["versions"].items()}
    assert urls == {version: manifest["dist"]["tarball"] for version, manifest in short["versions"].items()}
    assert full["dist-tags"] == (await client.get(f"/-/package/{name}/dist-tags")).json()
    paths = {urlsplit(url).path for url in urls.values()}
    assert [(await client.get(path)).body for path in paths] == [b"bytes"] * len(paths)
    named = {path.rpartition("/")[2] for path in paths}
    for file in candidates:
        status = (await client.get(f"{prefix}/-/{file}")).status
        assert (status == 200) == (_plain(file) in {_plain(other) for other in named})


def _plain(file: str) -> str:
    return file.replace("%27", "'").replace("%3D", "=")
