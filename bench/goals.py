"""The tables of the mirror's benchmark: what each row used, and each goal with what was found.

A goal's ratio is printed twice: *whole*, as a user sees it, and *beyond start-up*, with what the programs use to do
nothing taken off on both sides. The corpus of a benchmark is small, so start-up weighs more in it than in a mirror.
Where the measured thread waited for a core that other processes had, ratios of wall time say little, and that is said.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from bench.processes import MB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.setting import Setting

__all__ = ["FIRST", "NOTHING", "ONE", "START", "format_goal", "print_goals", "print_table"]

START: Final = "start-up: mirrorwitness"
BUSY: Final = 0.15
"""Share of a run's time spent waiting for a core above which its wall time is called the neighbours'."""
NOTHING: Final = ": nothing changed"
ONE: Final = ": one package unchanged"
FIRST: Final = ": one package, first run"
"""Start-up with latency: the check of a new storage is some twenty requests one after another."""
PEERS: Final = (
    # ours, start-up of ours, peer, start-up of the peer
    ("file: ours, fsync=off", f"file: ours, fsync=off{ONE}", "file: plain httpx", "start-up: plain, file", 0.33),
    ("file: ours, fsync=on", f"file: ours, fsync=on{ONE}", "file: plain httpx", "start-up: plain, file", None),
    ("s3: ours", f"s3: ours{ONE}", "s3: plain httpx + boto3", "start-up: plain, s3", 0.33),
    ("file: ours, fsync=off", f"file: ours, fsync=off{ONE}", "file: rclone", "start-up: rclone", 1.75),
    ("file: ours, fsync=on", f"file: ours, fsync=on{ONE}", "file: rclone", "start-up: rclone", None),
    ("s3: ours", f"s3: ours{ONE}", "s3: rclone", "start-up: rclone", 1.75),
    (
        "file: ours, fsync=off",
        f"file: ours, fsync=off{ONE}",
        "file: bandersnatch, 10 workers",
        "start-up: bandersnatch",
        None,
    ),
)


def print_table(setting: Setting) -> None:
    """Print each row's medians."""
    corpus = setting.corpus
    count = len(corpus.files)
    print(
        f"\n{'row':<54}{'wall s':>8}{'queued s':>10}{'CPU s':>7}{'packages/s':>12}{'tarballs/s':>12}{'MB/s':>6}"
        f"{'CPU s/1000 tarballs':>21}{'peak RSS MB':>13}"
    )
    for row in setting.results:
        wall, queued, cpu, rss = (_median(setting, row, name) for name in ("wall", "queued", "cpu", "rss"))
        line = f"{row:<54}{wall:>8.2f}{queued:>10.2f}{cpu:>7.2f}"
        if row.startswith("start-up") or row.endswith((ONE, FIRST, NOTHING)):
            rates = f"{len(corpus.names) / wall:>12,.0f}" if row.endswith(NOTHING) else ""
            print(f"{line}{rates:<51}{rss / MB:>13.0f}")
        else:
            rates = f"{len(corpus.names) / wall:>12,.0f}{count / wall:>12,.0f}{corpus.size / MB / wall:>6,.0f}"
            print(f"{line}{rates}{cpu / count * 1000:>21.2f}{rss / MB:>13.0f}")
    print()


def print_goals(setting: Setting) -> None:
    """Print each goal that the rows allow to judge."""
    for lines in (_beside_peers(setting), _rates(setting), _second_runs(setting), _memory(setting)):
        for line in lines:
            print(line)


def format_goal(text: str, found: float, goal: float | None, *, at_least: bool = False) -> str:
    """Return a line that says what was found, and whether that meets the goal."""
    if goal is None:
        return f"        {text}: {found:.3f} (no goal)"
    met = found >= goal if at_least else found <= goal
    return f"{'met    ' if met else 'NOT MET'} {text}: {found:.3f} (goal {'≥' if at_least else '≤'} {goal:g})"


