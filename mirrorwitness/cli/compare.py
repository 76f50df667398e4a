"""``mirrorwitness compare``: where two mirrors serve different bytes, without downloading either."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from mirrorwitness.cli.boundary import fail, run_command, stop_with
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, format_bytes, hint, print_facts, print_json, print_table
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.compare import compare_mirrors
from mirrorwitness.tlog.keys import parse_verifier_key

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mirrorwitness.mirror.peer import Description, Peer
    from mirrorwitness.run.compare import MirrorComparison

__all__ = ["compare"]

SCHEMA = "mirrorwitness-compare-1"


@click.command(epilog=EXIT_CODES_HELP)
@click.argument("url_a", metavar="URL_A")
@click.argument("url_b", metavar="URL_B")
@click.option("--vkey", multiple=True, metavar="VKEY", help="Repeatable: trusted keys; both mirrors have to sign.")
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Differing versions to list; all are counted.",
)
@json_option
def compare(*, url_a: str, url_b: str, vkey: tuple[str, ...], limit: int, is_json: bool) -> None:
    """Find versions of which two mirrors serve different bytes, by their summaries.

    Downloads no package and no list of all versions: three differences among a million cost some 40 kB. Exits with 4
    when a digest differs, or a mirror contradicts itself; with 0 when none does, although one may have versions that
    the other has not; with 5 when a mirror cannot be reached or has no summary.

    \b
    Example:
      mirrorwitness compare https://npm.example.org https://mirror.example.net
      mirrorwitness compare http://127.0.0.1:4873 https://npm.example.org --json
    """
    try:
        keys = [parse_verifier_key(text) for text in vkey]
    except ConfigurationError as error:
        fail(error, SCHEMA, is_json=is_json)
    with _show_progress(is_quiet=is_json) as told:
        done = run_command(
            lambda: compare_mirrors(url_a, url_b, keys=keys, keep=limit, told=told), schema=SCHEMA, is_json=is_json
        )
    code = done.exit_code()
    if is_json:
        print_json(SCHEMA, {**_document(done), "exit_code": int(code)})
    else:
        _print(done)
    stop_with(code)


@contextmanager
def _show_progress(*, is_quiet: bool) -> Generator[Callable[[int, int], None]]:
    """Show a bar on a terminal: versions accounted for, of all versions of both mirrors."""
    if is_quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    columns = (TextColumn("comparing"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("comparing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _document(done: MirrorComparison) -> dict[str, object]:
    found = done.found
    return {
        "mirrors": [
            {
                "url": peer.base,
                "about": description.about,
                "signed_by": None if description.signed_by is None else str(description.signed_by),
                "trusted": description.is_trusted,
                "requests": peer.requests,
                "received_bytes": peer.received,
            }
            for peer, description in zip(done.peers, done.descriptions, strict=True)
        ],
        "same": found.same,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "differing": found.differing,
        "differences": [
            {"name": item.name, "version": item.version, "a": item.a, "b": item.b} for item in found.differences
        ],
        "requests": sum(peer.requests for peer in done.peers),
        "received_bytes": sum(peer.received for peer in done.peers),
    }


def _print(done: MirrorComparison) -> None:
    found = done.found
    received, requests = sum(peer.received for peer in done.peers), sum(peer.requests for peer in done.peers)
    print_table(
        ("", "A", "B"),
        zip(
            ("mirror", "kind", "versions", "summary of", "signed by", "read"),
            *(_column(peer, said) for peer, said in zip(done.peers, done.descriptions, strict=True)),
            strict=True,
        ),
    )
    click.echo()
    print_facts([
        ("same", f"{found.same} versions"),
        ("only in A", f"{found.only_a} versions"),
        ("only in B", f"{found.only_b} versions"),
        ("DIFFERENT", f"{found.differing} versions" if found.differing else "none"),
        ("read", f"{format_bytes(received)} in {requests} requests"),
    ])
    if found.differences:
        click.echo()
        print_table(
            ("different bytes", "A says", "B says"),
            ((f"{item.name}@{item.version}", item.a, item.b) for item in found.differences),
        )
    if found.differing:
        hint("one version with two contents: the registry's signature, or `mirrorwitness audit`, says whose is right")


def _column(peer: Peer, said: Description) -> tuple[str, ...]:
    about = said.about
    summary = cast("dict[str, object]", about["summary"])  # `Peer` has looked into it
    if said.signed_by is None:
        signer = "nobody"
    else:
        signer = f"{said.signed_by.name}{'' if said.is_trusted else ', a key that you did not name'}"
    return (
        peer.base,
        _show(about.get("kind")),
        str(said.root.versions),
        _show(summary.get("updated")),
        signer,
        f"{format_bytes(peer.received)} in {peer.requests} requests",
    )


def _show(value: object) -> str:
    """Show what a mirror says, as far as it is short and harmless to a terminal."""
    return value[:60] if isinstance(value, str) and value.isascii() and value.isprintable() else "?"
