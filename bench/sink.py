"""An S3 service that costs next to nothing: what is judged by wall time must not wait for its peer.

    python -m bench.sink PORT SLOW_PORT MILLISECONDS

It listens twice: on `PORT`, and on `SLOW_PORT`, where every answer is held back for some milliseconds (many wait at
once, so that limits no rate). Both have the same buckets, which exist when they are named.

Rules:

- Puts (with ``If-None-Match``, ``If-Match``), reads, deletes and listings work; the checksum that came with a put is
  echoed and the ETag is the body's MD5, as clients expect.
- Bodies of tarballs are counted and dropped, all others are kept: a benchmark reads back documents and records only.
- No signature is checked, no range served, and nothing is ever written to a disk. It is no S3 server for tests.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import re
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

DATE: Final = "Thu, 01 Jan 2026 00:00:00 GMT"
STAMP: Final = "2026-01-01T00:00:00.000Z"
REASONS: Final = {200: "OK", 204: "No Content", 404: "Not Found", 412: "Precondition Failed"}
HEAD_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """One object: its size and ETag, and its body unless it is a tarball."""

    size: int
    etag: str
    body: bytes


@dataclass(slots=True)
class Store:
    """All objects by path, and the paths in order."""

    objects: dict[str, Stored] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        """Carry a request out and return its whole answer."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        if "list-type=2" in parts.query:
            return _answer(200, _list(self, path.strip("/") + "/", parse_qs(parts.query)))
        found = self.objects.get(path)
        if method == "PUT" and path.count("/") > 1:
            return self._put(path, found, headers, body)
        if method == "DELETE":
            if found is not None:
                del self.objects[path]
                del self.keys[bisect.bisect_left(self.keys, path)]
            return _answer(204)
        if path.count("/") == 1:
            return _answer(200)
        if found is None:
            return _error(404, "NoSuchKey", method)
        return _answer(200, found.body, etag=found.etag, size=found.size, has_body=method == "GET")

    def _put(self, path: str, found: Stored | None, headers: dict[str, str], body: bytes) -> bytes:
        is_lost = found is not None and headers.get("if-none-match") == "*"
        is_other = "if-match" in headers and (found is None or headers["if-match"].strip('"') != found.etag)
        if is_lost or is_other:
            return _error(412, "PreconditionFailed", "PUT")
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if found is None:
            bisect.insort(self.keys, path)
        self.objects[path] = Stored(len(body), etag, b"" if path.endswith(".tgz") else body)
        checksum = headers.get("x-amz-checksum-sha256")
        return _answer(200, etag=etag, extra=f"x-amz-checksum-sha256: {checksum}\r\n" if checksum else "")


class _Connection(asyncio.Protocol):
    """One client, one request at a time."""

    def __init__(self, store: Store, delay: float) -> None:
        self._store = store
        self._delay = delay
        self._later = asyncio.get_running_loop().call_later
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        received = b"".join(self._pieces)
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            assert len(received) < HEAD_MAX
            self._pieces = [received]
            return
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        need = len(head) + 4 + (int(length[1]) if length else 0)
        if len(received) < need:
            self._pieces, self._need = [received], need
            return
        self._pieces, self._have, self._need = [], 0, 0
        self._carry_out(head.decode("latin-1"), rest)

    def _carry_out(self, head: str, body: bytes) -> None:
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = self._store.answer(method, target, headers, body)
        assert self._transport is not None
        if self._delay:
            self._later(self._delay, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _answer(
    status: int, body: bytes = b"", *, etag: str = "", size: int | None = None, has_body: bool = True, extra: str = ""
) -> bytes:
    length = "" if status == 204 else f"content-length: {len(body) if size is None else size}\r\n"
    tag = f'etag: "{etag}"\r\n' if etag else ""
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\n{length}{tag}last-modified: {DATE}\r\ndate: {DATE}\r\n{extra}\r\n"
    return head.encode() + (body if has_body else b"")


def _error(status: int, code: str, method: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    return _answer(status, text, size=len(text), has_body=method != "HEAD")


def _list(store: Store, bucket: str, query: dict[str, list[str]]) -> bytes:
    asked = {name: values[0] for name, values in query.items()}
    most, prefix = int(asked.get("max-keys", "1000")), f"/{bucket}{asked.get('prefix', '')}"
    after = asked.get("continuation-token") or asked.get("start-after", "")
    start = bisect.bisect_left(store.keys, prefix)
    if after:
        start = max(start, bisect.bisect_right(store.keys, f"/{bucket}{after}"))
    keys = [key for key in store.keys[start : start + most + 1] if key.startswith(prefix)]
    shown, is_cut = keys[:most], len(keys) > most
    items = "".join(_item(key.removeprefix(f"/{bucket}"), store.objects[key]) for key in shown)
    token = (
        f"<NextContinuationToken>{escape(shown[-1].removeprefix(f'/{bucket}'))}</NextContinuationToken>"
        if is_cut
        else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket[:-1]}</Name><KeyCount>{len(shown)}</KeyCount><MaxKeys>{most}</MaxKeys><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
    ).encode()


def _item(key: str, found: Stored) -> str:
    tag = f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{found.size}</Size>"
    return f"<Contents><Key>{quote(key)}</Key><LastModified>{STAMP}</LastModified>{tag}</Contents>"


async def serve(port: int, slow_port: int, milliseconds: int) -> None:
    """Listen until killed."""
    store = Store()
    loop = asyncio.get_running_loop()
    listen = partial(loop.create_server, host="127.0.0.1", backlog=1024)
    await listen(partial(_Connection, store, 0.0), port=port)
    server = await listen(partial(_Connection, store, milliseconds / 1000), port=slow_port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*(int(text) for text in sys.argv[1:4])))
