"""Properties of packuments: nothing but what was read is served, and nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.abbreviated import KEPT_MEMBERS, render_abbreviated
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import Packument, parse_packument, render_full, repair_dist_tags

NAME = PackageName("pkg")
KEYS = st.sampled_from([
    "name",
    "version",
    "dist",
    "tarball",
    "integrity",
    "shasum",
    "scripts",
    "bin",
    "os",
    "x",
    "é",
    "__proto__",
])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["pkg", "1.0.0", "\ud800"])


class Duplicates(list[tuple[str, Any]]):
    """An object that may have one key several times."""


def objects(values: st.SearchStrategy[Any], keys: st.SearchStrategy[str] = KEYS) -> st.SearchStrategy[Duplicates]:
    return st.lists(st.tuples(keys, values), max_size=6).map(Duplicates)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=6)
DISTS = objects(VALUES) | st.builds(
    lambda rest, url: Duplicates([*rest, ("tarball", url)]), objects(VALUES), st.text(max_size=5)
)
MANIFESTS = objects(VALUES) | st.builds(
    lambda rest, dist, more: Duplicates([*rest, ("name", "pkg"), ("version", "1.0.0"), ("dist", dist), *more]),
    objects(VALUES),
    DISTS,
    objects(VALUES, st.sampled_from(["bin", "engines", "scripts", "zzz"])),
)
VERSION_KEYS = st.sampled_from(["1.0.0", "2.0.0", "1.0.0-rc.1", "__proto__", "\ud800", ""])
DOCUMENTS = st.builds(
    lambda rest, versions, tags: Duplicates([*rest, ("versions", versions), ("name", "pkg"), *tags]),
    objects(VALUES, st.sampled_from(["readme", "time", "x", "_rev", "description"])),
    objects(MANIFESTS | SCALARS, VERSION_KEYS),
    st.lists(st.tuples(st.just("dist-tags"), objects(VERSION_KEYS, st.sampled_from(["latest", "next"]))), max_size=2),
)


def write(value: Any, *, escape: bool) -> str:
    """Write JSON with duplicate keys, with the last letter of each key escaped or not."""
    if isinstance(value, Duplicates):
        return (
            "{"
            + " ,".join(f"{write_key(key, escape=escape)}: {write(item, escape=escape)}" for key, item in value)
            + "}"
        )
    if isinstance(value, list):
        return "[ " + ",".join(write(item, escape=escape) for item in value) + "]"
    return json.dumps(value)


def write_key(key: str, *, escape: bool) -> str:
    if escape and key and ord(key[-1]) < 0xD800:
        return f'{json.dumps(key[:-1])[:-1]}\\u{ord(key[-1]):04x}"'
    return json.dumps(key)


def url(version: Version) -> str:
    return f"https://mirror.example/{version}"


def expect(body: str, found: Packument, versions: set[Version]) -> Any:
    """Do with the standard library what `render_full` does."""
    value = json.loads(body)
    kept = {key: entry for key, entry in value["versions"].items() if key in versions}
    for key, entry in kept.items():
        entry["dist"]["tarball"] = url(Version(key))
    tags = value.get("dist-tags", {})
    return {**value, "versions": kept, "dist-tags": repair_dist_tags(found.dist_tags, [*map(Version, kept)])} | (
        {"dist-tags": tags} if tags == repair_dist_tags(found.dist_tags, [*map(Version, kept)]) else {}
    )


@given(DOCUMENTS, st.booleans())
def test_p4_the_full_document_is_the_original_less_versions_with_other_tarballs(
    value: Duplicates,
    escape: bool,  # noqa: FBT001 # drawn
) -> None:
    """P4: as JSON values, also with duplicate and escaped keys; and rendering what was rendered changes nothing."""
    body = write(value, escape=escape)
    found = parse_packument(body.encode(), name=NAME)
    good = {version for version, entry in found.versions.items() if entry.refused is None}
    rendered = render_full(found, versions=found.versions, tarball_url=url)
    assert json.loads(rendered) == expect(body, found, good)
    again = parse_packument(rendered, name=NAME)
    assert render_full(again, versions=again.versions, tarball_url=url) == rendered


@given(DOCUMENTS, st.booleans())
def test_p1_what_was_judged_is_what_is_served(value: Duplicates, escape: bool) -> None:  # noqa: FBT001 # drawn
    """P1: reading the rendered document gives the digests and signatures that were read before, in both forms."""
    found = parse_packument(write(value, escape=escape).encode(), name=NAME)
    good = {version: entry for version, entry in found.versions.items() if entry.refused is None}
    for render in (render_full, render_abbreviated):
        again = parse_packument(render(found, versions=found.versions, tarball_url=url), name=NAME)
        assert {
            version: (entry.tarball, entry.integrity, entry.shasum, entry.signatures, entry.refused)
            for version, entry in again.versions.items()
        } == {
            version: (url(version), entry.integrity, entry.shasum, entry.signatures, None)
            for version, entry in good.items()
        }


@given(DOCUMENTS, st.booleans())
def test_the_abbreviated_document_follows_the_rule(value: Duplicates, escape: bool) -> None:  # noqa: FBT001 # drawn
    """Research/B 2.2 in six lines of Python over the standard library's reading."""
    body = write(value, escape=escape)
    found = parse_packument(body.encode(), name=NAME)
    original = json.loads(body)["versions"]
    expected = {}
    for version, entry in found.versions.items():
        if entry.refused is None:
            manifest = original[version]
            kept = {name: manifest[name] for name in KEPT_MEMBERS if name in manifest}
            kept = {name: item for name, item in kept.items() if item not in ({}, [], "", None) and item is not False}
            kept["dist"] = {**manifest["dist"], "tarball": url(version)}
            scripts = manifest.get("scripts")
            if isinstance(scripts, dict) and scripts.keys() & {"preinstall", "install", "postinstall"}:
                kept["hasInstallScript"] = True
            expected[version] = kept
    rendered = json.loads(render_abbreviated(found, versions=found.versions, tarball_url=url))
    assert rendered["versions"] == expected


@given(DOCUMENTS)
def test_row_25_the_slow_way_reads_the_same(value: Duplicates) -> None:
    """Row 25: a lone surrogate anywhere changes how a document is read, not what it says."""
    fast = parse_packument(write(value, escape=False).encode(), name=NAME)
    slow = parse_packument(write(Duplicates([*value, ("cut", "\ud800")]), escape=False).encode(), name=NAME)
    assert (slow.versions, slow.dist_tags, slow.time, slow.rev) == (fast.versions, fast.dist_tags, fast.time, fast.rev)


@given(st.binary() | st.text().map(str.encode) | DOCUMENTS.map(lambda value: write(value, escape=True).encode()[:-3]))
@example(b'{"name":"pkg","versions":{"1.0.0":{"dist":' + b"[" * 2000)
def test_nothing_but_an_upstream_error_comes_out_of_any_bytes(body: bytes) -> None:
    """A parser of foreign bytes has one way to fail."""
    try:
        parse_packument(body, name=NAME)
    except UpstreamProtocolError as error:
        assert str(error).startswith("packument of pkg: ")  # noqa: PT017 # most bytes are no packument
