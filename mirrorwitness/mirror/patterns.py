"""Patterns over package names: an exact name, a glob, or a whole scope.

    react          exactly this package          babel-*        every unscoped or scoped name that begins so
    @babel/core    exactly this package          @babel/*       every package of the scope; ``@babel/`` is short for it

Rules:

- ``*`` matches any characters, ``?`` one, ``[abc]`` one of a set; case counts. A slash is a character like others, so
  ``*`` alone is the whole registry.
- A pattern with one of ``*?[`` is always a glob, although npm once let ``*`` into names.
- Many globs are matched as one compiled alternation: a loop over them is eight times slower (research/F 5). Whole
  scopes, and everything, are looked up instead.

What this module does not do: know which names exist.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.npm.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Globs", "is_glob", "parse_pattern"]

_WHOLE_SCOPE: Final = re.compile(r"@[^*?\[/]+/\*")
_GLOB: Final = re.compile(r"[*?\[]")
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~!()*'@/?\[\]^-]+")
_SHOWN: Final = 100
"""Most characters of a refused pattern that a message repeats."""


def is_glob(pattern: str) -> bool:
    """Say whether a pattern can match more than one name."""
    return _GLOB.search(pattern) is not None


def parse_pattern(text: str, *, origin: str) -> str:
    """Return a pattern in its one spelling.

    Args:
        text: a name, a glob, ``@scope/*`` or ``@scope/``.
        origin: where it came from, for messages.

    Returns:
        The name or glob.

    Raises:
        SelectionError: it is neither.
    """
    pattern = text.strip()
    if re.fullmatch(r"@[^/]+/", pattern):
        pattern += "*"
    if pattern.startswith("!"):
        raise SelectionError(f"{origin}: {_show(pattern)} begins with '!': what is not wanted is a [[deny]] rule")
    if re.fullmatch(r"@[^/*?\[]*", pattern):
        raise SelectionError(f"{origin}: {_show(pattern)} is a scope without packages: write '{pattern[:_SHOWN]}/*'")
    if not is_glob(pattern):
        try:
            return parse_name(pattern)
        except ConfigurationError as error:
            raise SelectionError(f"{origin}: {error}") from error
    if not _CHARACTERS.fullmatch(pattern):
        raise SelectionError(f"{origin}: glob {_show(pattern)} has characters that no package name has")
    return pattern


class Globs:
    """Several globs, matched at once."""

    def __init__(self, globs: Iterable[str]) -> None:
        """Compile them into one alternation.

        Args:
            globs: values of `parse_pattern`; none at all match nothing.
        """
        different = dict.fromkeys(globs)
        self._is_everything = "*" in different
        self._scopes = frozenset(glob[:-1] for glob in different if _WHOLE_SCOPE.fullmatch(glob))
        parts = [fnmatch.translate(glob) for glob in different if glob != "*" and glob[:-1] not in self._scopes]
        self._match = re.compile("|".join(parts)).match if parts else None

    def matches(self, name: str) -> bool:
        """Say whether at least one of the globs matches the whole name."""
        if self._is_everything or (name[:1] == "@" and name[: name.find("/") + 1] in self._scopes):
            return True
        return self._match is not None and self._match(name) is not None


def _show(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
