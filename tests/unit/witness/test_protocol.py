"""What logs send to a witness: a request written by hand, what is no request, and what the answers are."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.merkle import EMPTY_ROOT, MAX_PROOF_HASHES, Hash
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.witness.protocol import (
    ANSWERS,
    SIZE_TYPE,
    AddCheckpoint,
    Answer,
    Reason,
    SignSubtree,
    answer,
    format_add_checkpoint,
    format_sign_subtree,
    parse_add_checkpoint,
    parse_sign_subtree,
)
from tests.unit.witness.world import LOG

NOTE = LOG.note(13)
HASH = b"A" * 43 + b"=\n"
ZERO = Hash(bytes(32))


def test_a_request_that_was_written_by_hand_is_read_and_written_as_it_is() -> None:
    """It has these values, and formatting them gives back its bytes; whose the lines are is another matter."""
    body = (
        "old 69995\n"
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        "//////////////////////////////////////////8=\n"
        "\n"
        "log.example.com/golden-tree\n"
        "70000\n"
        "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=\n"
        "\n"
        "\N{EM DASH} log.example.com/golden-tree AAAAAAEC\n"
        "\N{EM DASH} witness.example.com/w1 AAAAAQM=\n"
    ).encode()
    found = parse_add_checkpoint(body)
    assert (found.old, found.proof) == (69_995, (EMPTY_ROOT, ZERO, Hash(b"\xff" * 32)))
    assert found.checkpoint == Checkpoint("log.example.com/golden-tree", 70_000, Hash(b"*" * 32))
    assert [line.value for line in found.note.signatures] == [b"\x01\x02", b"\x03"]
    _, _, note = body.partition(b"\n\n")
    assert format_add_checkpoint(found.old, found.proof, note) == body


def test_a_request_without_a_proof() -> None:
    """The old size and the note are enough; extension lines are a part of the note."""
    body = b"old 0\n\n" + LOG.note(5, "an extension")
    note = parse_note(LOG.note(5, "an extension"))
    assert parse_add_checkpoint(body) == AddCheckpoint(0, (), note, LOG.tree(5, "an extension"))
    assert format_add_checkpoint(0, (), LOG.note(5, "an extension")) == body


def test_63_hashes_are_a_proof_and_64_are_not() -> None:
    """SPEC: "The client MUST NOT send more than 63 consistency proof lines"."""
    body = format_add_checkpoint(1, [ZERO] * MAX_PROOF_HASHES, NOTE)
    assert len(parse_add_checkpoint(body).proof) == 63
    with pytest.raises(UpstreamProtocolError, match="the proof has 64 hashes, more than 63"):
        parse_add_checkpoint(format_add_checkpoint(1, [ZERO] * (MAX_PROOF_HASHES + 1), NOTE))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "expected lines, an empty line, and a checkpoint"),
        (b"old 5\n", "expected lines, an empty line, and a checkpoint"),
        (b"old 5\r\n\r\n" + NOTE, "old size"),
        (b"\n\n" + NOTE, "the first line is ''"),
        (b"\nold 5\n\n" + NOTE, "the first line is ''"),
        (b"old\n\n" + NOTE, "the first line is 'old'"),
        (b"old  5\n\n" + NOTE, "old size ' 5'"),
        (b"Old 5\n\n" + NOTE, "the first line is 'Old 5'"),
        (b"old 05\n\n" + NOTE, "old size '05'"),
        (b"old +5\n\n" + NOTE, "old size"),
        (b"old -5\n\n" + NOTE, "old size"),
        (b"old 5 x\n\n" + NOTE, "old size"),
        (b"old 5 \n\n" + NOTE, "old size"),
        (b"old \n\n" + NOTE, "old size ''"),
        (b"old 9223372036854775808\n\n" + NOTE, "below 2\\^63"),
        ("old \N{ARABIC-INDIC DIGIT FIVE}\n\n".encode() + NOTE, "not ASCII"),
        (b"old 5\nAAAA\n\n" + NOTE, "proof hash 'AAAA': expected base64 of 32 bytes"),
        (b"old 5\n" + b"A" * 43 + b"\n\n" + NOTE, "proof hash"),
        (b"old 5\n" + b"A" * 42 + b"B=\n\n" + NOTE, "proof hash"),
        (b"old 5\n " + HASH + b"\n" + NOTE, "proof hash"),
        (b"old 5\n" + HASH + NOTE, "proof hash"),
        (b"old 5\n\n", "expected text"),
        (b"old 5\n\n" + NOTE[:-1], "expected text"),
        (b"old 5\n\n\n" + NOTE, "checkpoint"),
        (b"old 5\n\n" + LOG.tree(13).text, "expected text"),
        (b"old 5\n\n" + NOTE.replace(b"\n13\n", b"\n013\n"), "tree size"),
        (b"old 5\n\n" + NOTE.replace(b"\n13\n", b"\n9223372036854775808\n"), "tree size"),
        (b"old 5\n\n" + NOTE.replace(b"log.example/a\n13", b"log.example/a\n\t13"), "control character"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, said: str) -> None:
    """One error type, which says what is wrong."""
    with pytest.raises(UpstreamProtocolError, match=said):
        parse_add_checkpoint(body)


def test_a_request_for_a_subtree_is_read_and_written_as_it_is() -> None:
    """Formatting what was parsed gives back the bytes."""
    body = format_sign_subtree(8, 13, LOG.root(8, 13), LOG.subtree_proof(8, 13, 14), LOG.note(14))
    found = parse_sign_subtree(body)
    assert found == SignSubtree(
        8,
        13,
        LOG.root(8, 13),
        tuple(LOG.subtree_proof(8, 13, 14)),
        parse_note(LOG.note(14)),
        LOG.tree(14),
    )
    assert format_sign_subtree(found.start, found.end, found.subtree, found.proof, LOG.note(14)) == body


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"subtree 8 13\n", "expected a line `subtree <start> <end>`, and then the subtree's hash"),
        (b"subtree 8\n" + HASH, "expected a line `subtree <start> <end>`"),
        (b"subtree 8 13 \n" + HASH, "expected a line `subtree <start> <end>`"),
        (b"subtree 08 13\n" + HASH, "subtree bound '08'"),
        (b"subtree 8 013\n" + HASH, "subtree bound '013'"),
        (b"old 8\n" + HASH, "the first line is 'old 8'"),
        (b"subtree 8 13\nAAAA\n", "subtree hash 'AAAA'"),
        (b"subtree 8 13\n" + HASH + b"AAAA\n", "proof hash 'AAAA'"),
        (b"subtree 8 13\n" + HASH * 65, "the proof has 64 hashes"),
        (b"subtree 8 14\n" + HASH, r"\[8, 14\) is not a valid subtree of a tree of 13 entries"),
        (b"subtree 9 13\n" + HASH, r"\[9, 13\) is not a valid subtree"),
        (b"subtree 13 8\n" + HASH, r"\[13, 8\) is not a valid subtree"),
    ],
)
def test_what_is_no_request_for_a_subtree_is_refused(head: bytes, said: str) -> None:
    """The range has to be a subtree of the checkpoint: SPEC wants a 400 for it."""
    with pytest.raises(UpstreamProtocolError, match=said):
        parse_sign_subtree(head + b"\n" + NOTE)


def test_the_statuses() -> None:
    """The specification's, and 413, 429 and 503 of ours; each reason has one."""
    assert {reason.value: status for reason, status in ANSWERS.items()} == {
        "malformed": 400,
        "too-large": 413,
        "unknown-log": 404,
        "disabled-log": 404,
        "not-signed": 403,
        "extension-lines": 400,
        "old-above-size": 400,
        "stale": 409,
        "empty-root": 422,
        "other-root": 422,
        "proof": 422,
        "rate": 429,
        "clock": 503,
        "rolled-back": 503,
        "stopped": 503,
        "storage": 503,
    }
    assert set(ANSWERS) == set(Reason)
    assert SIZE_TYPE == "text/x.tlog.size"


def test_an_answer_that_says_no() -> None:
    """It has one sentence for a person, and the pause where there is one."""
    given = answer(Reason.RATE, "too often", retry_after=3)
    assert given == Answer(429, b"too often\n", "text/plain; charset=utf-8", Reason.RATE, 3)
