"""The canonical manifest: one spelling, without what registries make, and none where readers could see two things."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.npm.canonical import REGISTRY_MEMBERS, canonical_manifest, hash_manifest

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_manifests = st.dictionaries(st.text(max_size=8).filter(lambda key: not key.startswith("_")), _json, max_size=6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"version": "1.0.0", "name": "left"}', '{"name":"left","version":"1.0.0"}'),
        (b'{"b": {"z": 1, "_x": 2, "dist": 3}, "a": [true, null]}', '{"a":[true,null],"b":{"_x":2,"dist":3,"z":1}}'),
        (b'{"n": [1.0, -0, 1e21, 1E20, 0.000001, 1e-7]}', '{"n":[1,0,1e+21,100000000000000000000,0.000001,1e-7]}'),
        (b'{"n": [9007199254740991, 9007199254740993]}', '{"n":[9007199254740991,9007199254740992]}'),
        (b'{"n": -123456789012345678901}', '{"n":-123456789012345680000}'),
        (b'{"s": "\\u20ac\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\/"}', '{"s":"€\\u000f\\nA\'B\\"\\\\/"}'),
        ('{"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3}'.encode(), '{"\u20ac":3,"\U0001f600":2,"\ufb33":1}'),
        (b"{}", "{}"),
    ],
)
def test_the_form_is_that_of_the_specification(text: bytes, expected: str) -> None:
    """SPEC: RFC 8785 3.2: order by UTF-16, JavaScript's numbers, the shortest escapes."""
    assert canonical_manifest(text) == expected.encode()


def test_what_registries_make_is_left_out() -> None:
    """At the top alone; everything else counts."""
    kept = {"name": "left", "scripts": {"install": "x"}, "deep": {"_id": 1, "deprecated": 2}}
    made = dict.fromkeys([*REGISTRY_MEMBERS, "_id", "_npmUser", "_"], "anything")
    assert canonical_manifest(json.dumps({**made, **kept}).encode()) == canonical_manifest(json.dumps(kept).encode())


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"dist": {"b": 1, "b": 2}}',
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": 1e400}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1',
        b"[]",
        b'"x"',
        b"\xff",
        b"",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_has_no_canonical_form(text: bytes) -> None:
    """Two readers might see two things, or none: there is no hash either."""
    assert canonical_manifest(text) is None
    assert hash_manifest(text) is None


@given(_manifests)
def test_spelling_does_not_count(manifest: dict[str, Any]) -> None:
    """Order, white space and escapes change nothing; the canonical form is its own, and says the same."""
    one = canonical_manifest(json.dumps(manifest, indent=3).encode())
    other = canonical_manifest(json.dumps(dict(reversed(manifest.items())), ensure_ascii=False).encode())
    assert one is not None
    assert one == other == canonical_manifest(one)
    kept = {key: value for key, value in manifest.items() if key not in REGISTRY_MEMBERS}
    assert json.loads(one) == kept


def test_the_hash() -> None:
    """SHA-256 of the canonical form."""
    assert hash_manifest(b'{ "a" : 1 }') == hashlib.sha256(b'{"a":1}').digest()
