"""A disk that loses power, under a directory storage: of what was not waited for, any part may be there after (P8).

It stands in for the module `os` in the modules of the storage (`PowerDisk.under`). Their calls reach a real directory,
so that readers see what they would see; beside that, the disk remembers what of it is certain.

Rules:

- Of a sector that was written and not waited for, the disk has any of the contents that it had since: each sector for
  itself, the newer one without the older.
- Of a name that was made, moved or removed, likewise, until the directory was waited for: each name for itself, with no
  order among them. A real journal keeps some; who asks for none needs none.
- A wait for bytes that is refused leaves them open for good: Linux marks the pages clean, so that the next wait says 0
  and writes nothing. Only writing them again helps. A wait for names that is refused can be repeated.
- Each call that changes something, or waits, is a *step*: it can be the last one of the process, or fail. A write that
  is broken off leaves any part of it.
- Who is dead does nothing any more, in no handler and no `finally`, but let go of its descriptors as the kernel would.

What it does not do: directories that come and go, times, or a page cache that forgets what the disk refused. A call
that it does not know is an `AttributeError`, so that nothing passes by it unseen.
"""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from types import ModuleType

    Choice: TypeAlias = Callable[[Sequence[bytes]], bytes]
    """Picks one of the contents that a sector may have; oldest first."""

__all__ = ["SECTOR_BYTES", "Choice", "Fault", "Killed", "PowerDisk", "choices"]

SECTOR_BYTES: Final = 512
"""What a disk writes wholly or not at all. Some write 4 kB so; they cut in fewer places."""

_HARMLESS: Final = frozenset({"fstat", "path", "pread", "stat", "strerror", "utime"})
"""What the storage may ask of the kernel besides: it changes nothing that this disk tells apart."""


class Fault(Enum):
    """What becomes of a step: the process is killed at it, or the kernel refuses it."""

    KILL = "killed"
    FAIL = "failed"


class Killed(BaseException):
    """The process is dead."""


def choices(chance: random.Random, count: int) -> list[Choice]:
    """Return what can be left of open sectors: nothing of them, all of them, and `count` times each as it comes."""
    return [itemgetter(0), itemgetter(-1), *[chance.choice] * count]


