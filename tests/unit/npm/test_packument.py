"""Full documents: what is read, what is refused, and what `render_full` leaves alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.manifest import Manifest
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import parse_packument, render_full, repair_dist_tags, rev_number
from tests.unit.npm.documents import NAME, document, encode, manifest, new_url, parse, render


def test_everything_that_a_mirror_needs_is_read() -> None:
    """One document, all values."""
    signed = {"signatures": [{"keyid": "K", "sig": "S"}, {"keyid": "K", "sig": "T"}]}
    odd = manifest(
        "2.0.0-rc.1",
        dist={**signed, "attestations": {"url": "u"}, "unpackedSize": 5},
        deprecated="use 3",
        scripts={"postinstall": "x"},
    )
    body = encode(document("1.0.0", odd))
    found = parse(body)
    assert found.versions == {
        "1.0.0": Manifest(
            version=Version("1.0.0"),
            tarball="https://registry.example/pkg/-/pkg-1.0.0.tgz",
            integrity="sha512-of-1.0.0",
            shasum="sha1-of-1.0.0",
        ),
        "2.0.0-rc.1": Manifest(
            version=Version("2.0.0-rc.1"),
            tarball="https://registry.example/pkg/-/pkg-2.0.0-rc.1.tgz",
            integrity="sha512-of-2.0.0-rc.1",
            shasum="sha1-of-2.0.0-rc.1",
            signatures=(("K", "S"), ("K", "T")),
            has_attestations=True,
            unpacked_size=5,
            deprecated="use 3",
            has_install_script=True,
        ),
    }
    assert (found.name, found.rev, found.dist_tags) == ("pkg", "12-abc", {"latest": "2.0.0-rc.1"})
    assert found.time == {"created": "2020-01-01T00:00:00.000Z", "modified": "2021-01-01T00:00:00.000Z"}
    assert (found.unpublished, found.security_holder) == (False, False)
    assert (found.size, found.body) == (len(body), body)


def test_p4_a_document_with_all_versions_differs_only_in_its_tarballs() -> None:
    """P4: unknown members at every level, order, time, integrity and signatures survive."""
    original = document(
        manifest("1.0.0", dist={"x-new": [1], "signatures": [{"keyid": "K", "sig": "S"}]}, license=["MIT"], zzz=None),
        manifest("1.1.0", dependencies=["a", "b"]),
        unknown={"deep": [1, {"a": "é"}]},
        readme="…",
    )
    found = parse(original)
    rendered = render(found, found.versions)
    for version in original["versions"]:
        original["versions"][version]["dist"]["tarball"] = new_url(Version(version))
    assert encode(rendered) == encode(original)


def test_p4_members_that_are_not_concerned_keep_their_bytes() -> None:
    """P4: odd white space, escapes, numbers and duplicate keys deeper down come out as they came in."""
    odd = rb'{ "a" : 1e400 , "b":-0,"b":-0.0, "c":"\u00e9\/", "big":123456789012345678901234567890123456789 }'
    body = (
        b'{"name":"pkg","x":' + odd + b',"versions":{"1.0.0":{"dist":{"y":' + odd + b',"tarball":"http:\\/\\/r"},'
        b'"version":"1.0.0","z":' + odd + b'}},"time":' + odd + b'  ,"dist-tags": {"latest" :"1.0.0"} }\n'
    )
    found = parse(body)
    assert render_full(found, versions=[Version("1.0.0")], tarball_url=new_url) == (
        b'{"name":"pkg","x":' + odd + b',"versions":{"1.0.0":{"dist":{"y":' + odd + b',"tarball":"'
        b'https://mirror.example/pkg/-/pkg-1.0.0.tgz"},"version":"1.0.0","z":' + odd + b'}},"time":' + odd + b","
        b'"dist-tags":{"latest" :"1.0.0"}}'
    )


def test_p4_only_unselected_versions_go_and_time_stays_whole() -> None:
    """P4, row 1: `time` keeps the versions that are not there; latest moves to what is."""
    original = document("1.0.0", "1.1.0", "2.0.0")
    original["dist-tags"] = {"old": "1.0.0", "latest": "2.0.0", "next": "2.0.0"}
    original["time"]["2.0.0"] = "2022-01-01T00:00:00.000Z"
    rendered = render(parse(original), ["1.1.0", "1.0.0", "9.9.9"])
    assert list(rendered["versions"]) == ["1.0.0", "1.1.0"]
    assert rendered["dist-tags"] == {"old": "1.0.0", "latest": "1.1.0"}
    assert rendered["time"] == original["time"]


def test_row_01_a_version_that_is_only_in_time_is_no_version() -> None:
    """Row 1: an unpublished version stays in `time` upstream."""
    found = parse(document("1.0.0", time={"1.0.0": "a", "1.0.1": "b"}))
    assert (list(found.versions), found.time) == (["1.0.0"], {"1.0.0": "a", "1.0.1": "b"})


@pytest.mark.parametrize("tags", [{}, None, [], "x", {"latest": 5}])
def test_a_document_without_usable_latest_gets_one(tags: object) -> None:
    """Where there are versions, `latest` resolves, whatever upstream's dist-tags were."""
    assert render(parse(document("1.0.0", "0.9.0", **{"dist-tags": tags})), ["0.9.0"])["dist-tags"] == {
        "latest": "0.9.0"
    }


