"""What tests of polls share: keys of a witness in a folder, some logs, and what an operator asks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.fetch import Backoff
from mirrorwitness.run.polling import PollResult, PollWishes
from mirrorwitness.run.witnessing import WitnessWishes
from mirrorwitness.tlog.keys import format_signer_key
from tests.fakes.serving import serve
from tests.unit.witness.log_server import DistributorServer, LogServer, make_lab
from tests.unit.witness.world import NEXT, OURS, OURS_PQ

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from pathlib import Path

__all__ = ["LABS", "actions", "make_folder", "served", "wishes"]

QUICK = Backoff(attempts=1)
LABS = [make_lab(f"log-{number}") for number in range(20)]


def make_folder(folder: Path) -> Path:
    """Write keys of a witness into the folder in which it keeps its state."""
    for name, key in (("w1.key", OURS), ("pq.key", OURS_PQ), ("w2.key", NEXT)):
        write_key(folder / name, format_signer_key(key))
    return folder


@asynccontextmanager
async def served(*servers: LogServer | DistributorServer) -> AsyncGenerator[None, None]:
    """Serve several."""
    if not servers:
        yield
        return
    async with serve(servers[0]), served(*servers[1:]):
        yield


def wishes(
    folder: Path, servers: Iterable[LogServer], *, keys: tuple[str, ...] = ("w1.key",), **more: Any
) -> PollWishes:
    """Return what an operator asks who polls some logs, each as soon as it is served."""
    witness = WitnessWishes(
        storage=f"file:{folder / 'state'}?fsync=off",
        keys=tuple([str(folder / key) for key in keys]),
        logs=tuple([server.flag for server in servers]),
    )
    return PollWishes(witness=witness, **{"tries": QUICK, "deadline": 5.0, **more})


def actions(result: PollResult) -> list[str]:
    return [polled.action.value for polled in result.logs]
