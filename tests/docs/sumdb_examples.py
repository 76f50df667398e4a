"""The JSON documents of a checksum database, as one story: it is begun, filled from a registry, and tampered with.

Its keys are random: what is shown of them is replaced.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from click.testing import CliRunner

from mirrorwitness.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.thread import ThreadedRegistry

__all__ = ["make_sumdb_examples"]

ORIGIN: Final = "sum.example.org"
_STORAGE: Final = ("--storage", "file:sumdb")


def make_sumdb_examples(registry: ThreadedRegistry, normalise: Callable[[Any], Any]) -> dict[str, Any]:
    """Run every command of a checksum database that has ``--json`` in the working directory.

    Args:
        registry: has ``left``, one of whose two tarballs it does not give.
        normalise: replaces in a document what differs from run to run.

    Returns:
        Name → the document it printed.
    """
    found = {"sumdb-init": _run("init", *_STORAGE, "--name", ORIGIN, "--out", "sumdb.key")}
    found["sumdb-init"]["vkeys"] = [re.sub(r"\+.*", "+0123abcd+AbCd…", vkey) for vkey in found["sumdb-init"]["vkeys"]]
    filled = ("--key", "sumdb.key", "--registry", registry.url)
    found["sumdb-ingest"] = _run("ingest", "left", *_STORAGE, *filled)
    tile = Path("sumdb/log/tile/0/000.p/1")
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    found["sumdb-fsck"] = _run("fsck", *_STORAGE)
    return {name: normalise(document) for name, document in found.items()}


def _run(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(CliRunner().invoke(main, ["sumdb", *arguments, "--json"]).stdout)
    return document
