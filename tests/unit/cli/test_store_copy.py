"""``store-copy`` as a user runs it: what it prints, how it ends, and a witness that is moved."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.bars import LINE_EVERY
from mirrorwitness.cli.store_copy import _Lines as Lines
from mirrorwitness.cli.store_copy import _named as named
from mirrorwitness.cli.store_copy import _show_progress as show_progress
from mirrorwitness.run import copying as module
from mirrorwitness.run.copy_report import CopyStep, Found
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.local_names import MARKER_NAME, Names, format_marker
from mirrorwitness.witness.records import record_key
from tests.unit.cli.test_witness import post, serving
from tests.unit.cli.witness_shell import Shell
from tests.unit.witness.world import LOG, OURS, read_cosignatures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from click.testing import Result

    from mirrorwitness.storage import Body, ObjectInfo, Storage

FILES = {"npm/left/-/left-1.0.0.tgz": b"left", "state/package/left.json": b"{}"}


def run(*arguments: str, expect: int = 0) -> Result:
    done = CliRunner().invoke(main, ("store-copy", *arguments))
    assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
    return done


def document(*arguments: str, expect: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json", expect=expect).stdout)
    assert (found["schema"], found["exit_code"]) == ("mirrorwitness-store-copy-1", expect)
    return found


def write(place: str, files: dict[str, bytes]) -> None:
    """Make a directory storage of plain files."""
    for key, body in files.items():
        path = Path(place, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    Path(place, MARKER_NAME).write_bytes(format_marker(Names.PLAIN))


def stored(place: str) -> dict[str, bytes]:
    paths = [path for path in Path(place).rglob("[!.]*") if path.is_file() and "/." not in str(path)]
    return {str(path.relative_to(place)): path.read_bytes() for path in paths}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a", FILES)


def test_a_mirror_is_copied_and_copied_again() -> None:
    """What is printed of both; nothing is said of signers."""
    done = run("file:a", "file:b")
    assert stored("b") == stored("a") == FILES
    assert done.stdout.splitlines() == [
        "from           file:a: 2 objects, 6 B",
        "to             file:b",
        "there already  0 objects, 0 B, with the same bytes",
        "copied         2 objects, 6 B",
    ]
    assert done.stderr == ""
    assert document("file:a", "file:b") == {
        "schema": "mirrorwitness-store-copy-1",
        "from": "file:a",
        "to": "file:b",
        "is_dry_run": False,
        "source": {"objects": 2, "bytes": 6},
        "present": {"objects": 2, "bytes": 6},
        "copied": {"objects": 0, "bytes": 0},
        "differing": {"objects": 0, "bytes": 0},
        "differences": [],
        "only_in_to": {"objects": 0, "bytes": 0, "first": []},
        "changed": {"objects": 0, "bytes": 0, "first": []},
        "stood_still": True,
        "signers": [],
        "exit_code": 0,
    }


def test_a_dry_run_writes_nothing() -> None:
    """No directory where there is none; else what differs is named, and the code is that of the command."""
    assert "would be copied  2 objects, 6 B" in run("file:a", "file:b", "--dry-run").stdout
    assert not Path("b").exists()
    write("b", {"state/package/left.json": b"other", "state/mine": b"1"})
    before = stored("b")
    done = run("file:a", "file:b", "--dry-run", expect=2)
    assert "would be copied  1 object, 4 B" in done.stdout
    assert "state/package/left.json              2      5" in done.stdout
    assert "only in TO       1 object, 1 B, left alone: state/mine" in done.stdout
    assert "TO has state that FROM does not have" in done.stderr
    assert "TO has other bytes than FROM under state/package/left.json" in done.stderr
    found = document("file:a", "file:b", "--dry-run", expect=2)
    assert found["differences"] == [{"key": "state/package/left.json", "from_bytes": 2, "to_bytes": 5}]
    assert found["only_in_to"] == {"objects": 1, "bytes": 1, "first": ["state/mine"]}
    assert document("file:a", "file:b", "--dry-run", "--replace")["copied"] == {"objects": 2, "bytes": 6}
    assert stored("b") == before


def test_a_difference_is_refused_and_replaced_when_it_is_said() -> None:
    """Exit code 2 with what to do; with --replace it is counted."""
    write("b", {"state/package/left.json": b"other"})
    before = stored("b")
    assert "--dry-run names everything" in run("file:a", "file:b", expect=2).stderr
    assert document("file:a", "file:b", expect=2)["error"]["kind"] == "ConfigurationError"
    assert stored("b") == before
    assert "replaced       1 object, 2 B, among those copied" in run("file:a", "file:b", "--replace").stdout
    assert stored("b") == FILES


def test_what_is_no_pair_of_storages_is_refused() -> None:
    """Exit code 2, and nothing is made."""
    for source, target, said in [
        ("file:a", "file:a/b", "lies inside"),
        ("file:a", "file:./a", "are one storage"),
        ("file:none", "file:b", "file:none is no storage"),
        ("a", "file:b", "begins with neither"),
    ]:
        assert said in run(source, target, expect=2).stderr
    assert [path.name for path in Path().iterdir()] == ["a"]


class Meddled:
    """A storage before each put to which something is done."""

    def __init__(self, storage: Storage, work: Callable[[str], None]) -> None:
        self._storage = storage
        self._work = work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def put(self, key: str, body: Body, **how: Any) -> ObjectInfo:
        self._work(key)
        return await self._storage.put(key, body, **how)


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Let something happen before each put."""

    def begin(work: Callable[[str], None]) -> None:
        @asynccontextmanager
        async def open_meddled(address: str) -> AsyncGenerator[Meddled, None]:
            async with open_storage(address) as storage:
                yield Meddled(storage, work)

        monkeypatch.setattr(module, "open_storage", open_meddled)

    return begin


