"""``witness prove``: where the proof and the facts go, exit codes, and files that are not replaced."""

from __future__ import annotations

import base64
import stat
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.tlog.proof import parse_proof
from mirrorwitness.witness.protocol import format_add_checkpoint
from tests.fakes.serving import serve
from tests.fakes.sumdb import FakeSumdb, filler, make_record
from tests.fakes.thread import run_in_thread
from tests.unit.cli.witness_shell import Shell
from tests.unit.witness.log_server import LogServer, make_lab
from tests.unit.witness.world import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAB = make_lab()
SIZE = 600


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def server() -> Iterator[LogServer]:
    """A log that is served from a thread."""
    server = LogServer(LAB, SIZE)
    with run_in_thread(serve(server)):
        yield server


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_proof_goes_to_standard_output(shell: Shell, server: LogServer) -> None:
    """Alone, so that it can be piped; `inspect` reads it."""
    text = shell.run("prove", "--log", server.flag, "--index", "300")
    proof = parse_proof(text.encode())
    assert (proof.index, list(proof.proof)) == (300, LAB.inclusion_proof(300, SIZE))
    document = shell.json("inspect", shell.write("proof", text), "--key", str(LAB.keys[0].verifier))
    assert (document["index"], document["checkpoint"]["size"]) == (300, SIZE)
    assert [line["verified"] for line in document["signatures"]] == [True]


def test_facts_go_to_standard_error(shell: Shell, server: LogServer) -> None:
    """And to nowhere else; with --out standard output is empty."""
    out = shell.folder / "a.tlog-proof"
    entry = shell.write("entry", LAB.entry(300))
    told = shell.refuse("prove", "--log", server.flag, "--entry", entry, "--out", str(out), expect=0)
    facts = dict(line.split("  ", 1) for line in told.splitlines())
    assert {name: value.strip() for name, value in facts.items()} == {
        "origin": LAB.origin,
        "size": str(SIZE),
        "root": encode(LAB.root(SIZE)),
        "signed by": str(LAB.keys[0].verifier),
        "entry": "300",
        "hash of the entry": encode(LAB.leaf(300)),
        "hashes": str(len(LAB.inclusion_proof(300, SIZE))),
        "tiles read": "4",
        "written to": str(out),
    }
    assert parse_proof(out.read_bytes()).index == 300


def test_growth_as_one_document(shell: Shell, server: LogServer) -> None:
    """With --json the body is in the document, and in the file where one is named."""
    body = format_add_checkpoint(100, LAB.proof(100, SIZE), LAB.checkpoint(SIZE))
    document = shell.json("prove", "--log", server.flag, "--from", "100")
    assert document == {
        "schema": "mirrorwitness-witness-prove-1",
        "checkpoint": {"origin": LAB.origin, "size": SIZE, "root": encode(LAB.root(SIZE)), "extension": []},
        "log_keys": [str(LAB.keys[0].verifier)],
        "cosigners": None,
        "index": None,
        "leaf": None,
        "from": 100,
        "from_root": encode(LAB.root(100)),
        "proof": [encode(value) for value in LAB.proof(100, SIZE)],
        "tiles": ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2"],
        "body": body.decode(),
        "out": None,
        "exit_code": 0,
    }
    out = shell.folder / "body"
    found = shell.json("prove", "--log", server.flag, "--from", "100", "--out", str(out))
    assert (found["out"], out.read_bytes()) == (str(out), body)
    assert "grown from         100\n" in shell.refuse(
        "prove", "--log", server.flag, "--from", "100", "--out", str(out), "--force", expect=0
    )


def test_file_is_not_replaced_without_force(shell: Shell, server: LogServer) -> None:
    """Nothing is asked then, and nothing is left behind; with --force the new one is there."""
    out = shell.write("proof", b"precious")
    asked = ("prove", "--log", server.flag, "--index", "0", "--out", out)
    assert "exists already: --force replaces it" in shell.refuse(*asked, expect=2)
    assert server.asked == []
    assert [path.read_bytes() for path in shell.folder.iterdir()] == [b"precious"]
    shell.refuse(*asked, "--force", expect=0)
    assert [parse_proof(path.read_bytes()).index for path in shell.folder.iterdir()] == [0]


