"""What a witness remembers of a log: keys, records and published checkpoints, and what agrees with what."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
import pytest

from mirrorwitness.errors import RolledBackError
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.note import MAX_SIGNATURES, format_lines, parse_note
from mirrorwitness.witness.decision import NEVER, Latest
from mirrorwitness.witness.records import (
    WAY_OUT,
    LogRecord,
    Published,
    check_not_behind,
    check_not_older,
    format_cosigned,
    make_record,
    open_published,
    parse_record,
    public_key,
    record_key,
)
from tests.unit.witness.world import LOG, LOG_KEY, LOG_PQ, OTHER, OURS, OURS_PQ, START, STRANGER, Log, cosign, sign

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey
    from mirrorwitness.tlog.note import Signature

OWN = (OURS.verifier, OURS_PQ.verifier)
FORK = LOG.fork(6)


def cosigned(size: int, timestamp: int = START, *keys: SignerKey, log: Log = LOG) -> bytes:
    """Return a checkpoint that we cosigned."""
    text = log.tree(size).text
    return log.note(size, more=[cosign(key, text, timestamp) for key in keys or (OURS,)])


def record(size: int, timestamp: int = START, *, log: Log = LOG, before: tuple[int, int] = (0, 0)) -> LogRecord:
    """Return the record of a checkpoint that we cosigned."""
    note = cosigned(size, timestamp, log=log)
    return make_record(log.tree(size), timestamp=timestamp, note=note, before=before)


def published(size: int, timestamp: int = START, *, log: Log = LOG) -> Published:
    """Return a checkpoint of ours as it is found somewhere."""
    return open_published(cosigned(size, timestamp, log=log), origin=log.origin, where="there", own=OWN)


def test_keys() -> None:
    """The specification's path for monitors, and ours for the record."""
    digest = origin_hash(LOG.origin)
    assert public_key(LOG.origin) == f"witness/{digest}/checkpoint"
    assert record_key(LOG.origin) == f"state/witness/logs/{digest}.json"


def test_a_record_is_read_as_it_was_written() -> None:
    """With everything that a decision needs."""
    made = record(10, before=(7, START - 5))
    assert parse_record(msgspec.json.encode(made), origin=LOG.origin) == made
    assert made == LogRecord(
        origin="log.example/a",
        size=10,
        root=base64.b64encode(LOG.root(0, 10)).decode(),
        timestamp=START,
        checkpoint=cosigned(10).decode(),
        before=(7, START - 5),
    )
    assert made.latest == Latest(10, LOG.root(0, 10))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'{"origin":"log.example/a","size":10}',
        b'{"origin":"log.example/a","size":"10","root":"AAAA","timestamp":1}',
        b'{"origin":"log.example/a","size":10,"root":"AAAA","timestamp":1}',
        b"\xff",
    ],
)
def test_a_damaged_record_is_no_record(body: bytes) -> None:
    """It is not taken for nothing: what was signed cannot be told, and the message names the way out."""
    with pytest.raises(RolledBackError, match=r"the record of 'log\.example/a' is damaged: .*witness adopt.*retire"):
        parse_record(body, origin=LOG.origin)


def test_a_record_of_another_log_is_refused() -> None:
    """Objects that changed places are noticed."""
    with pytest.raises(RolledBackError, match=r"the record of 'log\.example/b' is that of 'log\.example/a'"):
        parse_record(msgspec.json.encode(record(10)), origin=OTHER.origin)


def test_a_published_checkpoint_is_read() -> None:
    """With the latest of our cosignatures, whichever of our keys made it."""
    text = LOG.tree(10).text
    lines = [cosign(OURS, text, START), cosign(OURS_PQ, text, START + 9), cosign(STRANGER, text, START + 99)]
    body = LOG.note(10, more=lines)
    found = open_published(body, origin=LOG.origin, where="there", own=OWN)
    assert found == Published("there", LOG.tree(10), START + 9, body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "there: what is published for 'log.example/a' is damaged"),
        (cosigned(10)[:-5], "there: what is published for 'log.example/a' is damaged"),
        (b"text\n\n" + cosigned(10).partition(b"\n\n")[2], "there: what is published for 'log.example/a' is damaged"),
        (LOG.note(10), "carries no cosignature of witness.example/w1, witness.example/w1"),
        (cosigned(10, START, STRANGER), "this is the storage of another witness, or it is damaged"),
        (cosigned(10, log=OTHER), "carries no cosignature of witness.example/w1"),
        (cosigned(10).replace(LOG.note(10), LOG.note(11)), "carries no cosignature"),
    ],
)
def test_what_is_published_has_to_be_ours(body: bytes, said: str) -> None:
    """Damaged, without our line, of another log, or with a line that is not on it: nobody can say what we signed."""
    with pytest.raises(RolledBackError, match=said) as caught:
        open_published(body, origin=LOG.origin, where="there", own=OWN)
    assert WAY_OUT in str(caught.value)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (None, None),
        (record(10), None),
        (record(10), published(10)),
        (record(10, START + 5), published(10)),
        (record(10, before=(7, START)), published(7, START)),
        (record(10, before=(7, START)), published(5, START - 9)),
        (record(0), published(0)),
    ],
)
def test_what_agrees(state: LogRecord | None, shown: Published | None) -> None:
    """Nothing shown, the record's tree at its time or earlier, or what the record replaced, or anything before that."""
    latest = NEVER if state is None else state.latest
    assert check_not_behind(state, shown, origin=LOG.origin) == latest


