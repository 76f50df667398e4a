"""The JSON documents of a bundle's way over an air gap, and of a monitor that watches a fake log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.sumdb.records import Event
from tests.fakes.serving import serve
from tests.fakes.sumdb import FakeSumdb, filler, make_record
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_bundle_examples"]


def make_bundle_examples(normalise: Callable[[Any], Any]) -> dict[str, Any]:
    """Run `bundle export`, `bundle import` and `sumdb monitor` in the working directory.

    Args:
        normalise: replaces in a document what differs from run to run.

    Returns:
        Name → the document it printed.
    """
    _run("sync", "--once", "left@1.0.0", "--storage", "file:outside")
    found = {
        "bundle-export": _run("bundle", "export", "--storage", "file:outside", "--out", "monday.tar"),
        "bundle-import": _run("bundle", "import", "monday.tar", "--storage", "file:inside"),
    }
    log = FakeSumdb([*filler(5), make_record("left", data=b"left"), make_record("left", event=Event.CONFLICT)])
    with run_in_thread(serve(log)):
        words = ("sumdb", "monitor", "--once", "--watch", "left", "--state", "watched", "--sumdb", log.flag)
        found["sumdb-monitor"] = _run(*words)
    return {name: normalise(document) for name, document in found.items()}


def _run(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    return document
