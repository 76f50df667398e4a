"""The registry and feed simulators as a process of their own, and followers as processes of theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FeedProcess", "Workplace", "run_feed", "wait_until"]

ROOT: Final = Path(__file__).resolve().parents[2]

SECONDS: Final = 40
"""Longest time that anything here may take on a busy machine."""


@dataclass(frozen=True, slots=True)
class FeedProcess:
    """A running simulator.

    Attributes:
        registry: base URL of the registry.
        feed: base URL of the feed.
        process: it.
    """

    registry: str
    feed: str
    process: subprocess.Popen[str]

    def head(self) -> str:
        """Return the feed's newest position."""
        with urllib.request.urlopen(f"{self.feed}/", timeout=SECONDS) as response:
            return str(json.load(response)["update_seq"])

    def names(self) -> dict[str, str]:
        """Return the live packages and their revisions."""
        with urllib.request.urlopen(f"{self.feed}/_all_docs?limit=10000", timeout=SECONDS) as response:
            return {row["id"]: row["value"]["rev"] for row in json.load(response)["rows"]}

    def versions(self, name: str) -> list[str]:
        """Return the versions of a package; none where it is gone."""
        request = urllib.request.Request(f"{self.registry}/{name}", headers={"accept": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return list(json.load(response).get("versions", {}))
        except urllib.error.HTTPError as error:
            error.close()
            return []


@contextmanager
def run_feed(*arguments: str) -> Iterator[FeedProcess]:
    """Run ``python -m tests.fakes.feed`` until the block ends."""
    command = [sys.executable, "-m", "tests.fakes.feed", *arguments]
    # Coverage of a fake is nobody's, and makes it slower.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            registry = process.stdout.readline().strip().removeprefix("registry at ")
            feed = process.stdout.readline().strip().removeprefix("listening on ")
            yield FeedProcess(registry, feed, process)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder with a configuration, in which the product's commands run as processes."""

    folder: Path

    def configure(
        self,
        *,
        registry: str,
        feed: str | None,
        storage: str = "file:mirror?fsync=off",
        confirm_deletion: str = "1 h",
    ) -> None:
        """Write a configuration that follows quickly."""
        lines = [f'storage = "{storage}"', f'[[registry]]\nurl = "{registry}"', '[[select]]\nname = "*"']
        quick = 'idle_least = "50 ms"\nidle_most = "200 ms"\nreread_every = "2 s"\nsweep_pace = 0\n'
        quick += f'confirm_deletion = "{confirm_deletion}"\n'
        lines.append(f'[feed]\nurl = "{feed}"\n{quick}' if feed is not None else "")
        lines.append("[limits]\nrequests_per_second = 0\nretries = 1")
        (self.folder / "mirrorwitness.toml").write_text("\n".join(lines))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``mirrorwitness``; its standard output and error are pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "mirrorwitness", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end: status, output, errors."""
        return end(self.start(*arguments), None)

    def cursor(self, shard: str = "1-of-1") -> dict[str, Any]:
        """Return a shard's cursor; empty where there is none."""
        path = self.folder / "mirror" / "state" / "cursor" / f"{shard}.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def packages(self) -> dict[str, str]:
        """Return the packages that are served and their revisions."""
        documents = (self.folder / "mirror" / "npm").rglob("packument.json")
        found = [json.loads(path.read_bytes()) for path in documents]
        return {document["name"]: document["_rev"] for document in found}


def end(process: subprocess.Popen[str], number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str, str]:
    """Send a signal, wait for the end: status, output, errors."""
    if number is not None:
        process.send_signal(number)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def wait_until(condition: Callable[[], bool], *, what: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until a condition holds, or fail with what it was."""
    limit = time.monotonic() + SECONDS
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: the process ended before, {process.communicate()}")
        assert time.monotonic() < limit, what
        time.sleep(0.05)
