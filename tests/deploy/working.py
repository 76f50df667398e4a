"""What every role of a deployment does to its storages: its commands, run over directories, and written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.tlog.keys import format_signer_key
from tests.fakes.feed_process import Workplace, run_feed
from tests.fakes.serving import serve
from tests.fakes.thread import run_in_thread, serve_in_thread
from tests.unit.witness.log_server import LogServer, make_lab
from tests.unit.witness.world import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.thread import ThreadedRegistry

__all__ = ["TOLERATED", "Operation", "Work", "work_of_all_roles"]

ROOT: Final = Path(__file__).parents[2]

TOLERATED: Final = {
    ("mirror-reader", "state/coverage.json"): "an audit of everything counts anew; refused, the counters stay the last",
}
"""Writes that a role tries and does without where they are refused → what it does then."""


class Operation(NamedTuple):
    """One thing that a command did.

    Attributes:
        storage: which of the role's storages, by the name of its folder.
        verb: see `tests.deploy.recorder`.
        key: of the object, or the listed prefix.
    """

    storage: str
    verb: str
    key: str


@dataclass
class Work:
    """Runs commands as roles in one folder.

    Attributes:
        folder: with all storages, keys and records.
        roles: whose record is there.
    """

    folder: Path
    roles: set[str] = field(default_factory=set)

    def run(self, role: str, *arguments: str, expect: int = 0) -> str:
        """Run a command to its end, hold it to its exit code, and return its standard output."""
        done = subprocess.run(
            self._command(role, arguments), cwd=self.folder, env=self._environment, capture_output=True, check=False
        )
        assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    @contextmanager
    def serving(self, role: str, *arguments: str) -> Iterator[str]:
        """Run a server; gives its address."""
        process = subprocess.Popen(
            self._command(role, (*arguments, "--listen", "127.0.0.1:0")),
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield line.removeprefix("listening on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=30)
            process.stdout.close()
        assert code == 0

    def done_by(self, role: str) -> set[Operation]:
        """Return what a role did and could not do without."""
        lines = (self.folder / f"{role}.jsonl").read_text(encoding="utf-8").splitlines()
        done = {Operation(*json.loads(line)) for line in lines}
        return {each for each in done if (role, each.key) not in TOLERATED or each.verb in {"read", "open", "stat"}}

    def key(self, name: str, text: str) -> str:
        """Write the file of a key."""
        write_key(self.folder / name, text)
        return name

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def _command(self, role: str, arguments: tuple[str, ...]) -> list[str]:
        self.roles.add(role)
        return [sys.executable, "-m", "tests.deploy.recorder", f"{role}.jsonl", *arguments]


def ask(url: str) -> int:
    """Return the status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def work_of_all_roles(folder: Path) -> Work:
    """Let every role do what its manifests let it do, and what goes wrong there."""
    work = Work(folder)
    _registry(work)
    _follow(work)
    _witness(work)
    return work


def _registry(work: Work) -> None:
    """One registry that publishes, takes away and replaces; a log of it, and a mirror that asks the log."""
    log = ("--storage", "file:sumdb")
    vkeys = json.loads(
        work.run("sumdb", "sumdb", "init", *log, "--name", "sum.example", "--out", "sumdb.key", "--json")
    )["vkeys"]
    with serve_in_thread() as registry:
        for name in ("left", "@s/right", "gone"):
            registry.sim.publish(name, "1.0.0", data=f"the tarball of {name}".encode())
        registry.sim.publish("left", "1.1.0")
        growing = (*log, "--key", "sumdb.key", "--registry", registry.url)
        work.run("sumdb", "sumdb", "ingest", "left", "@s/right", "gone", *growing)
        with work.serving("sumdb", "sumdb", "serve", *growing) as url:
            _mirror(work, registry, f"{','.join(vkeys)}={url}")
        registry.sim.publish("bad", "1.0.0")
        sent = registry.sim.tarball("bad", "1.0.0")
        registry.sim.replace_bytes("bad", "1.0.0", b"other bytes")
        work.run("sumdb", "sumdb", "ingest", "bad", *growing, expect=4)
        registry.sim.replace_bytes("bad", "1.0.0", sent)
        work.run("sumdb", "sumdb", "ingest", "bad", *growing)
        with work.serving("sumdb-reader", "sumdb", "serve", *log, "--read-only") as url:
            paths = (
                "checkpoint",
                "tile/0/000.p/5",
                "tile/entries/000.p/5",
                "lookup/left@1.0.0",
                "lookup/left",
                "readyz",
            )
            assert [ask(f"{url}/{path}") for path in paths] == [200] * 6
        work.run("sumdb-reader", "sumdb", "fsck", *log, "--json")