def test_file_that_appears_meanwhile_is_not_replaced(shell: Shell, server: LogServer) -> None:
    """Whoever wrote it."""
    out = shell.folder / "proof"
    server.on_ask = lambda _: out.write_bytes(b"precious")
    assert "exists already" in shell.refuse("prove", "--log", server.flag, "--index", "0", "--out", str(out), expect=2)
    assert [path.read_bytes() for path in shell.folder.iterdir()] == [b"precious"]


def test_file_that_cannot_be_written(shell: Shell, server: LogServer) -> None:
    """Exit code 2, in JSON too."""
    out = str(shell.folder / "absent" / "proof")
    asked = ("prove", "--log", server.flag, "--index", "0", "--out", out)
    assert "cannot be written" in shell.refuse(*asked, expect=2)
    assert shell.json(*asked, expect=2)["error"]["kind"] == "ConfigurationError"
    below = str(shell.folder / shell.write("file", b"") / "proof")
    assert "cannot be written" in shell.refuse(*asked[:-1], below, expect=2)


def test_file_is_as_readable_as_others(shell: Shell, server: LogServer) -> None:
    """A proof is no secret."""
    out = shell.folder / "proof"
    shell.refuse("prove", "--log", server.flag, "--index", "0", "--out", str(out), expect=0)
    other = shell.folder / "other"
    other.touch()
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_policy_decides(shell: Shell, server: LogServer) -> None:
    """Exit 4 where it is not met; where it is, the document names who cosigned."""
    text = f"log {LAB.keys[0].verifier}\nwitness ours {OURS.verifier}\nquorum ours\n"
    asked = ("prove", "--log", server.flag, "--index", "0", "--policy", shell.write("policy", text))
    assert shell.json(*asked, expect=4)["error"]["kind"] == "SignatureError"
    server.bodies["/checkpoint"] = LAB.sign(LAB.text(SIZE), LAB.keys[0], OURS, timestamp=7)
    assert shell.json(*asked)["cosigners"] == [{"name": OURS.name, "time": "1970-01-01T00:00:07Z"}]


def test_exit_codes(shell: Shell, server: LogServer) -> None:
    """4 where tiles or a signature do not fit, 5 where the log cannot be read; nothing on standard output."""
    out = str(shell.folder / "proof")
    asked = ("prove", "--log", server.flag, "--index", "0", "--out", out)
    server.bodies["/tile/0/000"] = bytes(32 * 256)
    assert "tiles do not match its checkpoint" in shell.refuse(*asked, expect=4)
    server.heal()
    server.bodies["/checkpoint"] = make_lab("other").sign(LAB.text(SIZE))
    assert "no trusted key signed" in shell.refuse(*asked, expect=4)
    server.heal()
    server.gone.add("/tile/0/000")
    assert "status 404" in shell.refuse(*asked, expect=5)
    assert list(shell.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --index, --entry and --from"),
        (["--index", "0", "--from", "0"], "give one of --index, --entry and --from"),
        (["--index", "-1"], "not in the range"),
        (["--from", str(2**63)], "not in the range"),
        (["--entry", "absent"], "absent: cannot be read"),
        (["--index", "0", "--policy", "absent"], "absent: cannot be read"),
        (["--entry", "entry", "--search", "0"], "not in the range"),
        (["--index", "600"], "entry 600 of a tree of size 600"),
        (["--from", "601"], "size 600: it did not grow from 601"),
        (["--entry", "entry", "--search", "2"], "among the newest 344 of 600, from 256 on (2 tiles)"),
    ],
)
def test_what_is_no_command(
    shell: Shell, server: LogServer, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """Exit code 2, and a sentence that says what to do."""
    monkeypatch.chdir(shell.folder)
    shell.write("entry", b"never logged")
    assert message in " ".join(shell.refuse("prove", "--log", server.flag, *arguments, expect=2).split())


def test_inspect_shows_the_record_of_a_checksum_database(shell: Shell) -> None:
    """It comes as a proof's extra data; other extra data is passed over."""
    log = FakeSumdb([*filler(3), make_record("left", data=b"left")])
    proof = shell.write("proof", log.proof(3, 4) + log.checkpoint())
    document = shell.json("inspect", proof)
    assert (document["index"], document["record"]) == (3, log.entries[3].decode())
    assert "publish of left@1.0.0 at registry.example" in shell.run("inspect", proof)
    log.entries[3] = b"something else\n"
    assert shell.json("inspect", shell.write("other", log.proof(3, 4) + log.checkpoint()))["record"] is None