def _beside_peers(setting: Setting) -> Iterator[str]:
    found = setting.results
    for ours, our_start, peer, peer_start, goal in PEERS:
        if ours not in found or peer not in found:
            continue
        yield format_goal(f"CPU, {ours} / {peer}, whole", _ratio(setting, "cpu", ours, peer), goal)
        if our_start in found and peer_start in found:
            one = _median(setting, ours, "cpu") - _median(setting, our_start, "cpu")
            other = _median(setting, peer, "cpu") - _median(setting, peer_start, "cpu")
            yield format_goal(f"CPU, {ours} / {peer}, beyond start-up", one / other, goal)


def _rates(setting: Setting) -> Iterator[str]:
    found = setting.results
    few, many = "sink: ours, 32 in flight", "sink: ours, 256 in flight"
    if few in found and many in found:
        for name, unit in (("wall", "tarballs/s"), ("cpu", "tarballs per CPU second")):
            ratio = _ratio(setting, name, few, many)
            yield format_goal(f"{unit} with 256 in flight / 32", ratio, 0.8, at_least=True)
        yield from _busy(setting, many)
    for row in found:
        if "ceiling" in row:
            yield from _latency(setting, row)


def _latency(setting: Setting, ceiling: str) -> Iterator[str]:
    in_flight, latency = (int(word) for word in ceiling.split() if word.isdigit())
    count, ideal = len(setting.corpus.files), in_flight / (2 * latency / 1000)
    most = count / _wall(setting, ceiling)
    share = statistics.median(float(usage.note) for usage in setting.results[ceiling])
    yield (
        f"        ideal with {latency} ms on each request and {in_flight} in flight: {ideal:.0f} tarballs/s; a client"
        f" that only copies gets {most:.0f}/s from these servers ({share:.0%} of their core in use)"
    )
    ours = f"sink: ours, {in_flight} in flight, {latency} ms"
    if ours not in setting.results:
        return
    text = f"tarballs/s with {latency} ms, {in_flight} in flight / ideal"
    yield format_goal(f"{text}, whole", count / _wall(setting, ours) / ideal, 0.65, at_least=True)
    for first in (row for row in setting.results if row.endswith(FIRST)):
        beyond = count / (_wall(setting, ours) - _wall(setting, first)) / ideal
        yield format_goal(f"{text}, beyond start-up", beyond, 0.65, at_least=True)
    yield from _busy(setting, ours)


def _second_runs(setting: Setting) -> Iterator[str]:
    for again in setting.results:
        if not again.endswith(NOTHING):
            continue
        cold = again.removesuffix(NOTHING)
        text = f"time of a run that finds nothing changed / cold, {cold}"
        yield format_goal(f"{text}, whole", _wall(setting, again) / _wall(setting, cold), 0.05)
        start = _wall(setting, f"{cold}{ONE}")
        beyond = (_wall(setting, again) - start) / (_wall(setting, cold) - start)
        yield format_goal(f"{text}, beyond start-up", beyond, 0.05)
        yield format_goal(f"  its processor time / cold, {cold}, whole", _ratio(setting, "cpu", again, cold), None)
        yield from _busy(setting, again)
        asked, bodies = setting.results[again][-1].note.split()
        each = int(asked) / len(setting.corpus.names)
        yield format_goal("  upstream requests for each package, beside the one for keys", each, 1)
        yield format_goal("  bodies downloaded", int(bodies), 0)


def _memory(setting: Setting) -> Iterator[str]:
    ours = [usage.rss for row, usages in setting.results.items() if ": ours" in row for usage in usages]
    if ours:
        yield format_goal("largest peak RSS of ours, MB", max(ours) / MB, 150)


def _wall(setting: Setting, row: str) -> float:
    return _median(setting, row, "wall")


def _busy(setting: Setting, row: str) -> Iterator[str]:
    """Say so where a row's time is mostly the neighbours' doing."""
    share = _median(setting, row, "queued") / _wall(setting, row)
    if share > BUSY:
        yield f"        … the machine was busy: {share:.0%} of that time went by waiting for a core"


def _ratio(setting: Setting, name: str, one: str, other: str) -> float:
    return _median(setting, one, name) / _median(setting, other, name)


def _median(setting: Setting, row: str, name: str) -> float:
    found: list[float] = [getattr(usage, name) for usage in setting.results[row]]
    return statistics.median(found)
