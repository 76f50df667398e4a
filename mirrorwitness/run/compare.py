"""Compare two mirrors over HTTP by their summaries.

Rules:

- Both descriptions are read first, then only nodes that differ, several at a time and at a polite rate.
- A mirror that replaces its tree meanwhile takes a node away that its older root names: its description is read again
  and the comparison begins anew, at most `TRIES` times. One that names a node and never has it is an error.
- What either mirror says wrongly of itself ends the comparison with an error that names it; there is no result then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ExitCode, UpstreamProtocolError
from mirrorwitness.fetch import FetchOptions, HostGate, make_user_agent, open_fetcher
from mirrorwitness.mirror.peer import Description, NodeGoneError, Peer
from mirrorwitness.mirror.reconcile import Comparison
from mirrorwitness.mirror.summary import Leaf
from mirrorwitness.storage.side_by_side import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.mirror.reconcile import Task
    from mirrorwitness.mirror.summary import Node
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["MirrorComparison", "compare_mirrors"]

TRIES: Final = 3
"""Beginnings; between two of them a mirror has finished a run."""

RANGES_AT_ONCE: Final = 8
"""Ranges looked into at once, each with up to one request to either mirror."""

REQUESTS_PER_SECOND: Final = 100


@dataclass(frozen=True, slots=True)
class MirrorComparison:
    """What a comparison found.

    Attributes:
        peers: the two mirrors, with what was read of each.
        descriptions: what each says of itself.
        found: the differences.
    """

    peers: tuple[Peer, Peer]
    descriptions: tuple[Description, Description]
    found: Comparison

    def exit_code(self) -> ExitCode:
        """Return what the command exits with: only different bytes are a disagreement, coverage is not."""
        return ExitCode.DIVERGENCE if self.found.differing else ExitCode.COMPLETE


async def compare_mirrors(
    a: str, b: str, *, keys: Sequence[VerifierKey], keep: int, told: Callable[[int, int], None]
) -> MirrorComparison:
    """Compare two mirrors.

    Args:
        a: URL of the first.
        b: URL of the second.
        keys: keys of mirrors that are trusted; empty to believe the key that a description names.
        keep: how many differing versions to remember; all are counted.
        told: gets the number of versions accounted for, and of all versions of both, now and then.

    Raises:
        ConfigurationError: a URL is none.
        SecurityError: a mirror contradicts itself, or its signature does not verify.
        UpstreamError: a mirror cannot be reached, or is none with a summary.
    """
    options = FetchOptions(user_agent=make_user_agent(None))
    gate = HostGate(max_in_flight=RANGES_AT_ONCE, max_rate=REQUESTS_PER_SECOND)
    async with open_fetcher(options) as fetcher:
        peers = tuple(Peer(base=url.rstrip("/"), fetcher=fetcher, gate=gate, keys=keys) for url in (a, b))
        descriptions = await _describe(peers)
        for _ in range(TRIES):
            try:
                found = await _walk(peers, descriptions, keep=keep, told=told)
                return MirrorComparison((peers[0], peers[1]), (descriptions[0], descriptions[1]), found)
            except NodeGoneError as error:
                gone = error
            before = [description.root for description in descriptions]
            descriptions = await _describe(peers)
            if [description.root for description in descriptions] == before:
                raise UpstreamProtocolError(
                    f"{gone}, and its description still names this tree; its operator can run: mirrorwitness summarize"
                ) from gone
    raise UpstreamProtocolError(f"the mirrors replaced their summaries {TRIES} times while they were compared")


async def _describe(peers: Sequence[Peer]) -> list[Description]:
    found: dict[Peer, Description] = {}

    async def describe(peer: Peer) -> None:
        found[peer] = await peer.read_description()

    await for_each(peers, describe, at_once=len(peers))
    return [found[peer] for peer in peers]


async def _walk(
    peers: Sequence[Peer], descriptions: Sequence[Description], *, keep: int, told: Callable[[int, int], None]
) -> Comparison:
    one, two = descriptions
    comparison = Comparison(one.root, two.root, keep=keep)

    async def look(task: Task) -> None:
        nodes: dict[int, Node] = {}

        async def read(side: int) -> None:
            known = (task.a, task.b)[side]
            nodes[side] = known if isinstance(known, Leaf) else await peers[side].read_node(task.prefix, known)

        await for_each((0, 1), read, at_once=2)
        comparison.settle(task, nodes[0], nodes[1])
        told(_accounted(comparison), one.root.versions + two.root.versions)

    while comparison.is_waiting:
        await for_each(iter(comparison.take, None), look, at_once=RANGES_AT_ONCE)
    return comparison


def _accounted(found: Comparison) -> int:
    return 2 * (found.same + found.differing) + found.only_a + found.only_b
