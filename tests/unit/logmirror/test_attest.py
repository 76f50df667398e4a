"""The artifact statement: what may be signed, what is a gap, and what is read again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import (
    PreconditionFailedError,
    ProofError,
    StorageRefusedError,
    UpstreamProtocolError,
    UpstreamStaleError,
)
from mirrorwitness.logmirror.attest import Attester, holdings_key
from mirrorwitness.logmirror.cosigner import Cosigner
from mirrorwitness.logmirror.decision import Pending
from mirrorwitness.logmirror.holdings import (
    KEPT_HEADS,
    MAX_GAPS,
    Gap,
    Holdings,
    Taken,
    add_head,
    close_gaps,
    find_signable,
    newest_head,
    parse_holdings,
    take_records,
)
from mirrorwitness.logmirror.roles import ARTIFACTS, RoleView
from mirrorwitness.logmirror.shelf import Shelf
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.withdrawal import Place
from mirrorwitness.sumdb.records import Event, format_record
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, origin_hash
from mirrorwitness.tlog.cosignature import check_cosignatures
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import sign_note
from mirrorwitness.witness.lab import statement_of
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import open_identity
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage
from tests.unit.logmirror.tarballs import SUM_KEY, SumLog, bytes_of, hold, publish, withdraw
from tests.unit.witness.world import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.logmirror.attest import Attested
    from mirrorwitness.witness.service import Fork

KEY = make_signer_key("mirror.example/artifacts", bytes([52] * 32), KeyType.COSIGNATURE)
PUBLISHED = f"artifacts/{origin_hash(SUM_KEY.name)}/checkpoint"
STATE = holdings_key(SUM_KEY.name)


class Mirror:
    """An npm mirror with a key for artifact statements."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.log = SumLog()
        self.clock = Clock()
        self.forks: list[Fork] = []
        self.progress: list[tuple[int, int]] = []
        self.read = 0

    async def attest(self, *, trusts_records: bool = False, begins_anew: bool = False) -> Attested:
        """Run once, as a process does."""
        view = RoleView(self.storage, ARTIFACTS, [origin_hash(SUM_KEY.name)])
        own = await open_identity(view, None, [KEY.verifier])
        state = WitnessState(storage=view, anchor=None, own=own)
        shelf = Shelf(storage=self.storage, catalogue=Catalogue(self.storage), trusts_records=trusts_records)
        attester = Attester(
            log=self.log.witnessed,
            source=self.log,
            storage=self.storage,
            shelf=shelf,
            cosigner=Cosigner(state=state, signers=[LocalSigner(KEY)], own=own, now=self.clock),
            on_fork=self.keep,
            on_progress=lambda done, size: self.progress.append((done, size)),
        )
        assert "Attester" in repr(attester)
        found = await attester.run(begins_anew=begins_anew)
        self.read = shelf.read
        return found

    async def keep(self, fork: Fork) -> None:
        """Keep what is said of a fork."""
        self.forks.append(fork)

    @property
    def signed(self) -> int | None:
        """The size of the published checkpoint, which carries the log's line and ours."""
        body = self.storage.objects.get(PUBLISHED)
        if body is None:
            return None
        opened = open_checkpoint(body, [SUM_KEY.verifier], origin=SUM_KEY.name)
        assert len(check_cosignatures(opened.note.signatures, [KEY.verifier], statement_of(opened.note.text))) == 1
        return opened.checkpoint.size


@pytest.mark.slow
async def test_all_tarballs_are_held() -> None:
    """The head is signed, with the log's line; each tarball is read once, later runs read what is new."""
    mirror = Mirror()
    mirror.log.log(*[publish(f"1.0.{at}") for at in range(300)])
    for at in range(300):
        hold(mirror.storage, f"1.0.{at}")
    found = await mirror.attest()
    assert (found.signed, found.is_new, found.is_complete, found.gaps) == (300, True, True, ())
    assert (mirror.signed, mirror.read) == (300, sum(len(bytes_of(f"1.0.{at}")) for at in range(300)))
    assert mirror.progress == [(300, 300)]
    mirror.log.log(publish("2.0.0"))
    hold(mirror.storage, "2.0.0", place=Place.QUARANTINE)
    assert (await mirror.attest()).signed == 301
    assert mirror.read == len(bytes_of("2.0.0"))
    assert (await mirror.attest()).looked == 301
    assert mirror.read == 0
    assert (await mirror.attest(begins_anew=True)).signed == 301
    assert mirror.read > 300


