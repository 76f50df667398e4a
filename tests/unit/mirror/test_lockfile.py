"""Lockfiles: what is pinned, what is skipped and why, and what cannot be read."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mirrorwitness.errors import LockfileError
from mirrorwitness.mirror.lockfile import MAX_LOCKFILE_BYTES, Flag, LockedPackage, Lockfile, Place, parse_lockfile
from mirrorwitness.npm.names import PackageName, Version

DATA = Path(__file__).parents[2] / "data" / "lockfiles"
EXAMPLE = Path(__file__).parents[3] / "examples" / "app" / "package-lock.json"


def sri(text: str, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, text.encode()).digest()).decode()}"


def read(name: str) -> Lockfile:
    return parse_lockfile((DATA / name).read_bytes(), path=name)


def parse(document: object, *, path: str = "package-lock.json") -> Lockfile:
    return parse_lockfile(json.dumps(document, indent=2).encode(), path=path)


def lock(packages: dict[str, Any]) -> dict[str, Any]:
    return {"lockfileVersion": 3, "packages": packages}


def skipped(lockfile: Lockfile) -> dict[str, str]:
    return {item.place.path: item.reason for item in lockfile.skipped}


def pins(lockfile: Lockfile) -> list[tuple[str, str, str | None]]:
    return [(entry.name, entry.version, entry.integrity) for entry in lockfile.entries]


PINNED = [
    ("@scope/core", "1.2.3", sri("a")),
    ("left", "1.1.0", sri("b")),
    ("left", "2.0.0", sri("c")),
    ("JSONish", "1.0.0", sri("d", "sha1")),
]


class TestVersions:
    def test_version_3_gives_every_registry_package_once(self) -> None:
        """Aliases have their real name, upper case stays, a repeated package counts once."""
        lockfile = read("v3.json")
        assert (lockfile.format, lockfile.version, lockfile.path) == ("package-lock version 3", 3, "v3.json")
        assert sorted(pins(lockfile)) == sorted([*PINNED, ("fsnative", "2.0.0", sri("e"))])

    def test_version_3_lists_what_it_skips(self) -> None:
        """What is not from a registry is listed with its reason, without secrets."""
        assert skipped(read("v3.json")) == {
            "node_modules/@scope/core/node_modules/packed": (
                "bundled: it comes inside the tarball of the package that contains it"
            ),
            "node_modules/elsewhere": "from an address that is no registry's: https://files.example/elsewhere.tgz",
            "node_modules/forked": "from git: git+ssh://forge.example/team/forked.git",
            "node_modules/here": "a link to ../here",
            "node_modules/maybe": "has no version: npm wrote no more than that it may be needed",
            "node_modules/member": "a link to packages/member",
            "packages/member": "a directory of the project itself, not a package of a registry",
            "../here": "a directory of the project itself, not a package of a registry",
        }

    def test_version_3_keeps_flags_platform_and_places(self) -> None:
        """A flag holds only where every occurrence has it; every place is kept with its line."""
        entries = {(entry.name, entry.version): entry for entry in read("v3.json").entries}
        assert entries[PackageName("fsnative"), Version("2.0.0")] == LockedPackage(
            name=PackageName("fsnative"),
            version=Version("2.0.0"),
            integrity=sri("e"),
            flags=frozenset({Flag.DEV, Flag.OPTIONAL}),
            os=("linux",),
            cpu=("x64",),
            libc=("glibc",),
            places=(Place("node_modules/fsnative", 42),),
        )
        left = entries[PackageName("left"), Version("1.1.0")]
        assert left.flags == frozenset()
        assert [str(place) for place in left.places] == [
            "node_modules/@scope/core/node_modules/left (line 19)",
            "packages/member/node_modules/left (line 78)",
        ]

    def test_version_2_reads_packages_and_not_the_copy(self) -> None:
        """Of the two trees in version 2 the newer one counts."""
        document = json.loads((DATA / "v3.json").read_text())
        document |= {"lockfileVersion": 2, "dependencies": {"ignored": {"version": "9.9.9"}}}
        assert pins(parse(document)) == pins(read("v3.json"))

    def test_version_2_without_packages_reads_the_tree(self) -> None:
        """A version 2 that somebody stripped to its version 1 part is still read."""
        document = json.loads((DATA / "v1.json").read_text()) | {"lockfileVersion": 2}
        assert pins(parse(document)) == pins(read("v1.json"))

    def test_version_1_reads_the_nested_tree(self) -> None:
        """Version 1 gives the same packages as version 3 of the same project."""
        lockfile = read("v1.json")
        assert sorted(pins(lockfile)) == sorted(PINNED)
        assert skipped(lockfile) == {
            "@scope/core > packed": "bundled: it comes inside the tarball of the package that contains it",
            "forked": "from git: git+ssh://forge.example/team/forked.git",
            "here": "from a file or directory: file:../here",
            "elsewhere": "from an address that is no registry's: https://files.example/elsewhere.tgz",
        }

    def test_a_shrinkwrap_without_lockfile_version_is_version_1(self) -> None:
        """Shrinkwraps of npm 4 have no lockfileVersion, and git only in resolved."""
        body = (DATA / "shrinkwrap-npm4.json").read_bytes()
        lockfile = parse_lockfile(body, path="dir/npm-shrinkwrap.json")
        assert lockfile.format == "npm-shrinkwrap version 1"
        assert pins(lockfile) == [("left", "1.1.0", None)]
        assert skipped(lockfile) == {"forked": "from git: git+https://forge.example/team/forked.git"}

    def test_the_example_is_read_whole(self) -> None:
        """The example application's lockfile names no registry and skips nothing."""
        lockfile = parse_lockfile(EXAMPLE.read_bytes(), path="package-lock.json")
        assert (len(lockfile.entries), lockfile.skipped) == (44, ())
        assert {entry.resolved for entry in lockfile.entries} == {None}
        names = [entry.name for entry in lockfile.entries]
        assert ("JSONStream" in names, "string-width" in names, "string-width-cjs" in names) == (True, True, False)

    def test_an_empty_lockfile_pins_nothing(self) -> None:
        """A project without dependencies has a lockfile that is right and empty."""
        assert parse(lock({"": {"name": "app"}})).entries == ()
        assert parse({"lockfileVersion": 1}).entries == ()


