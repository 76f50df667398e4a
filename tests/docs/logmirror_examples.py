"""The JSON documents of a log mirror, as one story: it reads a log, gets more of it, and looks for tarballs.

Keys, logs and trees follow from fixed seeds, so that only times and addresses differ from run to run.
"""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.logmirror.paths import checkpoint_key
from mirrorwitness.run.cosigners import CosignerWishes
from mirrorwitness.run.logmirroring import open_log_mirror
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.storage.address import open_storage
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key
from mirrorwitness.tlog.merkle import leaf_hash
from mirrorwitness.witness.lab import LabLog
from tests.fakes.serving import serve
from tests.fakes.storage import MemoryStorage
from tests.fakes.thread import run_in_thread
from tests.unit.logmirror.sources import LabServer, LabSource, listening
from tests.unit.logmirror.tarballs import SUM_KEY, SumLog, hold, publish

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["fill_mirror", "make_logmirror_examples"]

OURS: Final = make_signer_key("mirror.example.org/m1", bytes([1] * 32), KeyType.COSIGNATURE)
ARTIFACTS: Final = make_signer_key("mirror.example.org/artifacts", bytes([2] * 32), KeyType.COSIGNATURE)
LOG: Final = make_signer_key("log.example.org/2026", bytes([3] * 32))


def make_logmirror_examples(normalise: Callable[[Any], Any]) -> dict[str, Any]:
    """Run every command of a log mirror that has ``--json`` in the working directory.

    Args:
        normalise: replaces in a document what differs from run to run.

    Returns:
        Name → the document it printed.
    """
    write_key(Path("m1.key"), format_signer_key(OURS))
    write_key(Path("a1.key"), format_signer_key(ARTIFACTS))
    source = LabSource(LabLog(LOG.name, [LOG]), 1000)
    found: dict[str, Any] = {}
    with run_in_thread(serve(LabServer(source))) as url:
        log = f"{LOG.verifier}={url}"
        options = ("--storage", "file:copies", "--key", "m1.key", "--log", log)
        found["logmirror-poll"] = _run("poll", "--once", *options)
        source.size = 1500
        with run_in_thread(_mirroring(log)) as mirror:
            pushed = _run("push", "--log", log, "--to", mirror, "--mirror-key", str(OURS.verifier))
        pushed["cosigned_by"] = [re.sub(r" at \d+$", " at 1767225600", text) for text in pushed["cosigned_by"]]
        found["logmirror-push"] = pushed
        newest = Path("copies", checkpoint_key(LOG.name))
        found["logmirror-adopt"] = _run("adopt", *options, "--checkpoint", str(newest))
        found["logmirror-retire"] = _run("retire", *options)
    trio.run(fill_mirror, "file:tarballs", "1.3.0")
    logs = ("--log", str(SUM_KEY.verifier), "--log", str(LOG.verifier))  # of the second one there is no copy
    found["logmirror-attest"] = _run("attest", "--storage", "file:tarballs", "--key", "a1.key", *logs)
    return {name: normalise(document) for name, document in found.items()}


@asynccontextmanager
async def _mirroring(log: str) -> AsyncGenerator[str, None]:
    """Serve the log mirror."""
    wishes = CosignerWishes(storage="file:copies", keys=("m1.key",), logs=(log,))
    async with (
        open_log_mirror(wishes) as (mirror, opened),
        listening(LogMirrorApp(mirror=mirror, storage=opened.storage)) as url,
    ):
        yield url


async def fill_mirror(address: str, *held: str) -> None:
    """Write a mirror that holds some of two tarballs, and the log that speaks of both."""
    memory, log = MemoryStorage(), SumLog().log(publish("1.3.0"), publish("1.3.1"))
    for version in held:
        hold(memory, version)
    memory.set_bytes("log/checkpoint", log.note(2))
    memory.set_bytes("log/tile/0/000.p/2", b"".join(map(leaf_hash, log.records)))
    memory.set_bytes("log/tile/entries/000.p/2", format_entries(log.records))
    async with open_storage(address) as storage:
        for key, body in memory.objects.items():
            await storage.put(key, body)


def _run(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(CliRunner().invoke(main, ["logmirror", *arguments, "--json"]).stdout)
    return document
