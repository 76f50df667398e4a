"""The handbook's commands, run: every ``console`` block of a page that names a story, in the page's order.

How a page is read:

- ``<!-- story: NAME -->`` at its beginning names the world that its commands are run in (`tests.docs.stories`); another
  one further down is something that happens in that world before the next block: a disk is altered, a log forks.
- A line that begins with ``$`` is a command. ``# exit code 4`` at its end says how it ends; without that it ends with 0.
- The lines below it, up to the next command, are what it prints: all of them, in their order, beside others. ``…`` stands
  for anything within a line.
- What the page shows is not what is run where the story says so (`Story.shown`): addresses, keys, names of files that
  differ from run to run.
- ``serve`` and ``--follow`` are started as processes, on any free port, and stopped at the page's end.

What it does not run: other people's programs (`ELSEWHERE`), which `make test-real` does, or a reader.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from click.testing import CliRunner

from mirrorwitness.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["ELSEWHERE", "Command", "Event", "Story", "read_page", "run_page"]

ELSEWHERE: Final = {
    "npm": "tests/real/test_clients.py",
    "nginx": "tests/real/test_static.py",
    "promtool": "tests/real/test_prometheus.py",
    "kubectl": "tests/real/test_deploy.py",
    "make": "tests/docs/test_links.py knows its targets",
    "python": "scripts/isolated.py, `make dist`",
    "git": "the reader has the repository",
    "openssl": "gives a random number",
    "sed": "fills in what a command printed before",
    "pip": "`make dist`",
}
"""Programs that are not run → who runs them, or why nobody does."""

SHELL: Final = {"cp", "mv", "rm", "mkdir", "ls", "cat", "chmod"}
"""Programs that are run as they are."""

WAIT_SECONDS: Final = 30.0

_PIECE: Final = re.compile(r"(?ms)^<!-- story: ([a-z-]+) -->$|^( *)```console\n(.*?)^\2```$")
_EXIT: Final = re.compile(r"\s+# exit code (\d+)$")
_COMMENT: Final = re.compile(r"\s{2,}#.*$")
_LISTEN: Final = re.compile(r"127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page.

    Attributes:
        text: as the page shows it, without the comment.
        exit_code: how it has to end.
        output: lines that it has to print.
    """

    text: str
    exit_code: int
    output: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens in the story between two blocks."""

    name: str


@dataclass(slots=True)
class Story:
    """The world of a page.

    Attributes:
        events: what can happen in it.
        shown: what the page shows → what is run in its place, looked up before each command.
    """

    events: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    shown: dict[str, str | Callable[[], str]] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """Return what is run for what the page shows."""
        for shown, real in self.shown.items():
            text = text.replace(shown, real if isinstance(real, str) else real() if shown in text else shown)
        return text


def read_page(text: str) -> Iterator[Command | Event]:
    """Yield a page's commands and events in their order; the first event names its story."""
    for found in _PIECE.finditer(text):
        if found[1] is not None:
            yield Event(found[1])
        else:
            yield from _read_block(textwrap.dedent(found[3]))


def _read_block(block: str) -> Iterator[Command]:
    for piece in re.split(r"(?m)^\$ ", block)[1:]:
        line, *output = piece.rstrip("\n").split("\n")
        ends = _EXIT.search(line)
        text = _COMMENT.sub("", _EXIT.sub("", line)).strip()
        yield Command(text, int(ends[1]) if ends else 0, tuple(each for each in output if each.strip()))


def run_page(text: str, story: Story) -> int:
    """Run a page in the working directory.

    Returns:
        How many commands were run.

    Raises:
        AssertionError: a command ended otherwise, or did not print what the page shows.
    """
    done = 0
    servers: list[subprocess.Popen[str]] = []
    try:
        for piece in list(read_page(text))[1:]:
            if isinstance(piece, Event):
                story.events[piece.name]()
            else:
                done += _run(piece, story, servers)
    finally:
        for server in servers:
            _stop(server)
    return done


def _run(command: Command, story: Story, servers: list[subprocess.Popen[str]]) -> bool:
    words = shlex.split(story.real(command.text))
    if words[0] in ELSEWHERE:
        return False
    if words[0] == "curl":
        code, printed = 0, _get(words[-1])
    elif words[0] in SHELL:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        code, printed = found.returncode, found.stdout + found.stderr
    elif words[0] != "mirrorwitness":
        raise AssertionError(f"{command.text}: nobody runs {words[0]}; see ELSEWHERE and SHELL")
    elif _is_server(words) and command.exit_code == 0:
        code, printed = 0, _serve(words, story, servers)
    else:
        result = CliRunner().invoke(main, words[1:])
        code, printed = result.exit_code, result.output
    assert code == command.exit_code, f"{command.text}: exit code {code}\n{printed}"
    _check_output(command, printed)
    return True


def _is_server(words: list[str]) -> bool:
    return "serve" in words[:3] or "--follow" in words


def _check_output(command: Command, printed: str) -> None:
    """Look for the page's lines, in their order; blanks count as one."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in command.output:
        pattern = re.compile(".*".join(re.escape(part) for part in " ".join(line.split()).split("…")))
        assert any(pattern.fullmatch(each) for each in rest), f"{command.text}\nprints no line {line!r} there:\n{printed}"


def _serve(words: list[str], story: Story, servers: list[subprocess.Popen[str]]) -> str:
    """Start a server on any free port, and let the page's port mean that one from now on."""
    ports = [found[1] for word in words for found in [_LISTEN.fullmatch(word)] if found]
    words = [_LISTEN.sub("127.0.0.1:0", word) if _LISTEN.fullmatch(word) else word for word in words]
    if "--listen" not in words and "--follow" not in words:
        words += ["--listen", "127.0.0.1:0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mirrorwitness", *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    servers.append(server)
    if "--follow" in words:
        return ""
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("listening on http://"), f"{words}: {line!r}, exit code {server.poll()}"
    for port in ports:
        story.shown[f"127.0.0.1:{port}"] = line.strip().removeprefix("listening on http://")
        line = line.replace(line.strip().rpartition(":")[2], port)
    return line


def _stop(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.communicate(timeout=WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.communicate()


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())
