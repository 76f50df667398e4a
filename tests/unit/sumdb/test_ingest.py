"""A log that is filled from a registry: what it says, what it refuses, and what it says when the registry changes."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    IntegrityMismatchError,
    UpstreamUnreachableError,
)
from mirrorwitness.npm.canonical import hash_manifest
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.authority import make_authority, registry_of
from mirrorwitness.sumdb.claims import Refusal
from mirrorwitness.sumdb.paths import evidence_key, refused_key
from mirrorwitness.sumdb.records import Event, Record, format_record
from mirrorwitness.sumdb.refusals import read_refusals
from tests.fakes.registry import Fault, RegistrySimulator, Signer
from tests.fakes.registry_build import filler, integrity_of, make_tarball, shasum_of
from tests.unit.sumdb.ingest_world import make_world

if TYPE_CHECKING:
    from mirrorwitness.sumdb.ingested import Ingested

LEFT = PackageName("left")
ONE, TWO = Version("1.0.0"), Version("2.0.0")


def refusals(found: Ingested) -> dict[Version, Refusal]:
    return {version: refused.kind for version, refused in found.refused.items()}


async def test_a_published_version_is_logged_with_all_that_is_known_of_it() -> None:
    """The record has what the registry signed and what the bytes are; no address, no tag."""
    world = await make_world()
    signer = Signer()
    tarball = world.sim.publish(
        "left", "1.0.0", signer=signer, published="2026-01-02T03:04:05.678Z", dist={"attestations": {"url": "x"}}
    )
    world.sim.attestations["left@1.0.0"] = b'{"attestations": []}'
    found = await world.run("left")
    assert (found.logged, found.known, found.refused, found.withheld) == ((ONE,), 0, {}, {})
    (record,) = await world.records("left")
    manifest = world.sim.packument("left")["versions"]["1.0.0"]
    (signature,) = record.signatures
    assert signature[0] == signer.keyid
    assert record == Record(
        registry="registry.example",
        name=LEFT,
        version=ONE,
        integrity=integrity_of(tarball),
        tarball_size=len(tarball),
        shasum=shasum_of(tarball),
        manifest=hash_manifest(json.dumps(manifest).encode()),
        tarball_manifest=hashlib.sha256(b'{"name": "left", "version": "1.0.0"}').digest(),
        published="2026-01-02T03:04:05.678Z",
        signatures=((signer.keyid, manifest["dist"]["signatures"][0]["sig"]),),
        attestations=hashlib.sha256(b'{"attestations": []}').digest(),
        event=Event.PUBLISH,
    )


async def test_a_new_version_is_logged_and_nothing_else_is_asked_for() -> None:
    """What the log has is not downloaded again, not even with a document that changed."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    await world.run("left")
    world.sim.publish("left", "2.0.0")
    world.sim.requests.clear()
    found = await world.run("left")
    assert (found.logged, found.known) == ((TWO,), 1)
    assert [request.target for request in world.sim.requests] == ["/left", "/left/-/left-2.0.0.tgz"]
    assert await world.events("left") == ["publish 1.0.0", "publish 2.0.0"]


async def test_a_document_that_did_not_change_is_not_looked_at() -> None:
    """With what was seen before, the registry answers that nothing changed."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    first = await world.run("left")
    second = await world.run("left", first.seen)
    assert (second.is_unchanged, second.seen, await world.events("left")) == (True, first.seen, ["publish 1.0.0"])


async def test_a_package_of_many_versions_is_offered_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are logged, in the document's order."""
    monkeypatch.setattr("mirrorwitness.sumdb.ingest.CHUNK", 3)
    world = await make_world()
    for number in range(8):
        world.sim.publish("left", f"1.0.{number}")
    await world.run("left")
    assert await world.events("left") == [f"publish 1.0.{number}" for number in range(8)]
    world.sim.unpublish("left")
    found = await world.run("left")
    assert found.events == tuple(Version(f"1.0.{number}") for number in range(8))


