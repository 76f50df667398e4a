"""What an operator decides while a witness runs: retired keys, lost identities and disabled logs, noticed in time."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.errors import ConfigurationError, RolledBackError, StorageUnavailableError
from mirrorwitness.run import relying, watching, witnessing
from mirrorwitness.run.watching import WATCH_SECONDS, watch_decisions
from mirrorwitness.run.witnessing import WitnessWishes, open_witness, retire_witness, serve_witness
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.witness.known import DISABLED_KEY, set_disabled
from mirrorwitness.witness.protocol import Reason
from mirrorwitness.witness.records import IDENTITY_KEY, Identity
from mirrorwitness.witness.startup import retire_keys
from tests.fakes.storage import MemoryStorage
from tests.unit.witness.world import LOG, LOG_KEY, NEXT, OTHER_KEY, OURS, OURS_PQ, grow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from trio.testing import MockClock

    from mirrorwitness.run.witnessing import RunningWitness
    from mirrorwitness.storage import Storage


@dataclass
class Site:
    """A witness of one log that runs and is watched.

    Attributes:
        places: its storage, and its anchor, in memory.
        running: the witness.
        is_ended: set when the process was asked to end.
    """

    places: dict[str, MemoryStorage]
    running: RunningWitness
    is_ended: trio.Event

    async def wait_end(self) -> float:
        """Wait until it ends; return how long that took."""
        start = trio.current_time()
        with trio.fail_after(10 * WATCH_SECONDS):
            await self.is_ended.wait()
        return trio.current_time() - start


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, MemoryStorage]:
    """Storages in memory, by their addresses, and keys in files."""
    found = {"storage": MemoryStorage(), "anchor": MemoryStorage()}

    @asynccontextmanager
    async def open_storage(address: str) -> AsyncGenerator[Storage, None]:
        yield found[address]

    for module in (relying, witnessing):
        monkeypatch.setattr(module, "open_storage", open_storage)
    monkeypatch.chdir(tmp_path)
    for name, key in (("w1.key", OURS), ("pq.key", OURS_PQ), ("w2.key", NEXT)):
        write_key(tmp_path / name, format_signer_key(key))
    return found


def make_wishes(*, has_anchor: bool = False, keys: tuple[str, ...] = ("w1.key", "pq.key")) -> WitnessWishes:
    """Return what an operator asks."""
    anchor = "anchor" if has_anchor else None
    logs = (str(LOG_KEY.verifier), str(OTHER_KEY.verifier))
    return WitnessWishes(storage="storage", anchor=anchor, keys=keys, logs=logs, signs_subtrees="pq.key" in keys)


@asynccontextmanager
async def watched(places: dict[str, MemoryStorage], wishes: WitnessWishes) -> AsyncGenerator[Site, None]:
    """Run a witness that cosigned a log, and watch for decisions."""
    ended = trio.Event()
    async with open_witness(wishes) as running, trio.open_nursery() as nursery:
        await grow(running.witness, 10)
        nursery.start_soon(lambda: watch_decisions(running, stop=ended.set))
        yield Site(places, running, ended)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("has_anchor", [False, True])
async def test_a_retired_key_signs_nothing_more(
    autojump_clock: MockClock,
    places: dict[str, MemoryStorage],
    caplog: pytest.LogCaptureFixture,
    *,
    has_anchor: bool,
) -> None:
    """In a process that runs since before: within half a minute, said to logs and in the log, as at the next start."""
    wishes = make_wishes(has_anchor=has_anchor)
    async with watched(places, wishes) as site:
        witness = site.running.witness
        await trio.sleep(3.5 * WATCH_SECONDS)
        await grow(witness, 11, old=10)
        before = dict(places["storage"].objects)
        assert await retire_witness(make_wishes(has_anchor=has_anchor, keys=("w1.key",))) == (str(OURS.verifier),)
        assert await site.wait_end() <= WATCH_SECONDS
        said = "the key witness.example/w1 was retired, and never signs again; make a new one"
        for answer in (
            await witness.add_checkpoint(LOG.request(11, 12)),
            await witness.add_checkpoint(LOG.request(11, 11)),
        ):
            assert (answer.status, answer.reason, answer.retry_after) == (503, Reason.STOPPED, None)
            assert answer.body.decode() == f"this witness signs nothing more: {said}\n"
        assert {**places["storage"].objects, IDENTITY_KEY: b""} == {**before, IDENTITY_KEY: b""}
        with pytest.raises(ConfigurationError, match=said):
            site.running.check_not_stopped()
    (line,) = [record.__dict__ for record in caplog.records if record.msg == "witness_stopped"]
    assert (line["levelname"], line["error"]) == ("ERROR", said)
    with pytest.raises(ConfigurationError, match=said):
        async with open_witness(wishes):
            pytest.fail("opened")


async def test_a_key_that_only_the_anchor_knows_as_retired(
    autojump_clock: MockClock, places: dict[str, MemoryStorage]
) -> None:
    """Retiring was cut off between the two: it counts all the same."""
    async with watched(places, make_wishes(has_anchor=True)) as site:
        await retire_keys(places["anchor"], None, [OURS_PQ.verifier])
        assert await site.wait_end() <= WATCH_SECONDS


async def test_another_key_that_is_retired(autojump_clock: MockClock, places: dict[str, MemoryStorage]) -> None:
    """Whoever signs with others goes on, and so it does where a new key is taken in beside them."""
    async with open_witness(make_wishes(keys=("w1.key", "w2.key"))):
        pass
    async with watched(places, make_wishes(keys=("w1.key",))) as site:
        async with open_witness(make_wishes(keys=("w1.key", "pq.key"))):
            pass
        await retire_keys(places["storage"], None, [NEXT.verifier])
        await trio.sleep(3 * WATCH_SECONDS)
        await grow(site.running.witness, 11, old=10)
        site.running.check_not_stopped()


@pytest.mark.parametrize(("place", "said"), [("storage", "this storage"), ("anchor", "the anchor")])
async def test_an_identity_that_is_gone(
    autojump_clock: MockClock, places: dict[str, MemoryStorage], place: str, said: str
) -> None:
    """Somebody emptied the storage under it, or the anchor: what it remembers is all that is left, and not enough."""
    async with watched(places, make_wishes(has_anchor=True)) as site:
        places[place].remove(IDENTITY_KEY)
        assert await site.wait_end() <= WATCH_SECONDS
        with pytest.raises(RolledBackError, match=f"{said} has no witness's identity any more .*witness adopt"):
            site.running.check_not_stopped()
        answer = await site.running.witness.add_checkpoint(LOG.request(10, 11))
        assert answer.reason is Reason.STOPPED


async def test_a_storage_that_became_another_witness_s(
    autojump_clock: MockClock, places: dict[str, MemoryStorage]
) -> None:
    """It is not signed for any more."""
    async with watched(places, make_wishes(keys=("w1.key",))) as site:
        places["storage"].remove(IDENTITY_KEY)
        places["storage"].set_bytes(IDENTITY_KEY, b'{"keys":["%s"]}' % str(NEXT.verifier).encode())
        assert await site.wait_end() <= WATCH_SECONDS
        with pytest.raises(ConfigurationError, match=r"is that of the witness witness\.example/w2"):
            site.running.check_not_stopped()


async def test_a_storage_that_does_not_answer_decides_nothing(
    autojump_clock: MockClock, places: dict[str, MemoryStorage], caplog: pytest.LogCaptureFixture
) -> None:
    """One event for each outage; what was decided meanwhile holds as soon as it answers."""
    async with watched(places, make_wishes()) as site:
        for times in (3, 2):
            error = StorageUnavailableError("no answer")
            places["storage"].fail_before("read", IDENTITY_KEY, error, times=times)
            await trio.sleep((times + 2) * WATCH_SECONDS)
        site.running.check_not_stopped()
        places["storage"].fail_before("read", IDENTITY_KEY, StorageUnavailableError("no answer"), times=3)
        retired = Identity(keys=(str(OURS.verifier),), retired=(str(OURS.verifier),))
        places["storage"].set_bytes(IDENTITY_KEY, msgspec.json.encode(retired))
        assert 3 * WATCH_SECONDS <= await site.wait_end() <= 4 * WATCH_SECONDS
    lines = [record.__dict__ for record in caplog.records if record.msg == "decisions_not_read"]
    assert [(line["levelname"], line["error"]) for line in lines] == [("WARNING", "no answer")] * 3


async def test_a_log_that_is_disabled_elsewhere(
    autojump_clock: MockClock, places: dict[str, MemoryStorage], caplog: pytest.LogCaptureFixture
) -> None:
    """404 within half a minute, without a signal or a restart; the other log and what is enabled again go on."""
    caplog.set_level(logging.INFO, "mirrorwitness.witness")
    async with watched(places, make_wishes()) as site:
        witness = site.running.witness
        for is_disabled, status in ((True, 404), (False, 200)):
            await set_disabled(places["storage"], LOG.origin, is_disabled=is_disabled)
            await trio.sleep(1.1 * WATCH_SECONDS)
            assert (await witness.add_checkpoint(LOG.request(10, 10))).status == status
        places["storage"].set_bytes(DISABLED_KEY, b"nonsense")
        await trio.sleep(1.1 * WATCH_SECONDS)
        await grow(witness, 11, old=10)
    lines = [record.__dict__ for record in caplog.records]
    changed = [(line["disabled"], line["enabled"]) for line in lines if line["msg"] == "logs_refreshed"]
    assert changed == [((LOG.origin,), ()), ((), (LOG.origin,))]
    (failed,) = [line for line in lines if line["msg"] == "logs_not_refreshed"]
    assert failed["error"].startswith("state/witness/disabled.json is damaged")


async def test_a_served_witness_ends_with_the_error(
    places: dict[str, MemoryStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by itself, without a signal, and by the error's own exit code also where a webhook is told of forks."""
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.01)
    is_ready = trio.Event()
    wishes = replace(make_wishes(), webhook="http://127.0.0.1:1/")

    async def serve() -> None:
        with pytest.raises(ConfigurationError, match="was retired, and never signs again"):
            await serve_witness(
                wishes, listen="127.0.0.1:0", ready=lambda _address: is_ready.set(), told=lambda _text: None
            )

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await is_ready.wait()
            await retire_keys(places["storage"], None, [OURS_PQ.verifier])