def _mirror(work: Work, registry: ThreadedRegistry, sumdb: str) -> None:
    """A mirror that asks the log, of packages that are taken away and given back."""
    mirror = ("--config", "mirror.toml")
    configuration = work.folder / "mirror.toml"
    text = f'storage = "file:mirror"\n[[registry]]\nurl = "{registry.url}"\n'
    text += "".join(f'[[select]]\nname = "{name}"\n' for name in ("left", "@s/right", "gone"))
    configuration.write_text(text, encoding="utf-8")
    work.run("mirror", "sync", "--once", *mirror, "--sumdb", sumdb)
    work.run("mirror-reader", "audit", *mirror, "--sumdb", sumdb)
    # Its bytes are wrong at first: it is unfinished until the next run.
    registry.sim.publish("late", "1.0.0")
    configuration.write_text(text + '[[select]]\nname = "late"\n', encoding="utf-8")
    sent = registry.sim.tarball("late", "1.0.0")
    registry.sim.replace_bytes("late", "1.0.0", b"other bytes")
    work.run("mirror", "sync", "--once", *mirror, expect=4)
    registry.sim.replace_bytes("late", "1.0.0", sent)
    registry.sim.unpublish("left", "1.1.0")
    registry.sim.replace_by_holder("gone")
    work.run("mirror", "sync", "--once", *mirror)
    work.run("mirror", "release", "gone@1.0.0", "--reason", "a mistake", *mirror)
    work.run("mirror", "sync", "--once", *mirror)
    with work.serving("mirror-reader", "serve", *mirror) as url:
        tarball = "left/-/left-1.0.0.tgz"
        found = ("left", "left/1.0.0", tarball, f"{tarball}.tlog-proof", "-/package/left/dist-tags", "-/about.json")
        assert [ask(f"{url}/{path}") for path in found] == [200] * len(found)
        assert [ask(f"{url}/-/{path}") for path in ("readyz", "status", "metrics")] == [200] * 3
        missing = ("-/about.json.note", "-/npm/v1/keys", "missing")
        assert [ask(f"{url}/{path}") for path in missing] == [404] * len(missing)
    work.run("mirror-reader", "audit", *mirror, "--sample", "500")
    work.run("mirror-reader", "audit", *mirror)


def _follow(work: Work) -> None:
    """A mirror that asks the feed what is new, in two shards."""
    with run_feed("--demo", "6") as feed:
        Workplace(work.folder).configure(registry=feed.registry, feed=feed.feed, storage="file:mirror2")
        for shard in ("1/2", "2/2", "1/2"):
            work.run("mirror", "sync", "--once", "--shard", shard)
        with work.serving("mirror-reader", "serve") as url:
            assert [ask(f"{url}/-/{path}") for path in ("readyz", "status", "metrics")] == [200] * 3


def _witness(work: Work) -> None:
    """A witness polls a log that grows and forks, and serves."""
    key = work.key("w1.key", format_signer_key(OURS))
    options = ("--storage", "file:witness", "--anchor", "file:anchor", "--key", key)
    lab = make_lab("log-1")
    server = LogServer(lab, 10)
    with run_in_thread(serve(server)):
        work.run("witness", "witness", "poll", "--once", *options, "--log", server.flag)
        server.grow(30)
        work.run("witness", "witness", "poll", "--once", *options, "--log", server.flag)
        server.grow(300, lab.fork(9))
        work.run("witness", "witness", "poll", "--once", *options, "--log", server.flag, expect=4)
    with work.serving("witness", "witness", "serve", *options, "--log", server.flag.partition("=http")[0]) as url:
        assert ask(f"{url}/readyz") == 200
