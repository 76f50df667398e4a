"""One package through the mirror: what upstream withdraws, changes and promises (rows of research/B 7)."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.result import Status
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.registry import RegistrySimulator, Signer
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
        assert "withdrew 1 versions that this mirror has, 1 of them served (unpublished): 1.1.0" in summary.alarms[0]

    async def test_row_01_every_withdrawal_has_its_own_tombstone(self) -> None:
        """What goes, comes back and goes again leaves three: none is lost, none changes, a repeated run adds none."""
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
        await mirror.sync_well()
        assert [stone["event"] for stone in mirror.tombstones()] == ["relisted", "unpublished", "unpublished"]
        assert [stone for stone in mirror.tombstones() if stone in before] == before

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
        """Old tarballs leave the public part, tombstones and an alarm name the event."""
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
        assert mirror.tarball("left-pad", "1.0.0") is None
        assert mirror.keys("quarantine/") == ["quarantine/left-pad/left-pad-1.0.0.tgz"]


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
