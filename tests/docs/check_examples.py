"""The JSON document of `check`: a lockfile with an altered entry and one that is not logged, against a fake log."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from mirrorwitness.cli import main
from tests.fakes.serving import serve
from tests.fakes.sumdb import POLICY, FakeSumdb, filler, integrity_of, make_record
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_check_examples"]


def make_check_examples(normalise: Callable[[Any], Any]) -> dict[str, Any]:
    """Run `check` in the working directory.

    Args:
        normalise: replaces in a document what differs from run to run.

    Returns:
        Name → the document it printed.
    """
    pinned = {"left": b"left", "right": b"altered", "new": b"new"}
    entries = {f"node_modules/{name}": _entry(data) for name, data in pinned.items()}
    lock = {"lockfileVersion": 3, "packages": {"": {"name": "app"}, **entries}}
    Path("package-lock.json").write_text(json.dumps(lock, indent=2), encoding="utf-8")
    Path("witnesses.policy").write_bytes(POLICY)
    log = FakeSumdb([*filler(5), make_record("left", data=b"left"), make_record("right", data=b"right")])
    log.time = int(time.time())
    with run_in_thread(serve(log)):
        words = ["check", "package-lock.json", "--sumdb", log.flag, "--policy", "witnesses.policy", "--state", "known"]
        found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
        text = json.dumps(found).replace(log.base, "https://sumdb.example.org")
    return {"check": normalise(json.loads(text))}


def _entry(data: bytes) -> dict[str, str]:
    return {"version": "1.0.0", "integrity": integrity_of(data)}
