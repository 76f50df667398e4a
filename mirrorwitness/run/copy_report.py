"""What a copy of a storage is asked for, tells while it goes on, and says in the end. Pure.

What it does not do: copy (`mirrorwitness.run.copying`), or print (`mirrorwitness.cli.store_copy`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mirrorwitness.errors import ExitCode

__all__ = ["FIRST_NAMES", "CopyReport", "CopyStep", "CopyWishes", "Difference", "Found"]

FIRST_NAMES: Final = 20
"""Keys of one kind that a report names; of further ones it only says how many there are."""


@dataclass(frozen=True, slots=True)
class CopyWishes:
    """What is asked for.

    Attributes:
        source: the address to copy from.
        target: the address to copy to.
        replaces: whether what differs in the target is replaced; else it is refused.
        is_dry: whether nothing is written.
    """

    source: str
    target: str
    replaces: bool = False
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class CopyStep:
    """How far a copy is.

    Attributes:
        doing: what it is at: ``comparing`` or ``copying``.
        objects: how many are done.
        total: how many there are; None where nobody knows.
        size: bytes of those that are done.
    """

    doing: str
    objects: int
    total: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Difference:
    """An object of which the two storages have different bytes.

    Attributes:
        key: its key.
        source_bytes: how large it is in the source.
        target_bytes: how large it is in the target.
    """

    key: str
    source_bytes: int
    target_bytes: int

    def __str__(self) -> str:
        return f"{self.key} ({self.source_bytes:,} bytes in FROM, {self.target_bytes:,} in TO)"


@dataclass(slots=True)
class Found:
    """How many objects there are of a kind, how large, and what the first ones are called.

    Attributes:
        count: how many.
        size: bytes of all of them.
        first: keys of up to `FIRST_NAMES` of them.
    """

    count: int = 0
    size: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, key: str, size: int) -> None:
        """Count one."""
        self.count += 1
        self.size += size
        if len(self.first) < FIRST_NAMES:
            self.first.append(key)


@dataclass(slots=True)
class CopyReport:
    """What was found and done, filled in as it goes on.

    Attributes:
        wishes: what was asked for.
        source: everything in the source.
        present: what was in the target already, with the same bytes.
        differing: what was there with other bytes; the sizes are those of the source.
        differences: the first of these.
        only_in_target: what the source does not have.
        copied: what was written, or would be, with what it replaced.
        changed: what the target does not have as the source has it, because somebody wrote there meanwhile.
        is_still: whether nobody wrote to the source meanwhile.
        signers: identities of signers in the source.
        target_signers: those that the target had before.
    """

    wishes: CopyWishes
    source: Found = field(default_factory=Found)
    present: Found = field(default_factory=Found)
    differing: Found = field(default_factory=Found)
    differences: list[Difference] = field(default_factory=list)
    only_in_target: Found = field(default_factory=Found)
    copied: Found = field(default_factory=Found)
    changed: Found = field(default_factory=Found)
    is_still: bool = True
    signers: list[str] = field(default_factory=list)
    target_signers: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether what differs has to stay as it is, so that nothing is written at all."""
        return self.differing.count > 0 and (not self.wishes.replaces or bool(self.target_signers))

    def differ(self, difference: Difference) -> None:
        """Count a difference."""
        self.differing.add(difference.key, difference.source_bytes)
        if len(self.differences) < FIRST_NAMES:
            self.differences.append(difference)

    def predict(self) -> None:
        """Say what would be written, after everything was compared."""
        stays = [self.present] if self.wishes.replaces and not self.is_refused else [self.present, self.differing]
        self.copied.count = self.source.count - sum(kept.count for kept in stays)
        self.copied.size = self.source.size - sum(kept.size for kept in stays)

    def refusal(self) -> str:
        """Return why nothing is written, and what to do."""
        shown = self.differences[0]
        if self.target_signers:
            return (
                f"TO has other bytes than FROM under {shown}, and {self.target_signers[0]}: a copy of this signer was "
                "finished there, and what differs may be newer than FROM. It is never replaced. Where something was "
                "started on TO, go on with TO alone; where nothing ever was, empty it and copy anew"
            )
        return (
            f"TO has other bytes than FROM under {shown}: is it the right place? --dry-run names everything that "
            "differs, and --replace replaces it with what FROM has; nothing was written"
        )

    def exit_code(self) -> ExitCode:
        """Return what the command ends with (P3)."""
        if self.is_refused:
            return ExitCode.USAGE
        return ExitCode.COMPLETE if self.is_still else ExitCode.PARTIAL
