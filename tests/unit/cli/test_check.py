"""``check`` as a person runs it: lockfiles, tarballs and names, against a log on loopback and proofs at hand."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.check import default_state
from mirrorwitness.errors import ConfigurationError, StorageRefusedError
from mirrorwitness.run.checking import GIVE_UP
from mirrorwitness.sumdb.lookupcache import LookupCache
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.proofbundle import format_bundle, group_proofs
from mirrorwitness.sumdb.records import Event
from tests.fakes.registry_build import make_tarball
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.fakes.sumdb import LOG_KEY, ORIGIN, POLICY, STRANGER, W1, FakeSumdb, filler, integrity_of, make_record
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

TARBALL = make_tarball({"index.js": b"1"}, name="left", version="1.0.0")
LOG_SIZE = 300


def make_lock(**integrities: str | None) -> dict[str, Any]:
    """Return a lockfile of these packages, each of version 1.0.0."""
    entries: dict[str, dict[str, Any]] = {
        f"node_modules/{name}": {"version": "1.0.0", "integrity": integrity} if integrity else {"version": "1.0.0"}
        for name, integrity in integrities.items()
    }
    return {"lockfileVersion": 3, "packages": {"": {"name": "app"}, **entries}}


GOOD = make_lock(left=integrity_of(TARBALL), right=integrity_of(b"right"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("policy").write_bytes(POLICY)
    write_lock(GOOD)
    return tmp_path


@pytest.fixture
def log() -> Iterator[FakeSumdb]:
    """A log that is served from a thread."""
    records = filler(LOG_SIZE)
    records[7:9] = [make_record("left", data=TARBALL), make_record("right", data=b"right")]
    log = FakeSumdb(records)
    log.time = int(time.time())
    with run_in_thread(serve(log)):
        yield log


def write_lock(lock: dict[str, Any]) -> None:
    Path("package-lock.json").write_text(json.dumps(lock, indent=2), encoding="utf-8")


def check(log: FakeSumdb | None, *arguments: str, expect: int, policy: bool = True) -> tuple[str, str]:
    """Run the command, hold it to its exit code, and return what it said on both channels."""
    flag = log.flag if log is not None else str(LOG_KEY.verifier)
    given = ("check", *arguments, "--sumdb", flag, "--state", "state", *(("--policy", "policy") if policy else ()))
    done = CliRunner().invoke(main, given)
    assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
    return done.stdout, done.stderr


def check_json(log: FakeSumdb | None, *arguments: str, expect: int) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(check(log, *arguments, "--json", expect=expect)[0])
    assert (document["schema"], document["exit_code"]) == ("mirrorwitness-check-1", expect)
    return document


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {entry["subject"]: entry["verdict"] for entry in document["entries"]}


def test_a_lockfile_that_is_all_right(log: FakeSumdb) -> None:
    """Nothing to list; the summary says what was checked, under what, and what that proves."""
    out, err = check(log, "package-lock.json", expect=0)
    facts = dict(re.findall(r"(?m)^(\w[\w ]*?)  +(.*)$", out))
    assert facts["checked"] == "2 entries: 2 verified"
    assert facts["log"] == ORIGIN
    assert facts["checkpoint"].startswith(f"size {LOG_SIZE}, cosigned by w1.example.org at 20")
    assert "w2.example.org at" in facts["checkpoint"]
    assert facts["compared"] == "with nothing: this is the first run"
    assert "integrity" in facts["proves"]
    assert "safe" in facts["does not prove"]
    assert err == "checking: 2 of 2 packages\n"


def test_a_second_run_goes_on_from_the_first(log: FakeSumdb) -> None:
    """What was verified is not asked for again, and the tree is compared."""
    check(log, "package-lock.json", expect=0)
    log.append(*filler(50))
    log.asked.clear()
    document = check_json(log, "package-lock.json", expect=0)
    assert (document["remembered"], document["is_first"]) == (2, False)
    assert [path for path in log.asked if path.startswith("/lookup/")] == []
    assert "2 entries verified by an earlier run" in check(log, "package-lock.json", expect=0)[0]
    assert check_json(log, "package-lock.json", "--max-age", "0", expect=0)["remembered"] == 0


def test_everything_is_listed_on_request(log: FakeSumdb) -> None:
    """With --verbose also what is fine, with its line and its integrity."""
    out, _ = check(log, "package-lock.json", "--verbose", expect=0)
    assert re.search(r"verified +left@1\.0\.0 +package-lock\.json:7 +sha512-", out)


def test_without_a_policy_it_is_said_that_no_witness_was_asked(log: FakeSumdb) -> None:
    """The log alone says that it shows everybody the same."""
    out, err = check(log, "package-lock.json", expect=0, policy=False)
    assert "cosigned by nobody else" in out
    assert "warning: no witness was asked" in err


def test_another_integrity_is_a_divergence(log: FakeSumdb) -> None:
    """Exit code 4, whatever else is in the lockfile."""
    write_lock(make_lock(left=integrity_of(b"evil"), right=integrity_of(b"right"), none=integrity_of(b"n")))
    document = check_json(log, "package-lock.json", expect=4)
    assert verdicts(document) == {
        "left@1.0.0": "other-integrity",
        "right@1.0.0": "verified",
        "none@1.0.0": "not-logged",
    }
    out, err = check(log, "package-lock.json", expect=4)
    assert "other-integrity  left@1.0.0" in out
    assert "do not install what does not agree" in err


def test_what_is_not_logged_is_partial(log: FakeSumdb) -> None:
    """Exit code 3; so is what has no integrity."""
    write_lock(make_lock(left=None, right=integrity_of(b"right"), none=integrity_of(b"n")))
    assert check_json(log, "package-lock.json", expect=3)["counts"] == {
        "verified": 1,
        "no-integrity": 1,
        "not-logged": 1,
    }


def test_what_is_not_from_a_registry_is_listed_and_no_failure(log: FakeSumdb) -> None:
    """No log can have it."""
    lock = make_lock(left=integrity_of(TARBALL))
    lock["packages"]["node_modules/forked"] = {"version": "1.0.0", "resolved": "git+https://git.example/f.git#a"}
    write_lock(lock)
    out, _ = check(log, "package-lock.json", expect=0)
    assert re.search(r"not-from-registry +node_modules/forked +package-lock\.json:\d+ +from git", out)


def test_a_conflict_is_a_divergence(log: FakeSumdb) -> None:
    """409: the registry showed two integrities."""
    log.append(make_record("left", data=TARBALL, event=Event.CONFLICT))
    document = check_json(log, "package-lock.json", expect=4)
    assert verdicts(document) == {"left@1.0.0": "conflict", "right@1.0.0": "verified"}


@pytest.mark.parametrize(("event", "word"), [(Event.UNPUBLISH, "withdrawn"), (Event.SECURITY_HOLD, "security-hold")])
def test_withdrawn_versions_are_told_or_refused(log: FakeSumdb, event: Event, word: str) -> None:
    """Their bytes are right; who wants them gone says so."""
    log.append(make_record("left", data=TARBALL, event=event))
    assert word in check(log, "package-lock.json", expect=0)[0]
    check(log, "package-lock.json", "--withdrawn", "refuse", expect=3)


def test_other_registrys_record(log: FakeSumdb) -> None:
    """With --registry the record has to be of that one."""
    check(log, "package-lock.json", "--registry", "https://registry.example/", expect=0)
    check(log, "package-lock.json", "--registry", "registry.example", expect=0)
    document = check_json(log, "package-lock.json", "--registry", "https://npm.acme.example", expect=4)
    assert set(verdicts(document).values()) == {"other-registry"}


def test_names_and_files_in_one_run(log: FakeSumdb) -> None:
    """A version that stands in several places is looked up once."""
    Path("left-1.0.0.tgz").write_bytes(TARBALL)
    document = check_json(log, "left@1.0.0", "package-lock.json", "left-1.0.0.tgz", "filler-3@1.0.0", expect=0)
    assert [entry["source"] for entry in document["entries"]] == [
        "left@1.0.0",
        "package-lock.json",
        "package-lock.json",
        "left-1.0.0.tgz",
        "filler-3@1.0.0",
    ]
    assert len([path for path in log.asked if path.startswith("/lookup/left@")]) == 1


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


@pytest.mark.parametrize("name", ["download.tgz", "left-1.0.0 (1).tgz", "left"])
def test_a_file_name_that_says_nothing(log: FakeSumdb, name: str) -> None:
    """It is told what the file is."""
    Path(name).write_bytes(TARBALL)
    assert f"the file {name} is left@1.0.0 by its own package.json" in check(log, name, expect=0)[0]


def test_a_name_that_is_no_utf8(log: FakeSumdb) -> None:
    """It is shown with escapes, in every form of output."""
    name = os.fsdecode(b"b\xffd.tgz")
    Path(name).write_bytes(TARBALL)
    assert check_json(log, name, expect=0)["entries"][0]["source"] == "b\\udcffd.tgz"
    assert "b\\udcffd.tgz" in check(log, name, expect=0)[0]
    assert "5Cudcffd.tgz" in check(log, name, "--sarif", "-", expect=0)[0]


def test_a_lockfile_with_strings_that_are_no_text(log: FakeSumdb) -> None:
    """Half a surrogate pair in a key or a version is told, and no crash."""
    body = json.dumps({
        "lockfileVersion": 3,
        "packages": {
            "node_modules/x": {"version": "1.0.0\ud800", "integrity": integrity_of(b"x")},
            "\ud800": {"version": "1.0.0"},
        },
    })
    Path("package-lock.json").write_text(body, encoding="ascii")
    document = check_json(log, "package-lock.json", expect=3)
    assert verdicts(document) == {"x@1.0.0\\ud800": "not-logged", "\\ud800": "not-from-registry"}
    check(log, "package-lock.json", "--sarif", "-", expect=3)


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


def test_a_lockfile_without_entries_is_told(log: FakeSumdb) -> None:
    """A project without dependencies is complete, and so is a file that somebody emptied."""
    write_lock(make_lock())
    assert "warning: nothing was checked" in check(log, "package-lock.json", expect=0)[1]


def test_reasons_are_short_in_tables_and_whole_elsewhere(log: FakeSumdb) -> None:
    """No address, no version again, digests of a few characters; nothing of it on standard error as well."""
    write_lock(make_lock(left=integrity_of(b"evil"), none=integrity_of(b"n")))
    out, err = check(log, "package-lock.json", expect=4)
    short = integrity_of(b"evil")[:19]
    assert re.search(rf"other-integrity  left@1\.0\.0 .* {re.escape(short)}… here, sha512-\S{{12}}… in the log\n", out)
    assert re.search(r"not-logged       none@1\.0\.0 .*json:\d+  not logged\n", out)
    assert "none@1.0.0" not in err
    reasons = {entry["subject"]: entry["reason"] for entry in check_json(log, "package-lock.json", expect=4)["entries"]}
    assert reasons["none@1.0.0"] == "not logged"
    assert integrity_of(b"evil") in reasons["left@1.0.0"]


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


def test_a_finding_that_cannot_be_written(log: FakeSumdb) -> None:
    """The exit code is that of what was found."""
    log.note = log.checkpoint(LOG_SIZE, LOG_KEY)
    _, err = check(log, "package-lock.json", "--sarif", "no/such/folder", expect=4)
    assert "warning: no/such/folder: cannot be written" in err
    assert json.loads(check(log, "package-lock.json", "--sarif", "-", expect=4)[0])["runs"][0]["results"]


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


def test_what_cannot_be_kept_is_no_failure(log: FakeSumdb, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers were verified: a full disk costs the next run its memory."""

    async def save(_: object) -> None:
        raise StorageRefusedError("state: no space is left")

    monkeypatch.setattr(LookupCache, "save", save)
    _, err = check(log, "package-lock.json", expect=0)
    assert "warning: what was verified is not kept for the next run: state: no space is left" in err


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


