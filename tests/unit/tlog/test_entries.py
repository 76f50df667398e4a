"""Bundles of entries: both dialects, and what is no bundle."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.tlog.entries import (
    MAX_ENTRY_BYTES,
    format_entries,
    format_records,
    parse_entries,
    parse_records,
)
from mirrorwitness.tlog.tiles import EntriesTile


@pytest.mark.parametrize(
    "entries",
    [[b""], [b"a"], [b"", b"", b"x"], [b"\x00\x01", bytes(MAX_ENTRY_BYTES)], [b"%d" % number for number in range(256)]],
)
def test_entries(entries: list[bytes]) -> None:
    """Entries come out as they went in, empty ones and the longest too."""
    body = format_entries(entries)
    assert len(body) == sum(2 + len(entry) for entry in entries)
    assert parse_entries(body, EntriesTile(3, len(entries))) == entries


@pytest.mark.parametrize(
    ("body", "width", "reason"),
    [
        (b"", 1, "0 entries in 0 of 0 bytes, expected 1 in all of them"),
        (b"\x00\x01a", 2, "1 entries in 3 of 3 bytes, expected 2"),
        (b"\x00\x01a\x00\x01b", 1, "1 entries in 3 of 6 bytes, expected 1"),
        (b"\x00\x01a\x00", 1, "1 entries in 3 of 4 bytes, expected 1"),
        (b"\x00\x01a\x00", 2, "entry 1 is cut off at byte 4"),
        (b"\x00", 1, "entry 0 is cut off at byte 1"),
        (b"\x00\x02a", 1, "entry 0 is cut off at byte 3"),
        (b"\xff\xff" + bytes(65_534), 1, "entry 0 is cut off at byte 65536"),
    ],
)
def test_malformed_entries(body: bytes, width: int, reason: str) -> None:
    """A bundle has exactly its entries: none less, none more, no trailing byte."""
    with pytest.raises(UpstreamProtocolError, match=rf"tile/entries/x001/000(\.p/{width})?: {reason}"):
        parse_entries(body, EntriesTile(1000, width))


def test_entries_that_fit_no_bundle() -> None:
    """An entry of 65,536 bytes has no length; a bundle is neither empty nor wider than a tile."""
    with pytest.raises(ConfigurationError, match="an entry of 65536 bytes: at most 65535"):
        format_entries([b"a", bytes(MAX_ENTRY_BYTES + 1)])
    for write in (format_entries, format_records):
        for count in (0, 257):
            with pytest.raises(ConfigurationError, match=f"{count} entries: a bundle has 1 to 256"):
                write([b"a\n"] * count)


# Of the first two, the texts are those of golang.org/x/mod sumdb, client_test.go.
GO_RECORDS = [
    b"rsc.io/quote v1.5.2 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=\nrsc.io/quote v1.5.2 h2:xyzzy\n",
    b"rsc.io/Quote v1.5.2 h1:uppercase!=\n",
    "é\u0085\N{REPLACEMENT CHARACTER}\x7f\n".encode(),
]


@pytest.mark.parametrize("records", [GO_RECORDS, GO_RECORDS[:1], [b"a\n"] * 256])
def test_records(records: list[bytes]) -> None:
    """Records come out as they went in, whether an empty line follows the last one or not."""
    body = format_records(records)
    tile = EntriesTile(0, len(records))
    assert body == b"\n".join(records)
    assert parse_records(body, tile) == records
    assert parse_records(body + b"\n", tile) == records


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "a record ends in a newline, the last one does not"),
        (b"a\n\nb", "a record ends in a newline, the last one does not"),
        (b"a\n", "1 records, expected 2"),
        (b"a\nb\n", "1 records, expected 2"),
        (b"a\n\nb\n\nc\n", "3 records, expected 2"),
        (b"a\n\nb\n\n\n", "record 1 has an empty line"),
        (b"a\n\n\nb\n", "record 1 has an empty line"),
        (b"a\n\n\n\n", "record 1 has an empty line"),
        (b"\na\n\nb\n", "record 0 has an empty line"),
        (b"a\r\n\nb\n", r"record 0 has the control character b'\\r'"),
        (b"a\n\nb\x00\n", r"record 1 has the control character b'\\x00'"),
        (b"a\n\n\tb\n", r"record 1 has the control character b'\\t'"),
        (b"a\n\nb\xff\n", "record 1 has at byte 1 what is not UTF-8"),
        (b"a\n\n\xed\xa0\x80\n", "record 1 has at byte 0 what is not UTF-8"),
    ],
)
def test_malformed_records(body: bytes, reason: str) -> None:
    """A data tile has exactly its records, and they are text."""
    with pytest.raises(UpstreamProtocolError, match=rf"tile/entries/000\.p/2: {reason}"):
        parse_records(body, EntriesTile(0, 2))


@pytest.mark.parametrize("record", [b"", b"\n", b"a", b"\na\n", b"a\n\nb\n", b"a\n\n", b"a\tb\n", b"\xff\n"])
def test_texts_that_are_no_record(record: bytes) -> None:
    """What would not be read again is not written."""
    with pytest.raises(ConfigurationError, match=r"record b'.*' (does not|has)"):
        format_records([b"good\n", record])
