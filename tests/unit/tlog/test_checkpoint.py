"""Checkpoints: heads of real logs, strict parsing, and lines that are not passed on."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import (
    LOG_KEYS,
    Checkpoint,
    OpenedCheckpoint,
    check_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_hash,
    parse_size,
)
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType, SignerKey, VerifierKey, make_signer_key, parse_verifier_key
from mirrorwitness.tlog.merkle import EMPTY_ROOT, MAX_SIZE, Hash
from mirrorwitness.tlog.note import Note, Signature, format_lines, format_note, parse_note, sign_note

VECTORS = Path(__file__).parents[2] / "data" / "tlog" / "notes"
SIGSUM = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"

ORIGIN = "log.example/one"
SEED = bytes(range(32))
LOG, COSIGNER, ML_DSA = (make_signer_key(ORIGIN, SEED, kind) for kind in KeyType)
OTHER = make_signer_key("other.example", bytes(32))
ROOT = Hash(b"\x2a" * 32)
ENCODED = base64.b64encode(ROOT).decode()
CHECKPOINT = Checkpoint(ORIGIN, 5, ROOT)
TEXT = f"{ORIGIN}\n5\n{ENCODED}\n".encode()
SIGNED = sign_note(TEXT, [LOG])
LINE = parse_note(SIGNED).signatures[0]


def cosign(key: SignerKey, checkpoint: Checkpoint, timestamp: int = 0) -> Signature:
    """Return the line of a key over a checkpoint, as cosigners and logs with ML-DSA-44 keys make it."""
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, checkpoint.text)
    return make_line(key.verifier, timestamp, key.sign(cosigned_message(key.verifier, timestamp, statement)))


def published(name: str, keys: str) -> tuple[bytes, list[VerifierKey]]:
    """Return a vector: the note, and those of its keys that can be a log's under the origin's name or another."""
    texts = (VECTORS / f"{keys}.vkeys").read_text().split()
    return (VECTORS / f"{name}.note").read_bytes(), [parse_verifier_key(text, *KeyType) for text in texts]


@pytest.mark.parametrize(
    ("name", "keys", "origin", "size", "name_of_the_key"),
    [
        ("sumdb", "sumdb", "go.sum database tree", 35_225_469, "sum.golang.org"),
        ("sigsum-1", "sigsum", SIGSUM, 1, SIGSUM),
        ("sigsum-3", "sigsum", SIGSUM, 3, SIGSUM),
        ("sigsum-5", "sigsum", SIGSUM, 5, SIGSUM),
        (
            "arche",
            "arche",
            "arche2025h1.staging.ct.transparency.dev",
            1_432_088_532,
            "arche2025h1.staging.ct.transparency.dev",
        ),
    ],
)
def test_heads_of_other_logs_open(name: str, keys: str, origin: str, size: int, name_of_the_key: str) -> None:
    """Of real ones and of test logs; the origin may have spaces, and need not be the key's name."""
    body, trusted = published(name, keys)
    trusted = [key for key in trusted if key.kind in LOG_KEYS]
    opened = open_checkpoint(body, trusted, origin=origin)
    assert (opened.checkpoint.origin, opened.checkpoint.size) == (origin, size)
    assert [key.name for key, _ in opened.signed] == [name_of_the_key]
    assert opened.checkpoint.text == opened.note.text == body[: len(opened.note.text)]
    assert format_note(opened.note) == body


