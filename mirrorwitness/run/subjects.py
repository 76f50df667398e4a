"""Subjects: what `check` is given on the command line, read: lockfiles, tarballs, names.

Rules:

- What is a file is read as one: a tarball by its first bytes or its name, anything else as a lockfile. Only what is no
  file can be NAME@VERSION, and the version has to be exact.
- A tarball is what its bytes and its own package.json say. The tlog-proof beside it (``<file>.tlog-proof``) is taken
  along, and is believed no more than an answer of the log.
- A tarball that cannot be read is an error, unless a proof beside it says what it should be: then its bytes are
  compared, and differ.
- A tarball's file name says what it is, where it has the form that npm gives it. A file that holds another version than
  that is wrong, also where the log has it: so a mirror that answers with some other package's true bytes is found.
- Each entry of a lockfile is one subject; what is not from a registry is one as well, with the reason. One that takes
  another package than it says is wrong.
- What cannot be written as UTF-8 (names of files, strings of a hostile lockfile) is told with escapes.

What it does not do: ask anybody.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import UNREADABLE_JSON, ConfigurationError, UpstreamProtocolError
from mirrorwitness.mirror.lockfile import MAX_LOCKFILE_BYTES, parse_lockfile
from mirrorwitness.npm.names import Version, parse_name, parse_spec
from mirrorwitness.npm.tarball import read_tarball
from mirrorwitness.run.files import read_file
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.records import parse_record
from mirrorwitness.sumdb.verdict import Verdict, Wanted
from mirrorwitness.tlog.proof import MAX_FILE_BYTES as MAX_PROOF_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.mirror.locked import LockedPackage, Lockfile, Place
    from mirrorwitness.npm.names import PackageName

__all__ = ["PROOF_SUFFIX", "Subject", "read_subjects"]

PROOF_SUFFIX: Final = ".tlog-proof"
"""What the name of the proof beside a tarball ends in, behind the tarball's whole name."""

_TARBALL_NAMES: Final = (".tgz", ".tar.gz")
_GZIP: Final = b"\x1f\x8b"
_NAMED: Final = re.compile(r".+-v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]+)?")
_EXACT: Final = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is checked.

    Attributes:
        source: the argument that it comes from.
        title: what people call it: ``name@version``, or where it stands in a lockfile.
        wanted: which version of what; None where no log can have it.
        lines: where it stands in the lockfile, as far as known.
        skipped: why no log can have it.
        proof: the proof beside the tarball.
        is_file: whether the source is a file.
        note: a sentence for people; empty where there is nothing to say.
        fault: what is wrong with it, whatever the log has; None where nothing is.
    """

    source: str
    title: str
    wanted: Wanted | None
    lines: tuple[int, ...] = ()
    skipped: str = ""
    proof: bytes | None = field(default=None, repr=False)
    is_file: bool = True
    note: str = ""
    fault: Verdict | None = None


class _PackageJson(msgspec.Struct):
    name: str
    version: str


async def read_subjects(arguments: Iterable[str], *, registry: str | None) -> tuple[Subject, ...]:
    """Read what the arguments name.

    Args:
        arguments: files, and NAME@VERSION.
        registry: whose names they have to be, as records write it; None for any.

    Raises:
        ConfigurationError: one cannot be read, or is neither a file nor NAME@VERSION.
    """
    found: list[Subject] = []
    for argument in arguments:
        found += await trio.to_thread.run_sync(_read, argument, registry)
    return tuple(found)


def _read(argument: str, registry: str | None) -> list[Subject]:
    path = Path(argument)
    if path.is_dir():
        raise ConfigurationError(f"{argument}: is a directory; name a lockfile, a tarball or NAME@VERSION")
    if not path.exists():
        return [_read_name(argument, registry)]
    if argument.endswith(_TARBALL_NAMES) or _starts_as_gzip(path):
        return [_read_tarball(argument, path, registry)]
    lockfile = parse_lockfile(read_file(path, limit=MAX_LOCKFILE_BYTES), path=argument)
    return _read_lockfile(argument, lockfile, registry)


def _read_name(argument: str, registry: str | None) -> Subject:
    if "@" not in argument[1:] or argument.startswith((".", "/")):
        raise ConfigurationError(f"{argument!r}: no such file, and not NAME@VERSION either")
    name, version = parse_spec(argument)
    if version is None or not _EXACT.fullmatch(version):
        raise ConfigurationError(f"{argument!r}: expected an exact version behind the @, such as {name}@1.2.3")
    wanted = Wanted(name, Version(version.removeprefix("v")), is_pinned=False, registry=registry)
    return Subject(argument, str(wanted), wanted, is_file=False)


def _read_lockfile(argument: str, lockfile: Lockfile, registry: str | None) -> list[Subject]:
    source = _plain(argument)
    subjects = [_read_entry(source, entry, registry) for entry in lockfile.entries]
    skipped = [
        Subject(
            source,
            _plain(item.place.path),
            None,
            _lines([item.place]),
            skipped=_plain(item.reason),
            fault=Verdict.OTHER_ADDRESS if item.is_poisoned else None,
        )
        for item in lockfile.skipped
    ]
    return subjects + skipped


def _read_entry(source: str, entry: LockedPackage, registry: str | None) -> Subject:
    wanted = Wanted(entry.name, entry.version, entry.integrity, registry=registry)
    return Subject(source, _plain(str(wanted)), wanted, _lines(entry.places))


def _plain(text: str) -> str:
    """Return a text that can be written anywhere: what is no UTF-8 stands there as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _lines(places: Iterable[Place]) -> tuple[int, ...]:
    return tuple([place.line for place in places if place.line is not None])


