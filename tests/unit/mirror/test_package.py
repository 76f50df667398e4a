"""One package through the mirror: what is served after upstream did this or that (rows of research/B 7)."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from mirrorwitness.errors import ExitCode, StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.package import PackageResult, PackageTerms, Status
from mirrorwitness.mirror.select import make_deny_rule, make_selection, parse_rule
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy, parse_keys
from tests.fakes.registry import Fault, RegistrySimulator, Signer
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import STAMP, make_mirror

PAD = PackageName("left-pad")


def make_sim(*versions: str, signer: Signer | None = None) -> RegistrySimulator:
    """Return a registry with these versions of left-pad."""
    sim = RegistrySimulator()
    for version in versions:
        sim.publish("left-pad", version, signer=signer)
    return sim


def sri(body: bytes, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


class TestWithdrawn:
    async def test_row_01_an_unpublished_version_is_hidden_kept_and_remembered(self) -> None:
        """Metadata drops it, the tarball stays, a tombstone says when, and it is no failure."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        gone = mirror.tarball("left-pad", "1.1.0")
        sim.unpublish("left-pad", "1.1.0")
        summary = await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0"]
        assert mirror.document("left-pad")["dist-tags"] == {"latest": "1.0.0"}
        assert mirror.tarball("left-pad", "1.1.0") == gone is not None
        (tombstone,) = mirror.tombstones()
        assert (tombstone["version"], tombstone["event"], tombstone["seen"]) == ("1.1.0", "unpublished", STAMP)
        assert len(summary.alarms) == 1
        assert "withdrew 1 versions" in summary.alarms[0]

    async def test_row_01_the_first_tombstone_stays(self) -> None:
        """What comes back and goes again keeps the day on which it went first."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        manifest = sim.packument("left-pad")["versions"]["1.1.0"]
        data = sim.tarball("left-pad", "1.1.0")
        sim.unpublish("left-pad", "1.1.0")
        await mirror.sync_well()
        before = mirror.tombstones()
        sim.edit_packument("left-pad")["versions"]["1.1.0"] = manifest
        sim.set_tarball("left-pad", "left-pad-1.1.0.tgz", data)
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        sim.unpublish("left-pad", "1.1.0")
        await mirror.sync_well()
        assert mirror.tombstones() == before

    async def test_row_02_an_unpublished_package_is_hidden_and_kept(self) -> None:
        """The stub without versions takes both documents away, nothing else."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        sim.unpublish("left-pad")
        await mirror.sync_well()
        assert mirror.served("left-pad") == []
        assert len(mirror.keys("npm/left-pad/-/")) == 2
        assert {stone["version"] for stone in mirror.tombstones()} == {"1.0.0", "1.1.0"}
        summary = await mirror.sync_well()
        assert summary.counts["packages_unchanged"] == 1

    async def test_row_03_not_found_is_no_delete(self) -> None:
        """A 404 changes nothing but the note that says so (row 3 without the feed)."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        before = {key: body for key, body in mirror.storage.objects.items() if key.startswith("npm/")}
        sim.remove("left-pad")
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert {key: body for key, body in mirror.storage.objects.items() if key.startswith("npm/")} == before

    async def test_row_04_a_security_holder_takes_the_old_versions_out_of_view(self) -> None:
        """Old tarballs are quarantined (kept, not served), tombstones and an alarm name the event."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        document = sim.edit_packument("left-pad")
        document["description"] = "security holding package"
        sim.unpublish("left-pad", "1.0.0")
        sim.publish("left-pad", "0.0.1-security")
        summary = await mirror.sync_well()
        assert mirror.served("left-pad") == ["0.0.1-security"]
        assert [stone["event"] for stone in mirror.tombstones()] == ["security-holder"]
        assert "security-holder" in summary.alarms[0]
        assert mirror.tarball("left-pad", "1.0.0") is not None


