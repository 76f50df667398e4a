"""Cosignatures: the messages byte for byte, cosignatures of others, and what each one does not say."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from mirrorwitness.errors import ConfigurationError, SignatureError
from mirrorwitness.tlog.checkpoint import Checkpoint, parse_checkpoint
from mirrorwitness.tlog.cosignature import (
    COSIGNER_KEYS,
    MAX_NAME_BYTES,
    Cosignature,
    Statement,
    check_cosignatures,
    cosigned_message,
    fits_cosignature,
    make_line,
    timestamp_of,
)
from mirrorwitness.tlog.keys import KeyId, KeyType, SignerKey, VerifierKey, make_signer_key, parse_verifier_key
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import Note, Signature, format_lines, format_note, parse_lines, parse_note

VECTORS = Path(__file__).parents[2] / "data" / "tlog" / "notes"

# A checkpoint, and the messages of C2SP tlog-cosignature for it, written out by hand from its sentences.
NAME = "witness.example.com/w1"
TIME = 1_700_000_000
TEXT = b"""log.example.com/golden-tree
70000
47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
"""

# "Ed25519 signed message".
ED25519_MESSAGE = b"""cosignature/v1
time 1700000000
log.example.com/golden-tree
70000
47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
"""

# "ML-DSA-44 signed message".
ML_DSA_MESSAGE = bytes.fromhex(
    "737562747265652f76310a00"  # label: subtree/v1, a newline, a zero
    "16 7769746e6573732e6578616d706c652e636f6d2f7731"  # cosigner_name: 22 bytes, witness.example.com/w1
    "000000006553f100"  # timestamp
    "1b 6c6f672e6578616d706c652e636f6d2f676f6c64656e2d74726565"  # log_origin: 27 bytes, log.example.com/golden-tree
    "0000000000000000"  # start
    "0000000000011170"  # end
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # hash
)

# The same of the subtree [8, 13), without a time.
SUBTREE_MESSAGE = bytes.fromhex(
    "737562747265652f76310a00 16 7769746e6573732e6578616d706c652e636f6d2f7731 0000000000000000"
    "1b 6c6f672e6578616d706c652e636f6d2f676f6c64656e2d74726565 0000000000000008 000000000000000d"
    "2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a"
)

SEED = bytes(range(32))
ED25519, COSIGNER, ML_DSA = (make_signer_key(NAME, SEED, kind) for kind in KeyType)
COSIGNERS = pytest.mark.parametrize("key", [COSIGNER, ML_DSA], ids=lambda key: key.verifier.kind.title)
LATEST = 2**63 - 1
ROOT = Hash(b"\x2a" * 32)


def about(checkpoint: Checkpoint) -> Statement:
    """Return the statement that cosigns a checkpoint."""
    return Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, checkpoint.text)


def cosign(key: SignerKey, timestamp: int, statement: Statement) -> Signature:
    """Return a cosigner's line."""
    message = cosigned_message(key.verifier, timestamp, statement)
    return make_line(key.verifier, timestamp, key.sign(message))


def published(name: str) -> tuple[Note, Statement, list[VerifierKey]]:
    """Return a vector: the note, what its cosigners say, and those of the keys that are cosigners'."""
    note = parse_note((VECTORS / f"{name}.note").read_bytes())
    keys = [parse_verifier_key(text, *KeyType) for text in (VECTORS / f"{name}.vkeys").read_text().split()]
    return note, about(parse_checkpoint(note.text)), [key for key in keys if key.kind in COSIGNER_KEYS]


