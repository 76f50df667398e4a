"""Table: what every table of `mirrorwitness.toml` is made of."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Table"]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tables have in common: immutable, and a misspelt key is an error."""
