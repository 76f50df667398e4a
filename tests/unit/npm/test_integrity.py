"""Integrity strings, expectations and the verifier."""

from __future__ import annotations

import base64
import hashlib

import pytest

from mirrorwitness.errors import IntegrityMismatchError
from mirrorwitness.npm.integrity import (
    MAX_INTEGRITY_LENGTH,
    Expectation,
    Hash,
    Integrity,
    Verifier,
    is_same_content,
    make_expectation,
    parse_integrity,
)

DATA = b"the bytes of a tarball"


def sri(algorithm: str, data: bytes = DATA) -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


SHASUM = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()
DIGESTS = {name: hashlib.new(name, DATA).digest() for name in ("sha512", "sha384", "sha256", "sha1", "md5")}


def verify(expectation: Expectation, *chunks: bytes) -> None:
    verifier = Verifier(expectation)
    for chunk in chunks:
        verifier.update(chunk)
    verifier.check()


def test_all_hashes_are_read_in_order_and_options_dropped() -> None:
    """SRI: several algorithms, several digests, white space of any kind, options."""
    text = f"  {sri('sha1')}\n{sri('sha512')}?ct=application/x-tgz?b\t{sri('md5')} {sri('sha512', b'other')}  "
    other = hashlib.sha512(b"other").digest()
    assert parse_integrity(text) == Integrity((
        Hash("sha1", DIGESTS["sha1"]),
        Hash("sha512", DIGESTS["sha512"]),
        Hash("md5", DIGESTS["md5"]),
        Hash("sha512", other),
    ))


SHA256 = sri("sha256")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256-",
        "sha256-AAAA",
        SHA256[:-1],
        SHA256 + "=",
        SHA256.replace("sha256", "SHA256"),
        SHA256.replace("sha256", "sha512"),
        SHA256[:-2] + chr(ord(SHA256[-2]) + 1) + "=",
        "sha256-" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        SHA256.replace("-", "--"),
        "sha256-A",
        "é" + SHA256,
        SHA256 + " " * MAX_INTEGRITY_LENGTH,
    ],
)
def test_what_is_no_hash_is_left_away(text: str) -> None:
    """Base64 is strict and canonical, lengths fit, names are lower case, and the string is bounded."""
    assert parse_integrity(text) == Integrity(())


def test_the_longest_string_is_still_read() -> None:
    """The bound is on what is longer."""
    padded = SHA256 + " " * (MAX_INTEGRITY_LENGTH - len(SHA256))
    assert parse_integrity(padded) == parse_integrity(SHA256) != Integrity(())


def test_unknown_algorithms_are_kept_but_never_strongest() -> None:
    """A future algorithm neither disturbs nor decides."""
    parsed = parse_integrity(f"sha3-AAAA {sri('sha384')}")
    assert (parsed.hashes[0], parsed.strongest) == (Hash("sha3", bytes(3)), "sha384")
    assert parse_integrity("sha3-AAAA").strongest is None


@pytest.mark.parametrize(
    ("integrity", "shasum", "expected"),
    [
        (sri("sha512"), SHASUM, Expectation("strong", "sha512", frozenset({DIGESTS["sha512"]}))),
        (f"{sri('sha1')} {sri('sha256')}", None, Expectation("strong", "sha256", frozenset({DIGESTS["sha256"]}))),
        (f"{sri('sha384')} {sri('sha256')}", None, Expectation("strong", "sha384", frozenset({DIGESTS["sha384"]}))),
        (sri("sha1"), None, Expectation("weak", "sha1", frozenset({DIGESTS["sha1"]}))),
        (None, SHASUM, Expectation("weak", "sha1", frozenset({DIGESTS["sha1"]}))),
        ("", SHASUM.upper(), Expectation("weak", "sha1", frozenset({DIGESTS["sha1"]}))),
        (None, None, Expectation("none")),
        (None, "", Expectation("none")),
        (None, SHASUM[1:], Expectation("none")),
        (None, SHASUM + "\n", Expectation("none")),
        (sri("md5"), SHASUM, Expectation("none")),
        ("garbage", SHASUM, Expectation("none")),
        (" ", SHASUM, Expectation("none")),
    ],
)
def test_rows_09_to_11_the_strongest_algorithm_decides(
    integrity: str | None, shasum: str | None, expected: Expectation
) -> None:
    """Rows 9, 10, 11: shasum alone is weak, md5 or an unusable integrity is nothing, the strongest one decides."""
    assert make_expectation(integrity, shasum) == expected