def test_a_checkpoint_that_was_written_by_hand_is_read() -> None:
    """Its text is an origin, a decimal and the base64 of a hash; who signed it is another matter."""
    body = (
        "log.example.com/golden-tree\n70000\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n"
        f"\u2014 log.example.com/golden-tree {base64.b64encode(bytes(68)).decode()}\n"
    ).encode()
    note = parse_note(body)
    root = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    expected = Checkpoint("log.example.com/golden-tree", 70_000, Hash(bytes.fromhex(root)))
    assert (parse_checkpoint(note.text), expected.text) == (expected, note.text)
    assert str(expected) == "log.example.com/golden-tree at 70000, root 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_a_head_that_a_log_signed_with_ml_dsa_44_opens() -> None:
    """SPEC tlog-cosignature: the message, written out by hand, has the log's name twice and here no time."""
    private = MLDSA44PrivateKey.from_seed_bytes(SEED)
    name = bytes([15]) + b"log.example/one"
    message = b"subtree/v1\n\0" + name + bytes(8) + name + bytes(8) + bytes(7) + b"\x05" + b"\x2a" * 32
    line = Signature(ORIGIN, ML_DSA.verifier.key_id, bytes(8) + private.sign(message))
    body = format_note(Note(TEXT, (line,)))
    assert open_checkpoint(body, [ML_DSA.verifier], origin=ORIGIN).signed == ((ML_DSA.verifier, line),)
    private.public_key().verify(cosign(ML_DSA, CHECKPOINT).value[8:], message)


def test_a_forged_signature_that_was_published_is_refused() -> None:
    """As it is, its base64 has bits that are left over; without them it is a signature that does not verify."""
    body, keys = published("sigsum-3-forged", "sigsum")
    with pytest.raises(UpstreamProtocolError, match="is not a signature line"):
        open_checkpoint(body, keys, origin=SIGSUM)
    with pytest.raises(SignatureError, match="does not verify"):
        open_checkpoint(body.replace(b"6gx=\n", b"6gw=\n"), keys, origin=SIGSUM)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1", 1), ("10", 10), ("9223372036854775807", 2**63 - 1), ("1000000000000000000", 10**18)],
)
def test_sizes(text: str, value: int) -> None:
    """Decimals without leading zeros, to 2^63-1."""
    assert (parse_size(text, "size"), MAX_SIZE) == (value, 2**63 - 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "01",
        "-0",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "1_000",
        "1,000",
        "1.0",
        "1e3",
        "0x1",
        "٣",  # an Arabic-Indic three
        "1٣",
        "１",  # noqa: RUF001 - a full-width one
        "²",
        "9223372036854775808",
        "9999999999999999999",
        "18446744073709551616",
        "1" * 10_000,
    ],
)
def test_what_is_no_size(text: str) -> None:
    """Other spellings, other digits, other numbers; the message names it, not all of it."""
    with pytest.raises(
        UpstreamProtocolError, match=r"tree size .*: expected a decimal without leading zeros, below 2\^63"
    ) as bad:
        parse_size(text, "tree size")
    assert len(str(bad.value)) < 250
    with pytest.raises(UpstreamProtocolError):
        parse_checkpoint(f"{ORIGIN}\n{text}\n{ENCODED}\n".encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        ENCODED[:-1],
        f"{ENCODED}=",
        f"{ENCODED} ",
        f" {ENCODED}",
        f"{ENCODED[:-2]}p=",  # the same 32 bytes, and bits that are left over
        base64.b64encode(ROOT[:31]).decode(),
        base64.b64encode(ROOT + b"\0").decode(),
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        ROOT.hex(),
        f"é{ENCODED[1:]}",
        "A" * 10_000,
    ],
)
def test_what_is_no_root(text: str) -> None:
    """31 and 33 bytes, and every other spelling of 32."""
    with pytest.raises(UpstreamProtocolError, match=r"root hash '.*': expected base64 of 32 bytes") as bad:
        parse_hash(text, "root hash")
    assert len(str(bad.value)) < 250
    with pytest.raises(UpstreamProtocolError):
        parse_checkpoint(f"{ORIGIN}\n5\n{text}\n".encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "expected an origin, a size and a root hash"),
        (b"\n", "expected an origin"),
        (TEXT[:-1], "expected an origin"),
        (TEXT.rpartition(b"\n5\n")[0] + b"\n5\n", "expected an origin"),
        (b"\n" + TEXT, "expected an origin"),
        (TEXT + b"\n", "expected an origin"),
        (TEXT + b"extension\n\n", "expected an origin"),
        (TEXT + b"\nextension\n", "expected an origin"),
        (TEXT + b"extension", "expected an origin"),
        (TEXT.replace(b"\n5", b"\n\n5"), "expected an origin"),
        (TEXT.replace(ORIGIN.encode(), b""), "expected an origin"),
        (TEXT.replace(b"\n", b"\r\n"), r"tree size '5\\r'"),
        (TEXT.replace(b"\n5\n", b"\n" + ENCODED.encode() + b"\n"), "tree size"),
        (TEXT.replace(b"log", b"l\xffg"), "checkpoint: byte 1 is not UTF-8"),
        (TEXT + b"extension \xed\xa0\x80\n", r"checkpoint: byte \d+ is not UTF-8"),
    ],
)
def test_malformed(text: bytes, reason: str) -> None:
    """Nothing that only resembles a checkpoint is read; the message says what is wrong."""
    with pytest.raises(UpstreamProtocolError, match=reason):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "checkpoint",
    [
        CHECKPOINT,
        Checkpoint("a", 0, EMPTY_ROOT),
        Checkpoint("go.sum database tree", MAX_SIZE, ROOT),
        Checkpoint(" log + öne\u2003", 1, ROOT, (" leading", "trailing ", "ünïcode\u2028", "5", ENCODED, "— a b")),
        Checkpoint(ORIGIN, 5, ROOT, ("x" * 100_000,)),
    ],
    ids=lambda checkpoint: checkpoint.origin,
)
def test_what_was_parsed_is_written_as_it_was(checkpoint: Checkpoint) -> None:
    """Extension lines too, byte for byte, and whatever an origin is."""
    assert parse_checkpoint(checkpoint.text) == checkpoint
    opened = open_checkpoint(sign_note(checkpoint.text, [LOG]), [LOG.verifier], origin=checkpoint.origin)
    assert (opened.checkpoint, opened.note.text) == (checkpoint, checkpoint.text)


