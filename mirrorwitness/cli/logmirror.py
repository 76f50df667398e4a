"""``mirrorwitness logmirror``: hold the entries of logs, and cosign what is held."""

from __future__ import annotations

import functools
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, print_facts, print_json, print_table
from mirrorwitness.cli.witness_options import read_some_time
from mirrorwitness.errors import ExitCode
from mirrorwitness.logmirror.roles import ARTIFACTS, LOG_MIRROR
from mirrorwitness.npm.times import format_time
from mirrorwitness.run.cosigners import CosignerWishes, adopt_cosigned, retire_cosigner
from mirrorwitness.run.files import read_file
from mirrorwitness.run.logmirroring import PullWishes, PushWishes, follow_pulls, pull_once, push_log, serve_log_mirror
from mirrorwitness.telemetry import LEVELS, configure_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.witness.feeder import Polled

__all__ = ["cosigner_options", "logmirror"]

POLL_SCHEMA: Final = "mirrorwitness-logmirror-poll-1"
PUSH_SCHEMA: Final = "mirrorwitness-logmirror-push-1"
ADOPT_SCHEMA: Final = "mirrorwitness-logmirror-adopt-1"
RETIRE_SCHEMA: Final = "mirrorwitness-logmirror-retire-1"

_WISHES: Final = ("storage", "anchor", "keys", "logs", "refuses_extensions")
_STATEMENTS: Final = {"mirror": LOG_MIRROR, "artifacts": ARTIFACTS}
_log_level = click.option("--log-level", type=click.Choice(LEVELS), help="What is logged to standard error.")
_statement = click.option(
    "--statement",
    type=click.Choice(list(_STATEMENTS)),
    default="mirror",
    show_default=True,
    help="What the keys say: that entries are held, or that tarballs are.",
)


