"""One package through the mirror: documents, selection, order of writes (rows of research/B 7)."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from mirrorwitness.errors import ExitCode, StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.result import PackageResult
from mirrorwitness.mirror.select import make_deny_rule, make_selection, parse_rule
from mirrorwitness.mirror.terms import PackageTerms
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy, parse_keys
from tests.fakes.registry import Fault, RegistrySimulator, Signer
from tests.unit.mirror.builder import make_mirror

PAD = PackageName("left-pad")


def make_sim(*versions: str, signer: Signer | None = None) -> RegistrySimulator:
    """Return a registry with these versions of left-pad."""
    sim = RegistrySimulator()
    for version in versions:
        sim.publish("left-pad", version, signer=signer)
    return sim


def sri(body: bytes, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


class TestDocuments:
    async def test_row_19_a_tarball_on_another_host_needs_leave(self) -> None:
        """Another host is asked only where the operator allows it; the URL is rewritten either way."""
        other = RegistrySimulator()
        other.base = "http://cdn.example"
        sim = make_sim("1.0.0")
        other.set_tarball("left-pad", "odd", sim.tarball("left-pad", "1.0.0"))
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["tarball"] = "http://cdn.example/left-pad/-/odd?x=1"
        only = make_mirror(sim, rules=["left-pad"], silent=(other,))
        assert (await only.sync()).exit_code() is not ExitCode.COMPLETE
        assert other.requests == []
        allowed = make_mirror(sim, rules=["left-pad"], hosts=("http://cdn.example",), silent=(other,))
        await allowed.sync_well()
        dist = allowed.document("left-pad")["versions"]["1.0.0"]["dist"]
        assert dist["tarball"] == f"{layout.STORED_BASE}/left-pad/-/odd"

    async def test_row_22_names_that_differ_in_case_are_two_packages(self) -> None:
        """``Buffer`` and ``buffer`` have documents and tarballs of their own."""
        sim = RegistrySimulator()
        upper, lower = sim.publish("Buffer", "1.0.0"), sim.publish("buffer", "1.0.0")
        mirror = make_mirror(sim, rules=["Buffer", "buffer"])
        await mirror.sync_well()
        assert (mirror.tarball("Buffer", "1.0.0"), mirror.tarball("buffer", "1.0.0")) == (upper, lower)
        assert mirror.document("Buffer")["name"] == "Buffer"
        assert mirror.document("buffer")["name"] == "buffer"

    async def test_row_23_a_version_that_contradicts_itself_is_left_away_alone(self) -> None:
        """The inner version differs from its key: not fetched, not served; the others are."""
        sim = make_sim("1.0.0", "1.1.0")
        sim.edit_packument("left-pad")["versions"]["1.1.0"]["version"] = "6.6.6"
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0"]
        assert summary.counts["blocked_malformed"] == 1

    @pytest.mark.parametrize("row", [26, 27])
    async def test_row_26_and_27_an_older_document_never_replaces_a_newer_one(self, row: int) -> None:
        """P6: a lagging edge is a gap that the next run closes, not a change."""
        sim = make_sim("1.0.0")
        sim.publish("left-pad", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        if row == 26:
            sim.publish("left-pad", "1.2.0")
        sim.fail("left-pad", Fault.stale(2 if row == 26 else 1))
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        note = await mirror.note("left-pad")
        assert note is not None
        assert note.kind == "UpstreamStaleError"
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0", "1.2.0"][: 3 if row == 26 else 2]

    async def test_row_34_a_dist_tag_or_deprecation_is_no_tarball_work(self) -> None:
        """Both documents follow; nothing is downloaded, and no tarball is read or written."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        sim.set_tag("left-pad", "old", "1.0.0")
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["deprecated"] = "use padStart"
        mirror.storage.operations.clear()
        sim.requests.clear()
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.COMPLETE
        assert [call.key for call in mirror.storage.operations if "/-/" in call.key] == []
        assert [request.target for request in sim.requests] == ["/-/npm/v1/keys", "/left-pad"]
        for document in (mirror.document("left-pad"), mirror.abbreviated("left-pad")):
            assert document["dist-tags"] == {"latest": "1.1.0", "old": "1.0.0"}
            assert document["versions"]["1.0.0"]["deprecated"] == "use padStart"
        assert await mirror.audit() == []

    async def test_row_35_legacy_file_names_are_kept(self) -> None:
        """Lockfiles in the field hold upstream's own file name."""
        sim = RegistrySimulator()
        body = sim.publish("left-pad", "1.0.0beta", file="left-pad-1.0.0-beta.tgz")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        assert mirror.storage.objects["npm/left-pad/-/left-pad-1.0.0-beta.tgz"] == body

    @pytest.mark.slow
    async def test_row_14_a_package_with_many_versions_and_odd_numbers(self) -> None:
        """End to end: some thousand versions in a large document, version parts beyond 64 bits."""
        sim = RegistrySimulator()
        body = sim.publish("left-pad", "1.0.0")
        sim.publish("left-pad", "1000000000000000000.0.99999999999999999999")
        document = sim.edit_packument("left-pad")
        template = json.dumps(document["versions"]["1.0.0"])
        padding = "x" * 2000
        for number in range(5000):
            version = f"0.0.{number}"
            manifest = json.loads(template.replace("1.0.0", version))
            manifest["dist"]["tarball"] = "{base}/left-pad/-/left-pad-1.0.0.tgz"
            manifest["readme"] = padding
            document["versions"][version] = manifest
        mirror = make_mirror(sim, rules=["left-pad@<0.0.40", "left-pad@1.0.0"])
        summary = await mirror.sync_well()
        assert len(mirror.served("left-pad")) == 41
        assert summary.counts["versions"] == 41
        assert mirror.tarball("left-pad", "1.0.0") == body

    async def test_row_36_tarballs_first_document_last(self) -> None:
        """P2: the order of the writes of one package is the order of the promise."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        puts = mirror.storage.keys_of("put")
        assert sorted(puts[:2]) == ["npm/left-pad/-/left-pad-1.0.0.tgz", "npm/left-pad/-/left-pad-1.1.0.tgz"]
        assert puts[2:] == [
            "npm/left-pad/packument.json",
            "npm/left-pad/install-v1.json",
            "state/package/left-pad.json",
        ]

    async def test_row_36_a_replay_adopts_what_is_stored(self) -> None:
        """A run that died before its documents is replayed without a download."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        mirror.storage.fail_before("put", layout.packument_key(PAD), StorageUnavailableError("lost"))
        assert (await mirror.sync()).exit_code() is ExitCode.PARTIAL
        assert mirror.served("left-pad") == []
        summary = await mirror.sync_well()
        assert summary.counts["tarballs_downloaded"] == 0

    async def test_p4_served_documents_differ_in_nothing_but_what_is_promised(self) -> None:
        """Unknown fields, odd keys and times survive; only dist.tarball, unselected versions and their tags differ."""
        sim = RegistrySimulator()
        sim.publish("left-pad", "1.0.0", constructor={"then": [1, 2.50, None]}, __proto__="x")
        sim.publish("left-pad", "2.0.0")
        sim.edit_packument("left-pad").update({"x-unknown": {"a": [1]}, "users": {"me": True}})
        mirror = make_mirror(sim, rules=["left-pad@1"], public_base="https://npm.example")
        await mirror.sync_well()
        expected = sim.packument("left-pad")
        del expected["versions"]["2.0.0"]
        expected["dist-tags"] = {"latest": "1.0.0"}
        expected["versions"]["1.0.0"]["dist"]["tarball"] = "https://npm.example/left-pad/-/left-pad-1.0.0.tgz"
        assert mirror.document("left-pad") == expected


