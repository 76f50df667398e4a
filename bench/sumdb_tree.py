"""A log of ten million leaves for `bench sumdb`: its tiles are built and checked, and versions of it looked up.

- Every leaf is the hash of a record of 700 bytes. Tiles are made 4,096 leaves at a time from the right edge alone, and
  written; the root is compared with one that shares no code with the product and holds one hash for each level.
- Bundles and indexes are written for the records that are looked up, and for no others: 7 GB of records would measure
  the disk.
- Look-ups go through `mirrorwitness sumdb serve --read-only` over one connection, each for a version that nobody asked
  for before. What comes back is verified.
"""

from __future__ import annotations

import http.client
import random
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from bench.goals import format_goal
from bench.processes import MB, ROOT, cpu_seconds
from bench.sumdb_records import KEYS, ORIGIN, make_record
from mirrorwitness.npm.names import PackageName
from mirrorwitness.storage.local import open_local
from mirrorwitness.sumdb.head import Identity, format_head, format_identity
from mirrorwitness.sumdb.index import PackageIndex, format_index, make_line
from mirrorwitness.sumdb.lookups import lookup_path, parse_lookup
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY, IDENTITY_KEY, index_key, tile_key
from mirrorwitness.sumdb.records import format_record
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.merkle import Hash, check_inclusion, leaf_hash
from mirrorwitness.tlog.tile_hashes import TileHashes, make_tiles
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, edge_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.records import Record

__all__ = ["measure_lookups", "measure_tree"]

AT_A_TIME: Final = 4096
LARGE: Final = 40_000_000
START: Final = 400_000
"""Leaves after which memory is looked at first: by then every cache and pool of the process has its size."""


