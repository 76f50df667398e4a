"""Audits: every kind of damage is found and named, and a repair makes it good (P1, P2)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.mirror import layout
from mirrorwitness.mirror.audit import FINDINGS_KEPT, Audit, Finding, FindingKind
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.result import Status
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy
from tests.fakes.registry import Fault, RegistrySimulator, Signer
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import lasting, make_mirror

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.mirror.builder import Mirror

NAME = PackageName("left-pad")
PACKUMENT, INSTALL, RECORD = layout.packument_key(NAME), layout.install_key(NAME), layout.record_key(NAME)
TARBALL = "npm/left-pad/-/left-pad-1.0.0.tgz"


async def make_whole() -> Mirror:
    """Return a mirror of one package with two versions, one signed."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    sim.publish("left-pad", "1.1.0", signer=Signer())
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    return mirror


def edit(mirror: Mirror, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    """Change the stored document."""
    document = mirror.document("left-pad")
    change(document["versions"])
    mirror.storage.set_bytes(PACKUMENT, json.dumps(document).encode())


async def test_a_whole_mirror_has_no_findings_and_its_counts_add_up() -> None:
    """Everything is read once; tarballs that no document names are counted, not blamed."""
    mirror = await make_whole()
    mirror.storage.set_bytes("npm/left-pad/-/left-pad-0.9.0.tgz", b"hidden")
    audit = await mirror.audited()
    sizes = [len(mirror.tarball("left-pad", version) or b"") for version in ("1.0.0", "1.1.0")]
    assert audit.findings == []
    assert dict(audit.counts) == {
        "packages": 1,
        "versions": 2,
        "tarballs": 2,
        "bytes": sum(sizes),
        "signature_unsigned": 1,
        "signature_verified": 1,
        "tarballs_not_served": 1,
    }
    assert repr(audit) == "<Audit 1 packages, 0 findings>"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("a byte of a tarball", [(FindingKind.WRONG_BYTES, "1.0.0", TARBALL)]),
        ("a tarball", [(FindingKind.MISSING_TARBALL, "1.0.0", TARBALL)]),
        ("the document", [(FindingKind.MISSING_DOCUMENT, None, PACKUMENT)]),
        ("the abbreviated document", [(FindingKind.MISSING_DOCUMENT, None, INSTALL)]),
        ("a byte of the abbreviated document", [(FindingKind.DAMAGED_DOCUMENT, None, INSTALL)]),
        ("the record", [(FindingKind.UNRECORDED, None, PACKUMENT)]),
        ("half of the document", [(FindingKind.DAMAGED_DOCUMENT, None, PACKUMENT)] * 2),
    ],
)
async def test_each_damage_is_found_and_repaired(damage: str, found: list[tuple[FindingKind, str | None, str]]) -> None:
    """The finding names what and where; after the repair nothing is wrong."""
    mirror = await make_whole()
    objects = mirror.storage.objects
    match damage:
        case "a byte of a tarball":
            mirror.storage.set_bytes(TARBALL, objects[TARBALL][:-1] + b"!")
        case "half of the document":
            mirror.storage.set_bytes(PACKUMENT, objects[PACKUMENT][:100])
        case "a byte of the abbreviated document":
            mirror.storage.set_bytes(INSTALL, objects[INSTALL] + b" ")
        case _:
            keys = {
                "a tarball": TARBALL,
                "the document": PACKUMENT,
                "the abbreviated document": INSTALL,
                "the record": RECORD,
            }
            mirror.storage.remove(keys[damage])
    findings = await mirror.audit()
    assert [(finding.kind, finding.version, finding.key) for finding in findings] == found
    assert all(finding.name == "left-pad" and finding.reason for finding in findings)
    wrong = {finding.version for finding in findings if finding.version is not None}
    result = await mirror.repair("left-pad", *wrong)
    assert result.status is Status.UPDATED
    assert await mirror.audit() == []
    check_invariants(mirror.storage.objects)
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]


async def test_attack_both_documents_and_the_tarball_are_replaced() -> None:
    """A forger who makes everything fit is betrayed by the record, also where the package is unfinished."""
    mirror = await make_whole()
    other = RegistrySimulator()
    other.publish("left-pad", "1.0.0", files={"index.js": b"evil"})
    other.publish("left-pad", "1.1.0", signer=Signer())
    forged = make_mirror(other, rules=["left-pad"])
    await forged.sync_well()
    for is_finished in (True, False):
        if not is_finished:
            mirror = await make_whole()
            mirror.rules.append("left-pad@9.9.9")
            await mirror.sync()
            assert (await mirror.record("left-pad")).fingerprint == ""
            assert await mirror.audit() == []
        for key in (PACKUMENT, INSTALL, TARBALL):
            mirror.storage.set_bytes(key, forged.storage.objects[key])
        findings = await mirror.audit()
        assert [(finding.kind, finding.key) for finding in findings] == [
            (FindingKind.DAMAGED_DOCUMENT, PACKUMENT),
            (FindingKind.WRONG_BYTES, TARBALL),
        ]
        assert "the record says" in findings[0].reason


