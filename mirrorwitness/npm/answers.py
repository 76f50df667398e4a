"""Reading the JSON answers of a registry or a feed: status, decompression with a cap, the reason in an error body.

Rules:

- What a body unpacks to is capped piece by piece, so a bomb costs neither memory nor time, and a large one never holds
  the event loop for more than a few milliseconds at once.
- An answer that is no JSON object (an HTML page with status 200, broken gzip, half a document) is a `SickAnswerError`:
  worth another try, and never taken for "nothing there".
- Messages carry the URL, the status and at most a short reason; never a whole body.
"""

from __future__ import annotations

import io
import json
import zlib
from typing import TYPE_CHECKING, Final, cast

import trio

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.fetch import SickAnswerError, make_status_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.fetch import Response

__all__ = ["check_status", "read_object", "show_url"]

_UNPACK_BYTES: Final = 1024 * 1024  # about 3 ms of zlib between two checkpoints
_ERROR_BODY_BYTES: Final = 16 * 1024
_REASON_CHARACTERS: Final = 120
_OK: Final = 200
_GZIP: Final = 31  # zlib's window bits for gzip framing


def show_url(url: str) -> str:
    """Return a URL for messages."""
    return url.partition("?")[0][:300]


async def read_object(response: Response, url: str, limit: int) -> bytes:
    """Return the body of a 200 as one JSON object, decompressed (by its brackets; the parsers do the rest).

    Raises:
        SickAnswerError: it is none.
        UpstreamProtocolError: it has, or unpacks to, more than `limit` bytes.
        UpstreamError: another status.
    """
    await check_status(response, url)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        body = await _read_gzip(response, url, limit)
    elif encoding in {"identity", ""}:
        body = await response.read(limit)
    else:
        raise SickAnswerError(f"{show_url(url)}: Content-Encoding {encoding[:50]!r}, expected gzip or none")
    if body[:64].lstrip()[:1] != b"{" or body[-64:].rstrip()[-1:] != b"}":
        kind = response.headers.get("content-type", "no content type")[:60]
        raise SickAnswerError(f"{show_url(url)}: expected a JSON object, found {len(body)} bytes of {kind!r}")
    return body


async def _read_gzip(response: Response, url: str, limit: int) -> bytes:
    # BytesIO grows in place and hands its buffer out without a copy: one document in memory, not two.
    unpacked = io.BytesIO()
    unpacker = zlib.decompressobj(_GZIP)
    while chunk := await response.receive_some():
        while chunk:
            if unpacker.eof:  # another gzip member
                unpacker = zlib.decompressobj(_GZIP)
            try:
                piece = unpacker.decompress(chunk, _UNPACK_BYTES)
            except zlib.error as error:
                raise SickAnswerError(f"{show_url(url)}: broken gzip: {error}") from error
            if unpacked.tell() + len(piece) > limit:
                raise UpstreamProtocolError(f"{show_url(url)}: decompressed to more than {limit} bytes")
            unpacked.write(piece)
            chunk = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if chunk:
                await trio.lowlevel.checkpoint()
    if not unpacker.eof:
        raise SickAnswerError(f"{show_url(url)}: gzip ended in the middle")
    return unpacked.getvalue()


async def check_status(response: Response, url: str) -> None:
    """Let only a 200 pass.

    Raises:
        UpstreamError: the one that the status means.
    """
    if response.status != _OK:
        reason = await _reason(response)
        raise make_status_error(response.status, f"{show_url(url)}: status {response.status}{reason}")


async def _reason(response: Response) -> str:
    """Return the short reason in a JSON error body, as the registry words it; "" where there is none."""
    try:
        body = await response.read(_ERROR_BODY_BYTES)
        parsed: object = json.loads(body)
    except (UpstreamProtocolError, ValueError, RecursionError):
        return ""
    found = cast("Mapping[str, object]", parsed) if isinstance(parsed, dict) else {"error": parsed}
    text = found.get("error") or found.get("message") or found.get("reason")
    if not isinstance(text, str):
        return ""
    shown = "".join(character if character.isprintable() else "?" for character in text[:_REASON_CHARACTERS])
    return f" ({shown})"
