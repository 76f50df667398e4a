"""``mirrorwitness bundle``: carry a mirror to where no network goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, json_option, sumdb_options
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
from mirrorwitness.errors import ExitCode
from mirrorwitness.run.bundling import ImportWishes, export_bundle, import_bundle
from mirrorwitness.tlog.keys import parse_verifier_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.run.bundling import ExportReport, ImportReport

__all__ = ["bundle"]

_EXPORT: Final = "mirrorwitness-bundle-export-1"
_IMPORT: Final = "mirrorwitness-bundle-import-1"
_FILE: Final = click.Path(path_type=Path)


def _mirror_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((
        click.option("--config", type=_FILE, metavar="FILE", help="Default: mirrorwitness.toml here."),
        click.option("--storage", metavar="STORAGE", help="file:DIR, or s3://BUCKET/PREFIX?endpoint=URL."),
    )):
        command = option(command)
    return command


@click.group()
def bundle() -> None:
    """Carry a mirror over an air gap: export what it serves, import it where no network goes.

    A bundle is a directory or one tar of objects that are named by their digests, with every proof that is needed to
    check them. Later ones carry only what is new:

    \b
      mirrorwitness bundle export --storage file:mirror --out monday.tar
      mirrorwitness bundle export --storage file:mirror --out friday.tar --since monday.tar
      mirrorwitness bundle import monday.tar --storage file:inside --sumdb VKEY --policy FILE
    """


@bundle.command("export", epilog=EXIT_CODES_HELP)
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option("--lockfile", multiple=True, type=_FILE, metavar="FILE", help="The packages of a lockfile. Repeatable.")
@click.option(
    "--out", required=True, type=_FILE, metavar="FILE.tar|DIR", help="Where; a name that ends in .tar makes a tar."
)
@click.option(
    "--since", metavar="ID|FILE", help="Leave out what this bundle lists: an id that this mirror wrote, or a bundle."
)
@_mirror_options
@sumdb_options
@json_option
def export_command(*, out: Path, since: str | None, is_json: bool, **given: object) -> None:
    """Write what a mirror serves, all of it or the packages that are named, into a bundle.

    Every tarball is read and checked on its way. The same mirror gives the same bytes. With a checksum database
    (--sumdb, or the configuration's) proofs come along, and its newest checkpoint. With a mirror_key it is signed.

    Exits with 4 where stored bytes are not the recorded ones: `mirrorwitness audit --repair` mends that.

    \b
    Example:
      mirrorwitness bundle export --storage file:mirror --out monday.tar
      mirrorwitness bundle export react @babel/core --storage file:mirror --out /media/usb/some
      mirrorwitness bundle export --storage file:mirror --out friday.tar --since monday.tar
    """
    options = Options.of(given)
    with show_progress("exporting", is_quiet=is_json) as progress:
        report = run_command(
            lambda: export_bundle(
                options.load(needs_registry=False),
                progress,
                out=out,
                since=since,
                is_selected=options.names_packages,
            ),
            schema=_EXPORT,
            is_json=is_json,
        )
    if is_json:
        print_json(_EXPORT, {**_export_document(report), "file": str(out), "exit_code": 0})
    else:
        _print_export(report, out)
    stop_with(ExitCode.COMPLETE)


@bundle.command("import", epilog=EXIT_CODES_HELP)
@click.argument("path", type=_FILE, metavar="BUNDLE")
@_mirror_options
@click.option("--sumdb", metavar="VKEY[,VKEY]", help="Keys of the checksum database whose proofs every version needs.")
@click.option("--policy", type=_FILE, metavar="FILE", help="Which witnesses must have cosigned it (tlog-policy).")
@click.option(
    "--keys", type=_FILE, metavar="FILE", help="Signing keys of the registry that came another way (keys.json)."
)
@click.option(
    "--registry", multiple=True, metavar="URL", help="Whose names the log's records have to be. Default: any."
)
@click.option("--signer", metavar="VKEY", help="Who has to have signed the bundle: the exporting mirror's key.")
@click.option("--signatures", type=click.Choice(["require", "verify", "off"]), help="Default: verify.")
@click.option("--public-url", metavar="URL", help="The mirror's own address, for tarball URLs.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Verify everything, and change nothing.")
@json_option
def import_command(
    *,
    path: Path,
    sumdb: str | None,
    policy: Path | None,
    keys: Path | None,
    signer: str | None,
    is_dry: bool,
    is_json: bool,
    **given: object,
) -> None:
    """Verify a whole bundle, then take it into a mirror. No connection is opened.

    Checked before anything is visible: every digest, the integrity and the registry's signature of every version, its
    proof under the policy, that the log's checkpoint goes on from the one that was imported before, and that nothing
    is missing. What is interrupted goes on when the same bundle is imported again.

    Exits with 4 where something is not what it is said to be, or the log forked; with 2 where the bundle before this
    one was never imported, or it is older than what was; with 5 where it is damaged, cut or incomplete. In all of
    these cases nothing was changed.

    \b
    Example:
      mirrorwitness bundle import monday.tar --storage file:inside --sumdb VKEY --policy witnesses.policy
      mirrorwitness bundle import monday.tar --storage file:inside --sumdb VKEY --policy witnesses.policy --dry-run
      mirrorwitness bundle import /media/usb/some --storage file:inside --keys keys.json --signer VKEY
    """

    async def work() -> ImportReport:
        wishes = ImportWishes(
            path=path,
            sumdb=sumdb,
            policy=policy,
            keys=keys,
            signer=None if signer is None else parse_verifier_key(signer),
            is_dry=is_dry,
        )
        config = Options.of(given).load(needs_registry=False).config
        return await import_bundle(config, wishes, lambda verb: show_progress(verb, is_quiet=is_json))

    report = run_command(work, schema=_IMPORT, is_json=is_json)
    code = ExitCode.COMPLETE if report.summary is None else report.summary.exit_code()
    if is_json:
        print_json(_IMPORT, {**_import_document(report), "exit_code": int(code)})
    else:
        _print_import(report)
    stop_with(code)


def _export_document(report: ExportReport) -> dict[str, object]:
    return {
        "id": report.bundle,
        "previous": report.previous,
        "counts": dict(sorted(report.counts.items())),
        "tree_size": report.size,
        "signer": report.signer,
        "alarms": report.alarms,
    }


def _print_export(report: ExportReport, out: Path) -> None:
    counts = report.counts
    print_facts([
        ("bundle", report.bundle),
        ("goes on from", report.previous or "nothing: it stands alone"),
        ("lists", f"{counts.get('packages', 0)} packages, {counts.get('versions', 0)} versions"),
        ("carries", f"{counts.get('tarballs', 0)} tarballs, {format_bytes(counts.get('bytes', 0))} in all"),
        ("log", "none" if report.size is None else f"a tree of {report.size:,}"),
        ("signed by", report.signer or "nobody: set mirror_key to sign it"),
        ("written to", str(out)),
    ])
    for alarm in report.alarms:
        warn(alarm)
    hint(f"the next one: mirrorwitness bundle export --since {report.bundle} --out FILE")


def _import_document(report: ImportReport) -> dict[str, object]:
    verified, summary = report.verified, report.summary
    return {
        "id": verified.bundle,
        "previous": verified.manifest.previous,
        "link": str(verified.link),
        "signer": verified.manifest.signer,
        "tree_size": None if verified.tree is None else verified.tree.size,
        "verified": dict(sorted(verified.counts.items())),
        "is_dry_run": summary is None,
        "counts": {} if summary is None else dict(sorted(summary.counts.items())),
        "problems": {} if summary is None else {item.name: item.reason for item in summary.problems},
        "evidence": [] if summary is None else summary.evidence,
        "alarms": [*report.alarms, *([] if summary is None else summary.alarms)],
    }


def _print_import(report: ImportReport) -> None:
    verified, summary = report.verified, report.summary
    counts = verified.counts
    done = "nothing was changed (--dry-run)"
    if summary is not None:
        states = ("updated", "unchanged", "unfinished", "diverged")
        done = ", ".join(f"{summary.counts[f'packages_{state}']} {state}" for state in states)
    print_facts([
        ("bundle", f"{verified.bundle} ({verified.link})"),
        ("signed by", verified.manifest.signer or "nobody"),
        (
            "verified",
            f"{counts['packages']} packages, {counts['versions']} versions, {counts['tarballs']} new tarballs",
        ),
        ("size", f"{counts['objects']} objects, {format_bytes(counts['bytes'])}"),
        ("signatures", list_counts(counts, "signature_") or "none"),
        ("log", "not asked" if verified.tree is None else f"{counts['proofs']} proofs under {verified.tree}"),
        ("packages", done),
    ])
    for alarm in (*report.alarms, *(() if summary is None else summary.alarms)):
        warn(alarm)
    if summary is None:
        return
    if summary.problems:
        rows = [(item.name, str(item.status), item.reason) for item in summary.problems]
        print_table(("package", "status", "reason"), rows)
    for key in summary.evidence:
        hint(f"evidence: {key}")
