"""Properties of notes, keys, checkpoints and cosignatures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, parse_size
from mirrorwitness.tlog.cosignature import (
    COSIGNER_KEYS,
    Statement,
    check_cosignatures,
    cosigned_message,
    fits_cosignature,
    make_line,
)
from mirrorwitness.tlog.keys import (
    ID_BYTES,
    SEED_BYTES,
    KeyId,
    KeyType,
    SignerKey,
    VerifierKey,
    format_signer_key,
    is_key_name,
    make_signer_key,
    parse_signer_key,
    parse_verifier_key,
)
from mirrorwitness.tlog.merkle import HASH_BYTES, MAX_SIZE, Hash
from mirrorwitness.tlog.note import (
    Note,
    Signature,
    format_lines,
    format_note,
    open_note,
    parse_lines,
    parse_note,
    sign_note,
)

ORIGIN = "log.example/one"
SEED = bytes(range(SEED_BYTES))
ALICE, COSIGNER, ML_DSA = (make_signer_key("alice.example", SEED, kind) for kind in KeyType)
BOB = make_signer_key("bob.example", bytes(SEED_BYTES))
CHECKPOINT = Checkpoint(ORIGIN, 5, Hash(b"\x2a" * HASH_BYTES))
TIME = 1_700_000_000
CHANCE = "\n +/=0123456789AQg—\u00a0\u2028é\0\x1f"
"""What parsers could stumble over, to be strewn into what they read."""


def about(checkpoint: Checkpoint) -> Statement:
    """Return the statement that cosigns a checkpoint."""
    return Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, checkpoint.text)


def cosign(key: SignerKey, timestamp: int, statement: Statement) -> Signature:
    """Return a cosigner's line."""
    message = cosigned_message(key.verifier, timestamp, statement)
    return make_line(key.verifier, timestamp, key.sign(message))


def sign_checkpoint(key: SignerKey, checkpoint: Checkpoint) -> bytes:
    """Return the note as a log with this key makes it."""
    if key.verifier.kind is KeyType.ED25519:
        return sign_note(checkpoint.text, [key])
    return format_note(Note(checkpoint.text, (cosign(key, TIME, about(checkpoint)),)))


SIGNED = sign_checkpoint(ALICE, CHECKPOINT)
SIGNED_BY_ML_DSA = sign_checkpoint(ML_DSA, CHECKPOINT)

VISIBLE = st.characters(exclude_categories=["Cc", "Cs"])
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters="+"), min_size=1)
KINDS = st.sampled_from(KeyType)
SEEDS = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)
HASHES = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES).map(Hash)
SIZES = st.integers(0, 300) | st.integers(0, MAX_SIZE)
IDS = st.binary(min_size=ID_BYTES, max_size=ID_BYTES).map(KeyId)
LINES = st.builds(Signature, NAMES, IDS, st.binary(min_size=1, max_size=100))
TEXTS = st.text(VISIBLE | st.just("\n")).map(lambda text: f"{text}\n".encode())
CHECKPOINTS = st.builds(
    Checkpoint,
    st.text(VISIBLE, min_size=1, max_size=60),
    SIZES,
    HASHES,
    st.lists(st.text(VISIBLE, min_size=1), max_size=3).map(tuple),
)


@st.composite
def mangled(draw: st.DrawFn, text: str) -> str:
    """Make something that resembles a text: a piece of it is left out, repeated or written over."""
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    piece = draw(st.text(CHANCE, max_size=5) | st.just(text[start:end] * 2) | st.text(max_size=5))
    return text[:start] + piece + text[end:]


def resembling(*bodies: bytes) -> st.SearchStrategy[bytes]:
    """Make any bytes, and such as resemble one of these."""
    near = st.sampled_from(bodies).flatmap(lambda body: mangled(body.decode()))
    return st.binary() | near.map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(resembling(SIGNED, sign_note(b"a\n\nb\n", [ALICE, BOB])))
def test_any_bytes_are_a_note_or_refused(body: bytes) -> None:
    """One way to fail; what is read is written again as it was."""
    try:
        note = parse_note(body)
    except UpstreamProtocolError:
        return
    assert format_note(note) == body
    assert all(is_key_name(line.name) and len(line.key_id) == ID_BYTES and line.value for line in note.signatures)


@given(resembling(format_lines(parse_note(sign_note(b"a\n", [ALICE, BOB])).signatures)))
def test_any_bytes_are_lines_or_refused(body: bytes) -> None:
    """What is read is written again as it was, and is the end of a note."""
    try:
        lines = parse_lines(body)
    except UpstreamProtocolError:
        return
    assert (format_lines(lines), parse_note(b"a\n\n" + body).signatures) == (body, lines)


@given(resembling(CHECKPOINT.text, replace(CHECKPOINT, extension=("one", "two")).text))
def test_any_bytes_are_a_checkpoint_or_refused(text: bytes) -> None:
    """One way to fail; what is read is written again as it was."""
    try:
        checkpoint = parse_checkpoint(text)
    except UpstreamProtocolError:
        return
    assert checkpoint.text == text
    assert (0 <= checkpoint.size <= MAX_SIZE, len(checkpoint.root)) == (True, HASH_BYTES)


