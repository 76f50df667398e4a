"""What a lockfile says, whatever its format: the exact versions it pins, and what no registry can give.

- `LockedPackage`: one name@version, once, however often the tree repeats it.
- `Skipped`: one entry that is not from a registry, with the reason. Nothing is dropped in silence.
- `Lockfile`: both lists, and where they came from.
- `Collector`: what a reader fills; it merges repetitions and refuses contradictions.

Rules:

- One name@version has one content. Two integrities that disagree are an error that names both places.
- Two integrities without a common algorithm (an old sha1 beside a new sha512) are joined, so that either can be
  compared with what the registry says.
- A flag such as `Flag.DEV` holds only where every occurrence has it: what production needs once is needed.
- Repeated entries keep the order of their first occurrence.

What this module does not do: read any format (`mirrorwitness.mirror.lockfile`), or ask a registry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from mirrorwitness.errors import LockfileError
from mirrorwitness.npm.integrity import is_same_content

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version

__all__ = ["Collector", "Flag", "LockedPackage", "Lockfile", "Place", "Skipped"]


class Flag(StrEnum):
    """What a lockfile says about why a package is in the tree."""

    DEV = "dev"
    """Needed by development dependencies only."""
    OPTIONAL = "optional"
    """The project installs without it."""
    DEV_OPTIONAL = "devOptional"
    """Needed by development dependencies and by optional ones, and by nothing else."""
    PEER = "peer"
    """Needed as a peer only."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands in its lockfile.

    Attributes:
        path: the entry's path as the format writes it: ``node_modules/a/node_modules/b``, in version 1 ``a > b``.
        line: its line, counted from 1, where the format's keys are unique enough to know.
    """

    path: str
    line: int | None = None

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path} (line {self.line})"


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One exact version of one package that a registry is expected to have.

    Attributes:
        name: the package's own name, also where the project uses an alias.
        version: the exact version.
        integrity: Subresource Integrity as the lockfile has it; None where it has none.
        resolved: the tarball's address as the lockfile has it; never used to download, never printed whole.
        flags: why it is in the tree.
        os: ``os`` of the manifest; empty means any. Likewise `cpu` and `libc`.
        cpu: see `os`.
        libc: see `os`.
        places: every place where it stands.
    """

    name: PackageName
    version: Version
    integrity: str | None = None
    resolved: str | None = None
    flags: frozenset[Flag] = frozenset()
    os: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()
    libc: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """One entry that is not mirrored.

    Attributes:
        place: where it stands.
        reason: why, for people.
        is_poisoned: whether no tool writes such an entry: it says one package, and takes another.
    """

    place: Place
    reason: str
    is_poisoned: bool = False


@dataclass(frozen=True, slots=True)
class Lockfile:
    """One lockfile, read.

    Attributes:
        path: what it was called; for messages.
        format: for people, for example ``package-lock version 3``.
        version: the format's own version number.
        entries: each name@version from a registry, once.
        skipped: what is not from a registry.
    """

    path: str
    format: str
    version: int
    entries: tuple[LockedPackage, ...]
    skipped: tuple[Skipped, ...]


@dataclass(slots=True)
class Collector:
    """Gathers the entries of one lockfile.

    Attributes:
        path: the lockfile's path, for messages.
    """

    path: str
    _entries: dict[tuple[PackageName, Version], LockedPackage] = field(default_factory=dict)
    _skipped: list[Skipped] = field(default_factory=list)

    def add(self, entry: LockedPackage) -> None:
        """Take one occurrence of a package.

        Args:
            entry: with exactly one place.

        Raises:
            LockfileError: the same name@version occurred with another integrity.
        """
        key = (entry.name, entry.version)
        known = self._entries.get(key)
        self._entries[key] = entry if known is None else self._merge(known, entry)

    def skip(self, place: Place, reason: str, *, is_poisoned: bool = False) -> None:
        """Note an entry that no registry can give."""
        self._skipped.append(Skipped(place, reason, is_poisoned))

    def finish(self, *, format: str, version: int) -> Lockfile:  # noqa: A002  (the attribute's own name)
        """Return what was gathered."""
        return Lockfile(self.path, format, version, tuple(self._entries.values()), tuple(self._skipped))

    def _merge(self, known: LockedPackage, new: LockedPackage) -> LockedPackage:
        if known.integrity and new.integrity and is_same_content(known.integrity, new.integrity) is False:
            raise LockfileError(
                f"{self.path}: {known.name}@{known.version} stands with two integrities: {known.integrity} at "
                f"{known.places[0]}, and {new.integrity} at {new.places[0]}. One of them was altered: restore the "
                "lockfile from version control, or write it again with npm"
            )
        return LockedPackage(
            name=known.name,
            version=known.version,
            integrity=_join(known.integrity, new.integrity),
            resolved=known.resolved or new.resolved,
            flags=known.flags & new.flags,
            os=known.os,
            cpu=known.cpu,
            libc=known.libc,
            places=known.places + new.places,
        )


def _join(first: str | None, second: str | None) -> str | None:
    hashes = dict.fromkeys([*(first or "").split(), *(second or "").split()])
    return " ".join(hashes) or None
