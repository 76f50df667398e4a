"""What follows when a pod of ours ends: the rules in ``k8s/base`` played through, and what operators are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.jobs import JobState, Outcome, choose_action
from tests.deploy.manifests import Manifest, find_workloads, read_folder

ROOT = Path(__file__).parents[2]
JOBS = {
    workload.name: workload.spec
    for folder in sorted((ROOT / "k8s/base").iterdir())
    for workload in find_workloads(read_folder(folder))
    if workload.kind in {"Job", "CronJob"}
}
COLUMNS = {
    "sync": "mirror-sync",
    "audit": "mirror-audit",
    "witness poll": "witness-poll",
    "bootstrap": "mirror-bootstrap",
}
KILLED = 137


def first_action(spec: Manifest, code: int, *, is_disrupted: bool = False) -> str:
    return JobState(spec).end(0, code, is_disrupted=is_disrupted)


@pytest.mark.parametrize("name", JOBS)
def test_a_drained_node_uses_up_no_try(name: str) -> None:
    """Whatever the process ended with, and however often."""
    state = JobState(JOBS[name])
    for code in (KILLED, 143, 1, 2, 4) * 10:
        assert state.end(0, code, is_disrupted=True) == "Ignore"
    assert (state.outcome, state.tries) == (Outcome.RUNNING, {})
    assert 0 in state.needed()


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_pod_is_tried_again(name: str) -> None:
    """Out of memory, or a node that is gone: the next one goes on."""
    state = JobState(JOBS[name])
    assert state.end(0, KILLED) == "Count"
    assert 0 in state.needed()


@pytest.mark.parametrize("name", JOBS)
def test_a_wrong_option_is_tried_once(name: str) -> None:
    """2 is the whole job's end, also where shards are still at work."""
    state = JobState(JOBS[name])
    assert state.end(0, 2) == "FailJob"
    assert (state.outcome, state.needed()) == (Outcome.FAILED, [])


@pytest.mark.parametrize("name", JOBS)
def test_divergence_is_never_tried_again(name: str) -> None:
    """4 ends the job, or its shard."""
    state = JobState(JOBS[name])
    assert state.end(0, 4) in {"FailJob", "FailIndex"}
    assert 0 not in state.needed()


def test_divergence_in_one_shard_lets_the_others_finish() -> None:
    """The job is failed in the end, and everything else is mirrored."""
    state = JobState(JOBS["mirror-bootstrap"])
    assert state.end(3, 4) == "FailIndex"
    assert state.needed() == [0, 1, 2, 4, 5, 6, 7]
    for index in state.needed():
        state.end(index, 0)
    assert (state.outcome, state.failed) == (Outcome.FAILED, {3})


def test_each_shard_has_tries_of_its_own() -> None:
    """One that fails twenty times and then gets through leaves the job complete."""
    state = JobState(JOBS["mirror-bootstrap"])
    for code in (3, 5, KILLED, 1) * 5:
        assert state.end(0, code) == "Count"
    for index in state.needed():
        state.end(index, 0)
    assert (state.outcome, state.tries) == (Outcome.COMPLETE, {0: 20})


def test_a_shard_that_never_gets_through_is_given_up() -> None:
    """After its tries, and no other one with it."""
    state = JobState(JOBS["mirror-bootstrap"])
    for _ in range(21):
        state.end(0, 5)
    assert (state.outcome, state.failed, 0 in state.needed()) == (Outcome.RUNNING, {0}, False)


def test_what_the_first_matching_rule_says_is_done() -> None:
    """Rules are read in their order; a code that none has counts as a try."""
    rules = [
        {"action": "Ignore", "onExitCodes": {"containerName": "a", "operator": "In", "values": [7]}},
        {"action": "FailJob", "onExitCodes": {"containerName": "a", "operator": "NotIn", "values": [8]}},
    ]
    spec = {"podFailurePolicy": {"rules": rules}}
    assert [choose_action(spec, {"a": code}) for code in (0, 7, 8, 9)] == ["Count", "Ignore", "Count", "FailJob"]
    assert choose_action({}, {"a": 2}) == "Count"


def test_the_table_for_operators_says_what_the_rules_do() -> None:
    """Of every code and every job in k8s/README.md."""
    text = (ROOT / "k8s/README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    (head,) = [row for row in rows if row[0] == "exit code"]
    told = {
        (row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:], strict=False) if name in COLUMNS
    }
    for (code, name), cell in told.items():
        if found := re.match(r"[0-9]", code):
            assert said_action(cell) == first_action(JOBS[COLUMNS[name]], int(found[0])), (code, name)
        elif code == "a drained node":
            assert (cell, first_action(JOBS[COLUMNS[name]], 143, is_disrupted=True)) == ("not counted", "Ignore")


def said_action(cell: str) -> str:
    """Return the action that a cell of the table tells of."""
    if "done" in cell:
        return "Succeed"
    if "that shard fails" in cell:
        return "FailIndex"
    return "FailJob" if "fails" in cell else "Count"