@pytest.mark.parametrize("document", ["half", "missing", "without the version", "forged"])
@pytest.mark.parametrize("tarball", [None, b"rotten"])
async def test_p1_one_repair_is_enough_where_a_document_hides_a_wrong_tarball(
    document: str, tarball: bytes | None
) -> None:
    """Documents that are written anew name right bytes only, also where the damaged ones did not tell what is wrong."""
    mirror = await make_whole()
    expected = mirror.storage.objects
    if document == "half":
        mirror.storage.set_bytes(PACKUMENT, expected[PACKUMENT][:100])
    elif document == "missing":
        mirror.storage.remove(PACKUMENT)
    elif document == "without the version":
        edit(mirror, lambda versions: versions.pop("1.0.0"))
    else:
        integrity = f"sha512-{base64.b64encode(hashlib.sha512(b'rotten').digest()).decode()}"
        edit(mirror, lambda versions: versions["1.0.0"]["dist"].update(integrity=integrity))  # type: ignore[attr-defined]  # a dict
    if tarball is None:
        mirror.storage.remove(TARBALL)
    else:
        mirror.storage.set_bytes(TARBALL, tarball)
    findings = await mirror.audit()
    wrong = [finding.version for finding in findings if finding.version is not None]
    assert wrong == ["1.0.0"]
    assert (await mirror.repair("left-pad", *wrong)).status is Status.UPDATED
    assert lasting(mirror.storage.objects) == lasting(expected)
    assert await mirror.audit() == []


async def test_attack_stripped_integrity_in_the_stored_document() -> None:
    """A version without any digest is damage, as is one whose URL is nobody's and one that contradicts itself."""
    mirror = await make_whole()
    edit(mirror, lambda versions: versions["1.0.0"].update(dist={"tarball": "http://mirror.invalid/left-pad/-/x.tgz"}))
    edit(mirror, lambda versions: versions["1.1.0"].update(version="6.6.6"))
    found = {finding.version: finding.reason for finding in await mirror.audit() if finding.version is not None}
    reasons = [found["1.0.0"], found["1.1.0"]]
    assert reasons[0] == "tarball 'http://mirror.invalid/left-pad/-/x.tgz', integrity None"
    assert "6.6.6" in reasons[1]
    assert len(found) == 2


async def test_row_12_a_signature_that_the_policy_refuses_is_a_finding() -> None:
    """The stored document is judged by the policy of today; with ``off`` nothing is judged."""
    mirror = await make_whole()
    mirror.policy = SignaturePolicy.REQUIRE
    assert await mirror.audit() == [
        Finding(
            FindingKind.BAD_SIGNATURE,
            "left-pad",
            "1.0.0",
            PACKUMENT,
            "signature unsigned, the policy is require",
        )
    ]
    mirror.policy = SignaturePolicy.OFF
    assert "signature_unsigned" not in (await mirror.audited()).counts


async def test_what_was_never_stored_is_no_finding() -> None:
    """A package without a record and without documents, and one whose every version is withdrawn."""
    mirror = await make_whole()
    mirror.sims[0].unpublish("left-pad")
    await mirror.sync_well()
    assert await mirror.audit("left-pad", "nobody") == []


async def test_a_repair_withdraws_what_upstream_no_longer_has() -> None:
    """P2: a tarball that is lost here and there is named by no document; the digest is remembered."""
    mirror = await make_whole()
    mirror.storage.remove(TARBALL)
    mirror.sims[0].fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.status(404), times=None)
    result = await mirror.repair("left-pad", "1.0.0")
    assert result.status is Status.UNFINISHED
    assert mirror.served("left-pad") == ["1.1.0"]
    assert await mirror.audit() == []
    held = (await mirror.record("left-pad")).versions[Version("1.0.0")]
    assert (held.damaged, held.served) == (True, False)
    mirror.sims[0].heal()
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]


async def test_p10_findings_are_kept_up_to_a_bound() -> None:
    """More are counted only."""
    mirror = await make_whole()
    audit = Audit(
        storage=mirror.storage,
        catalogue=mirror.catalogue,
        keys=KeyRing(),
        policy=SignaturePolicy.OFF,
        concurrency=2,
        progress=SilentProgress(),
    )
    for _ in range(FINDINGS_KEPT + 1):
        audit._find(FindingKind.WRONG_BYTES, NAME, None, "k", "r")
    assert (len(audit.findings), audit.counts["findings"]) == (FINDINGS_KEPT, FINDINGS_KEPT + 1)
