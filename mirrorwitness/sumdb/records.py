"""Records: what the checksum database says of one version of one package, one leaf of its tree each.

    npm-sumdb/1
    registry <host[:port][/path]>
    package <name>@<version>
    integrity <Subresource Integrity>
    tarball-size <bytes>
    shasum <40 hex digits, or ->
    manifest <sha256-… of the canonical version manifest, or ->
    tarball-manifest <sha256-… of the tarball's own package.json, or ->
    published <RFC 3339, or ->
    signature <keyid> <base64>                      none to `MAX_SIGNATURES`, sorted
    attestations <sha256-… of the attestations, or ->
    event <publish, unpublish, security-hold or conflict>
    other-integrity <Subresource Integrity>         behind a conflict only
    evidence <sha256-… of the evidence document>    behind a conflict only

Rules:

- Text, each line ended by a newline, none empty, in this order; printable ASCII; at most `MAX_RECORD_BYTES`. One value
  has one spelling, so `format_record` of what was parsed gives back the same bytes: these are what the leaf hash is of.
- A record vouches for one content: its integrity has one sha512 and at most one digest of each weaker algorithm,
  strongest first, between single spaces. `normalize_integrity` is that form. Only the integrity that somebody else was
  shown, in a conflict, can have several.
- ``integrity`` is word for word what the registry's signatures are over (``name@version:integrity``), so anybody can
  check them from the record alone.
- Nothing in it changes later: no tags, deprecation, download addresses or counts.
- ``unpublish`` and ``security-hold`` repeat the lines of the ``publish`` record; ``conflict`` keeps them and names the
  other integrity. So the newest record of a version still proves what was published first.

What this module does not do: judge a registry's document (`mirrorwitness.sumdb.ingest`), hash leaves
(`mirrorwitness.tlog.merkle`), or say which record follows on which (`mirrorwitness.sumdb.log`).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.integrity import Integrity, is_same_content, parse_integrity
from mirrorwitness.npm.names import PackageName, Version, parse_name
from mirrorwitness.tlog.keys import decode_base64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "MAX_RECORD_BYTES",
    "MAX_SIGNATURES",
    "MAX_TARBALL_BYTES",
    "MAX_VERSION_LENGTH",
    "Event",
    "Record",
    "format_record",
    "is_recorded_version",
    "is_registry",
    "is_time",
    "normalize_integrity",
    "parse_record",
]

MAX_RECORD_BYTES: Final = 65_535
"""Largest record in bytes. SPEC: C2SP tlog-tiles, the length of an entry is a 16-bit number."""

MAX_SIGNATURES: Final = 32
"""Most signatures of a registry: real versions have one or two, of old and new keys."""

MAX_TARBALL_BYTES: Final = 2**53 - 1
"""Largest size in bytes: the largest whole number that every JSON reader keeps."""

MAX_VERSION_LENGTH: Final = 256
"""Longest version in characters: npm's own limit for a semantic version."""

_FIRST_LINE: Final = "npm-sumdb/1"
_ABSENT: Final = "-"
_DIGEST_BYTES: Final = 32
_SHOWN: Final = 100
_ALGORITHMS: Final = ("sha512", "sha384", "sha256", "sha1")
"""Known algorithms, strongest first."""

_PRINTABLE: Final = re.compile(rb"[\x20-\x7e\n]*")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_SHASUM: Final = re.compile(r"[0-9a-f]{40}")
_KEYID: Final = re.compile(r"[\x21-\x7e]{1,256}")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_~-]*")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_REGISTRY: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(?::[1-9][0-9]{0,4})?"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*"
)
_MAX_REGISTRY_LENGTH: Final = 1024
"""Longest registry in characters: far more than any, far less than a record."""


class Event(StrEnum):
    """What happened to a version."""

    PUBLISH = "publish"
    """The registry published it; also again, after it was away."""
    UNPUBLISH = "unpublish"
    """The registry does not have it any more."""
    SECURITY_HOLD = "security-hold"
    """The registry replaced the package by a placeholder."""
    CONFLICT = "conflict"
    """The registry says another integrity than it did: nothing is served for the version."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        registry: who published: host, port and path without scheme, no slash at the end.
        name: the package.
        version: the version.
        integrity: what the bytes are, in the form of `normalize_integrity`.
        tarball_size: how many bytes.
        shasum: their SHA-1 in hex as the registry says it, None where it does not.
        manifest: SHA-256 of the canonical version manifest, None where it has no canonical form.
        tarball_manifest: SHA-256 of package.json in the tarball, None where there is none.
        published: when, as the registry says it; None where it does not.
        signatures: (keyid, base64) of each signature of the registry, sorted.
        attestations: SHA-256 of the attestations document, None where the version has none.
        event: what happened.
        other_integrity: of a conflict: what the registry said as well.
        evidence: of a conflict: SHA-256 of the document that shows it.
    """

    registry: str
    name: PackageName
    version: Version
    integrity: str
    tarball_size: int
    shasum: str | None
    manifest: bytes | None
    tarball_manifest: bytes | None
    published: str | None
    signatures: tuple[tuple[str, str], ...]
    attestations: bytes | None
    event: Event
    other_integrity: str | None = None
    evidence: bytes | None = None

    @property
    def identity(self) -> tuple[str, PackageName, Version]:
        """Whose version of what: there is one content for each."""
        return self.registry, self.name, self.version

    def __str__(self) -> str:
        """Return the record in one line, for people."""
        return f"{self.event} of {self.name}@{self.version} at {self.registry}"


