"""Tell one URL of each proof of a fork that was kept: a POST of the evidence, as it lies in the storage.

Rules:

- Telling neither delays nor fails what it is about: what is to be told waits in a channel of `WAITING` places, and what
  finds no place is an event and not told.
- Each try has a deadline, and there are `TRIES` of them; after the last one there is an event. The evidence is kept
  whatever becomes of it.
- At the end what still waits gets `DRAIN_SECONDS`; what could not be told by then is an event, too.
- Such URLs often are a password: events and messages show scheme, host and port of it only. A redirect is not followed.

What it does not do: judge or keep evidence (`mirrorwitness.run.witnessing`), or tell anything again after a restart.
"""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError, UpstreamError, UpstreamProtocolError, UpstreamUnreachableError
from mirrorwitness.fetch import (
    Backoff,
    FetchOptions,
    HostGate,
    Session,
    make_policy,
    make_status_error,
    make_user_agent,
    open_fetcher,
    origin_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mirrorwitness.fetch import Fetcher

__all__ = ["Webhook", "check_webhook", "open_webhook"]

SECONDS: Final = 1.0

TRY_SECONDS: Final = 10 * SECONDS
"""How long one POST may take, its answer included."""

TRIES: Final = Backoff(attempts=2, base=1 * SECONDS, cap=5 * SECONDS)
"""Two: the storage has the evidence, and the log of the witness says that it was not told."""

WAITING: Final = 100
"""Proofs that wait to be told. A log that forks shows a few; one that makes hundreds of them was told of long ago."""

DRAIN_SECONDS: Final = 10 * SECONDS
"""What is left of the 30 s after which Kubernetes kills, behind the 20 s that work in hand may take."""

_SUCCESS: Final = range(200, 300)
_URL: Final = re.compile(r"https?://\S*[^\s:]")
_log = logging.getLogger("mirrorwitness.witness")


@dataclass(frozen=True, slots=True)
class _Told:
    """What is to be told: the log, and the evidence."""

    origin: str
    body: bytes


class Webhook:
    """Posts JSON to one URL. May be used by several tasks at once.

    Args:
        url: where to.
        fetcher: the door to HTTP.
        gate: manners.
        tries: repetition; whoever listens has to expect one thing twice.

    Attributes:
        shown: what may be said of the URL.

    Raises:
        ConfigurationError: the URL is none.
    """

    def __init__(self, *, url: str, fetcher: Fetcher, gate: HostGate, tries: Backoff = TRIES) -> None:
        self.shown = check_webhook(url)
        self._url = url
        self._fetcher = fetcher
        self._gate = gate
        self._session = Session(fetcher=fetcher, gate=gate, policy=make_policy(url), home=url, tries=tries)

    def __repr__(self) -> str:
        return f"<Webhook at {self.shown}>"

    async def post(self, body: bytes) -> None:
        """Post a JSON document.

        Raises:
            UpstreamError: it cannot be reached, does not take it, or is too slow. The message does not give it away.
        """
        try:
            await self._session.repeat(lambda: self._post(body))
        except UpstreamError as error:
            raise UpstreamUnreachableError(_URL.sub(self.shown, str(error))) from error

    async def _post(self, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        with trio.move_on_after(TRY_SECONDS):
            async with (
                self._gate.slot(origin_of(self._url)) as slot,
                self._fetcher.request("POST", self._url, headers=headers, body=body) as response,
            ):
                slot.status = status = response.status
            if status not in _SUCCESS:
                raise make_status_error(status, f"POST {self.shown}: status {status}")
            return
        raise UpstreamUnreachableError(f"POST {self.shown}: not done after {TRY_SECONDS:g} s")


def check_webhook(url: str) -> str:
    """Return what may be said of a URL: scheme, host and port.

    Raises:
        ConfigurationError: it cannot be posted to; the message does not give it away.
    """
    try:
        shown = str(origin_of(url))
    except UpstreamProtocolError as error:
        # Neither the text nor the cause is passed on: both have the URL in them.
        raise ConfigurationError("--webhook: expected an absolute http or https URL without a user name") from error
    if "#" in url:
        raise ConfigurationError(f"--webhook {shown}: expected no fragment")
    return shown


@asynccontextmanager
async def open_webhook(url: str, *, tries: Backoff = TRIES) -> AsyncGenerator[Callable[[str, bytes], None], None]:
    """Open what tells one URL; the block gets a function of a log's origin and evidence, which returns at once.

    *Resources*: one connection, and one task. *Errors*: none but those of the block, in a group. *Cancellation*: at any
    point.

    Raises:
        ConfigurationError: the URL is none.
    """
    send, receive = trio.open_memory_channel[_Told](WAITING)
    async with open_fetcher(FetchOptions(user_agent=make_user_agent(None))) as fetcher, receive:
        hook = Webhook(url=url, fetcher=fetcher, gate=HostGate(), tries=tries)

        def tell(origin: str, body: bytes) -> None:
            try:
                send.send_nowait(_Told(origin, body))
            except trio.WouldBlock:
                _fail(hook, origin, f"{WAITING} proofs wait to be told already")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_work, hook, receive)
            async with send:
                yield tell
            nursery.cancel_scope.deadline = trio.current_time() + DRAIN_SECONDS


async def _work(hook: Webhook, receive: trio.MemoryReceiveChannel[_Told]) -> None:
    is_done = True
    told: _Told | None = None
    try:
        async for told in receive:
            is_done = False
            try:
                await hook.post(told.body)
            except UpstreamError as error:
                _fail(hook, told.origin, str(error))
            else:
                _log.info("webhook_told", extra={"origin": told.origin, "webhook": hook.shown})
            is_done = True
    finally:
        left = [] if told is None or is_done else [told]
        for item in (*left, *_rest(receive)):
            _fail(hook, item.origin, "the process ended")


def _rest(receive: trio.MemoryReceiveChannel[_Told]) -> list[_Told]:
    found: list[_Told] = []
    while receive.statistics().current_buffer_used:
        found.append(receive.receive_nowait())
    return found


def _fail(hook: Webhook, origin: str, reason: str) -> None:
    _log.error("webhook_failed", extra={"origin": origin, "webhook": hook.shown, "reason": reason})
