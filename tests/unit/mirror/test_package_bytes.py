"""One package through the mirror: bytes, digests, signatures, attestations (rows of research/B 7)."""

from __future__ import annotations

import base64
import hashlib

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror import layout
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import SignaturePolicy, parse_keys
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

    async def test_row_11_the_same_promise_of_two_digests_is_no_equivocation_later(self) -> None:
        """A document that changed elsewhere still promises what the stored bytes were checked against."""
        sim = RegistrySimulator()
        body = sim.publish("left-pad", "1.0.0")
        promise = f"{sri(b'x')} {sri(body)}"
        sim.edit_packument("left-pad")["versions"]["1.0.0"]["dist"]["integrity"] = promise
        mirror = make_mirror(sim, rules=["left-pad"])
        await mirror.sync_well()
        sim.set_tag("left-pad", "next", "1.0.0")
        await mirror.sync_well()
        assert mirror.document("left-pad")["dist-tags"] == {"latest": "1.0.0", "next": "1.0.0"}
        assert mirror.evidence() == []


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