def test_a_document_without_dist_tags_gets_them_before_its_versions() -> None:
    """The one member that is ever added."""
    original = document("1.0.0")
    del original["dist-tags"]
    assert list(render(parse(original), ["1.0.0"])) == ["_id", "_rev", "name", "dist-tags", "versions", "time"]


def test_dist_tags_that_come_first_or_versions_that_come_first_are_written_right() -> None:
    """Member order is upstream's, also where `versions` opens the document."""
    first = {"versions": {"1.0.0": manifest("1.0.0")}, "name": "pkg"}
    assert list(render(parse(first), ["1.0.0"])) == ["dist-tags", "versions", "name"]


def test_a_document_of_which_nothing_is_selected_has_no_tags() -> None:
    """No version, no tag."""
    rendered = render(parse(document("1.0.0")), [])
    assert (rendered["versions"], rendered["dist-tags"]) == ({}, {})


@pytest.mark.parametrize("stub", [{"name": "x", "time": "t", "versions": ["1.0.0"]}, {"time": "t", "versions": []}])
def test_row_02_an_unpublished_package_is_read_and_passed_on_unchanged(stub: dict[str, Any]) -> None:
    """Row 2: no `versions`, no `dist-tags`, both shapes of the stub."""
    body = encode({"_id": "pkg", "_rev": "3-a", "name": "pkg", "time": {"created": "c", "unpublished": stub}})
    found = parse(body)
    assert (found.unpublished, found.versions, found.dist_tags, found.time) == (True, {}, {}, {"created": "c"})
    assert render_full(found, versions=[], tarball_url=new_url) == body


def test_row_02_a_package_that_came_back_is_not_unpublished() -> None:
    """Versions beside `time.unpublished` mean that it was published again."""
    assert not parse(document("1.0.0", time={"unpublished": {}})).unpublished


@pytest.mark.parametrize(
    "extra",
    [
        {"description": "security holding package", "repository": "npm/security-holder"},
        {"description": "security holding package"},
        {"repository": {"type": "git", "url": "git+https://github.com/npm/security-holder.git"}},
        {"repository": "npm/security-holder"},
    ],
)
@pytest.mark.parametrize("version", ["0.0.1-security", "0.0.1-security.1"])
def test_row_04_npms_placeholder_is_recognized(extra: dict[str, Any], version: str) -> None:
    """Row 4: the package was taken over by npm; `time` still has the old versions."""
    found = parse(document(version, time={"1.0.0": "t"}, **extra))
    assert (found.security_holder, found.unpublished) == (True, False)


@pytest.mark.parametrize(
    "value",
    [
        document("0.0.1-security", "1.0.0", description="security holding package"),
        document("0.0.1-security", description="another", repository={"url": 5}),
        document("0.0.1-security", repository=["npm/security-holder"]),
        document("1.0.0", description="security holding package", repository="npm/security-holder"),
        document(description="security holding package"),
    ],
)
def test_row_04_a_package_with_other_versions_is_no_placeholder(value: dict[str, Any]) -> None:
    """Row 4: a description alone replaces nothing."""
    assert not parse(value).security_holder


HOSTILE_KEYS = ["__proto__", "constructor", "then", "toString", "../../etc/passwd", "a/b", "\0", "C:\\x", "", "%2e%2e"]


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_rows_20_21_hostile_keys_are_opaque_and_kept(key: str) -> None:
    """Rows 20, 21: a version key is an opaque string; such keys survive in versions, time and below."""
    value = document(manifest(key, dependencies={key: "1"}, **{key or "x": 1}), time={key: "t"})
    found = parse(value)
    assert found.versions[Version(key)].refused is None
    assert found.time == {key: "t"}
    rendered = render(found, [key])
    assert rendered["versions"][key]["dependencies"] == {key: "1"}
    assert rendered["time"] == {key: "t"}