def test_a_source_that_is_written_to_is_told(meddle: Callable[[Callable[[str], None]], None]) -> None:
    """Exit code 3, what TO lacks, and what to do; then it is completed."""

    def work(key: str) -> None:
        if key == "state/package/left.json":
            write("a", {"npm/left/-/left-1.0.0.tgz": b"left, again"})

    meddle(work)
    done = run("file:a", "file:b", expect=3)
    assert "TO does not have as it is now: npm/left/-/left-1.0.0.tgz. The copy is not finished" in done.stderr
    assert "run this again with --replace" in done.stderr
    meddle(lambda _key: None)
    found = document("file:a", "file:b", "--replace")
    assert (found["stood_still"], found["differing"]["objects"], stored("b")) == (True, 1, stored("a"))


def test_interrupted_it_ends_with_130_and_goes_on(meddle: Callable[[Callable[[str], None]], None]) -> None:
    """What was finished is kept, and not copied again."""

    def work(key: str) -> None:
        if key == "state/package/left.json":
            raise KeyboardInterrupt

    meddle(work)
    run("file:a", "file:b", expect=130)
    assert stored("b") == {"npm/left/-/left-1.0.0.tgz": b"left"}
    meddle(lambda _key: None)
    assert document("file:a", "file:b")["copied"] == {"objects": 1, "bytes": 2}
    assert stored("b") == FILES


KILLED = """
import os, signal, sys
from mirrorwitness.cli import main
from mirrorwitness.storage import transfer
append = transfer._append
def die(descriptor, piece):
    append(descriptor, piece)
    os.kill(os.getpid(), signal.SIGKILL)
transfer._append = die
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_p8_killed_in_the_middle_it_goes_on() -> None:
    """With kill -9 in a large object: no half of it is there, and the second run completes everything."""
    large = {"npm/large/-/large-1.0.0.tgz": bytes(3_000_000)}
    write("a", large)
    command = [sys.executable, "-c", KILLED, "store-copy", "file:a", "file:b"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(Path.cwd())}
    done = subprocess.run(command, env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert stored("b").items() <= FILES.items()
    run("file:a", "file:b")
    assert stored("b") == FILES | large


@pytest.mark.slow
def test_p7_a_witness_is_moved(tmp_path: Path) -> None:
    """It cosigns, its storage with its cells is copied, and a witness on the copy goes on from where it was."""
    shell = Shell(tmp_path)
    with serving(shell, kill=True) as base:
        for old, new in ((0, 10), (10, 12)):
            assert post(base, LOG.request(old, new))[0] == 200
    record = shell.stored(record_key(LOG.origin))
    assert not record.exists()
    assert record.with_name(f".{record.name}.mwcell").exists()
    done = run("file:state", "file:moved")
    assert "never start anything on FROM again" in done.stderr
    assert document("file:state", "file:moved")["signers"] == ["state/witness/identity.json"]
    assert json.loads(Path("moved", record_key(LOG.origin)).read_bytes())["size"] == 12
    with serving(shell, "--storage", "file:moved") as base:
        assert post(base, LOG.request(0, 20)) == (409, "text/x.tlog.size", b"12\n")
        assert post(base, LOG.fork(6).request(12, 20))[0] == 422
        status, _, body = post(base, LOG.request(12, 20))
        assert status == 200
        assert read_cosignatures(body, LOG.tree(20).text, OURS)
    done = run("file:state", "file:moved", "--replace", expect=2)
    assert "go on with TO alone" in done.stderr


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else sees one, and with --json nothing is said at all."""
    step = CopyStep("copying", 5, 10, 5_000)
    terminal, quiet = Terminal(), io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    with show_progress(is_quiet=False) as told:
        told(step)
    assert "copying" in terminal.getvalue()
    assert "5.0 kB" in terminal.getvalue()
    monkeypatch.setattr("sys.stderr", quiet)
    for is_quiet in (True, False):
        with show_progress(is_quiet=is_quiet) as told:
            told(step)
    assert quiet.getvalue() == ""


def test_a_log_sees_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """At most every five seconds."""
    now = 0.0
    lines = Lines(lambda: now)
    for number in range(3):
        lines(CopyStep("comparing", number, None, number * 1000))
        now += LINE_EVERY
    lines(CopyStep("copying", 9, 10, 9000))
    lines(CopyStep("copying", 10, 10, 9000))
    assert capsys.readouterr().err.splitlines() == [
        "comparing: 1 objects, 1.0 kB",
        "comparing: 2 objects, 2.0 kB",
        "copying: 9 of 10 objects, 9.0 kB",
    ]


def test_of_many_names_the_first_ones_are_shown() -> None:
    """And how many more there are."""
    found = Found()
    for number in range(22):
        found.add(f"key-{number:02}", 1)
    assert named(found).endswith("key-18, key-19, and 2 more")
