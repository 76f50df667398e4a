"""Witnesses, logs and verifiers that are not ours, and our own witness beside them, on free loopback ports.

- `start_ours` runs the product as an operator does. `start_aics` and `start_litewitness` run two other witnesses, each
  told the same logs. All three are a `Witness`: an address and verifier keys.
- `start_sumdb` runs our checksum database, a log that asks witnesses by itself, as an operator does.
- `start_sigsum_log` runs Sigsum's log server, which asks a witness by itself; `start_go_sumdb` a checksum database of
  Go's code, which is asked.
- `run_tool` runs a program of a peer to its end: what it says of our lines is what the tests assert.

Everything is installed by ``scripts/real/install-witness``; `needs` marks a test as skipped where it is not. Data and
logs lie in temporary directories, and only processes that were started here are ended.

What this does not do: judge any line itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.real.clients import ROOT, Outcome, mirrorwitness
from tests.real.servers import CACHE, free_ports, run_process, tail, wait_for_http

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "ALGORITHMS",
    "GO_PROGRAM",
    "PEERS",
    "SigsumLog",
    "Witness",
    "ask_peer",
    "is_installed",
    "make_directory",
    "make_key",
    "make_log_key",
    "make_sigsum_key",
    "needs",
    "peer_python",
    "peer_script",
    "run_tool",
    "sigsum_tool",
    "start_aics",
    "start_go_sumdb",
    "start_litewitness",
    "start_ours",
    "start_sigsum_log",
    "start_sumdb",
]

PEERS: Final = CACHE / "witness"
GO_PROGRAM: Final = PEERS / "go" / "witnesscheck"
"""Our own Go program, ``scripts/real/go/witnesscheck``; nothing in it is made from the code that it tests."""

ALGORITHMS: Final = ("ed25519", "ml-dsa-44")

TOOL_SECONDS: Final = 60
"""Longest run of one program; Sigsum's submission waits for the log's next head, which is out every second."""

START_SECONDS: Final = 20

_LISTENING: Final = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True, slots=True)
class Witness:
    """A running witness.

    Attributes:
        url: its submission prefix, and its monitoring prefix where it has one.
        vkeys: its verifier keys.
        directory: where its data are.
    """

    url: str
    vkeys: tuple[str, ...]
    directory: Path


@dataclass(frozen=True, slots=True)
class SigsumLog:
    """A running log of Sigsum's.

    Attributes:
        policy: the trust policy: the log, the witness, and a quorum of it.
        directory: where its files are, the log's key among them.
    """

    policy: Path
    directory: Path


def is_installed(part: str, *programs: str) -> bool:
    """Say whether a part of ``scripts/real/install-witness``, and some of the machine's own programs, are there."""
    return (PEERS / part / "installed.txt").exists() and all(map(shutil.which, programs))


def needs(part: str, *programs: str) -> pytest.MarkDecorator:
    """Return the mark of a test that is skipped where `is_installed` says no."""
    named = " and ".join([f"what scripts/real/install-witness {part} installs", *programs])
    return pytest.mark.skipif(not is_installed(part, *programs), reason=f"needs {named}")


def peer_python(name: str) -> str:
    """Return a program of the peers' own virtual environment."""
    return str(PEERS / "python" / "bin" / name)


def peer_script(name: str) -> list[str]:
    """Return the command that runs one of ``scripts/real/python``, which is made of a peer's package."""
    return [peer_python("python"), str(ROOT / "scripts" / "real" / "python" / name)]


def sigsum_tool(name: str) -> str:
    """Return one of Sigsum's programs: ``key``, ``submit``, ``verify`` and others."""
    return _debian(f"sigsum-{name}")


def _debian(name: str) -> str:
    return str(PEERS / "debian" / "usr" / "bin" / name)