def test_row_22_documents_of_names_that_differ_in_case_are_not_mixed_up() -> None:
    """Row 22: `Buffer` is not `buffer`."""
    with pytest.raises(UpstreamProtocolError, match="it is the document of 'Buffer'"):
        parse_packument(encode({"name": "Buffer", "versions": {}}), name=PackageName("buffer"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "1.0.1"}, "it names the version '1.0.1'"),
        ({"version": 1}, "it names the version ''"),
        ({"name": "other"}, "it names the package 'other'"),
        ({"name": ["pkg"]}, "it names the package ''"),
        ({"dist": None}, "it has no dist"),
        ({"dist": "x"}, "it has no dist"),
        ({"dist": {}}, "its dist.tarball is not a URL"),
        ({"dist": {"tarball": ["u"]}}, "its dist.tarball is not a URL"),
        ({"dist": {"tarball": ""}}, "its dist.tarball is not a URL"),
        ({"dist": {"tarball": "u", "integrity": ["sha512-x"]}}, "its dist.integrity is not a string"),
        ({"dist": {"tarball": "u", "integrity": "\ud800"}}, "its dist.integrity is not valid Unicode"),
        ({"dist": {"tarball": "u\udfff"}}, "its dist.tarball is not a URL"),
    ],
)
def test_row_23_a_version_that_is_not_what_its_key_says_is_refused_alone(change: dict[str, Any], reason: str) -> None:
    """Row 23: the bad version is refused and never rendered; the good one beside it is as ever."""
    body = encode(document({**manifest("1.0.0"), **change, "version": "1.0.0"}, "2.0.0"))
    value = json.loads(body)
    value["versions"]["1.0.0"].update(change)
    found = parse(json.dumps(value).encode())
    assert found.versions[Version("1.0.0")].refused == reason
    assert found.versions[Version("2.0.0")] == parse(document("2.0.0")).versions[Version("2.0.0")]
    assert list(render(found, found.versions)["versions"]) == ["2.0.0"]


@pytest.mark.parametrize("text", ["null", "5", '"x"', "[]", "true"])
def test_a_version_that_is_no_object_is_refused_alone(text: str) -> None:
    """One bad version never spoils the others."""
    value = encode(document("1.0.0", "2.0.0"))
    start = value.index(b'{"name":"pkg","version":"1.0.0"')
    end = value.index(b',"2.0.0":{')
    found = parse(value[:start] + text.encode() + value[end:])
    refused = found.versions[Version("1.0.0")]
    assert (refused.tarball, str(refused.refused)[:20]) == ("", "not a JSON object: E")
    assert list(render(found, found.versions)["versions"]) == ["2.0.0"]


@pytest.mark.parametrize("missing", [{"name"}, {"version"}, {"name", "version"}])
def test_row_23_what_a_version_does_not_say_is_no_mismatch(missing: set[str]) -> None:
    """The key and the document name it; nothing contradicts them."""
    value = document("1.0.0")
    for member in missing:
        del value["versions"]["1.0.0"][member]
    assert parse(value).versions[Version("1.0.0")].refused is None


@pytest.mark.parametrize(("key", "inner"), [("1.0.0-beta", "1.0.0beta"), ("1.2.3", "v1.2.3"), ("1.2.3", "1.2.3+b5")])
def test_row_35_legacy_spellings_of_the_same_version_are_the_same(key: str, inner: str) -> None:
    """Row 35: documents of 2010 hold 1.0.0beta under 1.0.0-beta, with a file name of their own."""
    value = document("9.9.9")
    value["versions"] = {key: manifest(inner, dist={"tarball": f"https://registry.example/pkg/-/pkg-{inner}.tgz"})}
    found = parse(value).versions[Version(key)]
    assert (found.refused, found.tarball) == (None, f"https://registry.example/pkg/-/pkg-{inner}.tgz")


