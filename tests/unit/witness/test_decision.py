"""The one decision: each check of the specification, in its order; forks and rollbacks are noticed on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.cosignature import Cosignature
from mirrorwitness.tlog.merkle import EMPTY_ROOT, Hash
from mirrorwitness.tlog.note import Note, format_lines
from mirrorwitness.witness.decision import NEVER, Accepted, Latest, Refused, decide
from mirrorwitness.witness.protocol import AddCheckpoint, Reason, format_add_checkpoint, parse_add_checkpoint
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    LOG_PQ,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    Log,
    cosign,
    forge,
    make_note,
    sign,
)

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey
    from mirrorwitness.tlog.note import Signature

FORK = LOG.fork(6)
OWN = (OURS.verifier, OURS_PQ.verifier)
TEN = Latest(10, LOG.root(0, 10))
BOTH = Log(LOG_KEY, LOG_PQ)


def judge(body: bytes, latest: Latest = TEN, log: Log = LOG, *, refuses: bool = False) -> Accepted | Refused:
    """Decide about a request."""
    known = log.witnessed
    if refuses:
        known = type(known)(known.origin, known.keys, refuses_extensions=True)
    return decide(parse_add_checkpoint(body), known, latest, OWN, timestamp=START)


def refuse(body: bytes, latest: Latest = TEN, log: Log = LOG, *, refuses: bool = False) -> Refused:
    """Decide about a request that is refused."""
    verdict = judge(body, latest, log, refuses=refuses)
    assert isinstance(verdict, Refused)
    return verdict


def signed_root(size: int, root: Hash) -> bytes:
    """Return a checkpoint of some root that the log signed."""
    tree = Checkpoint(LOG.origin, size, root)
    return make_note(tree, sign(LOG_KEY, tree.text))


@pytest.mark.parametrize(
    ("old", "new", "latest"),
    [
        (0, 0, NEVER),
        (0, 1, NEVER),
        (0, 40, NEVER),
        (10, 10, TEN),
        (10, 11, TEN),
        (10, 40, TEN),
        (0, 5, Latest(0, EMPTY_ROOT)),
    ],
)
def test_a_tree_that_grew_is_accepted(old: int, new: int, latest: Latest) -> None:
    """From nothing, from nothing to nothing, by some entries, or not at all."""
    verdict = judge(LOG.request(old, new), latest)
    assert isinstance(verdict, Accepted)
    assert verdict.opened.checkpoint == LOG.tree(new)


@pytest.mark.parametrize("old", range(1, 20))
def test_any_size_leads_to_any_larger_one(old: int) -> None:
    """Proofs of all shapes are accepted, and those of a fork are not."""
    for new in range(old, 24):
        latest = Latest(old, LOG.root(0, old))
        assert isinstance(judge(LOG.request(old, new), latest), Accepted)
        verdict = judge(FORK.request(old, new), latest)
        assert isinstance(verdict, Accepted) == (old <= 6)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (cosign(STRANGER, LOG.tree(12).text, START),),
        (forge(sign(LOG_KEY, LOG.tree(12).text)),),
        (sign(LOG_KEY, LOG.tree(12).text), forge(sign(LOG_KEY, LOG.tree(12).text))),
        (forge(sign(LOG_KEY, LOG.tree(12).text)), sign(LOG_KEY, LOG.tree(12).text)),
        (sign(LOG_KEY, LOG.tree(11).text),),
    ],
)
def test_without_a_signature_of_the_log_nothing_else_is_looked_at(lines: tuple[Signature, ...]) -> None:
    """No line, strangers' only, one that does not verify, also beside a good one: 403 before all sizes."""
    request = AddCheckpoint(99, (), Note(LOG.tree(12).text, lines), LOG.tree(12))
    verdict = decide(request, LOG.witnessed, TEN, OWN, timestamp=START)
    assert isinstance(verdict, Refused)
    assert (verdict.reason, verdict.fork, verdict.ours) == (Reason.NOT_SIGNED, None, None)


def test_any_key_of_the_log_is_enough_and_all_have_to_verify() -> None:
    """Rotation of a log's key: of two keys one signs, or both; a bad line of either is refused."""
    only_new = Log(LOG_PQ).request(10, 12)
    assert isinstance(judge(only_new, log=BOTH), Accepted)
    assert isinstance(judge(BOTH.request(10, 12), log=BOTH), Accepted)
    bad = only_new + format_lines([forge(sign(LOG_KEY, LOG.tree(12).text))])
    assert refuse(bad, log=BOTH).reason is Reason.NOT_SIGNED


def test_extension_lines_are_taken_or_refused() -> None:
    """Taken as the specification says, unless the operator does not want them."""
    body = LOG.request(10, 12, "an extension")
    assert isinstance(judge(body), Accepted)
    assert refuse(body, refuses=True).reason is Reason.EXTENSION_LINES
    assert isinstance(judge(LOG.request(10, 12), refuses=True), Accepted)


def test_old_above_the_size() -> None:
    """400, whatever the latest size is."""
    verdict = refuse(LOG.request(13, 12))
    assert (verdict.reason, verdict.text, verdict.fork) == (
        Reason.OLD_ABOVE_SIZE,
        "old size 13 is above the size 12",
        None,
    )


@pytest.mark.parametrize(("old", "latest"), [(0, TEN), (9, TEN), (11, TEN), (5, NEVER)])
def test_an_old_size_that_is_not_ours(old: int, latest: Latest) -> None:
    """409 with the size that we have, also where we have none."""
    verdict = refuse(LOG.request(old, 12), latest)
    assert (verdict.reason, verdict.text) == (Reason.STALE, f"{latest.size}")


