"""``check`` under attack: lying logs, mirrors and lockfiles, forks and replays, and a log that does not answer."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.run.checking import GIVE_UP
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.proofbundle import format_bundle, group_proofs
from tests.fakes.registry_build import make_tarball
from tests.fakes.registry_server import Fault
from tests.fakes.sumdb import LOG_KEY, STRANGER, W1, FakeSumdb, filler, integrity_of, make_record
from tests.unit.cli.check_shell import (
    LOG_SIZE,
    TARBALL,
    check,
    check_json,
    folder,
    log,
    make_lock,
    verdicts,
    write_lock,
)

__all__ = ["folder", "log"]


def test_other_registrys_record(log: FakeSumdb) -> None:
    """With --registry the record has to be of that one."""
    check(log, "package-lock.json", "--registry", "https://registry.example/", expect=0)
    check(log, "package-lock.json", "--registry", "registry.example", expect=0)
    document = check_json(log, "package-lock.json", "--registry", "https://npm.acme.example", expect=4)
    assert set(verdicts(document).values()) == {"other-registry"}


def test_replaced_bytes_of_a_tarball(log: FakeSumdb) -> None:
    """Another tarball under the same name and version."""
    Path("left-1.0.0.tgz").write_bytes(make_tarball({"index.js": b"evil"}, name="left", version="1.0.0"))
    assert verdicts(check_json(log, "left-1.0.0.tgz", expect=4)) == {"left@1.0.0": "other-integrity"}


@pytest.mark.parametrize("name", ["other-1.0.0.tgz", "left-1.0.1.tgz", "left-1.0.0-rc.1.tar.gz", "s-left-1.0.0.tgz"])
def test_attack_true_bytes_of_another_version_under_this_ones_name(log: FakeSumdb, name: str) -> None:
    """A mirror answers with what the log has, of something else: not verified, and a newer version's file likewise."""
    Path(name).write_bytes(TARBALL)
    out, err = check(log, name, expect=4)
    assert f"the file {name} is left@1.0.0 by its own package.json" in out
    assert "do not install what does not agree" in err
    Path(f"{name}.tlog-proof").write_bytes(log.proof(7, LOG_SIZE) + log.checkpoint())
    assert verdicts(check_json(None, name, expect=4)) == {"left@1.0.0": "other-name"}


def test_attack_a_lockfile_that_takes_another_package(log: FakeSumdb) -> None:
    """No tool writes such an entry; what comes from elsewhere is counted, and was not checked."""
    lock = make_lock(left=integrity_of(TARBALL), right=integrity_of(b"right"))
    lock["packages"]["node_modules/left"]["resolved"] = "https://registry.example/evil/-/evil-1.0.0.tgz"
    lock["packages"]["node_modules/right"]["resolved"] = "https://host.example/group/fork/-/archive/v1/fork-v1.tar.gz"
    write_lock(lock)
    assert verdicts(check_json(log, "package-lock.json", expect=4)) == {
        "node_modules/left": "other-address",
        "node_modules/right": "not-from-registry",
    }
    assert (
        "warning: 1 entry was not checked: from git, files, links or other addresses"
        in check(log, "package-lock.json", expect=4)[1]
    )


def test_made_up_answer(log: FakeSumdb) -> None:
    """A record that is not in the log: exit code 4, and the others are checked all the same."""
    other = log.fork(7, make_record("left", data=b"evil"), *filler(LOG_SIZE - 8))
    log.bodies[f"/lookup/left@1.0.0?size={LOG_SIZE}"] = other.proof(7, LOG_SIZE)
    document = check_json(log, "package-lock.json", expect=4)
    assert verdicts(document) == {"left@1.0.0": "unproven", "right@1.0.0": "verified"}


def test_fork_stops_with_evidence_that_anybody_can_check(log: FakeSumdb) -> None:
    """Exit code 4; the message names the file, and `witness evidence` reads it."""
    check(log, "package-lock.json", expect=0)
    log.become(log.fork(100, *filler(400)))
    _, err = check(log, "package-lock.json", expect=4)
    found = re.search(r"The evidence is (\S+\.json)", err)
    assert found
    shown = CliRunner().invoke(main, ("witness", "evidence", found[1]))
    assert (shown.exit_code, "the log forked" in shown.stdout) == (4, True)


