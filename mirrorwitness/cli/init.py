"""``mirrorwitness init``: write a commented `mirrorwitness.toml`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from mirrorwitness.cli.boundary import fail
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, hint, print_json
from mirrorwitness.config import DEFAULT_FILE, load_config, render_config
from mirrorwitness.errors import ConfigurationError, MirrorWitnessError
from mirrorwitness.run.npmrc import check_registry_url, find_npm_access, find_npm_settings
from mirrorwitness.run.scopes import is_same_registry
from mirrorwitness.storage.address import parse_address

__all__ = ["init"]

SCHEMA = "mirrorwitness-init-1"


@click.command(epilog=EXIT_CODES_HELP)
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option(
    "--storage",
    default="file:mirror",
    show_default=True,
    metavar="STORAGE",
    help="file:DIR, or s3://BUCKET/PREFIX?endpoint=URL.",
)
@click.option("--registry", multiple=True, metavar="URL", help="Repeatable. Default: the one npm is configured for.")
@click.option("--lockfile", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Repeatable.")
@click.option("--contact", metavar="ADDRESS", help="How an upstream's operator reaches you; in the User-Agent.")
@click.option("--public-url", metavar="URL", help="The mirror's own address, for tarball URLs.")
@click.option(
    "--output",
    default=DEFAULT_FILE,
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to; paths in it are relative to its folder.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--dry-run", is_flag=True, help="Print the file instead of writing it.")
@json_option
def init(
    *,
    names: tuple[str, ...],
    storage: str,
    registry: tuple[str, ...],
    lockfile: tuple[Path, ...],
    contact: str | None,
    public_url: str | None,
    output: Path,
    force: bool,
    dry_run: bool,
    is_json: bool,
) -> None:
    """Write a commented mirrorwitness.toml. The upstream comes from npm's own configuration; none is built in.

    \b
    Example:
      mirrorwitness init --storage file:mirror --lockfile package-lock.json
      mirrorwitness init react@^18 '@types/node' --storage 's3://bucket/npm?endpoint=https://s3.example'
    """
    try:
        parse_address(storage)
        registry, origin, scopes = _find_upstream(registry)
        text = render_config(
            storage=_relative_storage(storage, output),
            registries=registry,
            contact=contact,
            public_url=public_url,
            lockfiles=[_relative(path, output) for path in lockfile],
            names=names,
            scopes=scopes,
        )
        if not dry_run:
            _write(output, text, is_replaced=force)
            load_config(output, {})
    except MirrorWitnessError as error:
        fail(error, SCHEMA, is_json=is_json)
    if is_json:
        document = {
            "file": None if dry_run else str(output),
            "registries": list(registry),
            "scopes": scopes,
            "text": text,
        }
        print_json(SCHEMA, {**document, "exit_code": 0})
    elif dry_run:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {output}; the registry comes from {origin}")
        for scope, url in scopes.items():
            hint(f"packages of {scope} are at home at {url}: this mirror will not ask {registry[0]} for them")
        hint("next: `mirrorwitness plan`, then `mirrorwitness sync --once`")


def _find_upstream(given: tuple[str, ...]) -> tuple[tuple[str, ...], str, dict[str, str]]:
    """Return the registries, where they come from, and the scopes that are at home at another one than the first."""
    if given:
        registries, origin = given, "the command line"
        access = find_npm_access(os.environ, directory=Path.cwd())
    else:
        access = find_npm_settings(os.environ, directory=Path.cwd())
        registries, origin = (access.registry,), access.origin
    homes = {scope: check_registry_url(home.url, home.origin) for scope, home in access.scopes.items()}
    return registries, origin, {s: url for s, url in homes.items() if not is_same_registry(url, registries[0])}


def _relative(path: Path, output: Path) -> str:
    """Return a path as the file has to say it: relative to the file's own directory."""
    return os.path.relpath(path, output.parent)


def _relative_storage(storage: str, output: Path) -> str:
    """Return a storage's address as the file has to say it."""
    kind, _, rest = storage.partition(":")
    directory, question, options = rest.partition("?")
    if kind != "file" or directory.startswith("/"):
        return storage
    return f"file:{_relative(Path(directory), output)}{question}{options}"


def _write(output: Path, text: str, *, is_replaced: bool) -> None:
    if output.exists() and not is_replaced:
        raise ConfigurationError(f"{output} exists already: --force replaces it, --output writes another file")
    partial = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(f"{output}: cannot be written: {error.strerror}") from error