def write_line(kind: int, algorithm: Ed25519PrivateKey | MLDSA44PrivateKey, time: str, message: bytes) -> bytes:
    """Write a signature line from the specification's sentences alone."""
    public = algorithm.public_key().public_bytes_raw()
    key_id = hashlib.sha256(NAME.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
    value = base64.b64encode(key_id + bytes.fromhex(time) + algorithm.sign(message))
    return b"\xe2\x80\x94 " + NAME.encode() + b" " + value + b"\n"


CHECKPOINT = parse_checkpoint(TEXT)
STATEMENT = about(CHECKPOINT)
SUBTREE = Statement("log.example.com/golden-tree", 8, 13, ROOT)
STRANGERS = (
    Signature("log.example.com/golden-tree", KeyId(b"\x01\x02\x03\x04"), bytes(64)),
    make_line(make_signer_key("stranger.example", bytes(32), KeyType.COSIGNATURE).verifier, TIME, bytes(64)),
)
"""Lines of a log and of a cosigner whose keys nobody knows."""


def test_the_messages_are_those_of_the_specification() -> None:
    """Byte for byte, of both types, of a checkpoint and of a subtree."""
    assert cosigned_message(COSIGNER.verifier, TIME, STATEMENT) == ED25519_MESSAGE
    assert cosigned_message(ML_DSA.verifier, TIME, STATEMENT) == ML_DSA_MESSAGE
    assert cosigned_message(ML_DSA.verifier, 0, SUBTREE) == SUBTREE_MESSAGE


def test_an_ed25519_line_that_was_written_by_hand() -> None:
    """It says its time and verifies, and ours is the same."""
    body = write_line(4, Ed25519PrivateKey.from_private_bytes(SEED), "000000006553f100", ED25519_MESSAGE)
    (line,) = parse_lines(body)
    assert (timestamp_of(line), len(line.value)) == (TIME, 8 + 64)
    assert check_cosignatures([line], [COSIGNER.verifier], STATEMENT) == (Cosignature(COSIGNER.verifier, TIME, line),)
    assert format_lines([cosign(COSIGNER, TIME, STATEMENT)]) == body


@pytest.mark.parametrize(
    ("time", "message", "statement"),
    [("000000006553f100", ML_DSA_MESSAGE, STATEMENT), ("0000000000000000", SUBTREE_MESSAGE, SUBTREE)],
    ids=["checkpoint", "subtree"],
)
def test_an_ml_dsa_line_that_was_written_by_hand(time: str, message: bytes, statement: Statement) -> None:
    """It verifies for this tree alone, and others verify ours: their signatures differ each time."""
    private = MLDSA44PrivateKey.from_seed_bytes(SEED)
    (line,) = parse_lines(write_line(6, private, time, message))
    timestamp = int(time, 16)
    assert len(line.value) == 8 + 2420
    assert check_cosignatures([line], [ML_DSA.verifier], statement) == (Cosignature(ML_DSA.verifier, timestamp, line),)
    for other in (
        replace(statement, origin="log.example.com/other"),
        replace(statement, start=statement.start ^ 8),
        replace(statement, end=statement.end - 1),
        replace(statement, root=Hash(bytes(32))),
    ):
        assert not fits_cosignature(ML_DSA.verifier, line, other)
    private.public_key().verify(cosign(ML_DSA, timestamp, statement).value[8:], message)


def test_extension_lines_are_signed_by_ed25519_alone() -> None:
    """ML-DSA-44 makes no statement about them, so that its cosignature fits with and without."""
    extended = about(replace(CHECKPOINT, extension=("extension 1", "  2")))
    assert cosigned_message(COSIGNER.verifier, 1, extended) == (
        b"cosignature/v1\ntime 1\n" + CHECKPOINT.text + b"extension 1\n  2\n"
    )
    assert cosigned_message(ML_DSA.verifier, 1, extended) == cosigned_message(ML_DSA.verifier, 1, STATEMENT)
    assert not fits_cosignature(COSIGNER.verifier, cosign(COSIGNER, 1, STATEMENT), extended)
    assert fits_cosignature(ML_DSA.verifier, cosign(ML_DSA, 1, STATEMENT), extended)


@pytest.mark.parametrize(("name", "time"), [("arche", 1779573024), ("coachandhorses", 1785704691)])
def test_cosignatures_of_public_witnesses_verify(name: str, time: int) -> None:
    """Ed25519 of one, ML-DSA-44 of another, over heads of certificate logs; nothing is said of the other lines."""
    note, statement, keys = published(name)
    (key,) = keys
    line = next(line for line in note.signatures if line.is_of(key))
    assert check_cosignatures(note.signatures, keys, statement) == (Cosignature(key, time, line),)
    with pytest.raises(SignatureError, match="does not verify"):
        check_cosignatures(note.signatures, keys, about(Checkpoint(statement.origin, 42, statement.root)))


def test_a_log_with_an_ml_dsa_key_is_its_own_cosigner() -> None:
    """A log's line is a cosignature under the log's name; it need not say a time."""
    log = make_signer_key(CHECKPOINT.origin, SEED, KeyType.ML_DSA_44)
    note = parse_note(format_note(Note(CHECKPOINT.text, (cosign(log, 0, STATEMENT),))))
    assert [found.timestamp for found in check_cosignatures(note.signatures, [log.verifier], STATEMENT)] == [0]


@COSIGNERS
@pytest.mark.parametrize("timestamp", [0, 1, TIME, LATEST])
def test_every_time_below_2_63_can_be_said(key: SignerKey, timestamp: int) -> None:
    """In the line it is 8 bytes, most significant first."""
    line = cosign(key, timestamp, STATEMENT)
    assert line.value[:8] == timestamp.to_bytes(8, "big")
    assert (line.name, line.key_id) == (key.name, key.verifier.key_id)
    assert check_cosignatures([line], [key.verifier], STATEMENT) == (Cosignature(key.verifier, timestamp, line),)


@COSIGNERS
@pytest.mark.parametrize("timestamp", [-1, LATEST + 1, 2**64])
def test_no_other_time_can_be_signed(key: SignerKey, timestamp: int) -> None:
    """The specification forbids more than 2^63-1."""
    with pytest.raises(ConfigurationError, match=rf"timestamp {timestamp}: expected 0 to 2\^63-1"):
        cosigned_message(key.verifier, timestamp, STATEMENT)


@pytest.mark.parametrize("timestamp", [LATEST + 1, 2**64 - 1])
def test_a_time_of_2_63_is_refused_though_it_is_signed(timestamp: int) -> None:
    """The cosigner itself wrote it, over exactly the message that would be meant."""
    message = b"cosignature/v1\ntime %d\n%b" % (timestamp, CHECKPOINT.text)
    assert not fits_cosignature(
        COSIGNER.verifier, make_line(COSIGNER.verifier, timestamp, COSIGNER.sign(message)), STATEMENT
    )
    binary = ML_DSA_MESSAGE.replace(TIME.to_bytes(8, "big"), timestamp.to_bytes(8, "big"))
    assert not fits_cosignature(ML_DSA.verifier, make_line(ML_DSA.verifier, timestamp, ML_DSA.sign(binary)), STATEMENT)


def test_a_subtree_has_a_message_without_a_time() -> None:
    """Start and end are in it; the text of a checkpoint is not."""
    assert cosigned_message(ML_DSA.verifier, 0, replace(SUBTREE, text=b"anything\n")) == SUBTREE_MESSAGE
    line = cosign(ML_DSA, 0, SUBTREE)
    assert fits_cosignature(ML_DSA.verifier, line, SUBTREE)
    assert fits_cosignature(ML_DSA.verifier, line, replace(SUBTREE, text=b"anything\n"))


def test_a_subtree_with_a_time_is_refused() -> None:
    """It would say that it is the largest tree; also where the cosigner did sign that."""
    with pytest.raises(ConfigurationError, match="does not begin at 0 is cosigned without a timestamp"):
        cosigned_message(ML_DSA.verifier, 1, SUBTREE)
    message = cosigned_message(ML_DSA.verifier, 0, SUBTREE)
    signed = message[:35] + (1).to_bytes(8, "big") + message[43:]
    assert not fits_cosignature(ML_DSA.verifier, make_line(ML_DSA.verifier, 1, ML_DSA.sign(signed)), SUBTREE)


def test_a_subtree_from_0_may_have_a_time() -> None:
    """It is a whole tree, and its cosignature is that of the checkpoint of its size."""
    line = cosign(ML_DSA, TIME, replace(STATEMENT, text=b""))
    assert fits_cosignature(ML_DSA.verifier, line, STATEMENT)


@pytest.mark.parametrize("statement", [SUBTREE, replace(STATEMENT, text=b""), replace(STATEMENT, start=1)])
@pytest.mark.parametrize("timestamp", [0, 1])
def test_ed25519_cosigns_no_subtree(statement: Statement, timestamp: int) -> None:
    """Its message is the text of a checkpoint, which a subtree has not."""
    with pytest.raises(ConfigurationError, match="cosigns checkpoints only, not subtrees"):
        cosigned_message(COSIGNER.verifier, timestamp, statement)
    assert not fits_cosignature(COSIGNER.verifier, make_line(COSIGNER.verifier, timestamp, bytes(64)), statement)


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1), (0, -1), (0, LATEST + 1), (0, 2**64)])
def test_what_is_no_range_is_not_cosigned(start: int, end: int) -> None:
    """Of entries there are at most 2^63-1, and a tree does not end before it starts."""
    with pytest.raises(ConfigurationError, match="is not a tree or subtree"):
        cosigned_message(ML_DSA.verifier, 0, replace(SUBTREE, start=start, end=end))