def _read_tarball(argument: str, path: Path, registry: str | None) -> Subject:
    integrity = _digest(path)
    beside = path.with_name(path.name + PROOF_SUFFIX)
    proof = read_file(beside, limit=MAX_PROOF_BYTES) if beside.exists() else None
    try:
        name, version = _identify(path)
    except (UpstreamProtocolError, ConfigurationError) as error:
        if proof is None:
            raise ConfigurationError(f"{argument}: {error}") from error
        name, version = _identify_by_proof(beside, proof)
    wanted = Wanted(name, version, integrity, registry=registry)
    stem = next((path.name.removesuffix(end) for end in _TARBALL_NAMES if path.name.endswith(end)), path.name)
    # A registry's name of the file, and that of `npm pack`, which has the scope in it.
    is_usual = stem in {f"{name.rpartition('/')[2]}-{version}", f"{name.removeprefix('@').replace('/', '-')}-{version}"}
    return Subject(
        _plain(argument),
        str(wanted),
        wanted,
        proof=proof,
        note="" if is_usual else f"the file {_plain(path.name)} is {wanted} by its own package.json",
        fault=Verdict.OTHER_NAME if not is_usual and _NAMED.fullmatch(stem) else None,
    )


def _identify(path: Path) -> tuple[PackageName, Version]:
    """Return what a tarball's own package.json says that it is."""
    found = read_tarball(path)
    if found.text is None:
        raise ConfigurationError("has no package.json")
    if found.count > 1:
        raise ConfigurationError(f"has {found.count} files called package.json, so it may be several things")
    try:
        manifest = msgspec.json.decode(found.text.removeprefix(_BOM), type=_PackageJson)
    except UNREADABLE_JSON as error:
        raise ConfigurationError(f"its package.json has no name and version: {error}") from error
    version = manifest.version.strip()
    if not version[:1].isdigit():  # npm takes `v` and `=` away when it publishes
        from mirrorwitness.npm.ranges import normalize_version  # noqa: PLC0415 - rarely needed, and slow to import

        version = normalize_version(version) or version
    return parse_name(manifest.name), Version(version)


def _identify_by_proof(path: Path, proof: bytes) -> tuple[PackageName, Version]:
    try:
        record = parse_record(parse_lookup(proof, has_checkpoint=True).record)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return record.name, record.version


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    return f"sha512-{base64.b64encode(digest).decode()}"


def _starts_as_gzip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_GZIP)) == _GZIP
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
