"""Conformance cases about what a witness answers with: its lines, their times, and who wins a race."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.note import parse_lines
from mirrorwitness.witness.finding import (
    ADD,
    MUST,
    OK,
    SHOULD,
    Finding,
    Result,
    cosignatures_of,
    failed,
    first_problem,
    judge,
    judge_cosigned,
    judge_status,
    passed,
)
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.trial import CONFLICT, OWN, TOO_MANY, Case, CaseSkippedError, statement_in

if TYPE_CHECKING:
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.witness.trial import Trial
    from mirrorwitness.witness.wire import Answer

__all__ = ["ANSWERS", "RACES"]

_RACERS: Final = 16
"""Requests at the same moment; as many as research/A 4.2 raced."""

_AHEAD: Final = 60
"""Seconds that a timestamp may lie in the future: clocks differ."""

_LINES: Final = (
    f"{ADD}“The response body MUST be a sequence of one or more note signature lines, each starting with the — "
    "character (U+2014) and ending with a newline character (U+000A)”"
)
_OWN_KEYS: Final = f"{ADD}“The signatures MUST be cosignatures from the witness key(s) on the checkpoint”"
_OFFERED: Final = f"{ADD}“Witnesses SHOULD use ML-DSA-44 cosignatures”"
_NOT_ZERO: Final = f"{ADD}“The cosignature MUST NOT omit the timestamp, i.e. the timestamp MUST NOT be zero”"
_WHEN: Final = "tlog-cosignature, Format: “timestamp is the time at which the cosignature was generated”"
_LARGEST: Final = (
    "tlog-cosignature, Ed25519 signed message: “as of the specified time, the consistent tree head with the largest "
    "size the cosigner has observed”"
)
_EXTENSION: Final = "tlog-cosignature: “if present MUST be included in the cosigned message”"
_ATOMIC: Final = (
    f"{ADD}“checking the old size against the latest checkpoint and persisting the new checkpoint must be performed "
    "atomically”"
)


async def _is_lines(trial: Trial) -> Finding:
    _, answer = await trial.refresh()
    expected = "signature lines, each from — to a newline"
    try:
        lines = parse_lines(answer.body)
    except UpstreamProtocolError as error:
        return failed(expected, str(error), answer)
    return first_problem(judge_status(answer, OK), passed(expected, f"{len(lines)} lines", answer))


async def _own_lines(trial: Trial) -> Finding:
    _, answer = await trial.refresh()
    lines = parse_lines(answer.body)
    strangers = [line.name for line in lines if not any(line.is_of(key) for key in trial.keys)]
    found = ", ".join(strangers[:5]) or "no others"
    return judge(not strangers, "lines of the witness's keys alone", f"of {len(lines)} lines, {found}", answer)


async def _ed25519(trial: Trial) -> Finding:
    return await _verifies(trial, KeyType.COSIGNATURE)


async def _ml_dsa(trial: Trial) -> Finding:
    return await _verifies(trial, KeyType.ML_DSA_44)


async def _verifies(trial: Trial, kind: KeyType, *extension: str) -> Finding:
    """Judge that each key of a type cosigned exactly what was sent."""
    keys = trial.session.keys_of(kind)
    if not keys:
        raise CaseSkippedError(f"needs a key of the witness of type {kind.title}")
    size = await trial.size()
    note = trial.log.checkpoint(size, *extension)
    answer = await trial.submit(note, old=size)
    if extension and answer.status != OK:
        raise CaseSkippedError(f"the witness answers {answer.status} to extension lines")
    expected = f"a cosignature that verifies, of each of {len(keys)} keys"
    try:
        found = cosignatures_of(answer, statement_in(note), keys)
    except (UpstreamProtocolError, SignatureError) as error:
        return failed(expected, str(error), answer)
    signed = {each.key for each in found}
    return judge(len(signed) == len(keys), expected, f"of {len(signed)}", answer)


async def _extension(trial: Trial) -> Finding:
    return await _verifies(trial, KeyType.COSIGNATURE, "extension line")


async def _offered(trial: Trial) -> Finding:
    _, answer = await trial.refresh()
    kinds = {key.kind.title for key in trial.keys for line in parse_lines(answer.body) if line.is_of(key)}
    expected = KeyType.ML_DSA_44.title
    return judge(expected in kinds, f"a line of type {expected}", f"lines of {', '.join(sorted(kinds))}", answer)


async def _cosigned(trial: Trial) -> tuple[Answer, tuple[Cosignature, ...]]:
    """Refresh, and return the cosignatures; there is at least one."""
    note, answer = await trial.refresh()
    found = cosignatures_of(answer, statement_in(note), trial.keys)
    if not found:
        raise UpstreamProtocolError(f"{trial.log.origin}: a refresh was answered without a cosignature")
    return answer, found


async def _not_zero(trial: Trial) -> Finding:
    answer, found = await _cosigned(trial)
    times = [each.timestamp for each in found]
    return judge(all(times), "timestamps above 0", f"timestamps {times}", answer)


async def _not_ahead(trial: Trial) -> Finding:
    answer, found = await _cosigned(trial)
    ahead = max(each.timestamp for each in found) - trial.now
    return judge(ahead <= _AHEAD, f"at most {_AHEAD} s ahead of our clock", f"{ahead} s ahead", answer)


async def _in_order(trial: Trial) -> Finding:
    times: list[dict[str, int]] = []
    for _ in range(4):
        _, found = await _cosigned(trial)
        times.append({str(each.key): each.timestamp for each in found})
        size = await trial.size()
        await trial.submit(trial.log.checkpoint(size + 1), old=size, proof=trial.log.proof(size, size + 1))
    rows = [[each[key] for each in times if key in each] for key in times[0]]
    return judge(all(row == sorted(row) for row in rows), "timestamps that do not fall", f"timestamps {rows}")


def _count(answers: list[Answer]) -> tuple[int, str]:
    """Return how many are 200, and all statuses for people."""
    counts = Counter(answer.status for answer in answers)
    return counts[OK], ", ".join(f"{number} of {status}" for status, number in sorted(counts.items()))


def _judge_race(answers: list[Answer]) -> Finding:
    """Judge a race that one request has to win; what the losers get is the lesser matter."""
    won, shown = _count(answers)
    expected = f"1 of 200, {len(answers) - 1} of 409"
    if won != 1:
        return failed(expected, shown)
    other = next((each for each in answers if each.status not in {OK, CONFLICT, TOO_MANY}), None)
    return Finding(Result.DIFFERS if other else Result.PASSED, expected, shown, other)


async def _race_of_sizes(trial: Trial) -> Finding:
    old = await trial.size()
    bodies = [
        format_add_checkpoint(old, trial.log.proof(old, new), trial.log.checkpoint(new))
        for new in range(old + 1, old + 1 + _RACERS)
    ]
    return _judge_race(await trial.race(bodies))


async def _race_of_forks(trial: Trial) -> Finding:
    answer = await trial.first(trial.log.checkpoint(4))
    if answer.status != OK:
        return judge_status(answer, OK)
    forks = [trial.log.fork(4, name) for name in ("one", "two")]
    bodies = [format_add_checkpoint(4, fork.proof(4, 7), fork.checkpoint(7)) for fork in forks]
    return _judge_race(await trial.race(bodies * (_RACERS // len(bodies))))


async def _race_of_refreshes(trial: Trial) -> Finding:
    size = await trial.size()
    note = trial.log.checkpoint(size)
    answers = await trial.race([format_add_checkpoint(size, [], note)] * _RACERS)
    won, shown = _count([each for each in answers if each.status != TOO_MANY])
    return first_problem(
        *[judge_cosigned(each, statement_in(note), trial.keys) for each in answers if each.status != TOO_MANY],
        judge(won > 0, "200 each time", shown),
    )


ANSWERS: Final = (
    Case("answer-lines", "the answer is signature lines", MUST, _LINES, _is_lines),
    Case("answer-own-lines", "the answer has no lines of others", MUST, _OWN_KEYS, _own_lines),
    Case("answer-ed25519", "each Ed25519 key cosigns exactly the checkpoint", MUST, _OWN_KEYS, _ed25519),
    Case("answer-ml-dsa", "each ML-DSA-44 key cosigns exactly the tree", MUST, _OWN_KEYS, _ml_dsa),
    Case("answer-offers-ml-dsa", "there is an ML-DSA-44 cosignature", SHOULD, _OFFERED, _offered),
    Case("extension-cosigned", "Ed25519 cosignatures cover extension lines", MUST, _EXTENSION, _extension),
    Case("timestamp-not-zero", "a cosignature says when", MUST, _NOT_ZERO, _not_zero),
    Case("timestamp-not-ahead", "and not a time to come", MUST, _WHEN, _not_ahead),
    Case("timestamps-in-order", "later cosignatures have no earlier times", MUST, _LARGEST, _in_order),
)

RACES: Final = (
    Case("race-of-sizes", f"of {_RACERS} growths at once from one size one wins", MUST, _ATOMIC, _race_of_sizes),
    Case("race-of-forks", "of two forks at once one wins, and once", MUST, _ATOMIC, _race_of_forks, OWN),
    Case("race-of-refreshes", f"{_RACERS} refreshes at once are all answered", SHOULD, _ATOMIC, _race_of_refreshes),
)