def test_the_largest_and_the_empty_tree_are_cosigned() -> None:
    """The range may be empty: the witness judges the roots of such trees."""
    for start, end in ((0, 0), (5, 5), (0, LATEST), (LATEST, LATEST)):
        statement = replace(SUBTREE, start=start, end=end)
        assert fits_cosignature(ML_DSA.verifier, cosign(ML_DSA, 0, statement), statement)


def test_a_log_s_key_cosigns_nothing() -> None:
    """Ed25519 keys of type 0x01 sign notes; a line of one is never a cosignature."""
    with pytest.raises(ConfigurationError, match=r"of type Ed25519, and cosigns nothing"):
        cosigned_message(ED25519.verifier, 0, STATEMENT)
    signature = ED25519.sign(ED25519_MESSAGE)
    assert not fits_cosignature(ED25519.verifier, make_line(ED25519.verifier, TIME, signature), STATEMENT)


@pytest.mark.parametrize("text", ["x" * MAX_NAME_BYTES, "é" * 127 + "x"], ids=["ASCII", "UTF-8"])
def test_names_of_255_bytes_are_cosigned(text: str) -> None:
    """As origin and as the cosigner's name; their length is one byte of the message."""
    key, statement = make_signer_key(text, SEED, KeyType.ML_DSA_44), about(replace(CHECKPOINT, origin=text))
    assert cosigned_message(key.verifier, 0, statement) == (
        b"subtree/v1\n\0\xff" + text.encode() + bytes(8) + b"\xff" + text.encode() + ML_DSA_MESSAGE[71:]
    )
    assert fits_cosignature(key.verifier, cosign(key, 0, statement), statement)