class TestSources:
    @pytest.mark.parametrize(
        "resolved",
        [
            "https://registry.example/left/-/left-1.0.0.tgz",
            "https://registry.example/some/prefix/left/-/left-1.0.0.tgz",
            "https://cdn.example/packages/left/1.0.0/left-1.0.0.tgz",
            "https://registry.example/left/download/left-1.0.0.tgz",
            "https://registry.example/left/-/renamed.tgz?cache=1",
            None,
            False,
        ],
    )
    def test_row_19_addresses_of_registries(self, resolved: object) -> None:
        """The shapes that registries use are known wherever they are."""
        entry = {"version": "1.0.0", "resolved": resolved}
        assert pins(parse(lock({"node_modules/left": entry}))) == [("left", "1.0.0", None)]

    def test_what_the_project_itself_bundles_is_downloaded_all_the_same(self) -> None:
        """And so is whatever has an address: a flag in a lockfile must not take an entry out of sight."""
        entry = {"version": "1.0.0", "inBundle": True}
        address = {"resolved": "https://registry.example/left/-/left-1.0.0.tgz"}
        for location, more in (
            ("node_modules/left", {}),
            ("packages/app/node_modules/left", {}),
            ("node_modules/right/node_modules/left", address),
        ):
            assert pins(parse(lock({location: {**entry, **more}}))) == [("left", "1.0.0", None)]
        old = {"lockfileVersion": 1, "dependencies": {"left": {"version": "1.0.0", "bundled": True, **address}}}
        assert pins(parse(old)) == [("left", "1.0.0", None)]

    @pytest.mark.parametrize(
        ("resolved", "is_poisoned"),
        [
            ("https://registry.example/evil/-/evil-1.0.0.tgz", True),
            ("https://registry.example/@s/evil/-/@s/evil-1.0.0.tgz", True),
            ("https://forge.example/group/project/-/archive/v1/project-v1.tar.gz", False),
            ("https://files.example/left.tgz", False),
            ("git+ssh://forge.example/x/-/x.git", False),
        ],
    )
    def test_an_address_of_another_package_is_told_apart(self, resolved: str, is_poisoned: bool) -> None:  # noqa: FBT001
        """No tool writes it; archives of forges and other addresses are somebody's choice."""
        (item,) = parse(lock({"node_modules/left": {"version": "1.0.0", "resolved": resolved}})).skipped
        assert item.is_poisoned is is_poisoned

    @pytest.mark.parametrize(
        "resolved",
        [
            "https://registry.example/%40s%2fn/-/n-1.0.0.tgz",
            "https://forge.example/download/@s/n/1.0.0/0123456789abcdef",
        ],
    )
    def test_scoped_addresses_of_registries(self, resolved: str) -> None:
        """An encoded scope, and a forge's own shape."""
        assert pins(parse(lock({"node_modules/@s/n": {"version": "1.0.0", "resolved": resolved}}))) == [
            ("@s/n", "1.0.0", None)
        ]

    @pytest.mark.parametrize(
        ("resolved", "reason"),
        [
            (
                "https://registry.example/evil/-/evil-1.0.0.tgz",
                "its address belongs to another package than left: https://registry.example/evil/-/evil-1.0.0.tgz",
            ),
            ("https://u:p@h.example/x.tgz#f", "from an address that is no registry's: https://h.example/x.tgz"),
            ("http://[bad/x.tgz", "from an address that is no registry's: http://[bad/x.tgz"),
            ("git@forge.example:a/b.git", "from git: git@forge.example:a/b.git"),
            ("github:a/b#main", "from git: github:a/b"),
            ("a/b#main", "from git: a/b"),
            ("file:../x.tgz", "from a file or directory: file:../x.tgz"),
            ("../x", "from a file or directory: ../x"),
            ("ipfs:abc", "from a source of an unknown kind: 'ipfs:abc'"),
        ],
    )
    def test_other_sources_are_skipped_with_the_reason(self, resolved: str, reason: str) -> None:
        """An address of another package is how lockfiles are poisoned; nothing is taken from it."""
        lockfile = parse(lock({"node_modules/left": {"version": "1.0.0", "resolved": resolved}}))
        assert (lockfile.entries, skipped(lockfile)) == ((), {"node_modules/left": reason})

    def test_a_directory_inside_a_package_is_skipped(self) -> None:
        """A package may link to a directory of its own."""
        lockfile = parse(lock({"node_modules/left/vendored": {"version": "1.0.0"}}))
        assert skipped(lockfile) == {"node_modules/left/vendored": "a directory inside another package"}

    def test_a_link_without_target_is_skipped(self) -> None:
        """A link says so even where its target is missing."""
        assert skipped(parse(lock({"node_modules/x": {"link": True}}))) == {
            "node_modules/x": "a link to a directory of the project"
        }