async def test_the_first_gap_is_named_and_the_largest_tree_before_it_is_signed() -> None:
    """Behind the gap nothing is; the head before it that the log signed is; and once it is filled, the newest one."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"), publish("1.0.1"))
    hold(mirror.storage, "1.0.0")
    found = await mirror.attest()
    assert (found.signed, found.looked, str(found.gaps[0])) == (
        None,
        2,
        "leaf 1, left-pad@1.0.1 of r.example: no tarball is held",
    )
    mirror.log.log(publish("1.0.2"), publish("1.0.3"))
    hold(mirror.storage, "1.0.1")
    hold(mirror.storage, "1.0.2")
    found = await mirror.attest()
    assert (found.head, found.signed, [gap.index for gap in found.gaps]) == (4, 2, [3])
    assert (mirror.signed, found.is_complete) == (2, False)
    hold(mirror.storage, "1.0.3")
    assert (await mirror.attest()).is_complete
    assert mirror.signed == 4


@pytest.mark.parametrize("event", [Event.UNPUBLISH, Event.SECURITY_HOLD, Event.CONFLICT])
async def test_nothing_is_said_of_what_was_withdrawn(event: Event) -> None:
    """A withdrawal closes the gap; trees between the two are never signed, since of them it was false."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"), publish("1.0.1"))
    hold(mirror.storage, "1.0.0")
    await mirror.attest()
    mirror.log.log(publish("1.0.2"))
    hold(mirror.storage, "1.0.2")
    assert (await mirror.attest()).signed is None
    mirror.log.log(withdraw("1.0.1", event))
    found = await mirror.attest()
    assert (found.signed, found.gaps) == (4, ())
    mirror.log.log(publish("1.0.1"))
    found = await mirror.attest()
    assert [gap.index for gap in found.gaps] == [4]
    assert mirror.signed == 4


async def test_between_a_gap_and_its_withdrawal_no_head_is_signed() -> None:
    """A head of two is kept, and a later gap makes the newest head unsignable: the old one is not taken instead."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"), publish("1.0.1"))
    hold(mirror.storage, "1.0.0")
    await mirror.attest()
    mirror.log.log(withdraw("1.0.1"), publish("1.0.2"))
    found = await mirror.attest()
    assert (found.signed, mirror.signed, [gap.index for gap in found.gaps]) == (None, None, [3])


@pytest.mark.parametrize("trusts_records", [False, True])
async def test_attack_other_bytes_are_held(trusts_records: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A tarball that is not the record's is a difference, and not only a gap; also one that was cut off or is gone."""
    mirror = Mirror()
    mirror.log.log(*[publish(f"1.0.{at}") for at in range(6)])
    hold(mirror.storage, "1.0.0", body=b"other bytes")
    hold(mirror.storage, "1.0.1", stored=b"x" * len(bytes_of("1.0.1")))
    mirror.storage.remove(hold(mirror.storage, "1.0.2"))
    hold(mirror.storage, "1.0.3", damaged=True)
    hold(mirror.storage, "1.0.4", place=Place.PURGED)
    hold(mirror.storage, "1.0.5", stored=b"short")
    found = await mirror.attest(trusts_records=trusts_records)
    differing = [0] if trusts_records else [0, 1, 5]
    assert [gap.index for gap in found.gaps if gap.differs] == differing
    assert [gap.index for gap in found.gaps] == ([0, 2, 3, 4, 5] if trusts_records else [0, 1, 2, 3, 4, 5])
    assert (mirror.signed, mirror.read > 0) == (None, not trusts_records)


async def test_a_record_with_a_wrong_size_is_a_difference() -> None:
    """The bytes have the digest, and not the length that the record says."""
    mirror = Mirror()
    mirror.log.log(replace(publish("1.0.0"), tarball_size=7))
    hold(mirror.storage, "1.0.0")
    (gap,) = (await mirror.attest()).gaps
    assert gap.differs
    assert "the record says 7" in gap.why


async def test_attack_a_log_that_forks_between_two_runs() -> None:
    """Its new head does not go on from the one that was seen: evidence, and nothing is signed."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"), publish("1.0.1"))
    hold(mirror.storage, "1.0.0")
    await mirror.attest()
    forked = SumLog().log(publish("1.0.0"), publish("6.6.6"), publish("1.0.2"))
    mirror.log = forked
    with pytest.raises(ProofError, match="forked"):
        await mirror.attest()
    forked.size = 2
    with pytest.raises(ProofError, match="forked"):
        await mirror.attest()
    assert [len(fork.proof) > 0 for fork in mirror.forks] == [True, False]
    forked.size = 1
    with pytest.raises(UpstreamStaleError, match="shows size 1"):
        await mirror.attest()
    assert mirror.signed is None


async def test_entries_that_are_no_records_are_named() -> None:
    """Of another log nothing can be said."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"))
    mirror.log.records.append(b"something else")
    mirror.log.size = 2
    hold(mirror.storage, "1.0.0")
    with pytest.raises(UpstreamProtocolError, match="leaf 1 is no record"):
        await mirror.attest()


