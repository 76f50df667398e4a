"""Looking into tarballs: a few at once, in threads that nothing else needs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import trio

from mirrorwitness.sumdb import tarballs as module
from tests.fakes.registry import Signer
from tests.unit.sumdb.ingest_world import make_world

if TYPE_CHECKING:
    import pytest

    from mirrorwitness.npm.integrity import Expectation
    from mirrorwitness.storage import Body


async def test_attack_tarballs_that_take_long_to_unpack(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be are looked into at once, however many come; threads for documents and disks stay free."""
    monkeypatch.setattr(module, "SMALL_BYTES", 0)
    monkeypatch.setattr(module, "LOOKED_INTO_AT_ONCE", 2)
    lock, running, most = threading.Lock(), 0, 0

    def look(_body: Body, _weaker: tuple[Expectation, ...]) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)  # the work of an unpacking
        with lock:
            running -= 1

    monkeypatch.setattr(module, "_look_inside", look)
    world = await make_world()
    for number in range(20):
        world.sim.publish("left", f"1.0.{number}", signer=Signer())
    before = trio.to_thread.current_default_thread_limiter().borrowed_tokens
    await world.run("left")
    assert (most, len(await world.events("left"))) == (2, 20)
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == before
