"""``mirrorwitness sumdb monitor`` as somebody runs it who watches names: flags, output, exit codes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.sumdb.records import Event
from mirrorwitness.tlog.checkpoint import origin_hash
from tests.fakes.serving import serve
from tests.fakes.sumdb import ORIGIN, POLICY, REGISTRY, FakeSumdb, filler, integrity_of, make_record
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[3]


@dataclass
class Shell:
    """Watches one log from a folder."""

    folder: Path
    log: FakeSumdb

    @property
    def words(self) -> tuple[str, ...]:
        return ("sumdb", "monitor", "--sumdb", self.log.flag, "--policy", "policy", "--state", "state")

    def run(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        done = CliRunner().invoke(main, [*self.words, *arguments])
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stdout, done.stderr

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run(*arguments, "--once", "--json", expect=expect)[0])
        assert document["exit_code"] == expect
        return document


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy").write_bytes(POLICY)
    log = FakeSumdb([*filler(300), make_record("left"), make_record("@acme/x")])
    with run_in_thread(serve(log)):
        yield Shell(tmp_path, log)


def test_what_is_watched_is_told_once(shell: Shell) -> None:
    """In words, and as a document; a file of names counts as its lines."""
    (shell.folder / "names.txt").write_text("# ours\n\n@acme/*\n")
    told, warned = shell.run("--once", "--watch", "left", "--watch", "names.txt")
    assert told.splitlines()[:2] == [
        f"published: left@1.0.0: {integrity_of(b'')} (entry 300, {REGISTRY})",
        f"published: @acme/x@1.0.0: {integrity_of(b'')} (entry 301, {REGISTRY})",
    ]
    assert "302 entries, all of them verified" in told
    assert warned == ""
    shell.log.append(make_record("left", event=Event.UNPUBLISH))
    document = shell.json("--watch", "left")
    assert (document["entries"], document["size"], document["counts"]) == (1, 303, {"unpublished": 1})
    assert shell.json("--watch", "left")["news"] == []


def test_exit_codes(shell: Shell) -> None:
    """4 for a conflict, a stranger and a fork; 3 for a witness that is away; 5 for a log that is; 2 for flags."""
    watch = ("--watch", "left")
    shell.json(*watch, "--witness", f"{shell.log.base}/nowhere", expect=3)
    shell.log.append(make_record("left", event=Event.CONFLICT))
    assert shell.json(*watch, expect=4)["alarms"] == 1
    shell.log.append(make_record("@acme/y"))
    found = shell.json(
        *watch, "--registry", f"https://{REGISTRY}", "--authority", "@acme=https://npm.acme.example", expect=4
    )
    assert [item["kind"] for item in found["news"]] == ["no-authority"]
    twin = shell.log.fork(5, *filler(299))
    shell.log.bodies[f"/{origin_hash(ORIGIN)}/checkpoint"] = twin.checkpoint(304)
    found = shell.json(*watch, "--witness", shell.log.base, expect=4)
    assert [item["kind"] for item in found["news"]] == ["fork"]
    evidence = found["news"][0]["evidence"]
    checked = CliRunner().invoke(main, ["witness", "evidence", evidence])
    assert (checked.exit_code, "the log forked" in checked.output) == (4, True)
    shell.log.become(twin)
    assert shell.json(*watch, expect=4)["error"]["kind"] == "ForkError"
    shell.log.gone.add("/checkpoint")
    shutil.rmtree(shell.folder / "state")
    shell.run("--once", *watch, expect=5)
    shell.run(*watch, expect=2)
    shell.run("--once", "--follow", *watch, expect=2)
    shell.run("--once", *watch, "--authority", "nothing", expect=2)
    shell.run("--once", "--watch", "no/such/name", expect=2)
    shell.run("--once", *watch, "--sumdb", shell.log.flag.replace("/sumdb", "/other"), expect=2)


def test_following_until_a_signal(shell: Shell) -> None:
    """A line of JSON for each piece of news, and the exit code of what was told, at the end."""
    shell.log.append(make_record("left", event=Event.CONFLICT))
    process = subprocess.Popen(
        [sys.executable, "-m", "mirrorwitness", *shell.words, "--watch", "*", "--follow", "--every", "1 s", "--json"],
        cwd=shell.folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(shell.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(303)]
    assert [line["kind"] for line in lines] == ["published"] * 302 + ["conflict"]
    shell.log.append(make_record("newer"))
    assert json.loads(process.stdout.readline())["subject"] == "newer@1.0.0"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 4
    process.stdout.close()


def test_without_a_policy_it_says_so(shell: Shell) -> None:
    """The log alone then says that it shows everybody the same."""
    (shell.folder / "policy").write_bytes(b"quorum none\n")
    assert "no witness had to have cosigned" in shell.run("--once", "--from-now", "--watch", "left")[1]