class NaiveRoot:
    """The root of a tree that grows, by the definition in RFC 6962: a stack of complete trees, two of a size joined."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, bytes]] = []

    def add(self, leaves: Sequence[bytes]) -> None:
        """Append leaves."""
        stack = self._stack
        for leaf in leaves:
            height = 0
            top = leaf
            while stack and stack[-1][0] == height:
                top = sha256(b"\x01" + stack.pop()[1] + top).digest()
                height += 1
            stack.append((height, top))

    def root(self) -> bytes:
        """Return the root."""
        above = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            above = sha256(b"\x01" + left + above).digest()
        return above


def record_of(number: int) -> Record:
    """Return the record at a leaf."""
    return replace(make_record(number), name=PackageName(f"package-{number}"))


def read_memory() -> int:
    """Return this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def measure_tree(folder: Path, count: int, samples: int) -> list[int]:
    """Build and check a tree, write it, and return which of its leaves can be looked up."""
    chance = random.Random(7)  # noqa: S311 - which versions are asked for
    chosen = sorted(chance.sample(range(count // TILE_WIDTH), min(samples, count // TILE_WIDTH)))
    return trio.run(_build, folder, count, [bundle * TILE_WIDTH + chance.randrange(TILE_WIDTH) for bundle in chosen])


async def _build(folder: Path, count: int, chosen: list[int]) -> list[int]:
    async with open_local(folder, fsync=False) as storage:
        bundles = await _write_samples(storage, chosen)
        hashing = building = 0.0
        memory = 0
        naive = NaiveRoot()
        edge: dict[Tile, bytes] = {}
        filler = b"x" * 690
        for start in range(0, count, AT_A_TIME):
            end = min(start + AT_A_TIME, count)
            entries = [b"%010d" % number + filler for number in range(start, end)]
            for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
                at = index * TILE_WIDTH - start
                entries[at : at + TILE_WIDTH] = bundles.get(index, entries[at : at + TILE_WIDTH])
            one = time.process_time()
            leaves = [leaf_hash(entry) for entry in entries]
            two = time.process_time()
            made = make_tiles(TileHashes(start, edge), leaves)
            edge = {tile: made[tile] if tile in made else edge[tile] for tile in edge_tiles(end)}
            three = time.process_time()
            hashing, building = hashing + two - one, building + three - two
            naive.add(leaves)
            for tile, body in made.items():
                if tile.is_full:
                    await storage.put(tile_key(tile), body)
            if start <= START:
                memory = read_memory()
        grown = read_memory() - memory
        for tile, body in edge.items():
            await storage.put(tile_key(tile), body)
        root = TileHashes(count, edge).root()
        await _write_heads(storage, Checkpoint(ORIGIN, count, root))
    is_right = root == naive.root()
    print(f"{count:,} leaves built; the root {'is' if is_right else 'IS NOT'} that of an independent computation")
    total = (hashing + building) / count * 1e6
    print(format_goal("building tiles, microseconds a leaf, its hash included", total, 2.0))
    print(
        f"        hash of a record of 700 bytes {hashing / count * 1e6:.2f} microseconds, tiles {building / count * 1e6:.2f} microseconds"
    )
    print(format_goal(f"memory that grew from {START:,} to {count:,} leaves, MB", grown / MB, 10.0))
    print(f"        extrapolated, not measured: {LARGE:,} leaves take {total * LARGE / 1e6:.0f} s of one core")
    return chosen


async def _write_samples(storage: Storage, chosen: Sequence[int]) -> dict[int, list[bytes]]:
    """Write the bundles and indexes of the records that are looked up."""
    bundles: dict[int, list[bytes]] = {}
    for number in chosen:
        index = number // TILE_WIDTH
        first = index * TILE_WIDTH
        entries = [format_record(record_of(at)) for at in range(first, first + TILE_WIDTH)]
        bundles[index] = entries
        await storage.put(tile_key(EntriesTile(index, TILE_WIDTH)), format_entries(entries))
        record = record_of(number)
        body = format_index(PackageIndex(record.name, (make_line(number, record),)))
        await storage.put(index_key(record.name), body)
    return bundles


async def _write_heads(storage: Storage, tree: Checkpoint) -> None:
    note = sign_checkpoint(tree, KEYS, timestamp=1)
    identity = Identity(tree.origin, tuple([key.verifier for key in KEYS]))
    await storage.put(IDENTITY_KEY, format_identity(identity))
    await storage.put(HEAD_KEY, format_head(note, tree.size))
    await storage.put(CHECKPOINT_KEY, note)


def measure_lookups(folder: Path, numbers: Sequence[int]) -> None:
    """Look versions up over HTTP, twice: first by a server that has read nothing yet, then by one that is warm."""
    words = [sys.executable, "-m", "mirrorwitness", "sumdb", "serve", "--read-only", "--listen", "127.0.0.1:0"]
    words += ["--storage", f"file:{folder}", "--log-level", "error"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            print("look-ups: the server did not start")
            return
        connection = http.client.HTTPConnection("127.0.0.1", int(line.rstrip("/\n").rpartition(":")[2]))
        half = len(numbers) // 2
        _ask(connection, numbers[:half])  # warm: the tiles above the lowest level are read, the code is loaded
        before = cpu_seconds(process.pid)
        fresh = _ask(connection, numbers[half:])
        used = (cpu_seconds(process.pid) - before) / len(fresh)
        again = _ask(connection, numbers[half:])
        connection.close()
    finally:
        process.terminate()
        process.wait()
    print(format_goal("look-up in a warm log, a version nobody asked for yet, p50 ms", statistics.median(fresh), 5.0))
    print(f"        the server's processor time for each: {1000 * used:.2f} ms")
    print(
        f"        p99 {sorted(fresh)[int(len(fresh) * 0.99)]:.2f} ms; asked again p50 {statistics.median(again):.2f} ms"
    )


def _ask(connection: http.client.HTTPConnection, numbers: Sequence[int]) -> list[float]:
    verifiers = [key.verifier for key in KEYS]
    times: list[float] = []
    for number in numbers:
        record = record_of(number)
        begin = time.perf_counter()
        connection.request("GET", f"/{lookup_path(record.name, record.version)}")
        answer = connection.getresponse()
        body = answer.read()
        times.append(1000 * (time.perf_counter() - begin))
        found = parse_lookup(body, has_checkpoint=True)
        tree = open_checkpoint(found.checkpoint or b"", verifiers, origin=ORIGIN).checkpoint
        leaf = Hash(leaf_hash(format_record(record)))
        check_inclusion(found.proof, index=number, size=tree.size, leaf=leaf, root=tree.root)
    return times
