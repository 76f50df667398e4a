"""Polling many logs: one's trouble is its own, distributors are told, and what the command says of it all."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.cli.witness_poll import poll as poll_command
from mirrorwitness.errors import ConfigurationError, ExitCode
from mirrorwitness.fetch import Backoff
from mirrorwitness.run import polling
from mirrorwitness.run.polling import Poller, PollResult, PollWishes, follow_logs, next_delay, poll_once
from mirrorwitness.run.witnessing import WitnessWishes, manage_logs
from mirrorwitness.tlog.keys import format_signer_key, make_signer_key
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.distributor import distributor_path
from mirrorwitness.witness.feeder import Action, Polled
from mirrorwitness.witness.records import public_key
from tests.fakes.feed_process import ROOT, end, wait_until
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.fakes.thread import run_in_thread
from tests.unit.run.test_webhook import HookServer
from tests.unit.witness.log_server import DistributorServer, LogServer, make_lab
from tests.unit.witness.world import NEXT, OURS, OURS_PQ

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from pathlib import Path

    from trio.testing import MockClock

    from mirrorwitness.witness.feeder import Feeder

QUICK = Backoff(attempts=1)
LABS = [make_lab(f"log-{number}") for number in range(20)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys, in which a witness keeps its state."""
    monkeypatch.chdir(tmp_path)
    for name, key in (("w1.key", OURS), ("pq.key", OURS_PQ), ("w2.key", NEXT)):
        write_key(tmp_path / name, format_signer_key(key))
    return tmp_path


@asynccontextmanager
async def served(*servers: LogServer | DistributorServer) -> AsyncGenerator[None, None]:
    """Serve several."""
    if not servers:
        yield
        return
    async with serve(servers[0]), served(*servers[1:]):
        yield


def wishes(
    folder: Path, servers: Iterable[LogServer], *, keys: tuple[str, ...] = ("w1.key",), **more: Any
) -> PollWishes:
    """Return what an operator asks who polls some logs, each as soon as it is served."""
    witness = WitnessWishes(
        storage=f"file:{folder / 'state'}?fsync=off",
        keys=tuple([str(folder / key) for key in keys]),
        logs=tuple([server.flag for server in servers]),
    )
    return PollWishes(witness=witness, **{"tries": QUICK, "deadline": 5.0, **more})


def actions(result: PollResult) -> list[str]:
    return [polled.action.value for polled in result.logs]


async def test_all_logs_are_polled_once_in_the_order_of_the_flags(folder: Path) -> None:
    """More than are polled at a time; what is cosigned lies where monitors look for it."""
    servers = [LogServer(lab, 10 + number, prefix=f"/{number}") for number, lab in enumerate(LABS)]
    async with served(*servers):
        result = await poll_once(wishes(folder, servers))
        again = await poll_once(wishes(folder, servers))
    assert [(polled.origin, polled.after) for polled in result.logs] == [
        (lab.origin, 10 + number) for number, lab in enumerate(LABS)
    ]
    assert (set(actions(result)), result.exit_code(), result.notes) == ({"cosigned"}, ExitCode.COMPLETE, ())
    assert (set(actions(again)), again.exit_code()) == ({"unchanged"}, ExitCode.COMPLETE)
    assert all((folder / "state" / public_key(lab.origin)).exists() for lab in LABS)


@pytest.mark.slow
async def test_slow_log_among_several(folder: Path) -> None:
    """It is given up at its deadline, and named; the others are cosigned long before."""
    servers = [LogServer(lab, 10) for lab in LABS[:4]]
    servers[1].fail("/checkpoint", Fault.hang())
    servers[2].gone.add("/checkpoint")
    async with served(*servers):
        with trio.fail_after(5):
            result = await poll_once(wishes(folder, servers, deadline=0.5))
    assert actions(result) == ["cosigned", "unread", "unread", "cosigned"]
    assert result.logs[1].text == "not done after 0.5 s"
    assert result.exit_code() is ExitCode.PARTIAL


