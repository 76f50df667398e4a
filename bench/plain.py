"""The plain pipeline that mirrorwitness is measured against: pooled httpx and boto3 in threads, as one would write it.

    python -m bench.plain REGISTRY NAMES_FILE IN_FLIGHT (DIRECTORY | ENDPOINT BUCKET)

Per package: GET the packument, parse it, GET each tarball and check its SHA-512, PUT the tarballs, PUT the packument.
It keeps no records, checks no signatures and writes no second document, so it does less than mirrorwitness.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import httpx
import orjson
import trio
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def copy(
    client: httpx.AsyncClient, base: str, names: list[str], in_flight: int, put: Callable[[str, bytes], object]
) -> None:
    """Copy all packages, `in_flight` tarballs at a time."""
    limiter = trio.CapacityLimiter(in_flight)
    threads = trio.CapacityLimiter(in_flight)

    async def tarball(key: str, dist: dict[str, str]) -> None:
        async with limiter:
            digest = hashlib.sha512()
            pieces: list[bytes] = []
            async with client.stream("GET", dist["tarball"]) as response:
                response.raise_for_status()
                async for piece in response.aiter_bytes():
                    digest.update(piece)
                    pieces.append(piece)
            assert "sha512-" + base64.b64encode(digest.digest()).decode() == dist["integrity"]
            await trio.to_thread.run_sync(put, key, b"".join(pieces), limiter=threads)

    async def package(name: str) -> None:
        response = await client.get(f"{base}/{quote(name, safe='@')}")
        response.raise_for_status()
        document: dict[str, Any] = orjson.loads(response.content)
        async with trio.open_nursery() as nursery:
            for manifest in document["versions"].values():
                dist = manifest["dist"]
                file = dist["tarball"].rpartition("/")[2]
                nursery.start_soon(tarball, f"npm/{name}/-/{file}", dist)
        body = orjson.dumps(document)
        await trio.to_thread.run_sync(put, f"npm/{name}/packument.json", body, limiter=threads)

    async def worker(left: Iterator[str]) -> None:
        for name in left:
            await package(name)

    left = iter(names)
    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(worker, left)


async def main(base: str, names: list[str], in_flight: int, put: Callable[[str, bytes], object]) -> None:
    """Run it."""
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=60) as client:
        await copy(client, base, names, in_flight, put)


def make_put(target: list[str], in_flight: int) -> Callable[[str, bytes], object]:
    """Return what stores one object: in a directory, or with boto3 in a bucket."""
    if len(target) == 1:
        root = Path(target[0])

        def write(key: str, body: bytes) -> None:
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

        return write
    endpoint, bucket = target
    settings = Config(max_pool_connections=in_flight, s3={"addressing_style": "path"}, region_name="us-east-1")
    client = boto3.client("s3", endpoint_url=endpoint, config=settings)
    return lambda key, body: client.put_object(Bucket=bucket, Key=key, Body=body)


if __name__ == "__main__":
    registry, names_file, count, *where = sys.argv[1:]
    packages = Path(names_file).read_text(encoding="utf-8").split()
    trio.run(main, registry, packages, int(count), make_put(where, int(count)))