def test_a_fork_is_not_forgotten(log: FakeSumdb) -> None:
    """The log shows the first history again: nothing is believed until somebody removes the evidence."""
    check(log, "package-lock.json", expect=0)
    honest = log.fork(LOG_SIZE)
    log.become(log.fork(100, *filler(400)))
    _, err = check(log, "package-lock.json", expect=4)
    found = re.search(r"The evidence is (\S+\.json)", err)
    assert found
    log.become(honest)
    _, err = check(log, "package-lock.json", expect=4)
    assert f"as {found[1]} shows" in err
    assert "remove it once you know what happened" in err
    Path(found[1]).unlink()
    check(log, "package-lock.json", expect=0)


def test_what_ends_a_check_is_a_finding(log: FakeSumdb) -> None:
    """A fork, a bad signature, tiles of another tree, no log, no file: in JSON, and as the SARIF file's one result."""
    check(log, "package-lock.json", expect=0)
    check(log, "package-lock.json", "--sarif", "s", expect=0)
    honest = log.fork(LOG_SIZE)

    def finds(rule: str, code: int, *more: str) -> None:
        document = check_json(log, "package-lock.json", *more, "--sarif", "s", expect=code)
        assert (document["findings"][0]["verdict"], document["exit_code"]) == (rule, code)
        assert document["findings"][0]["reason"] == document["error"]["message"]
        (run,) = json.loads(Path("s").read_bytes())["runs"]
        (result,) = run["results"]
        rules = run["tool"]["driver"]["rules"]
        assert (result["ruleId"], rules[result["ruleIndex"]]["id"], result["level"]) == (rule, rule, "error")
        assert result["message"]["text"] == document["error"]["message"]
        files = [place["physicalLocation"]["artifactLocation"]["uri"] for place in result.get("locations", [])]
        assert files == ([] if rule == "check-failed" else ["package-lock.json"])
        (invocation,) = run["invocations"]
        assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, code)

    finds("check-failed", 2, "no-such-file.json")
    log.note = log.checkpoint(LOG_SIZE, LOG_KEY)
    finds("log-signature", 4)
    log.note = None
    log.fail("/checkpoint", Fault.status(403), times=1)
    finds("log-unreachable", 5)
    log.become(log.fork(LOG_SIZE, *filler(5)))
    log.note = log.checkpoint()
    log.become(honest)
    finds("log-unreachable", 5)
    log.note = None
    log.become(log.fork(100, *filler(400)))
    finds("log-fork", 4)
    log.become(honest)
    finds("log-fork", 4)


def test_rollback_to_a_tree_that_cannot_be_compared_is_told(log: FakeSumdb) -> None:
    """A log that shows an older tree and withholds the tiles may hide a fork."""
    check(log, "package-lock.json", expect=0)
    log.note = log.fork(100, *filler(100)).checkpoint()
    log.entries, log.on_ask = log.entries[:250], {}
    _, err = check(log, "package-lock.json", expect=0)
    assert "warning: that older tree could not be compared" in err


@pytest.mark.parametrize("place", ["bundle", "beside", "state"])
def test_fork_that_shows_offline(log: FakeSumdb, place: str) -> None:
    """Two checkpoints of one size, in proofs at hand or one of them verified before: evidence, whoever is asked."""
    fork = log.fork(LOG_SIZE - 1, make_record("other"))
    Path("left-1.0.0.tgz").write_bytes(TARBALL)
    Path("left-1.0.0.tgz.tlog-proof").write_bytes(log.proof(7, LOG_SIZE) + log.checkpoint())
    ours = (log.checkpoint(), parse_lookup(log.proof(7, LOG_SIZE), has_checkpoint=False))
    theirs = (fork.checkpoint(), parse_lookup(fork.proof(8, LOG_SIZE), has_checkpoint=False))
    given = [theirs, ours] if place == "bundle" else [theirs]
    Path("proofs").write_bytes(format_bundle(group_proofs(given)))
    if place == "state":
        Path("left-1.0.0.tgz.tlog-proof").unlink()
        check(log, "package-lock.json", expect=0)
    arguments = ("left-1.0.0.tgz",) if place == "beside" else ()
    _, err = check(None, "right@1.0.0", *arguments, "--bundle", "proofs", expect=4)
    found = re.search(r"The evidence is (\S+\.json)", err)
    assert found
    assert CliRunner().invoke(main, ("witness", "evidence", found[1])).exit_code == 4
    assert "as state/evidence" in check(None, "right@1.0.0", "--bundle", "proofs", expect=4)[1]