async def test_fork_and_missing_tiles_of_several_logs(folder: Path) -> None:
    """Each is judged alone; the fork decides the exit code, and its evidence is kept."""
    servers = [LogServer(lab, 100, dialect=Dialect.SUMDB) for lab in LABS[:3]]
    async with served(*servers):
        asked = wishes(folder, servers, dialect=Dialect.SUMDB)
        assert (await poll_once(asked)).exit_code() is ExitCode.COMPLETE
        servers[0].grow(300, LABS[0].fork(9))
        servers[1].grow(300)
        servers[1].gone.add("/tile/8/0/000")
        servers[2].grow(300)
        result = await poll_once(asked)
    assert actions(result) == ["forked", "unread", "cosigned"]
    assert result.exit_code() is ExitCode.DIVERGENCE
    (kept,) = (folder / "state" / "evidence").rglob("*.json")
    evidence = json.loads(kept.read_bytes())
    assert evidence["origin"] == LABS[0].origin
    assert evidence["theirs"].encode() == LABS[0].fork(9).checkpoint(300)
    assert evidence["ours"].encode().startswith(LABS[0].text(100))
    assert len(evidence["proof"]) > 1


async def test_fork_that_only_a_poll_sees_is_told(folder: Path) -> None:
    """The webhook gets the evidence that was kept, before the command ends."""
    server, hook = LogServer(LABS[0], 100), HookServer()
    async with served(server), serve(hook):
        asked = wishes(folder, [server])
        await poll_once(asked)
        server.grow(300, LABS[0].fork(9))
        result = await poll_once(replace(asked, witness=replace(asked.witness, webhook=hook.url)))
    (kept,) = (folder / "state" / "evidence").rglob("*.json")
    assert (actions(result), hook.taken) == (["forked"], [kept.read_bytes()])