class TestSelection:
    async def test_a_changed_selection_is_picked_up_without_a_flag(self) -> None:
        """Wider and narrower, although upstream says "not modified"; hidden tarballs come back without a download."""
        sim = make_sim("1.0.0", "1.1.0", "2.0.0")
        mirror = make_mirror(sim, rules=["left-pad@1"])
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        mirror.rules = ["left-pad@2"]
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["2.0.0"]
        mirror.rules = ["left-pad"]
        mirror.denied = [make_deny_rule("left-pad", versions="1.0.0", reason="bad", origin="a test")]
        summary = await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.1.0", "2.0.0"]
        assert (summary.counts["tarballs_downloaded"], summary.counts["blocked_policy"]) == (0, 1)
        assert mirror.tombstones() == []

    async def test_another_public_address_rewrites_the_documents(self) -> None:
        """The base of tarball URLs is part of what the documents were made of."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        mirror.public_base = "https://npm.example"
        await mirror.sync_well()
        url = mirror.document("left-pad")["versions"]["1.0.0"]["dist"]["tarball"]
        assert url == "https://npm.example/left-pad/-/left-pad-1.0.0.tgz"

    def test_the_fingerprint_changes_with_every_part(self) -> None:
        """Selection, policy, base, keys and their expiry; not the keys where none are used."""
        keys = parse_keys(json.dumps({"keys": [Signer().key()]}).encode())
        expired = parse_keys(json.dumps({"keys": [{**Signer().key(), "expires": "2020-01-01T00:00:00Z"}]}).encode())
        one = make_selection([parse_rule("left-pad@1", origin="a test")])
        two = make_selection([parse_rule("left-pad@2", origin="a test")])
        verify, off = SignaturePolicy.VERIFY, SignaturePolicy.OFF
        terms = [
            PackageTerms(selection=one, keys=keys, policy=verify),
            PackageTerms(selection=two, keys=keys, policy=verify),
            PackageTerms(selection=one, keys=expired, policy=verify),
            PackageTerms(selection=one, keys=KeyRing(), policy=verify),
            PackageTerms(selection=one, keys=keys, policy=SignaturePolicy.REQUIRE),
            PackageTerms(selection=one, keys=keys, policy=verify, public_base="https://npm.example"),
            PackageTerms(selection=one, keys=keys, policy=off),
        ]
        assert len({term.fingerprint(PAD) for term in terms}) == len(terms)
        assert terms[-1].fingerprint(PAD) == PackageTerms(selection=one, keys=expired, policy=off).fingerprint(PAD)

    async def test_row_05_a_lockfile_that_pins_other_bytes_is_a_divergence(self) -> None:
        """Neither stored nor served; exit 4, with the registry's document as evidence."""
        from mirrorwitness.mirror.select import make_rule  # noqa: PLC0415

        sim = make_sim("1.0.0")
        rule = make_rule("left-pad", pins={Version("1.0.0"): sri(b"mine")}, origin="package-lock.json")
        mirror = make_mirror(sim, rules=[rule])
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == []
        assert [item["kind"] for item in mirror.evidence()] == ["equivocation"]


class TestProblems:
    def test_a_complete_package_has_none(self) -> None:
        assert PackageResult(PAD).problem() is None

    def test_evidence_alone_is_named(self) -> None:
        """A second source that helped out does not hide that the first one disagreed."""
        assert PackageResult(PAD, evidence=["evidence/x"]).problem() == (
            "left-pad: a source disagreed, the evidence is evidence/x"
        )
