"""``mirrorwitness serve``: the registry's read API over a stored mirror."""

from __future__ import annotations

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options
from mirrorwitness.cli.output import EXIT_CODES_HELP
from mirrorwitness.errors import ExitCode
from mirrorwitness.run.jobs import serve_mirror

__all__ = ["serve"]


@click.command(epilog=EXIT_CODES_HELP)
@common_options
@click.option("--listen", metavar="HOST:PORT", help="Port 0: any free one. Default: serve.listen, or 127.0.0.1:4873.")
@click.option(
    "--at", type=click.IntRange(min=0), metavar="SIZE", help="As the registry stood at this tree size of the log."
)
def serve(*, listen: str | None, at: int | None, **given: object) -> None:
    """Serve the mirror to npm, pnpm, yarn and bun.

    Prints `listening on http://HOST:PORT` once it accepts requests. Tarball URLs point at the address that the client
    used, or at --public-url. Reads only; SIGTERM stops it gracefully. Where versions are checked against a checksum
    database, the mirror answers below /-/at/SIZE/ as the registry stood when the log had SIZE records; --at is for a
    whole server.

    \b
    Example:
      mirrorwitness serve --storage file:mirror --listen 127.0.0.1:4873
      npm ci --registry http://127.0.0.1:4873/
      npm ci --registry http://127.0.0.1:4873/-/at/41000000/
    """
    options = Options.of(given)

    def ready(address: str) -> None:
        click.echo(f"listening on {address}")

    run_command(
        lambda: serve_mirror(options.load(needs_registry=False, is_service=True), listen=listen, ready=ready, at=at),
        schema="",
        is_json=False,
    )
    stop_with(ExitCode.COMPLETE)
