"""Real npm clients, a network that holds nothing else, and the product's own commands: what the client tests share.

- `open_network` makes a network namespace with loopback only; servers and clients are started inside it, so a client
  that asks anybody but the mirror fails.
- `CLIENTS` are the package managers that `scripts/real/install-clients` installs. Each run has an empty home and gets
  its registry from the project's own settings file, as a user would write it.
- `mirrorwitness` and `serve_mirror` run the product as a user does, in a process of its own.

What this does not do: say which installs must succeed; that is the tests' part.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.real.servers import CACHE, NotInstalledError, run_process, tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "APP",
    "CLIENTS",
    "ROOT",
    "Client",
    "Network",
    "Outcome",
    "Served",
    "inside",
    "make_project",
    "make_small_project",
    "mirrorwitness",
    "node_program",
    "open_network",
    "run_client",
    "run_to_end",
    "serve_mirror",
    "write_settings",
]

ROOT: Final = Path(__file__).resolve().parents[2]
APP: Final = ROOT / "examples" / "app"
MODULES: Final = CACHE / "clients" / "node_modules"

CLIENT_SECONDS: Final = 100
"""How long one command of a client may take; below pytest's own limit, so that what it printed is shown."""

START_SECONDS: Final = 30

_CLONE_NEWNET: Final = 0x40000000
"""Linux's number for a network namespace; os.setns has it from Python 3.12 on."""


@dataclass(frozen=True, slots=True)
class Network:
    """Where servers and clients of a test run.

    Attributes:
        prefix: what a command is prefixed with to run in it.
        is_isolated: whether it holds loopback only; False where the kernel allows no namespaces.
        namespace: its file, where `inside` can enter it; that takes root.
    """

    prefix: tuple[str, ...]
    is_isolated: bool
    namespace: Path | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A running server of a mirror.

    Attributes:
        url: its address, without a trailing slash.
        log: what it prints.
        network: where it runs, and where its clients must run.
    """

    url: str
    log: Path
    network: Network


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit status.
        output: everything it printed.
    """

    code: int
    output: str


@dataclass(frozen=True, slots=True)
class Client:
    """A package manager.

    Attributes:
        name: for messages and test ids.
        program: its file below the installed modules, a glob.
        install: arguments to install without a lockfile.
        locked: arguments to install exactly what the lockfile says.
        lockfile: the lockfile that it writes.
        settings: the project's settings files by name; ``{url}`` is the registry, ``{cache}`` a directory.
        is_script: whether node runs it.
    """

    name: str
    program: str
    install: tuple[str, ...]
    locked: tuple[str, ...]
    lockfile: str
    settings: Mapping[str, str]
    is_script: bool = True


_NPMRC: Final = "registry={url}/\ncache={cache}\nfetch-retries=0\nupdate-notifier=false\nfund=false\n"

_PNPM: Final = {
    ".npmrc": "registry={url}/\n",
    # Without these it tries a refused tarball again for over a minute. Its caches lie in the home, which is empty.
    "pnpm-workspace.yaml": "fetchRetries: 0\nfetchRetryMintimeout: 10\nfetchRetryMaxtimeout: 20\n",
}


def _npm(major: int) -> Client:
    program = f"npm-{major}/bin/npm-cli.js"
    return Client(f"npm-{major}", program, ("install",), ("ci",), "package-lock.json", {".npmrc": _NPMRC})


def _pnpm(name: str, program: str, *, is_script: bool) -> Client:
    locked = ("install", "--frozen-lockfile")
    return Client(name, program, ("install",), locked, "pnpm-lock.yaml", _PNPM, is_script=is_script)


CLIENTS: Final[Mapping[str, Client]] = {
    client.name: client
    for client in (
        _npm(8),
        _npm(10),
        _npm(11),
        _pnpm("pnpm-10", "pnpm-10/bin/pnpm.cjs", is_script=True),
        _pnpm("pnpm-12", "@pnpm/exe.*/pnpm", is_script=False),
        Client(
            "yarn-1",
            "yarn/bin/yarn.js",
            ("install", "--non-interactive", "--no-progress"),
            ("install", "--frozen-lockfile", "--non-interactive", "--no-progress"),
            "yarn.lock",
            {".yarnrc": 'registry "{url}/"\ncache-folder "{cache}"\ndisable-self-update-check true\n'},
        ),
        Client(
            "yarn-4",
            "@yarnpkg/cli-dist/bin/yarn.js",
            ("install",),
            ("install", "--immutable"),
            "yarn.lock",
            # The age gate stays at its default: it needs the upstream's own times in our packuments (P4).
            {
                ".yarnrc.yml": (
                    'npmRegistryServer: "{url}"\nunsafeHttpWhitelist: ["127.0.0.1"]\ncacheFolder: "{cache}"\n'
                    "enableGlobalCache: false\nenableTelemetry: false\nhttpRetry: 0\nnodeLinker: node-modules\n"
                )
            },
        ),
        Client(
            "bun",
            "@oven/bun-*/bin/bun",
            ("install",),
            ("install", "--frozen-lockfile"),
            "bun.lock",
            {"bunfig.toml": '[install]\nregistry = "{url}/"\n[install.cache]\ndir = "{cache}"\n'},
            is_script=False,
        ),
    )
}
"""Every client by name."""


