"""Our witness and software that is not ours: logs that ask it, verifiers that judge its lines, and other witnesses.

No line that our witness returned is checked by our own code here, but for the column of our own conformance run.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from functools import cache, partial
from typing import TYPE_CHECKING

import trio

from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.witness.conformance import ConformanceOptions, Result, lab_vkeys, run_conformance
from tests.real.clients import mirrorwitness
from tests.real.witness_peers import (
    ALGORITHMS,
    GO_PROGRAM,
    ask_peer,
    is_installed,
    make_directory,
    make_key,
    make_log_key,
    make_sigsum_key,
    needs,
    peer_python,
    peer_script,
    run_tool,
    sigsum_tool,
    start_aics,
    start_go_sumdb,
    start_litewitness,
    start_ours,
    start_sigsum_log,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

    from mirrorwitness.witness.conformance import Outcome
    from tests.real.witness_peers import Witness

    Starter = Callable[[Sequence[str]], AbstractContextManager[Witness]]

SIZES = ("1", "1", "2", "3", "7", "8", "8", "64", "65", "300", "1000")
"""The same size again asks for a newer cosignature."""

DATABASE = "sum.example/go"
AGENT = ("ssh-agent", "ssh-add", "ssh-keygen")
SEED = hashlib.sha256(b"for tests only").digest()

AICS_DIFFERENCES = frozenset({
    # Stated policies: they are refused unless its configuration says otherwise.
    *("extension-line", "extension-cosigned", "duplicate-line"),
    # It has Ed25519 alone, for logs and for itself.
    *("ml-dsa-log", "answer-ml-dsa", "answer-offers-ml-dsa"),
    # It calls an origin that ends in a space malformed, and says 501 to methods that it does not know.
    *("origin-trailing-space", "put-add-checkpoint"),
})

LITEWITNESS_DIFFERENCES = frozenset({
    # Cosigns an empty tree with any root, and takes a proof from size 0.
    *("empty-tree-wrong-root", "empty-tree-with-proof", "proof-from-size-0"),
    # Numbers as Go reads them.
    *("old-leading-zero", "old-sign", "size-leading-zero", "size-2-63"),
    # 500 on what is no note, and on bodies of more than 10 KiB.
    *("no-final-newline", "short-root", "root-other-spelling", "no-signatures", "control-character", "not-utf-8"),
    *("ml-dsa-lines-4", "ml-dsa-lines-15", "body-of-128-kib"),
    # Does not look at a second line of the same key.
    "good-then-bad",
    # It has Ed25519 alone, and no monitoring prefix.
    *("ml-dsa-log", "answer-ml-dsa", "answer-offers-ml-dsa"),
    *("monitor-checkpoint", "monitor-log-line", "monitor-cosignatures", "monitor-never-cosigned"),
    *("monitor-forged-own-line", "monitor-strangers", "monitor-upper-case", "monitor-post"),
})


@needs("go")
def test_a_go_log_grows_and_every_line_verifies() -> None:
    """Go's tlog proves each step; its note package and standard library verify both lines, answered and published."""
    skey, vkey = make_log_key("log.example/go")
    with start_ours([vkey]) as ours:
        asked = ask_peer([GO_PROGRAM, "ask", "-url", ours.url, "-signer", skey, *_cosigners(ours), *SIZES])
    assert asked.splitlines() == [f"size {size}: cosigned by 2 keys and published" for size in SIZES]


@needs("go")
def test_forks_replays_and_forgeries_of_a_go_log_are_refused() -> None:
    """Each with the status that the specification gives, and none changes what is published."""
    skey, vkey = make_log_key("log.example/go")
    with start_ours([vkey]) as ours:
        refused = ask_peer([GO_PROGRAM, "refuse", "-url", ours.url, "-signer", skey, *_cosigners(ours)])
    assert refused.splitlines() == [
        "refused with 422: the same size with another root",
        "refused with 422: a fork that grew",
        "refused with 422: growth without its proof",
        "refused with 422: growth with a hash of its proof changed",
        "refused with 409: growth from a size that is not the newest",
        "refused with 409: a checkpoint from before",
        "refused with 400: an old size beyond the checkpoint",
        "refused with 403: a signature with a bit changed",
        "refused with 404: a log that nobody configured",
    ]


