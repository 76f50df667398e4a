"""The options of ``[feed]``; `mirrorwitness.config.options` says how such a table is written."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mirrorwitness.config.quantities import Count, Seconds
from mirrorwitness.config.table import Table

__all__ = ["Feed"]


class Feed(Table, frozen=True):
    """The replication feed, and how it is followed."""

    url: Annotated[
        str | None,
        Meta(
            description="Address of the registry's replication feed: what answers with update_seq, and below which "
            "_changes lies. Without it nothing is followed, and `sync --once` asks for every selected package.",
            examples=["https://replicate.example/registry"],
        ),
    ] = None
    token_env: Annotated[
        str | None,
        Meta(
            description="Name of the environment variable that holds the feed's access token.",
            examples=["FEED_TOKEN"],
        ),
    ] = None
    page_rows: Annotated[Count, Meta(description="Rows of one request for changes; a feed allows 10,000.")] = Count(
        1000
    )
    idle_least: Annotated[Seconds, Meta(description="Shortest wait when there is nothing new. Seconds.")] = Seconds(5)
    idle_most: Annotated[Seconds, Meta(description="Longest wait when there is nothing new. Seconds.")] = Seconds(30)
    window: Annotated[
        Seconds,
        Meta(description="How far back rows are read again, for rows that appear late. Seconds."),
    ] = Seconds(3 * 3600)
    reread_every: Annotated[Seconds, Meta(description="How often these are read again. Seconds.")] = Seconds(15 * 60)
    sweep_every: Annotated[
        Seconds,
        Meta(
            description="How often all names and revisions are compared with what is stored, which alone finds changes "
            "whose row was lost; 0 never. Seconds."
        ),
    ] = Seconds(7 * 86_400)
    sweep_pace: Annotated[
        Seconds,
        Meta(description="Wait between two pages of 10,000 names of that comparison, which spreads it. Seconds."),
    ] = Seconds(3 * 60)
    owed_for: Annotated[
        Seconds,
        Meta(
            description="How long a revision that was announced and is not shown is asked for, before it is given up "
            "with an alarm. Seconds."
        ),
    ] = Seconds(7 * 86_400)
    confirm_deletion: Annotated[
        Seconds,
        Meta(
            description="How long after the first 404 of a package that the feed calls deleted a second one makes it "
            "so. A 404 alone never does. Seconds."
        ),
    ] = Seconds(3600)