@pytest.mark.parametrize("text", ["x" * (MAX_NAME_BYTES + 1), "é" * 128], ids=["ASCII", "UTF-8"])
def test_names_of_256_bytes_are_not(text: str) -> None:
    """By ML-DSA-44; Ed25519 does not write their length."""
    long = make_signer_key(text, SEED, KeyType.ML_DSA_44).verifier
    statement = about(replace(CHECKPOINT, origin=text))
    for key, said in ((long, STATEMENT), (ML_DSA.verifier, statement)):
        with pytest.raises(ConfigurationError, match="has 256 bytes, expected 1 to 255"):
            cosigned_message(key, 0, said)
        assert not fits_cosignature(key, make_line(key, 0, bytes(2420)), said)
    assert fits_cosignature(COSIGNER.verifier, cosign(COSIGNER, 0, statement), statement)


def test_an_empty_origin_is_not_cosigned() -> None:
    """No checkpoint has one."""
    with pytest.raises(ConfigurationError, match="'' has 0 bytes"):
        cosigned_message(ML_DSA.verifier, 0, replace(SUBTREE, origin=""))


@COSIGNERS
def test_lines_of_other_lengths_do_not_fit(key: SignerKey) -> None:
    """Down to nothing at all: a line without a whole timestamp is refused before its time is asked for."""
    line = cosign(key, TIME, STATEMENT)
    for value in (b"", b"\0", line.value[:8], line.value[8:], line.value[:-1], line.value + b"\0", line.value * 2):
        forged = replace(line, value=value)
        assert not fits_cosignature(key.verifier, forged, STATEMENT)
        with pytest.raises(SignatureError, match="does not verify"):
            check_cosignatures([forged], [key.verifier], STATEMENT)


