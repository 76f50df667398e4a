"""A checksum database of tens of millions of records, of which a few are known: what `bench check` asks.

    python -m bench.sparselog --records FILE --size N      (FILE: one record after another, an empty line between)

The tree is *simulated*: every entry that nobody asks for is the same one, so a subtree without a known record has a hash
that depends on its height alone, and the whole tree is never in memory. Indices, proofs, tiles and the root are those of
a real tree of these entries: a client cannot tell, and does the same work. What is not simulated is reading tiles from a
disk (`bench sumdb` measures that).

It says where it listens, answers `/checkpoint`, `/lookup/…?size=N` and `/tile/…`, and for the benchmark `/-/show/N`
(the tree that it shows from now on) and `/-/sent` (bytes sent since it was asked last, heads included).
"""

from __future__ import annotations

import argparse
import base64
import random
from bisect import bisect_left
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import trio

from mirrorwitness.sumdb.records import parse_record
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import Hash, Range, leaf_hash, make_proof, node_hash, plan_inclusion, subtree_hash
from mirrorwitness.tlog.note import Note, Signature, format_note
from mirrorwitness.tlog.tiles import Dialect, Tile, parse_tile_path
from tests.fakes.registry_server import RecordedRequest, Reply
from tests.fakes.serving import serve

__all__ = ["KEY", "WITNESSES", "SparseLog"]

ORIGIN: Final = "sumdb.bench.example"
KEY: Final = make_signer_key(ORIGIN, bytes([1] * 32))
WITNESSES: Final = tuple([
    make_signer_key(f"w{number}.bench.example", bytes([number] * 32), KeyType.COSIGNATURE) for number in (2, 3)
])
TIME: Final = 1_790_000_000
LEVELS: Final = 64
_TEXT: Final = (("content-type", "text/plain; charset=utf-8"),)


class SparseLog:
    """The tree, and a simulator that serves it.

    Args:
        records: the known ones.
        size: the tree that is shown first; the records are spread over it, the same way each time.
    """

    def __init__(self, records: list[bytes], size: int) -> None:
        self.prefix = ""
        self.base = ""
        self.latency = 0.0
        self.size = size
        self.sent = 0
        self._known = dict(zip(sorted(random.Random(1).sample(range(size), len(records))), records, strict=True))  # noqa: S311
        self._indices = sorted(self._known)
        self._where = {_subject_of(record): index for index, record in self._known.items()}
        self._filler = [leaf_hash(b"an entry that nobody asks for\n")]
        for _ in range(LEVELS):
            self._filler.append(node_hash(self._filler[-1], self._filler[-1]))
        self._nodes: dict[Range, Hash] = {}

    def node(self, span: Range) -> Hash:
        """Return the hash of a complete node."""
        at = bisect_left(self._indices, span.start)
        if at == len(self._indices) or self._indices[at] >= span.end:
            return self._filler[(span.end - span.start).bit_length() - 1]
        found = self._nodes.get(span)
        if found is None:
            middle = (span.start + span.end) // 2
            found = (
                leaf_hash(self._known[span.start])
                if span.end - span.start == 1
                else node_hash(self.node(Range(span.start, middle)), self.node(Range(middle, span.end)))
            )
            self._nodes[span] = found
        return found

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        path = unquote(request.target).removeprefix("/")
        if path == "-/sent":
            sent, self.sent = self.sent, 0
            return Reply(200, _TEXT, str(sent).encode())
        if path.startswith("-/show/"):
            self.size = int(path.rpartition("/")[2])
            return Reply(200, _TEXT)
        body = self._find(path)
        reply = Reply(404, _TEXT, b"not here\n") if body is None else Reply(200, _TEXT, body)
        self.sent += len(reply.render(head_only=False))
        return reply

    def _find(self, path: str) -> bytes | None:
        if path == "checkpoint":
            return self._checkpoint()
        if path.startswith("lookup/"):
            subject, _, size = path.removeprefix("lookup/").partition("?size=")
            index = self._where.get(subject)
            return None if index is None else self._proof(index, int(size))
        tile = parse_tile_path(path, Dialect.TILES)
        return self._tile(tile) if isinstance(tile, Tile) else None

    def _checkpoint(self) -> bytes:
        tree = Checkpoint(ORIGIN, self.size, subtree_hash(Range(0, self.size), self.node))
        statement = Statement(tree.origin, 0, tree.size, tree.root, tree.text)
        lines = [Signature(KEY.name, KEY.verifier.key_id, KEY.sign(tree.text))]
        lines += [
            make_line(key.verifier, TIME, key.sign(cosigned_message(key.verifier, TIME, statement)))
            for key in WITNESSES
        ]
        return format_note(Note(tree.text, tuple(lines)))

    def _proof(self, index: int, size: int) -> bytes:
        hashes = make_proof(plan_inclusion(index, size), self.node)
        lines = ["c2sp.org/tlog-proof@v1", f"extra {base64.b64encode(self._known[index]).decode()}", f"index {index}"]
        lines += [base64.b64encode(value).decode() for value in hashes]
        return "".join(f"{line}\n" for line in [*lines, ""]).encode()

    def _tile(self, tile: Tile) -> bytes:
        width = 256**tile.level
        first = tile.index * 256
        return b"".join(
            self.node(Range(number * width, (number + 1) * width)) for number in range(first, first + tile.width)
        )


def _subject_of(body: bytes) -> str:
    record = parse_record(body)
    return f"{record.name}@{record.version}"


async def _serve(log: SparseLog) -> None:
    async with serve(log) as base:
        print(f"listening on {base}", flush=True)
        await trio.sleep_forever()


def main() -> None:
    """Serve until somebody ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    options = parser.parse_args()
    records = [part + b"\n" for part in options.records.read_bytes()[:-1].split(b"\n\n")]
    trio.run(_serve, SparseLog(records, options.size))


if __name__ == "__main__":
    main()
