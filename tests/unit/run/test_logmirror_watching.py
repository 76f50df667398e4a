"""A log mirror that runs: retired keys and lost identities are noticed in time, what a crash took is shown again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.errors import ConfigurationError, RolledBackError, StorageUnavailableError
from mirrorwitness.logmirror.paths import checkpoint_key
from mirrorwitness.logmirror.roles import ARTIFACTS, LOG_MIRROR, WITNESS
from mirrorwitness.run import cosigners, logmirroring, relying, watching
from mirrorwitness.run.cosigners import CosignerWishes, open_cosigner, retire_cosigner
from mirrorwitness.run.logmirroring import PullWishes, follow_pulls, open_log_mirror, pull_once, serve_log_mirror
from mirrorwitness.run.watching import WATCH_SECONDS, watch_keys
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.witness.feeder import Action
from mirrorwitness.witness.protocol import Reason
from tests.fakes.serving import serve
from tests.fakes.storage import MemoryStorage
from tests.fakes.thread import run_in_thread
from tests.unit.logmirror.sources import LabServer, LabSource
from tests.unit.logmirror.world import LAB, OURS, OURS_PQ, add, body_of, fill, post
from tests.unit.witness.world import OURS as WITNESS_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from trio.testing import MockClock

    from mirrorwitness.logmirror.service import LogMirror
    from mirrorwitness.storage import Storage

IDENTITY = f"{LOG_MIRROR.state}identity.json"
SHOWN = checkpoint_key(LAB.origin)
VKEY = str(LAB.keys[0].verifier)


@dataclass
class Site:
    """Storages by their addresses, and keys in files.

    Attributes:
        folder: where the keys are.
        storage: where the copies are.
        anchor: the second place.
    """

    folder: Path
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    anchor: MemoryStorage = field(default_factory=MemoryStorage)

    def wishes(self, *keys: str, has_anchor: bool = False, url: str = "") -> CosignerWishes:
        """Return what an operator asks."""
        files = tuple([str(self.folder / f"{key}.key") for key in keys or ("m1", "pq")])
        log = VKEY + (f"={url}" if url else "")
        return CosignerWishes(storage="storage", anchor="anchor" if has_anchor else None, keys=files, logs=(log,))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    found = Site(tmp_path)

    @asynccontextmanager
    async def open_storage(address: str) -> AsyncGenerator[Storage, None]:
        yield {"storage": found.storage, "anchor": found.anchor}[address]

    for module in (relying, cosigners):
        monkeypatch.setattr(module, "open_storage", open_storage)
    for name, key in (("m1", OURS), ("pq", OURS_PQ), ("w1", WITNESS_KEY)):
        write_key(tmp_path / f"{name}.key", format_signer_key(key))
    return found


@pytest.mark.parametrize("has_anchor", [False, True])
async def test_a_retired_key_signs_nothing_more(
    autojump_clock: MockClock, site: Site, monkeypatch: pytest.MonkeyPatch, *, has_anchor: bool
) -> None:
    """In a process that runs since before: within the time of a look, also for an upload that is under way."""
    monkeypatch.setattr(watching, "WATCH_SECONDS", 5)  # an upload's client is waited for no longer than half a minute
    wishes, ended = site.wishes(has_anchor=has_anchor), trio.Event()
    async with open_log_mirror(wishes) as (mirror, opened), trio.open_nursery() as nursery:
        await fill(mirror, 300)
        await mirror.add_checkpoint(add(300, 600))
        nursery.start_soon(lambda: watch_keys(opened.cosigner, look=opened.check_kept, stop=ended.set, event="x"))
        before = site.storage.objects[SHOWN]

        async def retire(number: int) -> None:
            if number:
                await retire_cosigner(site.wishes("m1", has_anchor=has_anchor), LOG_MIRROR)
                await ended.wait()

        body = body_of(300, 600)
        said = b"this log mirror signs nothing more: the key mirror.example/m1 was retired, and never signs again; "
        for given in (
            await post(mirror, body[:-1], body[-1:], before=retire),
            await post(mirror, body_of(300, 300)),
            await mirror.add_checkpoint(add(600, 700)),
        ):
            assert (given.status, given.reason, given.retry_after) == (503, Reason.STOPPED, None)
            assert given.body.startswith(said)
        assert site.storage.objects[SHOWN] == before
        with pytest.raises(ConfigurationError, match="was retired"):
            opened.check_not_stopped()
    with pytest.raises(ConfigurationError, match="was retired"):
        async with open_log_mirror(wishes):
            pytest.fail("opened")


async def test_a_storage_that_does_not_answer_decides_nothing(autojump_clock: MockClock, site: Site) -> None:
    """But one that forgot whose it is does, and the error names the log mirror's own ways out."""
    ended = trio.Event()
    async with open_log_mirror(site.wishes()) as (mirror, opened), trio.open_nursery() as nursery:
        await fill(mirror, 300)
        site.storage.fail_before("read", IDENTITY, StorageUnavailableError("down"), times=3)
        nursery.start_soon(lambda: watch_keys(opened.cosigner, look=opened.check_kept, stop=ended.set, event="x"))
        await trio.sleep(5 * WATCH_SECONDS)
        opened.check_not_stopped()
        site.storage.remove(IDENTITY)
        await ended.wait()
        with pytest.raises(RolledBackError, match="`mirrorwitness logmirror adopt`"):
            opened.check_not_stopped()


