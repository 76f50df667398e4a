"""The manifest of a bundle: one spelling, strict reading, its place in a chain, its signature."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.mirror import bundle
from mirrorwitness.mirror.bundle import (
    BundledFile,
    BundledLog,
    BundledPackage,
    Imported,
    Link,
    LogStep,
    Manifest,
    check_listing,
    check_note,
    exported_key,
    format_manifest,
    format_sum,
    id_of,
    is_id,
    judge_order,
    object_path,
    parse_manifest,
    sign_id,
)
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import parse_packument
from mirrorwitness.tlog.keys import make_signer_key

A, B, C, D = (letter * 64 for letter in "abcd")
KEY = make_signer_key("mirror.example.org", bytes([1] * 32))
OTHER = make_signer_key("mirror.example.org", bytes([2] * 32))


def make_file(version: str = "1.0.0", **changes: Any) -> BundledFile:
    values: dict[str, Any] = {"file": f"left-{version}.tgz", "sha256": A, "size": 3, "integrity": "sha512-x"}
    return BundledFile(version=Version(version), **{**values, **changes})


def make_package(*files: BundledFile, name: str = "left") -> BundledPackage:
    return BundledPackage(name=PackageName(name), packument=B, files=files or (make_file(),))


def make_manifest(*packages: BundledPackage, **changes: Any) -> Manifest:
    return Manifest(packages=packages or (make_package(),), **{"objects": {A: 3, B: 10}, **changes})


FULL = make_manifest(
    make_package(make_file(proof=C), make_file("2.0.0", attestations=D)),
    objects={A: 3, B: 10, C: 1, D: 2},
    previous="e" * 64,
    keys=D,
    log=BundledLog(checkpoint="note\n", since=LogStep(size=4, root="AA==", hashes=("AA==",))),
    signer=str(KEY.verifier),
)


@pytest.mark.parametrize("manifest", [make_manifest(), FULL, Manifest(packages=(), objects={})])
def test_what_was_written_is_read_and_written_the_same(manifest: Manifest) -> None:
    """One text has one spelling, and nothing is lost."""
    body = format_manifest(manifest)
    read = parse_manifest(body)
    assert msgspec.structs.replace(read, format="") == manifest
    assert format_manifest(read) == body


def test_everything_that_is_listed_is_needed() -> None:
    """Documents, tarballs, proofs, attestations and keys."""
    assert list(FULL.needed()) == [D, B, A, C, A, D]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (make_manifest(make_package(name="b"), make_package(name="a")), "packages are not in order"),
        (make_manifest(make_package(), make_package()), "packages are not in order"),
        (make_manifest(make_package(make_file("2.0.0"), make_file("1.0.0"))), "versions are not in order"),
        (make_manifest(make_package(make_file("1.0.0", file="x"), make_file("2.0.0", file="x"))), "two versions have"),
        (make_manifest(make_package(make_file(size=-1))), "of -1 bytes"),
        (make_manifest(make_package(make_file(file="a/b"))), "'a/b'"),
        (make_manifest(make_package(make_file(file=""))), "''"),
        (make_manifest(make_package(make_file(sha256="A" * 64))), "is no SHA-256"),
        (make_manifest(previous="short"), "'short' is no SHA-256"),
        (make_manifest(objects={A: 3, C: 1}), "belongs to nothing"),
        (make_manifest(make_package(name="../evil")), "not a bundle's manifest"),
        (make_manifest(signer="nobody"), "not a bundle's manifest"),
    ],
)
def test_a_manifest_that_cannot_be_true_is_refused(manifest: Manifest, words: str) -> None:
    """Order, digests, names and sizes: what an export never writes is not read."""
    with pytest.raises(UpstreamProtocolError, match=words):
        parse_manifest(format_manifest(manifest))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a bundle's manifest"),
        (b"[]", "not a bundle's manifest"),
        (b"\xff", "not a bundle's manifest"),
        (b"{" * 100_000, "not a bundle's manifest"),
        (format_manifest(make_manifest()).replace(b"bundle/1", b"bundle/2"), "expected 'mirrorwitness-bundle/1'"),
        (format_manifest(make_manifest())[:-1], "not spelt"),
        (json.dumps(json.loads(format_manifest(make_manifest())), indent=1).encode(), "not spelt"),
        (format_manifest(make_manifest()).replace(b'"size"', b'"sizes"'), "not a bundle's manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(body: bytes, words: str) -> None:
    """Another format, another spelling, an unknown field."""
    with pytest.raises(UpstreamProtocolError, match=words):
        parse_manifest(body)


def cut(at: int) -> bytes:
    body = format_manifest(FULL)
    return body[:at] + body[at + 1 :]


@given(st.binary(max_size=200) | st.integers(0, 600).map(cut))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """One kind of error, no crash; what is read is written the same."""
    try:
        manifest = parse_manifest(body)
    except UpstreamProtocolError:
        return
    assert format_manifest(manifest) == body


def test_a_manifest_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that does not fit is told how to go on."""
    monkeypatch.setattr(bundle, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(ConfigurationError, match="in several bundles, by NAMES"):
        format_manifest(make_manifest())


def test_ids_and_paths() -> None:
    """An id is the digest of the manifest, and its file is what sha256sum reads."""
    assert id_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (is_id(A), is_id("A" * 64), is_id(A + "\n"), is_id("")) == (True, False, False, False)
    assert object_path(A) == f"objects/{A}"
    assert exported_key(A) == f"state/bundle/exported/{A}.json"
    assert format_sum(A) == f"{A}  manifest.json\n".encode()


def test_signatures() -> None:
    """Of this bundle by this key, and of nothing else."""
    note = sign_id(A, KEY)
    check_note(A, note, KEY.verifier)
    with pytest.raises(SignatureError, match="expected b'mirrorwitness-bundle/1"):
        check_note(B, note, KEY.verifier)
    with pytest.raises(SignatureError):
        check_note(A, note, OTHER.verifier)
    with pytest.raises(UpstreamProtocolError):
        check_note(A, b"no note", KEY.verifier)


CHAIN = Imported(id=C, chain=(A, B, C))


@pytest.mark.parametrize(
    ("given", "previous", "imported", "link"),
    [
        (A, None, None, Link.FIRST),
        (C, B, CHAIN, Link.AGAIN),
        (D, C, CHAIN, Link.NEXT),
        (D, A, CHAIN, Link.NEXT),
        (D, None, CHAIN, Link.ANEW),
    ],
)
def test_how_a_bundle_belongs(given: str, previous: str | None, imported: Imported | None, link: Link) -> None:
    """It goes on from one that was imported, or stands alone."""
    assert judge_order(given, previous, imported) is link


@pytest.mark.parametrize(
    ("given", "previous", "imported", "words"),
    [
        (D, A, None, f"goes on from {A}, which was never imported here .none was imported yet"),
        (D, "e" * 64, CHAIN, f"the newest that was imported is {C}"),
        (A, None, CHAIN, f"was imported before, and others after it; the newest is {C}"),
        (B, A, CHAIN, "was imported before, and others after it"),
    ],
)
def test_gap_and_replay(given: str, previous: str | None, imported: Imported | None, words: str) -> None:
    """What is missing is named; nothing is taken from an older one."""
    with pytest.raises(ConfigurationError, match=words):
        judge_order(given, previous, imported)


def test_what_is_remembered_of_imports() -> None:
    """In order, each once, and not without bound."""
    assert Imported.after(A, None) == Imported(id=A, chain=(A,))
    assert Imported.after(D, CHAIN) == Imported(id=D, chain=(A, B, C, D))
    assert Imported.after(C, CHAIN) == CHAIN
    long = Imported(id="x", chain=tuple(map(str, range(20_000))))
    assert len(Imported.after(A, long).chain) == 10_000


def packument(*versions: str, name: str = "left") -> Any:
    manifests = {
        version: {"name": name, "version": version, "dist": {"tarball": "https://registry.example/x.tgz"}}
        for version in versions
    }
    return parse_packument(json.dumps({"name": "left", "versions": manifests}).encode(), name=PackageName("left"))


def test_a_document_names_exactly_what_is_listed() -> None:
    """None more, none less, none that could not be served."""
    package = make_package(make_file("1.0.0"), make_file("2.0.0"))
    check_listing(package, packument("1.0.0", "2.0.0"))
    with pytest.raises(UpstreamProtocolError, match=r"left: 2.0.0 is in its files alone, 1 versions differ"):
        check_listing(package, packument("1.0.0"))
    with pytest.raises(UpstreamProtocolError, match=r"left: 3.0.0 is in its document alone"):
        check_listing(package, packument("1.0.0", "2.0.0", "3.0.0"))
    with pytest.raises(UpstreamProtocolError, match="the document is damaged"):
        check_listing(package, packument("1.0.0", "2.0.0", name="other"))
