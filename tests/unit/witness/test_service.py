"""The witness as logs meet it: every status of the specification, what is cosigned, kept and published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.cosignature import timestamp_of
from mirrorwitness.tlog.evidence import check_evidence, make_evidence, parse_evidence
from mirrorwitness.tlog.keys import KeyType, VerifierKey, make_signer_key
from mirrorwitness.tlog.note import MAX_SIGNATURES, parse_lines, parse_note
from mirrorwitness.witness.decision import Latest
from mirrorwitness.witness.logs import WitnessedLog
from mirrorwitness.witness.protocol import (
    MAX_BODY_BYTES,
    Answer,
    Reason,
    format_add_checkpoint,
    parse_add_checkpoint,
)
from mirrorwitness.witness.signer import LocalSigner
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    LOG_PQ,
    OTHER,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    Log,
    World,
    cosign,
    forge,
    grow,
    make_note,
    read_cosignatures,
    sign,
)

if TYPE_CHECKING:
    from mirrorwitness.witness.service import Fork

DATA = Path(__file__).parents[2] / "data/tlog/witness"
TEXT = "text/plain; charset=utf-8"
FORK = LOG.fork(6)


async def test_a_cosignature() -> None:
    """200, one line, which verifies over the whole text, at the time of the clock."""
    witness = await World().start()
    answer = await witness.add_checkpoint(LOG.request(0, 10))
    (line,) = parse_lines(answer.body)
    assert answer == Answer(200, answer.body, TEXT)
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(10).text, OURS)] == [START]
    assert line.is_of(OURS.verifier)
    assert await witness.latest(LOG.witnessed) == Latest(10, LOG.root(0, 10))
    assert repr(witness) == "<Witness of 1 logs, {'cosigned': 1}>"


async def test_two_keys_answer_two_lines() -> None:
    """In the order of the keys; the ML-DSA-44 one covers the whole tree, with a time."""
    world = World(keys=(OURS, OURS_PQ))
    answer = await (await world.start()).add_checkpoint(LOG.request(0, 10))
    lines = parse_lines(answer.body)
    assert [line.is_of(key.verifier) for line, key in zip(lines, world.keys, strict=True)] == [True, True]
    assert [item.timestamp for item in read_cosignatures(lines, LOG.tree(10).text, OURS, OURS_PQ)] == [START, START]


@pytest.mark.parametrize(
    ("body", "status", "said", "reason"),
    [
        (b"", 400, b"expected lines, an empty line, and a checkpoint\n", Reason.MALFORMED),
        (b"x" * (MAX_BODY_BYTES + 1), 413, b"the request has more than 262144 bytes\n", Reason.TOO_LARGE),
        (OTHER.request(0, 5), 404, b"this witness does not know the log of that origin\n", Reason.UNKNOWN_LOG),
        (LOG.request(12, 11), 400, b"old size 12 is above the size 11\n", Reason.OLD_ABOVE_SIZE),
        (
            format_add_checkpoint(10, (), LOG.note(11)),
            422,
            b"consistency proof from size 10 to size 11: has 0 hashes, expected 3\n",
            Reason.PROOF,
        ),
        (FORK.request(10, 10), 422, b"another tree of size 10 was cosigned before\n", Reason.OTHER_ROOT),
    ],
)
async def test_refusals(body: bytes, status: int, said: bytes, reason: Reason) -> None:
    """Each with its status, one sentence for a person, and nothing written."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    before = world.copy()
    assert await witness.add_checkpoint(body) == Answer(status, said, TEXT, reason)
    assert world.copy() == before
    assert witness.counts == {"cosigned": 1, reason.value: 1}


@pytest.mark.parametrize("name", [LOG.origin, "stranger.example"])
async def test_nobody_trusted_signed(name: str) -> None:
    """403, also where the name is that of the log's key."""
    key = make_signer_key(name, bytes([99] * 32))
    text = LOG.tree(10).text
    note = make_note(LOG.tree(10), sign(key, text), cosign(OURS, LOG.tree(9).text, START))
    answer = await (await World().start()).add_checkpoint(format_add_checkpoint(0, (), note))
    assert (answer.status, answer.content_type, answer.reason) == (403, TEXT, Reason.NOT_SIGNED)
    assert answer.body.startswith(b"no trusted key signed the checkpoint of 'log.example/a': trusted are ")


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_forged_line_of_the_log_beside_a_good_one(is_first: bool) -> None:  # noqa: FBT001 - a parameter
    """403: such a note is malformed, in either order."""
    good = sign(LOG_KEY, LOG.tree(10).text)
    lines = [forge(good), good] if is_first else [good, forge(good)]
    note = make_note(LOG.tree(10), *lines)
    answer = await (await World().start()).add_checkpoint(format_add_checkpoint(0, (), note))
    assert (answer.status, answer.reason) == (403, Reason.NOT_SIGNED)
    assert answer.body == f"a signature of the key log.example/a+{good.key_id.hex()} does not verify\n".encode()


