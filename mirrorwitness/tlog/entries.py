"""Entries: the bundles in which a log serves what it has logged.

    tile/entries/<index>[.p/<width>]   of a tiled log: each entry behind its length, two bytes, big-endian
    tile/8/data/<index>[.p/<width>]    of a checksum database: records, texts with an empty line between two

Rules:

- A bundle has exactly as many entries as its width says: none less, none more, no trailing byte.
- A record is UTF-8 without control characters but the newline, ends in a newline, and has no empty line.

What it does not do: hash entries or compare them with the tree (`mirrorwitness.tlog.merkle`), or judge what one says.

SPEC: C2SP tlog-tiles (July 2026); Go's checksum database as in golang.org/x/mod ``sumdb``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.tlog.tiles import TILE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.tiles import EntriesTile

__all__ = ["MAX_ENTRY_BYTES", "format_entries", "format_records", "parse_entries", "parse_records"]

MAX_ENTRY_BYTES: Final = 2**16 - 1
"""Longest entry of a bundle: its length is two bytes."""

_LENGTH_BYTES: Final = 2
_SHOWN: Final = 100
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")


def parse_entries(body: bytes, tile: EntriesTile) -> list[bytes]:
    """Cut a bundle of a tiled log into its entries; `format_entries` gives back the same bytes.

    Raises:
        UpstreamProtocolError: the bundle does not have exactly the entries that its width says.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(body) and len(entries) < tile.width:
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(body[at:start], "big")
        if start > len(body) or at > len(body):
            raise UpstreamProtocolError(f"{tile}: entry {len(entries)} is cut off at byte {len(body)}")
        entries.append(body[start:at])
    if len(entries) != tile.width or at != len(body):
        raise UpstreamProtocolError(
            f"{tile}: {len(entries)} entries in {at} of {len(body)} bytes, expected {tile.width} in all of them"
        )
    return entries


def format_entries(entries: Sequence[bytes]) -> bytes:
    """Write a bundle of a tiled log.

    Raises:
        ConfigurationError: an entry is too long, or there are none or more than 256.
    """
    _check_count(len(entries))
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise ConfigurationError(f"an entry of {len(entry)} bytes: at most {MAX_ENTRY_BYTES} fit into a bundle")
    return b"".join([len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries])


def parse_records(body: bytes, tile: EntriesTile) -> list[bytes]:
    """Cut a data tile of a checksum database into its records, which keep their final newline.

    `format_records` gives back the same bytes, but for an empty line behind the last record: Go's server package writes
    one, what monitors read of the public database has none, and both are read here.

    Raises:
        UpstreamProtocolError: these are not exactly as many records as the width says.
    """
    if not body.endswith(b"\n"):
        raise UpstreamProtocolError(f"{tile}: a record ends in a newline, the last one does not")
    text = body[:-2] if body.endswith(b"\n\n") else body[:-1]
    records = [part + b"\n" for part in text.split(b"\n\n")]
    if len(records) != tile.width:
        raise UpstreamProtocolError(f"{tile}: {len(records)} records, expected {tile.width}")
    for at, record in enumerate(records):
        fault = _fault_of(record)
        if fault:
            raise UpstreamProtocolError(f"{tile}: record {at} {fault}")
    return records


def format_records(records: Sequence[bytes]) -> bytes:
    """Write a data tile of a checksum database, without an empty line behind the last record.

    Raises:
        ConfigurationError: a text can be no record, or there are none or more than 256.
    """
    _check_count(len(records))
    for record in records:
        fault = _fault_of(record)
        if fault:
            raise ConfigurationError(f"record {record[:_SHOWN]!r} {fault}")
    return b"\n".join(records)


def _fault_of(record: bytes) -> str | None:
    """Return what is wrong with the text of a record, None where nothing is."""
    if not record.endswith(b"\n"):
        return "does not end in a newline"
    if record.startswith(b"\n") or b"\n\n" in record:
        return "has an empty line"
    found = _CONTROL.search(record)
    if found:
        return f"has the control character {found.group()!r}"
    try:
        record.decode()
    except UnicodeDecodeError as error:
        return f"has at byte {error.start} what is not UTF-8"
    return None


def _check_count(count: int) -> None:
    if not 1 <= count <= TILE_WIDTH:
        raise ConfigurationError(f"{count} entries: a bundle has 1 to {TILE_WIDTH}")