async def test_only_wanted_versions_are_logged() -> None:
    """A selection decides what is fetched; the rest stays unknown."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.publish("left", "2.0.0")
    async with world.ingesting() as ingest:
        found = await ingest.run(LEFT, wants=lambda packument: [list(packument.versions)[-1]])
    assert (found.logged, await world.events("left")) == ((TWO,), ["publish 2.0.0"])


# ---- conflicts


async def test_a_changed_integrity_becomes_a_conflict_with_evidence() -> None:
    """The log keeps the first integrity, names the other, and the document shows both sides word for word."""
    world = await make_world()
    signer = Signer()
    world.sim.publish("left", "1.0.0", signer=signer)
    await world.run("left")
    (first,) = await world.records("left")
    other = world.sim.republish("left", "1.0.0", {"index.js": b"evil"}, signer=signer)
    found = await world.run("left")
    assert list(found.conflicts) == [ONE]
    assert integrity_of(other) in found.conflicts[ONE]
    assert not found.is_complete
    _, conflict = await world.records("left")
    assert (conflict.event, conflict.integrity) == (Event.CONFLICT, first.integrity)
    assert conflict.other_integrity == integrity_of(other)
    assert conflict.evidence is not None
    evidence, _ = await world.storage.read(evidence_key(LEFT, ONE, conflict.evidence.hex()), limit=10**6)
    document = json.loads(evidence)
    assert document["known"].encode() == format_record(first)
    assert document["upstream"] == world.sim.packument("left")["versions"]["1.0.0"]
    assert (document["registry"], document["package"]) == ("registry.example", "left@1.0.0")
    again = await world.run("left")
    assert (again.conflicts, again.known, again.is_complete) == ({}, 1, True)
    assert len(await world.records("left")) == 2


async def test_attack_a_conflict_by_an_unsigned_claim_is_refused() -> None:
    """Whoever stands between the registry and us cannot take a signed version away from everybody."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    await world.run("left")
    world.sim.republish("left", "1.0.0", {"index.js": b"evil"})
    found = await world.run("left")
    assert (refusals(found), found.conflicts) == ({ONE: Refusal.UNSIGNED}, {})
    assert await world.events("left") == ["publish 1.0.0"]


async def test_attack_a_conflict_by_a_forged_signature_is_refused() -> None:
    """A claim that would not be logged cannot put the log in conflict either."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    await world.run("left")
    world.sim.republish("left", "1.0.0", {"index.js": b"evil"}, signer=Signer(2))
    world.sim.keys = [Signer().key()]
    found = await world.run("left")
    assert (refusals(found), found.conflicts) == ({ONE: Refusal.UNKNOWN_KEY}, {})


async def test_an_integrity_that_gains_a_weaker_digest_is_the_same_content() -> None:
    """What was logged stays the newest record: the bytes are the same."""
    world = await make_world()
    tarball = world.sim.publish("left", "1.0.0")
    await world.run("left")
    weaker = "sha1-" + base64.b64encode(hashlib.sha1(tarball, usedforsecurity=False).digest()).decode()
    dist = world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]
    dist["integrity"] = f"{weaker} {dist['integrity']}"
    found = await world.run("left")
    assert (found.conflicts, found.refused, await world.events("left")) == ({}, {}, ["publish 1.0.0"])


async def test_attack_stripped_integrity_of_a_logged_version_is_refused() -> None:
    """A registry that takes the integrity away changes nothing of what the log says."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    await world.run("left")
    del world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]["integrity"]
    found = await world.run("left")
    assert (refusals(found), await world.events("left")) == ({ONE: Refusal.NO_SHA512}, ["publish 1.0.0"])


# ---- refusals