@contextlib.contextmanager
def open_network(directory: Path) -> Iterator[Network]:
    """Make a network that holds loopback only, for as long as the block lasts."""
    command = [sys.executable, str(ROOT / "scripts" / "isolated.py"), "sh", "-c", "echo ready; exec sleep 86400"]
    with (directory / "network.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        if process.stdout.readline() == b"ready\n":
            is_root = os.getuid() == 0
            as_user = () if is_root else ("--user", "--preserve-credentials")
            prefix = ("nsenter", f"--target={process.pid}", "--net", *as_user, "--")
            namespace = Path(f"/proc/{process.pid}/ns/net") if is_root else None
            yield Network(prefix, is_isolated=True, namespace=namespace)
        else:
            yield Network((), is_isolated=False)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def inside(network: Network) -> Iterator[None]:
    """Let this thread be in a network for the length of a block: the sockets that it opens, the programs it starts."""
    if network.namespace is None:
        yield
        return
    with Path("/proc/thread-self/ns/net").open() as outside, network.namespace.open() as wanted:
        _enter_namespace(wanted.fileno())
        try:
            yield
        finally:
            _enter_namespace(outside.fileno())


def _enter_namespace(file: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(file, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def node_program(pattern: str) -> Path:
    """Return a file below the installed modules.

    Raises:
        NotInstalledError: it is not there.
    """
    found = sorted(MODULES.glob(pattern))
    if not found or shutil.which("node") is None:
        raise NotInstalledError(f"{pattern} is not installed; run scripts/real/install-clients npm")
    return found[0]


def mirrorwitness(
    *arguments: str, environment: Mapping[str, str] | None = None, network: Network | None = None
) -> Outcome:
    """Run a command of the product to its end; standard output only, so that ``--json`` can be read."""
    prefix = () if network is None else network.prefix
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "mirrorwitness", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    # What went wrong is on standard error; pytest shows it with a failed test.
    sys.stderr.write(done.stderr.decode(errors="replace"))
    return Outcome(done.returncode, done.stdout.decode())


@contextlib.contextmanager
def serve_mirror(
    storage: Path | str, *, network: Network, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Serve a stored mirror, in a directory or at an address, on a free port of a network."""
    directory.mkdir(parents=True, exist_ok=True)
    product = (sys.executable, "-m", "mirrorwitness", "serve")
    address = f"file:{storage}" if isinstance(storage, Path) else storage
    command = [*network.prefix, *product, "--storage", address, "--listen", "127.0.0.1:0"]
    more = {"PYTHONPATH": str(ROOT), **(environment or {})}
    with run_process(command, directory=directory, environment=more) as process:
        log = directory / f"{Path(command[0]).name}.log"
        yield Served(_wait_for_address(process, log), log, network)


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("listening on "):
                return line.removeprefix("listening on ").strip()
        time.sleep(0.05)
    raise RuntimeError(f"the server did not say where it listens:\n{tail(log)}")


def make_project(directory: Path, client: Client, url: str, *, lockfile: Path | None = None) -> Path:
    """Copy the example application into a new directory, with the client's settings and an empty home and cache."""
    project = directory / "app"
    project.mkdir(parents=True)
    for name in ("package.json", "index.js"):
        shutil.copy(APP / name, project)
    if lockfile is not None:
        shutil.copy(lockfile, project / client.lockfile)
    elif client.name == "yarn-4":
        # It takes a directory without one for a part of whatever project lies above.
        (project / client.lockfile).touch()
    (directory / "home").mkdir()
    write_settings(project, client, url)
    return project


def make_small_project(directory: Path, client: Client, url: str, dependencies: Mapping[str, str]) -> Path:
    """Make a new project with the given dependencies, with the client's settings and an empty home and cache."""
    project = directory / "project"
    project.mkdir(parents=True)
    (directory / "home").mkdir()
    manifest = {"name": "small", "version": "1.0.0", "private": True, "dependencies": dict(dependencies)}
    (project / "package.json").write_text(json.dumps(manifest))
    write_settings(project, client, url)
    return project


def write_settings(project: Path, client: Client, url: str) -> None:
    """Point a project at a registry."""
    for name, text in client.settings.items():
        (project / name).write_text(text.replace("{url}", url).replace("{cache}", str(project.parent / "cache")))


def run_client(client: Client, arguments: tuple[str, ...], *, project: Path, network: Network) -> Outcome:
    """Run a client in a project, inside a network, with the home beside the project."""
    program = str(node_program(client.program))
    command = ["node", program, *arguments] if client.is_script else [program, *arguments]
    return run_to_end(command, project=project, network=network)


def run_to_end(command: list[str], *, project: Path, network: Network) -> Outcome:
    """Run a command in a project, inside a network, with nothing of the caller's environment but the PATH.

    Raises:
        TimeoutError: it did not end; it and what it started were killed.
    """
    environment = {"PATH": os.environ["PATH"], "HOME": str(project.parent / "home"), "LANG": "C.UTF-8"}
    if not network.is_isolated:
        environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9") | {"NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        [*network.prefix, *command],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=CLIENT_SECONDS)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        text = output.decode(errors="replace")
        raise TimeoutError(f"{command} did not end in {CLIENT_SECONDS} s; it printed:\n{text}") from error
    return Outcome(process.returncode, output.decode(errors="replace"))
