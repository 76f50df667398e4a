"""A webhook is told of each fork that was kept, and neither delays nor fails anything."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.errors import ConfigurationError, StorageUnavailableError, UpstreamUnreachableError
from mirrorwitness.fetch import Backoff, HostGate, open_fetcher
from mirrorwitness.run import webhook
from mirrorwitness.run.webhook import Webhook, check_webhook, open_webhook
from mirrorwitness.run.witnessing import WitnessWishes, open_witness
from mirrorwitness.tlog.evidence import check_evidence, parse_evidence
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.witness.protocol import Reason, format_add_checkpoint
from tests.fakes.registry_server import Fault, FaultPlan, Reply
from tests.fakes.serving import serve
from tests.unit.witness.world import LOG, LOG_KEY, OURS, grow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.registry_server import RecordedRequest

QUICK = Backoff(attempts=2, base=0.001, cap=0.001)
FORK = LOG.fork(6)


class HookServer:
    """Takes what is posted.

    Attributes:
        taken: the bodies that were taken, in order.
        asked: how often it was asked.
        some: set once something was taken.
    """

    def __init__(self) -> None:
        self.prefix = ""
        self.base = ""
        self.latency = 0.0
        self.taken: list[bytes] = []
        self.asked = 0
        self.some = trio.Event()
        self._faults = FaultPlan()

    def fail(self, fault: Fault, *, times: int | None = None) -> None:
        """Let something go wrong."""
        self._faults.add("", fault, times)

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        assert (request.method, request.target) == ("POST", "/secret?token=hidden")
        assert request.headers["content-type"] == "application/json"
        self.asked += 1
        fault = self._faults.next("")
        if fault is not None:
            return fault.spoil(Reply())
        self.taken.append(request.body)
        self.some.set()
        return Reply(204)

    @property
    def url(self) -> str:
        """Where to post."""
        return f"{self.base}/secret?token=hidden"


def events(caplog: pytest.LogCaptureFixture, *names: str) -> list[tuple[str, str, str]]:
    """Return events of these names: level, origin and reason."""
    lines = [record.__dict__ for record in caplog.records if record.msg in names]
    assert not any("secret" in str(line.values()) or "hidden" in str(line.values()) for line in lines)
    return [(line["levelname"], line["origin"], line.get("reason", "")) for line in lines]


@pytest.fixture
def wishes(tmp_path: Path) -> WitnessWishes:
    """A witness of one log."""
    write_key(tmp_path / "w1.key", format_signer_key(OURS))
    return WitnessWishes(
        storage=f"file:{tmp_path / 'state'}?fsync=off",
        keys=(str(tmp_path / "w1.key"),),
        logs=(str(LOG_KEY.verifier),),
    )


async def test_fork_is_told_with_its_evidence(
    tmp_path: Path, wishes: WitnessWishes, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, as it lies in the storage, however often the log shows it; after the answer."""
    caplog.set_level(logging.INFO, "mirrorwitness.witness")
    server = HookServer()
    async with serve(server), open_witness(replace(wishes, webhook=server.url)) as running:
        await grow(running.witness, 10)
        for _ in range(2):
            answer = await running.witness.add_checkpoint(format_add_checkpoint(10, (), FORK.note(10)))
            assert answer.reason is Reason.OTHER_ROOT
    (kept,) = (tmp_path / "state/evidence").rglob("*.json")
    assert server.taken == [kept.read_bytes()]
    assert check_evidence(parse_evidence(server.taken[0])).theirs == FORK.tree(10)
    assert events(caplog, "webhook_told", "webhook_failed") == [("INFO", LOG.origin, "")]