@pytest.mark.parametrize(
    "value",
    [{"name": "other"}, {"_id": "other"}, {"name": "pkg", "_id": "Pkg"}, {"name": 5}, {}, {"error": "not_found"}],
)
def test_row_24_the_document_of_another_package_is_refused(value: dict[str, Any]) -> None:
    """Row 24: name and _id, where they are there, are the name that was asked for."""
    with pytest.raises(UpstreamProtocolError, match="packument of pkg: it "):
        parse({**value, "versions": {}})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a JSON object"),
        (b"<!DOCTYPE html><html>", "it begins with b'<!DOCTYPE html>"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"name":"pkg"', "not a JSON object"),
        (b'{"name":"pkg"}x', "not a JSON object"),
        (b'\xef\xbb\xbf{"name":"pkg"}', "not a JSON object"),
        (b'{"name":"pkg","x":NaN}', "not a JSON object"),
        (b'{"name":"pkg","x":01}', "not a JSON object"),
        (b'{"name":"pkg","x":"\xff"}', "not UTF-8 at byte 19"),
        (b'{"name":"pkg","x":"\xed\xa0\x80"}', "not UTF-8 at byte 19"),
        (b'{"name":"pkg","x":"\xc3', "not UTF-8 at byte 19"),
        (b'{"name":"pkg","versions":[]}', "not a JSON object"),
        (b'{"name":"pkg","versions":"x"}', "not a JSON object"),
        (b'{"name":"pkg","x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"name":"pkg","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"name":"pkg","x":"\\ud800",', "not a JSON object"),
        (b'{"name":"pkg","\\ud800":[NaN]}', "NaN is not JSON"),
        (b'{"name":"pkg","x":"\\ud800"}{}', "more text at byte 27"),
        (b'{"name":"pkg","x":"\\ud800" "y"}', "not a JSON object"),
        (b'{"name":"pkg","x":"\\ud800",5:1}', "not a JSON object"),
        (b'["\\ud800"]', "not a JSON object"),
        (b'{"x":"\\ud800","y":' + b"[" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_row_25_documents_that_are_not_json_are_refused(body: bytes, reason: str) -> None:
    """Rows 15, 25: HTML, cut text, bytes that are not UTF-8 and bottomless nesting are an upstream error, no crash."""
    with pytest.raises(UpstreamProtocolError, match="packument of pkg: ") as caught:
        parse(body)
    assert reason in str(caught.value)


@pytest.mark.parametrize("versions", [b"null", b"{}"])
def test_a_document_with_no_versions_is_read(versions: bytes) -> None:
    """Null counts as none."""
    found = parse(b'{"name":"pkg","time":null,"versions":' + versions + b"}")
    assert (found.versions, found.time, found.unpublished, found.rev) == ({}, {}, False, None)


def test_row_25_of_duplicate_keys_the_last_wins_and_is_the_only_one_served() -> None:
    """Row 25: at every level that is read, also behind an escape; what was judged is what is written."""
    body = (
        b'{"name":"evil","name":"pkg","versions":{"0.0.1":{}},"dist-tags":{},'
        b'"versions":{"1.0.0":{"dist":{"tarball":"a"}},"1.0.0":{"version":"x","version":"1.0.0",'
        b'"dist":{"tarball":"b","integrity":"bad"},'
        b'"di\\u0073t":{"tarball":"c","integrity":"evil","tarball":"d","integ\\u0072ity":"good"}}},'
        b'"dist-tags":{"latest":"1.0.0"}}'
    )
    found = parse(body)
    assert found.versions == {"1.0.0": Manifest(version=Version("1.0.0"), tarball="d", integrity="good")}
    assert render_full(found, versions=list(found.versions), tarball_url=new_url) == (
        b'{"name":"pkg","versions":{"1.0.0":{"version":"1.0.0","dist":{"tarball":"'
        b'https://mirror.example/pkg/-/pkg-1.0.0.tgz","integrity":"good"}}},"dist-tags":{"latest":"1.0.0"}}'
    )


def test_row_25_lone_surrogates_are_kept_as_they_came() -> None:
    """Row 25: a readme cut inside an emoji, and keys of that kind, survive; nothing else is disturbed."""
    body = (
        b' {"name":"pkg","readme":"cut \\ud83d","\\udc00" : { "a":[ 1e400 , -0,{}] } ,'
        b'"time":{"1.0.0":"t","x":"\\ud800","\\ud801":"u"},'
        b'"versions":{ "1.0.0" : {"d":"\\uD83D","\\udfff":1,"dist":{"tarball":"u","z":"\\udbff"} } , '
        b'"\\ud800":{"dist":{"tarball":"v"}}, "2.0.0":{"dist":{"tarball":"w"}} },"empty":{}} \n'
    )
    found = parse(body)
    assert {key: (entry.tarball, entry.refused) for key, entry in found.versions.items()} == {
        "1.0.0": ("u", None),
        "\ud800": ("v", "its key is not valid Unicode"),
        "2.0.0": ("w", None),
    }
    assert found.time == {"1.0.0": "t", "\ud801": "u"}
    assert render_full(found, versions=[Version("1.0.0"), Version("\ud800")], tarball_url=new_url) == (
        b'{"name":"pkg","readme":"cut \\ud83d","\\udc00":{ "a":[ 1e400 , -0,{}] },'
        b'"time":{"1.0.0":"t","x":"\\ud800","\\ud801":"u"},"dist-tags":{"latest":"1.0.0"},'
        b'"versions":{"1.0.0":{"d":"\\uD83D","\\udfff":1,"dist":{"tarball":"'
        b'https://mirror.example/pkg/-/pkg-1.0.0.tgz","z":"\\udbff"}}},"empty":{}}'
    )


def test_row_25_numbers_out_of_range_in_hints_are_no_fault() -> None:
    """Row 25: 1e400 as unpackedSize, and a number of 5,000 digits, read as nothing and are kept."""
    body = encode(document("1.0.0", "2.0.0"))
    body = body.replace(b'"shasum":"sha1-of-1.0.0"', b'"unpackedSize":1e400').replace(
        b'"shasum":"sha1-of-2.0.0"', b'"unpackedSize":' + b"9" * 5000
    )
    found = parse(body)
    assert [(entry.refused, entry.unpacked_size) for entry in found.versions.values()] == [(None, None)] * 2
    rendered = render_full(found, versions=list(found.versions), tarball_url=new_url)
    assert (b'"unpackedSize":1e400' in rendered, b"9" * 5000 in rendered) == (True, True)


@pytest.mark.parametrize(
    ("dist", "expected"),
    [
        ({"signatures": None}, ()),
        ({"signatures": {}}, ()),
        ({"signatures": "x"}, ()),
        ({"signatures": []}, ()),
        ({"signatures": [5]}, (("", ""),)),
        ({"signatures": [{"keyid": 5, "sig": "s"}, {"keyid": "k"}]}, (("", "s"), ("k", ""))),
        ({"signatures": [{"keyid": "\ud800", "sig": "\ud800"}]}, (("", ""),)),
    ],
)
def test_attack_malformed_signatures_do_not_make_a_version_unsigned(
    dist: dict[str, Any], expected: tuple[tuple[str, str], ...]
) -> None:
    """An entry that cannot be read stays an entry that cannot verify."""
    body = json.dumps(document(manifest("1.0.0", dist=dist))).encode()
    assert parse(body).versions[Version("1.0.0")].signatures == expected


ODD_HINTS: list[dict[str, Any]] = [
    {"deprecated": False},
    {"deprecated": True},
    {"deprecated": ""},
    {"deprecated": {"a": 1}},
    {"deprecated": 5},
    {"scripts": "install"},
    {"scripts": ["install"]},
    {"scripts": {"test": "npm install"}},
    {"scripts": None},
    {"dist": {"unpackedSize": -1}},
    {"dist": {"unpackedSize": "5"}},
    {"dist": {"unpackedSize": True}},
    {"dist": {"attestations": None}},
    {"dist": {"attestations": "x"}},
    {"license": ["MIT", {"type": "x"}], "bin": 5, "dependencies": "none", "os": {}},
]


@pytest.mark.parametrize("odd", ODD_HINTS)
def test_members_of_any_shape_pass_as_opaque(odd: dict[str, Any]) -> None:
    """Old documents hold everything everywhere; hints of a wrong shape are simply not there."""
    odd = json.loads(json.dumps(odd))
    plain = parse(document("1.0.0")).versions
    assert parse(document(manifest("1.0.0", **odd))).versions == plain


@pytest.mark.parametrize(
    ("dist", "expected"),
    [
        ({"integrity": None}, (None, "sha1-of-1.0.0")),
        ({"integrity": ""}, (None, "sha1-of-1.0.0")),
        ({"shasum": None}, ("sha512-of-1.0.0", None)),
        ({"shasum": 5}, ("sha512-of-1.0.0", None)),
        ({"integrity": "", "shasum": ""}, (None, None)),
    ],
)
def test_rows_09_10_missing_digests_are_none(dist: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    """Rows 9, 10: null and empty are as good as missing; nothing is made up."""
    found = parse(document(manifest("1.0.0", dist=dist))).versions[Version("1.0.0")]
    assert (found.refused, found.integrity, found.shasum) == (None, *expected)


@pytest.mark.parametrize("script", ["preinstall", "install", "postinstall", "\\u0069nstall"])
def test_install_scripts_are_seen(script: str) -> None:
    """Each of npm's three, also behind an escape."""
    body = encode(document(manifest("1.0.0", scripts={"SCRIPT": ""}))).replace(b"SCRIPT", script.encode())
    assert parse(body).versions[Version("1.0.0")].has_install_script


def test_row_34_a_change_of_tags_or_deprecation_changes_the_rendered_document_only_there() -> None:
    """Row 34: the same version objects, another message and tag."""
    before = document("1.0.0", "1.1.0")
    after = json.loads(encode(before))
    after["versions"]["1.1.0"]["deprecated"] = "broken"
    after["dist-tags"] = {"latest": "1.0.0"}
    assert parse(after).versions[Version("1.1.0")].deprecated == "broken"
    rendered = [render(parse(value), value["versions"]) for value in (before, after)]
    del rendered[1]["versions"]["1.1.0"]["deprecated"]
    rendered[1]["dist-tags"] = rendered[0]["dist-tags"]
    assert rendered[0] == rendered[1]


@pytest.mark.parametrize(
    ("tags", "versions", "expected"),
    [
        ({"latest": "1.0.0"}, ["1.0.0", "2.0.0"], {"latest": "1.0.0"}),
        ({"latest": "3.0.0", "next": "2.0.0"}, ["1.0.0", "2.0.0"], {"latest": "2.0.0", "next": "2.0.0"}),
        ({"next": "3.0.0"}, ["1.0.0", "10.0.0", "9.0.0"], {"latest": "10.0.0"}),
        ({"next": "1.0.0"}, ["1.0.0"], {"next": "1.0.0", "latest": "1.0.0"}),
        ({"latest": "9.0.0"}, ["1.0.0", "2.0.0-rc.1"], {"latest": "1.0.0"}),
        ({"latest": "9.0.0"}, ["2.0.0-rc.1", "2.0.0-rc.2"], {"latest": "2.0.0-rc.2"}),
        ({"latest": "9.0.0"}, ["weird", "2.0.0-rc.2"], {"latest": "2.0.0-rc.2"}),
        ({"latest": "9.0.0"}, ["a", "b"], {"latest": "b"}),
        ({"latest": "1.0.0", "x": "1.0.0"}, [], {}),
    ],
)
def test_p4_dist_tags_are_repaired_so_that_latest_resolves(
    tags: dict[str, str], versions: list[str], expected: dict[str, str]
) -> None:
    """P4: kept where it can be, else the highest release, else the highest; dangling tags go."""
    repaired = repair_dist_tags(tags, [Version(version) for version in versions])
    assert list(repaired.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("rev", "expected"),
    [
        ("125-492fb14479b1ae44c0150d53ab2ce6ba", 125),
        ("0-x", 0),
        ("3-hex-16", 3),
        (None, None),
        ("", None),
        ("125", None),
        ("125-", None),
        ("-5", None),
        ("012-a", None),
        ("+1-a", None),
        ("1_0-a", None),
        ("٣-a", None),
        ("9" * 19 + "-a", None),
    ],
)
def test_the_number_of_a_revision_is_read_strictly(rev: str | None, expected: int | None) -> None:
    """ASCII digits without leading zeros; anything else is no number."""
    assert rev_number(rev) == expected


@pytest.mark.slow
def test_row_14_37000_versions_and_numbers_of_any_size() -> None:
    """Row 14: a document of 37,000 versions, some with parts of 10^18, is read and rendered whole."""
    keys = [f"{10**18 + index}.0.{index}" if index % 100 == 0 else f"1.{index}.0" for index in range(37_000)]
    found = parse(document(*keys))
    assert [entry.refused for entry in found.versions.values()] == [None] * len(keys)
    rendered = render(found, keys[1::2])
    assert list(rendered["versions"]) == keys[1::2]
    assert rendered["dist-tags"] == {"latest": "1.36999.0"}


def test_a_packument_does_not_show_its_body() -> None:
    """A repr in a log is short."""
    assert "registry.example/pkg/-/" in repr(parse(document("1.0.0")))
    assert "body=" not in repr(parse(document("1.0.0")))
    assert parse_packument(encode(document("1.0.0")), name=NAME) == parse(document("1.0.0"))
