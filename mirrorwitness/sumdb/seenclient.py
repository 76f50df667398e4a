"""SeenClient: ask a witness over HTTP what it saw of a log.

    GET <url>/<hex SHA-256 of the origin>/checkpoint

What comes back is somebody's bytes; the log's own signature on it is what counts.

SPEC: C2SP tlog-witness, the monitoring prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.sumdb.served import TRIES, Served
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    from mirrorwitness.fetch import Backoff, Fetcher, HostGate

__all__ = ["SeenClient"]


class SeenClient:
    """Asks one witness. A `mirrorwitness.sumdb.monitor.WitnessView`.

    Args:
        url: its monitoring prefix.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        tries: repetition.

    Raises:
        ConfigurationError: the URL is none that can be asked.
    """

    def __init__(self, *, url: str, fetcher: Fetcher, gate: HostGate, tries: Backoff = TRIES) -> None:
        self._served = Served(url=url, owner="--witness", fetcher=fetcher, gate=gate, tries=tries)
        self.url = self._served.base

    def __repr__(self) -> str:
        return f"<SeenClient at {self.url}>"

    async def read_seen(self, origin: str) -> bytes:
        """Return the newest checkpoint of a log that the witness cosigned, as it is.

        Raises:
            UpstreamError: it cannot be had.
        """
        return await self._served.get(f"{origin_hash(origin)}/checkpoint", MAX_NOTE_BYTES)
