"""Splicing versions of a stored document into upstream's: as bytes, in upstream's order, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import Packument, parse_packument
from mirrorwitness.npm.splice import keep_times, read_version_text, splice_versions

LEFT = PackageName("left")
ONE, TWO, THREE = Version("1.0.0"), Version("2.0.0"), Version("3.0.0")


def manifest(version: str, integrity: str = "sha512-AAAA") -> dict[str, Any]:
    dist = {"tarball": f"https://registry.example/left/-/left-{version}.tgz", "integrity": integrity}
    return {"name": "left", "version": version, "dist": dist}


def document(*versions: dict[str, Any], **more: Any) -> Packument:
    """Return a document with these versions, members in the order given."""
    content = {"_id": "left", "name": "left", "versions": {item["version"]: item for item in versions}, **more}
    return parse_packument(json.dumps(content).encode(), name=LEFT)


def test_chosen_versions_come_from_the_stored_document() -> None:
    """P5: those and no others, at their places; every other member is upstream's (P4)."""
    upstream = document(manifest("1.0.0", "sha512-BBBB"), manifest("2.0.0", "sha512-BBBB"), readme="new")
    stored = document(manifest("2.0.0"), manifest("1.0.0"), readme="old")
    spliced = splice_versions(upstream, stored=stored, versions={ONE})
    found = json.loads(spliced.body)
    assert found == {
        "_id": "left",
        "name": "left",
        "versions": {"1.0.0": manifest("1.0.0"), "2.0.0": manifest("2.0.0", "sha512-BBBB")},
        "readme": "new",
    }
    assert list(found) == ["_id", "name", "versions", "readme"]
    assert list(found["versions"]) == ["1.0.0", "2.0.0"]
    assert spliced.versions[ONE].integrity == "sha512-AAAA"
    assert spliced.versions[TWO].integrity == "sha512-BBBB"


def test_manifests_are_taken_as_bytes() -> None:
    """Spaces, escapes, numbers and doubled keys of the stored text stand in the result as they are."""
    odd = b'{ "name":"left", "version": "1.0.0","dist":{"tarball":"https:\\/\\/a\\/-\\/b.tgz"}, "x": 1e2, "x": -0 }'
    stored = parse_packument(b'{"name":"left","versions":{"1.0.0": ' + odd + b"}}", name=LEFT)
    assert read_version_text(stored, ONE) == odd
    spliced = splice_versions(document(manifest("1.0.0")), stored=stored, versions=[ONE])
    assert odd in spliced.body
    assert read_version_text(spliced, ONE) == odd


def test_a_version_that_is_not_stored_is_left_as_it_is() -> None:
    """Nothing is invented and nothing taken away."""
    upstream = document(manifest("1.0.0", "sha512-BBBB"))
    for stored in (document(manifest("2.0.0")), parse_packument(b'{"name": "left"}', name=LEFT)):
        assert json.loads(splice_versions(upstream, stored=stored, versions={ONE, THREE}).body) == json.loads(
            upstream.body
        )


def test_a_version_that_upstream_dropped_can_come_back() -> None:
    """The caller decides which; one that only the stored document has is put at the end."""
    spliced = splice_versions(document(manifest("2.0.0")), stored=document(manifest("1.0.0")), versions={ONE})
    assert list(json.loads(spliced.body)["versions"]) == ["2.0.0", "1.0.0"]


@pytest.mark.parametrize("body", [b'{"name": "left"}', b'{"name": "left", "time": {"unpublished": {}}}'])
def test_a_document_without_versions_has_no_version_text(body: bytes) -> None:
    """A stub that an unpublished package leaves behind (row 2)."""
    stub = parse_packument(body, name=LEFT)
    with pytest.raises(KeyError):
        read_version_text(stub, ONE)
    spliced = splice_versions(stub, stored=document(manifest("1.0.0")), versions={ONE})
    assert list(spliced.versions) == [ONE]


def test_times_of_versions_that_are_not_shown_are_left_out() -> None:
    """All else of the document keeps its bytes, `created` and `modified` among it."""
    body = b'{"name":"left","time":{"created":"A","1.0.0":"B", "2.0.0":"C","modified":"D"},"n":1.50}'
    kept = keep_times(body, versions={ONE})
    assert kept == b'{"name":"left","time":{"created":"A","1.0.0":"B","modified":"D"},"n":1.50}'


@pytest.mark.parametrize("body", [b'{"name":"left"}', b'{"name":"left","time":null}', b'{"time":[1], "name":"left"}'])
def test_a_document_without_times_is_what_it_was(body: bytes) -> None:
    """Byte for byte."""
    assert keep_times(body, versions={ONE}) == body
