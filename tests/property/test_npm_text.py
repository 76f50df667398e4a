"""Properties of names and integrity strings."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.integrity import Hash, Verifier, is_same_content, make_expectation, parse_integrity
from mirrorwitness.npm.names import decode_name, decode_path, parse_name, parse_spec

NAMES = st.from_regex(
    r"(@[a-zA-Z0-9~_-][a-zA-Z0-9._~!()*'-]{0,20}/)?[a-zA-Z0-9~-][a-zA-Z0-9._~!()*'-]{0,50}", fullmatch=True
)


@given(NAMES)
def test_every_spelling_of_a_name_decodes_to_it(name: str) -> None:
    """Plain, with an encoded slash, and with everything encoded."""
    everything = "".join(f"%{byte:02x}" for byte in name.encode())
    assert {decode_name(path) for path in (f"/{name}", "/" + quote(name, safe="@"), f"/{everything}")} == {name}
    assert decode_path(f"/{quote(name, safe='@')}/-/x.tgz") == (name, ("-", "x.tgz"))
    assert (parse_spec(f"{name}@^1"), parse_spec(name)) == ((name, "^1"), (name, None))


@given(st.text())
def test_a_name_is_accepted_unchanged_or_refused(text: str) -> None:
    """Nothing is repaired on the way, and what is accepted has no path in it."""
    try:
        name = parse_name(text)
    except ConfigurationError:
        return
    assert name == text
    assert not any(part.startswith(".") or not part for part in name.split("/"))


@given(st.text())
def test_any_request_path_names_a_package_or_is_refused(path: str) -> None:
    """One way to fail."""
    try:
        name, rest = decode_path(path)
    except ConfigurationError:
        return
    assert (parse_name(name), isinstance(rest, tuple)) == (name, True)


HASHES = st.builds(
    lambda algorithm, data: Hash(algorithm, hashlib.new(algorithm, data).digest()),
    st.sampled_from(["sha512", "sha384", "sha256", "sha1", "md5"]),
    st.binary(max_size=2),
)


@given(st.lists(HASHES))
def test_an_integrity_string_round_trips(hashes: list[Hash]) -> None:
    """What is read is what was written."""
    text = " ".join(map(str, hashes))
    assert parse_integrity(text).hashes == tuple(hashes)
    assert is_same_content(text, text) in {True, None}


@given(st.lists(st.binary()), st.sampled_from(["sha512", "sha384", "sha256", "sha1"]))
def test_p1_the_verifier_accepts_exactly_the_promised_bytes(chunks: list[bytes], algorithm: str) -> None:
    """P1: whatever the chunks and the algorithm."""
    data = b"".join(chunks)
    verifier = Verifier(make_expectation(str(Hash(algorithm, hashlib.new(algorithm, data).digest())), None))
    for chunk in chunks:
        verifier.update(chunk)
    verifier.check()
    assert (verifier.size, verifier.sri()) == (len(data), str(Hash("sha512", hashlib.sha512(data).digest())))


@given(st.text(), st.text())
def test_any_text_makes_an_expectation(integrity: str, shasum: str) -> None:
    """Foreign text is a promise or none, never a crash."""
    assert make_expectation(integrity, shasum).strength in {"strong", "weak", "none"}
