"""The commands of what mirrorwitness is measured beside, and what each of them does with the same bytes.

- ``plain``: pooled httpx and boto3 in threads (`bench.plain`): checks SHA-512, no signatures, keeps no records.
- rclone: copies the tarballs alone, checks nothing, writes no documents.
- bandersnatch: PyPI's mirror, over the same files under PyPI's paths: checks SHA-256, no signatures; writes three small
  index pages for each project. Its code refuses more than `BANDERSNATCH_WORKERS` workers, and each has one file in
  flight. It has no sink for S3 but OpenStack Swift's.

None of them waits for the disk (fsync).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from bench.processes import PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.real.servers import S3Server

__all__ = ["bandersnatch", "plain", "rclone", "rclone_environment"]

BANDERSNATCH_WORKERS: Final = 10
"""Its maximum: with more it says "Downloading with more than 10 workers is not allowed"."""

BANDERSNATCH: Final = """
[mirror]
directory = {directory}
master = {base}
allow-non-https = true
api-method = simple
json = false
timeout = 60
workers = {workers}
[plugins]
enabled =
    allowlist_project
[allowlist]
packages =
{packages}
"""


def plain(base: str, names: Path, in_flight: int, *target: str) -> list[str]:
    """Return the command of the plain pipeline, into a directory or into an endpoint and a bucket."""
    return [sys.executable, "-m", "bench.plain", base, str(names), str(in_flight), *target]


def rclone(base: str, files: Path, in_flight: int, target: str) -> list[str] | None:
    """Return rclone's command, or None where it is not installed."""
    program = PEERS / "rclone"
    if not program.exists():
        return None
    flags = ["--transfers", str(in_flight), "--checkers", str(in_flight)]
    flags += ["--no-traverse", "--http-no-head", "--retries", "1", "--config", ""]
    return [str(program), "copy", *flags, "--files-from-raw", str(files), "--http-url", base, ":http:", target]


def rclone_environment(server: S3Server) -> dict[str, str]:
    """Return how rclone reaches an S3 server."""
    return {
        **server.environment(),
        "RCLONE_S3_ENDPOINT": server.endpoint,
        "RCLONE_S3_PROVIDER": "SeaweedFS",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_REGION": server.region,
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }


def bandersnatch(base: str, projects: Sequence[str], directory: Path) -> list[str] | None:
    """Return bandersnatch's command with its settings written, or None where it is not installed."""
    program = PEERS / "bandersnatch"
    if not program.exists():
        return None
    listed = "\n".join(f"    {project}" for project in projects)
    text = BANDERSNATCH.format(directory=directory, base=base, workers=BANDERSNATCH_WORKERS, packages=listed)
    settings = directory / "bandersnatch.conf"
    settings.write_text(text, encoding="utf-8")
    return [str(program), "--config", str(settings), "mirror"]
