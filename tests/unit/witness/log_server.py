"""A log over HTTP in both dialects, and a distributor, for tests of what reads logs.

The log is a `mirrorwitness.witness.lab.LabLog`: its tiles are hashed node by node, with nothing of
`mirrorwitness.tlog.tiles` but the reading of paths. Like a real one it has the tiles of its present size, and those
partial ones for which it once published a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import LOG_KEYS, open_checkpoint
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.merkle import Range
from mirrorwitness.tlog.tiles import Dialect, Tile, parse_tile_path
from mirrorwitness.witness.lab import make_log
from mirrorwitness.witness.logs import WitnessedLog
from tests.fakes.registry_server import FaultPlan, RecordedRequest, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.tlog.keys import KeyType, VerifierKey
    from mirrorwitness.witness.lab import LabLog
    from tests.fakes.registry_server import Fault

__all__ = ["DistributorServer", "LogServer", "make_lab"]

SEED: Final = bytes(range(32))
_HEAD: Final = {Dialect.TILES: "/checkpoint", Dialect.SUMDB: "/latest"}
_TEXT: Final = (("content-type", "text/plain; charset=utf-8"),)
_BYTES: Final = (("content-type", "application/octet-stream"),)


def make_lab(name: str = "a", *kinds: KeyType) -> LabLog:
    """Return a log of the tests."""
    assert set(kinds) <= set(LOG_KEYS)
    return make_log(SEED, name, *kinds)


class LogServer:
    """Serves one log.

    Attributes:
        lab: the log.
        asked: the paths that were asked for, in order, without the prefix.
        bodies: path → what is served there instead.
        gone: paths at which nothing is any more.
        latency: seconds before each answer.
        on_ask: called with each path before it is answered.
    """

    def __init__(self, lab: LabLog, size: int = 0, *, dialect: Dialect = Dialect.TILES, prefix: str = "/log") -> None:
        self.lab = lab
        self.prefix = prefix
        self.base = ""
        self.asked: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.latency = 0.0
        self.on_ask: Callable[[str], object] = len
        self._faults = FaultPlan()
        self._dialect = dialect
        self._size = size
        self._sizes = {size}

    @property
    def log(self) -> WitnessedLog:
        """The log as a witness has it configured."""
        return WitnessedLog(self.lab.origin, tuple([key.verifier for key in self.lab.keys]), self.base)

    @property
    def flag(self) -> str:
        """The log as a flag of the command line."""
        return f"{self.lab.keys[0].verifier}={self.base}"

    @property
    def head_path(self) -> str:
        """Where the head is."""
        return _HEAD[self._dialect]

    def grow(self, size: int, lab: LabLog | None = None) -> None:
        """Show a head of another size from now on; with `lab`, of another history."""
        self.lab = lab or self.lab
        self._size = size
        self._sizes.add(size)

    def fail(self, path: str, fault: Fault, *, times: int | None = None) -> None:
        """Let something go wrong with the answers at a path."""
        self._faults.add(path, fault, times)

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()
        self.bodies.clear()
        self.gone.clear()

    def tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile."""
        width = 256**tile.level
        first = tile.index * 256
        return b"".join(
            self.lab.node(Range(number * width, (number + 1) * width)) for number in range(first, first + tile.width)
        )

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        assert request.method == "GET"
        path = request.target.removeprefix(self.prefix)
        self.asked.append(path)
        self.on_ask(path)
        body = None if path in self.gone else self.bodies.get(path, self._find(path))
        reply = Reply(404, _TEXT, b"nothing here") if body is None else Reply(200, self._type(path), body)
        fault = self._faults.next(path)
        return reply if fault is None else fault.spoil(reply)

    def _type(self, path: str) -> tuple[tuple[str, str], ...]:
        return _TEXT if path == self.head_path else _BYTES

    def _find(self, path: str) -> bytes | None:
        if path == self.head_path:
            return self.lab.checkpoint(self._size)
        try:
            tile = parse_tile_path(path.removeprefix("/"), self._dialect)
        except UpstreamProtocolError:
            return None
        if not isinstance(tile, Tile):
            return None
        hashes = {size >> 8 * tile.level for size in self._sizes}
        end = tile.index * 256 + tile.width
        is_there = end <= max(hashes) if tile.is_full else end in hashes
        return self.tile(tile) if is_there else None


class DistributorServer:
    """Takes checkpoints as the distributor of transparency-dev does: with one line of the log and one of the witness.

    Attributes:
        taken: path → the checkpoint that was put there last.
        asked: the paths, in order.
        on_take: called with each checkpoint that is taken.
    """

    def __init__(self, lab: LabLog, *witnesses: VerifierKey) -> None:
        self.prefix = ""
        self.base = ""
        self.latency = 0.0
        self.asked: list[str] = []
        self.taken: dict[str, bytes] = {}
        self.on_take: Callable[[bytes], object] = len
        self._faults = FaultPlan()
        self._lab = lab
        self._witnesses = witnesses

    def fail(self, fault: Fault, *, times: int | None = None) -> None:
        """Let something go wrong."""
        self._faults.add("", fault, times)

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        assert request.method == "PUT"
        assert request.headers["content-type"] == "text/plain; charset=utf-8"
        self.asked.append(request.target)
        fault = self._faults.next("")
        return self._take(request.target, request.body) if fault is None else fault.spoil(Reply())

    def _take(self, path: str, body: bytes) -> Reply:
        opened = open_checkpoint(body, [key.verifier for key in self._lab.keys], origin=self._lab.origin)
        tree = opened.checkpoint
        statement = Statement(tree.origin, 0, tree.size, tree.root, opened.note.text)
        name = path.split("/")[-2].replace("%2F", "/")
        keys = [key for key in self._witnesses if key.name == name]
        if len(check_cosignatures(opened.note.signatures, keys, statement)) != 1:
            return Reply(400, _TEXT, b"failed to update to new checkpoint\n")
        self.taken[path] = body
        self.on_take(body)
        return Reply(200)
