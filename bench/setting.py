"""What the mirror's benchmark runs in: a registry, two S3 servers, fronts with latency, and our own command.

- The registry is nginx with static files, and the same once more behind a front with latency.
- SeaweedFS is the real S3 server of the tests; on one core with nginx it takes 150 to 300 tarballs a second, less than
  the measured programs can send, so only processor time is compared over it.
- `bench.sink`, an S3 service in memory that costs next to nothing and has latency built in, is what rows use whose
  *wall* time is judged. (``rclone serve s3`` takes as many, but answers some puts with an error: it renames into
  directories that a request beside it is just making.)
- The registry's latency is a front in a process of its own (`bench.delay`).
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3

from bench.corpus import find_tarballs, lay_out, lay_out_as_pypi
from bench.processes import (
    MB,
    ROOT,
    Usage,
    cpu_seconds,
    delayed,
    free_port,
    is_pinned,
    nginx,
    on_last_core,
    started,
    wait_for_port,
)
from tests.real.servers import NotInstalledError, S3Server, seaweedfs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from bench.corpus import Corpus

__all__ = [
    "LATENCY_MS",
    "Setting",
    "Sink",
    "environment",
    "mirror_command",
    "new_bucket",
    "open_setting",
    "start_seaweedfs",
]

LATENCY_MS: Final = 40
SINK_KEYS: Final = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "loopback-only"}
"""The sink looks at no signature; ours are made all the same."""


@dataclass(frozen=True, slots=True)
class Sink:
    """The S3 service in memory (`bench.sink`), directly and with latency.

    Attributes:
        port: where it listens.
        slow_port: where it listens and answers late.
        slow_base: the registry behind a front.
        slow_log: access log of that registry.
        pids: sink, the registry and its front, whose processor time tells how busy their core is.
    """

    port: int
    slow_port: int
    slow_base: str
    slow_log: Path
    pids: tuple[int, ...]

    def address(self, bucket: str, *, slow: bool) -> str:
        """Return the storage address of a bucket."""
        port = self.slow_port if slow else self.port
        return f"s3://{bucket}?endpoint=http://127.0.0.1:{port}&region=us-east-1"

    def cpu_seconds(self) -> float:
        """Return what sink, fronts and registry have used so far."""
        return sum(cpu_seconds(pid) for pid in self.pids)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a benchmark runs in.

    Attributes:
        scratch: a directory of its own.
        corpus: what is served.
        projects: the same, as bandersnatch names them.
        base: the registry.
        log: nginx's access log.
        server: SeaweedFS, or None.
        sink: the fast S3 server, or None.
        results: usages by row.
    """

    scratch: Path
    corpus: Corpus
    projects: Sequence[str]
    base: str
    log: Path
    server: S3Server | None
    sink: Sink | None
    results: dict[str, list[Usage]] = field(default_factory=dict)

    def new_directory(self) -> Path:
        """Make a directory that stays until the end.

        ext4 gives no inode out again for a minute after it was freed, and looks for another one by one, so a run after
        a large removal would pay three times its own system time.
        """
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def new_bucket(self) -> str:
        """Make a bucket in SeaweedFS."""
        assert self.server is not None
        return new_bucket(self.server)


def environment(
    keys: dict[str, str] | None = None, *, in_flight: int = 32, packages: int | None = None, connections: int = 0
) -> dict[str, str]:
    """Return the settings of a run: no politeness towards ourselves, and the wanted concurrency."""
    settings = {
        "MIRRORWITNESS_LIMITS_REQUESTS_PER_SECOND": "0",
        "MIRRORWITNESS_LIMITS_CONCURRENCY": str(in_flight),
        "MIRRORWITNESS_LIMITS_CONNECTIONS": str(connections or in_flight),
        "MIRRORWITNESS_LIMITS_PACKAGES": str(packages or max(32, in_flight // 2)),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    return {**settings, **(keys or {})}


def mirror_command(names: Sequence[str], *, base: str, storage: str) -> list[str]:
    """Return the command of one run."""
    python = [sys.executable, "-m", "mirrorwitness", "sync", "--once", "--json", "--signatures", "require"]
    return [*python, "--registry", base, "--storage", storage, *names]


def open_setting(stack: ExitStack, *, packages: int, versions: int, only: str | None) -> Setting:
    """Lay out the corpus and start the servers; `stack` stops them."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirrorwitness-bench-")))
    tarballs, is_real = find_tarballs(scratch / "made-up", most=packages * versions)
    port, slow = free_port(), free_port()
    base, slow_base = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{slow}"
    corpus = lay_out(scratch / "www", tarballs, base=base, packages=packages, versions=versions)
    lay_out(scratch / "slow", tarballs, base=slow_base, packages=packages, versions=versions)
    projects = lay_out_as_pypi(scratch / "www", corpus, base=base)
    log = stack.enter_context(nginx(scratch / "www", scratch / "nginx", port))[1]
    kind = "real tarballs" if is_real else "made-up bodies (no npm cache was found)"
    print(
        f"{len(corpus.files):,} tarballs of {len(corpus.names):,} packages, {corpus.size / MB:,.0f} MB: {corpus.unique:,}"
        f" different {kind}; {'a core each' if is_pinned() else 'cores shared'} for the measured process and the servers"
    )
    (scratch / "names").write_text("\n".join(corpus.names), encoding="utf-8")
    (scratch / "files").write_text("\n".join(corpus.files), encoding="utf-8")
    (scratch / "none").write_text("", encoding="utf-8")
    server = start_seaweedfs(stack) if only in {None, "s3"} else None
    sink = _start_sink(stack, scratch, slow) if only in {None, "wall"} else None
    return Setting(scratch, corpus, projects, base, log, server, sink)


def new_bucket(server: S3Server) -> str:
    """Make a bucket and return its name."""
    name = f"bench-{secrets.token_hex(6)}"
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


def start_seaweedfs(stack: ExitStack) -> S3Server | None:
    """Start the real S3 server, or say why not."""
    try:
        with on_last_core():
            return stack.enter_context(seaweedfs())
    except NotInstalledError as error:
        print(f"skipped: S3, {error}")
        return None


def _start_sink(stack: ExitStack, scratch: Path, slow: int) -> Sink:
    registry, port, slow_port = (free_port() for _ in range(3))
    latency = str(LATENCY_MS)
    sink = stack.enter_context(started([sys.executable, "-m", "bench.sink", str(port), str(slow_port), latency]))
    worker, log = stack.enter_context(nginx(scratch / "slow", scratch / "nginx-slow", registry))
    front = stack.enter_context(delayed(registry, slow, milliseconds=LATENCY_MS))
    wait_for_port(port)
    return Sink(port, slow_port, f"http://127.0.0.1:{slow}", log, (sink.pid, front.pid, worker))
