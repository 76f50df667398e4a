"""``mirrorwitness check``: lockfiles, tarballs and versions against a checksum database."""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import guard, run_command, stop_with
from mirrorwitness.cli.output import EXIT_CODES_HELP, format_bytes, hint, print_facts, print_json, print_table, warn
from mirrorwitness.errors import ConfigurationError, MirrorWitnessError
from mirrorwitness.run.checking import CheckWishes, run_check
from mirrorwitness.run.files import read_file
from mirrorwitness.run.trouble import trouble_of
from mirrorwitness.sumdb.client import MAX_AGE
from mirrorwitness.sumdb.proofbundle import MAX_BUNDLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.errors import ExitCode
    from mirrorwitness.run.check_report import Checked, CheckReport

__all__ = ["check", "default_state"]

SCHEMA: Final = "mirrorwitness-check-1"

_FILE: Final = click.Path(path_type=Path)
_STDOUT: Final = "-"
_LONG_DIGEST: Final = re.compile(r"(\bsha(?:256|384|512)-[A-Za-z0-9+/]{12})[A-Za-z0-9+/]+={0,2}")
"""A digest, for tables: 12 characters tell it from others; JSON and SARIF have it whole."""


def _read_age(_context: click.Context, _option: click.Parameter, value: str | None) -> timedelta | None:
    """Read a length of time, ``24 h`` or ``30 min``; 0 is one."""
    if value is None:
        return None
    from mirrorwitness.config.quantities import Seconds, parse_quantity  # noqa: PLC0415 - brings all options of a mirror

    try:
        return timedelta(seconds=float(parse_quantity(Seconds, value)))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from error


@click.command(epilog=EXIT_CODES_HELP)
@click.argument("arguments", nargs=-1, required=True, metavar="LOCKFILE|TARBALL|NAME@VERSION...")
@click.option(
    "--sumdb",
    multiple=True,
    required=True,
    metavar="VKEY[,VKEY][=URL]",
    help="Keys of the log, and its address: what comes before /checkpoint. Without an address nobody is asked.",
)
@click.option("--policy", type=_FILE, metavar="FILE", help="Who has to have cosigned (tlog-policy). Default: nobody.")
@click.option("--bundle", type=_FILE, metavar="FILE", help="Check against the proofs in FILE; nobody is asked.")
@click.option("--write-bundle", type=_FILE, metavar="FILE", help="Write the proofs of all that was found for --bundle.")
@click.option("--state", type=_FILE, metavar="DIR", help="What was verified before. Default: in the user's cache.")
@click.option("--registry", metavar="URL", help="Whose names these have to be. Default: any registry's.")
@click.option(
    "--withdrawn",
    type=click.Choice(["warn", "refuse"]),
    default="warn",
    show_default=True,
    help="What becomes of versions that their registry took away: told, or not accepted (exit code 3).",
)
@click.option(
    "--max-age",
    callback=_read_age,
    metavar="TIME",
    help="Ask again for what an earlier run verified longer ago; 0: for everything. Default: 24 h.",
)
@click.option("--sarif", metavar="FILE", help="Write what is not fine as SARIF 2.1.0; - for standard output.")
@click.option("--verbose", is_flag=True, help="List also what is fine.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of tables.")
def check(
    *,
    arguments: tuple[str, ...],
    sumdb: tuple[str, ...],
    policy: Path | None,
    bundle: Path | None,
    write_bundle: Path | None,
    state: Path | None,
    registry: str | None,
    withdrawn: str,
    max_age: timedelta | None,
    sarif: str | None,
    verbose: bool,
    is_json: bool,
) -> None:
    """Check that a log has what a lockfile pins, or the bytes of a tarball, and that witnesses have seen that log.

    Each version is looked up in the checksum database. Its record has to name the same integrity, and a proof has to
    show that the log has the record, under a checkpoint that the log signed, that the policy's witnesses cosigned, and
    that goes on from the one of the last run. It proves that bytes are authentic, never that they are safe.

    With --bundle, or for tarballs with a FILE.tlog-proof beside them, nobody is asked.

    \b
    Example:
      mirrorwitness check package-lock.json --sumdb VKEY=https://sumdb.example.org --policy witnesses.policy
      mirrorwitness check left-pad@1.3.0 --sumdb VKEY=https://sumdb.example.org
      mirrorwitness check package-lock.json --sumdb VKEY --policy witnesses.policy --bundle proofs.bundle
    """
    if is_json and sarif == _STDOUT:
        raise click.UsageError("--json and --sarif - both go to standard output: give --sarif a file")

    def make_wishes() -> CheckWishes:
        return CheckWishes(
            arguments=arguments,
            sumdb=sumdb,
            policy=None if policy is None else read_file(policy),
            bundle=None if bundle is None else read_file(bundle, limit=MAX_BUNDLE_BYTES),
            state=state or default_state(os.environ, sys.platform),
            registry=registry,
            refuses_withdrawn=withdrawn == "refuse",
            max_age=MAX_AGE if max_age is None else max_age,
        )

    async def work() -> CheckReport:
        return await run_check(make_wishes(), progress)

    def on_error(error: BaseException, code: ExitCode) -> Mapping[str, object]:
        if not isinstance(error, MirrorWitnessError):
            return {}  # interrupted: nothing was found out
        return _tell_trouble(error, code, arguments, sarif)

    with show_progress("checking", is_quiet=is_json, counts_tarballs=False) as progress:
        report = run_command(work, schema=SCHEMA, is_json=is_json, on_error=on_error)
    guard(lambda: _write_files(report, write_bundle, sarif), schema=SCHEMA, is_json=is_json)
    code = report.exit_code()
    if is_json:
        print_json(SCHEMA, {**report.document(), "exit_code": int(code)})
    else:
        _print(report, is_verbose=verbose, has_table=sarif != _STDOUT)
    stop_with(code)