@pytest.mark.parametrize(
    ("dist", "kind"),
    [
        ({"integrity": None}, Refusal.NO_SHA512),
        ({"integrity": None, "shasum": None}, Refusal.NO_SHA512),
        ({"integrity": "sha256-" + base64.b64encode(b"x" * 32).decode()}, Refusal.NO_SHA512),
        ({"integrity": f"{integrity_of(b'a')} {integrity_of(b'b')}"}, Refusal.AMBIGUOUS),
        ({"tarball": ""}, Refusal.MALFORMED),
        ({"signatures": [{"keyid": "unknown", "sig": "AAAA"}]}, Refusal.UNKNOWN_KEY),
    ],
)
async def test_a_version_that_cannot_be_checked_is_refused_and_told(dist: dict[str, object], kind: Refusal) -> None:
    """Each has its reason, nothing is downloaded, and the others of the package are logged all the same."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", dist=dist)
    world.sim.publish("left", "2.0.0")
    found = await world.run("left")
    assert (refusals(found), found.logged, found.withheld, found.is_complete) == ({ONE: kind}, (TWO,), {}, True)
    told = await read_refusals(world.storage, LEFT)
    assert told is not None
    assert {version: item.kind for version, item in told.versions.items()} == {"1.0.0": kind}
    assert not any("1.0.0.tgz" in request.target for request in world.sim.requests)


async def test_what_was_refused_and_is_no_more_leaves_no_trace() -> None:
    """A document that was mended is logged, and the refusal is forgotten."""
    world = await make_world()
    tarball = world.sim.publish("left", "1.0.0", dist={"integrity": None})
    await world.run("left")
    assert await world.storage.stat(refused_key(LEFT)) is not None
    world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]["integrity"] = integrity_of(tarball)
    found = await world.run("left")
    assert (found.logged, await world.storage.stat(refused_key(LEFT))) == ((ONE,), None)


async def test_attack_forged_signature_is_refused() -> None:
    """A signature over something else is a divergence, and nothing is logged."""
    world = await make_world()
    signer = Signer()
    world.sim.publish("left", "1.0.0", signer=signer)
    dist = world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]
    dist["signatures"] = [signer.sign("left", "1.0.1", dist["integrity"])]
    found = await world.run("left")
    assert refusals(found) == {ONE: Refusal.SIGNATURE}
    assert found.refused[ONE].kind.is_divergence
    assert world.log.size == 0


async def test_attack_stale_key_is_refused() -> None:
    """A version that is signed with a key that had expired when it was published is not logged."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer(expires="2020-01-01T00:00:00.000Z"))
    assert refusals(await world.run("left")) == {ONE: Refusal.SIGNATURE}


async def test_unsigned_versions_are_refused_where_signatures_are_required() -> None:
    """And logged where they are not."""
    world = await make_world()
    world.must_be_signed = True
    world.sim.publish("left", "1.0.0")
    assert refusals(await world.run("left")) == {ONE: Refusal.UNSIGNED}
    world.must_be_signed = False
    assert (await world.run("left")).logged == (ONE,)


async def test_attack_signed_in_another_spelling_is_refused() -> None:
    """A signature that nobody could check by the record does not come into one."""
    world = await make_world()
    signer = Signer()
    tarball = world.sim.publish("left", "1.0.0", signer=signer)
    odd = f"{integrity_of(tarball)}?opt"
    dist = world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]
    dist |= {"integrity": odd, "signatures": [signer.sign("left", "1.0.0", odd)]}
    assert refusals(await world.run("left")) == {ONE: Refusal.AMBIGUOUS}


async def test_a_version_that_no_record_can_hold_is_refused() -> None:
    """Whatever keys a document has, a record has one of its lines for each."""
    world = await make_world()
    for version in ("1.0.0 evil", "1.0.0@x", "x" * 300):
        world.sim.publish("left", version, file="left.tgz")
    found = await world.run("left")
    assert set(refusals(found).values()) == {Refusal.MALFORMED}
    assert (len(found.refused), world.log.size) == (3, 0)


async def test_a_signature_that_no_record_can_hold_is_refused() -> None:
    """A keyid with a space would be two words of a line."""
    world = await make_world()
    signer = Signer()
    tarball = world.sim.publish("left", "1.0.0", signer=signer)
    world.sim.keys = [signer.key() | {"keyid": "a b"}]
    entry = signer.sign("left", "1.0.0", integrity_of(tarball)) | {"keyid": "a b"}
    world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]["signatures"] = [entry]
    assert refusals(await world.run("left")) == {ONE: Refusal.MALFORMED}


