"""Lockfiles: which format one has, and its exact versions.

    body ──decode──> text ──_FORMATS──> its reader ──> Lockfile(entries, skipped)

Rules:

- The format is found by content first, by file name second, so a copy under another name is read too.
- A format that is known and not yet read is named, never taken for a broken file of another kind.
- What cannot be read is an error with the line, the reason, and what to do. Half a lockfile is never half used.
- A key that stands twice in one object is an error: two readers would see two different lockfiles.

To add a format: a module with a reader, and a row in `_FORMATS`.

What this module does not do: open files, judge versions, or ask a registry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from mirrorwitness.errors import LockfileError
from mirrorwitness.mirror.locked import Flag, LockedPackage, Lockfile, Place, Skipped
from mirrorwitness.mirror.npmlock import read_npm_lock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_LOCKFILE_BYTES", "Flag", "LockedPackage", "Lockfile", "Place", "Skipped", "parse_lockfile"]

MAX_LOCKFILE_BYTES: Final = 128 * 1024 * 1024
"""Largest lockfile in bytes; the largest in public repositories are about a tenth of it."""

_SHOWN_LINES: Final = 5
"""Most line numbers that one message lists."""

_HEAD_BYTES: Final = 8192
"""Bytes from the beginning of a file in which its format must show."""

_CONFLICT: Final = re.compile(r"^(?:<{7}|>{7}|\|{7}|={7})(?:[ \t].*)?$", re.MULTILINE)
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class _Format:
    """One row of the reader table.

    Attributes:
        name: the format's name for people.
        looks_like: matches at the beginning of the text, or None where only the name tells.
        file_names: names that the tool gives its file.
        read: (text, path) → Lockfile; None while there is no reader yet.
    """

    name: str
    looks_like: re.Pattern[str] | None
    file_names: tuple[str, ...]
    read: Callable[[str, str], Lockfile] | None = None


def parse_lockfile(body: bytes, *, path: str) -> Lockfile:
    """Read a lockfile of any known format.

    Args:
        body: the file's bytes.
        path: what the file is called; its last part helps to know the format, the whole stands in messages.

    Returns:
        The exact versions it pins, and what it names that no registry has.

    Raises:
        LockfileError: it cannot be read, or contradicts itself.
    """
    if not body.strip():
        raise LockfileError(f"{path}: is empty; write it again with `npm install --package-lock-only`")
    form = _find_format(body[:_HEAD_BYTES].decode("utf-8-sig", "replace"), path)
    if form.read is None:
        raise LockfileError(
            f"{path}: is a {form.name}, which mirrorwitness does not read yet. Until then: name the packages, or make "
            "an npm lockfile of the same package.json with `npm install --package-lock-only`"
        )
    return form.read(_decode(body, path), path)


def _decode(body: bytes, path: str) -> str:
    if len(body) > MAX_LOCKFILE_BYTES:
        raise LockfileError(f"{path}: has {len(body):,} bytes, more than {MAX_LOCKFILE_BYTES:,}")
    if body.startswith(_UTF16):
        raise LockfileError(f"{path}: is UTF-16 text (a shell's redirection makes such files); save it as UTF-8")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise LockfileError(f"{path}: line {line}: byte 0x{body[error.start]:02x} is not UTF-8 text") from error


def _find_format(text: str, path: str) -> _Format:
    file_name = path.replace("\\", "/").rpartition("/")[2]
    by_content = next((form for form in _FORMATS if form.looks_like and form.looks_like.match(text)), None)
    by_name = next((form for form in _FORMATS if file_name in form.file_names), None)
    return by_content or by_name or _NPM


def _read_npm(text: str, path: str) -> Lockfile:
    document = _load(text, path)
    if not isinstance(document, dict):
        raise LockfileError(f"{path}: is not a lockfile: expected a JSON object that begins with {{")
    lines = _KeyLines(text)
    return read_npm_lock(cast("dict[str, Any]", document), path=path, line_of=lines.find)


def _load(text: str, path: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _explain(error, text, path) from error
    except _RepeatedKeyError as error:
        lines = _list_lines(text, error.key)
        raise LockfileError(
            f"{path}: key {error.key!r} stands twice in one object{lines}; remove one of them"
        ) from error
    except RecursionError as error:
        raise LockfileError(f"{path}: is nested too deeply to be a lockfile") from error
    except ValueError as error:  # a number of thousands of digits
        raise LockfileError(f"{path}: {error}") from error


class _RepeatedKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for index, key in enumerate(keys) if key in keys[:index]))
    return found


def _explain(error: json.JSONDecodeError, text: str, path: str) -> LockfileError:
    conflict = _CONFLICT.search(text)
    if conflict:
        line = text.count("\n", 0, conflict.start()) + 1
        return LockfileError(
            f"{path}: line {line}: {conflict.group()[:60]!r} is a conflict of a merge that nobody resolved; "
            "`npm install --package-lock-only` resolves it"
        )
    where = f"line {error.lineno}, column {error.colno}"
    if _is_cut(error, text):
        return LockfileError(
            f"{path}: the file ends in the middle, at {where} ({error.msg}): it is half-written. Restore it from "
            "version control, or write it again with `npm install --package-lock-only`"
        )
    return LockfileError(f"{path}: {where}: not JSON: {error.msg}")


def _is_cut(error: json.JSONDecodeError, text: str) -> bool:
    rest = text[error.pos :].strip()
    cut_word = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return cut_word or (error.msg.startswith(("Unterminated string", "Invalid \\")) and "\n" not in rest)


def _list_lines(text: str, key: str) -> str:
    spots = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    lines = [str(text.count("\n", 0, spot) + 1) for spot in spots[:_SHOWN_LINES]]
    return f" (lines {', '.join(lines)})" if lines else ""


class _KeyLines:
    """Finds the line of a key of ``packages``, going forward through the text as the reader does."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0
        self._line = 1

    def find(self, key: str) -> int | None:
        # npm writes the keys as they are. A file that somebody else wrote may escape or space them otherwise: then
        # nothing more is looked for, or each of its thousands of keys would cost a scan to the end.
        spot = self._text.find(f"{json.dumps(key, ensure_ascii=False)}: {{", self._offset) if self._offset >= 0 else -1
        if spot < 0:
            self._offset = -1
            return None
        self._line += self._text.count("\n", self._offset, spot)
        self._offset = spot
        return self._line


_NPM: Final = _Format("npm lockfile", None, ("package-lock.json", "npm-shrinkwrap.json"), _read_npm)
_FORMATS: Final = (
    _NPM,
    _Format("pnpm lockfile", re.compile(r"(?:#.*\n|---\n|\s)*lockfileVersion:"), ("pnpm-lock.yaml",)),
    _Format("yarn lockfile", re.compile(r"(?:#.*\n|\s)*(?:# yarn lockfile v1|__metadata:)"), ("yarn.lock",)),
    _Format(
        "bun lockfile",
        re.compile(r'\s*\{\s*"lockfileVersion":\s*\d+,\s*(?:"configVersion":\s*\d+,\s*)?"workspaces"'),
        ("bun.lock",),
    ),
    _Format("binary bun lockfile", re.compile(r"#!/usr/bin/env bun"), ("bun.lockb",)),
    _Format("deno lockfile", None, ("deno.lock",)),
    _Format("CycloneDX document", re.compile(r'\s*\{[^{}\[\]]*"bomFormat"'), ()),
    _Format("SPDX document", re.compile(r'\s*\{[^{}\[\]]*"spdxVersion"'), ()),
)
