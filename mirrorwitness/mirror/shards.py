"""Shards: which worker has which package. Pure.

A package belongs to the shard that the SHA-256 of its name says, so shards share nothing but the storage, and the
answer is the same on every machine and in every version of Python.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from mirrorwitness.errors import ConfigurationError

__all__ = ["MAX_SHARDS", "WHOLE", "Shard", "parse_shard"]

MAX_SHARDS: Final = 4096
"""Most shards: one request of the feed's pages goes to each, and 4.4 M packages give each a thousand."""

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,3}")
_SHARD: Final = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `total`, counted from 1."""

    index: int
    total: int

    def __str__(self) -> str:
        return f"{self.index}/{self.total}"

    @property
    def key(self) -> str:
        """Its name in storage keys."""
        return f"{self.index}-of-{self.total}"

    def owns(self, name: str) -> bool:
        """Say whether a package belongs to this shard."""
        return self.total == 1 or _number(name) % self.total == self.index - 1

    def split(self, parts: int) -> tuple[Shard, ...]:
        """Return the shards that `parts` processes have, which together own what this one does."""
        return tuple(Shard(self.index + part * self.total, self.total * parts) for part in range(parts))


WHOLE: Final = Shard(1, 1)
"""All packages."""


def parse_shard(text: str, *, job_index: str | None = None) -> Shard:
    """Read ``I/N``, for example ``2/4``; or ``job/N``, where what starts the jobs counts them.

    Args:
        text: the shard.
        job_index: of an Indexed Job of Kubernetes, counted from 0.

    Raises:
        ConfigurationError: it is not of that form, or not a part of the whole.
    """
    if text.startswith("job/"):
        if job_index is None or not _INDEX.fullmatch(job_index):
            raise ConfigurationError(
                f"shard {text[:50]!r} takes its number from JOB_COMPLETION_INDEX, which an Indexed Job of Kubernetes"
                f" sets: found {job_index!r}, expected a number from 0"
            )
        text = f"{int(job_index) + 1}/{text.removeprefix('job/')}"
    found = _SHARD.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]) or int(found[2]) > MAX_SHARDS:
        raise ConfigurationError(
            f"shard {text[:50]!r}: expected I/N with 1 <= I <= N <= {MAX_SHARDS}, for example 1/4 for the first of four"
        )
    return Shard(int(found[1]), int(found[2]))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