@given(st.text() | st.text("0123456789+-_ ٣²", max_size=22) | st.integers().map(str))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    """A number has one spelling."""
    try:
        size = parse_size(text, "size")
    except UpstreamProtocolError:
        return
    assert (str(size), 0 <= size <= MAX_SIZE) == (text, True)


@given(st.text() | mangled(str(ALICE.verifier)) | mangled(str(COSIGNER.verifier)))
def test_any_text_is_a_verifier_key_or_refused(text: str) -> None:
    """One way to fail; a key has one spelling."""
    try:
        key = parse_verifier_key(text, *KeyType)
    except ConfigurationError:
        return
    assert (str(key), len(key.public)) == (text, key.kind.public_bytes)


@given(st.text() | mangled(format_signer_key(ALICE)) | mangled(format_signer_key(ML_DSA)))
def test_any_text_is_a_signer_key_or_refused(text: str) -> None:
    """One way to fail; a key has one spelling."""
    try:
        key = parse_signer_key(text, *KeyType)
    except ConfigurationError:
        return
    assert format_signer_key(key) == text


@given(NAMES, SEEDS, KINDS)
def test_every_key_round_trips(name: str, seed: bytes, kind: KeyType) -> None:
    """Both halves, under any name."""
    key = make_signer_key(name, seed, kind)
    assert parse_signer_key(format_signer_key(key), kind) == key
    assert parse_verifier_key(str(key.verifier), kind) == key.verifier


@given(TEXTS, st.lists(LINES, min_size=1))
def test_every_note_round_trips(text: bytes, lines: list[Signature]) -> None:
    """With lines of any type, and empty lines in the text."""
    note = Note(text, tuple(lines))
    assert parse_note(format_note(note)) == note
    assert parse_lines(format_lines(lines)) == note.signatures


@given(TEXTS)
def test_every_signed_text_opens(text: bytes) -> None:
    """Its bytes are kept; the keys are named in the order of the lines."""
    body = sign_note(text, [ALICE, BOB])
    note, keys = open_note(body, [BOB.verifier, ALICE.verifier])
    assert (note.text, keys, format_note(note)) == (text, (ALICE.verifier, BOB.verifier), body)


@given(CHECKPOINTS)
@example(Checkpoint("go.sum database tree", MAX_SIZE, CHECKPOINT.root))
def test_every_checkpoint_round_trips_and_opens(checkpoint: Checkpoint) -> None:
    """Under log keys of both types; extension lines are kept."""
    assert parse_checkpoint(checkpoint.text) == checkpoint
    for key in (ALICE, ML_DSA) if len(checkpoint.origin.encode()) <= 255 else (ALICE,):
        body = sign_checkpoint(key, checkpoint)
        opened = open_checkpoint(body, [key.verifier], origin=checkpoint.origin)
        assert (opened.checkpoint, opened.format()) == (checkpoint, body)


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_replaced_bytes_of_a_checkpoint_are_refused(at: int, mask: int) -> None:
    """No single byte can change."""
    body = bytearray(SIGNED)
    body[at] ^= mask
    with pytest.raises((SignatureError, UpstreamProtocolError)):
        open_checkpoint(bytes(body), [ALICE.verifier], origin=ORIGIN)


@given(st.integers(0, len(SIGNED_BY_ML_DSA) - 1), st.integers(1, 255))
def test_replaced_bytes_of_an_ml_dsa_checkpoint_are_refused(at: int, mask: int) -> None:
    """Where it has no extension lines, which are not signed."""
    body = bytearray(SIGNED_BY_ML_DSA)
    body[at] ^= mask
    with pytest.raises((SignatureError, UpstreamProtocolError)):
        open_checkpoint(bytes(body), [ML_DSA.verifier], origin=ORIGIN)


@given(resembling(SIGNED, SIGNED_BY_ML_DSA))
def test_what_opens_says_what_was_signed(body: bytes) -> None:
    """Whatever is done to a checkpoint: it is refused, or lines or extension lines that nobody signed were changed."""
    try:
        opened = open_checkpoint(body, [ALICE.verifier, ML_DSA.verifier], origin=ORIGIN)
    except (SignatureError, UpstreamProtocolError):
        return
    assert replace(opened.checkpoint, extension=()) == CHECKPOINT
    assert not opened.checkpoint.extension or {key for key, _ in opened.signed} == {ML_DSA.verifier}


