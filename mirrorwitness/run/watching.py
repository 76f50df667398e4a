"""Watch, beside a witness or log mirror that runs, for what changes which logs it cosigns, and for what ends it.

Rules:

- Lists are read again as often as is wished, and on SIGHUP. What goes wrong with that is an event; the witness goes on
  with the logs that it has.
- What an operator decided elsewhere, keys that are retired and logs that are disabled, is looked up every
  `WATCH_SECONDS`, beside the requests and not in them: two small reads, three with an anchor, however many logs there
  are and however much they ask. So a decision holds within that time in every process that reaches its storage.
- A witness with a key that was retired, or over a storage that does not know any more whose it is, signs nothing from
  then on, not for requests in work either, and ends with the error that its next start would end with.
- A storage that does not answer decides nothing: the witness goes on, and there is one event for it.
- Of a log mirror the keys are looked up in the same way (`watch_keys`); it has no lists.

A known hole: a process whose storage takes writes and answers no reads signs on with a retired key.
"""

from __future__ import annotations

import logging
import math
import signal
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mirrorwitness.errors import ConfigurationError, RolledBackError, StorageError
from mirrorwitness.run.log_lists import complain, read_readable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.run.witnessing import RunningWitness, WitnessWishes
    from mirrorwitness.witness.known import Refreshed

__all__ = ["WATCH_SECONDS", "Stoppable", "keep_logs_fresh", "watch_decisions", "watch_keys"]

WATCH_SECONDS: Final = 30.0
"""Between two looks; 90,000 a month, of two or three reads of a bucket, cost some ten cents."""

_log = logging.getLogger("mirrorwitness.witness")


class Stoppable(Protocol):
    """Who signs until it may not any more.

    Attributes:
        stopped: why it signs nothing more; None while it does.
    """

    stopped: MirrorWitnessError | None

    def stop(self, why: MirrorWitnessError) -> None:
        """Sign nothing more, for no request that is in work either."""


async def keep_logs_fresh(running: RunningWitness, wishes: WitnessWishes, *, told: Callable[[str], None]) -> None:
    """Read the lists again and again, as often as is wished and on SIGHUP, and look for logs that were disabled.

    *Resources*: SIGHUP. *Errors*: none but bugs; what fails is an event, and tried again the next time.
    *Cancellation*: at any point; this never returns.

    Args:
        running: a witness.
        wishes: which lists, and how often.
        told: told sentences for the operator, each once.
    """
    unread: set[str] = set()
    with trio.open_signal_receiver(signal.SIGHUP) as hangups:
        while True:
            with trio.move_on_after(wishes.refresh_lists or math.inf):
                await anext(hangups)
            listed, failed = await trio.to_thread.run_sync(read_readable, wishes.lists)
            complain([text for text in failed if text not in unread], told)
            unread = set(failed)
            try:
                found = await running.roster.refresh(listed)
            except (ConfigurationError, StorageError) as error:  # what lies in the storage, or the storage itself
                _log.error("logs_not_refreshed", extra={"error": str(error)})
                continue
            complain(found.complaints, told)
            _log_refreshed(found)


async def watch_decisions(running: RunningWitness, *, stop: Callable[[], None]) -> None:
    """Look again and again, until the witness may sign no more: then stop it, and return.

    *Errors*: none but bugs; why it was stopped is in `Witness.stopped`. *Cancellation*: at any point.

    Args:
        running: a witness.
        stop: asks the process to end.
    """

    async def look() -> None:
        await running.check_kept()
        await _disable(running)

    await watch_keys(running.witness, look=look, stop=stop, event="witness_stopped")


async def watch_keys(
    signing: Stoppable, *, look: Callable[[], Awaitable[None]], stop: Callable[[], None], event: str
) -> None:
    """Look again and again, until somebody may sign no more: then stop it, and return.

    *Errors*: none but bugs; why it was stopped is in `Stoppable.stopped`. *Cancellation*: at any point.

    Args:
        signing: who signs.
        look: looks once; raises `ConfigurationError` or `RolledBackError` where it may not go on, and `StorageError`
            where nobody knows.
        stop: asks the process to end.
        event: what the log says then.
    """
    is_answered = True
    while signing.stopped is None:
        await trio.sleep(WATCH_SECONDS)
        try:
            await look()
        except (ConfigurationError, RolledBackError) as error:
            signing.stop(error)
            _log.error(event, extra={"error": str(error)})
            stop()
        except StorageError as error:
            if is_answered:
                _log.warning("decisions_not_read", extra={"error": str(error)})
            is_answered = False
        else:
            is_answered = True


async def _disable(running: RunningWitness) -> None:
    """Take in which logs are disabled; a damaged list of them changes nothing, and stops nothing."""
    try:
        _log_refreshed(await running.roster.refresh_disabled())
    except ConfigurationError as error:
        _log.error("logs_not_refreshed", extra={"error": str(error)})


def _log_refreshed(found: Refreshed) -> None:
    if found.added or found.disabled or found.enabled:
        extra = {"added": len(found.added), "disabled": found.disabled, "enabled": found.enabled}
        _log.info("logs_refreshed", extra=extra)
