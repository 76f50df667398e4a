"""``mirrorwitness witness prove``: proofs out of the tiles of a log, for people without its software."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.boundary import guard, run_command
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_json
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.files import read_file
from mirrorwitness.run.proving import (
    MAX_SEARCH_TILES,
    SEARCH_TILES,
    ProveWishes,
    prove_entry,
    prove_growth,
    prove_index,
)
from mirrorwitness.tlog.merkle import MAX_SIZE
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from mirrorwitness.run.proving import Proven

__all__ = ["prove"]

SCHEMA: Final = "mirrorwitness-witness-prove-1"

_FILE: Final = click.Path(path_type=Path)
_SIZE: Final = click.IntRange(0, MAX_SIZE)


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--log", required=True, metavar="VKEY=URL", help="The log; its URL is what comes before /checkpoint.")
@click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    default=Dialect.TILES.value,
    show_default=True,
    help="How the log names what it serves. Go's own log is read as sumdb in any case.",
)
@click.option("--index", type=_SIZE, metavar="N", help="Prove the entry at this index, counted from 0.")
@click.option("--entry", type=_FILE, metavar="FILE", help="Prove the newest entry that has the bytes of this file.")
@click.option("--from", "old", type=_SIZE, metavar="SIZE", help="Prove that the log only grew since this size.")
@click.option(
    "--search",
    type=click.IntRange(1, MAX_SEARCH_TILES),
    default=SEARCH_TILES,
    show_default=True,
    metavar="N",
    help="With --entry: how many tiles to search, the newest first; 256 entries each.",
)
@click.option("--policy", type=_FILE, metavar="FILE", help="Who has to have cosigned the checkpoint (tlog-policy).")
@click.option("--out", type=_FILE, metavar="FILE", help="Where the proof goes; default: standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def prove(
    *,
    log: str,
    dialect: str,
    index: int | None,
    entry: Path | None,
    old: int | None,
    search: int,
    policy: Path | None,
    out: Path | None,
    force: bool,
    is_json: bool,
) -> None:
    """Prove that a log has an entry, or that it only grew, out of the tiles that it serves.

    With --index or --entry it writes a tlog-proof, which shows offline that the log has the entry. With --from it
    writes the body of an add-checkpoint, which can be posted to a witness that knows the log at that size.

    The checkpoint has to be signed by the log's key and, with --policy, cosigned as the policy says. It goes into the
    proof as the log serves it. Exits with 4 where its signature, or a tile, does not fit.

    \b
    Example:
      mirrorwitness witness prove --log VKEY=https://log.example.org/2026 --entry entry.bin --out entry.tlog-proof
      mirrorwitness witness prove --log VKEY=https://log.example.org/2026 --from 1000 --out add-checkpoint.txt
    """
    if [index, entry, old].count(None) != 2:  # noqa: PLR2004 - of three one
        raise click.UsageError("give one of --index, --entry and --from")

    async def work() -> Proven:
        if out is not None:
            _check_free(out, is_forced=force)
        wishes = ProveWishes(log=log, dialect=Dialect(dialect), policy=None if policy is None else read_file(policy))
        if entry is not None:
            return await prove_entry(wishes, read_file(entry), search=search)
        return await (prove_index(wishes, index) if index is not None else prove_growth(wishes, old or 0))

    proven = run_command(work, schema=SCHEMA, is_json=is_json)
    if out is not None:
        guard(lambda: _write(out, proven.body, is_forced=force), schema=SCHEMA, is_json=is_json)
    if is_json:
        print_json(SCHEMA, {**proven.document(), "out": None if out is None else str(out), "exit_code": 0})
    else:
        _show(proven, out)


def _show(proven: Proven, out: Path | None) -> None:
    """Tell a person the facts, and print the proof where it does not go to a file."""
    if out is None:
        click.echo(proven.body, nl=False)
    facts = [*proven.facts(), *([] if out is None else [("written to", str(out))])]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        hint(f"{name.ljust(width)}  {value}")


def _check_free(out: Path, *, is_forced: bool) -> None:
    if out.exists() and not is_forced:
        raise ConfigurationError(f"{out} exists already: --force replaces it")


def _write(out: Path, body: bytes, *, is_forced: bool) -> None:
    """Write a file whole, or not at all."""
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        partial.write_bytes(body)
        _check_free(out, is_forced=is_forced)
        partial.replace(out)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # it is there only where something failed
            partial.unlink()
