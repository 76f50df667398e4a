"""``mirrorwitness status``: what the mirror holds, when it last completed, what is unfinished and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, format_bytes, print_facts, print_json, print_table
from mirrorwitness.cli.why import show_why
from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.coverage import Coverage
from mirrorwitness.run.jobs import read_status

if TYPE_CHECKING:
    from mirrorwitness.run.jobs import MirrorStatus

__all__ = ["status"]

SCHEMA = "mirrorwitness-status-1"


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--why", metavar="NAME[@VERSION]", help="Explain this one: served or not, since when, and what to do.")
@common_options
@json_option
def status(*, why: str | None, is_json: bool, **given: object) -> None:
    """Show what the mirror holds, when it last completed, and what is unfinished and why.

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
    is_complete = not found.unfinished and found.run is not None and found.run.last_complete is not None
    code = ExitCode.COMPLETE if is_complete else ExitCode.PARTIAL
    if is_json:
        print_json(SCHEMA, {**_document(found), "exit_code": int(code)})
    else:
        _print(found)
    stop_with(code)


def _document(found: MirrorStatus) -> dict[str, object]:
    run = found.run
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
        "coverage": None if found.coverage is None else msgspec.to_builtins(found.coverage),
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
            for note in found.unfinished
        ],
        "unfinished_total": found.unfinished_total,
    }


def _print(found: MirrorStatus) -> None:
    run = found.run
    if run is None:
        print_facts([("storage", found.storage), ("last run", "none yet: `mirrorwitness sync --once` makes the first")])
    else:
        holds = found.coverage or Coverage()
        print_facts([
            ("storage", found.storage),
            ("holds", f"{holds.packages} packages, {holds.versions} versions, {format_bytes(holds.bytes)}"),
            ("last complete", run.last_complete or "never"),
            ("last run", f"{run.started} to {run.finished}, exit code {run.exit_code}"),
            ("unfinished", str(found.unfinished_total)),
        ])
    if found.unfinished:
        click.echo()
        rows = ((n.name, str(n.attempts), n.first, n.last, n.reason) for n in found.unfinished)
        print_table(("unfinished", "tries", "since", "last try", "why"), rows, numbers=frozenset({"tries"}))
