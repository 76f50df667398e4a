"""LookupClient: look versions up in a checksum database over HTTP.

Rules:

- A version is asked for at the size of a tree that the caller has verified already, so no answer has a checkpoint and
  every one may come out of a cache.
- 409 is an answer too: a version in conflict is shown by its record, which is proven like any other.
- A version that cannot be logged is not asked for.

What it does not do: read or verify answers (`mirrorwitness.sumdb.found`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamNotFoundError
from mirrorwitness.fetch import MAX_PAUSE
from mirrorwitness.sumdb.lookups import MAX_LOOKUP_BYTES, lookup_path
from mirrorwitness.sumdb.records import is_recorded_version
from mirrorwitness.sumdb.served import TRIES, Served

if TYPE_CHECKING:
    from mirrorwitness.fetch import Backoff, Fetcher, HostGate
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.served import Traffic

__all__ = ["LookupClient"]

_ANSWERS: Final = frozenset({200, 409})
_SHOWN: Final = 100


class LookupClient:
    """Asks one checksum database. May be used by several tasks at once.

    Args:
        url: where it serves, with or without a slash at the end.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        tries: repetition.
        max_pause: longest pause in seconds that it can ask for with 429 or 503.

    Raises:
        ConfigurationError: the URL is none that a log can be read at.
    """

    def __init__(
        self,
        *,
        url: str,
        fetcher: Fetcher,
        gate: HostGate,
        tries: Backoff = TRIES,
        max_pause: float = MAX_PAUSE,
    ) -> None:
        self._served = Served(url=url, owner="--sumdb", fetcher=fetcher, gate=gate, tries=tries, max_pause=max_pause)

    def __repr__(self) -> str:
        return f"<LookupClient at {self._served.base}>"

    @property
    def traffic(self) -> Traffic:
        """What was read so far."""
        return self._served.traffic

    async def read_lookup(self, name: PackageName, version: Version, *, size: int) -> bytes:
        """Return the answer for one version in the tree of a size, as it came.

        Raises:
            UpstreamNotFoundError: the log has no record of it; the message says why.
            UpstreamError: nobody can say.
        """
        if not is_recorded_version(version):
            raise UpstreamNotFoundError(f"{name}@{version[:_SHOWN]!a}: no log has a record of such a version")
        path = lookup_path(name, version, size=size)
        try:
            return await self._served.ask(path, MAX_LOOKUP_BYTES, _ANSWERS)
        except UpstreamNotFoundError as error:
            said = str(error)
            if said.startswith(f"{name}@{version} "):
                raise  # the log names the version itself
            raise UpstreamNotFoundError(f"{name}@{version}: {said}") from error
