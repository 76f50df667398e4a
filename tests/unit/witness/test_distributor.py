"""Telling distributors what was cosigned, over HTTP on loopback."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.fetch import Backoff, HostGate, open_fetcher
from mirrorwitness.witness.distributor import Distributor, distributor_path
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.unit.tlog import signing
from tests.unit.witness.log_server import DistributorServer, make_lab

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

QUICK = Backoff(attempts=2, base=0.001, cap=0.001)
LAB = make_lab()


async def test_a_url_to_which_no_path_can_be_added_is_refused() -> None:
    """The message names the distributor."""
    async with open_fetcher() as fetcher:
        with pytest.raises(ConfigurationError, match="distributor"):
            Distributor(url="https://distributor.example/?a", fetcher=fetcher, gate=HostGate())


def test_where_a_distributor_takes_a_checkpoint() -> None:
    """The log's ID is that of transparency-dev/formats (`log.ID`, its test of the sumdb); a slash is escaped."""
    digest = "a32d071739c062f4973f1db8cc1069f517428d77105962b285bbf918c4062591"
    path = f"/distributor/v0/logs/{digest}/byWitness/witness.example%2Fw1/checkpoint"
    assert distributor_path("go.sum database tree", "witness.example/w1") == path


@asynccontextmanager
async def telling(server: DistributorServer) -> AsyncGenerator[Distributor, None]:
    async with serve(server), open_fetcher() as fetcher:
        yield Distributor(url=f"{server.base}/", fetcher=fetcher, gate=HostGate(), tries=QUICK)


def cosigned(size: int) -> bytes:
    text = LAB.text(size)
    return LAB.sign(text, LAB.keys[0], signing.A, timestamp=1_700_000_000)


async def test_a_distributor_gets_the_checkpoint_as_it_is() -> None:
    """By PUT, under the names of log and witness."""
    server = DistributorServer(LAB, signing.A.verifier)
    async with telling(server) as distributor:
        await distributor.put(cosigned(5), origin=LAB.origin, name=signing.A.name)
        assert repr(distributor) == f"<Distributor {server.base}>"
    assert server.taken == {distributor_path(LAB.origin, signing.A.name): cosigned(5)}


async def test_a_distributor_that_is_sick_is_told_again() -> None:
    """One 503, and then it takes it."""
    server = DistributorServer(LAB, signing.A.verifier)
    server.fail(Fault.status(503), times=1)
    async with telling(server) as distributor:
        await distributor.put(cosigned(5), origin=LAB.origin, name=signing.A.name)
    assert len(server.asked) == 2


@pytest.mark.parametrize("fault", [None, Fault.redirect("/elsewhere")])
async def test_a_distributor_that_does_not_take_it(fault: Fault | None) -> None:
    """A witness that it does not know, or a redirect, which is not followed with a body: an error, after one try."""
    server = DistributorServer(LAB)
    if fault is not None:
        server.fail(fault)
    async with telling(server) as distributor:
        with pytest.raises(UpstreamProtocolError, match=r"PUT .*/distributor/v0/logs/.*: status (400|302)"):
            await distributor.put(cosigned(5), origin=LAB.origin, name=signing.A.name)
    assert len(server.asked) == 1
