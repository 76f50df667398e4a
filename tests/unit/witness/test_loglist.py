"""Lists of logs: every kind of line, what is none, and that a newer list only adds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.witness import loglist
from mirrorwitness.witness.loglist import ListedLog, format_log_list, merge_lists, parse_log_list
from mirrorwitness.witness.logs import WitnessedLog
from tests.unit.witness.world import LOG, LOG_KEY, LOG_PQ, OTHER, OTHER_KEY, contradiction

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey

A, B = str(LOG_KEY.verifier), str(OTHER_KEY.verifier)
LISTED = (
    ListedLog(LOG.witnessed, 86400, "ops@log.example"),
    ListedLog(replace(OTHER.witnessed, origin="another origin")),
)
TEXT = f"""logs/v0

vkey {A}
qpd 86400
contact ops@log.example

vkey {B}
origin another origin
""".encode()


def test_all_lines_of_a_list() -> None:
    """What is read is what is written, byte for byte where nothing is there for people only."""
    assert parse_log_list(TEXT, name="list") == LISTED
    assert format_log_list(LISTED) == TEXT


def test_blank_lines_white_space_and_comments_mean_nothing() -> None:
    """Before the first line too, and around each; a comment is a whole line."""
    text = f"# a list\n\n  \n logs/v0\r\n#vkey x\n\n\tvkey {A} \n  # qpd 5\n\nqpd 1\n qpd 2147483647"
    assert parse_log_list(text.encode(), name="list") == (ListedLog(LOG.witnessed, 2**31 - 1),)


def test_a_list_without_logs() -> None:
    """That is one."""
    assert parse_log_list(b"logs/v0\n", name="list") == ()


def test_a_post_quantum_log() -> None:
    """Its key is as welcome as any."""
    (found,) = parse_log_list(f"logs/v0\nvkey {LOG_PQ.verifier}\n".encode(), name="list")
    assert found.log.keys == (LOG_PQ.verifier,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "list: expected 'logs/v0' as the first line"),
        (b"# only this\n", "list: expected 'logs/v0' as the first line"),
        (b"logs/v1\n", "list, line 1: 'logs/v1', expected 'logs/v0'"),
        (b"\n logs /v0\n", "list, line 2: 'logs /v0', expected"),
        (b"logs/v0\nvkey \xff\n", "list: byte 13 is not UTF-8"),
        (b"logs/v0\nvkey nonsense\n", "list, line 2: verifier key 'nonsense'"),
        (b"logs/v0\nvkey\n", "list, line 2: verifier key"),
        (f"logs/v0\nvkey {A}=https://log.example\n".encode(), "list, line 2: .*: expected a vkey and nothing else"),
        (b"logs/v0\nqpd 5\n", "list, line 2: 'qpd 5' stands before the first vkey"),
        (b"logs/v0\n\nlogs/v0\n", "list, line 3: 'logs/v0' stands before the first vkey"),
    ],
)
def test_what_is_no_list_is_refused(text: bytes, said: str) -> None:
    """With the name and the number of the line."""
    with pytest.raises(ConfigurationError, match=said):
        parse_log_list(text, name="list")


@pytest.mark.parametrize(
    "line",
    [
        "qpd 0",
        "qpd 2147483648",
        "qpd 05",
        "qpd -1",
        "qpd",
        "qpd 99999999999",
        "origin ",
        "origin",
        "contact ",
        "contact",
        "url https://log.example",
        "qpd  5",
        "QPD 5",
    ],
)
def test_a_line_that_is_none_is_refused(line: str) -> None:
    """Nothing is guessed or passed over."""
    with pytest.raises(ConfigurationError, match=r"list, line 3: .*expected vkey, origin, qpd"):
        parse_log_list(f"logs/v0\nvkey {A}\n{line}\n".encode(), name="list")


def test_oversized_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even decoded."""
    monkeypatch.setattr(loglist, "MAX_LIST_BYTES", 10)
    with pytest.raises(ConfigurationError, match=r"list: 11 bytes, expected at most 10"):
        parse_log_list(b"\xff" * 11, name="list")


def test_a_newer_list_only_adds() -> None:
    """What is known stays as it is, gone from the list or not; new origins come behind."""
    known = (replace(LISTED[0], log=replace(LISTED[0].log, is_disabled=True)),)
    assert merge_lists(known, ()) == (known, ())
    newer = (ListedLog(LOG.witnessed, 5, "somebody else"), LISTED[1])
    assert merge_lists(known, newer) == ((known[0], LISTED[1]), ())


def test_a_listed_key_that_changed_is_told_and_not_taken() -> None:
    """The key that is known stays; a person has to look."""
    newer = (ListedLog(replace(LOG.witnessed, keys=(LOG_PQ.verifier,))),)
    merged, complaints = merge_lists(LISTED, newer)
    assert merged == LISTED
    assert complaints == (contradiction(LOG_PQ, LOG_KEY),)


def test_one_of_the_known_keys_is_no_change() -> None:
    """A log that changes its key is listed with one of two for a while."""
    known = (ListedLog(replace(LOG.witnessed, keys=(LOG_KEY.verifier, LOG_PQ.verifier))),)
    assert merge_lists(known, (LISTED[0],)) == (known, ())


def test_a_list_that_names_a_log_twice() -> None:
    """The same again says nothing."""
    text = f"logs/v0\nvkey {A}\nvkey {A}\nqpd 5\n"
    assert merge_lists((), parse_log_list(text.encode(), name="list")) == ((ListedLog(LOG.witnessed),), ())


@pytest.mark.parametrize(("first", "other"), [(LOG_KEY, LOG_PQ), (LOG_PQ, LOG_KEY)])
def test_two_keys_of_one_log_in_one_list(first: SignerKey, other: SignerKey) -> None:
    """The first one counts, whoever wrote the second; both are named, each time the list is read."""
    text = f"logs/v0\nvkey {first.verifier}\nqpd 5\nvkey {other.verifier}\n"
    listed = parse_log_list(text.encode(), name="list")
    known, complaints = merge_lists((), listed)
    assert known == (ListedLog(WitnessedLog(LOG.origin, (first.verifier,)), 5),)
    assert complaints == (contradiction(other, first),)
    assert merge_lists(known, listed) == (known, complaints)


def test_two_keys_that_the_operator_named() -> None:
    """Are both the log's, however a list has them."""
    known = (ListedLog(replace(LOG.witnessed, keys=(LOG_KEY.verifier, LOG_PQ.verifier))),)
    listed = parse_log_list(f"logs/v0\nvkey {LOG_PQ.verifier}\nvkey {A}\n".encode(), name="list")
    assert merge_lists(known, listed) == (known, ())