async def test_a_served_log_mirror_ends_with_the_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, without a signal."""
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.01)
    is_ready = trio.Event()

    async def run() -> None:
        with pytest.raises(ConfigurationError, match="was retired, and never signs again"):
            await serve_log_mirror(site.wishes(), listen="127.0.0.1:0", ready=lambda _address: is_ready.set())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await is_ready.wait()
            await retire_cosigner(site.wishes("pq"), LOG_MIRROR)


async def test_a_follower_ends_with_the_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it waits for its next poll."""
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.01)
    asked = PullWishes(mirror=site.wishes(url="http://127.0.0.1:1"), every=3600)

    async def run() -> None:
        with pytest.raises(ConfigurationError, match="was retired, and never signs again"):
            await follow_pulls(asked)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while IDENTITY not in site.storage.objects:  # noqa: ASYNC110 - written by the product, which tells nobody
                await trio.sleep(0.01)
            await retire_cosigner(site.wishes("m1"), LOG_MIRROR)


@pytest.mark.parametrize("cut", [None, 0, 40])
async def test_what_the_power_took_is_published_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, cut: int | None
) -> None:
    """By a server as soon as it runs: gone or cut; a log whose state cannot be read keeps no other one waiting."""
    async with open_log_mirror(site.wishes()) as (mirror, _):
        await fill(mirror, 300)
    newest = site.storage.objects[SHOWN]
    assert site.storage.lose_power(cut=cut) == [SHOWN]
    done = trio.Event()
    publish = logmirroring.publish_again

    async def publish_and_tell(mirror: LogMirror) -> None:
        await publish(mirror)
        done.set()

    monkeypatch.setattr(logmirroring, "publish_again", publish_and_tell)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve_log_mirror(site.wishes(), listen="127.0.0.1:0", ready=lambda _: None))
            await done.wait()
            nursery.cancel_scope.cancel()
    assert site.storage.objects[SHOWN] == newest
    assert site.storage.lose_power() == []


async def test_what_cannot_be_published_again_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """And is no reason to end."""
    async with open_log_mirror(site.wishes()) as (mirror, _):
        await fill(mirror, 300)
    site.storage.lose_power()
    async with open_log_mirror(site.wishes()) as (again, _):
        site.storage.fail_before("put", SHOWN, StorageUnavailableError("down"))
        await logmirroring.publish_again(again)
    assert [record.__dict__["error"] for record in caplog.records if record.msg == "logmirror_failed"] == ["down"]


def test_a_poll_publishes_again(site: Site) -> None:
    """Also where the log has nothing new."""
    with run_in_thread(serve(LabServer(LabSource(LAB, 300)))) as url:
        asked = PullWishes(mirror=site.wishes(url=url))
        trio.run(pull_once, asked)
        newest = site.storage.objects[SHOWN]
        assert site.storage.lose_power() == [SHOWN]
        (polled,) = trio.run(pull_once, asked).logs
    assert polled.action is Action.UNCHANGED
    assert site.storage.objects[SHOWN] == newest


async def test_attack_the_key_of_another_statement_in_the_anchor(site: Site) -> None:
    """A key is refused where the anchor knows it in another role, and not given up in a role that it never had."""
    async with open_cosigner(site.wishes("m1", has_anchor=True), ARTIFACTS):
        pass
    for key in [key for key in site.storage.objects if key.startswith(ARTIFACTS.state)]:
        site.storage.remove(key)
    with pytest.raises(ConfigurationError, match="that of the artifact statement of this storage"):
        async with open_cosigner(site.wishes("m1", has_anchor=True), LOG_MIRROR):
            pytest.fail("opened")
    with pytest.raises(ConfigurationError, match=r"give it up with `mirrorwitness logmirror retire --statement art"):
        await retire_cosigner(site.wishes("m1", has_anchor=True), LOG_MIRROR)
    assert len(await retire_cosigner(site.wishes("m1", has_anchor=True), ARTIFACTS)) == 1
    assert WITNESS.state not in "".join(site.storage.objects)
