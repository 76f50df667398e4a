"""Peak memory of a sync against the number of packages, and against the size of the largest tarball.

    python -m bench memory [--few 1000] [--many 10000] [--large 500] [--only file|s3]

The packages are made up, one version each with a tarball of a few hundred bytes, and verified like any other; the large
tarball is random bytes with a true digest. Both go into ``file:`` and into SeaweedFS. Peaks come from the kernel.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.corpus import Tarball, lay_out
from bench.goals import format_goal
from bench.processes import MB, Usage, free_port, nginx, run_measured
from bench.setting import environment, mirror_command, new_bucket, start_seaweedfs
from tests.fakes.registry_build import integrity_of, shasum_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.real.servers import S3Server

__all__ = ["main"]

TINY_BYTES: Final = 400
GOAL_GROWTH: Final = 1.2
GOAL_LARGE: Final = 150
PIECE: Final = 1 << 20
GLOBS: Final = ("bench-package-*", "@bench/package-*")


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--few", type=int, default=1000, help="packages of the small mirror")
    parser.add_argument("--many", type=int, default=10_000, help="packages of the large mirror")
    parser.add_argument("--large", type=int, default=500, help="MB of the large tarball")
    parser.add_argument("--only", choices=("file", "s3"))
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirrorwitness-bench-")))
        server = start_seaweedfs(stack) if options.only != "file" else None
        kinds = [kind for kind in ("file", "s3") if options.only in {None, kind} and (kind == "file" or server)]
        peaks: dict[tuple[str, str], int] = {}
        for what, names, base in _registries(stack, scratch, options):
            for kind in kinds:
                usage = _measure(names, base, scratch, server if kind == "s3" else None)
                peaks[what, kind] = usage.rss
                times = f"{usage.wall:>8.1f} s{usage.cpu:>8.1f} s CPU"
                print(f"{kind + ':':<6}{what:<20}{usage.rss / MB:>6.0f} MB peak{times}", flush=True)
    for kind in kinds:
        few, many = (peaks[f"{count:,} packages", kind] for count in (options.few, options.many))
        text = f"{kind}: peak with {options.many:,} packages / {options.few:,}"
        print(format_goal(text, many / few, GOAL_GROWTH))
        large = peaks[f"{options.large} MB tarball", kind]
        print(format_goal(f"{kind}: peak with a tarball of {options.large} MB, in MB", large / MB, GOAL_LARGE))
    return 0


def _registries(
    stack: ExitStack, scratch: Path, options: argparse.Namespace
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Serve three registries, one after another: what it is, its packages, where."""
    large = _make(scratch / "large.tgz", options.large * MB)
    yield (f"{options.large} MB tarball", *_serve(stack, scratch / "www-large", [large], 1))
    for count in (options.few, options.many):
        tiny = [_make(scratch / f"tiny-{number}.tgz", TINY_BYTES + number) for number in range(8)]
        yield (f"{count:,} packages", *_serve(stack, scratch / f"www-{count}", tiny, count))


def _serve(stack: ExitStack, root: Path, tarballs: list[Tarball], packages: int) -> tuple[tuple[str, ...], str]:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    corpus = lay_out(root, tarballs, base=base, packages=packages, versions=1)
    stack.enter_context(nginx(root, root.with_name(f"{root.name}-nginx"), port))
    return corpus.names, base


def _make(path: Path, size: int) -> Tarball:
    """Write a file of random bytes."""
    if size <= PIECE:
        body = os.urandom(size)
        path.write_bytes(body)
        return Tarball(path, size, integrity_of(body), shasum_of(body), {"description": "made up"}, "made up")
    sha512, sha1 = hashlib.sha512(), hashlib.sha1(usedforsecurity=False)
    with path.open("wb") as file:
        for _ in range(size // PIECE):
            piece = os.urandom(PIECE)
            sha512.update(piece)
            sha1.update(piece)
            file.write(piece)
    integrity = "sha512-" + base64.b64encode(sha512.digest()).decode()
    return Tarball(path, path.stat().st_size, integrity, sha1.hexdigest(), {"description": "made up"}, "made up")


def _measure(names: Sequence[str], base: str, scratch: Path, server: S3Server | None) -> Usage:
    if server is None:
        storage = f"file:{tempfile.mkdtemp(dir=scratch)}/mirror?fsync=off"
    else:
        storage = server.address(new_bucket(server))
    settings = environment(server.environment() if server else None, in_flight=64)
    if len(names) == 1:
        return run_measured(mirror_command(names, base=base, storage=storage), environment=settings)
    # Globs over a list of names, as an operator of many packages would have, not a long command line.
    listed = scratch / "names"
    listed.write_text("\n".join(names), encoding="utf-8")
    command = mirror_command(GLOBS, base=base, storage=storage)
    return run_measured([*command, "--names-from", str(listed)], environment=settings)