@pytest.mark.parametrize("algorithm", ["sha512", "sha384", "sha256", "sha1"])
def test_right_bytes_pass_in_any_chunks(algorithm: str) -> None:
    """Streaming makes no difference."""
    expectation = make_expectation(sri(algorithm), None)
    verify(expectation, DATA)
    verify(expectation, DATA[:5], b"", DATA[5:])


def test_row_08_bytes_that_differ_are_named_with_both_digests() -> None:
    """P1, row 8: the error tells what was expected and what came."""
    with pytest.raises(IntegrityMismatchError) as caught:
        verify(make_expectation(sri("sha512"), None), DATA, b"!")
    assert str(caught.value) == f"expected {sri('sha512')}, found {sri('sha512', DATA + b'!')} (23 bytes)"


def test_row_11_every_digest_that_would_have_matched_is_named() -> None:
    """Several digests of the deciding algorithm: all are in the message, in a fixed order."""
    with pytest.raises(IntegrityMismatchError) as caught:
        verify(make_expectation(f"{sri('sha512', b'x')} {sri('sha512', b'y')}", None), DATA)
    first, second = sorted([sri("sha512", b"x"), sri("sha512", b"y")])
    assert str(caught.value) == f"expected {first} or {second}, found {sri('sha512')} (22 bytes)"


def test_row_11_any_digest_of_the_strongest_algorithm_may_match() -> None:
    """Row 11: two sha512, one wrong, pass; the right sha256 beside a wrong sha512 does not."""
    verify(make_expectation(f"{sri('sha512', b'x')} {sri('sha512')}", None), DATA)
    with pytest.raises(IntegrityMismatchError, match=r"expected sha512-.*found sha512-"):
        verify(make_expectation(f"{sri('sha512', b'x')} {sri('sha256')}", None), DATA)


def test_row_10_nothing_to_check_against_is_never_a_match() -> None:
    """Row 10: neither hash means refused, also for no bytes at all."""
    with pytest.raises(IntegrityMismatchError, match="nothing to check 0 bytes against"):
        verify(make_expectation(None, None))


def test_row_09_the_sha512_for_the_record_is_made_whatever_decides() -> None:
    """Row 9: a weakly promised tarball gets a strong record."""
    verifier = Verifier(make_expectation(None, SHASUM))
    verifier.update(bytearray(DATA[:4]))
    verifier.update(memoryview(DATA)[4:])
    verifier.check()
    assert (verifier.sri(), verifier.size) == (sri("sha512"), len(DATA))
    assert repr(verifier) == "<Verifier sha1 weak, 22 bytes so far>"


def test_only_the_needed_hashes_are_computed() -> None:
    """Sha512 decides alone; anything else needs one more."""
    alone = Verifier(make_expectation(f"{sri('sha512')} {sri('sha1')}", SHASUM))
    beside = Verifier(make_expectation(sri("sha256"), None))
    assert alone._deciding is None
    assert beside._deciding is not None
    assert beside._deciding.name == "sha256"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (sri("sha512"), sri("sha512"), True),
        (sri("sha512"), sri("sha512") + "?x", True),
        (sri("sha512"), sri("sha512", b"x"), False),
        (sri("sha512"), f"{sri('sha1')} {sri('sha512')}", True),
        (f"{sri('sha512', b'x')} {sri('sha1')}", sri("sha1"), True),
        (f"{sri('sha512', b'x')} {sri('sha1')}", f"{sri('sha512')} {sri('sha1')}", False),
        (sri("sha512"), f"{sri('sha512')} {sri('sha512', b'x')}", False),
        (sri("sha512"), sri("sha1"), None),
        (sri("md5"), sri("md5"), None),
        (None, sri("sha512"), None),
        (None, None, None),
    ],
)
def test_row_05_two_integrities_agree_by_the_strongest_common_algorithm(
    first: str | None,
    second: str | None,
    expected: bool | None,  # noqa: FBT001 # a table's column
) -> None:
    """P5, row 5: a difference is seen both ways round, a further digest is a difference, no overlap says nothing."""
    assert [is_same_content(first, second), is_same_content(second, first)] == [expected, expected]