def parse_record(body: bytes) -> Record:
    """Read a record; `format_record` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not a record; the message says what is wrong.
    """
    if len(body) > MAX_RECORD_BYTES:
        raise _malformed(f"has {len(body)} bytes, more than {MAX_RECORD_BYTES}")
    if not _PRINTABLE.fullmatch(body):
        raise _malformed("has bytes other than printable ASCII and newlines")
    lines = body.decode("ascii").split("\n")
    if lines.pop() or not all(lines):
        raise _malformed("expected lines that each end in a newline, none of them empty")
    rest = iter(lines)
    if next(rest, "") != _FIRST_LINE:
        raise _malformed(f"the first line is {lines[0][:_SHOWN] if lines else ''!r}, expected {_FIRST_LINE!r}")
    return _parse_lines(_Lines(rest))


def format_record(record: Record) -> bytes:
    """Write a record.

    Raises:
        ConfigurationError: it cannot be one: a value is out of its range or not in its one spelling.
    """
    is_conflict = record.event is Event.CONFLICT
    lines = [
        _FIRST_LINE,
        f"registry {record.registry}",
        f"package {record.name}@{record.version}",
        f"integrity {record.integrity}",
        f"tarball-size {record.tarball_size}",
        f"shasum {_ABSENT if record.shasum is None else record.shasum}",
        f"manifest {_format_digest(record.manifest)}",
        f"tarball-manifest {_format_digest(record.tarball_manifest)}",
        f"published {_ABSENT if record.published is None else record.published}",
        *(f"signature {keyid} {value}" for keyid, value in record.signatures),
        f"attestations {_format_digest(record.attestations)}",
        f"event {record.event}",
        *([f"other-integrity {record.other_integrity}"] if is_conflict else []),
        *([f"evidence {_format_digest(record.evidence)}"] if is_conflict else []),
    ]
    try:
        body = "".join(f"{line}\n" for line in lines).encode()
        found = parse_record(body)
    except (UpstreamProtocolError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"the {record!s:.300} cannot be written: {error}") from error
    if found != record:
        raise ConfigurationError(f"the {record!s:.300} cannot be written: read again, it is another record")
    return body


def normalize_integrity(text: str) -> str:
    """Return the hashes of known algorithms: strongest first, of one algorithm by their text, each once.

    Args:
        text: ``dist.integrity``, of any shape.

    Returns:
        The one spelling; empty where nothing in it is a hash.
    """
    return _join(parse_integrity(text))


def is_registry(text: str) -> bool:
    """Say whether a text can stand in a record as registry: lower-case host, port, path; no scheme, no last slash."""
    return len(text) <= _MAX_REGISTRY_LENGTH and bool(_REGISTRY.fullmatch(text))


def is_recorded_version(text: str) -> bool:
    """Say whether a version can be logged: letters, digits and ``.+_~-``, a letter or digit first."""
    return len(text) <= MAX_VERSION_LENGTH and bool(_VERSION.fullmatch(text))


def is_time(text: str) -> bool:
    """Say whether a text is a time as RFC 3339 has it."""
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:  # a thirteenth month
        return False
    return True


