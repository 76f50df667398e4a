"""Mirrors with a log, for the tests of both."""

from __future__ import annotations

from mirrorwitness.errors import UpstreamUnreachableError
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.npm.names import PackageName
from tests.fakes.registry import RegistrySimulator
from tests.fakes.simulated_log import SimulatedLog, open_simulated_log
from tests.unit.mirror.builder import Mirror, make_mirror

__all__ = ["DOWN", "NAME", "PROOF", "log_of", "make_logged"]

NAME = PackageName("left-pad")
PROOF = "npm/left-pad/-/left-pad-1.0.0.tgz.tlog-proof"
DOWN = UpstreamUnreachableError("log.example: no answer")


async def make_logged(*, check: LogCheck = LogCheck.REQUIRE) -> Mirror:
    """Return an empty mirror of one package with two versions, both logged."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    sim.publish("left-pad", "1.1.0")
    log = await open_simulated_log()
    await log.add(sim, "left-pad", "1.0.0", "1.1.0")
    return make_mirror(sim, rules=["left-pad"], log=log, check=check)


def log_of(mirror: Mirror) -> SimulatedLog:
    assert mirror.log is not None
    return mirror.log
