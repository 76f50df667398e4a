"""A witness in memory that follows C2SP tlog-witness to the letter, and can break each rule of it on purpose.

`ReferenceWitness.fault` is the id of a conformance case: exactly what that case asks is done wrong then, as somebody's
witness might do it. Where a fault repairs a malformed request, it stands in `MENDERS`. Nothing here is used by the
product, and the decision is written a second time on purpose: the suite would not find a mistake that both share.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ProofError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import LOG_KEYS, Checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, fits_cosignature, make_line
from mirrorwitness.tlog.keys import KeyType, make_signer_key, parse_verifier_key
from mirrorwitness.tlog.merkle import EMPTY_ROOT, Hash, check_consistency, check_subtree, plan_consistency
from mirrorwitness.tlog.note import Note, Signature, format_lines, format_note, parse_note
from mirrorwitness.witness.lab import statement_of, stranger_lines
from mirrorwitness.witness.protocol import parse_add_checkpoint, parse_sign_subtree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mirrorwitness.tlog.keys import SignerKey, VerifierKey
    from mirrorwitness.witness.protocol import AddCheckpoint

__all__ = ["OFFERS", "WITNESS_KEYS", "ReferenceWitness", "Reply"]

NAME: Final = "reference.example/witness"
SIGNERS: Final = tuple(
    make_signer_key(NAME, bytes([kind]) * 32, kind) for kind in (KeyType.COSIGNATURE, KeyType.ML_DSA_44)
)
WITNESS_KEYS: Final = tuple(key.verifier for key in SIGNERS)
"""The public keys of every reference witness."""

OFFERS: Final = frozenset({"monitoring", "subtrees", "ml-dsa", "extensions"})
"""What it offers beyond what it must."""

_TEXT: Final = "text/plain; charset=utf-8"
_HASH_LINE: Final = re.compile(rb"[A-Za-z0-9+/]{43}=")


def _replace(pattern: bytes, repl: bytes) -> Callable[[bytes], bytes]:
    return lambda body: re.sub(pattern, repl, body)


def _mend_old_missing(body: bytes) -> bytes:
    return b"old " + body.split(b"\n")[2] + b"\n" + body if body.startswith(b"\n") else body


def _mend_proof(body: bytes) -> bytes:
    head, _, note = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    return b"\n".join([first, *(line for line in lines if _HASH_LINE.fullmatch(line))]) + b"\n\n" + note


MENDERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "old-leading-zero": _replace(rb"^old 0+(?=[0-9])", b"old "),
    "old-sign": _replace(rb"^old \+", b"old "),
    "old-negative": _replace(rb"^old -", b"old "),
    "old-overflow": lambda body: re.sub(rb"^old ([0-9]+)", lambda found: b"old %d" % (int(found[1]) % 2**64), body),
    "old-trailing-text": _replace(rb"^(old [0-9]+) [^\n]*", rb"\1"),
    "old-crlf": lambda body: body.replace(b"\r\n", b"\n"),
    "old-missing": _mend_old_missing,
    "no-final-newline": lambda body: body if body.endswith(b"\n") else body + b"\n",
    "no-empty-line": _replace(rb"^(old [0-9]+\n)(?=conformance)", rb"\1\n"),
    "short-hash": _mend_proof,
    "bad-base64": _mend_proof,
    "control-character": lambda body: body.replace(b"\x01", b""),
    "not-utf-8": lambda body: body.replace(b"\xff", b""),
}
"""Fault → how a lax parser reads what is no request."""

CRASHES: Final = {"empty-body", "no-signatures", "size-2-63"}
"""Faults that end in a 500 where a request does not parse."""

LAX_TEXTS: Final = ("size-leading-zero", "short-root", "root-other-spelling")
"""Faults of a parser that is lax with the checkpoint's text."""

