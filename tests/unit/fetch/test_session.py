"""Session: redirects, tokens and repetition against the registry simulator (P9, rows 17 and 18)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from mirrorwitness.errors import (
    ConfigurationError,
    IntegrityMismatchError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import Backoff, HostGate, Session, make_policy, open_fetcher, origin_of
from tests.fakes.registry import Fault, RegistrySimulator, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)


@asynccontextmanager
async def session_with(
    sim: RegistrySimulator, *, allowed: tuple[str, ...] = (), token: str | None = None, gate: HostGate | None = None
) -> AsyncGenerator[tuple[Session, str], None]:
    async with serve(sim) as base, open_fetcher() as fetcher:
        yield (
            Session(
                fetcher=fetcher,
                gate=gate or HostGate(),
                policy=make_policy(base, allowed=allowed),
                home=base,
                token=token,
                tries=Backoff(attempts=3, base=1, cap=10),
                jitter=lambda: 0.0,
                now=lambda: NOW,
            ),
            base,
        )


async def get(session: Session, url: str) -> tuple[int, bytes]:
    async with session.request("GET", url) as response:
        return response.status, await response.read(10_000)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(None, 1), ("0", 1), ("30", 30), ("Wed, 01 Jul 2026 12:00:05 GMT", 5)]
)
@pytest.mark.parametrize("status", [429, 503])
async def test_row_17_host_is_left_alone(
    status: int, retry_after: str | None, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    """After 429 or 503 the next request to the host waits as long as it asked."""
    sim = RegistrySimulator()
    sim.fail("/-/ping", Fault.status(status, retry_after=retry_after))
    gate = HostGate()
    async with session_with(sim, gate=gate) as (session, base):
        assert (await get(session, f"{base}/-/ping"))[0] == status
        assert await get(session, f"{base}/-/ping") == (200, b"{}")
        assert trio.current_time() == seconds
        statistics = gate.statistics()[origin_of(base)]
        assert (statistics.requests, statistics.pauses, gate.failures(origin_of(base))) == (2, 1, 0)


async def test_row_18_redirect_to_an_allowed_host_is_followed_without_credentials() -> None:
    """Attack: the token reaches its own origin on every hop, and no other (P9)."""
    sim, other = RegistrySimulator(), RegistrySimulator()
    other.set_tarball("x", "x.tgz", b"bytes")
    async with (
        serve(other) as other_base,
        session_with(sim, allowed=(other_base,), token="secret") as (session, base),
    ):
        sim.fail("/a", Fault.redirect("/b"))
        sim.fail("/b", Fault.redirect(f"{other_base}/x/-/x.tgz"))
        assert await get(session, f"{base}/a") == (200, b"bytes")
    assert [request.headers.get("authorization") for request in sim.requests] == ["Bearer secret"] * 2
    assert [request.headers.get("authorization") for request in other.requests] == [None]
    assert "secret" not in repr(session)


async def test_row_18_redirect_elsewhere_is_refused() -> None:
    """Attack: another port of the same host is another origin; nothing is sent there."""
    sim, other = RegistrySimulator(), RegistrySimulator()
    async with serve(other) as other_base, session_with(sim) as (session, base):
        sim.fail("/a", Fault.redirect(f"{other_base}/x"))
        with pytest.raises(UpstreamRefusedError, match="is not allowed"):
            await get(session, f"{base}/a")
    assert other.requests == []


async def test_row_18_redirect_loop_ends() -> None:
    """Attack: a loop ends at once."""
    sim = RegistrySimulator()
    sim.fail("/a", Fault.redirect("/b"), times=None)
    sim.fail("/b", Fault.redirect("/a"), times=None)
    async with session_with(sim) as (session, base):
        with pytest.raises(UpstreamProtocolError, match="in a loop"):
            await get(session, f"{base}/a")
    assert len(sim.requests) == 2


async def test_repetition_backs_off_and_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    """As many tries as configured, with growing delays, then the last error."""
    times: list[float] = []

    async def operation() -> None:
        times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise UpstreamUnreachableError(f"try {len(times)}")

    async with session_with(RegistrySimulator()) as (session, _):
        with pytest.raises(UpstreamUnreachableError, match="try 3"):
            await session.repeat(operation)
    assert times == [0, 0.5, 1.5]


@pytest.mark.parametrize("error", [IntegrityMismatchError("x"), UpstreamRefusedError("x", status=403), OSError("x")])
async def test_final_errors_pass_at_once(error: Exception) -> None:
    """A SecurityError, a refusal, or an error of somebody else's is never retried (STYLE 21)."""
    calls = 0

    async def operation() -> None:
        nonlocal calls
        calls += 1
        await trio.lowlevel.checkpoint()
        raise error

    async with session_with(RegistrySimulator()) as (session, _):
        with pytest.raises(type(error)):
            await session.repeat(operation)
    assert calls == 1


async def test_first_url_is_checked_too() -> None:
    """Row 19: a tarball URL on another host is refused before anything is sent."""
    async with session_with(RegistrySimulator()) as (session, _):
        with pytest.raises(UpstreamRefusedError):
            await get(session, "http://example.com/x.tgz")
        with pytest.raises(UpstreamError):
            await get(session, "not a url")


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "é"])
async def test_token_that_cannot_be_sent(token: str) -> None:
    """A token that would break the header is refused, and not shown."""
    with pytest.raises(ConfigurationError) as caught:
        async with session_with(RegistrySimulator(), token=token):
            pass
    assert not token or token not in str(caught.value)