def cosigner_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say whose log mirror it is; the command gets them as `CosignerWishes`."""

    @click.option("--storage", required=True, metavar="STORAGE", help="Copies and state: file:DIR or s3://BUCKET/…")
    @click.option("--anchor", metavar="STORAGE", help="A second place for what was cosigned, restored on its own.")
    @click.option(
        "--key", "keys", multiple=True, metavar="FILE", help="FILE, env:NAME or awskms:KEYID?name=NAME; repeatable."
    )
    @click.option("--log", "logs", multiple=True, metavar="VKEY[=URL]", help="A log; repeatable.")
    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        wishes = CosignerWishes(**{name: given.pop(name) for name in _WISHES if name in given})
        command(wishes=wishes, **given)

    return wrapped


@click.group()
def logmirror() -> None:
    """Hold the entries of transparency logs, serve them, and cosign what is held.

    A first log mirror, which reads one log:

    \b
      mirrorwitness witness keygen --name mirror.example.org/m1 --out m1.key
      mirrorwitness logmirror poll --once --storage file:copies --key m1.key --log VKEY=https://log.example.org/2026
      mirrorwitness logmirror serve --storage file:copies --key m1.key --log VKEY

    Its key says "I hold all entries of this tree", so it is no witness's key; a third one says that the tarballs are
    held as well (`logmirror attest`).
    """


@logmirror.command(epilog=EXIT_CODES_HELP)
@click.option(
    "--listen", default="127.0.0.1:7381", show_default=True, metavar="HOST:PORT", help="Port 0: any free one."
)
@click.option(
    "--refuse-extensions", "refuses_extensions", is_flag=True, help="Refuse checkpoints with extension lines."
)
@_log_level
@cosigner_options
def serve(*, wishes: CosignerWishes, listen: str, log_level: str | None) -> None:
    """Serve a log mirror: to logs (add-checkpoint, add-entries), and to everybody who reads the copies.

    Prints `listening on http://HOST:PORT` once it accepts requests. The copy of a log lies at
    /SHA-256-OF-THE-ORIGIN/checkpoint, /tile/…, as the log itself serves it. `logmirror poll` may run beside it over the
    same storage. SIGTERM stops it gracefully.

    \b
    Example:
      mirrorwitness logmirror serve --storage s3://copies --anchor file:/var/lib/anchor --key m1.key --log VKEY
    """
    configure_logs(level=log_level or "info", is_terminal=sys.stderr.isatty())
    run_command(
        lambda: serve_log_mirror(wishes, listen=listen, ready=lambda at: click.echo(f"listening on {at}")),
        schema="",
        is_json=False,
    )
    stop_with(ExitCode.COMPLETE)


@logmirror.command(epilog=EXIT_CODES_HELP)
@click.option("--once", is_flag=True, help="Bring every copy up once, then exit; for scheduled jobs.")
@click.option("--follow", is_flag=True, help="Go on until a signal arrives.")
@click.option(
    "--every",
    callback=read_some_time,
    default="60 s",
    show_default=True,
    metavar="TIME",
    help="With --follow: between two polls of a log.",
)
@click.option(
    "--refresh",
    callback=read_some_time,
    default="1 h",
    show_default=True,
    metavar="TIME",
    help="Cosign a log without news again after this time.",
)
@click.option("--contact", metavar="ADDRESS", help="How a log's operator reaches you; in the User-Agent.")
@click.option(
    "--refuse-extensions", "refuses_extensions", is_flag=True, help="Refuse checkpoints with extension lines."
)
@_log_level
@json_option
@cosigner_options
def poll(
    *,
    wishes: CosignerWishes,
    once: bool,
    follow: bool,
    every: float,
    refresh: float,
    contact: str | None,
    log_level: str | None,
    is_json: bool,
) -> None:
    """Fill the copies of logs that do not come to the mirror: read their entries, prove, store and cosign them.

    Polls the logs that are given with a URL, which is what comes before /checkpoint and /tile. Entries are proven
    against the log's signed head before they are stored; a run that ends early is gone on with by the next one.

    Exits with 4 where a log contradicts itself, shows less than was cosigned, or serves what does not verify; with 3
    where some were not finished; with 5 where none could be read.

    \b
    Example:
      mirrorwitness logmirror poll --once --storage file:copies --key m1.key --log VKEY=https://log.example.org/2026
      mirrorwitness logmirror poll --follow --every '5 min' --storage s3://copies --key m1.key --log VKEY=URL
    """
    if once == follow:
        raise click.UsageError("give --once for one pass, or --follow to go on until a signal arrives")
    if follow and is_json:
        raise click.UsageError("--json goes with --once; what a --follow does is in its log, one JSON object a line")
    configure_logs(level=log_level or ("error" if once else "info"), is_terminal=sys.stderr.isatty())
    asked = PullWishes(mirror=wishes, refresh=refresh, every=every, contact=contact)
    if follow:
        is_finished = run_command(lambda: follow_pulls(asked), schema=POLL_SCHEMA, is_json=False)
        stop_with(ExitCode.COMPLETE if is_finished else ExitCode.INTERRUPTED)
    result = run_command(lambda: pull_once(asked), schema=POLL_SCHEMA, is_json=is_json)
    if is_json:
        print_json(POLL_SCHEMA, {"logs": result.document()["logs"], "exit_code": int(result.exit_code())})
    else:
        numbers = frozenset({"size before", "size after"})
        print_table(
            ("log", "size before", "size after", "what was done", "why"), map(_row, result.logs), numbers=numbers
        )
    stop_with(result.exit_code())


@logmirror.command(epilog=EXIT_CODES_HELP)
@click.option(
    "--log", required=True, multiple=True, metavar="VKEY=URL", help="The log; repeatable for more of its keys."
)
@click.option("--to", required=True, metavar="URL", help="The mirror: what comes before /add-entries.")
@click.option("--mirror-key", "mirror_keys", required=True, multiple=True, metavar="VKEY", help="Its key; repeatable.")
@click.option("--contact", metavar="ADDRESS", help="How the mirror's operator reaches you; in the User-Agent.")
@json_option
def push(*, log: tuple[str, ...], to: str, mirror_keys: tuple[str, ...], contact: str | None, is_json: bool) -> None:
    """Bring a log to somebody's log mirror, and check what it cosigns.

    Needs no key of the log: anybody who can read a log may bring it. Only what the mirror does not have is sent.

    \b
    Example:
      mirrorwitness logmirror push --log VKEY=https://log.example.org --to https://mirror.example.org --mirror-key M
    """
    wishes = PushWishes(log=log, to=to, mirror_keys=mirror_keys, contact=contact)
    tree, done = run_command(lambda: push_log(wishes), schema=PUSH_SCHEMA, is_json=is_json)
    facts = {
        "origin": tree.origin,
        "size": tree.size,
        "requests": done.requests,
        "bytes": done.sent,
        "cosigned_by": [f"{item.key.name} at {item.timestamp}" for item in done.cosignatures],
    }
    if is_json:
        print_json(PUSH_SCHEMA, {**facts, "exit_code": 0})
        return
    print_facts([
        ("log", tree.origin),
        ("size", str(tree.size)),
        ("requests", str(done.requests)),
        ("bytes sent", str(done.sent)),
        *[("cosigned by", f"{item.key.name} at {_time(item.timestamp)}") for item in done.cosignatures],
    ])


@logmirror.command(epilog=EXIT_CODES_HELP)
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The newest one it cosigned."
)
@_statement
@json_option
@cosigner_options
def adopt(*, wishes: CosignerWishes, checkpoint: Path, statement: str, is_json: bool) -> None:
    """Go on from a checkpoint that was cosigned here, after the state was lost or restored from an older copy.

    Only you can know that it is the newest. Entries that a restored storage does not have are taken anew: until then
    the copy serves that checkpoint, and not all of its tiles.

    \b
    Example:
      mirrorwitness logmirror adopt --storage file:copies --key m1.key --log VKEY --checkpoint newest.txt
    """
    tree = run_command(
        lambda: adopt_cosigned(wishes, _STATEMENTS[statement], body=read_file(checkpoint)),
        schema=ADOPT_SCHEMA,
        is_json=is_json,
    )
    if is_json:
        print_json(ADOPT_SCHEMA, {"origin": tree.origin, "size": tree.size, "exit_code": 0})
    else:
        click.echo(f"goes on from {tree}")


@logmirror.command(epilog=EXIT_CODES_HELP)
@_statement
@json_option
@cosigner_options
def retire(*, wishes: CosignerWishes, statement: str, is_json: bool) -> None:
    """Note that the keys given with --key never sign this statement from this storage again. There is no way back.

    \b
    Example:
      mirrorwitness logmirror retire --storage file:copies --key m1.key
    """
    role = _STATEMENTS[statement]
    retired = run_command(lambda: retire_cosigner(wishes, role), schema=RETIRE_SCHEMA, is_json=is_json)
    if is_json:
        print_json(RETIRE_SCHEMA, {"retired": list(retired), "exit_code": 0})
    else:
        for vkey in retired:
            click.echo(f"retired {vkey}")


def _time(timestamp: int) -> str:
    return format_time(datetime.fromtimestamp(timestamp, UTC))


def _row(polled: Polled) -> Sequence[str]:
    sizes = ["" if size is None else str(size) for size in (polled.before, polled.after)]
    return (polled.origin, *sizes, polled.action.value, polled.text)
