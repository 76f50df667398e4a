"""The read-only npm registry: what each route answers.

| route | answer |
|---|---|
| ``/<name>`` | the packument: full, or abbreviated where its media type is named |
| ``/<name>/<version or tag>`` | one version's document |
| ``/<name>/-/<file>`` | the tarball, whole or one range |
| ``/<name>/-/<file>.tlog-proof`` | the log's proof for it, where the mirror checks against a log |
| ``/-/package/<name>/dist-tags`` | the dist-tags |
| ``/-/npm/v1/keys``, ``/-/npm/v1/attestations/<name>@<version>`` | as stored, 404 where there are none |
| ``/-/about.json``, ``/-/about``, ``/-/about.json.note`` | what this mirror says of itself; the same, signed |
| ``/-/summary/<digits>/<digest>`` | a node of the summary of all versions, which never changes |
| ``/-/at/<size>/…`` | the routes about packages and keys, as the registry stood at that tree size of the log |
| ``/-/ping`` ``/-/whoami`` | ``{}`` and 401 |
| ``/-/healthz`` ``/-/readyz`` ``/-/metrics`` | `mirrorwitness.server.ops` |
| ``/-/status`` | `mirrorwitness.server.page` |
| everything else | 404 or 405 with a sentence that says what to use instead |

Rules:

- **Two doors, one decision** (P2): documents and tarballs both ask `mirrorwitness.server.forms.make_index`; a tarball
  that no stored packument names is not there for anybody.
- A view is the same two doors with fewer versions; tarball URLs in its documents stay in it.
- Only keys that `mirrorwitness.mirror.layout` makes of checked names, and of files that an index names, are ever asked
  of the storage; ``state/`` and ``evidence/`` have no route.
- Every document has a strong entity tag, ``Vary`` and ``Cache-Control``; tarballs never change, so caches keep them.
- Tarballs are sent as they are: they are compressed already, and their bytes are what was verified.

What it does not do: verify. What is stored was verified before it got there (P1); `mirrorwitness audit` does it again.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from mirrorwitness.errors import ObjectMissingError, StorageUnavailableError
from mirrorwitness.mirror.layout import (
    KEYS_KEY,
    MIRROR_KEY,
    NOTE_KEY,
    attestations_key,
    node_key,
    proof_key,
    tarball_key,
)
from mirrorwitness.npm.names import Version
from mirrorwitness.server.absent import describe_absent
from mirrorwitness.server.asgi import App, check_method, format_error
from mirrorwitness.server.byterange import ByteRange, WithoutRange, parse_range
from mirrorwitness.server.documents import Documents
from mirrorwitness.server.faults import DamagedObjectError, RequestError
from mirrorwitness.server.forms import Form
from mirrorwitness.server.negotiate import (
    ABBREVIATED_TYPE,
    Coding,
    choose_coding,
    is_match,
    is_none_match,
    is_range_valid,
    wants_abbreviated,
)
from mirrorwitness.server.ops import answer_health, answer_metrics, answer_ready
from mirrorwitness.server.origin import FORWARDED_HEADERS, find_base, parse_public_url
from mirrorwitness.server.page import answer_status
from mirrorwitness.server.routes import (
    AboutNoteRoute,
    AttestationsRoute,
    DistTagsRoute,
    Fixed,
    FixedRoute,
    KeysRoute,
    NoRoute,
    PackumentRoute,
    ProofRoute,
    SummaryRoute,
    TarballRoute,
    VersionRoute,
    ViewRoute,
    kind_of,
    parse_path,
)
from mirrorwitness.server.traffic import Traffic
from mirrorwitness.server.views import At, View, Views
from mirrorwitness.server.watch import StorageWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.server.asgi import Exchange, Request
    from mirrorwitness.server.documents import Rendering
    from mirrorwitness.server.options import ServeOptions
    from mirrorwitness.server.routes import Route
    from mirrorwitness.storage import ObjectInfo, Storage

__all__ = ["TARBALL_MAX_AGE_SECONDS", "RegistryServer", "make_app"]

TARBALL_MAX_AGE_SECONDS: Final = 31_536_000
"""How long caches may keep a tarball: a year, the longest that HTTP knows. A version's bytes never change (P5)."""

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_FOR_EVER: Final = f"public, max-age={TARBALL_MAX_AGE_SECONDS}, immutable"
_Headers: TypeAlias = "Mapping[str, str]"


