"""Trials: a real run is killed at a random moment, what is left is checked, and at last a run must complete."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

    from tests.fault.places import Place

__all__ = ["Job", "Killer", "Kind", "open_killer", "rounds"]

Kind: TypeAlias = Literal["sync", "audit", "repair", "follow", "once"]

PERCENT = int(os.environ.get("KILL_PERCENT") or 30)
"""How much of each test of kills is played: all with 100 (`make fuzz`), a part in `make test`, which has minutes."""

_log = logging.getLogger(__name__)

_LATER, _EARLIER = 1.04, 0.8
"""How the time within which runs are killed follows what kills meet: about one in six comes after the end, so that the
last steps are met too."""


def rounds(count: int) -> int:
    """Return how many of so many rounds are played (`PERCENT`), at least two."""
    return max(2, count * PERCENT // 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run.

    Attributes:
        kind: which command.
        storage: its address.
        registry: base URL of the upstream.
        feed: that of its feed; None: there is none.
        names: what is selected.
        kill_after: seconds after which it is killed; None: never.
        days_ahead: how far its clock is ahead of ours.
    """

    kind: Kind
    storage: str
    registry: str
    names: Sequence[str]
    kill_after: float | None = None
    days_ahead: int = 0
    feed: str | None = None


@dataclass(slots=True)
class Killer:
    """The forking process, and how often it killed.

    Attributes:
        chance: where the moments come from.
        kills: how many runs were to be killed.
        met: how many of them were still at work.
        seconds: how long an unkilled run takes, by kind; measured once, then drawn after what the kills meet, because
            the machine has others to serve and trials differ.
    """

    registry: str
    names: Sequence[str]
    chance: random.Random
    process: subprocess.Popen[str]
    kills: int = 0
    met: int = 0
    seconds: dict[Kind, float] = field(default_factory=dict[Kind, float])
    feed: str | None = None

    def kill(self, kind: Kind, place: Place) -> None:
        """Start a run and kill it at a random moment of the time that such a run takes."""
        self.kills += 1
        moment = self.chance.uniform(0, self.seconds[kind])
        code = self._do(kind, place, kill_after=moment)
        assert code in {None, 0, 4}, f"{kind} ended by itself with exit code {code}"
        is_met = code is None
        self.met += is_met
        self.seconds[kind] *= _LATER if is_met else _EARLIER

    def kill_service(self, kind: Kind, place: Place) -> None:
        """The same with what never ends by itself."""
        self.kills += 1
        code = self._do(kind, place, kill_after=self.chance.uniform(0, self.seconds[kind]))
        assert code is None, f"{kind} ended by itself with exit code {code}"
        self.met += 1

    def finish(self, kind: Kind, place: Place, *, days_ahead: int = 0) -> int:
        """Run to the end, and return the exit code."""
        code = self._do(kind, place, days_ahead=days_ahead)
        assert code is not None, "nobody killed it, and it died"
        return code

    def measure(self, kind: Kind, place: Place) -> int:
        """Run to the end, and remember how long that took; return the exit code."""
        begin = time.monotonic()
        code = self.finish(kind, place)
        self.seconds[kind] = time.monotonic() - begin
        return code

    def _do(self, kind: Kind, place: Place, *, kill_after: float | None = None, days_ahead: int = 0) -> int | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = Job(
            kind=kind,
            storage=place.address,
            registry=self.registry,
            names=self.names,
            kill_after=kill_after,
            days_ahead=days_ahead,
            feed=self.feed,
        )
        self.process.stdin.write(json.dumps(asdict(job)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the forking process died; its error is above"
        status = int(line)
        return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


@contextmanager
def open_killer(
    *,
    registry: str,
    names: Sequence[str],
    chance: random.Random,
    environment: Mapping[str, str] | None = None,
    feed: str | None = None,
) -> Iterator[Killer]:
    """Start the forking process, and end it with the block; at least half of the kills must have met a run at work.

    ``--log-cli-level=info`` shows how many did.
    """
    command = [sys.executable, "-m", "tests.fault.kill_worker"]
    # Who is killed reports no coverage; measuring it only makes the runs slower.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**inherited, **(environment or {})}
    )
    with process:
        killer = Killer(registry, names, chance, process, feed=feed)
        yield killer
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    _log.info("%d kills, %d of them met a run at work", killer.kills, killer.met)
    assert killer.met >= killer.kills / 2, killer