@COSIGNERS
def test_a_line_is_a_cosignature_of_the_key_it_names(key: SignerKey) -> None:
    """Ed25519 does not sign the cosigner's name: the same public key under another name is another cosigner."""
    line = cosign(key, TIME, STATEMENT)
    other = make_signer_key("witness.example.com/w2", SEED, key.verifier.kind).verifier
    assert other.public == key.verifier.public
    assert not fits_cosignature(other, line, STATEMENT)
    assert fits_cosignature(other, make_line(other, TIME, line.value[8:]), STATEMENT) == (key is COSIGNER)
    assert check_cosignatures([line], [other], STATEMENT) == ()


def test_the_types_of_one_seed_do_not_stand_in_for_each_other() -> None:
    """Their IDs differ, and so do the messages."""
    lines = [cosign(key, TIME, STATEMENT) for key in (COSIGNER, ML_DSA)]
    keys = [key.verifier for key in (COSIGNER, ML_DSA)]
    assert [[fits_cosignature(key, line, STATEMENT) for line in lines] for key in keys] == [
        [True, False],
        [False, True],
    ]
    assert [found.key for found in check_cosignatures(lines, keys, STATEMENT)] == keys
    assert [found.key for found in check_cosignatures(lines, keys[1:], STATEMENT)] == keys[1:]


def test_lines_of_others_are_passed_over_and_forged_ones_are_not() -> None:
    """As for every note: what is said under a trusted key has to verify."""
    log, unknown = STRANGERS
    good, forged = cosign(COSIGNER, TIME, STATEMENT), make_line(COSIGNER.verifier, TIME, bytes(64))
    assert check_cosignatures([log, unknown], [COSIGNER.verifier], STATEMENT) == ()
    assert check_cosignatures([log, good, unknown], [COSIGNER.verifier, ML_DSA.verifier], STATEMENT) == (
        Cosignature(COSIGNER.verifier, TIME, good),
    )
    for lines in ([good, forged], [forged, good]):
        with pytest.raises(SignatureError, match=r"the key witness.example.com/w1\+"):
            check_cosignatures(lines, [COSIGNER.verifier], STATEMENT)
    with pytest.raises(ConfigurationError, match="two of the trusted keys"):
        check_cosignatures([], [COSIGNER.verifier, COSIGNER.verifier], STATEMENT)


@COSIGNERS
def test_two_cosignatures_of_one_key_both_count(key: SignerKey) -> None:
    """Of two times, in order; whoever counts cosigners counts keys."""
    lines = [cosign(key, time, STATEMENT) for time in (TIME, TIME + 1)]
    found = check_cosignatures(lines, [key.verifier], STATEMENT)
    assert [(one.key, one.timestamp) for one in found] == [(key.verifier, TIME), (key.verifier, TIME + 1)]


@COSIGNERS
def test_replay_under_another_time_is_refused(key: SignerKey) -> None:
    """Attack: an old cosignature with a fresh timestamp."""
    line = cosign(key, TIME, STATEMENT)
    assert not fits_cosignature(key.verifier, make_line(key.verifier, TIME + 1, line.value[8:]), STATEMENT)


@COSIGNERS
def test_cosignatures_survive_a_note(key: SignerKey) -> None:
    """Written behind the checkpoint and read again, they verify."""
    line = cosign(key, TIME, STATEMENT)
    note = parse_note(format_note(Note(CHECKPOINT.text, (line,))))
    assert check_cosignatures(note.signatures, [key.verifier], STATEMENT)[0].line == line
