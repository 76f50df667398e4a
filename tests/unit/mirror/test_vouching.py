"""A mirror with a log: nothing that the log does not vouch for is visible, and each version has its proof (P1, P5)."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ExitCode, PreconditionFailedError, UnsupportedConditionError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.audit import FindingKind
from mirrorwitness.mirror.result import Status
from mirrorwitness.mirror.voucher import Claim, Vouched
from mirrorwitness.npm.names import Version
from mirrorwitness.sumdb.records import Event
from mirrorwitness.tlog.proof import parse_proof
from tests.fakes.registry import RegistrySimulator
from tests.fakes.registry_build import integrity_of, make_tarball
from tests.fakes.simulated_log import make_registry_record, open_simulated_log
from tests.fakes.storage import MemoryStorage
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import make_mirror
from tests.unit.mirror.logged import DOWN, NAME, PROOF, log_of, make_logged


async def test_p1_each_version_has_its_proof_before_it_is_visible() -> None:
    """The proof lies beside the tarball, holds the record, and is written before the document names the version."""
    mirror = await make_logged()
    summary = await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
    proof = parse_proof(mirror.storage.objects[PROOF])
    assert proof.extra is not None
    assert b"package left-pad@1.0.0\n" in proof.extra
    assert mirror.storage.content_types[PROOF] == "text/plain; charset=utf-8"
    puts = mirror.storage.keys_of("put")
    assert puts.index("npm/left-pad/-/left-pad-1.0.0.tgz") < puts.index(PROOF)
    assert puts.index(PROOF) < puts.index("npm/left-pad/packument.json")
    held = (await mirror.record("left-pad")).versions
    assert {version: (item.leaf, item.tree) for version, item in held.items()} == {"1.0.0": (0, 2), "1.1.0": (1, 2)}
    assert summary.counts["logged"] == 2
    check_invariants(mirror.storage.objects, proven=True)


async def test_what_the_log_vouched_for_is_not_asked_again() -> None:
    """A new version costs one look-up, whatever the package has; the older proofs stay as they are."""
    mirror = await make_logged()
    await mirror.sync_well()
    before = mirror.storage.objects[PROOF]
    log_of(mirror).asked.clear()
    mirror.sims[0].publish("left-pad", "1.2.0")
    await log_of(mirror).add(mirror.sims[0], "left-pad", "1.2.0")
    await mirror.sync_well()
    assert log_of(mirror).asked == ["left-pad@1.2.0"]
    assert mirror.storage.objects[PROOF] == before


async def test_p1_a_version_that_is_not_logged_is_withheld_until_it_is() -> None:
    """Exit 3, nothing of it stored; once it is logged the next run serves it."""
    mirror = await make_logged()
    mirror.sims[0].publish("left-pad", "2.0.0")
    summary = await mirror.sync()
    assert (summary.exit_code(), mirror.served("left-pad")) == (ExitCode.PARTIAL, ["1.0.0", "1.1.0"])
    assert summary.counts["blocked_unvouched"] == 1
    assert mirror.tarball("left-pad", "2.0.0") is None
    assert mirror.document("left-pad")["dist-tags"] == {"latest": "1.1.0"}
    note = await mirror.note("left-pad")
    assert note is not None
    assert "left-pad@2.0.0: the log does not have it yet" in note.reason
    await log_of(mirror).add(mirror.sims[0], "left-pad", "2.0.0")
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0", "2.0.0"]
    assert await mirror.note("left-pad") is None


async def test_attack_the_log_has_another_integrity() -> None:
    """Somebody shows this mirror other bytes than the log has: not downloaded, not served, evidence, exit 4."""
    mirror = await make_logged()
    mirror.sims[0].republish("left-pad", "1.1.0", {"index.js": b"evil"})
    summary = await mirror.sync()
    assert (summary.exit_code(), mirror.served("left-pad")) == (ExitCode.DIVERGENCE, ["1.0.0"])
    assert mirror.tarball("left-pad", "1.1.0") is None
    (evidence,) = mirror.evidence()
    assert evidence["kind"] == "contradicted"
    assert evidence["upstream"]["version"] == "1.1.0"
    proof = parse_proof(evidence["log"].encode())
    assert proof.extra is not None
    assert b"package left-pad@1.1.0\n" in proof.extra
    await log_of(mirror).append()  # a newer checkpoint, the same contradiction
    await mirror.sync()
    assert len(mirror.evidence()) == 1


async def test_attack_the_log_has_a_conflict() -> None:
    """Its registry promised two things: nothing of the version is served, although one of them is what we see."""
    mirror = await make_logged()
    log = log_of(mirror)
    other = integrity_of(b"other")
    await log.append(make_registry_record(mirror.sims[0], "left-pad", "1.1.0", integrity=other))
    summary = await mirror.sync()
    assert (summary.exit_code(), mirror.served("left-pad")) == (ExitCode.DIVERGENCE, ["1.0.0"])
    assert "the log has a conflict" in mirror.evidence()[0]["reason"]


async def test_attack_stripped_integrity_does_not_bring_us_down_to_sha1() -> None:
    """Where the registry gives a SHA-1 only, the bytes have to match the log's SHA-512."""
    mirror = await make_logged()
    dist = mirror.sims[0].edit_packument("left-pad")["versions"]["1.1.0"]["dist"]
    del dist["integrity"]
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
    held = (await mirror.record("left-pad")).versions[Version("1.1.0")]
    assert (held.weak, held.integrity) == (False, None)
    mirror.sims[0].edit_packument("left-pad")["versions"]["1.1.0"]["dist"]["shasum"] = "0" * 40
    again = make_mirror(*mirror.sims, rules=["left-pad"], log=mirror.log)
    assert (await again.sync()).exit_code() is ExitCode.DIVERGENCE
    assert again.served("left-pad") == ["1.0.0"]