class TestContradictions:
    def test_two_integrities_of_one_version(self) -> None:
        """The error names both places with their lines, and both digests."""
        packages = {
            "node_modules/left": {"version": "1.0.0", "integrity": sri("a")},
            "node_modules/b/node_modules/left": {"version": "1.0.0", "integrity": sri("b")},
        }
        with pytest.raises(LockfileError) as caught:
            parse(lock(packages))
        assert str(caught.value) == (
            f"package-lock.json: left@1.0.0 stands with two integrities: {sri('a')} at node_modules/left (line 4), and "
            f"{sri('b')} at node_modules/b/node_modules/left (line 8). One of them was altered: restore the lockfile "
            "from version control, or write it again with npm"
        )

    def test_integrities_without_a_common_algorithm_are_joined(self) -> None:
        """An old sha1 beside a new sha512 is no contradiction; a missing one is none either."""
        tree = {
            "left": {"version": "1.0.0", "integrity": sri("a", "sha1")},
            "b": {"version": "1.0.0", "dependencies": {"left": {"version": "1.0.0", "integrity": sri("a")}}},
            "c": {"version": "1.0.0", "dependencies": {"left": {"version": "1.0.0", "integrity": ""}}},
        }
        lockfile = parse({"lockfileVersion": 1, "dependencies": tree})
        assert ("left", "1.0.0", f"{sri('a', 'sha1')} {sri('a')}") in pins(lockfile)

    def test_a_key_that_stands_twice(self) -> None:
        """Two readers would see two lockfiles, so none is read."""
        body = b'{"lockfileVersion": 3, "packages": {\n"node_modules/a": {},\n"node_modules/a": {}}}'
        with pytest.raises(LockfileError) as caught:
            parse_lockfile(body, path="package-lock.json")
        assert str(caught.value) == (
            "package-lock.json: key 'node_modules/a' stands twice in one object (lines 2, 3); remove one of them"
        )

    def test_a_key_that_stands_twice_in_another_spelling_has_no_line(self) -> None:
        """An escaped key is still the same key."""
        with pytest.raises(LockfileError, match=r"key 'é' stands twice in one object; remove"):
            parse_lockfile(b'{"\\u00e9": 1, "\\u00E9": 1}', path="p")


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "p: is empty; write it again with `npm install --package-lock-only`"),
            (b" \n", "p: is empty; write it again with `npm install --package-lock-only`"),
            (b"\xff\xfe{\x00", "p: is UTF-16 text (a shell's redirection makes such files); save it as UTF-8"),
            (b'{\n"a": "\xff"}', "p: line 2: byte 0xff is not UTF-8 text"),
            (b"[]", "p: is not a lockfile: expected a JSON object that begins with {"),
            (b'{\n  "a": 1 "b"}', "p: line 2, column 10: not JSON: Expecting ',' delimiter"),
            (b"<html>", "p: line 1, column 1: not JSON: Expecting value"),
            (b"[" * 100_000, "p: is nested too deeply to be a lockfile"),
        ],
    )
    def test_what_is_no_lockfile(self, body: bytes, message: str) -> None:
        """Line, column and reason, and what to do."""
        with pytest.raises(LockfileError) as caught:
            parse_lockfile(body, path="p")
        assert str(caught.value) == message

    def test_a_number_of_thousands_of_digits(self) -> None:
        """Python's own limit on digits is an error of the file, not of ours."""
        with pytest.raises(LockfileError, match="p: Exceeds the limit"):
            parse_lockfile(b'{"a": ' + b"1" * 5000 + b"}", path="p")

    def test_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The limit comes before any parsing."""
        monkeypatch.setattr("mirrorwitness.mirror.lockfile.MAX_LOCKFILE_BYTES", 10)
        with pytest.raises(LockfileError, match="p: has 11 bytes, more than 10"):
            parse_lockfile(b'{"aaaa": 1}', path="p")
        assert MAX_LOCKFILE_BYTES >= 100 * 1024 * 1024

    def test_half_written(self) -> None:
        """A cut file says where it ends and what to do."""
        body = (DATA / "v3.json").read_bytes()[:700]
        with pytest.raises(LockfileError) as caught:
            parse_lockfile(body, path="package-lock.json")
        assert str(caught.value).startswith("package-lock.json: the file ends in the middle, at line 24, column ")
        assert str(caught.value).endswith(
            "it is half-written. Restore it from version control, or write it again with "
            "`npm install --package-lock-only`"
        )

    def test_merge_conflict(self) -> None:
        """The marker and its line are named."""
        with pytest.raises(LockfileError) as caught:
            read("conflict.json")
        assert str(caught.value) == (
            "conflict.json: line 6: '<<<<<<< HEAD' is a conflict of a merge that nobody resolved; "
            "`npm install --package-lock-only` resolves it"
        )

    def test_bom_is_no_fault(self) -> None:
        """Windows editors write one, and npm reads it."""
        body = b"\xef\xbb\xbf" + (DATA / "v3.json").read_bytes()
        assert pins(parse_lockfile(body, path="p")) == pins(read("v3.json"))

    @pytest.mark.parametrize("version", [0, 4, "3", 3.0, True, None])
    def test_unknown_version(self, version: object) -> None:
        """A version that nobody knows is never read as one that somebody does."""
        with pytest.raises(LockfileError) as caught:
            parse({"lockfileVersion": version, "packages": {}})
        assert str(caught.value).startswith(
            f"package-lock.json: lockfileVersion is {version!r}; versions 1, 2 and 3 are known."
        )

    def test_version_3_without_packages(self) -> None:
        """Version 3 has nothing else to read."""
        with pytest.raises(LockfileError, match='lockfileVersion 3 without "packages"'):
            parse({"lockfileVersion": 3})

    @pytest.mark.parametrize("document", [{"name": "x", "dependencies": {"left": "^1.0.0"}}, {"name": "x"}])
    def test_a_package_json_is_named(self, document: dict[str, Any]) -> None:
        """The most common wrong file of all."""
        with pytest.raises(LockfileError, match=r"a package\.json is not a lockfile"):
            parse(document)

    @pytest.mark.parametrize(
        ("file", "kind"),
        [
            ("yarn-classic.lock", "yarn lockfile"),
            ("yarn-berry.lock", "yarn lockfile"),
            ("pnpm-lock.yaml", "pnpm lockfile"),
            ("bun.lock", "bun lockfile"),
        ],
    )
    def test_other_formats_are_named(self, file: str, kind: str) -> None:
        """By their content, whatever the file is called."""
        with pytest.raises(
            LockfileError, match=f"package-lock.json: is a {kind}, which mirrorwitness does not read yet"
        ):
            parse_lockfile((DATA / file).read_bytes(), path="package-lock.json")

    @pytest.mark.parametrize(
        ("body", "path", "kind"),
        [
            (b"#!/usr/bin/env bun\nbun-lockfile-format-v0\n\xff\xfe\x00", "x", "binary bun lockfile"),
            (b'{"version": "4"}', "dir/deno.lock", "deno lockfile"),
            (b"left@1:\n", "C:\\app\\yarn.lock", "yarn lockfile"),
            (b'{"$schema": "x", "bomFormat": "CycloneDX"}', "x.json", "CycloneDX document"),
            (b'{"spdxVersion": "SPDX-2.3"}', "x.json", "SPDX document"),
        ],
    )
    def test_more_formats_are_named(self, body: bytes, path: str, kind: str) -> None:
        """By their first bytes or their file name."""
        with pytest.raises(LockfileError, match=f"is a {kind}, which"):
            parse_lockfile(body, path=path)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("node_modules/.hidden", "package name '.hidden' begins with '.'"),
            ("node_modules/@s/../../etc", "is not of the form name or @scope/name"),
            ("node_modules/a%2fb", "is not of the form"),
            ("node_modules/", "package name '' is empty"),
        ],
    )
    def test_row_20_names_that_npm_forbids(self, name: str, reason: str) -> None:
        """A name that is a path is refused, with its line."""
        with pytest.raises(LockfileError) as caught:
            parse(lock({name: {"version": "1.0.0"}}))
        assert f"package-lock.json: {name} (line 4): " in str(caught.value)
        assert reason in str(caught.value)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (lock({"node_modules/a": []}), "node_modules/a: is a list, expected an object"),
            (lock({"node_modules/a": {"version": 1}}), '(line 4): "version" is a number, expected a string'),
            (lock({"node_modules/a": {"version": {}}}), '"version" is an object, expected a string'),
            (lock({"node_modules/a": {"version": "1", "integrity": True}}), '"integrity" is true or false, expected a'),
            (
                lock({"node_modules/a": {"version": "1", "integrity": "sha512-AAAA"}}),
                "integrity 'sha512-AAAA' is not a digest (ALGORITHM-BASE64 in full length)",
            ),
            (lock({"node_modules/a": {"version": "1", "integrity": "none"}}), "integrity 'none' is not a digest"),
            ({"lockfileVersion": 3, "packages": []}, '"packages" is a list, expected an object'),
            ({"lockfileVersion": 1, "dependencies": "x"}, '"dependencies" is a string, expected an object'),
            ({"lockfileVersion": 1, "dependencies": {"a": None}}, "a: is null, expected an object"),
            (
                {"lockfileVersion": 1, "dependencies": {"a": {"version": "1.0.0", "dependencies": []}}},
                'a: "dependencies" is a list, expected an object',
            ),
            ({"lockfileVersion": 1, "dependencies": {"a": {"version": "npm:b"}}}, "a: package name '' is empty"),
        ],
    )
    def test_wrong_types_name_their_place(self, document: dict[str, Any], message: str) -> None:
        """What was found, what was expected, and where."""
        with pytest.raises(LockfileError) as caught:
            parse(document)
        assert message in str(caught.value)

    def test_odd_platform_fields_do_no_harm(self) -> None:
        """They decide nothing yet, so a wrong type there refuses nothing."""
        (entry,) = parse(lock({"node_modules/a": {"version": "1.0.0", "os": "linux", "cpu": [1, "x64"]}})).entries
        assert (entry.os, entry.cpu) == (("linux",), ("x64",))

    def test_unknown_algorithms_are_kept(self) -> None:
        """A digest of tomorrow does not stop anybody today."""
        (entry,) = parse(lock({"node_modules/a": {"version": "1.0.0", "integrity": "sha3-AAAA"}})).entries
        assert entry.integrity == "sha3-AAAA"

    def test_without_npms_own_formatting_there_are_no_lines(self) -> None:
        """A minified lockfile is read all the same."""
        body = json.dumps(lock({"node_modules/a": {"version": "1.0.0"}, "node_modules/b": {"version": "1.0.0"}}))
        lockfile = parse_lockfile(body.replace(" ", "").encode(), path="p")
        assert [entry.places for entry in lockfile.entries] == [(Place("node_modules/a"),), (Place("node_modules/b"),)]
