"""``check`` as a person runs it: lockfiles, tarballs and names, against a log on loopback and proofs at hand."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.check import default_state
from mirrorwitness.errors import ConfigurationError, StorageRefusedError
from mirrorwitness.sumdb.lookupcache import LookupCache
from mirrorwitness.sumdb.records import Event
from tests.fakes.sumdb import LOG_KEY, ORIGIN, W1, FakeSumdb, filler, integrity_of, make_record
from tests.unit.cli.check_shell import (
    GOOD,
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


def test_a_finding_that_cannot_be_written(log: FakeSumdb) -> None:
    """The exit code is that of what was found."""
    log.note = log.checkpoint(LOG_SIZE, LOG_KEY)
    _, err = check(log, "package-lock.json", "--sarif", "no/such/folder", expect=4)
    assert "warning: no/such/folder: cannot be written" in err
    assert json.loads(check(log, "package-lock.json", "--sarif", "-", expect=4)[0])["runs"][0]["results"]


def test_what_cannot_be_kept_is_no_failure(log: FakeSumdb, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers were verified: a full disk costs the next run its memory."""

    async def save(_: object) -> None:
        raise StorageRefusedError("state: no space is left")

    monkeypatch.setattr(LookupCache, "save", save)
    _, err = check(log, "package-lock.json", expect=0)
    assert "warning: what was verified is not kept for the next run: state: no space is left" in err


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
