"""The command line: commands, flags, exit codes. No logic: commands read options and call `mirrorwitness.run`.

The contract (DESIGN 9) is stable: names of commands and flags, exit codes (P3), JSON documents, and the line
``listening on http://HOST:PORT`` of servers.
"""

from __future__ import annotations

from typing import Final

import click

from mirrorwitness.cli.commands import Commands

__all__ = ["main"]

_PLACES: Final = {
    "init": "init:init",
    "plan": "plan:plan",
    "sync": "sync:sync",
    "serve": "serve:serve",
    "audit": "audit:audit",
    "status": "status:status",
    "release": "release:release",
    "compare": "compare:compare",
    "check": "check:check",
    "bundle": "bundle:bundle",
    "summarize": "summarize:summarize",
    "keygen": "keygen:keygen",
    "store-check": "store_check:store_check",
    "store-copy": "store_copy:store_copy",
    "witness": "witness:witness",
    "sumdb": "sumdb:sumdb",
    "logmirror": "logmirror:logmirror",
}
"""Name → module and what it is called there; imported when it is called."""

_BELOW: Final = {
    "witness": ("witness_poll:poll", "witness_logs:logs", "witness_conformance:conformance", "witness_prove:prove"),
    "sumdb": ("sumdb_ingest:ingest", "sumdb_monitor:monitor"),
    "logmirror": ("logmirror_attest:attest_command",),
}
"""Commands of groups that have modules of their own."""


@click.group(
    commands=Commands(_PLACES, _BELOW),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
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