async def test_a_run_that_loses_the_swap_stops() -> None:
    """Another one is under way; what that one wrote stays."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"))
    hold(mirror.storage, "1.0.0")
    mirror.storage.fail_before("put", STATE, PreconditionFailedError("lost"))
    with pytest.raises(PreconditionFailedError):
        await mirror.attest()
    assert (await mirror.attest()).signed == 1


@pytest.mark.slow
async def test_a_mirror_of_something_else_is_not_walked_to_the_end() -> None:
    """After `MAX_GAPS` open gaps no further record is looked at."""
    mirror = Mirror()
    mirror.log.log(*[publish(f"1.0.{at}") for at in range(MAX_GAPS + 100)])
    hold(mirror.storage, "1.0.0")
    found = await mirror.attest()
    assert (found.looked, len(found.gaps), found.head) == (MAX_GAPS + 1, MAX_GAPS, MAX_GAPS + 100)
    assert (await mirror.attest()).looked == MAX_GAPS + 1


@pytest.mark.parametrize("body", [b"", b"{}", b'{"origin":"other"}', b'{"origin":"sum.example","position":-1}'])
async def test_a_damaged_state_is_refused(body: bytes) -> None:
    """Until somebody deletes it; then everything is read anew."""
    mirror = Mirror()
    mirror.log.log(publish("1.0.0"))
    hold(mirror.storage, "1.0.0")
    mirror.storage.set_bytes(STATE, body)
    with pytest.raises(StorageRefusedError, match="read anew"):
        await mirror.attest()
    mirror.storage.remove(STATE)
    assert (await mirror.attest()).signed == 1


def head_of(size: int) -> Pending:
    """Return a head with any root."""
    tree = Checkpoint(SUM_KEY.name, size, Hash(bytes(32)))
    return Pending(size, tree.root, sign_note(tree.text, [SUM_KEY]))


def test_heads_that_are_kept_are_spread() -> None:
    """The first and the newest stay, and of the others those that are far from each other."""
    holdings = Holdings(origin=SUM_KEY.name)
    for size in range(1, 200):
        holdings = add_head(holdings, head_of(size), signed=0)
    sizes = [int(note.split("\n")[1]) for note in holdings.heads]
    assert (len(sizes), sizes[0], sizes[-1]) == (KEPT_HEADS, 1, 199)
    assert sizes == sorted(set(sizes))
    newest = newest_head(holdings)
    assert newest is not None
    assert newest.size == 199
    assert [note.split("\n")[1] for note in add_head(holdings, head_of(200), signed=200).heads] == ["200"]
    assert newest_head(Holdings(origin="x")) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3"]),
        st.sampled_from([Event.PUBLISH, Event.PUBLISH, Event.UNPUBLISH, Event.CONFLICT]),
        st.booleans(),
    ),
    max_size=12,
)


def is_true_at(size: int, steps: Sequence[tuple[str, Event, bool]], held: set[str]) -> bool:
    """Say from the whole history whether the statement holds for a tree: the definition, word for word."""
    newest = {version: event for version, event, _ in steps[:size]}
    return all(event is not Event.PUBLISH or version in held for version, event in newest.items())


@pytest.mark.slow
@given(steps=STEPS, filled=st.sets(st.sampled_from(["1", "2", "3"])))
def test_what_may_be_signed_is_true_by_the_definition(steps: list[tuple[str, Event, bool]], filled: set[str]) -> None:
    """Of all heads the largest that is found fulfils the definition, with what is held in the end."""
    held = {version for version, _, is_held in steps if is_held}
    holdings = Holdings(origin=SUM_KEY.name)
    for version, event, _ in steps:
        record = publish(version, event=event)
        text = format_record(record).decode()
        gap = None if version in held else Gap(index=holdings.position, record=text, why="missing")
        holdings = take_records(holdings, [Taken(record, gap)])
    for size in range(len(steps) + 1):
        holdings = add_head(holdings, head_of(size), signed=0)
    looked = {gap.index: None for gap in holdings.gaps if gap.parsed.version in filled}
    holdings = close_gaps(holdings, looked)
    body = msgspec.json.encode(holdings)
    assert parse_holdings(body, origin=SUM_KEY.name, key="k") == holdings
    found = find_signable(holdings)
    if found is not None:
        assert is_true_at(found.size, steps, held | filled)
    if is_true_at(len(steps), steps, held | filled):
        assert found is not None
        assert found.size == len(steps)
