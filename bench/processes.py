"""Processes of a benchmark: servers on the last core, the measured one alone on the first, and what it used.

Processor time and peak memory come from the kernel (`os.wait4`), so they hold whatever the process is written in, and
its start-up counts.
"""

from __future__ import annotations

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

__all__ = ["ROOT", "Usage", "free_port", "is_pinned", "nginx", "run_measured", "started", "wait_for_port"]

ROOT: Final = Path(__file__).resolve().parents[1]
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
    location /simple/ {{ autoindex on; default_type application/vnd.pypi.simple.v1+json; }}
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
        output: what it printed.
        status: its exit status.
    """

    wall: float
    cpu: float
    rss: int
    output: str
    status: int


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
    pinned = [str(TASKSET), "-c", "0", *command] if is_pinned() else list(command)
    settings = {**os.environ, **(environment or {})}
    begin = time.perf_counter()
    process = subprocess.Popen(
        pinned, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accept:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{output[-2000:]}")
    return Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output, process.returncode)


@contextmanager
def started(command: Sequence[str], *, output: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a server beside the block, on the last core."""
    pinned = [str(TASKSET), "-c", str(LAST_CORE), *command] if is_pinned() else list(command)
    process = subprocess.Popen(pinned, cwd=ROOT, stdout=output, text=True)
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
def nginx(root: Path, scratch: Path, port: int) -> Iterator[Path]:
    """Serve a directory as a registry; give the path of the access log."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise FileNotFoundError("nginx is not installed (apt-get install nginx-light)")
    scratch.mkdir(parents=True, exist_ok=True)
    # A master that runs as root gives its worker another user, who may not read npm's cache.
    user = "user root;" if os.getuid() == 0 else ""
    settings = scratch / "nginx.conf"
    settings.write_text(NGINX.format(dir=scratch, root=root, port=port, user=user), encoding="utf-8")
    with started([program, "-c", str(settings), "-e", "stderr"]):
        wait_for_port(port)
        yield scratch / "access.log"


@contextmanager
def delayed(target: int, port: int, *, milliseconds: int) -> Iterator[int]:
    """Put a front before a server that holds every answer back for a while; give its port."""
    command = [sys.executable, "-m", "bench.delay", str(port), str(target), str(milliseconds)]
    with started(command):
        wait_for_port(port)
        yield port


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
