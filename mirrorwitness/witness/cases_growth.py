"""Conformance cases about trees: what may follow on what, and which status says no.

Each rule of tlog-witness, "add-checkpoint", from the old size to the consistency proof, tried from the size that the
witness has. Forks are tried on logs of their own: a witness that falls for one has lost that log for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.merkle import MAX_PROOF_HASHES
from mirrorwitness.witness.finding import (
    ADD,
    MUST,
    OK,
    POLICY,
    REFUSALS,
    Finding,
    first_problem,
    judge_cosigned,
    judge_equal,
    judge_status,
)
from mirrorwitness.witness.protocol import SIZE_TYPE, format_add_checkpoint
from mirrorwitness.witness.trial import OWN, Case, read_size, statement_in

if TYPE_CHECKING:
    from mirrorwitness.witness.trial import Trial
    from mirrorwitness.witness.wire import Answer

__all__ = ["GROWTH"]

_OLD: Final = (
    f"{ADD}“The witness MUST check that the old size matches the size of the latest checkpoint it cosigned for the "
    "checkpoint's origin (or zero if it never cosigned a checkpoint for that origin). If it doesn't match, the witness "
    "MUST respond with a 409”"
)
_BODY: Final = (
    f"{ADD}“The response body MUST consist of the tree size of the latest cosigned checkpoint in decimal, followed by "
    "a newline”"
)
_TYPE: Final = f"{ADD}“The response MUST have a Content-Type of {SIZE_TYPE}”"
_EMPTY: Final = (
    f"{ADD}“A checkpoint of size zero MUST have the root hash of the empty tree … Otherwise, the witness MUST respond "
    "with a 422”"
)
_PROOF: Final = (
    f"{ADD}“If the proof is not empty when the old size is zero, or if a Merkle Consistency Proof doesn't verify, the "
    "witness MUST respond with a 422”"
)
_ABOVE: Final = (
    f"{ADD}“The old size MUST be equal to or lower than the checkpoint size. Otherwise, the witness MUST respond with "
    "a 400”"
)
_SAME: Final = (
    f"{ADD}“If the old size matches the checkpoint size, the witness MUST check that the root hashes are also "
    "identical. If they don't match, the witness MUST respond with a 422”"
)
_UPDATE: Final = (
    f"{ADD}“If all the checks above pass, the witness MUST update its record of the latest cosigned checkpoint and "
    "respond with a 200”"
)
_NO_PROOF: Final = f"{ADD}“the empty tree is consistent with any tree, so no proof is necessary”"
_LINES: Final = f"{ADD}“The client MUST NOT send more than 63 consistency proof lines”"
_EVIDENCE: Final = f"{ADD}“(but MUST NOT cosign the checkpoint), as it might be proof of log misbehavior”"
_COUNTING: Final = "research/A 4.2: others count entries in 64 bits with a sign"


async def _never_seen(trial: Trial) -> Finding:
    answer = await trial.first(trial.log.checkpoint(10), old=5, proof=trial.log.proof(5, 10))
    return first_problem(judge_status(answer, 409), judge_equal("size in the body", read_size(answer), 0, answer))


async def _first(trial: Trial) -> Finding:
    note = trial.log.checkpoint(10)
    return judge_cosigned(await trial.first(note), statement_in(note), trial.keys)


async def _empty_wrong_root(trial: Trial) -> Finding:
    text = Checkpoint(trial.log.origin, 0, trial.log.root(1)).text
    return judge_status(await trial.first(trial.log.sign(text)), 422)


async def _empty_with_proof(trial: Trial) -> Finding:
    return judge_status(await trial.first(trial.log.checkpoint(0), proof=[trial.log.leaf(0)]), 422)


async def _empty(trial: Trial) -> Finding:
    note = trial.log.checkpoint(0)
    return judge_cosigned(await trial.first(note), statement_in(note), trial.keys)


async def _empty_again(trial: Trial) -> Finding:
    note = trial.log.checkpoint(0)
    once, again = await trial.first(note), await trial.submit(note, old=0)
    return first_problem(judge_status(once, OK), judge_cosigned(again, statement_in(note), trial.keys))


async def _from_empty(trial: Trial) -> Finding:
    empty, note = trial.log.checkpoint(0), trial.log.checkpoint(10)
    once, grown = await trial.first(empty), await trial.submit(note, old=0)
    return first_problem(judge_status(once, OK), judge_cosigned(grown, statement_in(note), trial.keys))


async def _proof_from_0(trial: Trial) -> Finding:
    return judge_status(await trial.first(trial.log.checkpoint(10), proof=[trial.log.leaf(0)]), 422)


async def _growth(trial: Trial) -> Finding:
    size = await trial.size()
    note = trial.log.checkpoint(size + 3)
    answer = await trial.submit(note, old=size, proof=trial.log.proof(size, size + 3))
    return judge_cosigned(answer, statement_in(note), trial.keys)


async def _remembered(trial: Trial) -> Finding:
    size = await trial.size()
    grown = await trial.submit(trial.log.checkpoint(size + 2), old=size, proof=trial.log.proof(size, size + 2))
    answer = await trial.submit(trial.log.checkpoint(size + 2), old=0)
    return first_problem(
        judge_status(grown, OK),
        judge_status(answer, 409),
        judge_equal("size in the body", read_size(answer), size + 2, answer),
    )


async def _refresh(trial: Trial) -> Finding:
    note, answer = await trial.refresh()
    return judge_cosigned(answer, statement_in(note), trial.keys)


async def _same_size_other_root(trial: Trial) -> Finding:
    size = await trial.size()
    return judge_status(await trial.submit(trial.log.fork(size - 1).checkpoint(size), old=size), 422)


async def _same_size_with_proof(trial: Trial) -> Finding:
    size = await trial.size()
    return judge_status(await trial.submit(trial.log.checkpoint(size), old=size, proof=[trial.log.leaf(0)]), 422)


async def _stale(trial: Trial) -> Finding:
    size = await trial.at_least(5)
    answer = await trial.submit(trial.log.checkpoint(size + 2), old=size - 1, proof=trial.log.proof(size - 1, size + 2))
    return judge_status(answer, 409)


async def _stale_type(trial: Trial) -> Finding:
    answer = await trial.submit(trial.log.checkpoint(await trial.size()), old=0)
    type_ = judge_equal("409 with the Content-Type", answer.field("content-type"), SIZE_TYPE, answer)
    return first_problem(judge_status(answer, 409), type_)


async def _stale_body(trial: Trial) -> Finding:
    size = await trial.size()
    answer = await trial.submit(trial.log.checkpoint(size), old=0)
    return first_problem(
        judge_status(answer, 409), judge_equal("409 with the body", answer.body[:100], b"%d\n" % size, answer)
    )


async def _above(trial: Trial) -> Finding:
    size = await trial.size()
    return judge_status(await trial.submit(trial.log.checkpoint(size), old=size + 5), 400)


async def _rollback(trial: Trial) -> Finding:
    size = await trial.at_least(5)
    return judge_status(await trial.submit(trial.log.checkpoint(size - 1), old=size), 400)


async def _wrong_proof(trial: Trial) -> Finding:
    size = await trial.at_least(5)
    first, *rest = trial.log.proof(size, size + 3)
    wrong = type(first)(bytes([first[0] ^ 1]) + first[1:])
    return judge_status(await trial.submit(trial.log.checkpoint(size + 3), old=size, proof=[wrong, *rest]), 422)


async def _no_proof(trial: Trial) -> Finding:
    size = await trial.size()
    return judge_status(await trial.submit(trial.log.checkpoint(size + 3), old=size), 422)


async def _extra_hash(trial: Trial) -> Finding:
    size = await trial.size()
    proof = [*trial.log.proof(size, size + 3), trial.log.leaf(0)]
    return judge_status(await trial.submit(trial.log.checkpoint(size + 3), old=size, proof=proof), 422)


async def _proof_of_63(trial: Trial) -> Finding:
    return judge_status(await _submit_long_proof(trial, MAX_PROOF_HASHES), 422)


async def _proof_of_64(trial: Trial) -> Finding:
    return judge_status(await _submit_long_proof(trial, MAX_PROOF_HASHES + 1), 400, 422, choice=REFUSALS)


async def _submit_long_proof(trial: Trial, lines: int) -> Answer:
    size = await trial.size()
    proof = trial.log.proof(size, size + 3)
    proof += [trial.log.leaf(0)] * (lines - len(proof))
    return await trial.submit(trial.log.checkpoint(size + 3), old=size, proof=proof)


async def _split_view(trial: Trial) -> Finding:
    return judge_status(await _submit_fork(trial, await trial.at_least(5)), 422)


async def _submit_fork(trial: Trial, size: int) -> Answer:
    fork = trial.log.fork(size - 1)
    return await trial.submit(fork.checkpoint(size + 3), old=size, proof=fork.proof(size, size + 3))


async def _unmoved(trial: Trial) -> Finding:
    size = await trial.at_least(5)
    refused = await _submit_fork(trial, size)
    asked = await trial.submit(trial.log.checkpoint(size), old=0)
    note = trial.log.checkpoint(size)
    again = await trial.submit(note, old=size)
    return first_problem(
        judge_status(refused, 422),
        judge_equal("size in the 409 after a refusal", read_size(asked), size, asked),
        judge_cosigned(again, statement_in(note), trial.keys),
    )


async def _huge(trial: Trial) -> Finding:
    size = await trial.size()
    note = trial.log.sign(Checkpoint(trial.log.origin, 2**63, trial.log.root(size)).text)
    return judge_status(await trial.post(format_add_checkpoint(size, [], note)), 400, choice=REFUSALS)


GROWTH: Final = (
    Case("never-seen-old-size", "a log never cosigned has size 0", MUST, _OLD, _never_seen, OWN),
    Case("first-checkpoint", "the first checkpoint needs old size 0 and no proof", MUST, _UPDATE, _first, OWN),
    Case("empty-tree-wrong-root", "size 0 with another root is refused", MUST, _EMPTY, _empty_wrong_root, OWN),
    Case("empty-tree-with-proof", "a proof to size 0 is refused", MUST, _PROOF, _empty_with_proof, OWN),
    Case("empty-tree", "size 0 with the empty tree's root is cosigned", MUST, _EMPTY, _empty, OWN),
    Case("empty-tree-refresh", "size 0 is cosigned again", MUST, _UPDATE, _empty_again, OWN),
    Case("growth-from-empty-tree", "a log cosigned at size 0 grows without proof", MUST, _NO_PROOF, _from_empty, OWN),
    Case("proof-from-size-0", "a proof from old size 0 is refused", MUST, _PROOF, _proof_from_0, OWN),
    Case("growth", "growth with its proof is cosigned", MUST, _UPDATE, _growth),
    Case("growth-is-remembered", "the next request is held to the new size", MUST, _UPDATE, _remembered),
    Case("refresh", "the latest checkpoint is cosigned again, without proof", MUST, _UPDATE, _refresh),
    Case("same-size-other-root", "another tree of the same size is refused", MUST, _SAME, _same_size_other_root, OWN),
    Case("same-size-with-proof", "a proof between equal sizes is refused", MUST, _PROOF, _same_size_with_proof),
    Case("stale", "an old size below the witness's is a conflict", MUST, _OLD, _stale),
    Case("stale-content-type", f"a conflict has exactly the type {SIZE_TYPE}", MUST, _TYPE, _stale_type),
    Case("stale-body", "a conflict's body is the size and a newline", MUST, _BODY, _stale_body),
    Case("old-above-size", "an old size above the checkpoint's is no conflict but wrong", MUST, _ABOVE, _above),
    Case("rollback", "a smaller checkpoint than the latest is refused", MUST, _ABOVE, _rollback),
    Case("wrong-proof", "a proof with one changed bit is refused", MUST, _PROOF, _wrong_proof),
    Case("no-proof", "growth without proof is refused", MUST, _PROOF, _no_proof),
    Case("proof-with-extra-hash", "a right proof with one more hash is refused", MUST, _PROOF, _extra_hash),
    Case("proof-of-63-hashes", "63 proof lines are read, and do not verify", MUST, _PROOF, _proof_of_63),
    Case("proof-of-64-hashes", "64 proof lines are refused", MUST, _LINES, _proof_of_64),
    Case("split-view", "a tree with another past is refused, with its own proof", MUST, _PROOF, _split_view, OWN),
    Case("refusal-changes-nothing", "a refused fork leaves size and tree as they were", MUST, _EVIDENCE, _unmoved, OWN),
    Case("size-2-63", "a tree of 2^63 entries is refused", POLICY, _COUNTING, _huge),
)