@given(st.data())
def test_only_verified_lines_survive(data: st.DataObject) -> None:
    """Whatever lines a note carries beside the log's, also under a cosigner's name and ID, none is passed on."""
    forged = st.builds(Signature, st.just(COSIGNER.name), st.just(COSIGNER.verifier.key_id), st.binary(min_size=1))
    noise = data.draw(st.lists(LINES | forged, max_size=5))
    at = data.draw(st.integers(0, len(noise)))
    (line,) = parse_note(SIGNED).signatures
    body = format_note(Note(CHECKPOINT.text, (*noise[:at], line, *noise[at:])))
    assert open_checkpoint(body, [ALICE.verifier], origin=ORIGIN).format() == SIGNED


@given(
    st.sampled_from([COSIGNER, ML_DSA]), st.binary(max_size=80) | st.binary(min_size=2428, max_size=2428), SIZES, SIZES
)
def test_no_bytes_are_a_cosignature_by_chance(key: SignerKey, value: bytes, start: int, end: int) -> None:
    """Judging them never fails otherwise than by saying no."""
    line = Signature(key.name, key.verifier.key_id, value)
    assert not fits_cosignature(key.verifier, line, Statement(ORIGIN, start, end, CHECKPOINT.root, CHECKPOINT.text))


@given(st.sampled_from(COSIGNER_KEYS), NAMES, SEEDS, st.integers(0, MAX_SIZE), CHECKPOINTS)
def test_every_cosignature_verifies(kind: KeyType, name: str, seed: bytes, time: int, checkpoint: Checkpoint) -> None:
    """Of any cosigner, time and checkpoint; through a note too."""
    assume(kind is KeyType.COSIGNATURE or max(len(name.encode()), len(checkpoint.origin.encode())) <= 255)
    key = make_signer_key(name, seed, kind)
    line = cosign(key, time, about(checkpoint))
    note = parse_note(format_note(Note(checkpoint.text, (line,))))
    (found,) = check_cosignatures(note.signatures, [key.verifier], about(checkpoint))
    assert (found.key, found.timestamp, found.line) == (key.verifier, time, line)


@dataclass(frozen=True, slots=True)
class Said:
    """The parts of a cosignature."""

    kind: KeyType
    name: str = "alice.example"
    time: int = TIME
    checkpoint: Checkpoint = CHECKPOINT

    @property
    def key(self) -> SignerKey:
        return make_signer_key(self.name, SEED, self.kind)


def changed(said: Said) -> st.SearchStrategy[Said]:
    """Change one part."""
    checkpoints = st.one_of(
        st.text(VISIBLE, min_size=1, max_size=60).map(lambda origin: replace(CHECKPOINT, origin=origin)),
        SIZES.map(lambda size: replace(CHECKPOINT, size=size)),
        HASHES.map(lambda root: replace(CHECKPOINT, root=root)),
    )
    return st.one_of(
        NAMES.map(lambda name: replace(said, name=name)),
        KINDS.map(lambda kind: replace(said, kind=kind)),
        st.integers(0, MAX_SIZE).map(lambda time: replace(said, time=time)),
        checkpoints.map(lambda checkpoint: replace(said, checkpoint=checkpoint)),
    ).filter(lambda other: other != said)


@given(st.data(), st.sampled_from(COSIGNER_KEYS))
def test_a_cosignature_with_any_one_part_changed_does_not_fit(data: st.DataObject, kind: KeyType) -> None:
    """Another origin, size, root, time, name or type of key: one line says one thing."""
    said = Said(kind)
    line = cosign(said.key, said.time, about(said.checkpoint))
    assert fits_cosignature(said.key.verifier, line, about(said.checkpoint))
    other = data.draw(changed(said))
    moved = make_line(said.key.verifier, other.time, line.value[8:])
    assert not fits_cosignature(other.key.verifier, moved, about(other.checkpoint))
    # SPEC tlog-cosignature: "The Ed25519 signed message format doesn't commit to the cosigner name".
    renamed = make_line(other.key.verifier, other.time, line.value[8:])
    is_only_the_name = kind is KeyType.COSIGNATURE and replace(other, name=said.name) == said
    assert fits_cosignature(other.key.verifier, renamed, about(other.checkpoint)) == is_only_the_name


FIELDS = st.tuples(
    st.sampled_from(["a", "b", "ab", "a\x01"]),
    st.sampled_from([0, 1, 0x0161]),
    st.sampled_from(["a", "b", "ba", "\x01a"]),
    st.sampled_from([(0, 0), (0, 1), (1, 1), (0, 256)]),
    st.sampled_from([bytes(32), b"\1" * 32]),
)


@given(FIELDS, FIELDS)
def test_two_statements_are_two_messages(
    one: tuple[str, int, str, tuple[int, int], bytes], two: tuple[str, int, str, tuple[int, int], bytes]
) -> None:
    """No part of an ML-DSA-44 message can be read as belonging to the part beside it."""
    messages: list[bytes] = []
    for name, time, origin, (start, end), root in (one, two):
        assume(not (start and time))
        key = VerifierKey(name, ML_DSA.verifier.public, KeyType.ML_DSA_44)
        messages.append(cosigned_message(key, time, Statement(origin, start, end, Hash(root))))
    assert (messages[0] == messages[1]) == (one == two)
