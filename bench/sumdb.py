"""The checksum database's log: records sequenced, bytes written, tiles of ten million leaves, look-ups in them.

    python -m bench sumdb [--records 60000] [--leaves 10000000] [--lookups 500]

The records are realistic: about 700 bytes, ten versions of each package next to each other, as an ingest brings them.
They are prepared beforehand, as an ingest's other work (download, verification) is not the log's. The sequencer has one
core; a wall time on a busy machine is the neighbours', so processor time stands beside it. Trees are made by
`bench.sumdb_tree`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from bench.goals import format_goal
from bench.processes import on_one_core
from bench.setting import new_bucket, start_seaweedfs
from bench.sumdb_records import KEYS, ORIGIN, make_record
from bench.sumdb_tree import measure_lookups, measure_tree
from mirrorwitness.storage.address import open_storage
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.log import Proposal, create_log, open_log
from mirrorwitness.sumdb.pool import MOST
from mirrorwitness.tlog.merkle import HASH_BYTES
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Body, ObjectInfo, Storage

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast records were logged.

    Attributes:
        records: how many.
        wall: seconds.
        cpu: processor seconds of all threads.
    """

    records: int
    wall: float
    cpu: float


class CountingStorage(MemoryStorage):
    """Counts the bytes that are written.

    Attributes:
        written: how many so far.
    """

    written = 0

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        info = await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
        self.written += info.size
        return info


def prepare(count: int) -> list[Proposal]:
    """Make proposals, and say what that costs: writing a record and reading it again."""
    records = [make_record(number) for number in range(count)]
    begin = time.process_time()
    proposals = [Proposal(record) for record in records]
    each = (time.process_time() - begin) / count
    size = sum(len(proposal.body) for proposal in proposals) / count
    print(
        f"prepared {count:,} records of {size:.0f} bytes; writing one and reading it again takes {each * 1e6:.0f} microseconds"
    )
    return proposals


async def sequence(storage: Storage, proposals: Sequence[Proposal], *, most: int = MOST) -> Rate:
    """Log proposals, in batches as large as the pool's."""
    await create_log(storage, origin=ORIGIN, keys=KEYS, now=time.time())
    log = await open_log(storage, origin=ORIGIN, keys=KEYS, now=time.time)
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(proposals), most):
        await log.append(proposals[start : start + most])
    return Rate(len(proposals), time.perf_counter() - wall, time.process_time() - cpu)


async def sequence_into(address: str, proposals: Sequence[Proposal], *, is_checked: bool) -> Rate:
    """Log proposals into a storage, and check it."""
    async with open_storage(address) as storage:
        rate = await sequence(storage, proposals)
        if is_checked:
            begin = time.perf_counter()
            report = await fsck(storage, on_fault=lambda fault: print(f"FAULT {fault}"))
            print(
                f"        fsck of {report.size:,} records: {time.perf_counter() - begin:.1f} s, {report.faults} faults"
            )
    return rate


def print_rate(title: str, rate: Rate, goal: float | None) -> None:
    """Print records a second, by the clock and by processor time."""
    print(format_goal(f"{title}, records/s", rate.records / rate.wall, goal, at_least=True))
    print(format_goal(f"{title}, records per CPU second", rate.records / rate.cpu, None))


def measure_files(folder: Path, proposals: Sequence[Proposal]) -> None:
    """Sequence into directories."""
    with on_one_core():
        for title, option, goal in (("file:", "", 5000.0), ("file:, fsync=off", "?fsync=off", None)):
            address = f"file:{Path(tempfile.mkdtemp(dir=folder)) / 'log'}{option}"
            print_rate(title, trio.run(lambda: sequence_into(address, proposals, is_checked=not option)), goal)  # noqa: B023


def measure_bucket(proposals: Sequence[Proposal]) -> None:
    """Sequence into SeaweedFS."""
    with ExitStack() as stack:
        server = start_seaweedfs(stack)
        if server is None:
            return
        os.environ |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        address = server.address(new_bucket(server), "log")
        with on_one_core():
            rate = trio.run(lambda: sequence_into(address, proposals, is_checked=False))
        print_rate("SeaweedFS", rate, 2000.0)


def measure_bytes(proposals: Sequence[Proposal]) -> None:
    """Compare what is written with the least that a log can write: each record once, and the hashes of its tree."""
    least = sum(len(proposal.body) + 2 for proposal in proposals) / len(proposals) + HASH_BYTES * 256 / 255
    print(f"least bytes a record: {least:.0f} (the record, its length, its hash and the share of those above)")
    for title, most, count in (("batches of the pool's size", MOST, len(proposals)), ("10 at a time", 10, 2000)):
        storage = CountingStorage()
        trio.run(lambda: sequence(storage, proposals[:count], most=most))  # noqa: B023
        kept = sum(len(body) for key, body in storage.objects.items() if ".p/" not in key) / count
        each = storage.written / count
        print(
            f"        {title}: {each:,.0f} bytes written a record, {each / least:.1f} times the least; "
            f"{kept:,.0f} bytes kept ({kept / least:.2f} times), partial tiles aside"
        )


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench sumdb", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--leaves", type=int, default=10_000_000)
    parser.add_argument("--lookups", type=int, default=500)
    parser.add_argument("--only", choices=["file", "s3", "bytes", "tree"])
    options = parser.parse_args(arguments)
    wanted = {options.only} if options.only else {"file", "s3", "bytes", "tree"}
    proposals = prepare(options.records) if wanted - {"tree"} else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "file" in wanted:
            measure_files(folder, proposals)
        if "s3" in wanted:
            measure_bucket(proposals[: options.records // 3])
        if "bytes" in wanted:
            measure_bytes(proposals)
        if "tree" in wanted:
            log = folder / "tree"
            samples = measure_tree(log, options.leaves, options.lookups)
            measure_lookups(log, samples)
    return 0