def test_the_text_is_what_the_specification_says() -> None:
    """Three lines and the extension lines."""
    assert replace(CHECKPOINT, extension=("a", "b c")).text == TEXT + b"a\nb c\n"
    assert str(CHECKPOINT) == f"{ORIGIN} at 5, root {ENCODED}"


def test_wrong_origin_is_refused() -> None:
    """Also where a trusted key signed it: a key may sign for several logs, and a reader asks for one."""
    for origin in ("log.example/two", "log.example/on", "LOG.example/one", f"{ORIGIN} ", ""):
        with pytest.raises(UpstreamProtocolError, match=r"the origin is 'log\.example/one', expected '"):
            open_checkpoint(SIGNED, [LOG.verifier], origin=origin)
    long = sign_note(Checkpoint("x" * 10_000, 1, ROOT).text, [LOG])
    with pytest.raises(UpstreamProtocolError) as bad:
        open_checkpoint(long, [LOG.verifier], origin="y" * 10_000)
    assert len(str(bad.value)) < 300


def test_a_note_that_is_no_checkpoint_is_refused_as_such() -> None:
    """Although a trusted key signed it."""
    with pytest.raises(UpstreamProtocolError, match="checkpoint: expected an origin"):
        open_checkpoint(sign_note(b"a text\n", [LOG]), [LOG.verifier], origin=ORIGIN)
    with pytest.raises(UpstreamProtocolError, match="signed note: expected text"):
        open_checkpoint(TEXT, [LOG.verifier], origin=ORIGIN)


def test_a_checkpoint_without_a_line_of_its_log_is_refused() -> None:
    """The message says which keys are trusted and who signed."""
    with pytest.raises(
        SignatureError, match=rf"signed the checkpoint of '{ORIGIN}': trusted are {ORIGIN}\+\w{{8}}, it has o"
    ):
        open_checkpoint(sign_note(TEXT, [OTHER]), [LOG.verifier], origin=ORIGIN)
    with pytest.raises(SignatureError, match="trusted are none"):
        open_checkpoint(SIGNED, [], origin=ORIGIN)
    with pytest.raises(ConfigurationError, match="two of the trusted keys"):
        open_checkpoint(SIGNED, [LOG.verifier, LOG.verifier], origin=ORIGIN)


