"""Conformance cases about the monitoring prefix: what a witness shows to everybody of what it cosigned.

They grow a log of their own, so that no other case moves it between the answer and the look. A witness without
monitoring is no less a witness: without a monitoring prefix from the operator a 404 skips all of them. With one it
fails the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.cosignature import check_cosignatures
from mirrorwitness.tlog.note import parse_lines, parse_note
from mirrorwitness.witness.cases_signatures import forged_lines
from mirrorwitness.witness.finding import (
    MUST,
    OK,
    POLICY,
    REFUSALS,
    SHOULD,
    Finding,
    Result,
    failed,
    judge,
    judge_status,
    passed,
)
from mirrorwitness.witness.lab import add_lines, stranger_lines
from mirrorwitness.witness.trial import OWN, Case, CaseSkippedError, Trial, statement_in

if TYPE_CHECKING:
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.note import Signature
    from mirrorwitness.witness.wire import Answer

__all__ = ["MONITOR"]

_LOG: Final = "monitored"
_NOT_FOUND: Final = 404

_WHERE: Final = "tlog-witness, Monitor Retrieval: "
_SERVE: Final = f"{_WHERE}“A witness SHOULD serve a recent checkpoint for each log it cosigned”"
_INCLUDE: Final = (
    f"{_WHERE}“it MUST include the cosignature(s) from the witness's key(s) that were returned from add-checkpoint and "
    "the cosignature from the log key(s) that the witness verified”"
)
_NEVER: Final = f"{_WHERE}“If the witness has never cosigned a checkpoint for that log, it MUST respond with a 404”"
_GET: Final = f"{_WHERE}“The request MUST be an HTTP GET”"
_LOWER: Final = f"{_WHERE}“The origin hash is the SHA-256 hash of the log's origin, hex encoded, in lowercase”"
_FORGED: Final = "signed-note: “If a signature from a known key fails to verify, clients SHOULD reject the whole note”"
_UNCHECKED: Final = "research/A 6: store only lines that verified, and our own"


async def _grow(trial: Trial, *more: Signature) -> Answer:
    """Let the log grow by one, with more lines under the checkpoint than the log's; return what is answered."""
    size = await trial.size()
    note = add_lines(trial.log.checkpoint(size + 1), *more)
    return await trial.submit(note, old=size, proof=trial.log.proof(size, size + 1))


async def _show(trial: Trial, *more: Signature) -> tuple[Answer, Answer]:
    """Let the log grow, and return what was answered and what is shown.

    Raises:
        CaseSkippedError: it does not show anything, or not yet.
    """
    cosigned = await _grow(trial, *more)
    if cosigned.status != OK:
        raise UpstreamProtocolError(f"{trial.log.origin}: growth was answered with {cosigned.status}")
    shown = await trial.monitor()
    if shown.status == _NOT_FOUND:
        raise CaseSkippedError("the witness shows nothing at this monitoring prefix")
    if shown.status == OK and statement_in(shown.body).end != await trial.size():
        raise CaseSkippedError("the witness shows an earlier checkpoint; it may do so for an hour")
    return cosigned, shown


def _open(trial: Trial, shown: Answer) -> OpenedCheckpoint:
    return open_checkpoint(shown.body, [key.verifier for key in trial.log.keys], origin=trial.log.origin)


async def _is_shown(trial: Trial) -> Finding:
    await _grow(trial)
    shown = await trial.monitor()
    if shown.status != OK:
        if shown.status == _NOT_FOUND and trial.session.monitoring is None:
            raise CaseSkippedError("nothing is shown at the submission prefix: say which the monitoring prefix is")
        return judge_status(shown, OK)
    size = await trial.size()
    expected = f"the checkpoint of size {size}"
    try:
        checkpoint = _open(trial, shown).checkpoint
    except (UpstreamProtocolError, SignatureError) as error:
        return failed(expected, str(error), shown)
    found = f"that of size {checkpoint.size}"
    if checkpoint.root != trial.log.root(checkpoint.size):
        return failed(expected, f"{found} with another root than ours", shown)
    return Finding(Result.PASSED if checkpoint.size == size else Result.DIFFERS, expected, found, shown)


async def _log_line(trial: Trial) -> Finding:
    _, shown = await _show(trial)
    expected = "a line of the log's key that verifies"
    try:
        _open(trial, shown)
    except SignatureError as error:
        return failed(expected, str(error), shown)
    return passed(expected, "it", shown)


async def _same_lines(trial: Trial) -> Finding:
    cosigned, shown = await _show(trial)
    answered = set(parse_lines(cosigned.body))
    both = answered & set(parse_note(shown.body).signatures)
    expected = f"all {len(answered)} lines that were answered"
    return judge(both == answered, expected, f"{len(both)} of them", shown)


async def _never(trial: Trial) -> Finding:
    await _show(Trial(trial.session, trial.session.log(_LOG), trial.line))  # else a 404 says nothing
    return judge_status(await trial.monitor(), _NOT_FOUND)


async def _no_forged_line(trial: Trial) -> Finding:
    _, shown = await _show(trial, *forged_lines(trial))
    note = parse_note(shown.body)
    expected = "no line in the witness's name that does not verify"
    try:
        check_cosignatures(note.signatures, trial.keys, statement_in(shown.body))
    except SignatureError as error:
        return failed(expected, str(error), shown)
    return passed(expected, "none", shown)


async def _no_strangers(trial: Trial) -> Finding:
    strangers = stranger_lines(2, 64)
    _, shown = await _show(trial, *strangers)
    kept = set(strangers) & set(parse_note(shown.body).signatures)
    result = Result.DIFFERS if kept else Result.PASSED
    return Finding(result, "no line that nobody checked", f"{len(kept)} of them", shown)


async def _upper_case(trial: Trial) -> Finding:
    await _show(trial)
    return judge_status(await trial.monitor(upper=True), 404, 400, choice=range(200, 500))


async def _post(trial: Trial) -> Finding:
    await _show(trial)
    return judge_status(await trial.monitor("POST"), 405, choice={501, *REFUSALS})


MONITOR: Final = (
    Case("monitor-checkpoint", "the latest checkpoint is shown", SHOULD, _SERVE, _is_shown, _LOG),
    Case("monitor-log-line", "with the log's line that was verified", MUST, _INCLUDE, _log_line, _LOG),
    Case("monitor-cosignatures", "with the very lines that were answered", MUST, _INCLUDE, _same_lines, _LOG),
    Case("monitor-never-cosigned", "a log never cosigned is not found", MUST, _NEVER, _never, OWN),
    Case("monitor-forged-own-line", "without a forged line of the witness", SHOULD, _FORGED, _no_forged_line, _LOG),
    Case("monitor-strangers", "without lines that nobody checked", POLICY, _UNCHECKED, _no_strangers, _LOG),
    Case("monitor-upper-case", "the hash is lower-case", POLICY, _LOWER, _upper_case, _LOG),
    Case("monitor-post", "POST is not allowed", MUST, _GET, _post, _LOG),
)
