"""The answers of a replication feed: its root, pages of changes, pages of names. Bytes in, values out.

Rules:

- A sequence is opaque text (`Seq`): integers in the public service, strings in CouchDB 2 and in mirrors. It is given
  back as it came and never calculated with; the number in front of it is looked at for one purpose, to notice that a
  head went back (`seq_number`).
- A page that lacks ``last_seq`` ends where its last row is. A page whose ``last_seq`` is the position that was asked
  for says that there is nothing new, also where the position lies behind the head (the service echoes it).
- Rows name packages, nothing more: they can be late, early, missing, repeated, or about packages that are gone. What
  is no package name (``_design/…``) is passed over and counted.
- Anything else than the promised shape is an `UpstreamProtocolError`; it never reads as "no changes".

What this does not do: ask (`mirrorwitness.npm.feed`), or say which rows matter (`mirrorwitness.mirror.announced`).

SPEC: the service has none; research/B 1.2 to 1.4 is what was measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NewType, TypeVar

import msgspec

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, parse_name

__all__ = [
    "BEGINNING",
    "Change",
    "ChangesPage",
    "Head",
    "Listed",
    "NamesPage",
    "Seq",
    "checked_name",
    "parse_changes",
    "parse_head",
    "parse_names_page",
    "seq_number",
]

Seq = NewType("Seq", str)
"""A position in a feed; opaque."""

BEGINNING: Final = Seq("0")
"""The position before the first change."""

_NUMBER: Final = re.compile(r"[0-9]{1,30}(?=-|\Z)")
_SHOWN: Final = 80


class _Rev(msgspec.Struct, frozen=True, gc=False):
    rev: str


class Change(msgspec.Struct, frozen=True, gc=False):
    """One row: this package changed.

    Attributes:
        id: the package's name, not yet checked.
        seq: the row's position; None where the row has none.
        changes: its revision, in a list of one.
        deleted: whether the row is a tombstone.
    """

    id: str
    seq: int | str | None = None
    changes: tuple[_Rev, ...] = ()
    deleted: bool = False

    @property
    def rev(self) -> str | None:
        """The revision that the row announces (``125-492f…``), if it does."""
        return self.changes[-1].rev if self.changes else None


class _Changes(msgspec.Struct, gc=False):
    results: tuple[Change, ...]
    last_seq: int | str | None = None


class _Head(msgspec.Struct, gc=False):
    update_seq: int | str
    doc_count: int | None = None
    engine: str | None = None


class _Value(msgspec.Struct, frozen=True, gc=False):
    rev: str


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One package of the list of all names.

    Attributes:
        id: its name, not yet checked.
        value: its current revision.
    """

    id: str
    value: _Value

    @property
    def rev(self) -> str:
        """The current revision."""
        return self.value.rev


class _Names(msgspec.Struct, gc=False):
    rows: list[Listed]


@dataclass(frozen=True, slots=True)
class Head:
    """The feed's root.

    Attributes:
        seq: the position of the newest change, read apart from the feed: rows a little further may exist already.
        packages: how many live packages there are, where told.
    """

    seq: Seq
    packages: int | None = None


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """One page of changes.

    Attributes:
        rows: in the order of the feed.
        last: where the next page begins.
    """

    rows: tuple[Change, ...]
    last: Seq


@dataclass(frozen=True, slots=True)
class NamesPage:
    """One page of the list of all live packages, which is no snapshot: it moves while it is read.

    Attributes:
        rows: in the order of the list, without the one that the page began at.
        next: the name at which the next page begins (and which it repeats); None at the end.
    """

    rows: tuple[Listed, ...]
    next: str | None


_CHANGES: Final = msgspec.json.Decoder(_Changes)
_HEAD: Final = msgspec.json.Decoder(_Head)
_NAMES: Final = msgspec.json.Decoder(_Names)

_Kind = TypeVar("_Kind")


def parse_head(body: bytes) -> Head:
    """Read the answer of the feed's root.

    Raises:
        UpstreamProtocolError: it is not one.
    """
    found = _decode(_HEAD, body, "the root of a feed")
    return Head(_seq(found.update_seq), found.doc_count)


def parse_changes(body: bytes, *, since: Seq) -> ChangesPage:
    """Read a page of changes.

    Args:
        body: the page.
        since: the position that was asked for.

    Raises:
        UpstreamProtocolError: it is no such page, or has rows and no position to go on from.
    """
    found = _decode(_CHANGES, body, "a page of changes")
    last = found.last_seq
    if last is None:
        positions = [row.seq for row in found.results if row.seq is not None]
        if found.results and not positions:
            raise UpstreamProtocolError("a page of changes has rows, and neither last_seq nor a seq in any row")
        last = positions[-1] if positions else since
    return ChangesPage(found.results, _seq(last))


def parse_names_page(body: bytes, *, start: str | None, limit: int) -> NamesPage:
    """Read a page of the list of all names.

    Args:
        body: the page.
        start: the name that the page was to begin at; None for the first page.
        limit: how many rows were asked for.

    Raises:
        UpstreamProtocolError: it is no such page, or does not go on from `start`.
    """
    rows = _decode(_NAMES, body, "a page of names").rows
    following = rows[-1].id if len(rows) >= limit else None
    if start is not None and rows and rows[0].id == start:
        rows = rows[1:]
    if start is not None and following == start:
        raise UpstreamProtocolError(f"the list of names does not go on after {start[:_SHOWN]!r}")
    return NamesPage(tuple(rows), following)


def checked_name(text: str) -> PackageName | None:
    """Return a row's id as a package name, None where it is none (``_design/…``)."""
    try:
        return parse_name(text)
    except ConfigurationError:
        return None


def seq_number(seq: Seq) -> int | None:
    """Return the number that a position is or begins with (``125-g1AAA…``), None where there is none.

    For one purpose only: to notice that a head lies before a position that was seen. Distances mean nothing: of
    five positions one is a row.
    """
    found = _NUMBER.match(seq)
    return int(found.group()) if found else None


def _seq(value: int | str) -> Seq:
    return Seq(str(value))


def _decode(decoder: msgspec.json.Decoder[_Kind], body: bytes, what: str) -> _Kind:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        shown = ascii(body[:_SHOWN].decode("utf-8", "replace"))
        raise UpstreamProtocolError(f"expected {what}, found {len(body):,} bytes {shown}: {error}") from error
