"""Signed notes: vectors of others, what is no note, and what a forger could try."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.keys import KeyId, KeyType, make_signer_key, parse_signer_key, parse_verifier_key
from mirrorwitness.tlog.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    Signature,
    check_lines,
    format_lines,
    format_note,
    open_note,
    parse_lines,
    parse_note,
    sign_note,
)

# C2SP signed-note, "Example".
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYj"
    "OBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

# golang.org/x/mod sumdb/note, package documentation and tests.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
GO_OTHER_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
GO_OTHER_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
).encode()

ALICE = make_signer_key("alice.example", bytes(range(32)))
BOB = make_signer_key("bob.example", bytes(range(1, 33)))
COSIGNER = make_signer_key("alice.example", bytes(range(32)), KeyType.COSIGNATURE)
TEXT = b"first\n\nlast\n"
LINE = parse_note(sign_note(TEXT, [ALICE])).signatures[0]
FORGED = Signature(LINE.name, LINE.key_id, bytes(64))
POST_QUANTUM_BYTES = 4627
"""Length of an ML-DSA-87 signature: "nearly 5kB", as the specification says."""


def test_the_specification_s_note_opens() -> None:
    """The example of the specification verifies under its key, and is written again as it was."""
    key = parse_verifier_key(SPEC_KEY)
    note, signed = open_note(SPEC_NOTE, [key])
    assert (note.text, signed, str(key)) == (b"This is an example message.\n", (key,), SPEC_KEY)
    assert format_note(note) == SPEC_NOTE


def test_go_s_key_signs_the_same_bytes() -> None:
    """Ed25519 is deterministic: the published private key gives the published note."""
    key = parse_signer_key(GO_SIGNER)
    assert sign_note(GO_TEXT, [key]) == GO_TEXT + b"\n" + GO_LINE


def test_two_signatures_of_go_s_tests() -> None:
    """Both keys verify; of an unknown one nothing is said."""
    body = GO_TEXT + b"\n" + GO_LINE + GO_OTHER_LINE
    peter, enoch = parse_verifier_key(GO_KEY), parse_verifier_key(GO_OTHER_KEY)
    assert open_note(body, [peter, enoch])[1] == (peter, enoch)
    assert open_note(body, [enoch])[1] == (enoch,)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected text"),
        (b"text\n", "expected text"),
        (b"text\n\n", "expected text"),
        (b"text\n\n\n", "expected text"),
        (SPEC_NOTE[:-1], "expected text"),
        (SPEC_NOTE + b"\n", "expected text"),
        (SPEC_NOTE.replace(b"\n", b"\r\n"), "control character"),
        (SPEC_NOTE.replace(b"This", b"Th\x00s"), "control character"),
        (SPEC_NOTE.replace(b"This", b"Th\xffs"), "byte 2 is not UTF-8"),
        (SPEC_NOTE.replace("—".encode(), b"-"), "is not a signature line"),
        (SPEC_NOTE.replace(b"example.com/foo", b"exa+mple"), "is not a signature line"),
        (SPEC_NOTE.replace(b"example.com/foo", "exa\u2003mple".encode()), "is not a signature line"),
        (SPEC_NOTE.replace(b"example.com/foo ", b""), "is not a signature line"),
        (SPEC_NOTE.replace(b"example.com/foo", b""), "is not a signature line"),
        (SPEC_NOTE.replace(b"aQM=", b"aQN="), "is not a signature line"),
        (SPEC_NOTE.replace(b"aQM=", b"aQM"), "is not a signature line"),
        (SPEC_NOTE.replace(b"aQM=", "aQMé".encode()), "is not a signature line"),
        (SPEC_NOTE.replace(b"\xe2\x80\x94 ", b"\xe2\x80\x94"), "is not a signature line"),
        (SPEC_NOTE.replace(b"\xe2\x80\x94 ", b"\xe2\x80\x94  "), "is not a signature line"),
        (SPEC_NOTE.replace(b"aQM=", b"aQM= "), "is not a signature line"),
        (SPEC_NOTE.replace(b"example message", b"\xed\xa0\x80"), "byte 11 is not UTF-8"),
        (SPEC_NOTE.replace(b"example message", b"example\x1fmessage"), "control character"),
        (SPEC_NOTE + b"and text\n", "is not a signature line"),
        (SPEC_NOTE[SPEC_NOTE.index(b"\n\n") + 1 :], "expected text"),
        ("text\n\n— name AAAAAA==\n".encode(), "is not a signature line"),
        (SPEC_NOTE + SPEC_NOTE.split(b"\n\n")[1] * MAX_SIGNATURES, f"has {MAX_SIGNATURES + 1} signatures"),
        (b"x" * MAX_NOTE_BYTES + SPEC_NOTE, "more than 1000000"),
    ],
)
def test_malformed(body: bytes, reason: str) -> None:
    """Nothing that only resembles a note is read."""
    with pytest.raises(UpstreamProtocolError, match=reason):
        parse_note(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected signature lines"),
        (b"\n", "is not a signature line"),
        (format_lines([LINE])[:-1], "expected signature lines"),
        (format_lines([LINE]) + b"\n", "is not a signature line"),
        (b"\n" + format_lines([LINE]), "is not a signature line"),
        (format_lines([LINE]) + b"\xff\n", r"signature lines: byte \d+ is not UTF-8"),
        (format_lines([LINE]).replace(b"\n", b"\r\n"), "signature lines: has the control character"),
        (format_lines([LINE] * (MAX_SIGNATURES + 1)), f"has {MAX_SIGNATURES + 1} signatures"),
        (format_lines([Signature("a", LINE.key_id, bytes(MAX_NOTE_BYTES))]), "more than 1000000"),
    ],
)
def test_malformed_lines(body: bytes, reason: str) -> None:
    """What a witness answers is read as strictly as a note."""
    with pytest.raises(UpstreamProtocolError, match=reason):
        parse_lines(body)


def test_lines_alone_are_written_as_they_were_read() -> None:
    """The answer of a witness is the end of a note."""
    body = SPEC_NOTE.split(b"\n\n")[1] + GO_LINE + GO_OTHER_LINE
    assert format_lines(parse_lines(body)) == body
    assert parse_note(GO_TEXT + b"\n" + body).signatures == parse_lines(body)


def test_the_limits_are_exact() -> None:
    """The largest note and the most lines are read; one byte and one line more are not (see above)."""
    most = Note(b"a\n", (LINE,) * MAX_SIGNATURES)
    assert parse_note(format_note(most)) == most
    missing = MAX_NOTE_BYTES - len(format_note(Note(b"\n", (LINE,))))
    largest = format_note(Note(b"a" * missing + b"\n", (LINE,)))
    assert (len(largest), len(parse_note(largest).text)) == (MAX_NOTE_BYTES, missing + 1)
    with pytest.raises(UpstreamProtocolError, match="has 1000001 bytes"):
        parse_note(b"a" + largest)


def test_the_last_empty_line_ends_the_text() -> None:
    """The text may be empty lines, and even look like a signed note itself."""
    for text in (b"\n", b"\n\n", b"a\n\n\n", sign_note(TEXT, [BOB])):
        note, signed = open_note(sign_note(text, [ALICE]), [ALICE.verifier])
        assert (note.text, signed) == (text, (ALICE.verifier,))
    with pytest.raises(SignatureError, match="no trusted key"):
        open_note(sign_note(sign_note(TEXT, [BOB]), [ALICE]), [BOB.verifier])


def test_an_unknown_type_of_signature_is_kept() -> None:
    """A short and a long signature of other types than ours are read and written again."""
    lines = tuple(Signature(f"k{size}", LINE.key_id, bytes(size)) for size in (1, 2424))
    note = Note(b"text\n", lines)
    assert parse_note(format_note(note)) == note


def test_sixteen_signatures_of_any_size_are_accepted() -> None:
    """The specification wants as many; here they are post-quantum, of unknown keys, around the one that counts."""
    others = tuple(
        Signature(f"witness{i}.example", KeyId(bytes([i] * 4)), bytes(POST_QUANTUM_BYTES)) for i in range(60)
    )
    body = format_note(Note(TEXT, (*others[:30], LINE, *others[30:])))
    note, signed = open_note(body, [ALICE.verifier])
    assert (len(note.signatures), signed) == (61, (ALICE.verifier,))


def test_same_name_or_same_id_alone_is_not_the_key() -> None:
    """A line counts only where both are right; it is passed over otherwise, also where it verifies nowhere."""
    others = (Signature("mallory", LINE.key_id, b"x"), Signature(LINE.name, BOB.verifier.key_id, b"x"))
    assert open_note(format_note(Note(TEXT, (*others, LINE))), [ALICE.verifier])[1] == (ALICE.verifier,)
    with pytest.raises(SignatureError, match=r"no trusted key signed the note: trusted are alice.example\+"):
        open_note(format_note(Note(TEXT, others)), [ALICE.verifier])
    with pytest.raises(SignatureError, match="trusted are none"):
        open_note(sign_note(TEXT, [ALICE]), [])


def test_a_line_is_of_the_key_whose_name_and_id_it_says() -> None:
    """Both, whatever its value; the public key in two types is two keys."""
    assert FORGED.is_of(ALICE.verifier)
    assert not any(LINE.is_of(key.verifier) for key in (BOB, COSIGNER))
    assert not Signature("mallory", LINE.key_id, LINE.value).is_of(ALICE.verifier)


def test_a_good_line_under_another_name_does_not_count() -> None:
    """The signature is Alice's, the line says that it is somebody else's."""
    for line in (Signature("mallory", LINE.key_id, LINE.value), Signature(LINE.name, KeyId(b"\0\0\0\0"), LINE.value)):
        with pytest.raises(SignatureError, match="no trusted key"):
            open_note(format_note(Note(TEXT, (line,))), [ALICE.verifier])


def test_a_bad_line_is_not_made_good_by_another_one() -> None:
    """One forged line of a trusted key refuses the whole note, before and behind a good one of it or of another."""
    bob = parse_note(sign_note(TEXT, [BOB])).signatures[0]
    for good in (LINE, bob):
        for lines in ((good, FORGED), (FORGED, good), (good, good, FORGED)):
            with pytest.raises(SignatureError, match=r"the key alice.example\+\w{8} does not verify"):
                open_note(format_note(Note(TEXT, lines)), [ALICE.verifier, BOB.verifier])


def test_a_forged_line_of_a_key_that_is_not_trusted_is_passed_over() -> None:
    """Nobody can make a note useless by adding to it a line of a key that its reader does not know."""
    body = format_note(Note(TEXT, (FORGED, *parse_note(sign_note(TEXT, [BOB])).signatures)))
    assert open_note(body, [BOB.verifier])[1] == (BOB.verifier,)


def test_a_repeated_line_is_accepted_where_each_verifies() -> None:
    """The specification does not forbid it; the key is named once."""
    for lines in ((LINE, LINE), (LINE, *parse_note(sign_note(TEXT, [BOB])).signatures, LINE)):
        note, signed = open_note(format_note(Note(TEXT, lines)), [ALICE.verifier])
        assert (note.signatures, signed) == (lines, (ALICE.verifier,))


@pytest.mark.parametrize("value", [LINE.value[:-1], LINE.value + b"\0", b"\0", LINE.value * 2], ids=len)
def test_a_signature_of_another_length_does_not_verify(value: bytes) -> None:
    """Nothing is cut or padded to make it fit."""
    with pytest.raises(SignatureError, match="does not verify"):
        open_note(format_note(Note(TEXT, (Signature(LINE.name, LINE.key_id, value),))), [ALICE.verifier])


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    """Two trusted keys of one name and ID are one too many."""
    with pytest.raises(ConfigurationError, match="two of the trusted keys"):
        open_note(SPEC_NOTE, [ALICE.verifier, ALICE.verifier])


def test_lines_of_no_trusted_key_are_no_error_by_themselves() -> None:
    """Whoever asks says what none means."""
    lines = parse_note(SPEC_NOTE).signatures
    assert check_lines(lines, [ALICE.verifier], lambda _key, _line: False) == ()
    assert check_lines([], [], lambda _key, _line: True) == ()


def test_messages_stay_short_whatever_a_note_carries() -> None:
    """A note with many long names of keys does not fill a log."""
    lines = tuple(Signature("n" * 1000, KeyId(bytes([i] * 4)), b"x") for i in range(MAX_SIGNATURES))
    with pytest.raises(SignatureError) as caught:
        open_note(format_note(Note(TEXT, lines)), [ALICE.verifier])
    assert len(str(caught.value)) < 700
    with pytest.raises(UpstreamProtocolError) as malformed:
        parse_note(b"text\n\n" + b"x" * 10_000 + b"\n")
    assert len(str(malformed.value)) < 200


@pytest.mark.parametrize("kind", [KeyType.COSIGNATURE, KeyType.ML_DSA_44])
def test_the_key_of_a_cosigner_signs_and_opens_no_note(kind: KeyType) -> None:
    """Its signatures are of other messages; signed as a text, a note that looks like one of these would be one."""
    cosigner = make_signer_key("alice.example", bytes(range(32)), kind)
    with pytest.raises(ConfigurationError, match=f"is of type {kind.title}, and signs no notes"):
        sign_note(TEXT, [ALICE, cosigner])
    with pytest.raises(ConfigurationError, match=f"is of type {kind.title}, and signs no notes"):
        open_note(sign_note(TEXT, [ALICE]), [ALICE.verifier, cosigner.verifier])


def test_a_note_cannot_pose_as_a_cosignature() -> None:
    """Attack: have a cosigner's key sign a note with the text of a cosigned message."""
    text = b"cosignature/v1\ntime 1700000000\norigin.example\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    with pytest.raises(ConfigurationError, match="signs no notes"):
        sign_note(text, [COSIGNER])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "ends in a newline"),
        (b"no newline", "ends in a newline"),
        (b"\xff\n", "cannot be signed: signed note: byte 0"),
        (b"a\tb\n", "cannot be signed: signed note: has the control"),
        (b"a" * MAX_NOTE_BYTES + b"\n", "cannot be signed: signed note: has 1"),
    ],
    ids=lambda value: value[:10],
)
def test_only_text_is_signed(text: bytes, reason: str) -> None:
    """What would not be read again is not signed."""
    with pytest.raises(ConfigurationError, match=reason):
        sign_note(text, [ALICE])


def test_nobody_signs_nothing() -> None:
    """A note has a signature."""
    with pytest.raises(ConfigurationError, match="cannot be signed"):
        sign_note(TEXT, [])
