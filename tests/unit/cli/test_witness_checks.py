"""What people do with a checkpoint, a note or a piece of evidence in their hand: verify, inspect, evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.tlog.evidence import make_evidence
from tests.unit.cli.witness_shell import VKEY, Shell, cosigned
from tests.unit.witness.world import LOG, LOG_KEY, NEXT, OURS, OURS_PQ, START, cosign, forge, make_note, sign

if TYPE_CHECKING:
    from pathlib import Path

FORK = LOG.fork(6)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


POLICY = f"log {VKEY}\nwitness ours {OURS.verifier}\nwitness other {NEXT.verifier}\ngroup both any ours other\n"


def test_verify_accepts_what_the_policy_accepts(shell: Shell) -> None:
    """Exit 0: the tree, who signed, who cosigned and when, and why that is enough."""
    policy = shell.write("policy.txt", f"{POLICY}quorum both\n")
    checkpoint = shell.write("checkpoint.txt", cosigned())
    document = shell.json("verify", checkpoint, "--policy", policy)
    assert document["checkpoint"]["size"] == 10
    assert document["log_keys"] == [VKEY]
    assert document["cosigners"] == [{"name": OURS.name, "time": "2026-09-21T14:13:20Z"}]
    assert document["accepted"] is True
    text = shell.run("verify", checkpoint, "--policy", policy, "--origin", LOG.origin)
    assert "cosigned by  witness.example/w1 at 2026-09-21T14:13:20Z" in text
    assert LOG.origin in text


def test_verify_refuses_the_rest(shell: Shell) -> None:
    """Exit 4 where the quorum is not met or a line does not verify; exit 2 where a file cannot be read."""
    strict = shell.write("strict.txt", f"{POLICY.replace('any', 'all')}quorum both\n")
    lenient = shell.write("lenient.txt", f"{POLICY}quorum none\n")
    good = shell.write("good.txt", cosigned())
    bad = shell.write("bad.txt", LOG.note(10, more=[forge(cosign(OURS, LOG.tree(10).text, START))]))
    garbage = shell.write("garbage.txt", b"nonsense")
    for arguments, code, kind in [
        ((good, "--policy", strict), 4, "SignatureError"),
        ((bad, "--policy", lenient), 4, "SignatureError"),
        ((garbage, "--policy", lenient), 2, "ConfigurationError"),
        ((good, "--policy", garbage), 2, "ConfigurationError"),
        ((str(shell.folder / "absent"), "--policy", lenient), 2, "ConfigurationError"),
    ]:
        document = shell.json("verify", *arguments, expect=code)
        assert document["error"]["kind"] == kind
    assert shell.refuse("verify", good, "--policy", strict, expect=4).startswith("error: ")
    text = shell.run("verify", shell.write("bare.txt", LOG.note(10)), "--policy", lenient)
    assert "cosigned by  none" in text


def test_inspect_shows_a_checkpoint(shell: Shell) -> None:
    """Each line with what it seems to be, its time, and what a given key says of it."""
    text = LOG.tree(10, "an extension").text
    lines = [
        sign(LOG_KEY, text),
        cosign(OURS, text, START),
        cosign(OURS_PQ, text, 2**63 - 1),
        forge(cosign(NEXT, text, 0)),
    ]
    path = shell.write("checkpoint.txt", make_note(LOG.tree(10, "an extension"), *lines))
    keys = [argument for key in (LOG_KEY, OURS, NEXT) for argument in ("--key", str(key.verifier))]
    document = shell.json("inspect", path, *keys)
    assert document["checkpoint"] == {
        "origin": LOG.origin,
        "size": 10,
        "root": document["checkpoint"]["root"],
        "extension": ["an extension"],
    }
    assert document["index"] is None
    assert [(line["what"], line["time"], line["verified"]) for line in document["signatures"]] == [
        ("Ed25519 signature", None, True),
        ("Ed25519 cosignature", "2026-09-21T14:13:20Z", True),
        ("ML-DSA-44 cosignature", str(2**63 - 1), None),
        ("Ed25519 cosignature", None, False),
    ]
    table = shell.run("inspect", path, *keys)
    assert "an extension" in table
    assert [line.split()[-1] for line in table.splitlines()[-4:]] == ["yes", "yes", "given", "NO"]


def test_inspect_shows_other_notes_and_proofs(shell: Shell) -> None:
    """A note that is no checkpoint, with a line of an unknown kind; a tlog-proof with its index."""
    note = shell.write("note.txt", "hello\n\n\N{EM DASH} somebody AAAAAAAA\n")
    document = shell.json("inspect", note, "--key", str(OURS.verifier))
    assert (document["checkpoint"], document["text"]) == (None, "hello\n")
    assert document["signatures"][0]["what"] == "unknown"
    assert shell.run("inspect", note).startswith("text  hello\n")
    line = cosign(OURS, LOG.tree(10).text, START)
    stray = shell.write("stray.txt", make_note(LOG.tree(10), line).replace(b"\n10\n", b"\nten\n"))
    assert shell.json("inspect", stray, "--key", str(OURS.verifier))["signatures"][0]["verified"] is False
    proof = shell.write("entry.tlog-proof", b"c2sp.org/tlog-proof@v1\nindex 9\n\n" + cosigned())
    assert shell.json("inspect", proof)["index"] == 9
    assert "entry   9" in shell.run("inspect", proof)


def test_inspect_refuses_what_is_none(shell: Shell) -> None:
    """Exit 2: a file, or a key, of the operator's."""
    garbage = shell.write("garbage.txt", b"nonsense")
    assert shell.json("inspect", garbage, expect=2)["error"]["kind"] == "ConfigurationError"
    good = shell.write("good.txt", cosigned())
    assert shell.json("inspect", good, "--key", "nonsense", expect=2)["error"]["kind"] == "ConfigurationError"


def _fork_file(shell: Shell, theirs: bytes) -> str:
    body = make_evidence(
        log_keys=[LOG_KEY.verifier],
        witness_keys=[OURS.verifier],
        origin=LOG.origin,
        ours=cosigned(),
        theirs=theirs,
        proof=[],
        seen="2026-09-21T14:13:20Z",
    )
    return shell.write("fork.json", body)


def test_evidence_of_a_fork(shell: Shell) -> None:
    """Exit 4: it is proven, with both roots, and the keys to compare with the log's."""
    path = _fork_file(shell, FORK.note(10))
    document = shell.json("evidence", path, expect=4)
    assert document["fork"] is True
    assert [tree["size"] for tree in document["trees"]] == [10, 10]
    assert len({tree["root"] for tree in document["trees"]}) == 2
    assert (document["log_keys"], document["origin"]) == ([VKEY], LOG.origin)
    text = shell.run("evidence", path, expect=4)
    assert "the log forked" in text
    assert VKEY in text
    assert "witness.example/w1 at 2026-09-21T14:13:20Z" in text


def test_evidence_that_proves_nothing(shell: Shell) -> None:
    """An error and no verdict, and never the exit code of a fork that is proven."""
    document = shell.json("evidence", _fork_file(shell, LOG.note(10)), expect=2)
    assert document["error"]["message"].startswith("this file proves nothing: ")
    assert "fork" not in document
    garbage = shell.write("garbage.json", b"{}")
    assert shell.json("evidence", garbage, expect=2)["error"]["kind"] == "ConfigurationError"
