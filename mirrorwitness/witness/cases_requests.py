"""Conformance cases about the form of requests: what is no ``add-checkpoint``, and how it is sent.

The malformed requests are refreshes of the latest checkpoint, right but for one thing. So a witness that takes one has
cosigned nothing new, and the next case finds it as it was. The specification binds these forms and gives no status: 400
passes, another refusal differs, a cosignature or a 5xx fails.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import Signature
from mirrorwitness.witness.finding import (
    ADD,
    MAY,
    MUST,
    OK,
    POLICY,
    REFUSALS,
    SHOULD,
    Finding,
    first_problem,
    judge,
    judge_cosigned,
    judge_status,
)
from mirrorwitness.witness.lab import LabLog, add_lines, stranger_lines
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.trial import Case, statement_in

if TYPE_CHECKING:
    from mirrorwitness.witness.trial import Trial

__all__ = ["HTTP", "REQUESTS"]

_Maker: TypeAlias = Callable[[LabLog, int], bytes]
"""Gives the body of a malformed refresh of a log at a size."""

_PATH: Final = "/add-checkpoint"

_KEPT_ALIVE: Final = 20
"""Requests over one connection."""

_BIG_BODY: Final = 128 * 1024
"""Bytes of a body that a witness had better take: 16 signatures “nearly 5kB in size”, which base64 makes a third
longer, are 107 kB."""

_ALPHABET: Final = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"

_OLD_LINE: Final = (
    f"{ADD}“The old size line MUST consist of the string old, a single space (0x20), and the tree size of the previous "
    "checkpoint encoded as an ASCII decimal with no leading zeroes”"
)
_NEWLINE: Final = f"{ADD}“Each line MUST terminate in a newline character (U+000A)”"
_BODY: Final = f"{ADD}“The request body MUST be a sequence of an old size line, … an empty line, … a checkpoint”"
_HASH_LINE: Final = f"{ADD}“Each consistency proof line MUST encode a single hash in base64”"
_SIZE_LINE: Final = "tlog-checkpoint, Note text: “the ASCII decimal representation … with no leading zeroes”"
_ROOT_LINE: Final = "tlog-checkpoint, Note text: “the base64 encoding of the root of the RFC 6962 Merkle hash tree”"
_SPELLING: Final = "research/A 6: strict base64; RFC 4648, 3.5: “decoders MAY choose to reject” other padding bits"
_SIGNED: Final = "signed-note, Format: “followed by one or more signature lines”"
_CONTROL: Final = "signed-note, Format: “MUST NOT contain any ASCII control characters”"
_POST: Final = f"{ADD}“The request MUST be an HTTP POST”"
_KEEP_ALIVE: Final = "tlog-witness, HTTP Interface: “witnesses SHOULD support HTTP keep-alive”"
_LONG: Final = "signed-note, Format: at least 16 signatures, “post-quantum signatures can be up to nearly 5kB in size”"
_CHUNKED: Final = "RFC 9112, 7.1: “A recipient MUST be able to parse and decode the chunked transfer coding”"
_NO_TYPE: Final = f"{ADD}no Content-Type is asked for in a request"


def _lines(first: str, *proof: str) -> _Maker:
    """Make a body of other lines before the checkpoint; ``{size}`` stands for the size."""

    def make(log: LabLog, size: int) -> bytes:
        lines = [line.format(size=size) for line in (first, *proof)]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + log.checkpoint(size)

    return make


def _no_final_newline(log: LabLog, size: int) -> bytes:
    return format_add_checkpoint(size, [], log.checkpoint(size)).removesuffix(b"\n")


def _no_empty_line(log: LabLog, size: int) -> bytes:
    return b"old %d\n" % size + log.checkpoint(size)


def _old_missing(log: LabLog, size: int) -> bytes:
    return b"\n" + log.checkpoint(size)


def _old_overflow(log: LabLog, size: int) -> bytes:
    return format_add_checkpoint(2**64 + size, [], log.checkpoint(size))


def _nothing(log: LabLog, size: int) -> bytes:  # noqa: ARG001 - one of many makers
    return b""


def _no_signatures(log: LabLog, size: int) -> bytes:
    return format_add_checkpoint(size, [], log.text(size) + b"\n")


def _size_leading_zero(log: LabLog, size: int) -> bytes:
    text = log.text(size).replace(b"\n%d\n" % size, b"\n0%d\n" % size)
    return format_add_checkpoint(size, [], log.sign(text))


def _short_root(log: LabLog, size: int) -> bytes:
    text = Checkpoint(log.origin, size, Hash(log.root(size)[:-1])).text
    return format_add_checkpoint(size, [], log.sign(text))


def _control_character(log: LabLog, size: int) -> bytes:
    (line,) = stranger_lines(1, 64)
    note = add_lines(log.checkpoint(size), Signature("stranger\x01", line.key_id, line.value))
    return format_add_checkpoint(size, [], note)


def _not_utf8(log: LabLog, size: int) -> bytes:
    (line,) = stranger_lines(1, 64)
    note = add_lines(log.checkpoint(size), Signature("stranger~", line.key_id, line.value))
    return format_add_checkpoint(size, [], note.replace(b"stranger~", b"stranger\xff"))


async def _malformed(make: _Maker, more: tuple[int, ...], trial: Trial) -> Finding:
    size = await trial.at_least(10)
    return judge_status(await trial.post(make(trial.log, size)), 400, *more, choice=REFUSALS)


async def _other_spelling(trial: Trial) -> Finding:
    size = await trial.at_least(10)
    root = base64.b64encode(trial.log.root(size)).decode()
    other = f"{root[:-2]}{_ALPHABET[_ALPHABET.index(root[-2]) + 1]}="  # the bits that nobody needs
    note = trial.log.sign(trial.log.text(size).replace(root.encode(), other.encode()))
    return judge_status(await trial.post(format_add_checkpoint(size, [], note)), 400, choice={OK, *REFUSALS})


def _case(name: str, title: str, source: str, make: _Maker, *more: int) -> Case:
    return Case(name, title, MUST, source, partial(_malformed, make, more))


_SHORT: Final = "A" * 42 + "=="  # 31 bytes in base64
REQUESTS: Final = (
    _case("old-leading-zero", "the old size has no leading zero", _OLD_LINE, _lines("old 0{size}")),
    _case("old-sign", "the old size has no sign", _OLD_LINE, _lines("old +{size}")),
    _case("old-negative", "the old size is not negative", _OLD_LINE, _lines("old -{size}")),
    _case("old-overflow", "the old size does not wrap at 2^64", _OLD_LINE, _old_overflow),
    _case("old-trailing-text", "nothing follows the old size", _OLD_LINE, _lines("old {size} x")),
    _case("old-crlf", "a line ends in a newline alone", _NEWLINE, _lines("old {size}\r")),
    _case("old-missing", "the old size is there", _BODY, _old_missing),
    _case("no-final-newline", "the last line ends in a newline too", _NEWLINE, _no_final_newline),
    _case("no-empty-line", "an empty line goes before the checkpoint", _BODY, _no_empty_line),
    _case("short-hash", "a proof line has 32 bytes", _HASH_LINE, _lines("old {size}", _SHORT)),
    _case("bad-base64", "a proof line is base64", _HASH_LINE, _lines("old {size}", "!" * 44)),
    _case("size-leading-zero", "the checkpoint's size has no leading zero", _SIZE_LINE, _size_leading_zero),
    _case("short-root", "the root hash has 32 bytes", _ROOT_LINE, _short_root),
    Case("root-other-spelling", "a root hash has one spelling", POLICY, _SPELLING, _other_spelling),
    _case("empty-body", "an empty body is no request", _BODY, _nothing),
    _case("no-signatures", "a checkpoint without signatures is no note", _SIGNED, _no_signatures, 403),
    _case("control-character", "a note has no control characters", _CONTROL, _control_character),
    _case("not-utf-8", "a note is UTF-8", "signed-note, Format: “Signed notes MUST be valid UTF-8”", _not_utf8),
)


async def _method(method: str, trial: Trial) -> Finding:
    answer = await trial.ask(method, _PATH, b"" if method == "PUT" else None)
    return judge_status(answer, 405, choice={501, *REFUSALS})


async def _keep_alive(trial: Trial) -> Finding:
    answers = [(await trial.refresh())[1] for _ in range(_KEPT_ALIVE)]
    opened = trial.line.opened
    kept = judge(opened == 1, f"{_KEPT_ALIVE} requests over 1 connection", f"over {opened} connections", answers[-1])
    return first_problem(*[judge_status(each, OK) for each in answers], kept)


async def _big_body(trial: Trial) -> Finding:
    size = await trial.size()
    note = trial.log.checkpoint(size)
    most = (_BIG_BODY - len(format_add_checkpoint(size, [], note))) // 15
    note = add_lines(note, *stranger_lines(15, most * 3 // 4 - 64))
    answer = await trial.submit(note, old=size)
    return judge_cosigned(answer, statement_in(note), trial.keys, choice=REFUSALS)


async def _chunked(trial: Trial) -> Finding:
    size = await trial.size()
    note = trial.log.checkpoint(size)
    body = format_add_checkpoint(size, [], note)
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:], b""))
    answer = await trial.ask("POST", _PATH, chunks, fields=[("Transfer-Encoding", "chunked")])
    return judge_cosigned(answer, statement_in(note), trial.keys, choice={411, 501})


async def _content_type(trial: Trial) -> Finding:
    size = await trial.size()
    note = trial.log.checkpoint(size)
    body = format_add_checkpoint(size, [], note)
    answers = [
        await trial.ask("POST", _PATH, body, fields=[("Content-Type", kind)])
        for kind in ("application/octet-stream", "application/x-www-form-urlencoded", "text/plain; charset=utf-8")
    ]
    return first_problem(*[judge_cosigned(each, statement_in(note), trial.keys, choice={415}) for each in answers])


HTTP: Final = (
    Case("get-add-checkpoint", "GET is not allowed", MUST, _POST, partial(_method, "GET")),
    Case("put-add-checkpoint", "PUT is not allowed", MUST, _POST, partial(_method, "PUT")),
    Case("keep-alive", f"{_KEPT_ALIVE} requests go over one connection", SHOULD, _KEEP_ALIVE, _keep_alive),
    Case("body-of-128-kib", "a body of 128 KiB is taken", POLICY, _LONG, _big_body),
    Case("chunked-body", "a body without a length is taken", MAY, _CHUNKED, _chunked),
    Case("request-content-type", "any Content-Type of a request is taken", POLICY, _NO_TYPE, _content_type),
)