@dataclass(slots=True, eq=False)
class _File:
    """A file, whatever its names are.

    Attributes:
        live: what readers see while there is power.
        open_sectors: sector number → what the disk may have of it, oldest first. All others it has as they are.
        waiting: numbers of those that the next wait takes to the disk.
    """

    live: bytearray = field(default_factory=bytearray)
    open_sectors: dict[int, list[bytes]] = field(default_factory=dict[int, list[bytes]])
    waiting: set[int] = field(default_factory=set[int])

    def write(self, data: bytes, at: int) -> None:
        """Take bytes, which the disk may have or not."""
        end = at + len(data)
        numbers = range(at // SECTOR_BYTES, -(-end // SECTOR_BYTES)) if data else range(0)
        before = [self._sector(number) for number in numbers]
        self.live.extend(bytes(max(0, end - len(self.live))))
        self.live[at:end] = data
        for number, old in zip(numbers, before, strict=True):
            self.open_sectors.setdefault(number, [old]).append(self._sector(number))
            self.waiting.add(number)

    def settle(self) -> None:
        """The disk has what was waiting."""
        for number in self.waiting:
            del self.open_sectors[number]
        self.waiting.clear()

    def refuse(self) -> None:
        """The disk may have what was waiting, and nobody will ask it again."""
        self.waiting.clear()

    def after_loss(self, choose: Choice) -> bytes:
        """Return what the disk has after a loss of power; the file ends with the last sector that it has."""
        data = bytearray()
        for number in range(-(-len(self.live) // SECTOR_BYTES)):
            sector = choose(self.open_sectors[number]) if number in self.open_sectors else self._sector(number)
            if sector:
                data.extend(bytes(number * SECTOR_BYTES - len(data)))
                data.extend(sector)
        return bytes(data)

    def _sector(self, number: int) -> bytes:
        return bytes(self.live[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES])


class PowerDisk:
    """The module `os`, as far as a directory storage uses it, over a disk that can lose power.

    Attributes:
        steps: what was asked of it since `plan`, in words.
        failed: the errors of steps that were refused, as they were raised.
        changes: grows whenever what the disk may have becomes something else.
    """

    def __init__(self, directories: Collection[Path], chance: random.Random) -> None:
        """Watch files directly in some directories, which are there and empty; the rest is the kernel's business."""
        self.steps: list[str] = []
        self.failed: list[OSError] = []
        self.changes = 0
        self._directories = frozenset(map(str, directories))
        self._chance = chance
        self._names: dict[str, list[_File | None]] = {}
        """Path → what the disk may have under it, oldest first; the last is what readers see."""
        self._files: dict[int, tuple[_File, str]] = {}
        self._opened: dict[int, str] = {}
        self._faults: Mapping[int, Fault] = {}
        self._watch: Callable[[], None] | None = None
        self._is_dead = False

    def __repr__(self) -> str:
        return f"<PowerDisk after {len(self.steps)} steps{', dead' if self._is_dead else ''}>"

    @contextmanager
    def under(self, *modules: ModuleType) -> Generator[None, None, None]:
        """Stand in for `os` in these modules."""
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                patch.setattr(module, "os", self)
            yield

    def plan(self, faults: Mapping[int, Fault], watch: Callable[[], None]) -> None:
        """Count steps from 0 again: some meet a fault, and `watch` is called before each one."""
        self.steps.clear()
        self._faults, self._watch = faults, watch

    def revive(self) -> None:
        """Let another process use the disk, after one was killed; there was power all the time."""
        self._is_dead = False

    def lose_power(self, directory: Path, choose: Sequence[Choice]) -> Iterator[dict[str, bytes]]:
        """Yield what a directory may hold if power is lost now, by name: for all names, and each choice of sectors."""
        paths = [path for path in self._names if _parent(path) == str(directory)]
        for found in itertools.product(*(dict.fromkeys(self._names[path]) for path in paths)):
            files = {_last(path): file for path, file in zip(paths, found, strict=True) if file is not None}
            is_open = any(file.open_sectors for file in files.values())
            for each in choose if is_open else choose[:1]:
                yield {name: file.after_loss(each) for name, file in files.items()}

    def __getattr__(self, name: str) -> object:
        if name in _HARMLESS or name.startswith("O_"):
            return getattr(os, name)
        raise AttributeError(f"the simulated disk knows no os.{name}: teach it, or add it to what is harmless")

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """Open a file; to make one is a step, and to open a directory, which is done to wait for it."""
        if flags & os.O_DIRECTORY and path in self._directories:
            self._step(f"open {_last(path)}/", errno.EMFILE)
            descriptor = os.open(path, flags, mode)
            self._opened[descriptor] = path
            return descriptor
        if _parent(path) not in self._directories:
            return os.open(path, flags, mode)
        if flags & os.O_CREAT:
            self._step(f"create {_last(path)}", errno.ENOSPC)
            self._put_name(path, _File())
        descriptor = os.open(path, flags, mode)
        file = self._names[path][-1]
        assert file is not None, f"{path} is there, and was not made through this disk"
        self._files[descriptor] = file, _last(path)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        self._files.pop(descriptor, None)
        self._opened.pop(descriptor, None)
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write behind what was written."""
        return self.pwrite(descriptor, data, len(self._files[descriptor][0].live))

    def pwrite(self, descriptor: int, data: bytes | memoryview, at: int) -> int:
        """Write at a place."""
        file, name = self._files[descriptor]
        fault = self._next(f"write {name}")
        kept = bytes(data) if fault is None else bytes(data[: self._chance.randrange(len(data) + 1)])
        file.write(kept, at)
        self.changes += 1
        os.pwrite(descriptor, kept, at)
        self._meet(fault, errno.EIO)
        return len(kept)

    def fsync(self, descriptor: int) -> None:
        """Wait for a file's bytes, or for a directory's names."""
        if descriptor in self._opened:
            directory = self._opened[descriptor]
            self._step(f"wait for {_last(directory)}/", errno.EIO)
            for path, files in self._names.items():
                if _parent(path) == directory:
                    del files[:-1]
        else:
            file, name = self._files[descriptor]
            fault = self._next(f"wait for {name}")
            if fault is Fault.FAIL:
                file.refuse()
            self._meet(fault, errno.EIO)
            file.settle()
        self.changes += 1

    def fdatasync(self, descriptor: int) -> None:
        """Wait for a file's bytes."""
        self.fsync(descriptor)

    def rename(self, old: str, new: str) -> None:
        """Move a file to another name."""
        self._step(f"rename {_last(old)} {_last(new)}", errno.EIO)
        Path(old).rename(new)
        self._put_name(new, self._names[old][-1])
        self._put_name(old, None)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._step(f"unlink {_last(path)}", errno.EIO)
        Path(path).unlink()
        self._put_name(path, None)

    def _put_name(self, path: str, file: _File | None) -> None:
        self._names.setdefault(path, [None]).append(file)
        self.changes += 1

    def _step(self, what: str, number: int) -> None:
        self._meet(self._next(what), number)

    def _next(self, what: str) -> Fault | None:
        """Count a step, and return what becomes of it."""
        if self._is_dead:
            raise Killed
        if self._watch is not None:
            self._watch()
        fault = self._faults.get(len(self.steps))
        self.steps.append(what if fault is None else f"{what} ({fault.value})")
        return fault

    def _meet(self, fault: Fault | None, number: int) -> None:
        if fault is Fault.KILL:
            self._is_dead = True
            raise Killed
        if fault is Fault.FAIL:
            self.failed.append(OSError(number, os.strerror(number)))
            raise self.failed[-1]


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