def test_several_keys_of_a_log_are_trusted_at_once() -> None:
    """A log changes its key, or has one of each type: one line is enough, and each that is there has to verify."""
    keys = [LOG.verifier, ML_DSA.verifier, OTHER.verifier]
    line = cosign(ML_DSA, CHECKPOINT)
    assert [key for key, _ in open_checkpoint(SIGNED, keys, origin=ORIGIN).signed] == [LOG.verifier]
    both = open_checkpoint(SIGNED + format_lines([line]), keys, origin=ORIGIN)
    assert both.signed == ((LOG.verifier, LINE), (ML_DSA.verifier, line))
    forged = replace(line, value=line.value[:-1] + b"\x01")
    with pytest.raises(SignatureError, match="does not verify"):
        open_checkpoint(SIGNED + format_lines([forged]), keys, origin=ORIGIN)


def test_every_flipped_bit_of_a_signed_checkpoint_is_refused() -> None:
    """Replaced bytes: no bit of text, name, ID or signature can change."""
    for at in range(len(SIGNED)):
        for bit in range(8):
            body = bytearray(SIGNED)
            body[at] ^= 1 << bit
            with pytest.raises((SignatureError, UpstreamProtocolError)):
                open_checkpoint(bytes(body), [LOG.verifier], origin=ORIGIN)


def test_ml_dsa_log_keys_do_not_sign_extension_lines() -> None:
    """SPEC tlog-checkpoint: the ML-DSA-44 format "doesn't sign the extension lines". They can be changed by anybody."""
    line = cosign(ML_DSA, CHECKPOINT, 1_700_000_000)
    for extension in ((), ("added on the way",)):
        extended = replace(CHECKPOINT, extension=extension)
        body = format_note(Note(extended.text, (line,)))
        opened = open_checkpoint(body, [ML_DSA.verifier], origin=ORIGIN)
        assert (opened.checkpoint, opened.signed) == (extended, ((ML_DSA.verifier, line),))


def test_ed25519_log_keys_sign_extension_lines() -> None:
    """None can be added, changed or left out."""
    extended = replace(CHECKPOINT, extension=("one", "two"))
    lines = parse_note(sign_note(extended.text, [LOG])).signatures
    for text in (TEXT, TEXT + b"one\n", TEXT + b"two\none\n", TEXT + b"one\ntwo\nthree\n", TEXT + b"one\ntwo \n"):
        with pytest.raises(SignatureError, match="does not verify"):
            open_checkpoint(format_note(Note(text, lines)), [LOG.verifier], origin=ORIGIN)


@pytest.mark.parametrize(
    "other",
    [
        replace(CHECKPOINT, size=6),
        replace(CHECKPOINT, root=EMPTY_ROOT),
        replace(CHECKPOINT, origin="log.example/two"),
    ],
    ids=["size", "root", "origin"],
)
def test_ml_dsa_log_keys_sign_the_tree(other: Checkpoint) -> None:
    """Its line under another tree head is refused."""
    body = format_note(Note(other.text, (cosign(ML_DSA, CHECKPOINT),)))
    with pytest.raises(SignatureError, match="does not verify"):
        open_checkpoint(body, [ML_DSA.verifier], origin=other.origin)


def test_the_name_of_an_ml_dsa_log_key_need_not_be_the_origin() -> None:
    """The message has both."""
    key = make_signer_key("key.example", SEED, KeyType.ML_DSA_44)
    line = cosign(key, CHECKPOINT)
    assert open_checkpoint(format_note(Note(TEXT, (line,))), [key.verifier], origin=ORIGIN).signed == (
        (key.verifier, line),
    )


