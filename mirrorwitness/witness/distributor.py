"""Distributor: tell others what was cosigned, over HTTP.

Rules:

- A distributor gets the log's line and ours on a checkpoint that we cosigned. What it answers changes nothing here.
- Putting the same checkpoint again changes nothing; a redirect is not followed.

SPEC: transparency-dev/distributor ``api/http.go``, July 2026.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrorwitness.fetch import Session, make_policy, make_status_error, origin_of
from mirrorwitness.sumdb.logclient import TRIES, check_base

if TYPE_CHECKING:
    from mirrorwitness.fetch import Backoff, Fetcher, HostGate

__all__ = ["Distributor", "distributor_path"]

_SUCCESS: Final = range(200, 300)
_SHOWN: Final = 300


class Distributor:
    """Tells one distributor of checkpoints what was cosigned. May be used by several tasks at once.

    Args:
        url: what comes before ``/distributor/v0``.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        tries: repetition; putting the same checkpoint again changes nothing.

    Raises:
        ConfigurationError: the URL is none.
    """

    def __init__(self, *, url: str, fetcher: Fetcher, gate: HostGate, tries: Backoff = TRIES) -> None:
        self.base = check_base(url, "distributor")
        self._fetcher = fetcher
        self._gate = gate
        self._session = Session(fetcher=fetcher, gate=gate, policy=make_policy(self.base), home=self.base, tries=tries)

    def __repr__(self) -> str:
        return f"<Distributor {self.base}>"

    async def put(self, checkpoint: bytes, *, origin: str, name: str) -> None:
        """Give it a checkpoint.

        Args:
            checkpoint: the note, with the log's line and that of the witness.
            origin: the log.
            name: of the witness's key.

        Raises:
            UpstreamError: it cannot be reached, or does not take it. A redirect is not followed.
        """
        url = f"{self.base}{distributor_path(origin, name)}"
        headers = {"content-type": "text/plain; charset=utf-8"}

        async def once() -> None:
            async with (
                self._gate.slot(origin_of(url)) as slot,
                self._fetcher.request("PUT", url, headers=headers, body=checkpoint) as response,
            ):
                slot.status = status = response.status
            if status not in _SUCCESS:
                raise make_status_error(status, f"PUT {url[:_SHOWN]}: status {status}")

        await self._session.repeat(once)


def distributor_path(origin: str, name: str) -> str:
    """Return where a distributor takes the checkpoint of a log that a witness cosigned.

    SPEC: transparency-dev/distributor ``api/http.go``, July 2026. The log's ID is that of transparency-dev/formats and
    not that of the witness protocol: a prefix is hashed with the origin.
    """
    digest = hashlib.sha256(f"o:{origin}".encode()).hexdigest()
    return f"/distributor/v0/logs/{digest}/byWitness/{quote(name, safe='')}/checkpoint"