async def test_a_version_that_was_unpublished_is_vouched_for_all_the_same() -> None:
    """The newest record of a version still proves its bytes; what is served is the mirror's own policy."""
    mirror = await make_logged()
    await log_of(mirror).add(mirror.sims[0], "left-pad", "1.0.0", event=Event.UNPUBLISH)
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
    assert (await mirror.record("left-pad")).versions[Version("1.0.0")].leaf == 2


async def test_a_mirror_that_gets_a_log_later_asks_about_what_it_holds() -> None:
    """Stored bytes are compared with the log without downloading; what it does not know is not served any more."""
    mirror = await make_logged()
    log, mirror.log = mirror.log, None
    mirror.sims[0].publish("left-pad", "0.9.0", tag=None)
    await mirror.sync_well()
    assert "0.9.0" in mirror.served("left-pad")
    mirror.log = log
    summary = await mirror.sync()
    assert (summary.exit_code(), summary.counts["tarballs_downloaded"]) == (ExitCode.PARTIAL, 0)
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
    check_invariants(mirror.storage.objects, proven=True)


async def test_attack_stored_bytes_that_the_log_contradicts_are_not_served_any_more() -> None:
    """First bytes win among registries; what the log proves to be something else is taken away (P1)."""
    mirror = await make_logged()
    evil = RegistrySimulator()
    evil.publish("left-pad", "1.0.0")
    evil.publish("left-pad", "1.1.0", files={"index.js": b"evil"})
    honest, mirror.sims, log, mirror.log = mirror.sims, (evil,), mirror.log, None
    await mirror.sync_well()
    mirror.sims, mirror.log = honest, log
    summary = await mirror.sync()
    assert (summary.exit_code(), mirror.served("left-pad")) == (ExitCode.DIVERGENCE, ["1.0.0"])
    assert {item["kind"] for item in mirror.evidence()} == {"equivocation", "contradicted"}


@pytest.mark.parametrize("damage", ["one bit", "gone", "of another version", "too large"])
async def test_attack_a_proof_is_damaged_and_a_repair_makes_it_good(damage: str) -> None:
    """Every damage is found offline and named; a repair asks the log again and touches nothing else."""
    mirror = await make_logged()
    await mirror.sync_well()
    sound = mirror.storage.objects
    body = sound[PROOF]
    match damage:
        case "one bit":
            mirror.storage.set_bytes(PROOF, body[:40] + bytes([body[40] ^ 1]) + body[41:])
        case "gone":
            mirror.storage.remove(PROOF)
        case "of another version":
            mirror.storage.set_bytes(PROOF, sound[PROOF.replace("1.0.0", "1.1.0")])
        case _:
            mirror.storage.set_bytes(PROOF, body * 1000)
    log_of(mirror).error = DOWN
    (finding,) = await mirror.audit()
    kind = FindingKind.MISSING_PROOF if damage == "gone" else FindingKind.WRONG_PROOF
    assert (finding.kind, finding.version, finding.key) == (kind, "1.0.0", PROOF)
    log_of(mirror).error = None
    result = await mirror.repair("left-pad", unproven=["1.0.0"])
    assert result.status is Status.UPDATED
    assert await mirror.audit() == []
    assert mirror.storage.objects[PROOF] == body
    assert result.downloaded == 0


