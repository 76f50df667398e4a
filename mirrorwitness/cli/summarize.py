"""``mirrorwitness summarize``: write the summary of all versions anew."""

from __future__ import annotations

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_facts, print_json
from mirrorwitness.errors import ExitCode
from mirrorwitness.run.describe import rebuild_summary

__all__ = ["summarize"]

SCHEMA = "mirrorwitness-summarize-1"


@click.command(epilog=EXIT_CODES_HELP)
@common_options
@json_option
def summarize(*, is_json: bool, **given: object) -> None:
    """Write the summary that others compare this mirror by anew, from the records of all packages.

    Every run of sync keeps it up to date; this is for a summary that was damaged or has lost something. It reads one
    record for each package, and removes nodes that belong to no tree. Not while a sync runs.

    \b
    Example:
      mirrorwitness summarize --storage file:mirror
    """
    options = Options.of(given)
    done = run_command(lambda: rebuild_summary(options.load(needs_registry=False)), schema=SCHEMA, is_json=is_json)
    head = done.head
    if is_json:
        content = {
            "root": head.root,
            "packages": head.packages,
            "versions": head.versions,
            "nodes": done.nodes,
            "removed": done.removed,
            "described": done.is_described,
            "exit_code": int(ExitCode.COMPLETE),
        }
        print_json(SCHEMA, content)
    else:
        print_facts([
            ("root", head.root),
            ("summary of", f"{head.versions} versions of {head.packages} packages"),
            ("nodes", f"{done.nodes}, and {done.removed} removed that belonged to none"),
        ])
        if not done.is_described:
            hint("the mirror has not described itself yet: the next sync publishes the root")
    stop_with(ExitCode.COMPLETE)
