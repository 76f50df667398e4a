"""Conformance cases about the signatures of a submitted checkpoint: whose count, and what is passed over.

All but two are refreshes: right requests of the latest checkpoint, under other signatures.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from mirrorwitness.tlog.cosignature import make_line
from mirrorwitness.tlog.keys import KeyId, KeyType
from mirrorwitness.tlog.note import Signature, format_lines, parse_lines, parse_note
from mirrorwitness.witness.finding import (
    ADD,
    MAY,
    MUST,
    POLICY,
    REFUSALS,
    SHOULD,
    Finding,
    judge_cosigned,
    judge_status,
)
from mirrorwitness.witness.lab import ML_DSA_VALUE_BYTES, add_lines, break_line, sign_line, stranger_lines
from mirrorwitness.witness.trial import CONFLICT, OWN, Case, CaseSkippedError, statement_in

if TYPE_CHECKING:
    from collections.abc import Container

    from mirrorwitness.witness.trial import Trial

__all__ = ["ROTATED", "SIGNATURES"]

ROTATED: Final = "rotated"
"""Name of the log that has two keys."""

_TWO: Final = (KeyType.ED25519, KeyType.ED25519)

_NONE: Final = (
    f"{ADD}“The witness MUST respond with a 403 Forbidden HTTP status code if either no signature from a trusted key "
    "for the origin is present, or …”"
)
_BAD: Final = (
    f"{ADD}“… 403 … if … a signature line's key name and ID match a trusted key but the signature itself fails to "
    "verify”"
)
_UNKNOWN_LOG: Final = f"{ADD}“If the checkpoint origin is unknown, the witness MUST respond with a 404”"
_IGNORE: Final = f"{ADD}“it MUST ignore signatures from unknown keys”"
_SHARE: Final = "signed-note, Signatures: “even if they share a name or ID (but not both) with a known key”"
_SIXTEEN: Final = "signed-note, Format: “MUST accept at least up to 16 signatures”"
_LARGE: Final = f"{_SIXTEEN}; “post-quantum signatures can be up to nearly 5kB in size”"
_EXTENSION: Final = "tlog-cosignature: “Extension lines MAY be included in the checkpoint by the log”"
_TWICE: Final = "research/A 1.12: C2SP issue 257 would refuse a line that is there twice"
_KEYS: Final = f"{ADD}“The witness MUST verify the checkpoint signature against the public key(s) it trusts”"
_ML_DSA: Final = "tlog-checkpoint, Signatures: “Logs SHOULD use ML-DSA-44 cosignatures to sign the checkpoint”"


async def _accepted(trial: Trial, note: bytes, choice: Container[int] = ()) -> Finding:
    """Refresh with a note of our making."""
    answer = await trial.submit(note, old=await trial.size())
    return judge_cosigned(answer, statement_in(note), trial.keys, choice=choice)


async def _refused(trial: Trial, note: bytes) -> Finding:
    return judge_status(await trial.submit(note, old=await trial.size()), 403)


async def _latest(trial: Trial) -> bytes:
    return trial.log.checkpoint(await trial.size())


async def _bad(trial: Trial) -> Finding:
    note = await _latest(trial)
    return await _refused(trial, parse_note(note).text + b"\n" + format_lines([break_line(note)]))


async def _bad_then_good(trial: Trial) -> Finding:
    note = await _latest(trial)
    return await _refused(trial, add_lines(note, break_line(note), first=True))


async def _good_then_bad(trial: Trial) -> Finding:
    note = await _latest(trial)
    return await _refused(trial, add_lines(note, break_line(note)))


async def _stranger_alone(trial: Trial) -> Finding:
    text = trial.log.text(await trial.size())
    return await _refused(trial, trial.log.sign(text, trial.session.log("stranger").keys[0]))


async def _unknown_origin(trial: Trial) -> Finding:
    return judge_status(await trial.submit(trial.session.log("unknown").checkpoint(10), old=0), 404)


async def _trailing_space(trial: Trial) -> Finding:
    first, _, rest = trial.log.text(1).partition(b"\n")
    return judge_status(await trial.submit(trial.log.sign(first + b" \n" + rest), old=0), 404, choice={400})


async def _same_name(trial: Trial) -> Finding:
    line = break_line(note := await _latest(trial))
    other = KeyId(bytes([line.key_id[0] ^ 1]) + line.key_id[1:])
    return await _accepted(trial, add_lines(note, Signature(line.name, other, line.value)))


async def _same_id(trial: Trial) -> Finding:
    line = break_line(note := await _latest(trial))
    return await _accepted(trial, add_lines(note, Signature(f"{line.name}/other", line.key_id, line.value)))


async def _forged_own(trial: Trial) -> Finding:
    return await _accepted(trial, add_lines(await _latest(trial), *forged_lines(trial)))


async def _own(trial: Trial) -> Finding:
    note, answer = await trial.refresh()
    return await _accepted(trial, add_lines(note, *parse_lines(answer.body)))


def forged_lines(trial: Trial) -> list[Signature]:
    """Return a line for each key of the witness that has its name and its ID, and is not its signature."""
    return [make_line(key, trial.now, bytes(key.kind.signature_bytes)) for key in trial.keys]


async def _strangers(count: int, value_bytes: int, trial: Trial) -> Finding:
    return await _accepted(trial, add_lines(await _latest(trial), *stranger_lines(count, value_bytes)))


async def _strangers_first(trial: Trial) -> Finding:
    return await _accepted(trial, add_lines(await _latest(trial), *stranger_lines(3, 64), first=True))


async def _extension(trial: Trial) -> Finding:
    return await _accepted(trial, trial.log.checkpoint(await trial.size(), "extension line"), REFUSALS)


async def _duplicate(trial: Trial) -> Finding:
    note = await _latest(trial)
    return await _accepted(trial, add_lines(note, *parse_note(note).signatures), {400, 403})


async def _second_key(trial: Trial) -> Finding:
    text = trial.log.text(await trial.size())
    return await _accepted(trial, trial.log.sign(text, trial.log.keys[1]), {403})


async def _both_keys(trial: Trial) -> Finding:
    return await _accepted(trial, trial.log.sign(trial.log.text(await trial.size()), *trial.log.keys))


async def _second_key_bad(trial: Trial) -> Finding:
    size = await trial.size()
    text = trial.log.text(size)
    alone = await trial.submit(trial.log.sign(text, trial.log.keys[1]), old=size)
    if alone.status == 403:  # noqa: PLR2004 - of HTTP
        raise CaseSkippedError(f"the witness does not know the second key of {trial.log.origin}")
    good = sign_line(trial.log.keys[0], text, 0)
    bad = break_line(trial.log.sign(text, trial.log.keys[1]))
    return await _refused(trial, text + b"\n" + format_lines([good, bad]))


async def _ml_dsa_log(trial: Trial) -> Finding:
    note = trial.log.checkpoint(1, timestamp=trial.now)
    answer = await trial.submit(note, old=0)
    if answer.status == CONFLICT:
        note, answer = await trial.refresh()
    return judge_cosigned(answer, statement_in(note), trial.keys, choice={403, 404})


SIGNATURES: Final = (
    Case("bad-signature", "the log's signature has to verify", MUST, _BAD, _bad),
    Case("bad-then-good", "a bad line before a good one is too much", MUST, _BAD, _bad_then_good),
    Case("good-then-bad", "a bad line behind a good one is too much", MUST, _BAD, _good_then_bad),
    Case("stranger-alone", "a key that is not the log's is not enough", MUST, _NONE, _stranger_alone),
    Case("unknown-origin", "a log that was not configured is unknown", MUST, _UNKNOWN_LOG, _unknown_origin),
    Case("origin-trailing-space", "an origin is compared exactly", MUST, _UNKNOWN_LOG, _trailing_space),
    Case("same-name-other-id", "a line of the log's name and another ID is ignored", MUST, _SHARE, _same_name),
    Case("same-id-other-name", "a line of the log's ID and another name is ignored", MUST, _SHARE, _same_id),
    Case("forged-own-line", "a forged line of the witness itself is ignored", MUST, _IGNORE, _forged_own),
    Case("own-line", "a line that the witness answered before is ignored", MUST, _IGNORE, _own),
    Case("strangers-first", "lines of others before the log's are ignored", MUST, _IGNORE, _strangers_first),
    Case("sixteen-lines", "16 signatures of Ed25519", MUST, _SIXTEEN, partial(_strangers, 15, 64)),
    Case("ml-dsa-lines-2", "2 lines as long as ML-DSA-44's", MUST, _LARGE, partial(_strangers, 2, ML_DSA_VALUE_BYTES)),
    Case("ml-dsa-lines-4", "4 lines as long as ML-DSA-44's", MUST, _LARGE, partial(_strangers, 4, ML_DSA_VALUE_BYTES)),
    Case("ml-dsa-lines-15", "15 lines, 49 kB in all", MUST, _LARGE, partial(_strangers, 15, ML_DSA_VALUE_BYTES)),
    Case("extension-line", "a checkpoint may have extension lines", MAY, _EXTENSION, _extension),
    Case("duplicate-line", "the log's line may be there twice", POLICY, _TWICE, _duplicate),
    Case("second-key", "a log's second key is enough", MUST, _KEYS, _second_key, ROTATED, _TWO),
    Case("both-keys", "both keys of a log may sign", MUST, _KEYS, _both_keys, ROTATED, _TWO),
    Case("second-key-bad", "a bad line of the second key is too much", MUST, _BAD, _second_key_bad, ROTATED, _TWO),
    Case("ml-dsa-log", "a log may sign with ML-DSA-44", SHOULD, _ML_DSA, _ml_dsa_log, OWN, (KeyType.ML_DSA_44,)),
)