@needs("go")
def test_the_go_program_does_not_believe_another_key() -> None:
    """The check above is one: a key of the same name that did not sign is missed."""
    skey, vkey = make_log_key("log.example/go")
    with start_ours([vkey], algorithms=["ed25519"]) as ours:
        stranger = _make_stranger(ours)
        asked = run_tool([GO_PROGRAM, "ask", "-url", ours.url, "-signer", skey, "-cosigner", stranger, "1"])
    assert (asked.code, asked.output) == (1, "")


@needs("python")
def test_aics_client_has_its_log_cosigned() -> None:
    """Its client sees each size, refreshes, and finds its way after a restart; forks are refused and change nothing."""
    client = peer_script("aics_client.py")
    with start_ours([ask_peer([*client, "vkey"]).strip()]) as ours:
        words = [ours.url, ours.vkeys[0], str(ours.directory)]
        grown = ask_peer([*client, "grow", *words, *SIZES])
        assert grown.splitlines() == [f"size {size}: cosigned and published" for size in SIZES]
        assert ask_peer([*client, "fork", *words, "1000"]) == "refused with 422\n"
        assert ask_peer([*client, "fork", *words, "1500"]) == "refused with 422\n"
        assert ask_peer([*client, "stale", *words, "65"]) == "ahead at 1000\n"
        (ours.directory / "client.json").unlink()
        assert ask_peer([*client, "grow", *words, "1500"]) == "size 1500: cosigned and published\n"


@needs("python")
def test_aics_tlog_verifies_what_is_published() -> None:
    """Its command accepts the published checkpoint under a quorum of our key, and under no other key."""
    client = peer_script("aics_client.py")
    vkey = ask_peer([*client, "vkey"]).strip()
    with start_ours([vkey]) as ours:
        ask_peer([*client, "grow", ours.url, ours.vkeys[0], ours.directory, "40"])
        note = ours.directory / "checkpoint.txt"
        good, bad = (_aics_verdict(note, vkey, key) for key in (ours.vkeys[0], _make_stranger(ours)))
    assert (good["ok"], good["size"], good["log_ok"], good["cosignatures"]) == (True, 40, True, 1)
    assert (bad["ok"], bad["log_ok"], bad["cosignatures"]) == (False, True, 0)


@needs("python")
def test_tlog_scales_verifies_ml_dsa_44() -> None:
    """A log that signs with ML-DSA-44 alone is cosigned; both lines verify, and for no other size."""
    client = peer_script("scales_client.py")
    log = ask_peer([*client, "vkey"]).strip()
    with start_ours([log]) as ours:
        lines = ask_peer([*client, "ask", ours.url, *ours.vkeys]).splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == ["4", "6"]
        origin = log.partition("+")[0]
        published = ours.directory / "state" / "witness" / hashlib.sha256(origin.encode()).hexdigest() / "checkpoint"
        lines = ask_peer([*client, "verify", published, log, *ours.vkeys]).splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == ["6", "4", "6"]
        assert run_tool([*client, "verify", published, _make_stranger(ours)]).code != 0


@needs("debian")
def test_sigsum_accepts_a_log_that_we_witness() -> None:
    """Sigsum's log has each head cosigned by us, and its tools accept the proofs under a policy that asks for us."""
    with make_directory() as directory:
        log, submitter = directory / "log", directory / "submitter"
        vkey = make_sigsum_key(log)
        make_sigsum_key(submitter)
        with start_ours([vkey]) as ours, start_sigsum_log(directory, ours) as sigsum:
            for number in range(3):
                message, proof = directory / f"message-{number}", directory / f"proof-{number}"
                message.write_text(f"message {number}\n")
                ask_peer([sigsum_tool("submit"), "-k", submitter, "-p", sigsum.policy, "-o", proof, message])
                assert _verify_sigsum(directory, proof, message.read_text()) == 0
                assert _verify_sigsum(directory, proof, "another message\n") != 0
                assert f"\nsize={number + 1}\n" in proof.read_text()


