"""Polling many logs once: one's trouble is its own, distributors are told, and what weighs most is the exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ConfigurationError, ExitCode
from mirrorwitness.run import polling
from mirrorwitness.run.polling import PollResult, poll_once
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.distributor import distributor_path
from mirrorwitness.witness.feeder import Action, Polled
from mirrorwitness.witness.records import public_key
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.unit.run.polling_site import LABS, actions, make_folder, served, wishes
from tests.unit.run.test_webhook import HookServer
from tests.unit.witness.log_server import DistributorServer, LogServer
from tests.unit.witness.world import NEXT, OURS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys, in which a witness keeps its state."""
    monkeypatch.chdir(tmp_path)
    return make_folder(tmp_path)


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


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ("cosigned refreshed unchanged", ExitCode.COMPLETE),
        ("cosigned unread", ExitCode.PARTIAL),
        ("refused", ExitCode.PARTIAL),
        ("refused unread", ExitCode.PARTIAL),
        ("unread unread", ExitCode.UPSTREAM),
        ("cosigned behind", ExitCode.COMPLETE),
        ("unread behind", ExitCode.PARTIAL),
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
