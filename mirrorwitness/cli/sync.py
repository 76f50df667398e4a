"""``mirrorwitness sync``: download, verify, store."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import guard, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option, selection_options, sumdb_options
from mirrorwitness.cli.output import (
    EXIT_CODES_HELP,
    format_bytes,
    hint,
    list_counts,
    print_facts,
    print_json,
    print_table,
    warn,
)
from mirrorwitness.mirror.shards import WHOLE, parse_shard
from mirrorwitness.run.following import run_follow
from mirrorwitness.run.mirroring import run_sync
from mirrorwitness.run.processes import run_processes
from mirrorwitness.run.serve import parse_listen

if TYPE_CHECKING:
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.run.session import Wishes

__all__ = ["sync"]

SCHEMA = "mirrorwitness-sync-1"
_log = logging.getLogger("mirrorwitness.run")


@click.command(epilog=EXIT_CODES_HELP)
@selection_options
@common_options
@sumdb_options
@click.option("--once", is_flag=True, help="Bring the mirror up to date, then exit; for scheduled jobs.")
@click.option("--follow", is_flag=True, help="Follow the feed until a signal arrives.")
@click.option("--feed", metavar="URL", help="The registry's replication feed. Default: [feed] of the configuration.")
@click.option(
    "--shard",
    metavar="I/N",
    help="The I-th of N parts, each with its own cursor; job/N in an Indexed Job.",
)
@click.option("--processes", type=click.IntRange(min=1, max=64), default=1, metavar="N", help="Work in N processes.")
@click.option("--metrics", metavar="HOST:PORT", help="With --follow: answer /metrics, /healthz and /readyz here.")
@click.option("--dry-run", is_flag=True, help="Print the plan instead: the same as `mirrorwitness plan`.")
@json_option
@click.pass_context
def sync(
    context: click.Context,
    /,
    *,
    once: bool,
    follow: bool,
    shard: str | None,
    processes: int,
    dry_run: bool,
    is_json: bool,
    **given: object,
) -> None:
    """Bring the mirror up to date: every selected version's tarball, verified, then the documents that name it.

    Safe to interrupt and to run again at any time; what is stored stays consistent at every instant. With a feed,
    --once asks only for what the feed says has changed; packages named here are asked for one by one all the same.
    With --sumdb, a version is visible only where that checksum database has the same integrity.

    \b
    Example:
      mirrorwitness sync --once
      mirrorwitness sync --follow --feed https://replicate.example/registry
      mirrorwitness sync --follow --shard 1/4 --processes 2
      mirrorwitness sync --once --lockfile package-lock.json --storage file:mirror
      mirrorwitness sync --once --sumdb VKEY=https://sumdb.example.org --policy sumdb.policy
      mirrorwitness sync --once --storage 's3://bucket/mirror?endpoint=http://127.0.0.1:8333'
    """
    if dry_run:
        from mirrorwitness.cli.plan import plan  # noqa: PLC0415 - only here, and only in this case

        context.invoke(plan, exact=False, is_json=is_json, **given)
    if once == follow:
        raise click.UsageError("give --once for one pass, or --follow to go on until a signal arrives")
    if once and given.get("metrics"):
        raise click.UsageError(
            "--metrics goes with --follow; after a --once, `serve` and `status` tell how the mirror is"
        )
    job_index = os.environ.get("JOB_COMPLETION_INDEX")
    part = guard(
        lambda: WHOLE if shard is None else parse_shard(shard, job_index=job_index), schema=SCHEMA, is_json=is_json
    )
    job = _Job(Options.of(given), part, is_once=once, is_json=is_json)
    if processes == 1:
        summary = guard(lambda: job.run(part), schema=SCHEMA, is_json=is_json)
    else:
        parts = part.split(processes)
        summary = guard(lambda: run_processes(job.run, parts), schema=SCHEMA, is_json=is_json)
    code = summary.exit_code()
    if is_json:
        print_json(SCHEMA, {**_document(summary), "exit_code": int(code)})
    else:
        _print(summary)
    if summary.fatal is not None:
        click.echo(f"error: the run stopped early: {summary.fatal}", err=True)
    stop_with(code)


@dataclass(frozen=True, slots=True)
class _Job:
    """What one process does for its shard."""

    options: Options
    whole: Shard
    is_once: bool
    is_json: bool

    def run(self, shard: Shard) -> RunSummary:
        wishes = self.options.load(is_service=not self.is_once)
        is_following = not self.is_once or (wishes.config.feed.url is not None and not self.options.names_packages)
        # A line for each package is progress enough.
        is_logged = logging.getLogger("mirrorwitness.run").isEnabledFor(logging.INFO)
        _log.info("run_started", extra={"shard": str(shard), "follows": is_following, "once": self.is_once})
        with show_progress("mirroring", is_quiet=self.is_json or is_logged) as progress:
            if is_following:
                follow = partial(run_follow, wishes, progress, shard=shard, is_once=self.is_once)
                summary = trio.run(partial(follow, listen=self._find_listen(wishes, shard), ready=_say_metrics))
            else:
                summary = trio.run(partial(run_sync, wishes, progress, shard=shard))
        extra: dict[str, object] = {"shard": str(shard), "exit_code": int(summary.exit_code())}
        if summary.fatal is not None:
            extra["reason"] = str(summary.fatal)
        _log.info("run_finished", extra={**extra, "counts": dict(sorted(summary.counts.items()))})
        return summary

    def _find_listen(self, wishes: Wishes, shard: Shard) -> tuple[str, int] | None:
        """Return where this process answers: each further process takes the next port."""
        address = wishes.config.observe.metrics
        if address is None or self.is_once:
            return None
        host, port = parse_listen(address)
        return host, port + (shard.index - self.whole.index) // self.whole.total if port else 0


def _say_metrics(address: str) -> None:
    hint(f"metrics at {address}/metrics")


def _document(summary: RunSummary) -> dict[str, object]:
    return {
        "counts": dict(sorted(summary.counts.items())),
        "sources": dict(sorted(summary.sources.items())),
        "problems": [
            {"name": problem.name, "status": problem.status, "reason": problem.reason} for problem in summary.problems
        ],
        "alarms": summary.alarms,
        "evidence": summary.evidence,
        "stopped_by": None if summary.fatal is None else str(summary.fatal),
        "interrupted": summary.is_interrupted,
    }


def _asked_log(summary: RunSummary) -> bool:
    return bool(summary.counts["logged"] or summary.counts["unvouched"])


def _print(summary: RunSummary) -> None:
    counts = summary.counts
    states = ("updated", "unchanged", "unfinished", "diverged")
    print_facts([
        ("packages", ", ".join(f"{counts[f'packages_{state}']} {state}" for state in states)),
        ("downloaded", f"{counts['tarballs_downloaded']} tarballs, {format_bytes(counts['bytes_downloaded'])}"),
        *(
            [("from", ", ".join(f"{url} {format_bytes(size)}" for url, size in summary.sources.most_common()))]
            if len(summary.sources) > 1
            else []
        ),
        ("mirror holds", f"{counts['versions']} versions, {format_bytes(counts['bytes'])}"),
        ("signatures", list_counts(counts, "signature_") or "none"),
        *([("log", f"vouches for {counts['logged']}, not for {counts['unvouched']}")] if _asked_log(summary) else []),
        ("not served", list_counts(counts, "blocked_") or "nothing"),
    ])
    if summary.problems:
        click.echo()
        print_table(("package", "state", "why"), ((p.name, p.status, p.reason) for p in summary.problems))
    for alarm in summary.alarms:
        warn(alarm)
    for key in summary.evidence:
        hint(f"evidence: {key}")