async def test_a_follower_learns_that_a_log_was_disabled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next refresh: from then on it is refused."""
    server = LogServer(LABS[0], 10)
    is_cosigned, is_refused = trio.Event(), trio.Event()
    events = {Action.COSIGNED: is_cosigned, Action.REFUSED: is_refused}

    def note(polled: Polled) -> None:
        if polled.action in events:
            events[polled.action].set()

    async def until(work: Callable[[], Any], *, stop: Callable[[], None]) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await is_cosigned.wait()
            (log,) = await manage_logs(f"file:{folder / 'state'}", disable=LABS[0].origin)
            assert (log.is_disabled, log.size) == (True, 10)
            await is_refused.wait()
            stop()
        return True

    monkeypatch.setattr(polling, "run_until_signal", until)
    monkeypatch.setattr(polling, "_log_polled", note)
    async with served(server):
        asked = wishes(folder, [server], every=0.02, refresh=0.0)  # each poll asks the witness
        with trio.fail_after(10):
            assert await follow_logs(replace(asked, witness=replace(asked.witness, refresh_lists=0.01)))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ("cosigned refreshed unchanged", ExitCode.COMPLETE),
        ("cosigned unread", ExitCode.PARTIAL),
        ("refused", ExitCode.PARTIAL),
        ("refused unread", ExitCode.PARTIAL),
        ("unread unread", ExitCode.UPSTREAM),
        ("unread older-head", ExitCode.DIVERGENCE),
        ("cosigned forked", ExitCode.DIVERGENCE),
        ("unverified", ExitCode.DIVERGENCE),
        ("rolled-back", ExitCode.DIVERGENCE),
    ],
)
def test_p3_exit_codes(found: str, code: ExitCode) -> None:
    """What weighs most decides."""
    polled = [Polled("log.example", Action(action), 1, 1) for action in found.split()]
    assert PollResult(tuple(polled), ()).exit_code() is code


async def test_logs_without_a_url_are_not_polled(folder: Path) -> None:
    """One with a URL is; none at all is a mistake of the operator."""
    servers = [LogServer(lab, 10) for lab in LABS[:2]]
    async with served(*servers):
        flags = (servers[0].flag, str(LABS[1].keys[0].verifier))
        asked = wishes(folder, [])
        both = replace(asked, witness=replace(asked.witness, logs=flags))
        assert [polled.origin for polled in (await poll_once(both)).logs] == [LABS[0].origin]
        with pytest.raises(ConfigurationError, match="no log to poll"):
            await poll_once(replace(asked, witness=replace(asked.witness, logs=flags[1:])))
    assert servers[1].asked == []


async def test_distributors_are_told_of_new_cosignatures_only(folder: Path) -> None:
    """Each of the witness's names of Ed25519, under a path of its own; of an unchanged log nothing is sent."""
    server = LogServer(LABS[0], 10)
    distributor = DistributorServer(LABS[0], OURS.verifier, NEXT.verifier)
    async with served(server, distributor):
        keys = ("w1.key", "pq.key", "w2.key")
        asked = wishes(folder, [server], keys=keys, distributors=(distributor.base,))
        first, second = await poll_once(asked), await poll_once(asked)
    assert (actions(first), actions(second), first.notes) == (["cosigned"], ["unchanged"], ())
    note = (folder / "state" / public_key(LABS[0].origin)).read_bytes()
    names = (OURS.name, NEXT.name)
    assert distributor.taken == {distributor_path(LABS[0].origin, name): note for name in names}
    assert len(distributor.asked) == 2


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.hang(), None])
async def test_a_distributor_that_fails_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault | None
) -> None:
    """Sick, hanging, or not knowing the witness: the checkpoint is cosigned, and the others are told."""
    monkeypatch.setattr(polling, "DISTRIBUTE_SECONDS", 0.2)
    server = LogServer(LABS[0], 10)
    bad = DistributorServer(LABS[0], *([] if fault is None else [OURS.verifier]))
    good = DistributorServer(LABS[0], OURS.verifier)
    if fault is not None:
        bad.fail(fault)
    async with served(server, bad, good):
        result = await poll_once(wishes(folder, [server], distributors=(bad.base, good.base)))
        base = bad.base
    assert (actions(result), result.exit_code()) == (["cosigned"], ExitCode.COMPLETE)
    (note,) = result.notes
    assert note.startswith(f"{base} was not told of the checkpoint of {LABS[0].origin!r}: ")
    assert len(good.taken) == 1


