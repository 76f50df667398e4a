"""Keys of everything a mirror holds (DESIGN 4)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror import layout
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.storage import check_key

NAME = PackageName("@scope/Name")
LONG = PackageName("n" * 214)


def test_keys_are_readable_and_keep_the_scope_slash_and_the_case() -> None:
    """A person, a static server and an object store all find the same path."""
    assert layout.packument_key(NAME) == "npm/@scope/Name/packument.json"
    assert layout.install_key(NAME) == "npm/@scope/Name/install-v1.json"
    assert layout.tarball_key(NAME, "Name-1.0.0.tgz") == "npm/@scope/Name/-/Name-1.0.0.tgz"
    assert layout.tarball_prefix(NAME) == "npm/@scope/Name/-/"
    assert layout.attestations_key(NAME, Version("1.0.0")) == "npm/@scope/Name/attestations/1.0.0.json"
    assert layout.record_key(NAME) == "state/package/@scope/Name.json"
    assert layout.unfinished_key(NAME) == "state/unfinished/@scope/Name.json"
    assert layout.evidence_key(NAME, Version("1.0.0"), "ab") == "evidence/@scope/Name/1.0.0/ab.json"
    assert (
        layout.tombstone_key(NAME, Version("1.0.0"), "unpublished")
        == "state/tombstones/@scope/Name/1.0.0/unpublished.json"
    )


def test_record_keys_give_their_names_back() -> None:
    """Names come out of a listing without reading each record; hashed ones say that they are."""
    assert layout.name_of_record_key(layout.record_key(NAME), prefix=layout.RECORD_PREFIX) == NAME
    long = PackageName("@" + "s" * 100 + "/" + "x" * 300)
    assert layout.name_of_record_key(layout.record_key(long), prefix=layout.RECORD_PREFIX) is None


@pytest.mark.parametrize(
    "name", ["a", LONG, "@s/n", ".hidden", "-", "constructor", "~tilde", "JSONStream", "x" * 400, "@s/" + "y" * 260]
)
def test_row_20_every_name_has_an_allowed_key(name: str) -> None:
    """Whatever upstream calls a package, its keys are allowed on every storage and stay below their prefix."""
    package = PackageName(name)
    keys = [
        layout.packument_key(package),
        layout.tarball_key(package, "../../etc/passwd".replace("/", "_")),
        layout.record_key(package),
        layout.unfinished_key(package),
        layout.attestations_key(package, Version("../../x")),
        layout.evidence_key(package, Version("a/b\\c\x00"), "00"),
    ]
    assert [check_key(key) for key in keys] == keys


@given(st.text(max_size=300))
def test_row_20_no_version_text_escapes_its_directory(version: str) -> None:
    """A hostile version key never becomes a path: one component, allowed, below the package."""
    key = check_key(layout.attestations_key(NAME, Version(version)))
    assert key.startswith("npm/@scope/Name/attestations/")
    assert key.count("/") == 4


def test_row_35_upstream_file_names_are_kept() -> None:
    """Lockfiles in the field hold the legacy name, so the mirror serves it."""
    files = layout.assign_files(
        PackageName("express"),
        {
            Version("1.0.0-beta"): "http://registry.example/express/-/express-1.0.0beta.tgz",
            Version("1.0.0"): "http://registry.example/express/-/express-1.0.0.tgz",
        },
    )
    assert files == {"1.0.0-beta": "express-1.0.0beta.tgz", "1.0.0": "express-1.0.0.tgz"}


def test_row_19_an_odd_url_gets_the_canonical_name() -> None:
    """A URL without a usable file name costs nothing but its name."""
    urls = {
        Version("1.0.0"): "http://example.com",
        Version("1.0.1"): "https://registry.example/a/b/..%2f..%2fetc",
        Version("1.0.2"): "http://[bad",
        Version("1.0.3"): "https://registry.example/%00.tgz",
    }
    assert layout.assign_files(NAME, urls) == {version: f"Name-{version}.tgz" for version in urls}


def test_two_versions_never_share_a_file() -> None:
    """The canonical name belongs to its version; a second claimant gets its own canonical name, or a digest."""
    shared = "https://registry.example/a/-/a-1.0.0.tgz"
    files = layout.assign_files(
        PackageName("a"), {Version("0.9.0"): shared, Version("1.0.0"): shared, Version("x y"): shared}
    )
    assert files == {
        "0.9.0": "a-0.9.0.tgz",
        "1.0.0": "a-1.0.0.tgz",
        "x y": f"sha256={hashlib.sha256(b'x y').hexdigest()}.tgz",
    }


def test_p5_a_held_tarball_keeps_its_file_name() -> None:
    """Another version that claims the name of a stored file later does not get it, not even the canonical owner."""
    files = layout.assign_files(
        PackageName("a"),
        {Version("2.0.0"): "https://registry.example/a-2.0.0.tgz", Version("3.0.0"): "https://registry.example/x.tgz"},
        held={Version("1.0.0"): "a-2.0.0.tgz", Version("3.0.0"): "old.tgz"},
    )
    assert files == {"2.0.0": f"sha256={hashlib.sha256(b'2.0.0').hexdigest()}.tgz", "3.0.0": "old.tgz"}


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12),
        st.one_of(st.text(max_size=30), st.sampled_from(["https://r.example/a/-/f.tgz", "https://r.example/a-1.tgz"])),
        max_size=8,
    )
)
def test_files_are_unique_safe_and_come_back_from_their_url(urls: dict[str, str]) -> None:
    """For any document: one file per version, no two alike, and each URL leads back to its file."""
    package = PackageName("a")
    files = layout.assign_files(package, {Version(version): url for version, url in urls.items()})
    assert sorted(files) == sorted(urls)
    assert len(set(files.values())) == len(files)
    for file in files.values():
        key = check_key(layout.tarball_key(package, file))
        url = layout.tarball_url("http://mirror.example", package, file)
        back = layout.file_of_url(url)
        assert back is not None
        assert layout.tarball_key(package, back) == key


def test_urls_of_other_shapes_name_no_file() -> None:
    """What the mirror did not write is not taken for a stored file."""
    assert layout.file_of_url("http://[bad") is None
    assert layout.file_of_url("http://mirror.example/a/-/..") is None
    assert layout.file_of_url("http://mirror.example/a/-/") is None
