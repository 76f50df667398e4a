"""The lab: logs that follow from a seed, grow, fork and sign."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError, ProofError, SignatureError
from mirrorwitness.tlog.checkpoint import open_checkpoint, parse_checkpoint
from mirrorwitness.tlog.cosignature import check_cosignatures
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    check_consistency,
    check_inclusion,
    check_subtree,
    root_of,
)
from mirrorwitness.tlog.note import Signature, parse_note
from mirrorwitness.witness.lab import (
    MAX_LAB_SIZE,
    ML_DSA_VALUE_BYTES,
    LabLog,
    add_lines,
    break_line,
    make_log,
    sign_line,
    statement_of,
    stranger_lines,
)

SEED = bytes(range(32))
SIZES = (0, 1, 2, 3, 5, 8, 13, 21)


@pytest.fixture
def log() -> LabLog:
    return make_log(SEED, "a")


def test_a_log_follows_from_seed_and_name(log: LabLog) -> None:
    """Made again it is the same; another seed or another name is another log with other keys."""
    again, other, later = make_log(SEED, "a"), make_log(SEED, "b"), make_log(bytes(32), "a")
    assert (again.origin, again.keys, again.root(7)) == (log.origin, log.keys, log.root(7))
    assert log.origin == "conformance.example/630dcd29/a"
    assert log.keys[0].name == log.origin
    assert len({each.origin for each in (log, other, later)}) == 3
    assert len({each.keys[0].seed for each in (log, other, later)}) == 3
    assert len({each.root(7) for each in (log, other, later)}) == 3


def test_the_keys_of_one_log_differ() -> None:
    """Each key has the type that was asked for, and a seed of its own."""
    log = make_log(SEED, "a", KeyType.ED25519, KeyType.ML_DSA_44, KeyType.ED25519)
    kinds = [key.verifier.kind for key in log.keys]
    assert kinds == [KeyType.ED25519, KeyType.ML_DSA_44, KeyType.ED25519]
    assert len({key.seed for key in log.keys}) == 3


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_has_32_bytes(length: int) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match=f"32 bytes, not {length}"):
        make_log(bytes(length), "a")


def test_roots_are_those_of_the_entries(log: LabLog) -> None:
    """The tree over the hashes of all entries, computed without nodes."""
    assert [log.root(size) for size in SIZES] == [root_of([log.leaf(i) for i in range(size)]) for size in SIZES]
    assert log.root(0) == EMPTY_ROOT


def test_no_log_is_larger_than_the_lab(log: LabLog) -> None:
    """So that a size which a witness invents does not keep us busy."""
    with pytest.raises(ConfigurationError, match="at most"):
        log.root(MAX_LAB_SIZE + 1)


def test_growth_is_proven(log: LabLog) -> None:
    """Every consistency, inclusion and subtree proof is one."""
    for new in SIZES:
        for old in (size for size in SIZES if size <= new):
            check_consistency(
                log.proof(old, new), old_size=old, old_root=log.root(old), new_size=new, new_root=log.root(new)
            )
        for index in range(new):
            check_inclusion(
                log.inclusion_proof(index, new), index=index, size=new, leaf=log.leaf(index), root=log.root(new)
            )
    check_subtree(log.subtree_proof(8, 13, 21), start=8, end=13, subtree=log.subtree(8, 13), size=21, root=log.root(21))


def test_a_fork_shares_the_first_entries_and_the_keys(log: LabLog) -> None:
    """It is one log up to there, and a split view behind it."""
    fork = log.fork(5)
    assert (fork.origin, fork.keys) == (log.origin, log.keys)
    assert [fork.entry(i) == log.entry(i) for i in range(8)] == [True] * 5 + [False] * 3
    assert fork.root(5) == log.root(5)
    assert fork.root(6) != log.root(6)
    with pytest.raises(ProofError):
        check_consistency(fork.proof(6, 8), old_size=6, old_root=log.root(6), new_size=8, new_root=fork.root(8))


def test_forks_of_other_names_differ_and_fork_again(log: LabLog) -> None:
    """Names tell forks of one size apart; a fork of a fork shares what both share."""
    one, two = log.fork(3, "one"), log.fork(3, "two")
    assert len({one.root(4), two.root(4), log.root(4)}) == 3
    deep = one.fork(6, "deep")
    assert (deep.root(6), deep.root(7) == one.root(7)) == (one.root(6), False)


def test_checkpoints_open_under_the_first_key(log: LabLog) -> None:
    """Text, size, root and extension lines are what was asked for."""
    opened = open_checkpoint(log.checkpoint(5, "more"), [log.keys[0].verifier], origin=log.origin)
    checkpoint = opened.checkpoint
    assert (checkpoint.size, checkpoint.root, checkpoint.extension) == (5, log.root(5), ("more",))
    assert opened.note.text == log.text(5, "more")


def test_an_ml_dsa_log_signs_its_tree() -> None:
    """The line carries the time that was given."""
    log = make_log(SEED, "a", KeyType.ML_DSA_44)
    opened = open_checkpoint(log.checkpoint(5, timestamp=77), [log.keys[0].verifier], origin=log.origin)
    assert int.from_bytes(opened.note.signatures[0].value[:8]) == 77
    assert len(opened.note.signatures[0].value) == ML_DSA_VALUE_BYTES


def test_a_cosigner_s_key_signs_too(log: LabLog) -> None:
    """A test can play the witness with `sign_line`."""
    witness = make_log(SEED, "w", KeyType.COSIGNATURE).keys[0]
    text = log.text(5)
    (found,) = check_cosignatures([sign_line(witness, text, 9)], [witness.verifier], statement_of(text))
    assert (found.timestamp, statement_of(text).end) == (9, 5)


def test_any_text_can_be_signed_by_any_keys() -> None:
    """A malformed checkpoint is still a note, under as many lines as there are keys."""
    log = make_log(SEED, "a", KeyType.ED25519, KeyType.ED25519)
    note = parse_note(log.sign(b"no checkpoint\n", *log.keys))
    assert [line.is_of(key.verifier) for line, key in zip(note.signatures, log.keys, strict=True)] == [True, True]


def test_lines_are_added_on_either_side(log: LabLog) -> None:
    """The text stays as it was, and so does the log's line."""
    note = log.checkpoint(3)
    (own,) = parse_note(note).signatures
    one, two = stranger_lines(2, 64)
    assert parse_note(add_lines(note, one, two)).signatures == (own, one, two)
    assert parse_note(add_lines(note, one, two, first=True)).signatures == (one, two, own)
    assert parse_note(add_lines(note, one, first=True)).text == log.text(3)


def test_a_broken_line_is_a_claim_that_fails(log: LabLog) -> None:
    """Name and ID are the log's, the signature is not."""
    note = log.checkpoint(3)
    broken = break_line(note)
    assert broken.is_of(log.keys[0].verifier)
    with pytest.raises(SignatureError):
        open_checkpoint(add_lines(note, broken), [log.keys[0].verifier], origin=log.origin)


def test_strangers_have_the_length_that_is_asked_for() -> None:
    """And names, IDs and bytes of their own, the same each time."""
    lines = stranger_lines(3, ML_DSA_VALUE_BYTES)
    assert lines == stranger_lines(3, ML_DSA_VALUE_BYTES)
    assert [len(line.key_id + line.value) for line in lines] == [2432] * 3
    assert len({Signature("", line.key_id, line.value) for line in lines}) == 3


def test_reprs_name_the_log_and_its_forks(log: LabLog) -> None:
    """For messages of failing tests; no key is in them."""
    assert repr(log.fork(3, "one").fork(5, "two")) == f"<LabLog {log.origin}, forked at 3 (one), forked at 5 (two)>"
    assert parse_checkpoint(log.text(2)).origin in repr(log)
