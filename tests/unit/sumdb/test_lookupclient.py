"""Looking versions up over HTTP on loopback."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, Patience, open_fetcher
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.lookupclient import LookupClient
from mirrorwitness.sumdb.lookups import MAX_LOOKUP_BYTES
from mirrorwitness.sumdb.records import Event
from mirrorwitness.sumdb.served import Traffic
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.fakes.sumdb import FakeSumdb, filler, make_record
from tests.unit.sumdb.checked_log import LEFT, make_log

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

QUICK = Backoff(attempts=2, base=0.001, cap=0.001)
ONE = Version("1.0.0")
PATH = "/lookup/left@1.0.0?size=20"


@asynccontextmanager
async def asking(log: FakeSumdb) -> AsyncGenerator[LookupClient, None]:
    options = FetchOptions(patience=Patience(connect=5, head=0.3, grace=0.3))
    async with serve(log), open_fetcher(options) as fetcher:
        yield LookupClient(url=f"{log.base}/", fetcher=fetcher, gate=HostGate(), tries=QUICK)


async def test_an_answer_comes_as_it_is_and_is_counted() -> None:
    """At the size that is named, without a checkpoint."""
    log = make_log(20)
    async with asking(log) as client:
        body = await client.read_lookup(LEFT.name, ONE, size=20)
        assert body == log.proof(5, 20)
        assert client.traffic == Traffic(1, len(body))
        assert repr(client) == f"<LookupClient at {log.base}>"
    assert log.asked == [PATH]


@pytest.mark.parametrize("name", ["@scope/name", "Upper", "a~b"])
async def test_names_of_every_kind_are_asked_for(name: str) -> None:
    """As the server reads them."""
    log = FakeSumdb([make_record(name), *filler(3)])
    async with asking(log) as client:
        assert await client.read_lookup(PackageName(name), ONE, size=4) == log.proof(0, 4)


async def test_a_conflict_is_an_answer() -> None:
    """409 has the record, which is proven like any other."""
    log = make_log(20)
    log.append(make_record("left", data=b"left", event=Event.CONFLICT))
    async with asking(log) as client:
        assert await client.read_lookup(LEFT.name, ONE, size=21) == log.proof(20, 21)


async def test_a_version_that_is_not_logged() -> None:
    """The message has what the log says, where that is text."""
    log = make_log(20)
    async with asking(log) as client:
        with pytest.raises(UpstreamNotFoundError, match=r"^none@1.0.0: not logged$"):
            await client.read_lookup(PackageName("none"), ONE, size=20)
        log.fail("/lookup/none@1.0.0?size=20", Fault.status(404))
        with pytest.raises(UpstreamNotFoundError, match=r"^none@1.0.0: http\S+size=20: status 404$"):
            await client.read_lookup(PackageName("none"), ONE, size=20)


async def test_what_the_log_says_of_a_version_stands_alone() -> None:
    """Its sentence names the version: neither address nor version is said twice."""
    log = make_log(20)
    log.bodies["/lookup/none@1.0.0?size=20"] = b"none@1.0.0 is not logged: the registry has no package none\n"
    log.statuses["/lookup/none@1.0.0?size=20"] = 404
    async with asking(log) as client:
        with pytest.raises(
            UpstreamNotFoundError, match=r"^none@1.0.0 is not logged: the registry has no package none$"
        ):
            await client.read_lookup(PackageName("none"), ONE, size=20)


@pytest.mark.parametrize("version", ["", "1.0.0@x", "../x", "1 0", "ü"])
async def test_a_version_that_no_log_can_have_is_not_asked_for(version: str) -> None:
    """A lockfile may say anything."""
    log = make_log(20)
    async with asking(log) as client:
        with pytest.raises(UpstreamNotFoundError, match="no log has a record of such a version"):
            await client.read_lookup(LEFT.name, Version(version), size=20)
    assert log.asked == []


async def test_oversized_answer() -> None:
    """It is not read."""
    log = make_log(20)
    log.bodies[PATH] = bytes(MAX_LOOKUP_BYTES + 1)
    async with asking(log) as client:
        with pytest.raises(UpstreamProtocolError, match=f"at most {MAX_LOOKUP_BYTES} bytes"):
            await client.read_lookup(LEFT.name, ONE, size=20)


async def test_oversized_reason() -> None:
    """What a log says of nothing is not read for ever either."""
    log = make_log(20)
    log.bodies[PATH] = b"x" * 5000
    log.statuses[PATH] = 404
    async with asking(log) as client:
        with pytest.raises(UpstreamNotFoundError, match=r"status 404$"):
            await client.read_lookup(LEFT.name, ONE, size=20)


async def test_a_sick_answer_is_asked_for_again() -> None:
    """503 and an answer that is cut, and then the record."""
    for fault in (Fault.status(500), Fault.truncated(7)):
        log = make_log(20)
        log.fail(PATH, fault, times=1)
        async with asking(log) as client:
            assert await client.read_lookup(LEFT.name, ONE, size=20) == log.proof(5, 20)


@pytest.mark.slow
async def test_slow_server_is_given_up() -> None:
    """One that never answers: the fetcher's deadlines, and an error."""
    log = make_log(20)
    log.fail(PATH, Fault.hang())
    async with asking(log) as client:
        with trio.fail_after(5), pytest.raises(UpstreamUnreachableError):
            await client.read_lookup(LEFT.name, ONE, size=20)


async def test_an_address_that_is_none() -> None:
    """The message names the option."""
    async with open_fetcher() as fetcher:
        with pytest.raises(ConfigurationError, match="--sumdb"):
            LookupClient(url="ftp://log.example", fetcher=fetcher, gate=HostGate())
