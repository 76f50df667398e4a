"""What becomes of records that are offered: known, logged, in conflict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.sumdb.batch import Batch
from mirrorwitness.sumdb.fates import Fate, Proposal, Sequenced, evidence_of, make_conflict
from mirrorwitness.sumdb.index import PackageIndex, make_line
from mirrorwitness.sumdb.records import Event, Record, format_record, parse_record
from tests.unit.sumdb.logs import integrity_of, make_proposal, make_record

PUBLISH, UNPUBLISH, HOLD, CONFLICT = Event.PUBLISH, Event.UNPUBLISH, Event.SECURITY_HOLD, Event.CONFLICT
FIRST = make_record()


def make_conflicted() -> Record:
    return make_conflict(FIRST, integrity_of("other"), b"document").record


def batch_with(*known: Record, size: int = 10) -> Batch:
    """Return a batch whose index has some records of one version, the last one at the last leaf."""
    lines = tuple([make_line(size - len(known) + at, record) for at, record in enumerate(known)])
    return Batch(size, {FIRST.name: PackageIndex(FIRST.name, lines)})


@pytest.mark.parametrize(
    ("known", "offered", "expected"),
    [
        ((), PUBLISH, Sequenced(10, Fate.LOGGED)),
        ((), UNPUBLISH, Sequenced(10, Fate.LOGGED)),
        ((PUBLISH,), PUBLISH, Sequenced(9, Fate.KNOWN)),
        ((PUBLISH,), UNPUBLISH, Sequenced(10, Fate.LOGGED)),
        ((PUBLISH,), HOLD, Sequenced(10, Fate.LOGGED)),
        ((PUBLISH, UNPUBLISH), UNPUBLISH, Sequenced(9, Fate.KNOWN)),
        ((PUBLISH, UNPUBLISH), HOLD, Sequenced(10, Fate.LOGGED)),
        ((PUBLISH, UNPUBLISH), PUBLISH, Sequenced(10, Fate.LOGGED)),
        ((PUBLISH, HOLD, PUBLISH), PUBLISH, Sequenced(9, Fate.KNOWN)),
    ],
)
def test_what_may_follow_on_what(known: tuple[Event, ...], offered: Event, expected: Sequenced) -> None:
    """One event is logged once in a row, and a version may go and come back."""
    batch = batch_with(*[make_record(event=event) for event in known])
    proposal = Proposal(make_record(event=offered))
    assert batch.question(proposal) is None
    assert batch.add(proposal) == expected
    is_new = expected.fate is Fate.LOGGED
    assert batch.entries == ([proposal.body] if is_new else [])
    assert batch.lines == ({FIRST.name: [make_line(10, proposal.record)]} if is_new else {})
    assert batch.add(proposal) == Sequenced(expected.index, Fate.KNOWN)


def test_another_integrity_becomes_a_conflict_that_keeps_the_first() -> None:
    """The first record is repeated, with what was offered and the digest of the document that shows it."""
    batch = batch_with(FIRST)
    offered = Proposal(make_record(content="swapped"), b'{"both":"documents"}')
    assert batch.question(offered) == 9
    assert batch.add(offered, format_record(FIRST)) == Sequenced(10, Fate.CONFLICT)
    digest = hashlib.sha256(b'{"both":"documents"}').digest()
    other = integrity_of("swapped")
    conflict = replace(FIRST, event=CONFLICT, other_integrity=other, evidence=digest)
    assert [parse_record(entry) for entry in batch.entries] == [conflict]
    assert batch.evidence == [(conflict, b'{"both":"documents"}')]


@pytest.mark.parametrize("event", [PUBLISH, UNPUBLISH, HOLD])
def test_an_event_of_other_bytes_is_a_conflict_too(event: Event) -> None:
    """It is not the event that decides, it is the bytes."""
    batch = batch_with(FIRST)
    offered = Proposal(make_record(content="swapped", event=event))
    assert batch.add(offered, format_record(FIRST)).fate is Fate.CONFLICT


@pytest.mark.parametrize("content", ["", "swapped", "third"])
def test_nothing_follows_on_a_conflict(content: str) -> None:
    """Neither the first bytes nor the others bring a version back."""
    batch = batch_with(FIRST, make_conflicted())
    for event in (PUBLISH, UNPUBLISH):
        proposal = Proposal(make_record(content=content, event=event))
        assert batch.question(proposal) is None
        assert batch.add(proposal) == Sequenced(9, Fate.KNOWN_CONFLICT)
    assert batch.add(Proposal(make_conflicted(), b"document")) == Sequenced(9, Fate.KNOWN_CONFLICT)
    assert batch.entries == []


def test_two_tasks_that_bring_other_bytes_in_one_batch_make_a_conflict() -> None:
    """What the batch has itself is known; without a document the two records are the evidence."""
    batch = Batch(10, {})
    first, second = make_proposal(), make_proposal(content="swapped")
    assert batch.add(first) == Sequenced(10, Fate.LOGGED)
    assert batch.question(second) == 10
    assert batch.entry(10) == first.body
    assert batch.entry(9) is None
    assert batch.add(second, batch.entry(10)) == Sequenced(11, Fate.CONFLICT)
    assert batch.add(second) == Sequenced(11, Fate.KNOWN_CONFLICT)
    ((_, document),) = batch.evidence
    assert json.loads(document) == {"known": first.body.decode(), "offered": second.body.decode()}
    assert evidence_of(first.body, second) == document


def test_a_digest_that_the_registry_added_is_no_conflict() -> None:
    """The strongest digest that both have decides whether the bytes are the same."""
    batch = batch_with(FIRST)
    more = f"{FIRST.integrity} sha1-{'A' * 27}="
    offered = Proposal(replace(FIRST, integrity=more))
    assert batch.question(offered) == 9
    assert batch.add(offered, format_record(FIRST)) == Sequenced(9, Fate.KNOWN)


def test_a_conflict_that_is_offered_as_one_is_logged() -> None:
    """Whoever saw both may say so itself, also where nothing was logged before."""
    conflict = Proposal(make_conflicted(), b"document")
    for batch in (batch_with(FIRST), batch_with()):
        assert batch.question(conflict) is None
        assert batch.add(conflict) == Sequenced(10, Fate.CONFLICT)
        assert batch.entries == [conflict.body]
        assert batch.evidence == [(conflict.record, b"document")]
        assert repr(batch) == "<Batch of 1 entries behind 10, 1 packages>"


def test_the_same_version_of_two_registries_is_two_versions() -> None:
    """A registry speaks for itself alone."""
    batch = batch_with(FIRST)
    other = Proposal(make_record(content="theirs", registry="other.example"))
    assert batch.question(other) is None
    assert batch.add(other) == Sequenced(10, Fate.LOGGED)


def test_an_index_that_leads_to_another_version_is_noticed() -> None:
    """An index is a hint: a conflict is never made of a record of something else."""
    batch = batch_with(FIRST)
    with pytest.raises(UpstreamProtocolError, match=r"index of left: leads to the publish of left@2\.0\.0"):
        batch.add(make_proposal(content="swapped"), make_proposal(version="2.0.0").body)


def test_a_registry_with_endless_signatures_does_not_escape_a_conflict() -> None:
    """Where the conflict would be too long its signatures are left out; the record that it repeats has them."""
    room = 65_535 - len(make_proposal().body) - len("signature k \n")
    signatures = (("k", "AAAA" * (room // 4)),)
    known = make_record(signatures=signatures)
    conflict = make_conflict(known, integrity_of("other"), b"document")
    assert conflict.record.signatures == ()
    assert conflict.record.evidence == hashlib.sha256(b"document").digest()
    assert make_conflict(FIRST, integrity_of("other"), b"").record.signatures == FIRST.signatures


def test_a_proposal_that_exists_can_be_logged() -> None:
    """A record that cannot is refused before it is offered, so it never spoils a batch."""
    for evidence in (None, b"another document"):
        with pytest.raises(ConfigurationError, match="comes without the document that it names"):
            Proposal(make_conflicted(), evidence)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Proposal(replace(FIRST, tarball_size=-1))
