"""``mirrorwitness store-copy``: move a storage from one address to another."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mirrorwitness.cli.bars import Pace
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, format_bytes, hint, print_facts, print_json, print_table, warn
from mirrorwitness.run.copy_report import CopyStep, CopyWishes
from mirrorwitness.run.copying import copy_address

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mirrorwitness.run.copy_report import CopyReport, Found

__all__ = ["store_copy"]

SCHEMA = "mirrorwitness-store-copy-1"


@click.command(name="store-copy", epilog=EXIT_CODES_HELP)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--replace", "replaces", is_flag=True, help="Replace what differs in TO; else it is refused.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Say what would be copied and what differs; write nothing.")
@json_option
def store_copy(*, source: str, target: str, replaces: bool, is_dry: bool, is_json: bool) -> None:
    """Copy a storage of any kind to another address: from a directory to a bucket, back, or between two of a kind.

    First stop everything that writes to FROM. The copy can be killed and run again at any time: what TO has already is
    compared byte by byte and not written twice, and what only TO has is left alone. Where an object differs in TO
    nothing is written (exit code 2) without --replace; and none is ever replaced where the copy of a witness, a log or
    a log mirror was finished, as something may have been started on it since. When FROM was written to meanwhile the
    exit code is 3: stop that, and run it again.

    Once it is complete, never start a witness, a log or a log mirror on FROM again: two copies of one signer contradict
    each other.

    \b
    Example:
      mirrorwitness store-copy file:state s3://bucket/witness --dry-run
      mirrorwitness store-copy file:state s3://bucket/witness
      mirrorwitness store-copy 's3://bucket/npm?endpoint=http://127.0.0.1:8333' file:mirror
    """
    wishes = CopyWishes(source=source, target=target, replaces=replaces, is_dry=is_dry)
    with _show_progress(is_quiet=is_json) as told:
        report = run_command(lambda: copy_address(wishes, told), schema=SCHEMA, is_json=is_json)
    code = report.exit_code()
    if is_json:
        print_json(SCHEMA, {**_document(report), "exit_code": int(code)})
    else:
        _print(report)
    _advise(report)
    stop_with(code)


@contextmanager
def _show_progress(*, is_quiet: bool) -> Generator[Callable[[CopyStep], None]]:
    """Show how far it is: a bar on a terminal, a line now and then elsewhere."""
    if is_quiet:
        yield lambda _step: None
    elif not sys.stderr.isatty():
        yield _Lines(time.monotonic)
    else:
        from rich.console import Console  # noqa: PLC0415 - slow to import, and jobs have no terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        texts = TextColumn("{task.description}"), TextColumn("objects · {task.fields[size]}")
        columns = (texts[0], BarColumn(), MofNCompleteColumn(), texts[1], TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("looking", total=None, size="")
            yield lambda step: bar.update(
                task, description=step.doing, completed=step.objects, total=step.total, size=format_bytes(step.size)
            )


class _Lines:
    """Plain lines of progress for a job's log."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._pace = Pace(clock)

    def __call__(self, step: CopyStep) -> None:
        if self._pace.is_due():
            of = "" if step.total is None else f" of {step.total}"
            hint(f"{step.doing}: {step.objects}{of} objects, {format_bytes(step.size)}")


def _document(report: CopyReport) -> dict[str, object]:
    return {
        "from": report.wishes.source,
        "to": report.wishes.target,
        "is_dry_run": report.wishes.is_dry,
        "source": _counts(report.source),
        "present": _counts(report.present),
        "copied": _counts(report.copied),
        "differing": _counts(report.differing),
        "differences": [
            {"key": item.key, "from_bytes": item.source_bytes, "to_bytes": item.target_bytes}
            for item in report.differences
        ],
        "only_in_to": {**_counts(report.only_in_target), "first": sorted(report.only_in_target.first)},
        "changed": {**_counts(report.changed), "first": sorted(report.changed.first)},
        "stood_still": report.is_still,
        "signers": sorted(report.signers),
    }


def _counts(found: Found) -> dict[str, object]:
    return {"objects": found.count, "bytes": found.size}


def _print(report: CopyReport) -> None:
    is_dry = report.wishes.is_dry
    facts = [
        ("from", f"{report.wishes.source}: {_shown(report.source)}"),
        ("to", report.wishes.target),
        ("there already", f"{_shown(report.present)}, with the same bytes"),
        ("would be copied" if is_dry else "copied", _shown(report.copied)),
    ]
    if report.differing.count:
        of_copied = "" if is_dry else ", among those copied"
        facts.append(("differ" if is_dry else "replaced", f"{_shown(report.differing)}{of_copied}"))
    if report.only_in_target.count:
        facts.append(("only in TO", f"{_shown(report.only_in_target)}, left alone: {_named(report.only_in_target)}"))
    print_facts(facts)
    if is_dry and report.differences:
        rows = [
            (item.key, f"{item.source_bytes:,}", f"{item.target_bytes:,}")
            for item in sorted(report.differences, key=lambda item: item.key)
        ]
        print_table(("differs", "bytes in FROM", "in TO"), rows, numbers=frozenset({"bytes in FROM", "in TO"}))


def _shown(found: Found) -> str:
    return f"{found.count} object{'' if found.count == 1 else 's'}, {format_bytes(found.size)}"


def _named(found: Found) -> str:
    more = found.count - len(found.first)
    return ", ".join(sorted(found.first)) + (f", and {more} more" if more else "")


def _advise(report: CopyReport) -> None:
    """Tell a person what follows."""
    if any(key.startswith("state/") for key in report.only_in_target.first):
        warn(
            "TO has state that FROM does not have, and keeps it: what is started on TO goes on from that as well. Was "
            "TO meant to be empty?"
        )
    if report.is_refused:
        warn(report.refusal())
    elif not report.is_still:
        names = f"; TO does not have as it is now: {_named(report.changed)}" if report.changed.count else ""
        again = " with --replace" if report.changed.count else ""
        warn(
            f"FROM was written to meanwhile{names}. The copy is not finished: stop whatever writes there, and run this "
            f"again{again}"
        )
    elif report.signers and not report.wishes.is_dry:
        warn(
            f"FROM has the state of a signer ({', '.join(sorted(report.signers))}): never start anything on FROM "
            "again. Two copies of one signer contradict each other, and nothing undoes that"
        )
