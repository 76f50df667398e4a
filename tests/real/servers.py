"""Real S3 servers, started on free loopback ports and stopped again: what `tests/real` and `bench` run against.

Each server is a context manager that yields an `S3Server` once it answers HTTP, and ends the processes that it
started, by their own ids, when left. Logs and data lie in a temporary directory that goes with it; if the server does
not come up, or dies while in use, the end of its log is in the error.

`SERVERS` names all of them; a server whose program is not installed raises `NotInstalledError`, whose message is the
command that installs it. Nothing here listens anywhere but on 127.0.0.1, and nothing reports home.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "READER_KEY",
    "SERVERS",
    "NotInstalledError",
    "S3Server",
    "free_ports",
    "program",
    "run_process",
    "tail",
    "wait_for_http",
]

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "real"
"""Where `scripts/real/install-s3` puts what it installs."""

START_SECONDS: Final = 60
"""The slowest server (Ceph) needs 13 s on two shared cores."""

STOP_SECONDS: Final = 3
"""How long a server may take to stop before it is killed; SeaweedFS would take ten, and loses nothing when killed."""

LOG_TAIL_BYTES: Final = 1500

ACCESS_KEY: Final = "mirrorwitness"
SECRET_KEY: Final = "loopback-only-secret"

READER_KEY: Final = "mirrorwitness-reader"
"""Of a user of SeaweedFS who may read and list, with the same secret."""


class NotInstalledError(Exception):
    """A server's program is not on this machine; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 server.

    Attributes:
        name: which one, a key of `SERVERS`.
        endpoint: its base URL.
        region: the region its signatures are made for.
        access_key: the key of a user who may do everything.
        secret_key: that user's secret.
        pid: the process that serves S3, for tests that kill it.
        log: what it prints.
        command: what started that process; `start_again` starts it with the same data on the same port.
    """

    name: str
    endpoint: str
    region: str
    access_key: str
    secret_key: str
    pid: int
    log: Path
    command: tuple[str, ...]

    @contextlib.contextmanager
    def start_again(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server's process once more, after it was killed; ready when it answers."""
        with run_process(self.command, directory=self.log.parent) as process:
            wait_for_http(process, self.endpoint)
            yield process

    def address(self, bucket: str, prefix: str = "") -> str:
        """Return the storage address of a bucket on this server."""
        path = f"{bucket}/{prefix}" if prefix else bucket
        return f"s3://{path}?{urlencode({'endpoint': self.endpoint, 'region': self.region})}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that hold this server's credentials."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def program(path: str, *, part: str) -> str:
    """Return the full path of an installed program.

    Args:
        path: below ``.cache/real``, or a bare name that is looked up in PATH.
        part: the argument of `scripts/real/install-s3` that installs it.

    Raises:
        NotInstalledError: it is not there.
    """
    found = shutil.which(path) if "/" not in path else str(CACHE / path) if (CACHE / path).exists() else None
    if found is None:
        raise NotInstalledError(f"{path} is not installed; run scripts/real/install-s3 {part}")
    return found


@contextlib.contextmanager
def run_process(
    command: Sequence[str], *, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside the block; its output goes to a log in `directory`.

    Raises:
        RuntimeError: it ended by itself before the block did; the message has the end of its log.
    """
    name = Path(command[0]).name
    log = _log(command, directory)
    with log.open("ab") as out:
        # A group of its own: Ctrl-C in the terminal reaches pytest only, which then stops the server in order.
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException as error:
        error.add_note(f"{name}, exit status {process.poll()}, ended its log so:\n{tail(log)}")
        raise
    finally:
        died = process.poll()
        _stop(process)
    # A test may kill it on purpose (a negative status); ending by itself is a failure of the server.
    if died is not None and died >= 0:
        raise RuntimeError(f"{name} ended by itself with status {died}:\n{tail(log)}")


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


def wait_for_http(process: subprocess.Popen[bytes], url: str, *, seconds: float = START_SECONDS) -> None:
    """Wait until something at `url` answers HTTP with any status but 503.

    Raises:
        RuntimeError: the process ended, or nothing answered in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server for {url} ended with status {process.returncode} while starting")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing answered at {url} within {seconds} s")
        time.sleep(0.05)


