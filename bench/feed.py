"""The feed at the registry's scale: rows decided, a day's changes, bytes written, shards, and how soon a fault is noticed.

    python -m bench feed [--rows 4400000] [--packages 37600]

The synthetic registry has the proportions of research/B 3: one name in four is scoped, one row in five sequences. Pages
are made one at a time and thrown away. Times are processor time of one core. Goals: 1 M rows/s with sets of names and
scopes, 0.3 M with 50 globs, memory flat; a day of 37,600 changed packages from feed row to list of downloads in under
60 s; bytes written for each finished package the same from 1,000 to 1 M.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import trio
from trio.testing import MockClock

from bench.goals import format_goal
from mirrorwitness.mirror.announced import choose_rows
from mirrorwitness.mirror.coverage import Coverage
from mirrorwitness.mirror.follower import FollowOptions
from mirrorwitness.mirror.gate import decide
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.select import Selection, choose, make_selection, parse_rule
from mirrorwitness.mirror.shards import WHOLE, Shard
from mirrorwitness.npm.changes import Seq, parse_changes
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.packument import parse_packument
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy, parse_keys
from tests.fakes.registry_build import Signer
from tests.fakes.storage_watch import WatchedStorage
from tests.unit.mirror.following import Following, make_upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.owed import Announced
    from tests.unit.mirror.following import Upstream

PAGE: Final = 10_000
MB: Final = 1_000_000
HOUR: Final = 3600.0
WORDS: Final = [
    "react",
    "vue",
    "babel",
    "webpack",
    "types",
    "plugin",
    "core",
    "utils",
    "cli",
    "server",
    "client",
    "test",
    "data",
    "api",
    "node",
    "js",
    "ui",
    "kit",
    "lib",
]


# ---- rows


def make_pages(rows: int, seed: int = 1) -> Iterator[bytes]:
    """Make pages of changes, one at a time."""
    chance = random.Random(seed)  # noqa: S311 - the same rows each time
    seq = 1000
    for first in range(0, rows, PAGE):
        page: list[dict[str, Any]] = []
        for number in range(first, min(first + PAGE, rows)):
            seq += chance.randint(1, 9)
            rev = f"{chance.randint(1, 300)}-{chance.getrandbits(128):032x}"
            page.append({"seq": seq, "id": make_name(number, chance), "changes": [{"rev": rev}]})
        yield orjson.dumps({"results": page, "last_seq": seq})


def make_name(number: int, chance: random.Random) -> str:
    """Make a name: one in four is scoped, as in the registry."""
    word = f"{chance.choice(WORDS)}-{chance.choice(WORDS)}-{number:x}"
    return f"@{chance.choice(WORDS)}-{number % 3000:x}/{word}" if number % 4 == 0 else word


def make_selections() -> dict[str, Selection]:
    """Make what a partial mirror selects: 5,000 names and 200 scopes, and the same with 50 globs."""
    names = [f"package-{number}" for number in range(5000)]
    scopes = [f"@{WORDS[number % len(WORDS)]}-{number:x}/*" for number in range(200)]
    globs = [f"{word}-{other}-*f" for word, other in itertools.product(WORDS, WORDS)][:50]
    rules = [parse_rule(text, origin="bench") for text in (*names, *scopes)]
    more = [parse_rule(text, origin="bench") for text in globs]
    return {"names and scopes": make_selection(rules), "and 50 globs": make_selection([*rules, *more])}


def measure_rows(rows: int, wants: Callable[[str], bool], shard: Shard = WHOLE) -> tuple[float, int, int]:
    """Decide all rows; return rows/s, how many were chosen, and by how many bytes memory grew after the first tenth."""
    spent, chosen, early, done = 0.0, 0, 0, 0
    for body in make_pages(rows):
        begin = time.process_time()
        page = parse_changes(body, since=Seq("0"))
        found = choose_rows(page.rows, wants=wants, shard=shard)
        spent += time.process_time() - begin
        chosen += len(found)
        done += len(page.rows)
        early = early or (read_resident() if done >= rows / 10 else 0)
    return done / spent, chosen, read_resident() - early


def read_resident() -> int:
    """Return this process's resident size in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def report_rows(rows: int) -> None:
    """Print the rates of deciding rows."""
    print(f"\n{rows:,} rows, {PAGE:,} a page: page → rows that are wanted and ours")
    goals = {"names and scopes": 1.0, "and 50 globs": 0.3}
    for name, selection in make_selections().items():
        rate, chosen, grown = measure_rows(rows, selection.matches)
        print(format_goal(f"M rows/s, {name} ({chosen:,} wanted)", rate / MB, goals[name], at_least=True))
        print(format_goal(f"  memory grown over the last nine tenths, MB, {name}", grown / MB, 5))
    everything = make_selection([parse_rule("*", origin="bench")])
    for shard in (Shard(1, 1), Shard(1, 2), Shard(2, 2)):
        rate, chosen, _ = measure_rows(rows // 4, everything.matches, shard)
        print(f"        a full mirror, shard {shard}: {rate / MB:.2f} M rows/s, {chosen:,} of {rows // 4:,} ours")


# ---- a day


def make_packuments(count: int) -> list[bytes]:
    """Make documents of the proportions of changed packages: half under 12 kB, mean some 40 kB, one in 200 above 1 MB."""
    chance, signer = random.Random(2), Signer()  # noqa: S311
    bodies = []
    for _ in range(count):
        size = min(4_000_000, int(chance.lognormvariate(9.4, 1.6)))
        bodies.append(make_packument(max(1, size // 2_000), signer))
    return bodies


def make_packument(versions: int, signer: Signer) -> bytes:
    """Make a document of so many versions of 2 kB."""
    integrity = "sha512-" + "A" * 86 + "=="
    stamp = "2026-01-01T00:00:00.000Z"
    manifests = {}
    for number in range(versions):
        version = f"1.{number}.0"
        dist: dict[str, object] = {
            "integrity": integrity,
            "shasum": "b" * 40,
            "tarball": f"https://registry.example/big/-/big-{version}.tgz",
        }
        manifests[version] = {
            "name": "big",
            "version": version,
            "description": "made for measuring",
            "dependencies": {f"dependency-{each}": "^1.0.0" for each in range(20)},
            "devDependencies": {f"development-{each}": "^1.0.0" for each in range(30)},
            "maintainers": [{"name": "someone", "email": "someone@registry.example"}],
            "dist": dist | {"signatures": [signer.sign("big", version, integrity)]},
        }
    time_of = {"created": stamp, "modified": stamp, **dict.fromkeys(manifests, stamp)}
    latest = {"latest": f"1.{versions - 1}.0"}
    return orjson.dumps({
        "_id": "big",
        "_rev": "5-abc",
        "name": "big",
        "dist-tags": latest,
        "versions": manifests,
        "time": time_of,
        "readme": "# big\n" * 200,
    })


def report_day(packages: int) -> None:
    """Print how long a day's changes take, from the row to the list of downloads."""
    bodies = make_packuments(400)
    mean = sum(map(len, bodies)) / len(bodies)
    everything = make_selection([parse_rule("*", origin="bench")])
    keys = parse_keys(orjson.dumps({"keys": [Signer().key()]}))
    print(f"\na day: {packages:,} changed packages, documents of {mean / 1000:.0f} kB on average, nothing held before")
    for policy, ring in ((SignaturePolicy.OFF, KeyRing()), (SignaturePolicy.VERIFY, keys)):
        spent, downloads = 0.0, 0
        documents = itertools.cycle(bodies)
        for body in make_pages(packages):
            begin = time.process_time()
            found = choose_rows(parse_changes(body, since=Seq("0")).rows, wants=everything.matches, shard=WHOLE)
            for _ in found:
                packument = parse_packument(next(documents), name=PackageName("big"))
                choice = choose(everything, packument)
                decision = decide(packument, choice, held={}, keys=ring, policy=policy)
                downloads += len(decision.missing)
            spent += time.process_time() - begin
        print(format_goal(f"s for {downloads:,} downloads listed, signatures {policy}", spent, 60))


# ---- bytes written


def forget_requests(upstream: Upstream) -> None:
    """Keep no list of requests: it would be most of the memory."""
    upstream.sim._record = upstream.feed._record = False  # noqa: SLF001


class RecordsOnly:
    """In the place of `Attempts`: a record of fixed size for each package, and nothing else."""

    def __init__(self, storage: WatchedStorage) -> None:
        self._storage = storage
        self.summary = RunSummary()
        self.notes: dict[PackageName, object] = {}
        self.owed = 0
        self.change = Coverage()
        self.terms = OwedTerms()

    async def load_notes(self, owns: Callable[[str], bool]) -> None:
        """There are none."""

    async def save_change(self) -> None:
        """Nothing is counted."""

    async def run(self, name: PackageName, announced: Announced) -> PackageRecord | None:  # noqa: ARG002 - the interface
        """Write a record."""
        self._storage.put_bytes += 300
        self.summary.counts["packages_updated"] += 1
        await trio.lowlevel.checkpoint()
        return None


async def write_whole(count: int) -> float:
    """Mirror packages for real, in memory; return the bytes written beside tarballs and documents, for each."""
    following = Following(make_upstream(*(f"p{number}" for number in range(count))))
    following.mirror.storage = storage = WatchedStorage()
    forget_requests(following.upstream)
    await following.once()
    public = sum(len(body) for key, body in storage.objects.items() if key.startswith("npm/"))
    return (storage.put_bytes - public) / count


async def write_state(count: int) -> float:
    """Follow so many packages with records only; return the bytes written for each."""
    following = Following(make_upstream("left"), options=FollowOptions(page_rows=PAGE))
    following.mirror.storage = storage = WatchedStorage()
    forget_requests(following.upstream)
    await following.once()
    rows = following.upstream.feed.rows
    for number in range(count):
        rows.change(f"p{number}", "1-00000000000000000000000000000000", is_deleted=False)
    storage.put_bytes = 0
    attempts: Any = RecordsOnly(storage)  # the rest of it is what is measured
    follower, workload = await following.make(attempts)
    async with trio.open_nursery() as nursery:
        await nursery.start(workload.run)
        await follower.run(is_once=True)
        workload.close()
    assert attempts.summary.counts["packages_updated"] >= count
    return storage.put_bytes / count


def report_bytes(largest: int) -> None:
    """Print bytes written for each finished package, by their number."""
    print("\nbytes written for each finished package, in memory")
    whole = {count: run(write_whole, count) for count in (1_000, 10_000)}
    print("        everything but npm/: " + ", ".join(f"{count:,}: {found:.0f}" for count, found in whole.items()))
    print(format_goal("bytes with 10,000 packages / 1,000", whole[10_000] / whole[1_000], 1.1))
    state = {count: run(write_state, count) for count in (1_000, 10_000, 100_000, largest)}
    print(
        "        cursor and a record of 300: " + ", ".join(f"{count:,}: {found:.0f}" for count, found in state.items())
    )
    print(format_goal(f"bytes with {largest:,} packages / 1,000", state[largest] / state[1_000], 1.1))


def run(work: Callable[..., Awaitable[float]], *arguments: object) -> float:
    """Run something on simulated time."""
    return trio.run(partial(work, *arguments), clock=MockClock(autojump_threshold=0))


# ---- noticing


async def notice(spoil: str) -> float:
    """Return the seconds from a publication to its being mirrored, with the defaults, while the feed misbehaves."""
    upstream = make_upstream(*(f"p{number}" for number in range(20)))
    following = Following(upstream)
    forget_requests(upstream)
    async with following.running():
        await trio.sleep(HOUR)
        begin = trio.current_time()
        if spoil == "a lost event":
            upstream.feed.lose("p7")
        elif spoil == "a row that is two hours late":
            upstream.feed.delay("p7", until=begin + 2 * HOUR)
        upstream.sim.publish("p7", "1.1.0")
        upstream.sim.publish("p8", "1.1.0")
        if spoil == "a head regression":
            upstream.feed.regress()
        while following.missing():  # noqa: ASYNC110 - simulated time
            await trio.sleep(1 if trio.current_time() < begin + HOUR else 60)
        return trio.current_time() - begin


def report_noticing() -> None:
    """Print how long a change is missing, on simulated time."""
    print("\nfrom publication to mirror, defaults, simulated time")
    for spoil, hours in (
        ("nothing", 0.02),
        ("a head regression", 0.05),
        ("a row that is two hours late", 2.3),
        ("a lost event", 7 * 24),
    ):
        print(format_goal(f"hours, {spoil}", run(notice, spoil) / HOUR, hours))


def main(arguments: list[str]) -> int:
    """Run everything, or what is named; a missed goal is printed, and no failure."""
    parser = argparse.ArgumentParser(prog="python -m bench feed", description=__doc__)
    parser.add_argument("--rows", type=int, default=4_400_000)
    parser.add_argument("--packages", type=int, default=37_600)
    parser.add_argument("--largest", type=int, default=1_000_000, help="packages of the largest count of bytes")
    parser.add_argument("--only", choices=("rows", "day", "bytes", "notice"))
    options = parser.parse_args(arguments)
    parts: dict[str, Callable[[], None]] = {
        "rows": lambda: report_rows(options.rows),
        "day": lambda: report_day(options.packages),
        "bytes": lambda: report_bytes(options.largest),
        "notice": report_noticing,
    }
    for name, report in parts.items():
        if options.only in {None, name}:
            report()
    return 0
