"""Where commands meet the asynchronous world: one event loop per command, one table from error to exit code.

Rules:

- Only errors of `mirrorwitness.errors` are shown as messages; anything else is a bug and keeps its traceback.
- With ``--json`` a failure is a JSON document too, so that a script never has to read prose.
- Of several errors that end a command together, the one that weighs most is shown: a disagreement of bytes before a
  storage that failed, that before an upstream that cannot be reached.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, TypeVar

import click
import trio

from mirrorwitness.cli.output import print_json
from mirrorwitness.errors import (
    ConfigurationError,
    ExitCode,
    MirrorWitnessError,
    SecurityError,
    StorageError,
    exit_code,
    leaves_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    OnError: TypeAlias = Callable[[BaseException, ExitCode], Mapping[str, object]]

__all__ = ["fail", "guard", "run_command", "stop_with"]

YOUNG_OBJECTS: Final = 50_000
"""New container objects after which the collector looks at them: some 5 MB of the smallest ones."""

_Result = TypeVar("_Result")
_WEIGHT = (SecurityError, ConfigurationError, StorageError, MirrorWitnessError, KeyboardInterrupt)


def run_command(
    work: Callable[[], Awaitable[_Result]], *, schema: str, is_json: bool, on_error: OnError | None = None
) -> _Result:
    """Run a command's work in an event loop of its own, and turn its error into a message and an exit code.

    Args:
        work: what to do.
        schema: name of the command's JSON document.
        is_json: print errors as JSON.
        on_error: called with the error and its exit code before it is shown; returns more for its JSON document.
    """
    return guard(lambda: trio.run(work), schema=schema, is_json=is_json, on_error=on_error)


def guard(work: Callable[[], _Result], *, schema: str, is_json: bool, on_error: OnError | None = None) -> _Result:
    """Do a command's work, which runs its event loops itself; as `run_command`."""
    _calm_collector()
    try:
        return work()
    except (MirrorWitnessError, KeyboardInterrupt) as error:
        fail(error, schema, is_json=is_json, on_error=on_error)
    except BaseExceptionGroup as group:
        leaves = leaves_of(group)
        if not all(isinstance(leaf, _WEIGHT) for leaf in leaves):
            raise  # a bug is among them: keep the whole traceback
        fail(min(leaves, key=_weigh), schema, is_json=is_json, on_error=on_error)


def stop_with(code: ExitCode) -> NoReturn:
    """End the command."""
    sys.exit(int(code))


def fail(error: BaseException, schema: str, *, is_json: bool, on_error: OnError | None = None) -> NoReturn:
    """Show an error and end the command with its exit code."""
    code = exit_code(error) or ExitCode.PARTIAL
    message = str(error) or "interrupted"
    more: Mapping[str, object] = {} if on_error is None else on_error(error, code)
    if is_json:
        shown = {"kind": type(error).__name__, "message": message}
        print_json(schema, {"error": shown, **more, "exit_code": int(code)})
    click.echo(f"error: {message}", err=True)
    sys.exit(int(code))


def _calm_collector() -> None:
    """Keep the cycle collector from looking at what was imported, and let it look at the rest less often.

    Requests leave no cycles behind (`mirrorwitness.fetch.head`), so with the interpreter's own thresholds a tenth of a
    sync's processor time went into finding nothing.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def _weigh(error: BaseException) -> int:
    return [isinstance(error, kind) for kind in _WEIGHT].index(True)
