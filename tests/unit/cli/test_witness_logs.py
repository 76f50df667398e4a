"""Logs that come and go while a witness runs: what is shown, disabled, and read again."""

from __future__ import annotations

import json
import logging
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click
import pytest
import trio
import trio.testing
from click.testing import CliRunner

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.cli.witness_logs import logs
from mirrorwitness.cli.witness_options import running_options, witness_options
from mirrorwitness.run.watching import keep_logs_fresh
from mirrorwitness.run.witnessing import WitnessWishes, open_witness
from mirrorwitness.storage.address import open_storage
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.witness.known import DISABLED_KEY, set_disabled
from mirrorwitness.witness.logs import WitnessedLog
from tests.unit.witness.world import LOG, LOG_KEY, LOG_PQ, OTHER, OTHER_KEY, OURS, contradiction, grow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mirrorwitness.run.witnessing import RunningWitness

A, B = str(LOG_KEY.verifier), str(OTHER_KEY.verifier)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a key and a list without logs."""
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / "w1.key", format_signer_key(OURS))
    (tmp_path / "list").write_text("logs/v0\n")
    return tmp_path


def ask(*arguments: str, expect: int = 0) -> str:
    """Run the command."""
    done = CliRunner().invoke(logs, ("--storage", "file:state", *arguments))
    assert done.exit_code == expect, (done.output, done.exception)
    return done.stderr if expect else done.stdout


def ask_json(*arguments: str) -> list[dict[str, Any]]:
    """Run the command, and return what it says of logs."""
    document: dict[str, Any] = json.loads(ask(*arguments, "--json"))
    assert (document["schema"], document["exit_code"]) == ("mirrorwitness-witness-known-1", 0)
    found: list[dict[str, Any]] = document["logs"]
    return found


def make_wishes(**more: Any) -> WitnessWishes:
    """Return what an operator asks."""
    given = {"storage": "file:state?fsync=off", "keys": ("w1.key",), "logs": (A,), "lists": ("list",), **more}
    return WitnessWishes(**given)


async def fill() -> None:
    """Let a log of a flag grow, and know one of a list."""
    async with open_witness(make_wishes()) as running:
        await grow(running.witness, 10)


def test_logs_are_shown_disabled_and_enabled(folder: Path) -> None:
    """All of them, or the one that changed; twice is no error."""
    (folder / "list").write_text(f"logs/v0\nvkey {B}\n")
    trio.run(fill)
    a = {"origin": LOG.origin, "keys": [], "disabled": False, "size": 10}
    b = {"origin": OTHER.origin, "keys": [B], "disabled": False, "size": None}
    assert ask_json() == [b, a]
    for _ in range(2):
        assert ask_json("--disable", OTHER.origin) == [{**b, "disabled": True}]
    assert ask_json("--disable", LOG.origin) == [{**a, "disabled": True}]
    lines = [line.split() for line in ask().splitlines()]
    assert lines == [["log", "size", "state", "keys"], [OTHER.origin, "disabled", B], [LOG.origin, "10", "disabled"]]
    for _ in range(2):
        assert ask_json("--enable", LOG.origin) == [a]
    assert ask_json() == [{**b, "disabled": True}, a]


@pytest.mark.usefixtures("folder")
def test_what_is_refused() -> None:
    """Both at once, and a log that nobody knows; nothing is written."""
    assert "give --disable or --enable, not both" in ask("--disable", "a", "--enable", "b", expect=2)
    said = "error: file:state: no list named the log 'a', and it was never cosigned\n"
    assert ask("--disable", "a", expect=2) == ask("--enable", "a", expect=2) == said
    assert ask_json() == []


@asynccontextmanager
async def refreshing(wishes: WitnessWishes, told: list[str]) -> AsyncGenerator[RunningWitness, None]:
    """Run a witness that reads its lists again."""
    async with open_witness(wishes) as running, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: keep_logs_fresh(running, wishes, told=told.append))
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield running
        nursery.cancel_scope.cancel()


async def wait_for(found: list[Any], count: int) -> None:
    """Wait until a list is as long as it should be."""
    with trio.fail_after(10):
        while len(found) < count:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_lists_are_read_again_after_some_time(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new log is cosigned without a restart; what is wrong with lists is told once, and stops nothing."""
    caplog.set_level(logging.INFO, "mirrorwitness.witness")
    told: list[str] = []
    async with refreshing(make_wishes(refresh_lists=0.05), told) as running:
        (folder / "list").write_text(f"logs/v0\nvkey {LOG_PQ.verifier}\nvkey {B}\n")
        await wait_for(told, 1)
        assert list(running.witness.logs) == [LOG.witnessed, OTHER.witnessed]
        await grow(running.witness, 5, log=OTHER)
        (folder / "list").unlink()
        await wait_for(told, 2)
    assert told[0] == contradiction(LOG_PQ, LOG_KEY)
    assert told[1:] == ["list: cannot be read: No such file or directory"]
    lines = [record.__dict__ for record in caplog.records]
    assert [line["reason"] for line in lines if line["msg"] == "log_list"] == told
    (line,) = [line for line in lines if line["msg"] == "logs_refreshed"]
    assert (line["added"], line["disabled"], line["enabled"]) == (1, (), ())


