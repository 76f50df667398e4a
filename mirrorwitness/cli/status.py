"""``mirrorwitness status``: what the mirror holds, when it last completed, what is unfinished and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, format_bytes, print_facts, print_json, print_table, warn
from mirrorwitness.cli.why import show_why
from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.coverage import Coverage
from mirrorwitness.mirror.health import format_span, lag_of, last_alarms, stamp_of
from mirrorwitness.run.jobs import read_status

if TYPE_CHECKING:
    from mirrorwitness.mirror.health import ShardCursor
    from mirrorwitness.mirror.snapshot import MirrorSnapshot
    from mirrorwitness.run.jobs import MirrorStatus

__all__ = ["status"]

SCHEMA = "mirrorwitness-status-1"


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--why", metavar="NAME[@VERSION]", help="Explain this one: served or not, since when, and what to do.")
@common_options
@json_option
def status(*, why: str | None, is_json: bool, **given: object) -> None:
    """Show what the mirror holds, how far each shard is, when it last completed, and what is unfinished and why.

    Exits with 3 while something is unfinished or no run has completed, else with 0. With --why: 0 where it is served,
    or not served by decision; 3 where it is unfinished or unknown; 4 where something disagrees. Asks nobody but the
    storage.

    \b
    Example:
      mirrorwitness status --storage file:mirror
      mirrorwitness status --why left-pad@1.1.0
    """
    options = Options.of(given)
    if why is not None:
        show_why(options, why, is_json=is_json)
    found = run_command(lambda: read_status(options.load(needs_registry=False)), schema=SCHEMA, is_json=is_json)
    code = ExitCode.COMPLETE if _is_complete(found.snapshot) else ExitCode.PARTIAL
    if is_json:
        print_json(SCHEMA, {**_document(found), "exit_code": int(code)})
    else:
        _print(found)
    stop_with(code)


def _is_complete(snapshot: MirrorSnapshot) -> bool:
    """Say whether everything was brought up to date once, by a run or by following, and nothing is wrong now."""
    has_run = snapshot.run is not None and snapshot.run.last_complete is not None
    has_caught_up = bool(snapshot.cursors) and all(cursor.record.caught_up for cursor in snapshot.cursors)
    return (has_run or has_caught_up) and not snapshot.unfinished and not snapshot.troubles


def _document(found: MirrorStatus) -> dict[str, object]:
    snapshot = found.snapshot
    run, budget = snapshot.run, snapshot.budget
    return {
        "storage": found.storage,
        "last_run": None
        if run is None
        else {
            "started": run.started,
            "finished": run.finished,
            "exit_code": run.exit_code,
            "last_complete": run.last_complete,
            "counts": dict(sorted(run.counts.items())),
            "storage_check": run.storage_check,
        },
        "coverage": None if snapshot.coverage is None else msgspec.to_builtins(snapshot.coverage),
        "troubles": snapshot.troubles,
        "shards": [_shard(cursor, snapshot) for cursor in snapshot.cursors],
        "alarms": [
            {"at": at, "kind": kind, "text": text, "shard": shard}
            for at, kind, text, shard in last_alarms(snapshot.cursors)
        ],
        "budget": None
        if budget is None
        else {
            "month": budget.month,
            "allowed": budget.allowed,
            "taken": budget.taken,
            "left": budget.left,
            "renews": budget.renews,
        },
        "unfinished": [
            {
                "name": note.name,
                "reason": note.reason,
                "kind": note.kind,
                "versions": note.versions,
                "attempts": note.attempts,
                "first": note.first,
                "last": note.last,
            }
            for note in snapshot.unfinished
        ],
        "unfinished_total": snapshot.unfinished_total,
    }


def _shard(cursor: ShardCursor, snapshot: MirrorSnapshot) -> dict[str, object]:
    record = cursor.record
    lag, sweep = lag_of(record, snapshot.at), record.sweep
    return {
        "shard": str(cursor.shard),
        "position": record.position,
        "head": record.head,
        "lag_seconds": None if lag is None else round(lag),
        "owed": record.owed,
        "unfinished": record.unfinished,
        "sweep": None
        if sweep is None
        else {"reason": sweep.reason, "listed": sweep.listed, "behind": sweep.behind, "since": stamp_of(sweep.started)},
        "swept": stamp_of(record.swept) if record.swept else None,
        "saved": record.saved,
        "worker": record.worker,
    }


def _print(found: MirrorStatus) -> None:
    snapshot = found.snapshot
    run, budget = snapshot.run, snapshot.budget
    facts = [("storage", found.storage)]
    holds = snapshot.coverage or Coverage()
    if run is not None or snapshot.cursors:
        facts.append(("holds", f"{holds.packages} packages, {holds.versions} versions, {format_bytes(holds.bytes)}"))
    if run is not None:
        facts += [
            ("last complete", run.last_complete or "never"),
            ("last run", f"{run.started} to {run.finished}, exit code {run.exit_code}"),
        ]
    elif not snapshot.cursors:
        facts.append(("last run", "none yet: `mirrorwitness sync --once` makes the first"))
    if run is not None or snapshot.cursors:
        facts.append(("unfinished", str(snapshot.unfinished_total)))
    if budget is not None:
        left = f"{budget.left:,} requests of {budget.allowed:,} left for {budget.month}, renews {budget.renews}"
        facts.append(("budget", left))
    print_facts(facts)
    for trouble in snapshot.troubles:
        warn(f"stuck: {trouble}")
    _print_shards(snapshot)
    if snapshot.unfinished:
        click.echo()
        rows = ((n.name, str(n.attempts), n.first, n.last, n.reason) for n in snapshot.unfinished)
        print_table(("unfinished", "tries", "since", "last try", "why"), rows, numbers=frozenset({"tries"}))


def _print_shards(snapshot: MirrorSnapshot) -> None:
    if snapshot.cursors:
        click.echo()
        columns = ("shard", "position", "lag", "owed", "unfinished", "comparing all names", "saved")
        rows = (_row(cursor, snapshot) for cursor in snapshot.cursors)
        print_table(columns, rows, numbers=frozenset({"owed", "unfinished"}))
    alarms = last_alarms(snapshot.cursors)
    if alarms:
        click.echo()
        print_table(("alarm", "shard", "kind", "what"), ((at, shard, kind, text) for at, kind, text, shard in alarms))


def _row(cursor: ShardCursor, snapshot: MirrorSnapshot) -> tuple[str, ...]:
    record = cursor.record
    lag, sweep = lag_of(record, snapshot.at), record.sweep
    comparing = "never yet"
    if sweep is not None:
        comparing = f"{sweep.reason}: {sweep.listed:,} so far, {sweep.behind:,} behind"
    elif record.swept:
        comparing = f"{format_span(max(0.0, snapshot.at.timestamp() - record.swept))} ago"
    return (
        str(cursor.shard),
        record.position if record.position == record.head else f"{record.position} of {record.head}",
        "not caught up" if lag is None else format_span(lag),
        str(record.owed),
        str(record.unfinished),
        comparing,
        record.saved,
    )
