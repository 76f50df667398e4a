"""A cell: two versions in one file, of which a write that was cut anywhere leaves the older one (P7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.storage.cell import SLOT_BYTES, Cell, Version, format_cell, format_version, parse_cell

SECTOR = 512
"""What disks write whole, or not at all."""

BODIES = st.binary(max_size=3 * SLOT_BYTES) | st.integers(0, 3 * SLOT_BYTES).map(lambda size: b"v" * size)


def _over(data: bytes, cell: Cell, version: Version) -> bytes:
    """Return a file with a version written into its spare slot."""
    written = format_version(version)
    return data[: cell.spare] + written + data[cell.spare + len(written) :]


def _open(data: bytes) -> Cell:
    cell = parse_cell(data)
    assert cell is not None
    return cell


@given(BODIES, st.integers(0, 2**64 - 1))
def test_what_is_written_is_read(body: bytes, serial: int) -> None:
    """A new file holds its one version, and has room for one that is a little longer, in its other half."""
    data = format_cell(Version(serial, body))
    cell = _open(data)
    assert cell == Cell(Version(serial, body), 0, len(data) // 2, has_both=False)
    assert cell.spare == len(data) // 2
    assert cell.slot_bytes % SLOT_BYTES == 0
    assert cell.fits(body + body[: len(body) // 5])
    assert not cell.fits(bytes(cell.slot_bytes))


@given(st.lists(st.binary(max_size=SLOT_BYTES - 100), min_size=1, max_size=5))
def test_the_newer_of_two_counts(bodies: list[bytes]) -> None:
    """Each version goes over the one before the last, and counts from then on."""
    data = format_cell(Version(1, b""))
    for serial, body in enumerate(bodies, 2):
        before = _open(data)
        data = _over(data, before, Version(serial, body))
        cell = _open(data)
        assert (cell.newest, cell.has_both) == (Version(serial, body), True)
        assert {before.spare, cell.spare} == {0, cell.slot_bytes}


@given(st.lists(st.binary(max_size=SLOT_BYTES - 100), min_size=2, max_size=4), st.data())
def test_p7_a_write_that_is_cut_anywhere_leaves_the_version_before(bodies: list[bytes], draw: st.DataObject) -> None:
    """Power is lost while the last version is written: of its sectors any may be on the disk, each whole or not."""
    data = before = format_cell(Version(1, b"first"))
    for serial, body in enumerate(bodies, 2):
        before, data = data, _over(data, _open(data), Version(serial, body))
    sectors = range(0, len(data), SECTOR)
    there = draw.draw(st.lists(st.booleans(), min_size=len(sectors), max_size=len(sectors)))
    left = b"".join(
        (data if is_there else before)[at : at + SECTOR] for at, is_there in zip(sectors, there, strict=True)
    )
    assert _open(left).newest in (_open(before).newest, _open(data).newest)


@given(st.data())
def test_damage_of_the_newer_version_is_seen(draw: st.DataObject) -> None:
    """Whatever one bit of it is changed, it does not count, and the one before it does."""
    data = format_cell(Version(1, b"old" * 20))
    data = _over(data, _open(data), Version(2, b"new" * 20))
    at = draw.draw(st.integers(0, len(format_version(_open(data).newest)) - 1)) + SLOT_BYTES
    data = data[:at] + bytes([data[at] ^ 1 << draw.draw(st.integers(0, 7))]) + data[at + 1 :]
    assert _open(data) == Cell(Version(1, b"old" * 20), 0, SLOT_BYTES, has_both=False)


@given(st.binary(max_size=100) | st.integers(0, 5).map(lambda slots: bytes(slots * SLOT_BYTES)))
def test_what_is_no_cell(data: bytes) -> None:
    """Other files, and ones of a cell's size without any version."""
    assert parse_cell(data) is None


@pytest.mark.parametrize("size", [0, 1, SLOT_BYTES, 2 * SLOT_BYTES - 1, 2 * SLOT_BYTES + 2, 3 * SLOT_BYTES])
def test_a_cell_of_another_length_is_none(size: int) -> None:
    """A file that was cut, or that something was written behind, is damage and no cell."""
    assert parse_cell(format_cell(Version(1, b"x")).ljust(size, b"\0")[:size]) is None


def test_tags_tell_versions_apart() -> None:
    """The same serial with other bytes, and the same bytes under another serial: of two cells, say."""
    tags = [version.tag for version in (Version(1, b"a"), Version(1, b"b"), Version(2, b"a"))]
    assert len(set(tags)) == len(tags)
    assert Version(1, b"a").tag == tags[0]


def test_a_body_may_be_a_cell_itself() -> None:
    """What is in it is never looked at."""
    inner = format_cell(Version(7, b"x"))
    assert _open(format_cell(replace(_open(inner).newest, body=inner))).newest.body == inner