def default_state(environment: Mapping[str, str], platform: str) -> Path:
    """Return the directory in the user's cache where what was verified is kept.

    Raises:
        ConfigurationError: the user has none.
    """
    if platform == "win32":
        base = environment.get("LOCALAPPDATA")
    elif platform == "darwin":
        base = _below(environment.get("HOME"), "Library/Caches")
    else:
        base = environment.get("XDG_CACHE_HOME") or _below(environment.get("HOME"), ".cache")
    if not base:
        raise ConfigurationError("no place for what was verified: the environment names no home; give --state DIR")
    return Path(base) / "mirrorwitness" / "sumdb"


def _below(home: str | None, folder: str) -> str | None:
    return f"{home}/{folder}" if home else None


def _write_files(report: CheckReport, bundle: Path | None, sarif: str | None) -> None:
    if bundle is not None:
        _write(bundle, report.format_bundle())
    if sarif is not None:
        from mirrorwitness.cli.sarif import format_sarif  # noqa: PLC0415 - rarely needed

        _write_sarif(sarif, format_sarif(report, version=_version()))


def _tell_trouble(
    error: MirrorWitnessError, code: ExitCode, arguments: Sequence[str], sarif: str | None
) -> dict[str, object]:
    """Say what ended a check where findings are looked for: in the SARIF file, and in the JSON document."""
    if sarif is not None:
        from mirrorwitness.cli.sarif import format_trouble  # noqa: PLC0415 - rarely needed

        try:
            _write_sarif(sarif, format_trouble(error, code, arguments, version=_version()))
        except ConfigurationError as unwritten:
            warn(str(unwritten))  # the error itself weighs more
    return {"findings": [{"verdict": str(trouble_of(error)), "reason": str(error)}]}


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - slow to import

    return metadata.version("mirrorwitness")


def _write_sarif(place: str, body: bytes) -> None:
    if place == _STDOUT:
        click.echo(body, nl=False)
    else:
        _write(Path(place), body)


def _write(path: Path, body: bytes) -> None:
    try:
        path.write_bytes(body)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error


def _print(report: CheckReport, *, is_verbose: bool, has_table: bool) -> None:
    shown = [item for item in report.checked if is_verbose or not item.is_fine] if has_table else []
    if shown:
        print_table(("verdict", "what", "where", "why"), map(_row, shown))
        click.echo()
    for sentence in report.warnings():
        warn(sentence)
    if has_table:
        print_facts(_facts(report))
    if any(item.verdict.is_divergence for item in report.checked):
        hint("do not install what does not agree; what the log has for one version: `mirrorwitness check NAME@VERSION`")


def _row(item: Checked) -> tuple[str, str, str, str]:
    lines = ",".join(map(str, item.subject.lines))
    where = f"{item.subject.source}:{lines}" if lines else item.subject.source
    record = None if item.found is None else item.found.record
    why = item.judgement.reason or ("" if record is None else record.integrity)
    return str(item.verdict), item.subject.title, where if item.subject.is_file else "", _LONG_DIGEST.sub(r"\1…", why)


def _facts(report: CheckReport) -> list[tuple[str, str]]:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts().items()) or "nothing"
    facts = [("checked", f"{_entries(len(report.checked))}: {counts}"), ("log", report.terms.origin)]
    for item in report.believed:
        cosigners = ", ".join(f"{name} at {at or 'no time'}" for name, at in item.signers()) or "nobody else"
        facts.append(("checkpoint", f"size {item.tree.size}, cosigned by {cosigners}"))
    if not report.is_offline:
        received = f"{format_bytes(report.traffic.size)} in {report.traffic.requests} requests"
        facts += [
            ("compared", "with nothing: this is the first run" if report.is_first else "goes on from the last run's"),
            ("downloaded", f"{received}; {_entries(report.remembered)} verified by an earlier run"),
        ]
    return [*facts, ("proves", _PROVES), ("does not prove", _PROVES_NOT)]


def _entries(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


_PROVES: Final = "the log has each verified entry with this integrity, for everybody who sees this checkpoint"
_PROVES_NOT: Final = "that a package is safe, or that the log does not withhold a newer record of it"
