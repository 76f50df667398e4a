"""``mirrorwitness logmirror attest``: cosign that the tarballs of a checksum database are held."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.logmirror import cosigner_options
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, print_json, print_table, warn
from mirrorwitness.run.attesting import GAPS_SHOWN, AttestWishes, attest
from mirrorwitness.telemetry import LEVELS, configure_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.logmirror.attest import Attested
    from mirrorwitness.run.cosigners import CosignerWishes

__all__ = ["attest_command"]

SCHEMA: Final = "mirrorwitness-logmirror-attest-1"


@click.command("attest", epilog=EXIT_CODES_HELP)
@click.option(
    "--trust-records",
    "trusts_records",
    is_flag=True,
    help="Believe the digests that were computed when tarballs were stored, and read none.",
)
@click.option("--again", "begins_anew", is_flag=True, help="Look at all tarballs again, not only at what is new.")
@click.option("--contact", metavar="ADDRESS", help="How a log's operator reaches you; in the User-Agent.")
@click.option("--log-level", type=click.Choice(LEVELS), help="What is logged to standard error.")
@json_option
@cosigner_options
def attest_command(
    *,
    wishes: CosignerWishes,
    trusts_records: bool,
    begins_anew: bool,
    contact: str | None,
    log_level: str | None,
    is_json: bool,
) -> None:
    """Look whether this mirror holds every tarball of a checksum database, and cosign the largest tree that it does.

    --storage is that of the npm mirror. Of each version whose newest record is a publication, the tarball is read and
    compared with the record; once, the next run looks at what is new. At the first gap it stops signing and names it:
    leaf, version, and what is missing. A log without a URL is read from its copy in the same storage.

    Exits with 3 where a head is not attested, with 4 where a tarball is another one than the log says or the log
    contradicts itself, with 5 where no log could be read.

    \b
    Example:
      mirrorwitness logmirror attest --storage s3://npm-mirror --key a1.key --log VKEY=https://sum.example.org
    """
    configure_logs(level=log_level or "error", is_terminal=sys.stderr.isatty())
    asked = AttestWishes(cosigner=wishes, trusts_records=trusts_records, begins_anew=begins_anew, contact=contact)
    result = run_command(lambda: attest(asked, on_progress=_tell), schema=SCHEMA, is_json=is_json)
    if is_json:
        print_json(SCHEMA, {**result.document(), "exit_code": int(result.exit_code())})
        stop_with(result.exit_code())
    titles = ("log", "head", "looked at", "signed", "gaps")
    print_table(titles, map(_row, result.logs), numbers=frozenset(titles[1:]))
    for log in result.logs:
        for gap in log.gaps[:GAPS_SHOWN]:
            warn(f"{log.origin}: {gap}")
        if len(log.gaps) > GAPS_SHOWN:
            warn(f"{log.origin}: and {len(log.gaps) - GAPS_SHOWN} more")
    for origin, error in result.failed:
        warn(f"{origin}: {error}")
    stop_with(result.exit_code())


def _tell(origin: str, looked: int, size: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"{origin}: {looked} of {size} records looked at", err=True)


def _row(log: Attested) -> Sequence[str]:
    signed = "" if log.signed is None else str(log.signed)
    return (log.origin, str(log.head), str(log.looked), signed, str(len(log.gaps)))
