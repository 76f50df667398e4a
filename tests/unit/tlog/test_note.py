"""Signed notes: vectors of others, round trips, and what a forger could try."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    Signature,
    VerifierKey,
    format_note,
    format_signer_key,
    make_signer_key,
    open_note,
    parse_note,
    parse_signer_key,
    parse_verifier_key,
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

# golang.org/x/mod sumdb/note: a wrong length and an unknown type, each with the ID that belongs to it.
GO_BAD_LENGTH = "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY=="
GO_BAD_TYPE = "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

ALICE = make_signer_key("alice.example", bytes(range(32)))
BOB = make_signer_key("bob.example", bytes(range(1, 33)))
TEXT = b"first\n\nlast\n"


def test_the_specification_s_note_opens() -> None:
    """The example of the specification verifies under its key, and is written again as it was."""
    key = parse_verifier_key(SPEC_KEY)
    note, signed = open_note(SPEC_NOTE, [key])
    assert (note.text, signed, str(key)) == (b"This is an example message.\n", (key,), SPEC_KEY)
    assert format_note(note) == SPEC_NOTE


def test_go_s_key_signs_the_same_bytes() -> None:
    """Ed25519 is deterministic: the published private key gives the published note."""
    key = parse_signer_key(GO_SIGNER)
    assert str(key.verifier) == GO_KEY
    assert format_signer_key(key) == GO_SIGNER
    assert sign_note(GO_TEXT, [key]) == GO_TEXT + b"\n" + GO_LINE


def test_two_signatures_of_go_s_tests() -> None:
    """Both keys verify; of an unknown one nothing is said."""
    body = GO_TEXT + b"\n" + GO_LINE + GO_OTHER_LINE
    peter, enoch = parse_verifier_key(GO_KEY), parse_verifier_key(GO_OTHER_KEY)
    assert open_note(body, [peter, enoch])[1] == (peter, enoch)
    assert open_note(body, [enoch])[1] == (enoch,)


@pytest.mark.parametrize("text", [GO_BAD_LENGTH, GO_BAD_TYPE])
def test_go_s_bad_keys_are_refused(text: str) -> None:
    """A wrong length (its base64 is not canonical either) and an unknown type, although their IDs are right."""
    with pytest.raises(ConfigurationError, match=r"expected (NAME|0x01)"):
        parse_verifier_key(text)


@pytest.mark.parametrize("text", [GO_KEY, GO_SIGNER])
def test_every_mangled_key_is_refused(text: str) -> None:
    """No part of a key and no key with one other character is a key."""
    parse = parse_signer_key if text == GO_SIGNER else parse_verifier_key
    parts = {text[start:end] for start in range(len(text)) for end in range(start, len(text) + 1)} - {text}
    parts |= {text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))}
    for part in parts:
        with pytest.raises(ConfigurationError):
            parse(part)


def test_messages_about_a_private_key_do_not_show_it() -> None:
    """Neither its `repr` nor the refusal of a damaged one."""
    secret = GO_SIGNER.rpartition("+")[2]
    with pytest.raises(ConfigurationError) as caught:
        parse_signer_key(GO_SIGNER.replace("c74f20a3", "c74f20a4"))
    assert secret not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        parse_signer_key(GO_SIGNER[:-4])
    assert secret[:20] not in str(caught.value)
    assert "seed" not in repr(parse_signer_key(GO_SIGNER))


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"])), more=st.integers(0, 3))
def test_every_text_without_control_characters_round_trips(text: str, more: int) -> None:
    """What was signed opens, with empty lines inside too, and its bytes are kept."""
    signed = f"{text}{chr(10) * more}\n".encode()
    body = sign_note(signed, [ALICE, BOB])
    note, keys = open_note(body, [BOB.verifier, ALICE.verifier])
    assert (note.text, keys) == (signed, (ALICE.verifier, BOB.verifier))
    assert format_note(note) == body


@given(at=st.integers(0, len(sign_note(TEXT, [ALICE])) - 1), mask=st.integers(1, 255))
def test_replaced_bytes_anywhere_are_refused(at: int, mask: int) -> None:
    """No changed byte leaves a note that opens."""
    body = bytearray(sign_note(TEXT, [ALICE]))
    body[at] ^= mask
    with pytest.raises((SignatureError, UpstreamProtocolError)):
        open_note(bytes(body), [ALICE.verifier])


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
        ("text\n\n— name AAAAAA==\n".encode(), "is not a signature line"),
        (SPEC_NOTE + SPEC_NOTE.split(b"\n\n")[1] * MAX_SIGNATURES, f"has {MAX_SIGNATURES + 1} signatures"),
        (b"x" * MAX_NOTE_BYTES + SPEC_NOTE, "more than 1000000"),
    ],
)
def test_malformed(body: bytes, reason: str) -> None:
    """Nothing that only resembles a note is read."""
    with pytest.raises(UpstreamProtocolError, match=reason):
        parse_note(body)


def test_an_unknown_type_of_signature_is_kept() -> None:
    """A short and a long signature of other types than ours are read and written again."""
    lines = tuple(Signature(f"k{size}", ALICE.verifier.key_id, bytes(size)) for size in (1, 2424))
    note = Note(b"text\n", lines)
    assert parse_note(format_note(note)) == note


def test_same_name_or_same_id_alone_is_not_the_key() -> None:
    """A line counts only where both are right; it is passed over otherwise, also where it verifies nowhere."""
    body = sign_note(TEXT, [ALICE])
    (line,) = parse_note(body).signatures
    others = (Signature("mallory", line.key_id, b"x"), Signature(line.name, BOB.verifier.key_id, b"x"))
    assert open_note(format_note(Note(TEXT, (*others, line))), [ALICE.verifier])[1] == (ALICE.verifier,)
    with pytest.raises(SignatureError, match=r"no trusted key signed the note: trusted are alice.example\+"):
        open_note(format_note(Note(TEXT, others)), [ALICE.verifier])
    with pytest.raises(SignatureError, match="trusted are none"):
        open_note(body, [])


def test_a_bad_line_is_not_made_good_by_another_one() -> None:
    """One forged line of a trusted key refuses the whole note, before and behind a good one."""
    good = parse_note(sign_note(TEXT, [ALICE, BOB])).signatures
    forged = Signature(BOB.name, BOB.verifier.key_id, good[0].value)
    for lines in ((good[0], forged), (forged, good[0])):
        with pytest.raises(SignatureError, match="does not verify"):
            open_note(format_note(Note(TEXT, lines)), [ALICE.verifier, BOB.verifier])


def test_duplicate_lines_of_a_trusted_key_are_refused() -> None:
    """Also where both are good."""
    (line,) = parse_note(sign_note(TEXT, [ALICE])).signatures
    with pytest.raises(SignatureError, match="two signatures"):
        open_note(format_note(Note(TEXT, (line, line))), [ALICE.verifier])


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    """Two trusted keys of one name and ID are one too many."""
    with pytest.raises(ConfigurationError, match="two of the trusted keys"):
        open_note(SPEC_NOTE, [ALICE.verifier, ALICE.verifier])


@pytest.mark.parametrize("text", [b"", b"no newline", b"\xff\n", b"a\tb\n"])
def test_only_text_is_signed(text: bytes) -> None:
    """What would not be read again is not signed."""
    with pytest.raises(ConfigurationError):
        sign_note(text, [ALICE])


def test_nobody_signs_nothing() -> None:
    """A note has a signature."""
    with pytest.raises(ConfigurationError, match="cannot be signed"):
        sign_note(TEXT, [])


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\ud800b"])
def test_names_that_no_key_has(name: str) -> None:
    """Spaces, plus, control characters and lone surrogates would not survive a note."""
    with pytest.raises(ConfigurationError, match="key name"):
        make_signer_key(name, bytes(32))


def test_a_seed_has_32_bytes() -> None:
    """Nothing is padded or cut."""
    with pytest.raises(ConfigurationError, match="not 31"):
        make_signer_key("a", bytes(31))


P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Add two points of the curve."""
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def _find_x(y: int) -> int:
    """Return an x of a point of the curve."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    return x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P


def test_keys_of_small_order_and_second_spellings_are_refused() -> None:
    """All eight points whose order divides 8, in every spelling; the list is derived here from the curve itself."""
    # A point of order 8 is what is left of any point when its part in the large subgroup is multiplied away.
    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 100):
        if pow(_find_x(y), 2, P) * (D * y * y + 1) % P != (y * y - 1) % P:
            continue
        point, base, left = (0, 1), (_find_x(y), y), order
        while left:
            point, base, left = (_add(point, base) if left & 1 else point), _add(base, base), left >> 1
        torsion = [(0, 1)]
        while (following := _add(torsion[-1], point)) != (0, 1):
            torsion.append(following)
        if len(torsion) == 8:
            break
    else:
        pytest.fail("no point of order 8")
    spellings = {y for _, y in torsion} | {y + P for _, y in torsion if y + P < 2**255} | {P + 2, P + 3}
    for y in spellings:
        for sign in (0, 1 << 255):
            with pytest.raises(ConfigurationError, match="proves nothing"):
                parse_verifier_key(str(VerifierKey("mallory", (y | sign).to_bytes(32, "little"))))


def test_a_key_is_32_bytes_of_canonical_base64() -> None:
    """Padding, second spellings of base64 and further bytes are no part of it."""
    with pytest.raises(ConfigurationError, match="it has 33 bytes, expected 32"):
        parse_verifier_key(str(VerifierKey("long", bytes(33))))
    material = base64.b64encode(b"\x01" + ALICE.verifier.public).decode()
    text = str(ALICE.verifier)
    assert text.endswith(material)
    for wrong in (f"{text}=", text.replace("+", "-"), f"{text} ", text.upper()):
        with pytest.raises(ConfigurationError):
            parse_verifier_key(wrong)