@needs("debian")
def test_sigsum_does_not_accept_another_witness() -> None:
    """The quorum above is one: under a policy with another witness's key the same proof does not verify."""
    with make_directory() as directory:
        log, submitter, other = directory / "log", directory / "submitter", directory / "other"
        vkey = make_sigsum_key(log)
        make_sigsum_key(submitter)
        make_sigsum_key(other)
        with start_ours([vkey]) as ours, start_sigsum_log(directory, ours) as sigsum:
            message, proof = directory / "message", directory / "proof"
            message.write_text("message\n")
            ask_peer([sigsum_tool("submit"), "-k", submitter, "-p", sigsum.policy, "-o", proof, message])
        assert _verify_sigsum(directory, proof, "message\n") == 0
        key = ask_peer([sigsum_tool("key"), "to-hex", "-k", f"{other}.pub"]).strip()
        lines = sigsum.policy.read_text().splitlines()
        sigsum.policy.write_text(f"{lines[0]}\nwitness ours {key}\n{lines[2]}\n")
        assert _verify_sigsum(directory, proof, "message\n") != 0


@needs("python")
def test_aics_witness_conforms_but_for_its_policies() -> None:
    """It differs where its documentation says so, and in nothing that was not known."""
    found = _run_suite(start_aics)
    assert _differences(found) - AICS_DIFFERENCES == set()
    assert {found[case].result for case in ("extension-line", "duplicate-line")} == {Result.DIFFERS}


@needs("debian", *AGENT)
def test_litewitness_differs_where_it_is_known_to() -> None:
    """It differs in nothing that was not known of the version that Debian had in November 2026 (0.9.0)."""
    assert _differences(_run_suite(start_litewitness)) - LITEWITNESS_DIFFERENCES == set()


def test_all_witnesses_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours passes every case; the table shows in which cases the others, where they are installed, do not."""
    runs = {"ours": _run_suite(partial(start_ours, options=["--sign-subtree"]))}
    if is_installed("python"):
        runs["aics-witness"] = _run_suite(start_aics)
    if is_installed("debian", *AGENT):
        runs["litewitness"] = _run_suite(start_litewitness)
    table = _make_table(runs)
    with capsys.disabled():
        print(f"\n{table}")  # noqa: T201 - what `make test-real` shows
    assert {name: outcome.found for name, outcome in runs["ours"].items() if outcome.result is not Result.PASSED} == {}


@needs("go")
def test_a_go_sumdb_is_followed_and_cosigned(tmp_path: Path) -> None:
    """Its head is polled, its growth proven from its own tiles, and Go verifies what is published each time."""
    skey, vkey = make_log_key(DATABASE)
    poller = _Poller(tmp_path, vkey)
    with start_go_sumdb(skey, records=300, origin=DATABASE) as url:
        for records in (0, 1, 300):
            _look_up(url, f"example.com/batch{records}", records)
            assert poller.poll(url) == 0
            assert poller.published() == _get(f"{url}/latest").partition("\n\n")[0] + "\n"


@needs("go")
def test_a_rollback_and_a_fork_of_a_go_sumdb_are_alarms(tmp_path: Path) -> None:
    """A smaller tree, and a larger one of another history, end the poll with 4 and are not cosigned."""
    skey, vkey = make_log_key(DATABASE)
    poller = _Poller(tmp_path, vkey)
    with start_go_sumdb(skey, records=300, origin=DATABASE) as url:
        assert poller.poll(url) == 0
    before = poller.published()
    with start_go_sumdb(skey, records=20, origin=DATABASE) as url:
        assert poller.poll(url) == 4
        _look_up(url, "example.com/fork", 400)
        assert poller.poll(url) == 4
    assert poller.published() == before
    assert len(list((tmp_path / "state" / "evidence" / "witness").glob("*/*.json"))) == 1


@needs("go")
def test_a_sumdb_with_go_s_origin_and_another_key_is_not_cosigned(tmp_path: Path) -> None:
    """Every copy of Go's code says that it is Go's own database; only Go's key may."""
    skey, vkey = make_log_key(DATABASE)
    poller = _Poller(tmp_path, vkey)
    with start_go_sumdb(skey, records=5) as url:
        assert _get(f"{url}/latest").startswith("go.sum database tree\n5\n")
        assert poller.poll(url) == 5
    assert not list((tmp_path / "state").rglob("checkpoint"))