@pytest.mark.parametrize(
    ("state", "shown", "known"),
    [
        (None, published(10), "nothing"),
        (None, published(0), "nothing"),
        (record(10), published(10, START + 5), "size 10"),
        (record(10), published(12), "size 10"),
        (record(10), published(10, log=FORK), "size 10"),
        (record(10, before=(7, START)), published(8), "size 10"),
        (record(10, before=(7, START)), published(7, START + 1), "size 10"),
        (record(12, before=(10, START)), published(10, START + 1, log=FORK), "size 12"),
    ],
)
def test_rollback_is_what_the_state_cannot_explain(state: LogRecord | None, shown: Published, known: str) -> None:
    """Larger, as large with another root, or newer than what the record replaced: the state was restored."""
    with pytest.raises(
        RolledBackError, match=f"the state knows of {known}[a-z0-9 ]* for 'log.example/a', and there has"
    ) as seen:
        check_not_behind(state, shown, origin=LOG.origin)
    assert str(seen.value).endswith(WAY_OUT)


def test_a_halted_record_is_halted() -> None:
    """With the reason, whatever is shown."""
    halted = msgspec.structs.replace(record(10), halted="our line turned up")
    with pytest.raises(RolledBackError, match=r"'log\.example/a' is halted: our line turned up; nothing is signed"):
        check_not_behind(halted, None, origin=LOG.origin)


@pytest.mark.parametrize("found", [record(10), record(10, START + 5), record(7), record(0)])
def test_what_is_adopted_is_newer_or_the_same(found: LogRecord) -> None:
    """That is how an operator goes on."""
    check_not_older(record(10), found)


@pytest.mark.parametrize("found", [record(11), record(10, log=FORK)])
def test_nothing_older_and_nothing_else_is_adopted(found: LogRecord) -> None:
    """A state that knows more, or another tree, stays."""
    with pytest.raises(RolledBackError, match="adopt nothing older than that, and nothing that contradicts it"):
        check_not_older(record(10), found)


def test_what_was_halted_is_not_adopted_again() -> None:
    """Something newer than it halted it; newer ones are taken."""
    halted = msgspec.structs.replace(record(10), halted="our line turned up")
    with pytest.raises(
        RolledBackError, match=r"this very checkpoint, of size 10, and was halted .*: our line turned up"
    ):
        check_not_older(record(10), halted)
    check_not_older(record(11), halted)


def test_what_is_kept_of_a_note() -> None:
    """Of each key of the log the first line that verified, and ours: nothing of strangers, nothing twice."""
    both = Log(LOG_KEY, LOG_PQ)
    text = both.tree(10).text
    first, second = sign(LOG_PQ, text), sign(LOG_PQ, text)
    assert first != second
    classic = sign(LOG_KEY, text)
    note = Log(LOG_PQ).note(10).partition(b"\n\n")[0] + b"\n\n"
    lines = [first, cosign(STRANGER, text, START), second, classic, classic]
    opened = open_checkpoint(_with(note, lines), [LOG_KEY.verifier, LOG_PQ.verifier], origin=LOG.origin)
    ours = cosign(OURS, text, START)
    assert parse_note(format_cosigned(opened, [ours])).signatures == (first, classic, ours)


def test_dos_a_log_that_signs_64_times_is_kept_in_a_note_that_can_be_read() -> None:
    """With all of its lines and ours the note would have too many, and nobody could open it again."""
    text = LOG.tree(10).text
    lines = [sign(LOG_PQ, text) for _ in range(MAX_SIGNATURES)]
    opened = open_checkpoint(_with(text + b"\n", lines), [LOG_PQ.verifier], origin=LOG.origin)
    assert len(opened.signed) == 64
    kept = format_cosigned(opened, [cosign(OURS, text, START)])
    assert open_published(kept, origin=LOG.origin, where="there", own=OWN).timestamp == START


def _with(text: bytes, lines: list[Signature]) -> bytes:
    return text + format_lines(lines)