@pytest.mark.parametrize(("grown", "old"), [((), 5), ((10,), 0), ((10,), 9), ((10,), 11), ((10, 20), 10)])
async def test_an_old_size_that_is_not_ours_is_told_ours(grown: tuple[int, ...], old: int) -> None:
    """409, the size and a newline, and exactly this Content-Type."""
    witness = await World().start()
    await grow(witness, *grown)
    answer = await witness.add_checkpoint(LOG.request(old, 30))
    size = grown[-1] if grown else 0
    assert answer == Answer(409, b"%d\n" % size, "text/x.tlog.size", Reason.STALE)


async def test_size_0_and_from_there() -> None:
    """The empty tree is cosigned, again, and grows; with another root it is none."""
    witness = await World().start()
    answers = [await witness.add_checkpoint(LOG.request(0, size)) for size in (0, 0, 7)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert read_cosignatures(answers[0].body, LOG.tree(0).text, OURS)
    wrong = replace(LOG.tree(0), root=LOG.root(0, 1))
    body = format_add_checkpoint(0, (), make_note(wrong, sign(LOG_KEY, wrong.text)))
    answer = await (await World().start()).add_checkpoint(body)
    assert (answer.status, answer.body) == (422, b"a tree of size 0 has the root of the empty tree\n")


async def test_a_disabled_log_is_not_known_any_more() -> None:
    """404, and its published checkpoint stays."""
    world = World()
    await grow(await world.start(), 10)
    world.logs = (replace(LOG.witnessed, is_disabled=True),)
    answer = await (await world.start()).add_checkpoint(LOG.request(10, 11))
    assert answer == Answer(
        404, b"this witness does not cosign the log of that origin any more\n", TEXT, Reason.DISABLED_LOG
    )
    assert world.published().text == LOG.tree(10).text


async def test_refresh_gives_a_newer_time_on_the_same_tree() -> None:
    """So that a log that does not grow can show that it is watched; within a second it is the same line."""
    world = World()
    witness = await world.start()
    (first,) = await grow(witness, 10)
    assert await witness.add_checkpoint(LOG.request(10, 10)) == first
    world.clock.at += 60
    again = await witness.add_checkpoint(LOG.request(10, 10))
    assert [item.timestamp for item in read_cosignatures(again.body, LOG.tree(10).text, OURS)] == [START + 60]
    assert timestamp_of(world.published().signatures[-1]) == START + 60


async def test_extension_lines_are_cosigned_with_the_rest() -> None:
    """The Ed25519 cosignature covers them: on the bare checkpoint it does not verify."""
    world = World(keys=(OURS, OURS_PQ))
    witness = await world.start()
    answer = await witness.add_checkpoint(LOG.request(0, 10, "an extension", "another"))
    assert answer.status == 200
    text = LOG.tree(10, "an extension", "another").text
    assert len(read_cosignatures(answer.body, text, OURS, OURS_PQ)) == 2
    with pytest.raises(Exception, match="does not verify"):
        read_cosignatures(answer.body, LOG.tree(10).text, OURS, OURS_PQ)
    assert world.published().text == text


async def test_extension_lines_that_the_operator_refuses() -> None:
    """400, and the same tree without them is cosigned."""
    witness = await World(logs=(replace(LOG.witnessed, refuses_extensions=True),)).start()
    answer = await witness.add_checkpoint(LOG.request(0, 10, "an extension"))
    assert answer == Answer(
        400,
        b"the checkpoint has extension lines, which this witness does not take\n",
        TEXT,
        Reason.EXTENSION_LINES,
    )
    await grow(witness, 10)


async def test_repeated_lines_of_the_log_are_taken_and_kept_once() -> None:
    """SPEC: a checkpoint may have several signatures; published is each key's once, and ours."""
    world = World()
    line = sign(LOG_KEY, LOG.tree(10).text)
    answer = await (await world.start()).add_checkpoint(LOG.request(0, 10, more=[line, line]))
    assert answer.status == 200
    assert world.published().signatures == (line, *parse_lines(answer.body))


async def test_forged_line_with_our_name_is_neither_kept_nor_published() -> None:
    """A line of ours that does not verify, and those of strangers, are passed over and go no further."""
    world = World()
    text = LOG.tree(10).text
    noise = [forge(cosign(OURS, text, START)), cosign(OURS, LOG.tree(9).text, START), cosign(STRANGER, text, START)]
    answer = await (await world.start()).add_checkpoint(LOG.request(0, 10, more=noise))
    assert answer.status == 200
    kept = (sign(LOG_KEY, text), *parse_lines(answer.body))
    assert world.published().signatures == kept
    (record,) = map(json.loads, world.copy("state/witness/logs/").values())
    assert parse_note(record["checkpoint"].encode()).signatures == kept
    await grow(await world.start(), 20, old=10)  # and the next start reads it


async def test_dos_64_lines_of_a_log_do_not_stop_the_next_start() -> None:
    """A log may sign in as many ways as it likes; what is stored can still be read."""
    log = Log(LOG_PQ)
    world = World(logs=(log,))
    lines = [sign(LOG_PQ, log.tree(10).text) for _ in range(MAX_SIGNATURES - 1)]
    body = log.request(0, 10, more=lines)
    assert (await (await world.start()).add_checkpoint(body)).status == 200
    answer = await (await world.start()).add_checkpoint(log.request(10, 11))
    assert answer.status == 200
    assert len(world.published(log).signatures) == 2


async def test_what_is_published_is_what_was_answered() -> None:
    """The log's lines that verified, and our own, under the specification's path; a reader opens it."""
    world = World(keys=(OURS, OURS_PQ), logs=(Log(LOG_KEY, LOG_PQ),))
    log = Log(LOG_KEY, LOG_PQ)
    answer = await (await world.start()).add_checkpoint(log.request(0, 10))
    body = world.storage.objects[f"witness/{origin_hash(log.origin)}/checkpoint"]
    opened = open_checkpoint(body, log.witnessed.keys, origin=log.origin)
    assert opened.checkpoint == log.tree(10)
    assert [key for key, _ in opened.signed] == list(log.witnessed.keys)
    assert opened.note.signatures[2:] == parse_lines(answer.body)
    assert world.storage.content_types[f"witness/{origin_hash(log.origin)}/checkpoint"] == TEXT


async def test_logs_are_apart() -> None:
    """Each has its own size; both may be at any."""
    witness = await World(logs=(LOG, OTHER)).start()
    await grow(witness, 10)
    await grow(witness, 3, 30, log=OTHER)
    assert await witness.latest(OTHER.witnessed) == Latest(30, OTHER.root(0, 30))
    assert await witness.latest(LOG.witnessed) == Latest(10, LOG.root(0, 10))


@pytest.mark.parametrize(("old", "status"), [(10, 422), (0, 409), (9, 409), (11, 400)])
async def test_fork_is_refused_told_and_proven(old: int, status: int) -> None:
    """Two roots of one size: both notes are handed on, wherever it is refused, and prove the fork to anybody."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    before = world.copy()
    strangers = [cosign(STRANGER, FORK.tree(10).text, START)]
    body = format_add_checkpoint(old, FORK.proof(7, 9), FORK.note(10, more=strangers))
    answer = await witness.add_checkpoint(body)
    assert (answer.status, witness.forks) == (status, 1)
    (fork,) = world.forks
    proof = check_evidence(parse_evidence(_evidence(fork)))
    assert (proof.ours, proof.theirs) == (LOG.tree(10), FORK.tree(10))
    assert [item.timestamp for item in proof.cosignatures] == [START]
    assert fork.proof == tuple(FORK.proof(7, 9))
    assert parse_note(fork.theirs).signatures == (sign(LOG_KEY, FORK.tree(10).text),)
    assert world.copy() == before
    await witness.add_checkpoint(LOG.request(10, 12))  # the log that we know may go on
    assert await witness.latest(LOG.witnessed) == Latest(12, LOG.root(0, 12))


def _evidence(fork: Fork) -> bytes:
    return make_evidence(
        log_keys=LOG.witnessed.keys,
        witness_keys=[OURS.verifier],
        origin=fork.origin,
        ours=fork.ours,
        theirs=fork.theirs,
        proof=fork.proof,
        seen="",
    )


async def test_a_wrong_proof_is_no_evidence() -> None:
    """Anybody can send one with a checkpoint that is right; nobody is accused."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    for body in (FORK.request(10, 12), format_add_checkpoint(10, LOG.proof(9, 12), LOG.note(12))):
        assert (await witness.add_checkpoint(body)).status == 422
    assert (world.forks, witness.forks) == ([], 0)


async def test_submit_is_the_same_decision() -> None:
    """What a feeder read is judged as what a log sends, and counted."""
    witness = await World().start()
    answer = await witness.submit(parse_add_checkpoint(LOG.request(0, 10)))
    assert answer.status == 200
    record = await witness.record(LOG.witnessed)
    assert record is not None
    assert (record.size, record.timestamp, witness.own) == (10, START, (OURS.verifier,))
    assert witness.counts == {"cosigned": 1}


async def test_litewitness_s_requests() -> None:
    """Nine requests of another witness's tests, signed by other software, have the statuses that they have there.

    But for a line whose base64 is not canonical, which we do not read.
    """
    others = {1: 400}
    origin = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
    public = bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f")
    world = World(logs=(WitnessedLog(origin, (VerifierKey(origin, public),)),))
    witness = await world.start()
    for number, case in enumerate(json.loads((DATA / "litewitness.json").read_bytes())):
        answer = await witness.add_checkpoint(case["request"].encode())
        assert answer.status == others.get(number, case["status"]), (number, answer)
        if case["body"].startswith("=="):
            assert answer.body == json.loads(case["body"].removeprefix("== ")).encode()
    assert witness.counts == {"cosigned": 3, "malformed": 1, "unknown-log": 1, "proof": 2, "stale": 2}


def test_a_signer_shows_whose_key_it_is_and_no_secret() -> None:
    """In logs, for people."""
    signer = LocalSigner(OURS)
    assert repr(signer) == "<LocalSigner witness.example/w1 Ed25519 cosignature>"
    assert (signer.verifier, signer.verifier.kind) == (OURS.verifier, KeyType.COSIGNATURE)
