"""Uploader: bring a log to a log mirror, as its log, or anybody who can read it, may do.

    add-checkpoint until the mirror has our head pending -> add-entries until it answers with its lines

Rules:

- The mirror says where to go on: its 409 and 202 name a size, the next entry and a ticket, and the next request begins
  there. Towards a size that is not ours nothing can be proven: then our head is submitted again.
- A request has at most 32 packages, in gzip, and is made when it is sent: 8,192 entries are held, not the log.
- What is believed of a mirror is its cosignature on our head, under its key. Everything else that it says only changes
  what is sent next, and `ROUNDS` without progress end it.

*Cancellation*: at any point; what the mirror took, it has.

What it does not do: wait for a head, or choose mirrors.

SPEC: C2SP tlog-mirror, main as of July 2026.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from mirrorwitness.errors import SignatureError, UpstreamProtocolError
from mirrorwitness.fetch import make_status_error, origin_of
from mirrorwitness.logmirror.protocol import (
    ENTRIES_TYPE,
    INFO_TYPE,
    MAX_INFO_BYTES,
    PACKAGES_PER_REQUEST,
    MirrorInfo,
    Package,
    UploadHead,
    bundle_start,
    format_head,
    format_package,
    package_spans,
    parse_info,
)
from mirrorwitness.logmirror.reading import TreeReader
from mirrorwitness.sumdb.served import check_base
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.merkle import make_proof, nodes_needed, plan_consistency, plan_subtree
from mirrorwitness.tlog.note import parse_lines
from mirrorwitness.tlog.witnessing import SIZE_TYPE, format_add_checkpoint, parse_known_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.fetch import Fetcher, HostGate
    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Range

__all__ = ["Uploaded", "Uploader"]

ROUNDS: Final = 5
"""Requests in a row after which the mirror is no further before it is given up."""

_OK: Final = 200
_ACCEPTED: Final = 202
_CONFLICT: Final = 409
_SHOWN: Final = 200
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What came of an upload.

    Attributes:
        cosignatures: the mirror's, at least one.
        requests: how many were needed.
        sent: bytes of their bodies.
    """

    cosignatures: tuple[Cosignature, ...]
    requests: int
    sent: int


class _Reply(NamedTuple):
    status: int
    kind: str
    body: bytes


