"""Row 27: a packument that goes backwards, through the mirror; an older CDN edge never undoes what a newer one said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ExitCode, UpstreamStaleError
from mirrorwitness.mirror import layout
from mirrorwitness.npm.names import PackageName
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import Mirror, make_mirror

if TYPE_CHECKING:
    from collections.abc import Callable

PAD = PackageName("left-pad")
DOCUMENT = layout.packument_key(PAD)
RECORD = layout.record_key(PAD)


def make_sim() -> RegistrySimulator:
    """Return a registry whose package had three states: one version, two, and a moved dist-tag."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    sim.publish("left-pad", "1.1.0")
    sim.set_tag("left-pad", "next", "1.1.0")
    return sim


def public(mirror: Mirror) -> dict[str, bytes]:
    return {key: body for key, body in mirror.storage.objects.items() if key.startswith(layout.PUBLIC_PREFIXES)}


def wish_more(mirror: Mirror) -> None:
    """Another selection: the question is unconditional, and the document is decided about anew."""
    mirror.rules = ["left-pad", "right"]


def lose_record(mirror: Mirror) -> None:
    """The state of the package is gone; the documents are not."""
    mirror.storage.remove(RECORD)


def damage_record(mirror: Mirror) -> None:
    """The state cannot be read, which only costs work."""
    mirror.storage.set_bytes(RECORD, b'{"name": 5}')


def age_record(mirror: Mirror) -> None:
    """A run was killed between its documents and its record: the record is of the state before."""
    record = json.loads(mirror.storage.objects[RECORD])
    record |= {"rev": "1-0", "etag": None, "last_modified": None, "source_sha256": None}
    mirror.storage.set_bytes(RECORD, json.dumps(record).encode())


@pytest.mark.parametrize("back", [1, 2])
@pytest.mark.parametrize("happen", [None, wish_more, lose_record, damage_record, age_record])
async def test_row_27_an_older_edge_never_replaces_a_newer_document(
    happen: Callable[[Mirror], None] | None, back: int
) -> None:
    """P6: nothing public changes, the package is named as unfinished, and the next run completes it."""
    sim = make_sim()
    sim.publish("right", "1.0.0")
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    before = public(mirror)
    if happen is not None:
        happen(mirror)
    elif back == 1:
        sim.set_tag("left-pad", "next", "1.0.0")  # a newer state, of which this edge does not know
        back = 2
    sim.fail("left-pad", Fault.stale(back))
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.PARTIAL
    assert [(problem.name, problem.status) for problem in summary.problems] == [("left-pad", "unfinished")]
    assert "older than 3-" in summary.problems[0].reason
    assert before.items() <= public(mirror).items()
    note = await mirror.note("left-pad")
    assert note is not None
    assert note.kind == "UpstreamStaleError"
    check_invariants(mirror.storage.objects)
    await mirror.sync_well()
    assert mirror.document("left-pad")["_rev"] == sim.packument("left-pad")["_rev"]
    assert await mirror.note("left-pad") is None


async def test_row_27_the_older_edges_etag_is_not_believed() -> None:
    """The record keeps the newer document's ETag, so the same edge cannot say "not modified" about its own later."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    before = await mirror.record("left-pad")
    sim.fail("left-pad", Fault.stale(1))
    await mirror.sync()
    assert await mirror.record("left-pad") == before


async def test_row_27_a_repair_takes_no_older_document_either() -> None:
    """A repair believes the record: an edge that is older than it is refused."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    sim.fail("left-pad", Fault.stale(1))
    with pytest.raises(UpstreamStaleError, match="older than 3-"):
        await mirror.repair("left-pad", "1.0.0")


async def test_a_forged_revision_in_the_stored_document_is_repaired() -> None:
    """A sync must not undo what it cannot judge; the audit finds the document, and a repair replaces it."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    good = mirror.storage.objects[DOCUMENT]
    mirror.storage.set_bytes(DOCUMENT, good.replace(b'"_rev":"3-', b'"_rev":"999-'))
    assert mirror.storage.objects[DOCUMENT] != good
    sim.set_tag("left-pad", "next", "1.0.0")
    assert (await mirror.sync()).exit_code() is ExitCode.PARTIAL
    assert "damaged-document" in {finding.kind for finding in await mirror.audit()}
    await mirror.repair("left-pad")
    await mirror.sync_well()
    assert mirror.document("left-pad")["dist-tags"]["next"] == "1.0.0"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"_rev": 5}', b'{"_rev": "x"}', b'{"_id": "left-pad", "_rev": "3-1"']
)
async def test_a_damaged_stored_document_says_nothing(body: bytes) -> None:
    """What cannot be read has no revision: the document is written again."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    mirror.storage.set_bytes(DOCUMENT, body)
    lose_record(mirror)
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]


async def test_row_27_a_revision_that_does_not_stand_first_is_found() -> None:
    """Another registry may order its members differently; a nested ``_rev`` is never taken for the document's."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    document = mirror.document("left-pad")
    rev = document.pop("_rev")
    mirror.storage.set_bytes(DOCUMENT, json.dumps({"x": {"_rev": "9-0"}, **document, "_rev": rev}).encode())
    lose_record(mirror)
    sim.fail("left-pad", Fault.stale(1))
    summary = await mirror.sync()
    assert "older than 3-" in summary.problems[0].reason
    await mirror.sync_well()


async def test_without_revisions_nothing_is_refused() -> None:
    """A registry that sends none cannot be caught going backwards; its documents are taken."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["left-pad"])
    del sim.edit_packument("left-pad")["_rev"]
    await mirror.sync_well()
    sim.publish("left-pad", "1.2.0")
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0", "1.2.0"]
