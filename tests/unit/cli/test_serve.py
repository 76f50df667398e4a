"""`serve` as a process: the ready line, real requests, a graceful end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

from click.testing import CliRunner

from mirrorwitness.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry


def test_serve_prints_its_address_answers_and_stops_on_sigterm(registry: ThreadedRegistry, tmp_path: Path) -> None:
    """The contract of every server: one line once it accepts requests, exit code 0 after SIGTERM."""
    registry.sim.publish("left", "1.0.0", files={"index.js": b"1"})
    storage = f"file:{tmp_path / 'mirror'}"
    done = CliRunner().invoke(main, ["sync", "--once", "left", "--storage", storage, "--registry", registry.url])
    assert done.exit_code == 0, done.output
    process = subprocess.Popen(
        [sys.executable, "-m", "mirrorwitness", "serve", "--storage", storage, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        base = line.removeprefix("listening on ").strip()
        with urllib.request.urlopen(f"{base}/left", timeout=10) as answer:
            document = json.load(answer)
        assert document["versions"]["1.0.0"]["dist"]["tarball"] == f"{base}/left/-/left-1.0.0.tgz"
        with urllib.request.urlopen(f"{base}/left/-/left-1.0.0.tgz", timeout=10) as answer:
            assert answer.read() == registry.sim.tarball("left", "1.0.0")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=20)
        rest = process.stdout.read()
        process.stdout.close()
    assert (code, rest) == (0, "")