def test_a_bundle_checks_the_same_offline(log: FakeSumdb) -> None:
    """Nobody is asked, and the quorum counts there too."""
    check(log, "package-lock.json", "--write-bundle", "proofs", expect=0)
    log.asked.clear()
    document = check_json(None, "package-lock.json", "--bundle", "proofs", expect=0)
    assert (document["is_offline"], document["counts"]) == (True, {"verified": 2})
    assert [item["size"] for item in document["checkpoints"]] == [LOG_SIZE]
    out, _ = check(None, "package-lock.json", "--bundle", "proofs", expect=0)
    assert "downloaded" not in out
    assert log.asked == []
    check(log, "package-lock.json", "--bundle", "proofs", expect=0)
    assert log.asked == []
    write_lock(make_lock(left=integrity_of(b"evil")))
    check(None, "package-lock.json", "--bundle", "proofs", expect=4)
    write_lock(make_lock(other=integrity_of(b"x")))
    check(None, "package-lock.json", "--bundle", "proofs", expect=3)
    log.note = log.checkpoint(LOG_SIZE, LOG_KEY, W1)
    write_lock(GOOD)
    check(log, "package-lock.json", "--write-bundle", "weak", "--max-age", "0", expect=0, policy=False)
    check(None, "package-lock.json", "--bundle", "weak", expect=4)


