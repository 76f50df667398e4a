"""A small S3 on loopback that is honest by default and does wrong on request.

It keeps objects in memory, does conditions, ranges and listings as Amazon does, and checks the checksum that it is
sent. A `Fault` says what it does wrong for the next requests that fit: fail before or after the effect, hang up, store
other bytes, echo nonsense, cut bodies, list unsorted, want ETags without quotes.
It checks no signatures, but records every request with its headers.
"""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["Answer", "Fault", "HostileS3", "Recorded", "listing", "serve_s3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: the answer's status; 0 hangs up without an answer.
        code: the code of the error's body.
        after: whether the request takes effect first.
        headers: headers to add to the answer, or to replace.
        drop: headers to leave out.
        store: what is stored in place of the body sent.
        cut: how many bytes of the answer's body are held back before hanging up.
        body: the answer's body in place of the right one.
    """

    status: int | None = None
    code: str = ""
    after: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    store: bytes | None = None
    cut: int = 0
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it came in; `key` is empty for the bucket."""

    method: str
    key: str
    target: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class Answer:
    """What goes back; Content-Length is added."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class HostileS3:
    """The state of one service: its bucket ``bkt``, the faults planned, the requests seen.

    Attributes:
        objects: body and metadata token by key.
        requests: everything that was asked.
        keeps_metadata: whether ``x-amz-meta-*`` survives.
        expired_token: a session token that is refused with 403.
        wants_bare_etags: whether ``If-Match`` with quotes never matches (Ceph RGW 16).
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.requests: list[Recorded] = []
        self.keeps_metadata = True
        self.expired_token: str | None = None
        self.wants_bare_etags = False
        self._faults: list[tuple[str, str, Fault]] = []

    def fail(self, method: str, key_glob: str, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the next `times` requests of a method on keys like `key_glob`."""
        self._faults += [(method, key_glob, fault)] * times

    def set_bytes(self, key: str, body: bytes) -> None:
        """Put an object there, as another writer."""
        self.objects[key] = (body, {})

    def count(self, method: str) -> int:
        """Return how many requests of a method came for objects."""
        return sum(request.method == method and bool(request.key) for request in self.requests)

    def answer(self, request: Recorded, body: bytes) -> tuple[Answer | None, int]:
        """Do what a request asks, as far as no fault says otherwise; also return how many bytes to hold back."""
        self.requests.append(request)
        fault = self._take(request) or Fault()
        if self.expired_token is not None and request.headers.get("x-amz-security-token") == self.expired_token:
            fault = Fault(status=403)
        if fault.status is not None and not fault.after:
            return self._fault_answer(fault), 0
        answer = self._act(request, body if fault.store is None else fault.store)
        if fault.status is not None:
            return self._fault_answer(fault), 0
        answer.headers = {k: v for k, v in (answer.headers | dict(fault.headers)).items() if k not in fault.drop}
        if fault.body is not None:
            answer.body = fault.body
        return answer, fault.cut

    def _take(self, request: Recorded) -> Fault | None:
        for planned in self._faults:
            if planned[0] == request.method and fnmatchcase(request.key, planned[1]):
                self._faults.remove(planned)
                return planned[2]
        return None

    def _fault_answer(self, fault: Fault) -> Answer | None:
        return _error(fault.status, fault.code, dict(fault.headers)) if fault.status else None

    def _act(self, request: Recorded, body: bytes) -> Answer:
        if request.method == "PUT":
            return self._put(request, body)
        if request.method == "DELETE":
            self.objects.pop(request.key, None)
            return Answer(204)
        return self._get(request) if request.key else self._list(request.target)

    def _get(self, request: Recorded) -> Answer:
        if request.key not in self.objects:
            return _error(404, "NoSuchKey", {})
        stored, metadata = self.objects[request.key]
        headers = {"ETag": _etag(stored), **metadata}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not wanted:
            return Answer(200, headers, stored)
        start = int(wanted[1])
        end = min(len(stored), int(wanted[2] or len(stored)) + 1)
        if start >= len(stored):
            return _error(416, "InvalidRange", {})
        return Answer(206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(stored)}"}, stored[start:end])

    def _put(self, request: Recorded, body: bytes) -> Answer:
        found = self.objects.get(request.key)
        wanted = request.headers.get("if-match")
        if wanted is not None and found is None:
            return _error(404, "NoSuchKey", {})
        if found is not None:
            etag = _etag(found[0])
            etag = etag.strip('"') if self.wants_bare_etags else etag
            if "if-none-match" in request.headers or (wanted is not None and wanted != etag):
                return _error(412, "PreconditionFailed", {})
        kept = {k: v for k, v in request.headers.items() if k.startswith("x-amz-meta-") and self.keeps_metadata}
        self.objects[request.key] = (body, kept)
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return Answer(200, {"ETag": _etag(body), "x-amz-checksum-sha256": checksum})

    def _list(self, target: str) -> Answer:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        keys = sorted(
            k for k in self.objects if k.startswith(query.get("prefix", "")) and k > query.get("start-after", "")
        )
        page = keys[: int(query["max-keys"])]
        items = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(self.objects[key][0])}</Size>"
            f"<ETag>{_etag(self.objects[key][0])}</ETag></Contents>"
            for key in page
        )
        return Answer(200, {}, listing(items, truncated=len(keys) > len(page)))


def listing(items: str, *, truncated: bool = False, encoding: str = "url") -> bytes:
    """Return a ListObjectsV2 answer around its items."""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<EncodingType>{encoding}</EncodingType><IsTruncated>{str(truncated).lower()}</IsTruncated>"
        f"{items}</ListBucketResult>"
    ).encode()


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _error(status: int | None, code: str, headers: dict[str, str]) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>as planned</Message></Error>" if code else ""
    return Answer(status or 500, headers, body.encode())


@asynccontextmanager
async def serve_s3(service: HostileS3) -> AsyncGenerator[str, None]:
    """Serve on a loopback port for the length of a block; gives the address of a storage in it."""
    async with trio.open_nursery() as nursery:
        handler = partial(_serve_connection, service)
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield f"s3://bkt/p?endpoint=http://127.0.0.1:{port}&region=us-east-1"
        nursery.cancel_scope.cancel()


async def _serve_connection(service: HostileS3, stream: trio.SocketStream) -> None:
    await trio.lowlevel.checkpoint()
    connection = h11.Connection(h11.SERVER)
    try:
        async with stream:
            while await _serve_request(service, connection, stream):
                connection.start_next_cycle()
    except (trio.BrokenResourceError, h11.ProtocolError):
        return


async def _serve_request(service: HostileS3, connection: h11.Connection, stream: trio.SocketStream) -> bool:
    await trio.lowlevel.checkpoint()
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            request = event
            if connection.they_are_waiting_for_100_continue:  # boto3 waits a second for it
                go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
                await stream.send_all(go_on or b"")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return False
    if request is None:
        return False
    target = request.target.decode()
    headers = {name.decode(): value.decode() for name, value in request.headers}
    key = unquote(urlsplit(target).path).removeprefix("/bkt").removeprefix("/")
    answer, cut = service.answer(Recorded(request.method.decode(), key, target, headers), body)
    if answer is None:
        return False
    fields = {"Content-Length": str(len(answer.body)), **answer.headers}
    data = connection.send(h11.Response(status_code=answer.status, headers=list(fields.items())))
    payload = b"" if request.method == b"HEAD" else answer.body[: len(answer.body) - cut]
    await stream.send_all((data or b"") + payload)
    if cut:
        return False
    connection.send(h11.Data(data=answer.body if request.method != b"HEAD" else b""))
    connection.send(h11.EndOfMessage())
    return True
