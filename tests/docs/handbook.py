"""The handbook's commands, run: every ``console`` block of a page that names a story, in the page's order.

How a page is read:

- ``<!-- story: NAME -->`` before its first command names the world that commands are run in from there on
  (`tests.docs.stories`). A name that is no world is something that happens in it before the next block: a disk is
  altered, a log forks.
- A line that begins with ``$`` is a command. ``# exit code 4`` at its end says how it ends; else it ends with 0.
- The lines below it, up to the next command, are what it prints: all of them, in their order, beside others. ``…``
  stands for anything within a line.
- What the page shows is not what is run, or printed, where the story says so (`Story.shown`): addresses, keys, names of
  files that differ from run to run, numbers of a larger world.
- ``serve`` and ``--follow`` are started as processes, on any free port, and stopped at the page's end, or
  by the event ``stop``.

What it does not run: other people's programs (`ELSEWHERE`), which `make test-real` does, or a reader.
"""

from __future__ import annotations

import contextlib
import json
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
    from contextlib import AbstractContextManager

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
    "SEED": "the same",
    "pip": "`make dist`",
}
"""Programs that are not run → who runs them, or why nobody does."""

SHELL: Final = {"cp", "mv", "rm", "mkdir", "ls", "cat", "chmod"}
"""Programs that are run as they are."""

DEFAULT_PORTS: Final = {"serve": "4873", "witness": "7380", "logmirror": "7381", "sumdb": "7390"}
"""Where servers listen without ``--listen``, by the first word of the command."""

WAIT_SECONDS: Final = 30.0

STOP: Final = "stop"
"""The event that every world has: the servers that run are stopped."""

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
        shown: what the page shows → what is run or printed in its place, looked up each time; the longest first.
        elsewhere: part of a command that is not run in this world → which test runs it, or why none does.
    """

    events: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    shown: dict[str, str | Callable[[], str]] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """Return what is run for what the page shows."""
        for shown, real in sorted(self.shown.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(shown, real if isinstance(real, str) else real() if shown in text else shown)
        return text


def read_page(text: str) -> Iterator[Command | Event]:
    """Yield a page's commands and events in their order; the first event names a world."""
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


def run_page(text: str, worlds: Mapping[str, Callable[[], AbstractContextManager[Story]]]) -> int:
    """Run a page in the working directory, each of its worlds in a folder of its own.

    Args:
        text: the page.
        worlds: name → makes the world in the working directory.

    Returns:
        How many commands were run.

    Raises:
        AssertionError: a command ended otherwise, or did not print what the page shows.
    """
    done, begun = 0, Path.cwd()
    story: Story | None = None
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as servers:
        for number, piece in enumerate(read_page(text)):
            if isinstance(piece, Event) and piece.name in {STOP, *worlds}:
                servers.close()
            if isinstance(piece, Event) and piece.name == STOP:
                continue
            if isinstance(piece, Event) and piece.name in worlds:
                stack.close()
                folder = begun / f"{piece.name}-{number}"
                folder.mkdir()
                stack.enter_context(contextlib.chdir(folder))
                story = stack.enter_context(worlds[piece.name]())
                continue
            assert story is not None, "a page names its world before its first command"
            if isinstance(piece, Event):
                story.events[piece.name]()
            else:
                done += _run(piece, story, servers)
    return done


def _run(command: Command, story: Story, servers: contextlib.ExitStack) -> bool:
    words = shlex.split(story.real(command.text))
    if words[0].partition("=")[0] in ELSEWHERE or any(part in command.text for part in story.elsewhere):
        return False
    if words[0] == "curl":
        code, printed = 0, _get(words[-1])
    elif words[0] in SHELL:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        code, printed = found.returncode, found.stdout + found.stderr
    elif words[0] != "mirrorwitness":
        raise AssertionError(f"{command.text}: nobody runs {words[0]}; see ELSEWHERE and SHELL")
    elif "--follow" in words:
        code, printed = 0, _follow(words, servers)
    elif "serve" in words[:3] and command.exit_code == 0:
        code, printed = 0, _serve(words, story, servers)
    else:
        result = CliRunner().invoke(main, words[1:], prog_name="mirrorwitness")
        code, printed = result.exit_code, result.output
    assert code == command.exit_code, f"{command.text}: exit code {code}\n{printed}"
    _check_output(command, [story.real(line) for line in command.output], printed)
    return True


def _check_output(command: Command, lines: list[str], printed: str) -> None:
    """Look for the page's lines, in their order; blanks count as one."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in lines:
        pattern = re.compile(".*".join(re.escape(part) for part in " ".join(line.split()).split("…")))
        assert any(pattern.fullmatch(each) for each in rest), (
            f"{command.text}\nprints no line {line!r} there:\n{printed}"
        )


def _serve(words: list[str], story: Story, servers: contextlib.ExitStack) -> str:
    """Start a server on any free port, and let the page's port mean that one from now on."""
    ports = [found[1] for word in words for found in [_LISTEN.fullmatch(word)] if found]
    words = [_LISTEN.sub("127.0.0.1:0", word) if _LISTEN.fullmatch(word) else word for word in words]
    if "--listen" not in words:
        ports.append(DEFAULT_PORTS[words[1]])
        words += ["--listen", "127.0.0.1:0"]
    line = _start(words, servers)
    assert line.startswith("listening on http://"), f"{words}: {line!r}"
    for port in ports:
        story.shown[f"127.0.0.1:{port}"] = line.strip().removeprefix("listening on http://")
    return line


def _follow(words: list[str], servers: contextlib.ExitStack) -> str:
    """Start a follower; it works once it logs."""
    line = _start([*words, "--log-level", "debug"], servers)
    assert "event" in json.loads(line), line
    return ""


def _start(words: list[str], servers: contextlib.ExitStack) -> str:
    """Start a process of the product, which is stopped at the end; return the first line of what it says or logs."""
    server = subprocess.Popen(
        [sys.executable, "-m", "mirrorwitness", *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if "--follow" in words else subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    servers.callback(_stop, server)
    said = server.stdout if server.stderr is None else server.stderr
    assert said is not None
    return said.readline()


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