class _Lines:
    """The lines that are not read yet; each is taken under the word that it has to begin with."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._next = next(lines, None)

    def take(self, word: str) -> str:
        """Return what stands behind the word on the next line."""
        found = self._take(word)
        if found is None:
            shown = "the end" if self._next is None else repr(self._next[:_SHOWN])
            raise _malformed(f"expected a line {word!r}, found {shown}")
        return found

    def take_all(self, word: str) -> list[str]:
        """Return what stands behind the word on each further line that begins with it."""
        found: list[str] = []
        while (text := self._take(word)) is not None:
            found.append(text)
        return found

    def finish(self) -> None:
        """Check that nothing is left."""
        if self._next is not None:
            raise _malformed(f"expected the end, found the line {self._next[:_SHOWN]!r}")

    def _take(self, word: str) -> str | None:
        if self._next is None or not self._next.startswith(f"{word} "):
            return None
        found = self._next[len(word) + 1 :]
        self._next = next(self._lines, None)
        return found


def _parse_lines(lines: _Lines) -> Record:
    registry = _parse_registry(lines.take("registry"))
    name, version = _parse_package(lines.take("package"))
    integrity = _parse_content(lines.take("integrity"))
    record = Record(
        registry=registry,
        name=name,
        version=version,
        integrity=integrity,
        tarball_size=_parse_size(lines.take("tarball-size")),
        shasum=_parse_optional(lines.take("shasum"), "shasum", _is_shasum, "40 hex digits in lower case"),
        manifest=_parse_digest(lines.take("manifest"), "manifest"),
        tarball_manifest=_parse_digest(lines.take("tarball-manifest"), "tarball-manifest"),
        published=_parse_optional(lines.take("published"), "published", is_time, "a time as in RFC 3339"),
        signatures=_parse_signatures(lines.take_all("signature")),
        attestations=_parse_digest(lines.take("attestations"), "attestations"),
        event=_parse_event(lines.take("event")),
    )
    if record.event is Event.CONFLICT:
        other, evidence = _parse_conflict(lines, integrity)
        record = replace(record, other_integrity=other, evidence=evidence)
    lines.finish()
    return record


def _parse_registry(text: str) -> str:
    if not is_registry(text):
        raise _malformed(f"registry {text[:_SHOWN]!r}: expected host[:port][/path] in lower case without scheme")
    return text


def _parse_package(text: str) -> tuple[PackageName, Version]:
    name, _, version = text.rpartition("@")
    if not is_recorded_version(version):
        raise _malformed(f"package {text[:_SHOWN]!r}: expected <name>@<version> in letters, digits and .+_~-")
    try:
        return parse_name(name), Version(version)
    except ConfigurationError as error:
        raise _malformed(str(error)) from error


def _parse_content(text: str) -> str:
    parsed = parse_integrity(text)
    counts = [len(parsed.digests(algorithm)) for algorithm in _ALGORITHMS]
    if _join(parsed) != text or counts[0] != 1 or max(counts) > 1:
        raise _malformed(f"integrity {text[:_SHOWN]!r}: expected one sha512, then at most one of each weaker algorithm")
    return text


def _parse_conflict(lines: _Lines, integrity: str) -> tuple[str, bytes]:
    other = lines.take("other-integrity")
    if normalize_integrity(other) != other or is_same_content(integrity, other) is not False:
        raise _malformed(f"other-integrity {other[:_SHOWN]!r}: expected digests of other bytes, strongest first")
    evidence = _parse_digest(lines.take("evidence"), "evidence")
    if evidence is None:
        raise _malformed("a conflict without the digest of its evidence")
    return other, evidence


def _parse_signatures(texts: list[str]) -> tuple[tuple[str, str], ...]:
    if len(texts) > MAX_SIGNATURES:
        raise _malformed(f"has {len(texts)} signatures, more than {MAX_SIGNATURES}")
    found: list[tuple[str, str]] = []
    for text in texts:
        keyid, _, value = text.partition(" ")
        if not _KEYID.fullmatch(keyid) or not decode_base64(value):
            raise _malformed(f"signature {text[:_SHOWN]!r}: expected a keyid and base64")
        found.append((keyid, value))
    if found != sorted(set(found)):
        raise _malformed("its signatures are not sorted, or one is there twice")
    return tuple(found)


def _parse_size(text: str) -> int:
    if not _DECIMAL.fullmatch(text) or (value := int(text)) > MAX_TARBALL_BYTES:
        raise _malformed(f"tarball-size {text[:_SHOWN]!r}: expected a decimal without leading zeros, below 2^53")
    return value


def _parse_event(text: str) -> Event:
    try:
        return Event(text)
    except ValueError as error:
        raise _malformed(f"event {text[:_SHOWN]!r}: expected one of {', '.join(Event)}") from error


def _parse_optional(text: str, word: str, fits: Callable[[str], bool], expected: str) -> str | None:
    if text != _ABSENT and not fits(text):
        raise _malformed(f"{word} {text[:_SHOWN]!r}: expected {expected}, or {_ABSENT}")
    return None if text == _ABSENT else text


def _is_shasum(text: str) -> bool:
    return bool(_SHASUM.fullmatch(text))


def _parse_digest(text: str, word: str) -> bytes | None:
    if text == _ABSENT:
        return None
    value = decode_base64(text.removeprefix("sha256-"))
    if not text.startswith("sha256-") or value is None or len(value) != _DIGEST_BYTES:
        raise _malformed(
            f"{word} {text[:_SHOWN]!r}: expected sha256- and base64 of {_DIGEST_BYTES} bytes, or {_ABSENT}"
        )
    return value


def _format_digest(value: bytes | None) -> str:
    return _ABSENT if value is None else f"sha256-{base64.b64encode(value).decode()}"


def _join(integrity: Integrity) -> str:
    known = {str(found): found for found in integrity.hashes if found.algorithm in _ALGORITHMS}
    return " ".join(sorted(known, key=lambda text: (_ALGORITHMS.index(known[text].algorithm), text)))


def _malformed(reason: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"sumdb record: {reason}")