class _Poller:
    """`witness poll --once` over one storage, with a key of each algorithm, of one log."""

    def __init__(self, directory: Path, vkey: str) -> None:
        self._storage = directory / "state"
        self._vkey = vkey
        paths = {directory / f"{algorithm}.key": algorithm for algorithm in ALGORITHMS}
        self._keys = {path: make_key("witness.example/poll", algorithm, path) for path, algorithm in paths.items()}

    def poll(self, url: str) -> int:
        """Poll once, without the grace that caches get, and return the exit code."""
        words = ["--storage", f"file:{self._storage}", "--log", f"{self._vkey}={url}", "--older-head-after", "0 s"]
        words += [word for path in self._keys for word in ("--key", str(path))]
        return mirrorwitness("witness", "poll", "--once", "--dialect", "sumdb", *words).code

    def published(self) -> str:
        """Let Go verify the published checkpoint, and return its text."""
        (path,) = (self._storage / "witness").glob("*/checkpoint")
        cosigners = [word for key in self._keys.values() for word in ("-cosigner", key)]
        return ask_peer([GO_PROGRAM, "verify", "-log", self._vkey, *cosigners, path])


def _cosigners(witness: Witness) -> list[str]:
    return [word for vkey in witness.vkeys for word in ("-cosigner", vkey)]


def _make_stranger(witness: Witness) -> str:
    """Make a key of the witness's name that it does not have."""
    return make_key("witness.example/ours", "ed25519", witness.directory / "stranger.key")


def _aics_verdict(note: Path, log: str, witness: str) -> dict[str, object]:
    command = [peer_python("aics-tlog"), "verify-checkpoint", "--note", str(note), "--log-key", log]
    done = run_tool([*command, "--witness-key", witness, "--quorum", "1", "--max-age", "60"])
    verdict: dict[str, object] = json.loads(done.output)
    return verdict


def _verify_sigsum(directory: Path, proof: Path, message: str) -> int:
    command = [sigsum_tool("verify"), "-k", f"{directory}/submitter.pub", "-p", f"{directory}/policy", str(proof)]
    return run_tool(command, stdin=message).code


def _look_up(url: str, module: str, count: int) -> None:
    """Have a database add so many records."""
    for number in range(count):
        _get(f"{url}/lookup/{module}@v1.0.{number}")


def _get(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        text: str = answer.read().decode()
        return text


@cache
def _run_suite(start: Starter) -> Mapping[str, Outcome]:
    with start(lab_vkeys(SEED)) as witness:
        keys = [parse_verifier_key(vkey, *COSIGNER_KEYS) for vkey in witness.vkeys]
        options = ConformanceOptions(url=witness.url, monitoring_url=witness.url, witness_keys=keys, seed=SEED)
        outcomes = trio.run(partial(run_conformance, options, told=lambda _: None))
    return {outcome.case.id: outcome for outcome in outcomes}


def _differences(found: Mapping[str, Outcome]) -> set[str]:
    """Return the cases that did not pass; sign-subtree is offered by none of the others."""
    return {name for name, outcome in found.items() if outcome.result is not Result.PASSED and "subtree" not in name}


def _make_table(runs: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Return a line for each case that one of the witnesses did not pass, and one with the sums."""
    lines = [f"{'conformance case':<26}{'level':<8}" + "".join(f"{name:<18}" for name in runs)]
    for case, outcome in runs["ours"].items():
        found = [run[case] for run in runs.values()]
        if any(each.result is not Result.PASSED for each in found):
            lines.append(f"{case:<26}{outcome.case.level:<8}" + "".join(f"{_describe(each):<18}" for each in found))
    passed = [sum(each.result is Result.PASSED for each in run.values()) for run in runs.values()]
    sums = [f"{count} of {len(runs['ours'])}" for count in passed]
    lines.append(f"{'passed':<34}" + "".join(f"{each:<18}" for each in sums))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _describe(outcome: Outcome) -> str:
    status = "" if outcome.result is Result.PASSED or outcome.status is None else f" {outcome.status}"
    return f"{outcome.result}{status}"