async def test_attack_a_stored_proof_is_of_another_history_of_the_log() -> None:
    """Each proof holds by itself, and two of them cannot be of one log: an audit names both files."""
    mirror = await make_logged()
    await mirror.sync_well()
    fork = await open_simulated_log()
    await fork.add(mirror.sims[0], "left-pad", "1.1.0", "1.0.0")
    version = Version("1.1.0")
    claim = Claim(version, mirror.document("left-pad")["versions"][version]["dist"]["integrity"], None)
    answer = (await fork.make_voucher(MemoryStorage()).vouch(NAME, [claim]))[version]
    assert isinstance(answer, Vouched)
    mirror.storage.set_bytes(PROOF.replace("1.0.0", "1.1.0"), answer.proof)
    (finding,) = await mirror.audit()
    assert finding.kind is FindingKind.WRONG_PROOF
    assert "the log signed two trees of size 2, here and in npm/left-pad/-/left-pad-1." in finding.reason


async def test_attack_tarball_and_document_are_replaced_and_the_proof_is_not() -> None:
    """Who makes tarball, document and record fit each other is betrayed by the proof, which nobody can forge."""
    mirror = await make_logged()
    await mirror.sync_well()
    evil = make_tarball({"index.js": b"evil"}, name="left-pad", version="1.0.0")
    forged = RegistrySimulator()
    forged.publish("left-pad", "1.0.0", data=evil)
    forged.publish("left-pad", "1.1.0")
    other = make_mirror(forged, rules=["left-pad"])
    await other.sync_well()
    for key, body in other.storage.objects.items():
        if key.startswith(("npm/", layout.RECORD_PREFIX)):
            mirror.storage.set_bytes(key, body)
    findings = await mirror.audit()
    assert [(finding.kind, finding.version) for finding in findings] == [(FindingKind.WRONG_PROOF, "1.0.0")]
    assert "the stored bytes are" in findings[0].reason


async def test_bytes_that_are_fetched_anew_stay_vouched_for() -> None:
    """A repair of a tarball asks the log nothing: the same bytes have the same leaf."""
    mirror = await make_logged()
    await mirror.sync_well()
    mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.0.0"), b"rotten")
    log_of(mirror).error = DOWN
    await mirror.repair("left-pad", "1.0.0")
    assert await mirror.audit() == []
    assert (await mirror.record("left-pad")).versions[Version("1.0.0")].leaf == 0


async def test_a_storage_without_conditional_writes_gets_proofs_too() -> None:
    """Two workers may write one proof twice there; each is sound."""
    mirror = await make_logged()
    mirror.storage.fail_before("put", PROOF, UnsupportedConditionError("501"))
    await mirror.sync_well()


async def test_a_proof_that_is_left_from_a_run_that_died_is_kept_where_it_is_sound() -> None:
    """Not rewritten under a newer checkpoint; one that vanishes between two looks is written."""
    mirror = await make_logged()
    await mirror.sync_well()
    body = mirror.storage.objects[PROOF]
    mirror.storage.remove(layout.record_key(NAME))
    await log_of(mirror).append(make_registry_record(mirror.sims[0], "left-pad", "1.0.0", event=Event.UNPUBLISH))
    await mirror.sync_well()
    assert mirror.storage.objects[PROOF] == body
    mirror.storage.remove(layout.record_key(NAME))
    mirror.storage.fail_before("put", PROOF, PreconditionFailedError("raced"))
    mirror.storage.remove(PROOF)
    await mirror.sync_well()
    assert mirror.storage.objects[PROOF] != body
