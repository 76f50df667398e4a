"""The options of ``[limits]``; `mirrorwitness.config.options` says how such a table is written."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from mirrorwitness.config.quantities import ByteCount, ByteRate, Count, Seconds
from mirrorwitness.config.table import Table

__all__ = ["Limits"]

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB


class Limits(Table, frozen=True):
    """Bounds on what a run takes, from upstream and from this machine."""

    concurrency: Annotated[Count, Meta(description="Tarballs in flight at once, over all packages.")] = Count(64)
    packages: Annotated[Count, Meta(description="Packages worked on at once.")] = Count(32)
    connections: Annotated[Count, Meta(description="Connections to one host.")] = Count(64)
    requests_per_second: Annotated[
        Count,
        Meta(
            description="Requests to one host in a second, divided among the N of --processes N and --shard I/N; 0 sets"
            " no limit."
        ),
    ] = Count(100)
    requests_per_month: Annotated[
        Count,
        Meta(
            description="Requests to the registry and its feed in a calendar month (UTC), of all runs, shards and "
            "processes over this storage together; 0 keeps no budget. The public registry's terms call 5,000,000 "
            "unreasonable under any circumstances."
        ),
    ] = Count(4_500_000)
    retries: Annotated[Count, Meta(description="How often a failed request is tried again.")] = Count(5)
    connect_timeout: Annotated[Seconds, Meta(description="Name resolution, TCP and TLS together. Seconds.")] = Seconds(
        15
    )
    head_timeout: Annotated[Seconds, Meta(description="From the request to the head of the answer. Seconds.")] = (
        Seconds(60)
    )
    body_grace: Annotated[Seconds, Meta(description="What every body may take, however short. Seconds.")] = Seconds(30)
    min_rate: Annotated[ByteRate, Meta(description="A body that arrives slower is given up. Bytes per second.")] = (
        ByteRate(16 * _KIB)
    )
    retry_after_max: Annotated[
        Seconds, Meta(description="Longest pause that a Retry-After of a host can ask for. Seconds.")
    ] = Seconds(300)
    source_dropped_for: Annotated[
        Seconds,
        Meta(
            description="How long a peer or fallback that sent wrong bytes is not asked any more; 0 until "
            "`mirrorwitness release URL`. Seconds."
        ),
    ] = Seconds(7 * 86_400)
    packument_max: Annotated[
        ByteCount, Meta(description="Largest packument, decompressed; the registry's own limit is 100 MB. Bytes.")
    ] = ByteCount(128 * _MIB)
    tarball_max: Annotated[ByteCount, Meta(description="Largest tarball. Bytes.")] = ByteCount(2 * _GIB)
    spool_memory: Annotated[
        ByteCount, Meta(description="Tarballs held in memory at once; what exceeds it goes to disk. Bytes.")
    ] = ByteCount(32 * _MIB)