def test_size_0_has_the_root_of_the_empty_tree() -> None:
    """Any other root is refused."""
    body = format_add_checkpoint(0, (), signed_root(0, Hash(bytes(32))))
    assert refuse(body, NEVER).reason is Reason.EMPTY_ROOT


@pytest.mark.parametrize(
    ("latest", "body"),
    [
        (NEVER, format_add_checkpoint(0, [LOG.root(0, 1)], LOG.note(12))),
        (TEN, format_add_checkpoint(10, [], LOG.note(12))),
        (TEN, format_add_checkpoint(10, LOG.proof(10, 12)[:-1], LOG.note(12))),
        (TEN, format_add_checkpoint(10, [*LOG.proof(10, 12), LOG.root(0, 1)], LOG.note(12))),
        (TEN, format_add_checkpoint(10, LOG.proof(10, 13), LOG.note(12))),
        (TEN, format_add_checkpoint(10, [LOG.root(0, 1)], LOG.note(10))),
        (TEN, format_add_checkpoint(10, FORK.proof(10, 12), FORK.note(12))),
    ],
)
def test_a_proof_that_proves_nothing(latest: Latest, body: bytes) -> None:
    """For nothing, missing, of another length or size, for the same size, of a fork: 422, and no evidence."""
    verdict = refuse(body, latest)
    assert (verdict.reason, verdict.fork) == (Reason.PROOF, None)


@pytest.mark.parametrize(
    ("old", "reason"), [(10, Reason.OTHER_ROOT), (9, Reason.STALE), (0, Reason.STALE), (11, Reason.OLD_ABOVE_SIZE)]
)
def test_fork_of_the_same_size_is_noticed_wherever_it_is_refused(old: int, reason: Reason) -> None:
    """Another root at the size that we cosigned: the log signed both, whatever the old size says."""
    verdict = refuse(format_add_checkpoint(old, (), FORK.note(10)))
    assert verdict.reason is reason
    assert verdict.fork is not None
    assert verdict.fork.checkpoint == FORK.tree(10)


def test_fork_with_a_proof_is_a_fork() -> None:
    """The root is looked at before the proof."""
    verdict = refuse(format_add_checkpoint(10, [LOG.root(0, 1)], FORK.note(10)))
    assert (verdict.reason, verdict.fork is not None) == (Reason.OTHER_ROOT, True)


def test_two_roots_of_size_0_are_no_fork() -> None:
    """A root of nothing proves nothing: it is refused for what it is."""
    latest = Latest(0, EMPTY_ROOT)
    verdict = refuse(format_add_checkpoint(0, (), signed_root(0, LOG.root(0, 1))), latest)
    assert (verdict.reason, verdict.fork) == (Reason.EMPTY_ROOT, None)


@pytest.mark.parametrize("key", [OURS, OURS_PQ])
@pytest.mark.parametrize(("log", "size", "old"), [(LOG, 12, 10), (LOG, 12, 0), (LOG, 12, 99), (FORK, 10, 10)])
def test_rollback_our_own_line_on_a_tree_that_we_do_not_know(key: SignerKey, log: Log, size: int, old: int) -> None:
    """P7: larger, or of our size with another root: whatever else is wrong, the state is too old."""
    line = cosign(key, log.tree(size).text, START)
    verdict = refuse(log.request(old, size, more=[line]))
    assert verdict.reason is Reason.ROLLED_BACK
    assert verdict.fork is None
    assert verdict.ours is not None
    opened, ours = verdict.ours
    assert opened.checkpoint == log.tree(size)
    assert ours == (Cosignature(key.verifier, START, line),)


@pytest.mark.parametrize("size", [10, 7, 0])
def test_rollback_our_own_line_of_a_time_that_we_do_not_know(size: int) -> None:
    """P7: on a tree that the state knows, and later than all that it knows of: it was restored meanwhile."""
    late = cosign(OURS, LOG.tree(size).text, START + 1)
    verdict = refuse(LOG.request(10, size, more=[cosign(OURS_PQ, LOG.tree(size).text, START), late]))
    assert verdict.reason is Reason.ROLLED_BACK
    assert f"of the time {START + 1}, and the state knows of size 10 and the time {START}" in verdict.text


@pytest.mark.parametrize("size", [10, 7])
def test_our_own_line_on_a_tree_that_we_know_is_nothing(size: int) -> None:
    """Logs send back what they collected."""
    line = cosign(OURS, LOG.tree(size).text, START)
    verdict = judge(LOG.request(10, size, more=[line]))
    assert not isinstance(verdict, Refused) or verdict.reason is Reason.OLD_ABOVE_SIZE


@pytest.mark.parametrize(
    "line",
    [
        forge(cosign(OURS, LOG.tree(12).text, START)),
        cosign(OURS, LOG.tree(11).text, START),
        cosign(STRANGER, LOG.tree(12).text, START),
    ],
)
def test_forged_lines_of_ours_are_noise(line: Signature) -> None:
    """Whoever writes our name under something cannot halt a log."""
    assert isinstance(judge(LOG.request(10, 12, more=[line])), Accepted)


def test_rollback_needs_the_log_s_signature() -> None:
    """Nobody but the log and us can halt it."""
    note = make_note(LOG.tree(12), cosign(OURS, LOG.tree(12).text, START))
    body = format_add_checkpoint(10, LOG.proof(10, 12), note)
    assert refuse(body).reason is Reason.NOT_SIGNED
