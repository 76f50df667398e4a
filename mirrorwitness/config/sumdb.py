"""The options of ``[sumdb]`` for those who check against a checksum database: as they are written, and as they count.

`mirrorwitness.config.options` says how such a table is written. ``--sumdb VKEY[,VKEY]=URL`` is short for two of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from msgspec import Meta

from mirrorwitness.config.table import Table
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.confusion import ConfusionPolicy
from mirrorwitness.mirror.voucher import LogCheck

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["ANY_REGISTRY", "CheckedLog", "Sumdb", "SumdbFlag", "parse_sumdb_flag"]

ANY_REGISTRY: Final = "any"
"""Stands for a registry where records of every one count."""

_FLAG: Final = re.compile(r"(?P<vkeys>\S+?)=(?P<url>https?://\S+)")
_SHOWN: Final = 300


class Sumdb(Table, frozen=True):
    """The checksum database that every version is checked against."""

    url: Annotated[
        str | None,
        Meta(
            description="Address of the checksum database: what comes before /checkpoint. Without it none is asked.",
            examples=["https://sumdb.example.org"],
        ),
    ] = None
    vkeys: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Its public keys, as its operator publishes them, in a list or with spaces between them. One "
            "is enough.",
            examples=[["sumdb.example.org+e3896951+AWa+fjMsekUzMr2dCn99sFX1xe8aBq2mbZizn7aBDEc6"]],
        ),
    ] = ()
    policy: Annotated[
        str | None,
        Meta(
            description="File that says which witnesses must have cosigned what is believed (C2SP tlog-policy). "
            "Without it the database's own signature is enough. Relative to this file.",
            examples=["sumdb.policy"],
        ),
    ] = None
    registry: Annotated[
        str | None,
        Meta(
            description="Whose names its records have to be: the address of the registry that it reads. Without it the "
            'first of the registries; "any" accepts records of every registry. To be named where the first registry is '
            "itself a mirror.",
            examples=["https://registry.example"],
        ),
    ] = None
    check: Annotated[
        Literal["require", "warn", "off"],
        Meta(
            description='"require" serves only versions that the database vouches for; "warn" serves all and tells '
            'which ones it does not vouch for; "off" does not ask it.',
        ),
    ] = "require"
    confusion: Annotated[
        Literal["report", "refuse", "off"] | None,
        Meta(
            description="What becomes of a version whose tarball holds another package.json than the registry's "
            'document says: "report" tells it and keeps evidence; "refuse" does not serve it; "off" does not look. '
            'Without it "report" where a checksum database is named, else "off".',
            examples=["refuse"],
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLog:
    """What ``[sumdb]`` says, read and checked.

    Attributes:
        url: where the checksum database answers; None where none is asked.
        keys: its keys, all of one name; empty where none is asked.
        policy: the file that says whom to trust, None for the keys alone.
        registry: whose names its records have to be, as an address; `ANY_REGISTRY` for everybody's, None for those of
            the registry that is mirrored.
        check: what its word means.
        confusion: what becomes of a version whose tarball says something else than its document.
    """

    url: str | None = None
    keys: tuple[VerifierKey, ...] = ()
    policy: Path | None = None
    registry: str | None = None
    check: LogCheck = LogCheck.REQUIRE
    confusion: ConfusionPolicy = ConfusionPolicy.OFF


class SumdbFlag(NamedTuple):
    """What ``--sumdb`` gave: keys as text, and where the database is."""

    vkeys: tuple[str, ...]
    url: str


def parse_sumdb_flag(text: str) -> SumdbFlag:
    """Read ``VKEY[,VKEY]=URL``.

    Raises:
        ConfigurationError: it is something else.
    """
    found = _FLAG.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"--sumdb {text[:_SHOWN]!r}: expected VKEY=URL, the URL being what comes before /checkpoint; several keys "
            "of one database with commas between them"
        )
    return SumdbFlag(tuple(found["vkeys"].split(",")), found["url"])
