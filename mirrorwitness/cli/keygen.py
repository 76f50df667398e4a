"""``mirrorwitness keygen``: a key that signs what a mirror says of itself."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from mirrorwitness.cli.boundary import fail
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.keys import SEED_BYTES, format_signer_key, make_signer_key

__all__ = ["keygen"]


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--name", required=True, metavar="NAME", help="Who signs: the mirror's host, without a scheme.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the private key goes; readable by its owner only, never replaced.",
)
def keygen(*, name: str, out: Path) -> None:
    """Make a key that signs what this mirror says of itself, and print its public half.

    Set mirror_key in mirrorwitness.toml to the file; the next run signs. Keep a copy of it: a mirror that changes its
    key is another mirror to those who trust it.

    \b
    Example:
      mirrorwitness keygen --name npm.example.org --out mirror.key
    """
    try:
        key = make_signer_key(name, secrets.token_bytes(SEED_BYTES))
        write_key(out, format_signer_key(key))
    except ConfigurationError as error:
        fail(error, "", is_json=False)
    click.echo(str(key.verifier))
    hint(f'wrote {out}; next: mirror_key = "{out}" in mirrorwitness.toml, and publish the line above')