class Uploader:
    """Brings one log to one mirror. One upload at a time.

    Args:
        source: reads the log.
        url: the mirror's submission prefix.
        keys: the mirror's keys.
        fetcher: the door to HTTP.
        gate: manners, shared with others.

    Raises:
        ConfigurationError: the URL is none to which a path can be added.
    """

    def __init__(
        self, *, source: LogSource, url: str, keys: Sequence[VerifierKey], fetcher: Fetcher, gate: HostGate
    ) -> None:
        self._source = source
        self._base = check_base(url, "log mirror")
        self._keys = tuple(keys)
        self._fetcher = fetcher
        self._gate = gate
        self._old = 0
        self._next = 0
        self._requests = 0
        self._sent = 0

    def __repr__(self) -> str:
        return f"<Uploader to {self._base}, {self._requests} requests>"

    async def push(self, head: OpenedCheckpoint) -> Uploaded:
        """Bring the tree of a head to the mirror, and return its cosignatures.

        Raises:
            SignatureError: what it answers is no cosignature of its keys on the head.
            ProofError: what the source serves is not the tree of the head.
            UpstreamError: the mirror cannot be reached, says no, has a larger tree, or comes no further.
            StorageError: the source is a storage, and failed.
        """
        self._requests = self._sent = 0
        reader = TreeReader(self._source, head.checkpoint)
        size = await self._submit(head, reader)
        info = MirrorInfo(size, min(self._next, size))
        stalled = 0
        while stalled < ROUNDS:
            if info.size != head.checkpoint.size:
                await self._submit(head, reader)
                info = MirrorInfo(head.checkpoint.size, min(info.next_entry, head.checkpoint.size))
            reply = await self._send(head, reader, info)
            if reply.status == _OK:
                self._next = size
                return Uploaded(self._check(head, reply.body), self._requests, self._sent)
            before, info = info, self._learn(reply)
            stalled = 0 if info.next_entry > before.next_entry else stalled + 1
        raise UpstreamProtocolError(
            f"log mirror {self._base}: no further than entry {info.next_entry} of {head.checkpoint} "
            f"after {ROUNDS} tries"
        )

    async def _submit(self, head: OpenedCheckpoint, reader: TreeReader) -> int:
        """Make a head the mirror's pending checkpoint, and return its size."""
        size = head.checkpoint.size
        for _ in range(ROUNDS):
            plan = plan_consistency(self._old, size)
            proof = make_proof(plan, (await reader.hashes(nodes_needed(plan))).hash_of) if plan else []
            reply = await self._post("add-checkpoint", format_add_checkpoint(self._old, proof, head.format()), {})
            if reply.status == _OK:
                self._old = size
                return size
            if reply.status != _CONFLICT or reply.kind != SIZE_TYPE:
                raise self._fail("add-checkpoint", reply)
            self._old = parse_known_size(reply.body)
            if self._old > size:
                raise UpstreamProtocolError(
                    f"log mirror {self._base}: has a pending checkpoint of size {self._old} already, and our head "
                    f"{size}; read a newer head"
                )
        raise UpstreamProtocolError(f"log mirror {self._base}: moved to another size {ROUNDS} times meanwhile")

    async def _send(self, head: OpenedCheckpoint, reader: TreeReader, info: MirrorInfo) -> _Reply:
        size = head.checkpoint.size
        start = min(info.next_entry, size)
        spans = list(islice(package_spans(start, size), PACKAGES_PER_REQUEST))
        parts = [format_head(UploadHead(head.checkpoint.origin.encode(), start, size, info.ticket))]
        if spans:
            entries = await self._read(reader, bundle_start(start), spans[-1].end)
            parts += [await self._package(span, entries, reader, size) for span in spans]
        body = gzip.compress(b"".join(parts), _LEVEL, mtime=0)
        return await self._post("add-entries", body, {"content-type": ENTRIES_TYPE, "content-encoding": "gzip"})

    async def _read(self, reader: TreeReader, start: int, end: int) -> Mapping[int, bytes]:
        return dict(enumerate(await reader.read_bundles(start, end), start))

    async def _package(self, span: Range, entries: Mapping[int, bytes], reader: TreeReader, size: int) -> bytes:
        plan = plan_subtree(bundle_start(span.start), span.end, size)
        hashes = await reader.hashes(nodes_needed(plan))
        proof = make_proof(plan, hashes.hash_of)
        return format_package(Package(span, tuple([entries[at] for at in range(span.start, span.end)]), tuple(proof)))

    def _check(self, head: OpenedCheckpoint, body: bytes) -> tuple[Cosignature, ...]:
        tree = head.checkpoint
        statement = Statement(tree.origin, 0, tree.size, tree.root, head.note.text)
        found = check_cosignatures(parse_lines(body), self._keys, statement)
        if not found or not all(each.timestamp for each in found):
            raise SignatureError(f"log mirror {self._base}: its answer has no cosignature of its keys with a time")
        return found

    def _learn(self, reply: _Reply) -> MirrorInfo:
        if reply.status not in {_ACCEPTED, _CONFLICT} or reply.kind != INFO_TYPE:
            raise self._fail("add-entries", reply)
        return parse_info(reply.body)

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> _Reply:
        url = f"{self._base}/{path}"
        self._requests += 1
        self._sent += len(body)
        fields = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity", **headers}
        async with (
            self._gate.slot(origin_of(url)) as slot,
            self._fetcher.request("POST", url, headers=fields, body=body) as response,
        ):
            slot.status = response.status
            return _Reply(
                response.status, response.headers.get("content-type", ""), await response.read(MAX_INFO_BYTES)
            )

    def _fail(self, what: str, reply: _Reply) -> Exception:
        said = ascii(reply.body[:_SHOWN].decode("utf-8", "replace").strip())
        return make_status_error(reply.status, f"log mirror {self._base}: {what}: status {reply.status}: {said}")