class TestEquivocation:
    @pytest.mark.parametrize("is_signed", [False, True])
    async def test_row_05_first_bytes_win_and_go_on_being_served(self, is_signed: bool) -> None:  # noqa: FBT001
        """P5: the stored manifest and bytes stay, both documents are evidence, exit 4, also in the runs after."""
        signer = Signer() if is_signed else None
        sim = make_sim("1.0.0", "1.1.0", signer=signer)
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        first, manifest = mirror.tarball("left-pad", "1.0.0"), mirror.document("left-pad")["versions"]["1.0.0"]
        sim.republish("left-pad", "1.0.0", {"index.js": b"evil"}, signer=signer)
        sim.publish("left-pad", "1.2.0", signer=signer)
        for _ in range(2):
            summary = await mirror.sync()
            assert summary.exit_code() is ExitCode.DIVERGENCE
            assert mirror.tarball("left-pad", "1.0.0") == first
            assert mirror.document("left-pad")["versions"]["1.0.0"] == manifest
            assert mirror.served("left-pad") == ["1.0.0", "1.1.0", "1.2.0"]
            assert await mirror.audit() == []
        (evidence,) = mirror.evidence()
        assert evidence["kind"] == "equivocation"
        assert evidence["upstream"]["dist"]["integrity"] == sri(sim.tarball("left-pad", "1.0.0"))
        assert evidence["held"]["integrity"] == manifest["dist"]["integrity"]
        assert "1.0.0" in (await mirror.record("left-pad")).blocked

    async def test_row_05_upstream_that_comes_back_to_the_first_bytes_is_complete_again(self) -> None:
        """When the difference is gone the run is complete; the evidence stays."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        dist = sim.packument("left-pad")["versions"]["1.0.0"]["dist"]
        sim.republish("left-pad", "1.0.0", {"index.js": b"evil"})
        assert (await mirror.sync()).exit_code() is ExitCode.DIVERGENCE
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"] = dist
        await mirror.sync_well()
        assert len(mirror.evidence()) == 1
        assert await mirror.note("left-pad") is None

    @pytest.mark.parametrize("integrity", [sri(b"other", "sha1"), sri(b"other", "sha384"), "md5-xxxx"])
    async def test_row_05_attack_promise_that_cannot_be_compared(self, integrity: str) -> None:
        """Attack: another algorithm for other bytes. The stored bytes are checked against it; what we had is served."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        before = mirror.document("left-pad")["versions"]["1.0.0"]
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["integrity"] = integrity
        summary = await mirror.sync()
        check_invariants(mirror.storage.objects)
        if integrity.startswith("md5"):
            assert mirror.served("left-pad") == []
            assert summary.counts["blocked_no-digest"] == 1
            return
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.document("left-pad")["versions"]["1.0.0"] == before
        assert mirror.evidence()[0]["kind"] == "stored-bytes"

    async def test_row_05_another_algorithm_for_the_same_bytes_is_accepted(self) -> None:
        """The stored bytes are read again, match, and are not downloaded."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        integrity = sri(sim.tarball("left-pad", "1.0.0"), "sha384")
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["integrity"] = integrity
        summary = await mirror.sync_well()
        assert summary.counts["tarballs_downloaded"] == 0
        assert mirror.document("left-pad")["versions"]["1.0.0"]["dist"]["integrity"] == integrity
        assert (await mirror.record("left-pad")).versions[Version("1.0.0")].integrity == integrity

    @pytest.mark.parametrize("takes_shasum", [False, True])
    async def test_row_05_attack_stripped_integrity(self, takes_shasum: bool) -> None:  # noqa: FBT001
        """Attack: the promise is taken away so that clients check SHA-1 or nothing; what we had is served, exit 4."""
        sim = make_sim("1.0.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        before = mirror.document("left-pad")["versions"]["1.0.0"]
        dist = sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]
        del dist["integrity"]
        if takes_shasum:
            del dist["shasum"]
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.document("left-pad")["versions"]["1.0.0"] == before
        assert await mirror.audit() == []

    async def test_row_05_without_a_record_the_stored_document_still_wins(self) -> None:
        """P5 when the run that stored it died before its record: bytes and manifest stay, what is new is evidence."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        before = mirror.document("left-pad")["versions"]["1.0.0"]
        mirror.storage.remove(layout.record_key(PAD))
        sim.republish("left-pad", "1.0.0", {"index.js": b"evil"})
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        assert mirror.document("left-pad")["versions"]["1.0.0"] == before
        assert await mirror.audit() == []
        assert (await mirror.sync()).exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]

    @pytest.mark.parametrize("damage", ["missing", "not JSON", "tampered", "tarball"])
    async def test_row_05_only_what_is_sound_is_carried_over(self, damage: str) -> None:
        """A rotten tarball, or a document that somebody changed, does not survive because upstream equivocates."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        key = layout.packument_key(PAD)
        if damage == "missing":
            mirror.storage.remove(key)
        elif damage == "not JSON":
            mirror.storage.set_bytes(key, b"{")
        elif damage == "tampered":
            document = mirror.document("left-pad")
            document["versions"]["1.0.0"]["dist"]["integrity"] = sri(b"evil")
            mirror.storage.set_bytes(key, json.dumps(document).encode())
        else:
            mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.0.0"), b"evil")
        sim.republish("left-pad", "1.0.0", {"index.js": b"evil"})
        assert (await mirror.sync()).exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == ["1.1.0"]
        assert await mirror.audit() == []

    async def test_row_05_repair_is_no_way_round_the_first_bytes(self) -> None:
        """Attack: bytes rot, upstream equivocates, the operator repairs. The other bytes are not taken."""
        sim = make_sim("1.0.0", "1.1.0")
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.0.0"), b"rotten")
        good = sim.tarball("left-pad", "1.0.0")
        dist = sim.packument("left-pad")["versions"]["1.0.0"]["dist"]
        sim.republish("left-pad", "1.0.0", {"index.js": b"evil"})
        result = await mirror.repair("left-pad", "1.0.0")
        assert result.status is Status.DIVERGED
        assert mirror.served("left-pad") == ["1.1.0"]
        assert (await mirror.record("left-pad")).versions[Version("1.0.0")].damaged
        assert (await mirror.sync()).exit_code() is ExitCode.DIVERGENCE
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"] = dist
        sim.set_tarball("left-pad", "left-pad-1.0.0.tgz", good)
        await mirror.sync_well()
        assert mirror.tarball("left-pad", "1.0.0") == good
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]

    async def test_row_06_a_new_signature_is_accepted_quietly(self) -> None:
        """The same integrity with another signature and another time is nothing but a new document."""
        sim = make_sim("1.0.0", signer=Signer(1))
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        second = Signer(2)
        document = sim.edit_packument("left-pad")
        dist = document["versions"]["1.0.0"]["dist"]
        dist["signatures"].append(second.sign("left-pad", "1.0.0", dist["integrity"]))
        document["time"]["1.0.0"] = "2025-01-01T00:00:00.000Z"
        assert sim.keys is not None
        sim.keys.append(second.key())
        summary = await mirror.sync_well()
        assert (summary.alarms, summary.evidence, summary.counts["tarballs_downloaded"]) == ([], [], 0)
        assert mirror.document("left-pad")["versions"]["1.0.0"]["dist"]["signatures"] == dist["signatures"]
        assert mirror.document("left-pad")["time"] == document["time"]


class TestBytes:
    async def test_row_07_a_tarball_that_is_not_there_withholds_its_version_only(self) -> None:
        """The others are served, a note says why, and the next run has it."""
        sim = make_sim("1.0.0", "1.1.0")
        sim.fail("/left-pad/-/left-pad-1.1.0.tgz", Fault.status(404))
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert mirror.served("left-pad") == ["1.0.0"]
        assert mirror.document("left-pad")["dist-tags"] == {"latest": "1.0.0"}
        note = await mirror.note("left-pad")
        assert note is not None
        assert (note.kind, list(note.versions), note.attempts) == ("UpstreamNotFoundError", ["1.1.0"], 1)
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        assert await mirror.note("left-pad") is None

    async def test_row_08_bytes_that_differ_are_never_stored(self) -> None:
        """Attack: replaced bytes. Tried twice, refused, evidence kept, exit 4; the honest version is served."""
        sim = make_sim("1.0.0", "1.1.0")
        sim.replace_bytes("left-pad", "1.1.0", b"evil")
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == ["1.0.0"]
        assert mirror.tarball("left-pad", "1.1.0") is None
        assert [request.target for request in sim.requests].count("/left-pad/-/left-pad-1.1.0.tgz") == 2
        (evidence,) = mirror.evidence()
        assert (evidence["kind"], evidence["key"]) == ("wrong-bytes", "npm/left-pad/-/left-pad-1.1.0.tgz")
        assert sri(b"evil") in evidence["reason"]
        assert await mirror.audit() == []

    async def test_row_08_a_broken_transfer_is_repeated_once(self) -> None:
        """One wrong download among two is a broken transfer, no attack."""
        sim = make_sim("1.0.0")
        sim.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.wrong_bytes())
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        assert mirror.evidence() == []

    async def test_row_09_only_a_shasum_is_stored_as_weak(self) -> None:
        """The record has our SHA-512; the served document does not gain an integrity."""
        sim = RegistrySimulator()
        body = sim.publish("left-pad", "1.0.0", dist={"integrity": None})
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync_well()
        held = (await mirror.record("left-pad")).versions[Version("1.0.0")]
        assert (held.weak, held.sri, held.integrity) == (True, sri(body), None)
        assert summary.counts["weak"] == 1
        assert "integrity" not in mirror.document("left-pad")["versions"]["1.0.0"]["dist"]

    async def test_row_09_an_integrity_that_comes_later_is_taken(self) -> None:
        """A registry that fills in SHA-512 for old versions is no equivocation where the bytes agree."""
        sim = RegistrySimulator()
        body = sim.publish("left-pad", "1.0.0", dist={"integrity": None})
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["integrity"] = sri(body)
        await mirror.sync_well()
        assert mirror.document("left-pad")["versions"]["1.0.0"]["dist"]["integrity"] == sri(body)

    async def test_row_10_neither_digest_is_not_served(self) -> None:
        """Nothing to check against: not downloaded, not served, and complete, for it will not get better."""
        sim = make_sim("1.0.0")
        sim.publish("left-pad", "1.1.0", dist={"integrity": None, "shasum": None})
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0"]
        assert summary.counts["blocked_no-digest"] == 1
        assert mirror.tarball("left-pad", "1.1.0") is None

    async def test_row_11_the_strongest_algorithm_decides(self) -> None:
        """A good SHA-1 beside a bad SHA-512 is refused; one good SHA-512 of two is accepted."""
        sim = RegistrySimulator()
        good = sim.publish("left-pad", "1.0.0")
        bad = sim.publish("left-pad", "1.1.0")
        versions = sim.edit_packument("left-pad")["versions"]
        versions["1.0.0"]["dist"]["integrity"] = f"{sri(b'x', 'sha1')} {sri(b'x')} {sri(good)}"
        versions["1.1.0"]["dist"]["integrity"] = f"{sri(bad, 'sha1')} {sri(b'x')}"
        mirror = make_mirror(sim, rules=["left-pad"])
        assert (await mirror.sync()).exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == ["1.0.0"]


class TestSignatures:
    @pytest.mark.parametrize(
        ("case", "policy", "served", "code"),
        [
            ("unsigned", "verify", True, ExitCode.COMPLETE),
            ("unsigned", "require", False, ExitCode.COMPLETE),
            ("unsigned", "off", True, ExitCode.COMPLETE),
            ("verified", "verify", True, ExitCode.COMPLETE),
            ("verified", "require", True, ExitCode.COMPLETE),
            ("bad", "verify", False, ExitCode.DIVERGENCE),
            ("bad", "require", False, ExitCode.DIVERGENCE),
            ("bad", "off", True, ExitCode.COMPLETE),
            ("unknown-key", "verify", True, ExitCode.COMPLETE),
            ("unknown-key", "require", False, ExitCode.COMPLETE),
            ("no-keys", "verify", True, ExitCode.COMPLETE),
            ("no-keys", "require", False, ExitCode.COMPLETE),
            ("expired-key", "verify", False, ExitCode.DIVERGENCE),
            ("expired-key", "require", False, ExitCode.DIVERGENCE),
        ],
    )
    async def test_row_12_each_policy_judges_each_outcome(
        self,
        case: str,
        policy: str,
        served: bool,  # noqa: FBT001 - a parameter of the table
        code: ExitCode,
    ) -> None:
        """P1: what is served, and what the run exits with."""
        sim = RegistrySimulator()
        signer = Signer(expires="2020-01-01T00:00:00.000Z" if case == "expired-key" else None)
        sim.publish("left-pad", "1.0.0", signer=None if case == "unsigned" else signer)
        if case == "bad":
            other = signer.sign("left-pad", "9.9.9", "sha512-xx")
            sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["signatures"] = [other]
        if case == "unknown-key":
            sim.keys = [Signer(7).key()]
        if case == "no-keys":
            sim.keys = None
        mirror = make_mirror(sim, rules=["left-pad"], policy=SignaturePolicy(policy))
        summary = await mirror.sync()
        assert (mirror.served("left-pad") == ["1.0.0"], summary.exit_code()) == (served, code)
        if served and policy != "off":
            assert summary.counts[f"signature_{case}"] == 1
        assert await mirror.audit() == []

    async def test_row_12_attack_a_bad_signature_does_not_remove_what_we_had(self) -> None:
        """A signature that goes bad is a divergence; the stored manifest is served on."""
        sim = make_sim("1.0.0", signer=Signer())
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        before = mirror.document("left-pad")["versions"]["1.0.0"]
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["signatures"][0]["sig"] = "AAAA"
        assert (await mirror.sync()).exit_code() is ExitCode.DIVERGENCE
        assert mirror.document("left-pad")["versions"]["1.0.0"] == before
        assert await mirror.audit() == []

    async def test_row_12_require_picked_up_later_hides_what_is_unsigned(self) -> None:
        """Another policy is another fingerprint: the next run judges everything anew, without a flag."""
        sim = make_sim("1.0.0")
        sim.publish("left-pad", "1.1.0", signer=Signer())
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        mirror.policy = SignaturePolicy.REQUIRE
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.1.0"]

    async def test_row_13_keys_that_vanish_are_kept(self) -> None:
        """An unreachable or emptied keys document forgets nothing, and changes no served version."""
        sim = make_sim("1.0.0", signer=Signer())
        mirror = make_mirror(sim, rules=["left-pad"], policy=SignaturePolicy.REQUIRE)
        await mirror.sync_well()
        kept = mirror.storage.objects[layout.KEYS_KEY]
        for keys in (None, [Signer(5).key()]):
            sim.keys = keys
            await mirror.sync_well()
            assert mirror.served("left-pad") == ["1.0.0"]
        sim.fail("/-/npm/v1/keys", Fault.status(500), times=None)
        await mirror.sync_well()
        held = {key.keyid for key in parse_keys(mirror.storage.objects[layout.KEYS_KEY]).keys}
        assert {key.keyid for key in parse_keys(kept).keys} < held

    async def test_row_13_a_key_that_expires_is_judged_by_the_next_run(self) -> None:
        """An expiry that is added to a known key is another fingerprint."""
        signer = Signer()
        sim = make_sim("1.0.0", signer=signer)
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        sim.keys = [{**signer.key(), "expires": "2020-01-01T00:00:00.000Z"}]
        summary = await mirror.sync()
        assert summary.counts["blocked_signature"] == 1
        assert summary.exit_code() is ExitCode.DIVERGENCE


class TestDocuments:
    async def test_row_19_a_tarball_on_another_host_needs_leave(self) -> None:
        """Another host is asked only where the operator allows it; the URL is rewritten either way."""
        other = RegistrySimulator()
        other.base = "http://cdn.example"
        sim = make_sim("1.0.0")
        other.set_tarball("left-pad", "odd", sim.tarball("left-pad", "1.0.0"))
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["tarball"] = "http://cdn.example/left-pad/-/odd?x=1"
        mirror = make_mirror(sim, rules=["left-pad"])
        mirror.sims = [sim, other]
        mirror.options  # noqa: B018 - the same mirror, other hosts
        only = make_mirror(sim, rules=["left-pad"])
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


class TestAttestations:
    async def test_attestations_are_copied_once(self) -> None:
        """Npm asks the mirror for them wherever the manifest names them."""
        sim = RegistrySimulator()
        sim.publish("left-pad", "1.0.0", dist={"attestations": {"url": "x", "provenance": {}}})
        sim.attestations["left-pad@1.0.0"] = b'{"attestations":[]}'
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        assert mirror.storage.objects["npm/left-pad/attestations/1.0.0.json"] == b'{"attestations":[]}'
        sim.publish("left-pad", "1.1.0")
        sim.requests.clear()
        await mirror.sync_well()
        assert not any("attestations" in request.target for request in sim.requests)

    async def test_attestations_that_are_not_there_are_no_fault(self) -> None:
        sim = RegistrySimulator()
        sim.publish("left-pad", "1.0.0", dist={"attestations": {"url": "x", "provenance": {}}})
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync_well()
        assert (summary.alarms, mirror.keys("npm/left-pad/attestations")) == ([], [])

    async def test_attestations_that_cannot_be_had_now_are_tried_again(self) -> None:
        """P3: a run that could not copy them is not complete; the version is served, the next run copies them."""
        sim = RegistrySimulator()
        sim.publish("left-pad", "1.0.0", dist={"attestations": {"url": "x", "provenance": {}}})
        sim.attestations["left-pad@1.0.0"] = b'{"attestations":[]}'
        sim.fail("/-/npm/v1/attestations/left-pad@1.0.0", Fault.status(500), times=2)
        mirror = make_mirror(sim, rules=["left-pad"])
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert mirror.served("left-pad") == ["1.0.0"]
        assert "attestations" in summary.problems[0].reason
        await mirror.sync_well()
        assert mirror.keys("npm/left-pad/attestations") == ["npm/left-pad/attestations/1.0.0.json"]


class TestProblems:
    def test_a_complete_package_has_none(self) -> None:
        assert PackageResult(PAD).problem() is None

    def test_evidence_alone_is_named(self) -> None:
        """A second source that helped out does not hide that the first one disagreed."""
        assert PackageResult(PAD, evidence=["evidence/x"]).problem() == (
            "left-pad: a source disagreed, the evidence is evidence/x"
        )
