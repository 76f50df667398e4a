"""Answers of a feed: what is promised is read, everything else is an error and never "nothing new" (row 31)."""

from __future__ import annotations

import json

import pytest

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.changes import (
    BEGINNING,
    ChangesPage,
    Head,
    Seq,
    checked_name,
    parse_changes,
    parse_head,
    parse_names_page,
    seq_number,
)

ROW = {"seq": 7, "id": "left", "changes": [{"rev": "3-abc"}]}


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def test_the_head_is_a_number_or_opaque_text() -> None:
    """Both are kept as they came."""
    assert parse_head(encode({"db_name": "registry", "update_seq": 12, "doc_count": 3})) == Head(Seq("12"), 3)
    assert parse_head(encode({"update_seq": "12-g1AAAA"})) == Head(Seq("12-g1AAAA"))


def test_row_31_a_page_ends_at_last_seq_or_at_its_last_row() -> None:
    """Without either it cannot be gone on from, unless it is empty."""
    page = parse_changes(encode({"results": [ROW], "last_seq": "9-x"}), since=BEGINNING)
    assert (page.last, page.rows[0].id, page.rows[0].rev, page.rows[0].deleted) == ("9-x", "left", "3-abc", False)
    assert parse_changes(encode({"results": [ROW]}), since=BEGINNING).last == "7"
    assert parse_changes(encode({"results": []}), since=Seq("5")) == ChangesPage((), Seq("5"))
    with pytest.raises(UpstreamProtocolError, match="neither last_seq nor a seq"):
        parse_changes(encode({"results": [{"id": "left"}]}), since=BEGINNING)


def test_a_row_may_lack_its_revision() -> None:
    """It is a hint all the same."""
    page = parse_changes(encode({"results": [{"id": "left", "seq": 1, "deleted": True}]}), since=BEGINNING)
    assert (page.rows[0].rev, page.rows[0].deleted) == (None, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"results": [',
        b"[]",
        b'{"results": {}}',
        b'{"results": [{"id": 7}]}',
        b'{"results": [], "last_seq": 1.5}',
        b'{"last_seq": 3}',
        b'{"results": [{"id": "x", "changes": "1-a"}]}',
    ],
)
def test_row_31_what_is_no_page_is_an_error(body: bytes) -> None:
    """It names what was expected and how what came begins."""
    with pytest.raises(UpstreamProtocolError, match="expected a page of changes, found"):
        parse_changes(body, since=BEGINNING)


def test_deep_nesting_is_an_error() -> None:
    """Attack: JSON that is nested deeper than a stack."""
    with pytest.raises(UpstreamProtocolError):
        parse_head(b'{"x":' * 100_000 + b"1" + b"}" * 100_000)


def names(*ids: str) -> bytes:
    return encode({"total_rows": 9, "offset": 0, "rows": [{"id": i, "key": i, "value": {"rev": "1-a"}} for i in ids]})


def test_pages_of_names_repeat_the_name_they_begin_at() -> None:
    """It is left out; a page that is not full is the last one."""
    first = parse_names_page(names("a", "b"), start=None, limit=2)
    assert ([row.id for row in first.rows], first.next, first.rows[0].rev) == (["a", "b"], "b", "1-a")
    second = parse_names_page(names("b", "c"), start="b", limit=2)
    assert ([row.id for row in second.rows], second.next) == (["c"], "c")
    moved = parse_names_page(names("c", "d"), start="b", limit=2)  # b is gone meanwhile
    assert [row.id for row in moved.rows] == ["c", "d"]
    last = parse_names_page(names("d"), start="d", limit=2)
    assert (last.rows, last.next) == ((), None)


def test_a_list_that_stands_still_is_an_error() -> None:
    """Attack: the same page for ever."""
    with pytest.raises(UpstreamProtocolError, match="does not go on after 'b'"):
        parse_names_page(names("a", "b"), start="b", limit=2)


def test_ids_that_are_no_names_are_passed_over() -> None:
    """Design documents, and whatever else a database holds."""
    assert checked_name("_design/app") is None
    assert checked_name("@s/left") == "@s/left"


@pytest.mark.parametrize(
    ("seq", "number"), [("12", 12), ("12-g1AAA", 12), ("g1AAA", None), ("12.5", None), ("", None), ("9" * 31, None)]
)
def test_the_number_of_a_position(seq: str, number: int | None) -> None:
    """Only to notice that a head went back."""
    assert seq_number(Seq(seq)) == number
