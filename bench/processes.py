"""Processes of a benchmark: servers on the last core, the measured one alone on the first, and what it used.

Processor time and peak memory come from the kernel (`bench.launch`), so they hold whatever the process is written in,
and its start-up counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "MB",
    "PEERS",
    "ROOT",
    "Usage",
    "child_of",
    "cpu_seconds",
    "delayed",
    "free_port",
    "is_pinned",
    "nginx",
    "nginx_program",
    "on_last_core",
    "on_one_core",
    "run_measured",
    "started",
    "wait_for_port",
]

ROOT: Final = Path(__file__).resolve().parents[1]
PEERS: Final = ROOT / ".cache/bench/peers/bin"
"""Where ``scripts/bench/install`` puts rclone and bandersnatch."""

MB: Final = 1_000_000
REPORT_BYTES: Final = 4096
CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
START_SECONDS: Final = 30.0
TASKSET: Final = shutil.which("taskset")
LAST_CORE: Final = (os.cpu_count() or 1) - 1

NGINX: Final = """
daemon off; worker_processes 1; pid {dir}/pid; error_log stderr crit; {user}
events {{ worker_connections 4096; }}
http {{
  log_format short '$request_method $status $body_bytes_sent $request_uri'; access_log {dir}/access.log short;
  keepalive_requests 10000000; sendfile on; tcp_nopush on; etag on; gzip_static on; client_max_body_size 0;
  open_file_cache max=20000 inactive=600s;
  default_type application/octet-stream; types {{ application/json json; }}
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server {{
    listen 127.0.0.1:{port}; root {root};
    location = /-/npm/v1/keys {{ default_type application/json; try_files /keys.json =404; }}
    location / {{ try_files $uri $uri/packument.json =404; }}
    location = /simple {{ default_type application/vnd.pypi.simple.v1+json; try_files /simple.json =404; }}
    location /pypi/ {{ default_type application/json; add_header X-PyPI-Last-Serial 1; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used.

    Attributes:
        wall: seconds from start to end.
        cpu: seconds of processor time, user and system.
        rss: bytes of peak resident memory.
        queued: seconds of `wall` in which its main thread waited for a core that others had.
        status: its exit status.
        output: what it printed.
        note: what else was seen of the run.
    """

    wall: float
    cpu: float
    rss: int
    queued: float
    status: int
    output: str = ""
    note: str = ""


def is_pinned() -> bool:
    """Whether the measured process has a core of its own."""
    return TASKSET is not None and LAST_CORE > 0


def run_measured(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, accept: frozenset[int] = frozenset({0})
) -> Usage:
    """Run a program to its end on the first core.

    Raises:
        RuntimeError: it ended with another status than those accepted.
    """
    read, write = os.pipe()
    launch = [sys.executable, "-I", "-S", str(ROOT / "bench/launch.py"), str(write), *command]
    process = subprocess.Popen(
        [str(TASKSET), "-c", "0", *launch] if is_pinned() else launch,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(write,),
    )
    os.close(write)
    output, _ = process.communicate()
    report = os.read(read, REPORT_BYTES)
    os.close(read)
    if not report:
        raise RuntimeError(f"{command[0]} could not be started:\n{output[-2000:]}")
    usage = Usage(**json.loads(report), output=output)
    if usage.status not in accept:
        raise RuntimeError(f"{command[0]} ended with {usage.status}:\n{output[-2000:]}")
    return usage


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this process, its threads, and what the block starts for as long as it lives, on the first core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def on_last_core() -> Iterator[None]:
    """Start what the block starts on the servers' core."""
    before = os.sched_getaffinity(0)
    if is_pinned():
        os.sched_setaffinity(0, {LAST_CORE})  # children inherit it
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    command: Sequence[str], *, output: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a server beside the block, on the last core."""
    pinned = [str(TASKSET), "-c", str(LAST_CORE), *command] if is_pinned() else list(command)
    settings = {**os.environ, **(environment or {})}
    process = subprocess.Popen(pinned, cwd=ROOT, stdout=output, text=True, env=settings)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def nginx(root: Path, scratch: Path, port: int) -> Iterator[tuple[int, Path]]:
    """Serve a directory as a registry; give the worker's process and the path of the access log."""
    program = nginx_program()
    if program is None:
        raise FileNotFoundError("nginx is not installed (scripts/bench/install tools)")
    scratch.mkdir(parents=True, exist_ok=True)
    # A master that runs as root gives its worker another user, who may not read npm's cache.
    user = "user root;" if os.getuid() == 0 else ""
    settings = scratch / "nginx.conf"
    settings.write_text(NGINX.format(dir=scratch, root=root, port=port, user=user), encoding="utf-8")
    with started([program, "-c", str(settings), "-e", "stderr"]) as process:
        wait_for_port(port)
        yield child_of(process.pid), scratch / "access.log"


def nginx_program() -> str | None:
    """Return the path of nginx."""
    unpacked = ROOT / ".cache/real/nginx/usr/sbin"
    return shutil.which("nginx") or shutil.which("nginx", path=f"/usr/sbin:{unpacked}")


@contextmanager
def delayed(target: int, port: int, *, milliseconds: int) -> Iterator[subprocess.Popen[str]]:
    """Put a front before a server that holds every answer back for a while."""
    command = [sys.executable, "-m", "bench.delay", str(port), str(target), str(milliseconds)]
    with started(command) as process:
        wait_for_port(port)
        yield process


def child_of(pid: int) -> int:
    """Return a process's only child: nginx's worker, which may start after its port listens.

    Raises:
        RuntimeError: it had none in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise RuntimeError(f"process {pid} has no child after {START_SECONDS} s")


def cpu_seconds(pid: int) -> float:
    """Return what a running process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until something listens.

    Raises:
        OSError: nothing did in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