@pytest.mark.parametrize(
    "value", [cosign(COSIGNER, CHECKPOINT, 1_700_000_000).value, COSIGNER.sign(TEXT)], ids=["good", "plain"]
)
def test_the_ed25519_key_of_a_cosigner_opens_no_checkpoint(value: bytes) -> None:
    """Given as a log's key it is none, whether the line is a good cosignature or a signature of the text."""
    assert COSIGNER.verifier.kind not in LOG_KEYS
    line = Signature(ORIGIN, COSIGNER.verifier.key_id, value)
    with pytest.raises(SignatureError, match="does not verify"):
        open_checkpoint(format_note(Note(TEXT, (line,))), [COSIGNER.verifier], origin=ORIGIN)
    with pytest.raises(SignatureError, match="no trusted key"):
        open_checkpoint(SIGNED, [COSIGNER.verifier], origin=ORIGIN)
    with pytest.raises(SignatureError, match="does not verify"):
        open_checkpoint(SIGNED + format_lines([line]), [LOG.verifier, COSIGNER.verifier], origin=ORIGIN)


def test_only_verified_and_given_lines_are_passed_on() -> None:
    """Attack: a forged line of our own name and ID in the submitted note, which we would publish as ours."""
    ours = cosign(COSIGNER, CHECKPOINT, 1_700_000_000)
    forged = Signature(ours.name, ours.key_id, bytes(72))
    unknown = parse_note(sign_note(TEXT, [OTHER])).signatures[0]
    opened = open_checkpoint(format_note(Note(TEXT, (forged, LINE, unknown))), [LOG.verifier], origin=ORIGIN)
    assert opened.note.signatures == (forged, LINE, unknown)
    assert opened.format() == SIGNED
    assert opened.format(ours) == SIGNED + format_lines([ours])


def test_each_line_is_passed_on_once() -> None:
    """However often it came or was given, and in the order in which it came first."""
    ours, theirs = cosign(COSIGNER, CHECKPOINT, 1), cosign(ML_DSA, CHECKPOINT, 1)
    opened = open_checkpoint(SIGNED + format_lines([LINE, LINE]), [LOG.verifier], origin=ORIGIN)
    assert opened.signed == ((LOG.verifier, LINE),) * 3
    assert opened.format(theirs, ours, theirs, LINE) == SIGNED + format_lines([theirs, ours])


def test_two_lines_of_one_ml_dsa_key_are_both_passed_on() -> None:
    """Its signatures differ each time; both verify."""
    lines = (cosign(ML_DSA, CHECKPOINT), cosign(ML_DSA, CHECKPOINT))
    opened = open_checkpoint(format_note(Note(TEXT, lines)), [ML_DSA.verifier], origin=ORIGIN)
    assert opened.format() == format_note(Note(TEXT, lines))


def test_a_checkpoint_is_passed_on_with_its_bytes() -> None:
    """The text goes out as it came in, and opens again."""
    extended = replace(CHECKPOINT, extension=(" opaque\u00a0 ",))
    opened = open_checkpoint(sign_note(extended.text, [LOG, OTHER]), [LOG.verifier], origin=ORIGIN)
    again = open_checkpoint(opened.format(), [LOG.verifier], origin=ORIGIN)
    assert again == OpenedCheckpoint(extended, Note(extended.text, again.note.signatures), opened.signed)


def test_a_checkpoint_that_was_read_before_is_checked_alone() -> None:
    """Whoever has to know the origin first reads, looks up the keys, and then checks."""
    note = parse_note(SIGNED)
    assert check_checkpoint(note, parse_checkpoint(note.text), [LOG.verifier]) == OpenedCheckpoint(
        CHECKPOINT, note, ((LOG.verifier, LINE),)
    )
    with pytest.raises(SignatureError, match="no trusted key"):
        check_checkpoint(note, CHECKPOINT, [OTHER.verifier])
