"""Power is lost after any interruption of a cell (P7, P8): what was acknowledged last is there, and nothing older.

A story begins with an object in one of its forms, goes on with writes of which one is interrupted, and ends with writes
that a session does which knows nothing of that, or only that its write failed. At each step of it the power may go, and
a fresh session reads what a simulated disk may have then (`tests.fakes.power_disk`).

A pair here is its first object; the second one is written without a wait, and promises nothing after a loss of power.
Deletes are left out: one that is repeated after a kill finds nothing, and answers without waiting for the name that the
killed one removed, so what was deleted can be there again. That is known, and older than cells.

A part in `make test`, the whole product with ``KILL_PERCENT=100`` (`make fuzz`).
"""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import pytest

from mirrorwitness.errors import ObjectMissingError
from mirrorwitness.storage import Put, local_cells, local_files, local_tree
from mirrorwitness.storage.local_names import Names
from mirrorwitness.storage.local_tree import Tree
from tests.fakes.power_disk import Fault, Killed, PowerDisk, choices
from tests.fault.killing import rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from mirrorwitness.storage.cell import Cell

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KEY = "state/k"

SUBSETS = 4
"""What is there of open sectors after a loss of power, at each step and for all names: nothing, all, and so many random
parts."""

GAPS = 5
"""A second fault comes one to so many steps after the first one, drawn for each case: four make a version certain."""


@dataclass(frozen=True, slots=True)
class Write:
    """A version, and how it is written."""

    how: Literal["pair", "put"]
    body: bytes


def pair(number: int, size: int = 1500) -> Write:
    return Write("pair", (b"version %d. " % number).ljust(size, b"%d" % (number % 10)))


def put(number: int) -> Write:
    return replace(pair(number), how="put")


GROWN = 9000
"""Bytes that fit in no cell of the others."""