async def test_a_hangup_disables_a_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing is read again by itself, SIGHUP does it; what is damaged is an event, and changes nothing."""
    caplog.set_level(logging.INFO, "mirrorwitness.witness")
    told: list[str] = []
    async with refreshing(make_wishes(lists=()), told) as running, open_storage("file:state") as storage:
        await set_disabled(storage, "nobody", is_disabled=True)
        await set_disabled(storage, LOG.origin, is_disabled=True)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert caplog.records == []
        os.kill(os.getpid(), signal.SIGHUP)
        await wait_for(caplog.records, 1)
        assert list(running.witness.logs) == [WitnessedLog(LOG.origin, (LOG_KEY.verifier,), is_disabled=True)]
        (folder / "state" / DISABLED_KEY).write_bytes(b"nonsense")
        os.kill(os.getpid(), signal.SIGHUP)
        await wait_for(caplog.records, 2)
        assert (await running.witness.add_checkpoint(LOG.request(0, 10))).status == 404
        (folder / "state" / DISABLED_KEY).unlink()
        os.kill(os.getpid(), signal.SIGHUP)
        await wait_for(caplog.records, 3)
        await grow(running.witness, 10)
    first, second, third = [record.__dict__ for record in caplog.records]
    assert (first["msg"], first["added"], first["disabled"], first["enabled"]) == (
        "logs_refreshed",
        0,
        (LOG.origin,),
        (),
    )
    assert (second["msg"], second["levelname"]) == ("logs_not_refreshed", "ERROR")
    assert second["error"].startswith("state/witness/disabled.json is damaged")
    assert (third["msg"], third["enabled"], told) == ("logs_refreshed", (LOG.origin,), [])


@pytest.mark.parametrize(
    ("arguments", "refresh", "hook"),
    [
        ((), 3600.0, None),
        (("--refresh-lists", "5 min", "--webhook", "https://hooks.example"), 300.0, "https://hooks.example"),
        (("--refresh-lists", "0"), 0.0, None),
    ],
)
def test_options_of_a_witness_that_runs(arguments: tuple[str, ...], refresh: float, hook: str | None) -> None:
    """They come with the others."""
    got: list[WitnessWishes] = []

    @click.command
    @running_options
    @witness_options
    def command(*, wishes: WitnessWishes) -> None:
        got.append(wishes)

    done = CliRunner().invoke(command, ["--storage", "file:state", *arguments])
    assert done.exit_code == 0, done.output
    assert got == [WitnessWishes(storage="file:state", refresh_lists=refresh, webhook=hook)]
    done = CliRunner().invoke(command, ["--storage", "file:state"], env={"MIRRORWITNESS_WEBHOOK": "http://x"})
    assert (done.exit_code, got[1].webhook) == (0, "http://x")
    done = CliRunner().invoke(command, ["--storage", "file:state", "--refresh-lists", "soon"])
    assert done.exit_code == 2
    assert "soon" in done.stderr