def test_the_proof_beside_a_tarball_is_enough(log: FakeSumdb) -> None:
    """No address, no bundle; another tarball's proof is not."""
    Path("left-1.0.0.tgz").write_bytes(TARBALL)
    beside = Path("left-1.0.0.tgz.tlog-proof")
    beside.write_bytes(log.proof(7, LOG_SIZE) + log.checkpoint())
    assert verdicts(check_json(None, "left-1.0.0.tgz", expect=0)) == {"left@1.0.0": "verified"}
    beside.write_bytes(log.proof(8, LOG_SIZE) + log.checkpoint())
    assert verdicts(check_json(None, "left-1.0.0.tgz", expect=3)) == {"left@1.0.0": "not-logged"}
    beside.write_bytes(log.proof(7, LOG_SIZE) + log.checkpoint(LOG_SIZE, LOG_KEY))
    check(None, "left-1.0.0.tgz", expect=4)
    beside.write_bytes(b"nothing")
    check(None, "left-1.0.0.tgz", expect=2)


def test_nothing_to_check_against(log: FakeSumdb) -> None:
    """No address and no proofs: usage, and what to give."""
    _, err = check(None, "package-lock.json", expect=2)
    assert "Give the log's address (--sumdb VKEY=URL), or proofs that are at hand" in err


