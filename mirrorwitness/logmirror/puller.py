"""Puller: fill the copy of a log that does not come to us, from what it serves.

    the log's head -> proven from the pending checkpoint -> pending -> bundles, proven -> stored -> committed, cosigned

Rules:

- The pending checkpoint moves by the same decision as for what logs push, and what is stored and signed goes the same
  way; this module only brings what a log would have brought. SPEC: C2SP tlog-mirror: "A mirror MAY additionally
  implement other update processes".
- A head that is smaller than what we *cosigned* is an alarm. One that is smaller than what is pending is a cache that
  is slow, or a log that pushes as well: nothing is done until it comes up.
- Of a tree whose tiles have the signed root, the root at the pending size is known too. Where that is another one, the
  log has signed two histories: a fork.
- What a crash left unpublished is published again before the log is asked.
- What was stored stays when a poll ends early, and the next one goes on there.

*Concurrency*: one poll of a log at a time; pushes may come meanwhile. *Cancellation*: at any point.

What it does not do: wait, or repeat (`mirrorwitness.run.logmirroring`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import MirrorWitnessError, RolledBackError, SecurityError, UpstreamError
from mirrorwitness.logmirror.cosigner import Overtaken
from mirrorwitness.logmirror.decision import Pending
from mirrorwitness.logmirror.protocol import bundle_start
from mirrorwitness.logmirror.reading import BUNDLES_AT_ONCE, TreeReader
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.merkle import Range, complete_ranges, make_proof, nodes_needed, plan_consistency, subtree_hash
from mirrorwitness.tlog.tiles import TILE_WIDTH
from mirrorwitness.witness.feeder import Action, Polled
from mirrorwitness.witness.protocol import AddCheckpoint, Answer, Reason
from mirrorwitness.witness.records import format_cosigned
from mirrorwitness.witness.service import Fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.logmirror.decision import Known
    from mirrorwitness.logmirror.service import LogMirror
    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.witness.logs import WitnessedLog

__all__ = ["Puller"]

SETTLE_EVERY: Final = 8
"""Rounds of `BUNDLES_AT_ONCE` bundles after which is remembered how far the copy goes: 32,768 entries."""

_ENDINGS: Final[tuple[tuple[type[MirrorWitnessError], Action], ...]] = (
    (RolledBackError, Action.ROLLED_BACK),
    (SecurityError, Action.UNVERIFIED),
    (UpstreamError, Action.UNREAD),
)
"""The one table from error to what became of a poll; first match wins, and all others are `Action.REFUSED`."""

_REFUSALS: Final = {
    Reason.NOT_SIGNED: Action.UNVERIFIED,
    Reason.EMPTY_ROOT: Action.UNVERIFIED,
    Reason.OTHER_ROOT: Action.FORKED,
    Reason.ROLLED_BACK: Action.ROLLED_BACK,
}


class Puller:
    """Fills the copy of one log.

    Args:
        mirror: keeps and signs; it knows the log.
        log: the log.
        source: reads it.
        refresh: seconds after which an unchanged head is cosigned again.
        now: seconds since 1970.
        on_fork: told of a fork that shows in the log's tiles, once for each head; must not fail.
    """

    def __init__(
        self,
        *,
        mirror: LogMirror,
        log: WitnessedLog,
        source: LogSource,
        refresh: float,
        now: Callable[[], float],
        on_fork: Callable[[Fork], Awaitable[None]],
    ) -> None:
        self.log = log
        self._mirror = mirror
        self._source = source
        self._refresh = refresh
        self._now = now
        self._on_fork = on_fork
        self._size: int | None = None
        self._forked: bytes = b""

    def __repr__(self) -> str:
        return f"<Puller of {self._source!r}, size {self._size}>"

    async def poll(self) -> Polled:
        """Read the head once, and bring the copy up to it.

        *Errors*: none but bugs; what went wrong is in the result.
        """
        try:
            return await self._poll()
        except MirrorWitnessError as error:
            action = next((action for kind, action in _ENDINGS if isinstance(error, kind)), Action.REFUSED)
            return self.end(action, str(error))

    def end(self, action: Action, text: str = "") -> Polled:
        """Return the result of a poll that changed nothing."""
        return Polled(self.log.origin, action, self._size, self._size, text)

    async def _poll(self) -> Polled:
        _, known = await self._mirror.know(self.log, anew=True)
        await self._mirror.publish_again(self.log)
        self._size = 0 if known.mirror is None else known.mirror.size
        head = open_checkpoint(await self._source.read_head(), self.log.keys, origin=self.log.origin)
        tree = head.checkpoint
        if tree.size < self._size:
            return self.end(
                Action.OLDER_HEAD, f"the log shows an older head: size {tree.size}, and {self._size} was cosigned"
            )
        if tree.size < known.latest.size:
            return self.end(
                Action.BEHIND, f"the log shows size {tree.size}, and {known.latest.size} is pending: wait for its cache"
            )
        is_same = known.mirror is not None and (known.mirror.size, known.mirror.root) == (tree.size, tree.root)
        if is_same and self._now() - await self._mirror.signed_at(self.log) < self._refresh:
            return self.end(Action.UNCHANGED)
        reader = TreeReader(self._source, tree)
        refused = await self._move(head, known, reader)
        if refused is not None:
            return refused
        await self._fill(reader, tree.size)
        return await self._commit(head, is_same=is_same)

    async def _move(self, head: OpenedCheckpoint, known: Known, reader: TreeReader) -> Polled | None:
        """Make a head the pending checkpoint; the result of the poll where that is refused."""
        tree, latest = head.checkpoint, known.latest
        if known.current is not None and (latest.size, latest.root) == (tree.size, tree.root):
            return None
        if self._forked == head.note.text:
            return self.end(Action.FORKED, "the log still shows the head of its fork")
        plan = plan_consistency(latest.size, tree.size)
        hashes = await reader.hashes([*nodes_needed(plan), *complete_ranges(0, latest.size if plan else 0)])
        proof = make_proof(plan, hashes.hash_of)
        given = await self._mirror.submit(AddCheckpoint(latest.size, tuple(proof), head.note, tree))
        if given.reason is None:
            return None
        if plan and known.current is not None:
            before = subtree_hash(Range(0, latest.size), hashes.hash_of)
            if given.reason is Reason.PROOF and before != latest.root:
                self._forked = head.note.text
                await self._on_fork(Fork(self.log.origin, known.current.note, head.format(), (before, *proof)))
                return self.end(Action.FORKED, f"the log signed two trees of {latest.size} entries")
        return self._refuse(given)

    def _refuse(self, given: Answer) -> Polled:
        action = _REFUSALS.get(given.reason, Action.REFUSED) if given.reason else Action.REFUSED
        return self.end(action, given.body.decode("utf-8", "replace").strip())

    async def _fill(self, reader: TreeReader, size: int) -> None:
        rounds = 0
        stored = self._mirror.copy_of(self.log).size
        while stored < size:
            start = bundle_start(stored)
            end = min(size, start + BUNDLES_AT_ONCE * TILE_WIDTH)
            stored = await self._mirror.store(self.log, start, await reader.read_bundles(start, end))
            rounds += 1
            if not rounds % SETTLE_EVERY:
                await self._mirror.settle(self.log)

    async def _commit(self, head: OpenedCheckpoint, *, is_same: bool) -> Polled:
        tree = head.checkpoint
        pending = Pending(tree.size, tree.root, format_cosigned(head, ()))
        done = await self._mirror.finish(self.log, pending)
        if isinstance(done, Overtaken):
            return self.end(Action.REFUSED, f"a larger tree, of size {done.latest.size}, was cosigned meanwhile")
        return Polled(self.log.origin, Action.REFRESHED if is_same else Action.COSIGNED, self._size, tree.size)
