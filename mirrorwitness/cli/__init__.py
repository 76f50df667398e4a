"""The command line: commands, flags, exit codes. No logic: commands read options and call `mirrorwitness.run`.

The contract (DESIGN 9) is stable: names of commands and flags, exit codes (P3), JSON documents, and the line
``listening on http://HOST:PORT`` of servers.
"""

from __future__ import annotations

import click

from mirrorwitness.cli.audit import audit
from mirrorwitness.cli.compare import compare
from mirrorwitness.cli.init import init
from mirrorwitness.cli.keygen import keygen
from mirrorwitness.cli.plan import plan
from mirrorwitness.cli.release import release
from mirrorwitness.cli.serve import serve
from mirrorwitness.cli.status import status
from mirrorwitness.cli.store_check import store_check
from mirrorwitness.cli.summarize import summarize
from mirrorwitness.cli.sync import sync
from mirrorwitness.cli.witness import witness
from mirrorwitness.cli.witness_conformance import conformance
from mirrorwitness.cli.witness_logs import logs
from mirrorwitness.cli.witness_poll import poll
from mirrorwitness.cli.witness_prove import prove

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mirrorwitness", message="%(prog)s %(version)s")
def main() -> None:
    """Npm mirrors that can be verified.

    A first mirror of one project's packages, in the current folder:

    \b
      mirrorwitness init --storage file:mirror --lockfile package-lock.json
      mirrorwitness plan
      mirrorwitness sync --once
      mirrorwitness serve --listen 127.0.0.1:4873

    It proves that bytes are authentic, never that they are safe.
    """


for _command in (init, plan, sync, serve, audit, status, release, compare, summarize, keygen, store_check, witness):
    main.add_command(_command)
for _command in (poll, logs, conformance, prove):
    witness.add_command(_command)
