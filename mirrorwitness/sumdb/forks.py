"""Forks: what becomes of a log that signed two histories: evidence, an error, and no further question.

Rules:

- The evidence is kept before anything is raised. Where it cannot be kept, the error is raised all the same: a full disk
  must not make a fork look like a fault of the storage.
- A fork is remembered: while its evidence lies in the store, nothing that the log says is believed, also where it shows
  the first history again. Removing the file is how a person says that it was dealt with.
- Only evidence counts that holds by itself: two checkpoints that contradict each other, both signed by keys that are
  trusted now. So nobody can stop a client by writing a file.
- Two checkpoints of one size and two roots are a fork wherever they turn up: in a cache, in a bundle, beside a tarball.

What it does not do: compare trees of different sizes (`mirrorwitness.sumdb.comparison`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mirrorwitness.errors import ConfigurationError, ForkError, SecurityError, StorageError, UpstreamProtocolError
from mirrorwitness.npm.times import format_time
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint
from mirrorwitness.tlog.evidence import check_evidence, make_evidence, parse_evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import TrustStore
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["Signed", "check_known_forks", "find_fork_of_one_size", "make_fork_error"]

Signed: TypeAlias = tuple[bytes, Checkpoint]
"""A checkpoint as the log signed it, and the tree in it."""


def find_fork_of_one_size(signed: Iterable[Signed]) -> tuple[Signed, Signed] | None:
    """Return two checkpoints of one size and different roots; None where there are none. All are of one log."""
    first: dict[int, Signed] = {}
    for item in signed:
        known = first.setdefault(item[1].size, item)
        if known[1].root != item[1].root:
            return known, item
    return None


async def make_fork_error(
    trust: TrustStore, terms: Terms, older: Signed, newer: Signed, *, proof: Sequence[Hash], now: datetime
) -> ForkError:
    """Keep the evidence of a fork, and return the error that names it.

    Args:
        trust: where it is kept.
        terms: whose word counted about the log.
        older: the checkpoint of the smaller tree, or of one of the same size.
        newer: the other one.
        proof: the hashes that show it, as `mirrorwitness.tlog.evidence` keeps them; none for trees of one size.
        now: when it was seen.
    """
    evidence = make_evidence(
        log_keys=terms.keys,
        witness_keys=[witness.key for witness in terms.policy.witnesses],
        origin=terms.origin,
        ours=older[0],
        theirs=newer[0],
        proof=proof,
        seen=format_time(now),
    )
    try:
        place = await trust.keep_evidence(terms.origin, evidence)
    except StorageError as error:
        kept = f"The evidence could not be kept ({error}): both checkpoints are needed, run this again where it can be"
    else:
        kept = (
            f"The evidence is {place}; `mirrorwitness witness evidence FILE` checks it for anybody. Give it to the "
            "log's operator and its witnesses"
        )
    return ForkError(
        f"the log {terms.origin!r} signed two histories: size {older[1].size} with root {older[1].root.hex()}, and "
        f"size {newer[1].size} with root {newer[1].root.hex()}, do not belong together. Nothing that it says can be "
        f"believed. {kept}"
    )


async def check_known_forks(trust: TrustStore, terms: Terms) -> None:
    """Check that no evidence is kept that the log signed two histories.

    Raises:
        ForkError: there is some.
        StorageError: the storage failed.
    """
    for place, body in await trust.read_evidence(terms.origin):
        if _is_fork(body, terms):
            raise ForkError(
                f"the log {terms.origin!r} signed two histories, as {place} shows; `mirrorwitness witness evidence "
                "FILE` checks it. Nothing that it says is believed while this file is there: ask its operator and its "
                "witnesses, and remove it once you know what happened"
            )


def _is_fork(body: bytes, terms: Terms) -> bool:
    """Say whether a file shows that keys which are trusted now signed two histories."""
    try:
        file = parse_evidence(body)
        check_evidence(file)
        for note in (file.ours, file.theirs):
            open_checkpoint(note.encode(), terms.keys, origin=terms.origin)
    except (UpstreamProtocolError, SecurityError, ConfigurationError, UnicodeEncodeError):
        return False
    return True