async def test_a_webhook_that_hangs_delays_nothing(wishes: WitnessWishes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is answered, the next ones too; the end waits for the deadline alone."""
    monkeypatch.setattr(webhook, "DRAIN_SECONDS", 0.05)
    server = HookServer()
    server.fail(Fault.hang())
    with trio.fail_after(5):
        async with serve(server), open_witness(replace(wishes, webhook=server.url)) as running:
            await grow(running.witness, 10)
            for fork in (FORK, LOG.fork(3)):
                answer = await running.witness.add_checkpoint(format_add_checkpoint(10, (), fork.note(10)))
                assert answer.reason is Reason.OTHER_ROOT
            await grow(running.witness, 20, old=10)


async def test_fork_that_could_not_be_kept_is_not_told(wishes: WitnessWishes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is with the next one."""
    server = HookServer()
    async with serve(server), open_witness(replace(wishes, webhook=server.url)) as running:
        await grow(running.witness, 10)

        async def fail(*_given: object, **_more: object) -> None:
            raise StorageUnavailableError("no answer")

        with monkeypatch.context() as patch:
            patch.setattr(running.storage, "put", fail)
            await running.witness.add_checkpoint(format_add_checkpoint(10, (), FORK.note(10)))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert server.taken == []
        await running.witness.add_checkpoint(format_add_checkpoint(10, (), FORK.note(10)))
    assert len(server.taken) == 1


async def test_a_webhook_that_fails_once_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """Two tries."""
    caplog.set_level(logging.INFO, "mirrorwitness.witness")
    server = HookServer()
    server.fail(Fault.status(503), times=1)
    async with serve(server), open_webhook(server.url, tries=QUICK) as tell:
        tell("a", b"{}")
        await server.some.wait()
    assert (server.taken, server.asked) == ([b"{}"], 2)
    assert events(caplog, "webhook_told", "webhook_failed") == [("INFO", "a", "")]


@pytest.mark.parametrize(
    ("fault", "asked", "said"),
    [
        (Fault.status(500), 2, "status 500"),
        (Fault.status(400), 1, "status 400"),
        (Fault.redirect("/elsewhere"), 1, "status 302"),
        (Fault.hang(), 2, "not done after 0.05 s"),
        (Fault.reset(5), 2, ""),
    ],
)
async def test_a_webhook_that_fails_is_an_event(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fault: Fault, asked: int, said: str
) -> None:
    """After two tries, or one where another would not help; it does not give the URL away. The next one is told."""
    monkeypatch.setattr(webhook, "TRY_SECONDS", 0.05)
    server = HookServer()
    server.fail(fault, times=asked)
    async with serve(server), open_webhook(server.url, tries=QUICK) as tell:
        tell("a", b"1")
        tell("b", b"2")
    ((level, origin, reason),) = events(caplog, "webhook_failed")
    assert (level, origin, server.asked, server.taken) == ("ERROR", "a", asked + 1, [b"2"])
    assert said in reason
    assert server.base in reason


async def test_a_webhook_that_nobody_listens_at(caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    async with open_webhook("http://127.0.0.1:1/secret", tries=QUICK) as tell:
        tell("a", b"{}")
    ((_, _, reason),) = events(caplog, "webhook_failed")
    assert reason.startswith("POST http://127.0.0.1:1: ")


async def test_too_many_proofs_are_not_kept_waiting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred wait; the next ones are an event each, and so is what waits at the end."""
    monkeypatch.setattr(webhook, "DRAIN_SECONDS", 0.05)
    server = HookServer()
    server.fail(Fault.hang())
    async with serve(server), open_webhook(server.url) as tell:
        tell("first", b"{}")
        await trio.testing.wait_all_tasks_blocked(0.01)
        for number in range(102):
            tell(f"log-{number}", b"{}")
    found = events(caplog, "webhook_failed")
    many = "100 proofs wait to be told already"
    assert found[:2] == [("ERROR", f"log-{number}", many) for number in (100, 101)]
    names = ["first", *[f"log-{number}" for number in range(100)]]
    assert found[2:] == [("ERROR", name, "the process ended") for name in names]


async def test_cancelled_while_it_tells(caplog: pytest.LogCaptureFixture) -> None:
    """At once, with an event."""
    server = HookServer()
    server.fail(Fault.hang())
    async with serve(server):
        with trio.move_on_after(0.05):
            async with open_webhook(server.url) as tell:
                tell("a", b"{}")
                await trio.sleep_forever()
    assert events(caplog, "webhook_failed") == [("ERROR", "a", "the process ended")]


async def test_errors_of_a_webhook() -> None:
    """Of one kind, and it shows where it is without what may be secret."""
    async with open_fetcher() as fetcher:
        hook = Webhook(url="http://127.0.0.1:1/secret", fetcher=fetcher, gate=HostGate(), tries=QUICK)
        assert repr(hook) == "<Webhook at http://127.0.0.1:1>"
        with pytest.raises(UpstreamUnreachableError, match=r"^POST http://127\.0\.0\.1:1: "):
            await hook.post(b"{}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://hooks.example/secret", "expected an absolute http or https URL"),
        ("secret", "expected an absolute http or https URL"),
        ("https://me:secret@hooks.example", "expected an absolute http or https URL without a user name"),
        ("https://hooks.example/secret#x", "--webhook https://hooks.example:443: expected no fragment"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    """Said without what may be secret."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        check_webhook(url)
    assert "secret" not in str(caught.value)