async def test_a_follower_polls_again_and_again_until_it_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Growth is found, a distributor that failed is told with the next poll, the log has a line for each result."""
    server = LogServer(LABS[0], 10)
    distributor = DistributorServer(LABS[0], OURS.verifier)
    distributor.fail(Fault.status(500), times=2)
    caplog.set_level(logging.DEBUG, "mirrorwitness.witness")
    is_done = trio.Event()
    distributor.on_take = lambda note: is_done.set() if note.split(b"\n")[1] == b"700" else server.grow(700)

    async def until(work: Callable[[], Any], *, stop: Callable[[], None]) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await is_done.wait()
            stop()
        return True

    monkeypatch.setattr(polling, "run_until_signal", until)
    stranger = make_signer_key(LABS[0].origin, bytes(32)).verifier
    (folder / "logs").write_text(f"logs/v0\nvkey {stranger}\n")
    async with served(server, distributor):
        asked = wishes(folder, [server], distributors=(distributor.base,), every=0.02)
        asked = replace(asked, witness=replace(asked.witness, lists=("logs",)))
        with trio.fail_after(10):
            assert await follow_logs(asked, jitter=lambda: 0.5)
    lines = [record.__dict__ for record in caplog.records]
    polled = [line for line in lines if line["msg"] == "log_polled"]
    new = [
        (line["action"], line["before"], line["after"], line["levelname"]) for line in polled if line["reason"] == ""
    ]
    assert [found for found in new if found[0] != "unchanged"] == [
        ("cosigned", 0, 10, "INFO"),
        ("cosigned", 10, 700, "INFO"),
    ]
    assert ("unchanged", 10, 10, "DEBUG") in new
    assert [line["levelname"] for line in lines if line["msg"] == "distributor_failed"] == ["WARNING"] * 2
    assert distributor.taken[distributor_path(LABS[0].origin, OURS.name)].split(b"\n")[1] == b"700"
    assert [line["reason"] for line in lines if line["msg"] == "log_list"] == [
        f"{LABS[0].origin!r} is listed with another key than the one that is known; not changed"
    ]


class Scripted:
    """A feeder that does what it is told, in the place of a real one.

    Attributes:
        at: when it was polled, by trio's clock.
    """

    def __init__(self, behave: Callable[[], Any]) -> None:
        self.at: list[float] = []
        self._behave = behave

    async def poll(self) -> Polled:
        self.at.append(trio.current_time())
        await self._behave()
        return self.end(Action.UNCHANGED)

    def end(self, action: Action, text: str = "") -> Polled:
        return Polled("log.example", action, 1, 1, text)


async def follow_for(seconds: float, *feeders: Scripted) -> None:
    """Follow scripted logs for some time, every minute, each with a deadline of a minute."""
    poller = Poller(
        feeders=cast("list[Feeder]", feeders), distributors=[], own=[], deadline=60, told=lambda _text: None
    )
    stop = trio.Event()
    assert repr(poller) == f"<Poller of {len(feeders)} logs, 0 distributors>"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: poller.follow(every=60, stop=stop, jitter=lambda: 0.5))
        await trio.sleep(seconds)
        stop.set()


@pytest.mark.slow
async def test_logs_that_hang_never_take_the_place_of_others(autojump_clock: MockClock) -> None:
    """Of 60 logs 40 hang: the 20 others are polled every minute or so, and those less and less often."""
    start = trio.current_time()
    hanging = [Scripted(trio.sleep_forever) for _ in range(40)]
    quick = [Scripted(trio.lowlevel.checkpoint) for _ in range(20)]
    await follow_for(7200, *hanging, *quick)
    for feeder in quick:
        late = [at - start for at in feeder.at if at - start > 1200]
        gaps = [after - before for before, after in pairwise(late)]
        assert len(gaps) > 30
        assert max(gaps) <= 240
    counts = [len(feeder.at) for feeder in hanging]
    assert 8 <= min(counts) <= max(counts) <= 14


async def test_a_log_that_hangs_does_not_delay_another(autojump_clock: MockClock) -> None:
    """Two logs: one is polled every minute to the second."""
    start = trio.current_time()
    one, other = Scripted(trio.sleep_forever), Scripted(trio.lowlevel.checkpoint)
    await follow_for(601, one, other)
    assert [round(at - start) for at in other.at] == [60 * number for number in range(11)]
    assert [round(at - start) for at in one.at] == [0, 180, 480]


async def test_a_stop_lets_polls_finish(autojump_clock: MockClock) -> None:
    """What is under way is brought to its end, nothing new is begun."""
    start = trio.current_time()

    async def work() -> None:
        await trio.sleep(30)

    feeders = [Scripted(work) for _ in range(20)]
    await follow_for(1, *feeders)
    assert trio.current_time() - start == pytest.approx(30)
    assert [len(feeder.at) for feeder in feeders] == [1] * 16 + [0] * 4


@given(st.floats(1, 1e5), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_delay_grows_with_failures_up_to_a_limit(every: float, failures: int, jitter: float) -> None:
    """Never under three quarters of what is asked, never over ten minutes and a quarter where less is asked."""
    delay = next_delay(every, failures, jitter)
    assert 0.75 * every <= delay <= 1.25 * max(every, 600)
    assert next_delay(every, 0, jitter) <= delay <= next_delay(every, failures + 1, jitter)


def command(folder: Path, *arguments: str) -> list[str]:
    """Return the arguments of a witness in a folder."""
    return ["--storage", f"file:{folder / 'state'}?fsync=off", "--key", str(folder / "w1.key"), *arguments]


@pytest.mark.slow
def test_once_prints_a_table_or_one_document(folder: Path) -> None:
    """The log, the sizes, what was done and why; the exit code says the same."""
    server = LogServer(LABS[0], 10)
    with run_in_thread(serve(server)):
        asked = command(folder, "--once", "--log", server.flag, "--distributor", "http://127.0.0.1:1")
        table = CliRunner().invoke(poll_command, asked)
        server.grow(9)
        document = CliRunner().invoke(poll_command, [*asked, "--json"])
    assert (table.exit_code, document.exit_code) == (0, 4), (table.output, document.output)
    assert "warning: http://127.0.0.1:1 was not told of the checkpoint" in table.stderr
    head, row = (line.split() for line in table.stdout.splitlines())
    assert head == ["log", "size", "before", "size", "after", "what", "was", "done", "why"]
    assert row == [LABS[0].origin, "0", "10", "cosigned"]
    found = json.loads(document.stdout)
    assert found["logs"][0].pop("reason").startswith("the log shows an older head: size 9, and 10 was cosigned")
    assert found == {
        "schema": "mirrorwitness-witness-poll-1",
        "logs": [{"origin": LABS[0].origin, "before": 10, "after": 10, "action": "older-head"}],
        "notes": [],
        "exit_code": 4,
    }


@pytest.mark.slow
def test_a_log_that_nobody_could_ask(folder: Path) -> None:
    """Exit code 5, the reason in the table, a size that is known to be none."""
    flag = f"{LABS[0].keys[0].verifier}=http://127.0.0.1:1/log"
    done = CliRunner().invoke(poll_command, command(folder, "--once", "--log", flag))
    assert done.exit_code == 5
    assert "unread" in done.stdout
    assert "cannot connect to 127.0.0.1:1" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --once for one pass, or --follow"),
        (["--once", "--follow"], "give --once for one pass, or --follow"),
        (["--follow", "--json"], "--json goes with --once"),
        (["--once", "--every", "soon"], "found 'soon', expected a time"),
        (["--once", "--refresh", "0"], "expected more than nothing"),
        (["--once"], "no log to poll"),
        (["--once", "--log", "VKEY=http://user@log.example"], "a user name or password in a URL is not accepted"),
        (["--once", "--distributor", "ftp://a"], "expected an absolute http or https URL"),
    ],
)
def test_what_is_no_command(folder: Path, arguments: list[str], message: str) -> None:
    """Exit code 2, and a sentence that says what to do."""
    given = [item.replace("VKEY", str(LABS[0].keys[0].verifier)) for item in arguments]
    done = CliRunner().invoke(poll_command, command(folder, *given))
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())


@pytest.mark.slow
def test_sigterm_ends_a_follower(folder: Path) -> None:
    """Log lines are JSON; growth is cosigned while it runs; exit code 0, nothing on standard output."""
    server = LogServer(LABS[0], 10)
    script = "from mirrorwitness.cli.witness_poll import poll; poll()"
    with run_in_thread(serve(server)):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *command(folder, "--follow", "--every", "100 ms", "--log", server.flag)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        published = folder / "state" / public_key(LABS[0].origin)
        wait_until(published.exists, what="never cosigned", process=process)
        server.grow(20)
        wait_until(lambda: published.read_bytes().split(b"\n")[1] == b"20", what="growth not found", process=process)
        code, out, err = end(process, signal.SIGTERM)
    assert (code, out) == (0, ""), err
    lines = [json.loads(line) for line in err.splitlines()]
    assert [(line["event"], line["level"], line["before"], line["after"]) for line in lines] == [
        ("log_polled", "info", 0, 10),
        ("log_polled", "info", 10, 20),
    ]
