"""Taking JSON objects apart: the parts that packuments do not show."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm import json_text
from mirrorwitness.npm.json_text import check_utf8, is_empty_value, join_members, read_string, read_value, split_members


def test_utf8_is_checked_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character on the border of two chunks is no fault; the place of a fault is the document's."""
    monkeypatch.setattr(json_text, "_CHUNK_BYTES", 4)
    check_utf8("aéa€aaa😀aaaé".encode())
    check_utf8(b"")
    with pytest.raises(UpstreamProtocolError, match="not UTF-8 at byte 9"):
        check_utf8("aéa€aa".encode() + b"\xff")
    with pytest.raises(UpstreamProtocolError, match="not UTF-8 at byte 7"):
        check_utf8("aéa€".encode() + "😀".encode()[:3])


def test_members_are_views_of_their_document() -> None:
    """A large member is not copied."""
    body = b'{"a": [1, 2] }'
    assert memoryview(split_members(body)["a"]).obj is not None
    assert bytes(split_members(body)["a"]) == b"[1, 2]"


@pytest.mark.parametrize("body", [b"{}", b' {"\\ud800":{}} ', b'{"a":1,"a":2}', '{"é":"😀"}'.encode()])
def test_what_was_taken_apart_goes_together_again(body: bytes) -> None:
    """The same members with the same values."""
    members = split_members(body)
    again = split_members(join_members(members))
    assert {key: bytes(raw) for key, raw in again.items()} == {key: bytes(raw) for key, raw in members.items()}


def test_values_that_python_cannot_hold_read_as_none() -> None:
    """Too many digits, too deep, nothing at all."""
    assert [read_value(Raw(text)) for text in (b"9" * 5000, b"[" * 100_000, b"")] == [None, None, None]
    assert read_value(Raw(b"1e400")) == float("inf")


def test_only_encodable_strings_are_strings() -> None:
    """A lone surrogate is in no URL, name or digest."""
    texts = [b'"a"', b'"\\u00e9"', b'"\\ud83d\\ude00"', b'"\\ud83d"', b"5", b"null", b""]
    assert [read_string(Raw(text)) for text in texts] == ["a", "é", "😀", None, None, None, None]


def test_emptiness_is_that_of_the_abbreviated_form() -> None:
    """A space or a zero is something."""
    empty = [b"{}", b"[]", b'""', b"null", b"false", b"{ }", b"[\r\n\t ]"]
    full = [b'" "', b"0", b"true", b"[0]", b'{"":0}', b'"{}"']
    assert [is_empty_value(Raw(text)) for text in empty + full] == [True] * len(empty) + [False] * len(full)


def test_bottomless_nesting_is_an_upstream_error() -> None:
    """Row 25: refused, not crashed, whoever splits."""
    with pytest.raises(UpstreamProtocolError, match="nested too deeply"):
        split_members(b'{"a":' + b"[" * 100_000)