INITIAL: Final[dict[str, tuple[Write, ...]]] = {
    "absent": (),
    "file": (put(1),),
    "cell with one version": (pair(1),),
    "cell with two versions": (pair(1), pair(2)),
    "cell with three versions": (pair(1), pair(2), pair(3)),
    "file that was a cell": (pair(1), put(2)),
    "cell that was a file": (put(1), pair(2)),
}
FIRST: Final[dict[str, tuple[Write, ...]]] = {
    "pair": (pair(14),),
    "put": (put(14),),
    "pair that grows": (pair(14, GROWN),),
    "pair twice": (pair(14), pair(15)),
}
THEN: Final[dict[str, tuple[Write, ...]]] = {
    "pair": (pair(26),),
    "pair twice": (pair(26), pair(27)),
    "put": (put(26),),
    "put, pair": (put(26), pair(27)),
    "pair that grows, pair": (pair(26, GROWN), pair(27)),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens.

    Attributes:
        first: at the step in question.
        second: a few steps later, whoever does these.
        by_new: whether it is a new session that goes on after an error; after a kill it is.
    """

    first: Fault
    second: Fault | None = None
    by_new: bool = False


TROUBLES = (
    Trouble(Fault.KILL),
    Trouble(Fault.FAIL),
    Trouble(Fault.FAIL, by_new=True),
    Trouble(Fault.KILL, Fault.KILL),
    Trouble(Fault.KILL, Fault.FAIL),
    Trouble(Fault.FAIL, Fault.KILL),
    Trouble(Fault.FAIL, Fault.FAIL),
    Trouble(Fault.FAIL, Fault.FAIL, by_new=True),
)


@dataclass(frozen=True, slots=True)
class Story:
    """The names of what is there, what is interrupted, and what follows."""

    initial: str
    first: str
    then: str


@dataclass(slots=True)
class Stage:
    """Plays stories in one directory, one after the other."""

    root: Path

    def __post_init__(self) -> None:
        for folder in (self.state, self.session, self.root / ".lock", self.probe / "state"):
            folder.mkdir(parents=True)

    @property
    def state(self) -> Path:
        """Where the object is."""
        return self.root / "state"

    @property
    def session(self) -> Path:
        """Where temporary files are."""
        return self.root / ".tmp/session"

    @property
    def probe(self) -> Path:
        """The directory as it is after a loss of power."""
        return self.root / "probe"

    def read(self, files: dict[str, bytes]) -> bytes | None:
        """Return what a fresh session reads where the directory holds these files; None: there is no object."""
        _clear(self.probe / "state")
        for name, body in files.items():
            (self.probe / "state" / name).write_bytes(body)
        try:
            found, _ = local_files.open_object(
                Tree(self.probe, Names.PLAIN, fsync=False, session=None, session_lock=None), KEY
            )
        except ObjectMissingError:
            return None
        if isinstance(found, bytes):
            return found
        try:
            return local_files.read_piece(found, 0, local_files.PIECE_BYTES)
        finally:
            os.close(found)

    def play(self, story: Story, trouble: Trouble | None = None, step: int = 0) -> Play:
        """Play a story, with trouble at a step of its first writes, and return how it went."""
        _clear(self.state)
        _clear(self.session)
        chance = random.Random(repr((story, trouble, step)))  # noqa: S311 - a test
        play = Play(self, chance, PowerDisk([self.state, self.session], chance))
        with play.disk.under(local_files, local_cells, local_tree):
            play.prepare(INITIAL[story.initial])
            play.meet(trouble, step)
            play.write(FIRST[story.first])
            play.first_steps = len(play.disk.steps)
            play.write(THEN[story.then])
        return play


@dataclass(slots=True)
class Play:
    """One story on its disk.

    Attributes:
        first_steps: how many steps the writes took that are interrupted.
        losses: what was read after a loss of power and should not have been; the first one only.
    """

    stage: Stage
    chance: random.Random
    disk: PowerDisk
    first_steps: int = 0
    losses: list[str] = field(default_factory=list[str])
    _tree: Tree = field(init=False)
    _by_new: bool = False
    _acknowledged: bytes | None = None
    _unknown: list[bytes] = field(default_factory=list[bytes])
    _read: dict[tuple[tuple[str, bytes], ...], bytes | None] = field(default_factory=dict)
    _checked: tuple[int, int, bytes | None] | None = None

    def __post_init__(self) -> None:
        self._tree = Tree(self.stage.root, Names.PLAIN, fsync=True, session=self.stage.session, session_lock=None)

    def prepare(self, writes: Sequence[Write]) -> None:
        """Write what is there when the story begins."""
        for each in writes:
            self._write(each)
            self._acknowledged = each.body

    def meet(self, trouble: Trouble | None, step: int) -> None:
        """Let trouble come at a step, counted from now."""
        faults: dict[int, Fault] = {}
        if trouble is not None:
            faults[step] = trouble.first
            self._by_new = trouble.by_new
            if trouble.second is not None:
                faults[step + 1 + self.chance.randrange(GAPS)] = trouble.second
        self.disk.plan(faults, self._check)

    def write(self, writes: Sequence[Write]) -> None:
        """Write some versions one after the other, whatever becomes of each."""
        for each in writes:
            self._unknown.append(each.body)
            try:
                self._write(each)
            except Killed:
                self.disk.revive()
                self._begin_session()
            except OSError as error:
                if error not in self.disk.failed:
                    raise
                if self._by_new:
                    self._begin_session()
            else:
                self._acknowledged = each.body
                self._unknown.clear()
            self._check()

    def _begin_session(self) -> None:
        self._tree = replace(self._tree, certain={})

    def _write(self, each: Write) -> None:
        if each.how == "pair":
            local_files._put_cell(self._tree, Put(KEY, each.body))  # pyright: ignore[reportPrivateUsage]
        else:
            local_files.put_file(self._tree, KEY, each.body, if_absent=False, if_match=None)

    def _check(self) -> None:
        """Lose the power in every way that there is now, and read."""
        now = self.disk.changes, len(self._unknown), self._acknowledged
        if self.losses or now == self._checked:
            return
        self._checked = now
        for files in self.disk.lose_power(self.stage.state, choices(self.chance, SUBSETS)):
            which = tuple(files.items())
            if which not in self._read:
                self._read[which] = self.stage.read(files)
            if self._read[which] not in (self._acknowledged, *self._unknown):
                self.losses.append(self._describe(self._read[which]))
                return

    def _describe(self, found: bytes | None) -> str:
        allowed = [_name(body) for body in (self._acknowledged, *self._unknown)]
        return f"{_name(found)} instead of {' or '.join(allowed)} after: {', '.join(self.disk.steps)}"


def _name(body: bytes | None) -> str:
    return "nothing" if body is None else repr(body[:11])


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def find_losses(folder: Path, initial: str, *, is_whole: bool = False) -> Iterator[str]:
    """Play all stories that begin so, with each trouble at each step, or a part of that (`rounds`); yield what is lost.

    First of all without any trouble, which says how many steps there are.
    """
    stage = Stage(folder / "storage")
    cases: list[tuple[Story, Trouble, int]] = []
    for first, then in itertools.product(FIRST, THEN):
        story = Story(initial, first, then)
        play = stage.play(story)
        yield from (f"{story}: {loss}" for loss in play.losses)
        cases += [(story, *where) for where in itertools.product(TROUBLES, range(play.first_steps))]
    chance = random.Random(initial)  # noqa: S311 - a test
    for case in chance.sample(cases, len(cases) if is_whole else rounds(len(cases))):
        yield from (f"{case}: {loss}" for loss in stage.play(*case).losses)


@pytest.mark.parametrize("initial", INITIAL)
def test_p7_what_was_acknowledged_last_survives_a_loss_of_power(initial: str, tmp_path: Path) -> None:
    """Or a version of which nobody knows; never an older one, never a mix, wherever writes before were interrupted."""
    assert list(find_losses(tmp_path, initial)) == []


def _do_nothing(*_: object) -> None:
    pass


def _wait_again(descriptor: int, path: str, cell: Cell) -> None:
    """Take a wait's word for it, though the disk may have refused the same bytes before."""
    local_cells._wait(descriptor)  # pyright: ignore[reportPrivateUsage]
    local_tree.fsync_directory(path.rpartition("/")[0])


FLAWS: Final[dict[str, tuple[ModuleType, str, Callable[..., None]]]] = {
    "what stays is not made certain": (local_cells, "_make_certain", _do_nothing),
    "what stays is waited for, and not written again": (local_cells, "_make_certain", _wait_again),
    "the name of what stays is not made certain": (local_cells, "fsync_directory", _do_nothing),
    "a new version is not waited for": (local_cells, "_wait", _do_nothing),
    "a new name is not waited for": (local_files, "_settle", _do_nothing),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_p8_a_storage_that_breaks_one_of_its_rules_is_found_out(
    flaw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same stories find a version that is lost; else they would prove nothing."""
    monkeypatch.setattr(*FLAWS[flaw])
    assert next(find_losses(tmp_path, "cell with two versions", is_whole=True), None) is not None
