"""A folder with a lockfile, a log on loopback, and ``check`` as a person runs it, for the tests of the command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from tests.fakes.registry_build import make_tarball
from tests.fakes.serving import serve
from tests.fakes.sumdb import LOG_KEY, POLICY, FakeSumdb, filler, integrity_of, make_record
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GOOD", "LOG_SIZE", "TARBALL", "check", "check_json", "folder", "log", "make_lock", "verdicts", "write_lock"]

TARBALL = make_tarball({"index.js": b"1"}, name="left", version="1.0.0")
LOG_SIZE = 300


def make_lock(**integrities: str | None) -> dict[str, Any]:
    """Return a lockfile of these packages, each of version 1.0.0."""
    entries: dict[str, dict[str, Any]] = {
        f"node_modules/{name}": {"version": "1.0.0", "integrity": integrity} if integrity else {"version": "1.0.0"}
        for name, integrity in integrities.items()
    }
    return {"lockfileVersion": 3, "packages": {"": {"name": "app"}, **entries}}


GOOD = make_lock(left=integrity_of(TARBALL), right=integrity_of(b"right"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("policy").write_bytes(POLICY)
    write_lock(GOOD)
    return tmp_path


@pytest.fixture
def log() -> Iterator[FakeSumdb]:
    """A log that is served from a thread."""
    records = filler(LOG_SIZE)
    records[7:9] = [make_record("left", data=TARBALL), make_record("right", data=b"right")]
    log = FakeSumdb(records)
    log.time = int(time.time())
    with run_in_thread(serve(log)):
        yield log


def write_lock(lock: dict[str, Any]) -> None:
    Path("package-lock.json").write_text(json.dumps(lock, indent=2), encoding="utf-8")


def check(log: FakeSumdb | None, *arguments: str, expect: int, policy: bool = True) -> tuple[str, str]:
    """Run the command, hold it to its exit code, and return what it said on both channels."""
    flag = log.flag if log is not None else str(LOG_KEY.verifier)
    given = ("check", *arguments, "--sumdb", flag, "--state", "state", *(("--policy", "policy") if policy else ()))
    done = CliRunner().invoke(main, given)
    assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
    return done.stdout, done.stderr


def check_json(log: FakeSumdb | None, *arguments: str, expect: int) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(check(log, *arguments, "--json", expect=expect)[0])
    assert (document["schema"], document["exit_code"]) == ("mirrorwitness-check-1", expect)
    return document


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {entry["subject"]: entry["verdict"] for entry in document["entries"]}
