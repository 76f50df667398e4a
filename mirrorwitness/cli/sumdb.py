"""``mirrorwitness sumdb``: run a checksum database, the log of what registries published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mirrorwitness.cli.bars import Pace
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_facts, print_json, print_table, warn
from mirrorwitness.cli.sumdb_options import growing_options, make_wishes, place_options
from mirrorwitness.errors import ExitCode
from mirrorwitness.run.sumdb import check_log, init_log, serve_sumdb

if TYPE_CHECKING:
    from mirrorwitness.sumdb.faults import Fault, Report

__all__ = ["sumdb"]

FAULTS_LISTED: Final = 1000
"""Faults that are listed; more are counted only."""

_INIT: Final = "mirrorwitness-sumdb-init-1"
_FSCK: Final = "mirrorwitness-sumdb-fsck-1"
_PLACE: Final = click.option(
    "--storage", required=True, metavar="STORAGE", help="file:DIR, or s3://BUCKET/PREFIX?endpoint=URL."
)


@click.group()
def sumdb() -> None:
    """Run a checksum database: an append-only log of what registries published, for everybody to check against.

    A first database, that grows by what it is asked for:

    \b
      mirrorwitness sumdb init --storage file:sumdb --name sum.example.org --out sumdb.key
      mirrorwitness sumdb serve --storage file:sumdb --key sumdb.key --listen 127.0.0.1:7390 --registry URL

    It proves that everybody sees the same bytes, never that they are safe.
    """


@sumdb.command(epilog=EXIT_CODES_HELP)
@_PLACE
@click.option("--name", required=True, metavar="ORIGIN", help="The log's name, for ever: a host and a path, no scheme.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="KEYFILE",
    help="Where the private keys go; readable by their owner only, never replaced.",
)
@json_option
def init(*, storage: str, name: str, out: Path, is_json: bool) -> None:
    """Begin a log: make its two keys (Ed25519 and ML-DSA-44), sign the empty tree, and print the public halves.

    A log cannot be renamed, get other keys or begin anew: whoever checks against it would be right to call that a fork.

    \b
    Example:
      mirrorwitness sumdb init --storage file:sumdb --name sum.example.org --out sumdb.key
    """
    identity = run_command(
        lambda: init_log(storage, name=name, keep=lambda text: write_key(out, text)), schema=_INIT, is_json=is_json
    )
    vkeys = [str(key) for key in identity.keys]
    if is_json:
        print_json(_INIT, {"origin": identity.origin, "vkeys": vkeys, "key_file": str(out), "exit_code": 0})
        return
    for vkey in vkeys:
        click.echo(vkey)
    hint(f"wrote {out}; keep one copy of it, offline, and publish the lines above")


@sumdb.command(epilog=EXIT_CODES_HELP)
@place_options
@growing_options
@click.option(
    "--listen", default="127.0.0.1:7390", show_default=True, metavar="HOST:PORT", help="Port 0: any free one."
)
@click.option(
    "--at", type=click.IntRange(min=0), metavar="SIZE", help="Show the log as it stood at this size; reads only."
)
@click.option("--read-only", "is_read_only", is_flag=True, help="Serve what is there; needs no key and no registry.")
def serve(*, listen: str, at: int | None, is_read_only: bool, **given: Any) -> None:
    """Serve a log to clients, and let it grow by what they look up and by the registry's feed.

    Prints `listening on http://HOST:PORT` once it accepts requests. What is new is published once the witnesses have
    cosigned it; until then the older checkpoint stays. One process adds to a log; a second one loses and stops. Any
    number of --read-only ones may run beside it. SIGTERM stops it gracefully.

    Exits with 4 where a witness saw more of the log than the storage has: it was restored from an older copy. So
    nothing is added before the quorum has cosigned what is there.

    \b
    Example:
      mirrorwitness sumdb serve --storage file:sumdb --key sumdb.key --listen 127.0.0.1:7390 --registry URL
      mirrorwitness sumdb serve --storage s3://sumdb --key sumdb.key --registry URL --witness VKEY=URL --policy FILE
      mirrorwitness sumdb serve --storage s3://sumdb --read-only
    """
    run_command(
        lambda: serve_sumdb(
            make_wishes(given, is_service=True, at=at, is_read_only=is_read_only),
            listen=listen,
            ready=lambda address: click.echo(f"listening on {address}"),
            told=warn,
        ),
        schema="",
        is_json=False,
    )
    stop_with(ExitCode.COMPLETE)


@sumdb.command(epilog=EXIT_CODES_HELP)
@_PLACE
@json_option
def fsck(*, storage: str, is_json: bool) -> None:
    """Recompute everything that is stored of a log from its records, and compare: tiles, root, indexes, evidence.

    Changes nothing, and may run beside a server. Exits with 4 where something disagrees; each fault is named.

    \b
    Example:
      mirrorwitness sumdb fsck --storage file:sumdb
    """
    told = _Told(is_quiet=is_json)
    report = run_command(
        lambda: check_log(storage, on_fault=told.fault, on_progress=told.progress), schema=_FSCK, is_json=is_json
    )
    code = ExitCode.DIVERGENCE if report.faults else ExitCode.COMPLETE
    if is_json:
        print_json(_FSCK, {**_document(report, told.faults), "exit_code": int(code)})
    else:
        _print(report, told.faults)
    stop_with(code)


class _Told:
    """What a check tells while it runs: how far it has come, on standard error, and what it found."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.faults: list[Fault] = []
        self._is_quiet = is_quiet
        self._pace = Pace()

    def fault(self, fault: Fault) -> None:
        """Keep a fault."""
        if len(self.faults) < FAULTS_LISTED:
            self.faults.append(fault)

    def progress(self, done: int, all_of_them: int) -> None:
        """Say from time to time how many records are checked."""
        if not self._is_quiet and self._pace.is_due():
            hint(f"checked {done:,} of {all_of_them:,} records, {len(self.faults)} faults")


def _document(report: Report, faults: list[Fault]) -> dict[str, object]:
    return {
        "origin": report.origin,
        "size": report.size,
        "root": None if report.root is None else report.root.hex(),
        "tiles": report.tiles,
        "packages": report.packages,
        "staged": report.staged,
        "fault_count": report.faults,
        "faults": [{"key": fault.key, "found": fault.found, "expected": fault.expected} for fault in faults],
    }


def _print(report: Report, faults: list[Fault]) -> None:
    if faults:
        print_table(("object", "found", "expected"), [(fault.key, fault.found, fault.expected) for fault in faults])
        click.echo()
    print_facts([
        ("log", report.origin),
        ("records", f"{report.size:,}"),
        ("root", "unknown: records are lost" if report.root is None else report.root.hex()),
        ("tiles compared", f"{report.tiles:,}"),
        ("packages", f"{report.packages:,}"),
        ("faults", f"{report.faults:,}" if report.faults else "none"),
    ])
    if report.staged:
        hint(f"{report.staged} records of the last batch are not in the tree yet; the next `sumdb serve` completes it")
