"""Witnesses that a log asks: honest ones that check every proof, and others.

`FakeWitness` answers as the specification says, with its record in memory; attributes make it late, broken or a liar.
`AskFetcher` brings requests with bodies to it without sockets, so that tests may use ``autojump_clock``; over loopback
`tests.fakes.serving.serve` does.

What it does not do: keep anything, or know more than one log. Our own witness is the other one that tests ask.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import MirrorWitnessError, SecurityError, UpstreamUnreachableError
from mirrorwitness.fetch import Fetcher, Response
from mirrorwitness.tlog.checkpoint import check_checkpoint, origin_hash
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.merkle import EMPTY_ROOT, Hash, check_consistency
from mirrorwitness.tlog.note import format_lines
from mirrorwitness.tlog.witnessing import SIZE_TYPE, format_known_size
from mirrorwitness.witness.protocol import AddCheckpoint, parse_add_checkpoint
from tests.fakes.registry_server import RecordedRequest, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path

    from mirrorwitness.tlog.keys import SignerKey, VerifierKey
    from mirrorwitness.tlog.note import Signature

__all__ = ["NOW", "AskFetcher", "FakeWitness", "sign_as"]

NOW: Final = 1_700_000_000
"""What all of them take for the time, in seconds since 1970."""

_TEXT: Final = (("content-type", "text/plain; charset=utf-8"),)


def sign_as(key: SignerKey, asked: AddCheckpoint, timestamp: int = NOW) -> Signature:
    """Return a cosigner's line for a request."""
    tree = asked.checkpoint
    statement = Statement(tree.origin, 0, tree.size, tree.root, asked.note.text)
    return make_line(key.verifier, timestamp, key.sign(cosigned_message(key.verifier, timestamp, statement)))


class FakeWitness:
    """One witness of one log.

    Attributes:
        keys: who cosigns.
        log: the keys of the log.
        size: what it cosigned last.
        root: the root of that.
        prefix: the path of its submission prefix.
        base: its URL.
        latency: seconds before each answer.
        is_down: nobody answers at all.
        asked: the old size and the size of each request, in order.
        lines: makes the lines that it answers with; what it is for liars.
        reply: what it answers in place of everything else.
        shown: what it shows as cosigned; nothing by default, as a witness does not have to.
        show_latency: seconds before it shows that.
    """

    def __init__(self, *keys: SignerKey, log: Sequence[VerifierKey], name: str = "w") -> None:
        self.keys = keys
        self.log = tuple(log)
        self.size = 0
        self.root = EMPTY_ROOT
        self.prefix = f"/{name}"
        self.base = f"http://{name}.example{self.prefix}"
        self.latency = 0.0
        self.is_down = False
        self.asked: list[tuple[int, int]] = []
        self.lines: Callable[[AddCheckpoint], Sequence[Signature]] = self._sign
        self.reply: Reply | None = None
        self.shown: bytes | None = None
        self.show_latency = 0.0

    @property
    def flags(self) -> list[str]:
        """Its keys as flags of the command line."""
        return [f"{key.verifier}={self.base}" for key in self.keys]

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        origin = self.log[0].name
        if (request.method, request.target) == ("GET", f"{self.prefix}/{origin_hash(origin)}/checkpoint"):
            return Reply(404, _TEXT, b"not shown\n") if self.shown is None else Reply(200, _TEXT, self.shown)
        if request.method != "POST" or request.target != f"{self.prefix}/add-checkpoint":
            return Reply(404, _TEXT, b"nothing is here\n")
        asked = parse_add_checkpoint(request.body)
        self.asked.append((asked.old, asked.checkpoint.size))
        return self.reply or self._judge(asked)

    def _judge(self, asked: AddCheckpoint) -> Reply:
        tree = asked.checkpoint
        try:
            check_checkpoint(asked.note, tree, self.log)
        except MirrorWitnessError as error:
            return Reply(403, _TEXT, f"{error}\n".encode())
        if asked.old != self.size:
            return Reply(409, (("content-type", SIZE_TYPE),), format_known_size(self.size))
        try:
            known = Hash(self.root)
            check_consistency(asked.proof, old_size=self.size, old_root=known, new_size=tree.size, new_root=tree.root)
        except SecurityError as error:
            return Reply(422, _TEXT, f"{error}\n".encode())
        self.size, self.root = tree.size, tree.root
        return Reply(200, _TEXT, format_lines(self.lines(asked)))

    def _sign(self, asked: AddCheckpoint) -> Sequence[Signature]:
        return [sign_as(key, asked) for key in self.keys]


class AskFetcher(Fetcher):
    """Gives each request, with its body, to the witness whose URL it begins with."""

    def __init__(self, *witnesses: FakeWitness) -> None:
        self._witnesses = witnesses

    def __repr__(self) -> str:
        return f"<AskFetcher of {len(self._witnesses)} witnesses>"

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
        public_only: bool = False,  # noqa: ARG002 - there are no addresses here
    ) -> AsyncGenerator[Response, None]:
        """Answer from the witness's state; as `Fetcher.request`."""
        await trio.lowlevel.checkpoint()
        witness = next((each for each in self._witnesses if url.startswith(f"{each.base}/")), None)
        if witness is None or witness.is_down:
            raise UpstreamUnreachableError(f"{method} {url}: nobody answers")
        await trio.sleep(witness.latency if method == "POST" else witness.show_latency)
        assert body is None or isinstance(body, bytes)
        target = url.removeprefix(witness.base.removesuffix(witness.prefix))
        reply = witness.answer(RecordedRequest(method, target, dict(headers or {}), body or b""))
        fields = {**dict(reply.headers), "content-length": str(len(reply.body))}
        yield Response(status=reply.status, headers=fields, url=url, method=method, stream=_Whole(reply.body))


class _Whole:
    """A body in one piece."""

    def __init__(self, body: bytes) -> None:
        self._rest = body

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self._rest = self._rest, b""
        return piece
