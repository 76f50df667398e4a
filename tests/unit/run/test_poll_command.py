"""The command that polls: what it prints, what it exits with, and what it takes for a mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mirrorwitness.cli.witness_poll import poll as poll_command
from mirrorwitness.witness.records import public_key
from tests.fakes.feed_process import ROOT, end, wait_until
from tests.fakes.serving import serve
from tests.fakes.thread import run_in_thread
from tests.unit.run.polling_site import LABS, make_folder
from tests.unit.witness.log_server import LogServer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys, in which a witness keeps its state."""
    monkeypatch.chdir(tmp_path)
    return make_folder(tmp_path)


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
        document = CliRunner().invoke(poll_command, [*asked, "--older-head-after", "0", "--json"])
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
@pytest.mark.parametrize(
    ("time", "code", "action"), [((), 0, "behind"), (("5 s",), 0, "behind"), (("0",), 4, "older-head")]
)
def test_an_older_head_is_an_alarm_after_a_time(folder: Path, time: tuple[str, ...], code: int, action: str) -> None:
    """Of ten minutes, or what is asked for: until then the log is named, and the job is well."""
    server = LogServer(LABS[0], 10)
    with run_in_thread(serve(server)):
        asked = command(folder, "--once", "--log", server.flag)
        assert CliRunner().invoke(poll_command, asked).exit_code == 0
        server.grow(9)
        done = CliRunner().invoke(poll_command, [*asked, *[f"--older-head-after={item}" for item in time]])
    assert (done.exit_code, f" {action} " in done.stdout) == (code, True), done.output


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
        (["--once", "--older-head-after", "soon"], "found 'soon', expected a time"),
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