def make_app(
    *, storage: Storage, options: ServeOptions, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> App:
    """Make the ASGI application that serves a mirror.

    Args:
        storage: where the mirror lives; only read.
        options: see `ServeOptions`.
        now: the time of day, for the status page, readiness and metrics.

    Returns:
        The application, for any ASGI server on Trio.

    Raises:
        ConfigurationError: the public URL is not one.
    """
    traffic = Traffic()
    watch = StorageWatch(storage=storage, allowed=options.budget, terms=options.health, traffic=traffic, now=now)
    return App(RegistryServer(storage=storage, options=options, watch=watch).answer, traffic=traffic)


class RegistryServer:
    """Answers requests to one mirror."""

    def __init__(self, *, storage: Storage, options: ServeOptions, watch: StorageWatch) -> None:
        self._storage = storage
        self._watch = watch
        self._public_url = None if options.public_url is None else parse_public_url(options.public_url)
        self._trust_forwarded = options.trust_forwarded
        self._documents = Documents(
            storage=storage, cache_bytes=options.cache_bytes, fresh_seconds=options.fresh_seconds
        )
        self._views = Views(storage=storage, stat=self._documents.stat, cache_bytes=options.cache_bytes // 8)
        self._at = options.at
        self._cache_control = f"public, max-age={options.packument_max_age}"
        based_on = FORWARDED_HEADERS if options.trust_forwarded and self._public_url is None else ()
        self._vary = {
            Form.FULL: ", ".join(("accept", "accept-encoding", *based_on)),
            Form.VERSION: ", ".join(("accept-encoding", *based_on)),
            Form.DIST_TAGS: "accept-encoding",
        }
        self._vary[Form.ABBREVIATED] = self._vary[Form.FULL]

    def __repr__(self) -> str:
        return f"<RegistryServer {self._public_url or 'as each request names it'} {self._documents!r}>"

    async def answer(self, request: Request, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            MirrorWitnessError: the request gets an error; `mirrorwitness.server.asgi` makes a status of it.
        """
        route = parse_path(request.path)
        exchange.route = kind_of(route)
        if isinstance(route, NoRoute):
            raise RequestError(404, route.reason)
        check_method(request)
        at = At(self._at)
        if isinstance(route, ViewRoute):
            # A server that stands still at one size shows nothing newer, whatever it is asked.
            at = At(route.size if at.size is None else min(at.size, route.size), f"/-/at/{route.size}")
            route = route.route
        if isinstance(route, TarballRoute):
            await self._answer_tarball(route, at, request, exchange)
        elif isinstance(route, FixedRoute):
            await self._answer_fixed(route.answer, exchange)
        else:
            await self._answer_document(route, at, request, exchange)

    async def _answer_fixed(self, answer: Fixed, exchange: Exchange) -> None:
        headers = {"content-type": _JSON, "cache-control": "no-store"}
        match answer:
            case Fixed.PING:
                await exchange.respond(200, headers, b"{}")
            case Fixed.WHOAMI:
                body = format_error("this read-only mirror has no accounts; log in at the registry itself")
                await exchange.respond(401, headers, body)
            case Fixed.HEALTH:
                await answer_health(exchange)
            case Fixed.READY:
                await answer_ready(exchange, watch=self._watch)
            case Fixed.METRICS:
                await answer_metrics(exchange, watch=self._watch)
            case _:
                await answer_status(exchange, await self._watch.snapshot())

    async def _answer_document(self, route: Route, at: At, request: Request, exchange: Exchange) -> None:
        coding = choose_coding(request.headers.get("accept-encoding"))
        content_type, vary, kept = _JSON, self._vary[Form.DIST_TAGS], self._cache_control
        match route:
            case PackumentRoute(name) | VersionRoute(name) | DistTagsRoute(name):
                form = _choose_form(route, request)
                vary = self._vary[form]
                content_type = ABBREVIATED_TYPE if form is Form.ABBREVIATED else _JSON
                rendering = await self._render(route, name, form, at, request, coding)
            case AttestationsRoute(name, version):
                rendering = await self._copy_attestations(name, version, at, coding)
            case ProofRoute(name, file):
                content_type = _TEXT
                rendering = await self._copy_proof(name, file, at, coding)
            case KeysRoute():
                rendering = await self._documents.copy(KEYS_KEY, coding=coding)
            case AboutNoteRoute():
                content_type = _TEXT
                rendering = await self._documents.copy(NOTE_KEY, coding=coding)
            case SummaryRoute(digest):
                content_type, kept = _TEXT, _FOR_EVER
                rendering = await self._documents.copy(node_key(digest), coding=coding)
            case _:
                rendering = await self._documents.copy(MIRROR_KEY, coding=coding)
        if rendering is None:
            raise RequestError(404, describe_absent(route, at))
        headers = {"content-type": content_type, "cache-control": kept, "vary": vary}
        await _respond_rendering(rendering, headers, request, exchange)

    async def _find_view(self, name: PackageName, at: At) -> View | None:
        return None if at.size is None else await self._views.find(name, at.size)

    async def _render(  # noqa: PLR0917 - private: what one answer is made of
        self, route: Route, name: PackageName, form: Form, at: At, request: Request, coding: Coding
    ) -> Rendering | None:
        base = ""
        if form is not Form.DIST_TAGS:
            base = self._find_base(request) + at.prefix
        wanted = route.wanted if isinstance(route, VersionRoute) else ""
        view = await self._find_view(name, at)
        return await self._documents.render(name, form=form, base=base, coding=coding, wanted=wanted, view=view)

    async def _copy_proof(self, name: PackageName, file: str, at: At, coding: Coding) -> Rendering | None:
        index = await self._documents.find_index(name, await self._find_view(name, at))
        if index is None or file not in index.names:
            return None
        return await self._documents.copy(proof_key(name, file), coding=coding)

    async def _copy_attestations(self, name: PackageName, version: str, at: At, coding: Coding) -> Rendering | None:
        index = await self._documents.find_index(name, await self._find_view(name, at))
        # A version that the index does not have is nobody's: its text never becomes part of a key.
        if index is None or version not in index.files:
            return None
        return await self._documents.copy(attestations_key(name, Version(version)), coding=coding)

    def _find_base(self, request: Request) -> str:
        base = find_base(
            headers=request.headers,
            scheme=request.scheme,
            public_url=self._public_url,
            trust_forwarded=self._trust_forwarded,
        )
        if base is None:
            raise RequestError(400, "the request names no valid host, and this mirror has no public URL configured")
        return base

    async def _answer_tarball(self, route: TarballRoute, at: At, request: Request, exchange: Exchange) -> None:
        index = await self._documents.find_index(route.name, await self._find_view(route.name, at))
        if index is None or route.file not in index.names:
            raise RequestError(404, describe_absent(route, at))
        key = tarball_key(route.name, route.file)
        try:
            if request.method == "GET" and not _CONDITIONS & request.headers.keys():
                # The common case costs one call to the storage: opening tells the size.
                async with self._storage.open(key) as reader:
                    headers = _tarball_headers(reader.info)
                    await exchange.respond_stream(200, headers, reader, length=reader.info.size)
            else:
                await self._answer_tarball_part(key, request, exchange)
        except ObjectMissingError as error:
            raise DamagedObjectError(
                f"the stored object {key} is missing, though its packument names it; the mirror's operator can run: "
                "mirrorwitness audit"
            ) from error

    async def _answer_tarball_part(self, key: str, request: Request, exchange: Exchange) -> None:
        info = await self._documents.stat(key)
        if info is None:
            raise ObjectMissingError(f"no object {key!r}")
        headers = _tarball_headers(info)
        status = _judge_conditions(request, headers["etag"])
        part = _choose_part(request, headers["etag"], info.size)
        if status is not None:
            await _respond_condition(status, headers, exchange)
        elif request.method == "HEAD":
            await exchange.respond_stream(200, headers, None, length=info.size)
        elif part is WithoutRange.UNSATISFIABLE:
            message = f"the range lies outside the object, which has {info.size} bytes"
            raise RequestError(416, message, headers={"content-range": f"bytes */{info.size}"})
        elif isinstance(part, ByteRange):
            headers["content-range"] = part.format_content_range(info.size)
            async with self._storage.open(key, start=part.start, length=part.length) as reader:
                _check_same(info, reader.info)
                await exchange.respond_stream(206, headers, reader, length=part.length)
        else:
            async with self._storage.open(key) as reader:
                _check_same(info, reader.info)
                await exchange.respond_stream(200, headers, reader, length=info.size)


_CONDITIONS: Final = frozenset({"range", "if-none-match", "if-match"})


def _choose_form(route: Route, request: Request) -> Form:
    match route:
        case VersionRoute():
            return Form.VERSION
        case DistTagsRoute():
            return Form.DIST_TAGS
        case _:
            return Form.ABBREVIATED if wants_abbreviated(request.headers.get("accept")) else Form.FULL


def _choose_part(request: Request, etag: str, size: int) -> ByteRange | WithoutRange:
    header = request.headers.get("range")
    if header is None or not is_range_valid(request.headers.get("if-range"), etag):
        return WithoutRange.WHOLE
    return parse_range(header, size)


def _check_same(promised: ObjectInfo, opened: ObjectInfo) -> None:
    if promised != opened:
        raise StorageUnavailableError(f"object {promised.key!r} was replaced between two looks at it")


def _judge_conditions(request: Request, etag: str) -> int | None:
    if_match = request.headers.get("if-match")
    if if_match is not None and not is_match(if_match, etag):
        return 412
    if_none_match = request.headers.get("if-none-match")
    if if_none_match is not None and is_none_match(if_none_match, etag):
        return 304
    return None


async def _respond_rendering(rendering: Rendering, headers: _Headers, request: Request, exchange: Exchange) -> None:
    headers = {**headers, "etag": rendering.etag}
    if rendering.coding is not Coding.IDENTITY:
        headers["content-encoding"] = rendering.coding.value
    status = _judge_conditions(request, rendering.etag)
    if status is not None:
        await _respond_condition(status, headers, exchange)
    else:
        await exchange.respond(200, headers, rendering.body)


async def _respond_condition(status: int, headers: _Headers, exchange: Exchange) -> None:
    if status == 412:  # noqa: PLR2004 - a status
        raise RequestError(412, "the document is not the one that If-Match names")
    kept = {name: value for name, value in headers.items() if not name.startswith("content-")}
    await exchange.respond(status, kept)


def _tarball_headers(info: ObjectInfo) -> dict[str, str]:
    # The storage's own tag may hold any character and need not be secret; its digest is a plain one of fixed length.
    digest = hashlib.blake2b(f"{info.key}\n{info.size}\n{info.etag}".encode(), digest_size=16).hexdigest()
    return {
        "content-type": "application/octet-stream",
        "cache-control": _FOR_EVER,
        "accept-ranges": "bytes",
        "etag": f'"{digest}"',
    }