async def test_attack_replaced_bytes_are_refused_and_nothing_is_logged() -> None:
    """Bytes that are not what the integrity says are fetched twice, told, and tried again later."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    world.sim.replace_bytes("left", "1.0.0", make_tarball({"index.js": b"evil"}, name="left", version="1.0.0"))
    found = await world.run("left")
    assert refusals(found) == {ONE: Refusal.BYTES}
    assert isinstance(found.withheld[ONE], IntegrityMismatchError)
    assert (found.is_complete, world.log.size) == (False, 0)
    assert sum("left-1.0.0.tgz" in request.target for request in world.sim.requests) == 2


async def test_a_broken_transfer_is_fetched_once_more() -> None:
    """Wrong bytes once are no attack."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.fail("/left/-/left-1.0.0.tgz", Fault.wrong_bytes())
    found = await world.run("left")
    assert (found.logged, found.refused) == ((ONE,), {})


async def test_attack_a_wrong_shasum_beside_the_right_integrity_is_refused() -> None:
    """Clients that know SHA-1 only must get the same bytes as the others."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", dist={"shasum": shasum_of(b"other")})
    assert refusals(await world.run("left")) == {ONE: Refusal.BYTES}
    assert world.log.size == 0


async def test_attack_a_wrong_weaker_digest_in_the_integrity_is_refused() -> None:
    """Every digest of a record is true."""
    world = await make_world()
    tarball = world.sim.publish("left", "1.0.0")
    wrong = "sha256-" + base64.b64encode(b"x" * 32).decode()
    world.sim.edit_packument("left")["versions"]["1.0.0"]["dist"]["integrity"] = f"{integrity_of(tarball)} {wrong}"
    assert refusals(await world.run("left")) == {ONE: Refusal.BYTES}


async def test_a_tarball_that_is_no_archive_is_logged_without_its_manifest() -> None:
    """The log is about bytes; that nobody can unpack them is not its business."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", data=b"not an archive")
    await world.run("left")
    (record,) = await world.records("left")
    assert (record.tarball_manifest, record.tarball_size) == (None, 14)


async def test_large_tarballs_are_spooled_and_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what does not fit into memory has its package.json found."""
    monkeypatch.setattr("mirrorwitness.npm.spool.MEMORY_PER_SPOOL", 1000)
    world = await make_world()
    files = {"data": filler("x", 50_000), "package.json": b'{"name": "left"}'}
    tarball = world.sim.publish("left", "1.0.0", files=files)
    await world.run("left")
    (record,) = await world.records("left")
    assert (record.tarball_manifest, record.tarball_size) == (
        hashlib.sha256(b'{"name": "left"}').digest(),
        len(tarball),
    )


async def test_a_tarball_that_cannot_be_had_is_withheld() -> None:
    """It is not refused, and the rest of the package is logged."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.publish("left", "2.0.0")
    world.sim.fail("/left/-/left-1.0.0.tgz", Fault.status(404), times=None)
    found = await world.run("left")
    assert (list(found.withheld), found.refused, found.logged) == ([ONE], {}, (TWO,))
    world.sim.heal()
    assert (await world.run("left")).logged == (ONE,)


async def test_attestations_that_cannot_be_had_are_waited_for() -> None:
    """A record is for ever, so it is not written without them; where there are none, it says so."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", dist={"attestations": {"url": "x"}})
    path = "/-/npm/v1/attestations/left@1.0.0"
    world.sim.fail(path, Fault.status(500), times=None)
    assert isinstance((await world.run("left")).withheld[ONE], UpstreamUnreachableError)
    world.sim.heal()
    await world.run("left")
    (record,) = await world.records("left")
    assert record.attestations is None


# ---- whose name it is


async def test_attack_a_name_of_another_registry_is_not_logged() -> None:
    """However well it is signed there: nothing is even asked."""
    ours, other = RegistrySimulator(), RegistrySimulator()
    other.base = "http://npm.acme.example"
    world = await make_world(ours, other)
    world.authority = make_authority([("@acme", "npm.acme.example")], default=registry_of(ours.base))
    for sim in (ours, other):
        sim.publish("@acme/tool", "1.0.0", signer=Signer())
        sim.publish("left", "1.0.0", signer=Signer())
    await world.run("@acme/tool")
    await world.run("left")
    assert [record.registry for record in await world.records("@acme/tool")] == ["npm.acme.example"]
    assert [record.registry for record in await world.records("left")] == ["registry.example"]
    world.sims = [ours]
    with pytest.raises(ConfigurationError, match=r"@acme/tool is not logged here: it belongs to npm.acme.example"):
        await world.run("@acme/tool")