LIMITS: Final = {
    "ml-dsa-lines-2": 5_000,
    "ml-dsa-lines-4": 10_000,
    "ml-dsa-lines-15": 16_000,
    "body-of-128-kib": 100_000,
}
"""Fault → largest body in bytes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    body: bytes = b""
    content_type: str = _TEXT
    retry_after: str | None = None


@dataclass(slots=True)
class _State:
    """What is known of a log: its latest tree, what it shows, and what one fault needs of the past."""

    size: int
    root: Hash
    shown: bytes = b""
    before: int = 0


class ReferenceWitness:
    """The witness.

    Args:
        vkeys: keys of the logs; the name of each is the log's origin.
        fault: id of the case that has to fail.
        offers: some of `OFFERS`.
        busy: how many requests are answered with 429 first.
    """

    def __init__(
        self, vkeys: Iterable[str], *, fault: str = "", offers: frozenset[str] = OFFERS, busy: int = 0
    ) -> None:
        self.logs: dict[str, list[VerifierKey]] = {}
        for key in (parse_verifier_key(vkey, *LOG_KEYS) for vkey in vkeys):
            self.logs.setdefault(key.name, []).append(key)
        self.fault = fault
        self.offers = offers
        self.busy = busy
        self.states: dict[str, _State] = {}
        self.requests = 0
        self.racing = 0

    def has(self, *faults: str) -> bool:
        """Say whether one of these rules is broken."""
        return self.fault in faults

    async def answer(  # noqa: PLR0911 - one for each refusal
        self, method: str, path: str, fields: dict[str, str], body: bytes
    ) -> Reply:
        """Answer one request."""
        self.requests += 1
        if self.busy:
            self.busy -= 1
            return Reply(429, b"busy\n", retry_after="0")
        found = re.fullmatch(r"/([0-9a-fA-F]{64})/checkpoint", path)
        if found and "monitoring" in self.offers:
            return self._monitor(method, found.group(1))
        if path == "/sign-subtree" and "subtrees" in self.offers:
            return self._sign_subtree(body)
        if path != "/add-checkpoint":
            return Reply(404, b"no such path\n")
        if method != "POST":
            return Reply(200 if self.has(f"{method.lower()}-add-checkpoint") else 405)
        if self.has("chunked-body") and "transfer-encoding" in fields:
            return Reply(411)
        if self.has("request-content-type") and "form" in fields.get("content-type", ""):
            return Reply(415)
        if len(body) > LIMITS.get(self.fault, 200_000):
            return Reply(413)
        return await self._add_checkpoint(body)

    async def _add_checkpoint(self, body: bytes) -> Reply:
        try:
            request = self._parse(body)
        except UpstreamProtocolError as error:
            return Reply(500 if self.has(*CRASHES) else 400, f"{error}\n".encode())
        origin = request.checkpoint.origin
        origin = origin.strip() if self.has("origin-trailing-space") else origin
        state = self.states.get(origin, _State(0, EMPTY_ROOT))
        refusal = self._check_log(origin, request) or self._check_tree(origin, request, state)
        if self.has("race-of-sizes", "race-of-forks"):
            await trio.sleep(0.02)
        if self.has("race-of-refreshes"):
            self.racing += 1
            await trio.sleep(0.01)
            self.racing -= 1
            refusal = refusal or (Reply(503) if self.racing else None)
        if refusal is not None:
            return refusal
        return self._accept(origin, request, state)

    def _parse(self, body: bytes) -> AddCheckpoint:
        mended = MENDERS.get(self.fault, bytes)(body)
        if self.has("proof-of-63-hashes") and mended.count(b"\n") > 63:
            raise UpstreamProtocolError("too many lines")
        if self.has("proof-of-64-hashes"):
            mended = re.sub(rb"^((?:.*\n){64})(?:.+\n)(?=\n)", rb"\1", mended)
        if not self.has(*LAX_TEXTS):
            return parse_add_checkpoint(mended)
        note = parse_note(mended.partition(b"\n\n")[2])
        origin, size, _ = note.text.decode().split("\n")[:3]
        known = self.states.get(origin, _State(1, EMPTY_ROOT))
        text = Checkpoint(origin, int(size), known.root).text
        request = parse_add_checkpoint(b"old %d\n\n" % int(size) + format_note(Note(text, note.signatures)))
        try:
            return parse_add_checkpoint(mended)
        except UpstreamProtocolError:
            return type(request)(request.old, (), note, request.checkpoint)

    def _check_log(self, origin: str, request: AddCheckpoint) -> Reply | None:  # noqa: PLR0911 - as above
        keys = self.logs.get(origin)
        if keys is None or (self.has("ml-dsa-log") and keys[0].kind is KeyType.ML_DSA_44):
            return Reply(403 if self.has("unknown-origin") else 404)
        lines = self._lines(request)
        if self.has("sixteen-lines") and len(lines) > 8:
            return Reply(400)
        keys = keys[:1] if self.has("second-key") else keys
        known = [(line, key) for line in lines for key in keys if self._is_of(line, key)]
        is_twice = len(set(known)) < len(known)
        if (self.has("duplicate-line") and is_twice) or (self.has("both-keys") and len(known) > 1):
            return Reply(400)
        good = [_fits(line, key, request.note.text) or self.has("bad-signature") for line, key in known]
        own = [line for line in lines for key in WITNESS_KEYS if line.is_of(key)]
        if self.has("forged-own-line", "own-line") and own:
            return Reply(403)
        if self.has("bad-then-good", "second-key-bad"):
            return None if any(good) else Reply(403)
        if self.has("stranger-alone") and not good:
            return None
        return None if good and all(good) else Reply(403)

    def _lines(self, request: AddCheckpoint) -> tuple[Signature, ...]:
        lines = request.note.signatures
        if self.has("good-then-bad"):
            return tuple({(line.name, line.key_id): line for line in reversed(lines)}.values())
        return lines[:1] if self.has("strangers-first") else lines

    def _is_of(self, line: Signature, key: VerifierKey) -> bool:
        if self.has("same-name-other-id"):
            return line.name == key.name
        return line.key_id == key.key_id if self.has("same-id-other-name") else line.is_of(key)

    def _check_tree(  # noqa: PLR0911 - as above
        self, origin: str, request: AddCheckpoint, state: _State
    ) -> Reply | None:
        old, new = request.old, request.checkpoint
        if new.extension and (self.has("extension-line") or "extensions" not in self.offers):
            return Reply(400)
        if origin not in self.states:
            if self.has("never-seen-old-size"):
                return None
            if self.has("first-checkpoint"):
                return Reply(422)
        if old > new.size and not self.has("old-above-size") and not (self.has("rollback") and old == state.size):
            return Reply(400)
        if old != state.size and not (self.has("stale") and new.size > state.size):
            size = state.before if self.has("growth-is-remembered") else state.size
            return self._conflict(size)
        if self.has("refresh") and old == new.size and origin in self.states:
            return self._conflict(state.size)
        return self._check_empty(origin, request) or self._check_proof(request, state)

    def _conflict(self, size: int) -> Reply:
        newline = b"" if self.has("stale-body") else b"\n"
        return Reply(409, b"%d" % size + newline, _TEXT if self.has("stale-content-type") else "text/x.tlog.size")

    def _check_empty(self, origin: str, request: AddCheckpoint) -> Reply | None:
        new = request.checkpoint
        if self.has("growth-from-empty-tree") and origin in self.states and new.size > request.old == 0:
            return Reply(422)
        if new.size:
            return None
        if self.has("empty-tree") or (self.has("empty-tree-refresh") and origin in self.states):
            return Reply(422)
        return Reply(422) if new.root != EMPTY_ROOT and not self.has("empty-tree-wrong-root") else None

    def _check_proof(self, request: AddCheckpoint, state: _State) -> Reply | None:
        old, root, new, proof = state.size, state.root, request.checkpoint, request.proof
        if self.has("growth") and 0 < old < new.size:
            return Reply(422)
        if self.has("rollback") and old > new.size:
            return None
        if self.has("proof-with-extra-hash", "same-size-with-proof", "empty-tree-with-proof", "proof-from-size-0"):
            proof = proof[: len(plan_consistency(old, new.size))]
        if self.has("refusal-changes-nothing"):
            state.size, state.root = new.size, new.root
        try:
            check_consistency(proof, old_size=old, old_root=root, new_size=new.size, new_root=new.root)
        except ProofError:
            lax = ("wrong-proof", "split-view", "stale", "empty-tree-wrong-root", "same-size-other-root")
            is_lax = self.has(*lax) or (self.has("no-proof") and not proof)
            if self.has("proof-of-64-hashes") and len(proof) == 63:
                return Reply(500)
            return None if is_lax else Reply(422)
        return None

    def _accept(self, origin: str, request: AddCheckpoint, state: _State) -> Reply:
        new = request.checkpoint
        lines = self._cosign(request.note.text)
        kept = [line for line in request.note.signatures if self._is_kept(line, origin)]
        shown = format_note(Note(request.note.text, (*kept, *lines)))
        before = state.size if new.size != state.size else state.before
        self.states[origin] = _State(new.size, new.root, shown, before)
        body = format_lines(lines)
        if self.has("answer-lines"):
            body = body[:-1]
        if self.has("answer-own-lines"):
            body += format_lines(stranger_lines(1, 64))
        return Reply(200, body)

    def _is_kept(self, line: Signature, origin: str) -> bool:
        if any(line.is_of(key) for key in self.logs[origin]):
            return not self.has("monitor-log-line")
        is_own = any(line.is_of(key) for key in WITNESS_KEYS)
        return self.has("monitor-forged-own-line") if is_own else self.has("monitor-strangers")

    def _cosign(self, text: bytes) -> list[Signature]:
        now = int(time.time())
        if self.has("timestamp-not-ahead"):
            now += 3600
        if self.has("timestamps-in-order"):
            now -= self.requests
        if self.has("timestamp-not-zero"):
            now = 0
        if self.has("extension-cosigned"):
            text = b"".join(line + b"\n" for line in text.split(b"\n")[:3])
        skip_ml_dsa = self.has("answer-offers-ml-dsa") or "ml-dsa" not in self.offers
        keys = [key for key in SIGNERS if not (skip_ml_dsa and key.verifier.kind is KeyType.ML_DSA_44)]
        return [self._line(key, now, text) for key in keys]

    def _line(self, key: SignerKey, now: int, text: bytes) -> Signature:
        breaks = {KeyType.COSIGNATURE: "answer-ed25519", KeyType.ML_DSA_44: "answer-ml-dsa"}
        statement = statement_of(text if not self.has(*LAX_TEXTS) else _plain(text))
        signature = key.sign(cosigned_message(key.verifier, now, statement))
        if self.has(breaks[key.verifier.kind]):
            signature = bytes(len(signature))
        return make_line(key.verifier, now, signature)

    def _monitor(self, method: str, digest: str) -> Reply:
        if method != "GET" and not self.has("monitor-post"):
            return Reply(405)
        digest = digest.lower() if self.has("monitor-upper-case") else digest
        for origin in self.logs:
            if hashlib.sha256(origin.encode()).hexdigest() != digest:
                continue
            state = self.states.get(origin)
            if state is None:
                return Reply(200 if self.has("monitor-never-cosigned") else 404)
            note = parse_note(state.shown)
            if self.has("monitor-cosignatures"):
                kept = [line for line in note.signatures if not any(line.is_of(key) for key in WITNESS_KEYS)]
                return Reply(200, format_note(Note(note.text, (*kept, *self._cosign(note.text)))))
            return Reply(404) if self.has("monitor-checkpoint") else Reply(200, state.shown)
        return Reply(404)

    def _sign_subtree(self, body: bytes) -> Reply:
        try:
            request = parse_sign_subtree(body)
        except UpstreamProtocolError:
            return Reply(422 if self.has("subtree-invalid-range", "subtree-beyond-size") else 400)
        new = request.checkpoint
        if new.origin not in self.logs:
            return Reply(403 if self.has("subtree-unknown-origin") else 404)
        statement = Statement(new.origin, 0, new.size, new.root, request.note.text)
        own = [line for line in request.note.signatures for key in WITNESS_KEYS if line.is_of(key)]
        verified = [fits_cosignature(key, line, statement) for line in own for key in WITNESS_KEYS if line.is_of(key)]
        if not any(verified) and not self.has("subtree-not-cosigned"):
            return Reply(403)
        start, end, subtree = request.start, request.end, request.subtree
        try:
            check_subtree(request.proof, start=start, end=end, subtree=subtree, size=new.size, root=new.root)
        except ProofError:
            if not self.has("subtree-wrong-proof", "subtree-other-hash"):
                return Reply(422)
        signer = SIGNERS[1]
        part = Statement(new.origin, start, end, EMPTY_ROOT if self.has("subtree") else subtree)
        signature = signer.sign(cosigned_message(signer.verifier, 0, part))
        return Reply(200, format_lines([make_line(signer.verifier, int(self.has("subtree-timestamp")), signature)]))


def _fits(line: Signature, key: VerifierKey, text: bytes) -> bool:
    if key.kind is KeyType.ED25519:
        return key.fits(line.value, text)
    return fits_cosignature(key, line, statement_of(text))


def _plain(text: bytes) -> bytes:
    """Return the text of a checkpoint that a parser as strict as ours reads."""
    origin, size, _ = text.decode().split("\n")[:3]
    return Checkpoint(origin, int(size), EMPTY_ROOT).text
