"""Package names: what npm allows, how they stand in request paths and on the command line.

Rules:

- npm's rule for *old* packages: URL-safe (what ``encodeURIComponent`` leaves alone), 1 to `MAX_NAME_LENGTH` characters,
  no leading ``.`` or ``_``, not ``node_modules`` or ``favicon.ico``, at most one slash and only behind a scope. The
  stricter rule for new packages (lower case, no ``~'!()*``) is not for a mirror: such packages exist.
- Beyond npm's rule, neither part of a scoped name begins with a dot: ``@../x`` is a path, not a name.
- A name is an exact string of ASCII characters. It is never lower-cased: ``Buffer`` and ``buffer`` are two packages.
- A request path is percent-decoded exactly once, so ``%252f`` is not a slash.

What this module does not do: say whether a package exists, or choose storage keys (`mirrorwitness.mirror.layout`).

SPEC: npm's ``validate-npm-package-name``, result ``validForOldPackages``.
"""

from __future__ import annotations

import re
from typing import Final, NewType
from urllib.parse import unquote_to_bytes

from mirrorwitness.errors import ConfigurationError

__all__ = ["MAX_NAME_LENGTH", "PackageName", "Version", "decode_name", "decode_path", "parse_name", "parse_spec"]

PackageName = NewType("PackageName", str)
"""A name that `parse_name` accepted."""

Version = NewType("Version", str)
"""A key of a packument's ``versions``: an opaque string, usually but not always a semantic version."""

MAX_NAME_LENGTH: Final = 214
"""Longest name in characters, scope and slash included: npm's own limit; a published name of 214 letters exists."""

_NAME: Final = re.compile(r"(?:@(?![.])[A-Za-z0-9._~!()*'-]+/)?(?![.])[A-Za-z0-9._~!()*'-]+")
_FORBIDDEN: Final = frozenset({"node_modules", "favicon.ico"})
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SHOWN: Final = 100
"""Most characters of a refused name that a message repeats."""


def parse_name(text: str) -> PackageName:
    """Return `text` as a package name.

    Args:
        text: a name as it stands in a document, a configuration or a lockfile.

    Returns:
        The same characters.

    Raises:
        ConfigurationError: npm would not accept the name even for an old package; the message says why.
    """
    reason = _find_fault(text)
    if reason:
        raise ConfigurationError(f"package name {_show(text)} {reason}")
    return PackageName(text)


def decode_name(path: str) -> PackageName:
    """Read the package name out of a request path that names a package and nothing else.

    Args:
        path: ``/name``, ``/@s%2fn``, ``/@s%2Fn``, ``/@s/n`` or ``/%40s%2Fn``, still percent-encoded, without a query;
            the leading slash may be missing.

    Returns:
        The name.

    Raises:
        ConfigurationError: the path is not the path of a package.
    """
    name, rest = decode_path(path)
    if rest:
        raise ConfigurationError(f"request path {_show(path)} goes on behind the package name")
    return name


def decode_path(path: str) -> tuple[PackageName, tuple[str, ...]]:
    """Split a request path into its package name and the segments behind it.

    Args:
        path: for example ``/@s%2fn/-/n-1.0.0.tgz`` or ``/name/latest``, still percent-encoded, without a query.

    Returns:
        The name, and each further segment decoded once. A decoded segment can hold any character, also a slash:
        compare it with what is known, never join it to a path.

    Raises:
        ConfigurationError: a percent sign without two hex digits, bytes that are not UTF-8, or not a name.
    """
    first, *rest = [_decode_segment(segment, path) for segment in path.removeprefix("/").split("/")]
    if first.startswith("@") and "/" not in first and rest:
        first = f"{first}/{rest.pop(0)}"
    return parse_name(first), tuple(rest)


def parse_spec(text: str) -> tuple[PackageName, str | None]:
    """Split ``name@wanted`` as people write it: ``react@^18``, ``@s/n@latest``, ``react``.

    Args:
        text: one argument or one line.

    Returns:
        The name, and the text behind the ``@`` (a version, range or tag; not judged here), None where there is none.

    Raises:
        ConfigurationError: not a name, or nothing behind the ``@``.
    """
    text = text.strip()
    name, at, wanted = text[1:].partition("@")
    wanted = wanted.strip()
    if at and not wanted:
        raise ConfigurationError(f"package {_show(text)} has nothing behind the @: leave it away, or name a version")
    return parse_name(text[:1] + name), wanted or None


def _find_fault(text: str) -> str | None:
    if not text:
        return "is empty"
    if len(text) > MAX_NAME_LENGTH:
        return f"has {len(text)} characters, more than {MAX_NAME_LENGTH}"
    if text.startswith((".", "_")):
        return f"begins with {text[0]!r}"
    if text.lower() in _FORBIDDEN:
        return "is reserved"
    if not _NAME.fullmatch(text):
        return "is not of the form name or @scope/name in URL-safe characters"
    return None


def _decode_segment(segment: str, path: str) -> str:
    if _BAD_ESCAPE.search(segment):
        raise ConfigurationError(f"request path {_show(path)} has a percent sign without two hex digits")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeError as error:
        raise ConfigurationError(f"request path {_show(path)} is not UTF-8 when decoded") from error


def _show(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
