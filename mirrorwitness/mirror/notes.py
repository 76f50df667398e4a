"""What a run learned of its packages, for the update of the summary at its end: a name and a digest for each.

Rules:

- A digest says what the package's part of the summary has to be; only where it is not, the record is read again.
- Every package of a run is noted, changed or not: what an earlier run could not finish is made good by the next one.
- Memory is bounded (P10): beyond `NOTES_IN_MEMORY` notes go to temporary files, one for each of 256 parts of the tree.
  A full mirror's 4.4 million notes have some 400 MB there; one part of them, 17,000, is in memory at a time.
- Of several notes about one package the last counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

from mirrorwitness.mirror.parts import PartFiles
from mirrorwitness.mirror.subtree import make_subtree
from mirrorwitness.mirror.summary import make_entry, package_prefix
from mirrorwitness.npm.names import PackageName

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.summary import Entry

__all__ = ["Note", "Notes", "entries_of", "package_digest"]

NOTES_IN_MEMORY: Final = 5000
"""Notes kept in memory: about 1 MB. Most runs have fewer and touch no file."""


class Note(NamedTuple):
    """What is known of one package.

    Attributes:
        name: the package.
        prefix: where its versions are in the tree.
        digest: what `package_digest` gave; empty where it is not known and the record has to be read.
    """

    name: PackageName
    prefix: str
    digest: str


def entries_of(record: PackageRecord) -> list[Entry]:
    """Return the entries of all versions of a package that are served."""
    made = [
        make_entry(record.name, version, held.sri)
        for version, held in record.versions.items()
        if held.served and not held.damaged
    ]
    return [entry for entry in made if entry is not None]


def package_digest(name: str, entries: list[Entry]) -> str:
    """Return the digest of the node that a package alone in its range would have."""
    return make_subtree(package_prefix(name), entries, lambda _digest, _body: None).ref.digest


class Notes:
    """Notes of a run; use it as a context manager.

    Args:
        directory: where temporary files go; None: the system's choice.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._files = PartFiles(directory)
        self._recent: dict[PackageName, Note] = {}

    def __repr__(self) -> str:
        return f"<Notes {len(self._recent)} in memory, {self._files!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_small(self) -> bool:
        """Whether all notes are in memory."""
        return self._files.is_empty

    async def add(self, record: PackageRecord) -> None:
        """Note a package as its record says."""
        await self.add_name(PackageName(record.name), package_digest(record.name, entries_of(record)))

    async def add_name(self, name: PackageName, digest: str = "") -> None:
        """Note a package; without a digest its record will be read in any case."""
        self._recent[name] = Note(name, package_prefix(name), digest)
        if len(self._recent) >= NOTES_IN_MEMORY:
            recent, self._recent = self._recent, {}
            await self._files.append((note.prefix, f"{note.name} {note.digest}") for note in recent.values())

    def all(self) -> list[Note]:
        """Return the notes that are in memory."""
        return list(self._recent.values())

    async def part(self, prefix: str) -> list[Note]:
        """Return the notes of one part of the tree; `prefix` has `PART_DIGITS` digits."""
        found: dict[PackageName, Note] = {}
        for line in await self._files.read(prefix):
            name, _, digest = line.partition(" ")
            found[PackageName(name)] = Note(PackageName(name), package_prefix(name), digest)
        recent = {name: note for name, note in self._recent.items() if note.prefix.startswith(prefix)}
        return list({**found, **recent}.values())

    def close(self) -> None:
        """Forget everything, and remove the temporary files."""
        self._recent = {}
        self._files.close()