@contextlib.contextmanager
def seaweedfs() -> Iterator[S3Server]:
    """Run SeaweedFS (`weed mini`), telemetry off, every port it opens a free one."""
    weed = program("seaweedfs/bin/weed", part="seaweedfs")
    rights = {ACCESS_KEY: ["Admin", "Read", "List", "Tagging", "Write"], READER_KEY: ["Read", "List"]}
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}], "actions": actions}
        for key, actions in rights.items()
    ]
    flags = ("s3", "s3.port.grpc", "master", "master.port.grpc", "filer", "filer.port.grpc")
    names = [name if "." in name else f"{name}.port" for name in flags]
    names += ["volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with _directory("seaweedfs") as directory:
        config = directory / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        (directory / "data").mkdir()
        command = [
            *(weed, "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory / 'data'}"),
            *("-master.telemetry=false", f"-s3.config={config}", "-webdav=false", "-admin.ui=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ]
        with _serve("seaweedfs", command, directory=directory, port=ports["s3.port"]) as server:
            yield server


@contextlib.contextmanager
def rclone() -> Iterator[S3Server]:
    """Run `rclone serve s3` over a directory."""
    (port,) = free_ports(1)
    with _directory("rclone") as directory:
        (directory / "data").mkdir()
        command = [
            *(program("odd/bin/rclone", part="odd"), "serve", "s3", "--config", str(directory / "rclone.conf")),
            *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--addr", f"127.0.0.1:{port}", str(directory / "data")),
        ]
        with _serve("rclone", command, directory=directory, port=port) as server:
            yield server


@contextlib.contextmanager
def nanio() -> Iterator[S3Server]:
    """Run nanio."""
    (port,) = free_ports(1)
    with _directory("nanio") as directory:
        command = [
            *(program("odd/bin/nanio", part="odd"), "serve", "--data-dir", str(directory / "data")),
            *("--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
        ]
        environment = {"NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
        with _serve("nanio", command, directory=directory, port=port, environment=environment) as server:
            yield server


@contextlib.contextmanager
def localbucket() -> Iterator[S3Server]:
    """Run LocalBucket, which checks no credentials."""
    (port,) = free_ports(1)
    with _directory("localbucket") as directory:
        (directory / "data").mkdir()
        command = [program("odd/bin/localbucket", part="odd"), "--port", str(port), str(directory / "data")]
        with _serve("localbucket", command, directory=directory, port=port) as server:
            yield server


@contextlib.contextmanager
def juicefs() -> Iterator[S3Server]:
    """Run the JuiceFS gateway over a directory and an SQLite metadata file."""
    (port,) = free_ports(1)
    binary = program("odd/bin/juicefs", part="odd")
    with _directory("juicefs") as directory:
        meta = f"sqlite3://{directory / 'meta.db'}"
        environment = {
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "HOME": str(directory),
        }
        made = subprocess.run(
            [binary, "format", "--storage", "file", "--bucket", f"{directory}/data/", meta, "real"],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        if made.returncode != 0:
            raise RuntimeError(f"juicefs format failed: {made.stderr.decode(errors='replace')}")
        command = [
            *(binary, "gateway", "--no-usage-report", "--multi-buckets", "--keep-etag", "--metrics", "127.0.0.1:0"),
            *("--cache-dir", str(directory / "cache"), meta, f"127.0.0.1:{port}"),
        ]
        with _serve("juicefs", command, directory=directory, port=port, environment=environment) as server:
            yield server


@contextlib.contextmanager
def s3rver() -> Iterator[S3Server]:
    """Run s3rver under node; it has one fixed user."""
    (port,) = free_ports(1)
    script = program("s3rver/node_modules/s3rver/bin/s3rver.js", part="odd")
    with _directory("s3rver") as directory:
        command = [
            *(program("node", part="odd"), script, "--directory", str(directory / "data")),
            *("--address", "127.0.0.1", "--port", str(port), "--no-vhost-buckets", "--silent"),
        ]
        (directory / "data").mkdir()
        with _serve("s3rver", command, directory=directory, port=port, credentials=("S3RVER", "S3RVER")) as server:
            yield server


@contextlib.contextmanager
def moto() -> Iterator[S3Server]:
    """Run moto's server from the development environment; it checks neither signatures nor checksums."""
    (port,) = free_ports(1)
    with _directory("moto") as directory:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with _serve("moto", command, directory=directory, port=port) as server:
            yield server


def _rgw() -> AbstractContextManager[S3Server]:
    from tests.real.ceph import rgw  # noqa: PLC0415 - ceph builds on this module

    return rgw()


SERVERS: Final[Mapping[str, Callable[[], AbstractContextManager[S3Server]]]] = {
    "seaweedfs": seaweedfs,
    "rgw": _rgw,
    "rclone": rclone,
    "nanio": nanio,
    "juicefs": juicefs,
    "localbucket": localbucket,
    "s3rver": s3rver,
    "moto": moto,
}
"""Every server by name."""


@contextlib.contextmanager
def _serve(
    name: str,
    command: Sequence[str],
    *,
    directory: Path,
    port: int,
    environment: Mapping[str, str] | None = None,
    credentials: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
) -> Iterator[S3Server]:
    endpoint = f"http://127.0.0.1:{port}"
    with run_process(command, directory=directory, environment=environment) as process:
        wait_for_http(process, endpoint)
        log = _log(command, directory)
        yield S3Server(name, endpoint, "us-east-1", *credentials, process.pid, log, tuple(command))


@contextlib.contextmanager
def _directory(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"mw-{name}-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _log(command: Sequence[str], directory: Path) -> Path:
    return directory / f"{Path(command[0]).name}.log"
