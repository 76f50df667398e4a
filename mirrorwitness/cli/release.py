"""``mirrorwitness release``: let in again what upstream withdrew."""

from __future__ import annotations

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_json, print_table, warn
from mirrorwitness.run.release import run_release

__all__ = ["release"]

SCHEMA = "mirrorwitness-release-1"


@click.command(epilog=EXIT_CODES_HELP)
@click.argument("subjects", nargs=-1, required=True, metavar="NAME[@VERSION]|URL...")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept for ever, beside the tombstone.")
@common_options
@json_option
def release(*, subjects: tuple[str, ...], reason: str, is_json: bool, **given: object) -> None:
    """Let in again what upstream withdrew, or a source that was dropped for wrong bytes.

    Versions may be hidden, purged or quarantined. A name without a version means all withdrawn versions of that
    package. The release is for the withdrawal that is known now; a later one needs another. Bytes are verified on their
    way out of quarantine; purged ones come back only where upstream lists them. Exits with 0 also where the selection
    or a signature keeps a released version out.

    \b
    Example:
      mirrorwitness release left-pad@1.1.0 --reason 'compared with our own copy'
      mirrorwitness release https://mirror.example.org --reason 'its disk was replaced'
    """
    options = Options.of(given)
    summary = run_command(lambda: run_release(options.load(), subjects, reason=reason), schema=SCHEMA, is_json=is_json)
    if is_json:
        released = [{"version": version, "served": served} for version, served in summary.released.items()]
        document = {"released": released, "sources": summary.sources, "problems": summary.problems}
        print_json(SCHEMA, {**document, "exit_code": int(summary.code)})
    else:
        for url in summary.sources:
            hint(f"asked again from the next run on: {url}")
        rows = ((version, "yes" if served else "no") for version, served in summary.released.items())
        if summary.released:
            print_table(("released", "served now"), rows)
    for problem in summary.problems.values():
        warn(problem)
    stop_with(summary.code)