def test_quorum_lost_while_it_is_checked(log: FakeSumdb) -> None:
    """The newer head is not believed, and nothing else is said of a version."""

    def grow() -> None:
        log.append(*filler(1))
        log.note = log.checkpoint(LOG_SIZE + 1, LOG_KEY, W1)

    log.on_ask[f"/lookup/none@1.0.0?size={LOG_SIZE}"] = grow
    assert "do not meet the quorum" in check(log, "package-lock.json", "none@1.0.0", expect=4)[1]


def test_replay_of_an_old_head_is_a_warning(log: FakeSumdb) -> None:
    """It is checked in the newest tree that is known."""
    check(log, "package-lock.json", expect=0)
    log.note = log.checkpoint(200)
    out, err = check(log, "package-lock.json", expect=0)
    assert "warning: the log shows an older tree, of size 200" in err
    assert f"size {LOG_SIZE}" in out


@pytest.mark.parametrize("signers", [(LOG_KEY, W1), (LOG_KEY, W1, STRANGER), (STRANGER, W1)])
def test_stripped_cosignature_and_bad_signature(log: FakeSumdb, signers: tuple[Any, ...]) -> None:
    """Exit code 4, before anything is looked up."""
    log.note = log.checkpoint(LOG_SIZE, *signers)
    check(log, "package-lock.json", expect=4)
    assert log.asked == ["/checkpoint"]


def test_unreachable_log_and_unreachable_answers(log: FakeSumdb) -> None:
    """No checkpoint, or no answer at all: 5; some answers: 3."""
    log.gone.add("/checkpoint")
    check(log, "package-lock.json", expect=5)
    log.gone.clear()
    for name in ("left", "right"):
        log.fail(f"/lookup/{name}@1.0.0?size={LOG_SIZE}", Fault.status(403), times=1)
    check(log, "package-lock.json", expect=5)
    log.fail(f"/lookup/left@1.0.0?size={LOG_SIZE}", Fault.status(403), times=1)
    assert verdicts(check_json(log, "package-lock.json", expect=3))["left@1.0.0"] == "unreachable"


def test_replay_of_an_old_head_to_a_machine_without_state(log: FakeSumdb) -> None:
    """A cache can show an old tree with all its cosignatures: their age tells it."""
    for hours, is_told in ((25, True), (23, False)):
        log.time = int(time.time()) - hours * 3600
        _, err = check(log, "package-lock.json", expect=0)
        assert bool(re.search(r"warning: the newest cosignature is of 20\S+Z, more than a day ago", err)) is is_told


def test_a_witness_that_says_no_time(log: FakeSumdb) -> None:
    """A cosignature counts without one; what no calendar has is shown as it is."""
    for seconds, shown in ((0, "no time"), (2**60, str(2**60))):
        log.time = seconds
        assert f"cosigned by w1.example.org at {shown}" in check(log, "left@1.0.0", expect=0)[0]


def test_fork_while_it_is_checked(log: FakeSumdb) -> None:
    """The head is read again for what is not logged: another history there stops everything as well."""
    fork = log.fork(100, *filler(400))
    log.on_ask[f"/lookup/none@1.0.0?size={LOG_SIZE}"] = lambda: log.become(fork)
    _, err = check(log, "package-lock.json", "none@1.0.0", expect=4)
    assert "signed two histories" in err


def test_attack_a_log_that_asks_to_be_left_alone_for_a_day(log: FakeSumdb, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a run some seconds, not the day."""
    monkeypatch.setattr("mirrorwitness.run.checking.LONGEST_PAUSE", 0.02)
    log.fail("/checkpoint", Fault.status(429, retry_after="86400"))
    assert "status 429" in check(log, "package-lock.json", expect=5)[1]


def test_log_that_answers_nothing_is_given_up(log: FakeSumdb) -> None:
    """After some look-ups in a row; the others are told not to have been asked."""
    names = [f"filler-{number}" for number in range(100)]
    write_lock(make_lock(**{name: integrity_of(b"") for name in names}))
    for name in names:
        log.fail(f"/lookup/{name}@1.0.0?size={LOG_SIZE}", Fault.status(403), times=1)
    document = check_json(log, "package-lock.json", expect=5)
    asked = [path for path in log.asked if path.startswith("/lookup/")]
    assert GIVE_UP <= len(asked) <= 2 * GIVE_UP
    assert sum("not asked" in entry["reason"] for entry in document["entries"]) == 100 - len(asked)