def run_tool(
    command: Sequence[str | Path], *, stdin: str = "", environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run a program to its end; the output is its standard output, and a failed test shows the rest."""
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
    )
    sys.stderr.write(done.stderr)
    return Outcome(done.returncode, done.stdout)


def ask_peer(command: Sequence[str | Path], *, stdin: str = "") -> str:
    """Run a program that has to succeed, and return what it printed."""
    done = run_tool(command, stdin=stdin)
    assert done.code == 0, f"{command} ended with {done.code}"
    return done.output


@contextlib.contextmanager
def make_directory() -> Iterator[Path]:
    """Make a directory with a short path: the agent's socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="mw-peer-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def make_key(name: str, algorithm: str, out: Path) -> str:
    """Make a key of our witness with its own command, and return the verifier key."""
    made = mirrorwitness("witness", "keygen", "--name", name, "--algorithm", algorithm, "--out", str(out))
    assert made.code == 0
    return made.output.strip()


def make_log_key(name: str) -> tuple[str, str]:
    """Let the Go program make a log's key; return the private and the verifier key."""
    skey, vkey = ask_peer([GO_PROGRAM, "key", name]).split()
    return skey, vkey


@contextlib.contextmanager
def start_ours(
    logs: Sequence[str], *, algorithms: Sequence[str] = ALGORITHMS, options: Sequence[str] = ()
) -> Iterator[Witness]:
    """Run our witness with a new key of each algorithm, for the logs with these verifier keys."""
    with make_directory() as directory:
        keys = {directory / f"{algorithm}.key": algorithm for algorithm in algorithms}
        vkeys = tuple([make_key("witness.example/ours", algorithm, path) for path, algorithm in keys.items()])
        command = [sys.executable, "-m", "mirrorwitness", "witness", "serve", "--listen", "127.0.0.1:0"]
        command += ["--storage", f"file:{directory / 'state'}", *options]
        command += [word for path in keys for word in ("--key", str(path))]
        command += [word for vkey in logs for word in ("--log", vkey)]
        with run_process(command, directory=directory, environment={"PYTHONPATH": str(ROOT)}) as process:
            yield Witness(_wait_for_address(process, directory / f"{Path(sys.executable).name}.log"), vkeys, directory)


@contextlib.contextmanager
def start_aics(logs: Sequence[str], *, sends_at_once: bool = False) -> Iterator[Witness]:
    """Run aics-witness. It takes no keys of ML-DSA-44: logs that sign with one stay unknown to it.

    Args:
        logs: vkeys of logs that it knows.
        sends_at_once: with TCP_NODELAY, which it does not set as it is shipped: 40 ms less for each answer.
    """
    program = peer_python("aics-witness")
    with make_directory() as directory:
        config = ["--config", str(directory / "witness.json")]
        vkey = ask_peer([program, "init", *config, "--name", "witness.example/aics"]).strip()
        for log in logs:
            run_tool([program, "add-log", *config, "--origin", log.partition("+")[0], "--vkey", log])
        command = [program, "serve", *config, "--listen", "127.0.0.1:0"]
        environment = {}
        if sends_at_once:
            text = "import socketserver\nsocketserver.StreamRequestHandler.disable_nagle_algorithm = True\n"
            (directory / "sitecustomize.py").write_text(text, encoding="utf-8")
            environment["PYTHONPATH"] = str(directory)
        with run_process(command, directory=directory, environment=environment) as process:
            yield Witness(_wait_for_address(process, directory / "aics-witness.log"), (vkey,), directory)


@contextlib.contextmanager
def start_litewitness(logs: Sequence[str]) -> Iterator[Witness]:
    """Run litewitness, with an agent of its own that holds its key."""
    program, control = _debian("litewitness"), _debian("witnessctl")
    name = "witness.example/lite"
    (port,) = free_ports(1)
    with make_directory() as directory:
        database, key, socket = directory / "lite.db", directory / "lite", directory / "agent"
        for log in logs:
            origin = ["-db", str(database), "-origin", log.partition("+")[0]]
            run_tool([control, "add-log", *origin])
            run_tool([control, "add-key", *origin, "-key", log])
        ask_peer(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        fingerprint = ask_peer(["ssh-keygen", "-lf", key]).split()[1]
        vkey = ask_peer([sigsum_tool("key"), "to-vkey", "-k", f"{key}.pub", "-n", name, "-t", "cosignature/v1"])
        url = f"http://127.0.0.1:{port}"
        command = [program, "-db", str(database), "-listen", f"127.0.0.1:{port}", "-name", name]
        command += ["-key", fingerprint, "-ssh-agent", str(socket)]
        with _run_agent(socket, key), run_process(command, directory=directory) as process:
            wait_for_http(process, url)
            yield Witness(url, (vkey.strip(),), directory)


@contextlib.contextmanager
def _run_agent(socket: Path, key: Path) -> Iterator[None]:
    """Run an agent that holds a key, for as long as the block lasts."""
    with run_process(["ssh-agent", "-D", "-a", str(socket)], directory=socket.parent):
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        done = run_tool(["ssh-add", "-q", key], environment={"SSH_AUTH_SOCK": str(socket)})
        assert done.code == 0
        yield


@contextlib.contextmanager
def start_sumdb(directory: Path, options: Sequence[str]) -> Iterator[str]:
    """Run our checksum database with these options; its log goes to a directory. Gives its URL."""
    command = [sys.executable, "-m", "mirrorwitness", "sumdb", "serve", "--listen", "127.0.0.1:0", *options]
    with run_process(command, directory=directory, environment={"PYTHONPATH": str(ROOT)}) as process:
        yield _wait_for_address(process, directory / f"{Path(sys.executable).name}.log")


def make_sigsum_key(path: Path) -> str:
    """Make a key of Sigsum's, and return it as the verifier key of a log."""
    ask_peer([sigsum_tool("key"), "generate", "-o", path])
    return ask_peer([sigsum_tool("key"), "to-vkey", "-k", f"{path}.pub"]).strip()


@contextlib.contextmanager
def start_sigsum_log(directory: Path, witness: Witness) -> Iterator[SigsumLog]:
    """Run Sigsum's log server with the key ``log`` in a directory; it asks the witness for a cosignature each second.

    Args:
        directory: has the key, and gets everything else.
        witness: the only one in the policy, by its Ed25519 key: Sigsum knows no others.
    """
    key_tool, server = sigsum_tool("key"), sigsum_tool("log-primary")
    ports = free_ports(2)
    public = directory / "witness.pub"
    ask_peer([key_tool, "from-vkey", "-o", public], stdin=witness.vkeys[0])
    hexes = [ask_peer([key_tool, "to-hex", "-k", path]).strip() for path in (directory / "log.pub", public)]
    policy = directory / "policy"
    policy.write_text(
        f"log {hexes[0]} http://127.0.0.1:{ports[0]}\nwitness ours {hexes[1]} {witness.url}\nquorum ours\n"
    )
    ask_peer([sigsum_tool("mktree"), "--sth-file", directory / "head"])
    command = [server, "--backend", "ephemeral", "--interval", "1s", "--policy-file", str(policy)]
    command += ["--key-file", str(directory / "log"), "--sth-file", str(directory / "head")]
    command += ["--external-endpoint", f"127.0.0.1:{ports[0]}", "--internal-endpoint", f"127.0.0.1:{ports[1]}"]
    # Debian's build answers 404 to everything with the newer rules of Go's router.
    with run_process(command, directory=directory, environment={"GODEBUG": "httpmuxgo121=0"}) as process:
        wait_for_http(process, f"http://127.0.0.1:{ports[0]}/get-tree-head")
        yield SigsumLog(policy, directory)


@contextlib.contextmanager
def start_go_sumdb(skey: str, *, records: int, origin: str = "") -> Iterator[str]:
    """Run a checksum database of Go's code; return its URL. ``/lookup/example.com/m@v1.0.N`` makes it grow.

    Args:
        skey: the private key that signs its tree.
        records: how many it begins with.
        origin: the first line of its trees; empty: the one that Go's code gives to every database.
    """
    with make_directory() as directory:
        command = [str(GO_PROGRAM), "sumdb", "-signer", skey, "-records", str(records), "-origin", origin]
        with run_process(command, directory=directory) as process:
            yield _wait_for_address(process, directory / "witnesscheck.log")


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = _LISTENING.search(log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the server did not say where it listens:\n{tail(log)}")