def test_sarif_in_a_file_and_on_standard_output(log: FakeSumdb) -> None:
    """One rule for each verdict, one result for each entry that is not fine, at its line."""
    write_lock(make_lock(left=integrity_of(b"evil"), right=integrity_of(b"right")))
    check(log, "package-lock.json", "none@1.0.0", "--sarif", "found.sarif", expect=4)
    document = json.loads(Path("found.sarif").read_bytes())
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    other, none = run["results"]
    assert document["version"] == "2.1.0"
    assert (other["ruleId"], rules[other["ruleIndex"]], other["level"]) == ("other-integrity",) * 2 + ("error",)
    place = other["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "package-lock.json"}, "region": {"startLine": 7}}
    assert (none["ruleId"], none["level"], "locations" in none) == ("not-logged", "warning", False)
    out, _ = check(log, "package-lock.json", "none@1.0.0", "--sarif", "-", expect=4)
    assert json.loads(out) == document
    check(log, "package-lock.json", "--sarif", "-", "--json", expect=2)


@pytest.mark.parametrize("flag", ["--sarif", "--write-bundle"])
def test_a_file_that_cannot_be_written(log: FakeSumdb, flag: str) -> None:
    """Usage: the place is the user's."""
    _, err = check(log, "package-lock.json", flag, "no/such/folder", expect=2)
    assert "no/such/folder: cannot be written" in err


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("x",), "verifier key 'x'"),
        ((str(W1.verifier),), "key"),
        ((f"{LOG_KEY.verifier}=https://a.example", f"{LOG_KEY.verifier}=https://b.example"), "2 addresses"),
        ((f"{LOG_KEY.verifier}, {LOG_KEY.verifier}",), "expected VKEY=URL"),
    ],
)
def test_flags_that_name_no_log(flags: tuple[str, ...], reason: str) -> None:
    """Keys of one log, and one address."""
    given = [word for flag in flags for word in ("--sumdb", flag)]
    done = CliRunner().invoke(main, ("check", "left@1.0.0", "--state", "state", *given))
    assert (done.exit_code, reason in done.stderr) == (2, True), done.stderr


def test_an_age_that_is_none() -> None:
    """Usage."""
    done = CliRunner().invoke(main, ("check", "left@1.0.0", "--sumdb", "x", "--max-age", "old"))
    assert done.exit_code == 2


def test_where_the_state_is_by_default() -> None:
    """In the user's cache, by the platform's custom; who has none has to say where."""
    assert default_state({"HOME": "/h"}, "linux") == Path("/h/.cache/mirrorwitness/sumdb")
    assert default_state({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "linux") == Path("/c/mirrorwitness/sumdb")
    assert default_state({"HOME": "/h"}, "darwin") == Path("/h/Library/Caches/mirrorwitness/sumdb")
    assert default_state({"LOCALAPPDATA": "/l"}, "win32") == Path("/l/mirrorwitness/sumdb")
    for platform in ("linux", "darwin", "win32"):
        with pytest.raises(ConfigurationError, match="give --state DIR"):
            default_state({}, platform)


def test_a_log_that_grows_because_it_was_asked(log: FakeSumdb) -> None:
    """What it did not have is looked up once more, in the tree that has it."""
    write_lock(make_lock(new=integrity_of(b"new")))
    asked = f"/lookup/new@1.0.0?size={LOG_SIZE}"
    log.on_ask[asked] = lambda: log.append(make_record("new", data=b"new"))
    document = check_json(log, "package-lock.json", expect=0)
    assert verdicts(document) == {"new@1.0.0": "verified"}
    assert [item["size"] for item in document["checkpoints"]] == [LOG_SIZE, LOG_SIZE + 1]
    assert [path for path in log.asked if path.startswith("/lookup/")] == [
        asked,
        f"/lookup/new@1.0.0?size={LOG_SIZE + 1}",
    ]


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
