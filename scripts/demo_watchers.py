"""The watchers of the demo: a checksum database and two witnesses, as processes of the product on loopback.

`Watchers` starts and stops them; each step of ``demo.py`` that attacks one of them says what it does to its storage.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
ORIGIN = "sum.demo.example/npm"
STOP_SECONDS = 20.0


class WatcherError(Exception):
    """A process did not start or end as it must."""


@dataclass
class Process:
    """One running process of the product.

    Attributes:
        process: the process.
        address: where it listens.
        log: what it says on standard error.
    """

    process: subprocess.Popen[str]
    address: str
    log: IO[str]

    def stop(self) -> int:
        """Stop it gracefully and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.log.close()


@dataclass
class Watchers:
    """A checksum database and two witnesses.

    Attributes:
        folder: where their keys and storages lie, relative to the project.
        registry: whose versions are logged.
        vkey: of the log.
        witnesses: name → vkey.
        running: name → process.
    """

    folder: Path
    registry: str
    vkey: str = ""
    witnesses: dict[str, str] = field(default_factory=dict)
    running: dict[str, Process] = field(default_factory=dict)

    @property
    def policy(self) -> Path:
        """The quorum: both of them."""
        return self.folder / "policy.txt"

    @property
    def flag(self) -> str:
        """What `--sumdb` takes."""
        return f"{self.vkey}={self.running['sumdb'].address}"

    def begin(self) -> None:
        """Make all keys, begin the log, and write the policy."""
        names = ("sumdb", "init", "--storage", f"file:{self.folder / 'sumdb'}", "--name", ORIGIN)
        self.vkey = _run(*names, "--out", str(self.folder / "sumdb.key")).splitlines()[0]
        for name in ("a", "b"):
            key = str(self.folder / f"{name}.key")
            self.witnesses[name] = _run("witness", "keygen", "--name", f"witness-{name}.demo.example", "--out", key)
        lines = [f"log {self.vkey}", *(f"witness {name} {vkey}" for name, vkey in self.witnesses.items())]
        (ROOT / self.policy).write_text("\n".join([*lines, "group both all a b", "quorum both", ""]), encoding="utf-8")

    def start_witness(self, name: str) -> None:
        """Start one of the witnesses; raise with what it says where it refuses."""
        storage, key = f"file:{self.folder / name}", str(self.folder / f"{name}.key")
        self._start(name, "witness", "serve", "--storage", storage, "--key", key, "--log", self.vkey)

    def start_log(self, storage: str = "sumdb", *, is_witnessed: bool = True) -> None:
        """Start the log over one of its storages."""
        where = f"file:{self.folder / storage}"
        words = ["sumdb", "serve", "--storage", where, "--key", str(self.folder / "sumdb.key")]
        words += ["--registry", self.registry]
        if is_witnessed:
            for name, vkey in self.witnesses.items():
                words += ["--witness", f"{vkey}={self.running[name].address}"]
            words += ["--policy", str(self.policy)]
        self._start("sumdb", *words)

    def stop(self, name: str) -> None:
        """Stop one of them."""
        self.running.pop(name).stop()

    def stop_all(self) -> None:
        """Stop all that still run."""
        for name in list(self.running):
            self.stop(name)

    def copy(self, source: str, target: str) -> None:
        """Copy a storage, or a part of it, in the place of another: the restore of a backup."""
        shutil.rmtree(ROOT / self.folder / target, ignore_errors=True)
        shutil.copytree(ROOT / self.folder / source, ROOT / self.folder / target)

    def _start(self, name: str, *words: str) -> None:
        path = ROOT / self.folder / f"{name}.log"
        log = path.open("w", encoding="utf-8")
        print(f"$ mirrorwitness {shorten(words)}", flush=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "mirrorwitness", *words, "--listen", "127.0.0.1:0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (http://\S+)\n", line)
        if found is None:
            process.wait(STOP_SECONDS)
            log.close()
            said = path.read_text(encoding="utf-8").strip()
            raise WatcherError(f"exit code {process.returncode}: {said}")
        self.running[name] = Process(process, found[1], log)


def _run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mirrorwitness", *words],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout.strip()


def shorten(words: tuple[str, ...]) -> str:
    """Return a command line for people; a key has 1,800 letters where it is one of ML-DSA."""
    return " ".join(re.sub(r"\+[0-9a-f]{8}\+[A-Za-z0-9+/]+=*", "+…", word) for word in words)
