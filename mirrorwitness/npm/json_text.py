"""JSON objects taken apart and put together again without touching their members' bytes.

Rules:

- A member that is not asked for keeps its original bytes, also where they are odd: ``-0``, ``1e400``, duplicate keys
  deeper down, white space, escapes.
- Where a key is there twice in an object that is taken apart, the last value wins, as in every JSON client, and only
  that value is written again: what was read is what is served.
- Member order is kept. Keys compare after unescaping: a key with an escaped letter is that key.
- Text is UTF-8 without a byte order mark; `check_utf8` says so once, because msgspec does not look inside the members
  it passes over (measured with 0.22).
- A lone surrogate escape (a readme that was cut inside an emoji) is valid for every JavaScript client, but not for
  msgspec: such text is taken apart by the standard library, slower and with copies, and kept as it is.
- Nesting deeper than the interpreter's limit (about 1,000) is refused; it cannot crash the process.

What this module does not do: know what a packument is.
"""

from __future__ import annotations

import json
import re
from codecs import utf_8_decode
from json.decoder import JSONDecoder
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
from msgspec import Raw

from mirrorwitness.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ABSENT",
    "check_utf8",
    "encode_key",
    "is_empty_value",
    "is_encodable",
    "is_object",
    "join_members",
    "read_string",
    "read_value",
    "split_members",
]

ABSENT: Final = Raw(b"")
"""Stands where an object has no such member; no JSON value is empty."""

_CHUNK_BYTES: Final = 1 << 20
"""How much is decoded at once to check UTF-8: large enough to be fast, small against any document."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_ENCODER: Final = msgspec.json.Encoder()
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE_BYTES: Final = b" \t\r\n"
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_EMPTY_SCALARS: Final = frozenset({b'""', b"null", b"false"})
_LONGEST_SCALAR: Final = len(b"false")


def check_utf8(data: bytes) -> None:
    """Check that all of `data` is UTF-8, in constant extra memory.

    Raises:
        UpstreamProtocolError: it is not; encoded surrogates count as not.
    """
    if data.isascii():
        return
    view = memoryview(data)
    start = 0
    while start < len(view):
        end = min(start + _CHUNK_BYTES, len(view))
        try:
            used = utf_8_decode(view[start:end], "strict", end == len(view))[1]
        except UnicodeDecodeError as error:
            raise UpstreamProtocolError(f"not UTF-8 at byte {start + error.start}") from error
        start += used


def split_members(data: bytes | Raw) -> dict[str, Raw]:
    """Take one JSON object apart.

    Args:
        data: the text of one object, UTF-8.

    Returns:
        Each member's value as its original bytes, in order; views of `data` wherever possible.

    Raises:
        UpstreamProtocolError: not JSON, not an object, or nested too deeply.
    """
    try:
        return _MEMBERS.decode(data)
    except RecursionError as error:
        raise UpstreamProtocolError("JSON is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = bytes(data)
        if not _SURROGATE_ESCAPE.search(text):
            raise UpstreamProtocolError(f"not a JSON object: {error}") from error
    return _split_slowly(text)


def join_members(members: Mapping[str, Raw]) -> bytes:
    """Put an object together from its members' bytes, in the mapping's order."""
    try:
        return _ENCODER.encode(members)
    except UnicodeEncodeError:  # a key with a lone surrogate
        return b"{" + b",".join(encode_key(key) + b":" + bytes(raw) for key, raw in members.items()) + b"}"


def encode_key(key: str) -> bytes:
    """Return a string as JSON; lone surrogates come out as the escapes that they came in as."""
    try:
        return _ENCODER.encode(key)
    except UnicodeEncodeError:
        return json.dumps(key).encode()


def read_value(raw: Raw) -> object:
    """Decode one value as leniently as a JavaScript client does; None where even that is not possible."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(bytes(raw))
    except (ValueError, RecursionError):  # no value at all, more digits than Python converts, too deep
        return None


def read_string(raw: Raw) -> str | None:
    """Decode a string; None for any other value and for one with a lone surrogate, which no URL or digest has."""
    value = read_value(raw)
    return value if isinstance(value, str) and is_encodable(value) else None


def is_encodable(text: str) -> bool:
    """Return whether a string has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_object(raw: Raw) -> bool:
    """Return whether the value is a JSON object; looks at its first byte only."""
    return bytes(memoryview(raw)[:1]) == b"{"


def is_empty_value(raw: Raw) -> bool:
    """Return whether the value is ``{}``, ``[]``, ``""``, ``null`` or ``false``."""
    text = memoryview(raw)
    # Almost always the length or the second byte decides, without a copy.
    if text.nbytes > _LONGEST_SCALAR and text[1] not in _SPACE_BYTES:
        return False
    value = bytes(text)
    return value in _EMPTY_SCALARS or (value[0] in b"{[" and not value[1:-1].strip(_SPACE_BYTES))


def _split_slowly(data: bytes) -> dict[str, Raw]:
    # Latin-1 gives one character for each byte, so the scanner's offsets are byte offsets and memory stays 1x.
    text = data.decode("latin-1")
    decoder = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    members: dict[str, Raw] = {}
    try:
        position = _skip(text, 0)
        position = _skip(text, _expect(text, position, "{"))
        more = not text.startswith("}", position)
        while more:
            _expect(text, position, '"')
            end = decoder.raw_decode(text, position)[1]
            key: str = json.loads(data[position:end])
            position = _skip(text, _expect(text, _skip(text, end), ":"))
            end = decoder.raw_decode(text, position)[1]
            members[key] = Raw(data[position:end])
            position = _skip(text, end)
            more = text.startswith(",", position)
            if more:
                position = _skip(text, position + 1)
        position = _skip(text, _expect(text, position, "}"))
    except RecursionError as error:
        raise UpstreamProtocolError("JSON is nested too deeply") from error
    except ValueError as error:
        raise UpstreamProtocolError(f"not a JSON object: {error}") from error
    if position != len(text):
        raise UpstreamProtocolError(f"not a JSON object: more text at byte {position}")
    return members


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _expect(text: str, position: int, character: str) -> int:
    if not text.startswith(character, position):
        raise ValueError(f"expected {character} at byte {position}")
    return position + 1


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
