"""RegistrySimulator: an npm registry of our own on loopback, honest by default and hostile on demand.

    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0", files={"index.js": b"..."}, signer=Signer())
    sim.fail("left-pad", Fault.status(503, retry_after="1"), times=2)
    async with serve(sim) as base_url:
        ...

It speaks the dialect of research/B 2: full and abbreviated packuments with ETag, Last-Modified, 304 and gzip, single
versions, tarballs, keys, attestations, all encodings of scoped names. `requests` lists what clients asked.
As a process: ``python -m tests.fakes.registry --demo 100 --versions 3 --port 0`` prints ``listening on http://...``.

What it does not do: publish over HTTP, search; the change feed is `tests.fakes.feed`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import trio

from tests.fakes.registry_build import Signer, etag_of
from tests.fakes.registry_demo import add_demo, demo_names, demo_version, load_recorded
from tests.fakes.registry_packages import Hold, Package
from tests.fakes.registry_server import Fault, FaultPlan, RecordedRequest, Reply, json_reply
from tests.fakes.registry_state import RegistryState
from tests.fakes.serving import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Fault",
    "RecordedRequest",
    "RegistrySimulator",
    "Reply",
    "Signer",
    "add_demo",
    "demo_names",
    "demo_version",
    "load_recorded",
    "serve",
]

_INSTALL_TYPE: Final = "application/vnd.npm.install-v1+json"
_MAX_READY: Final = 50_000


class RegistrySimulator(RegistryState):
    """The state of the simulated registry, and its answers.

    Attributes:
        requests: every request so far, in order (unless `record` is off).
        keys: the keys listed at ``/-/npm/v1/keys``; None: the endpoint answers 404.
        attestations: documents by ``name@version``.
        token: a bearer token that every request must carry; None: anybody may read.
        latency: seconds before each answer.
        watchers: called at each change with name, new revision, and whether the document was deleted.
    """

    def __init__(self, *, prefix: str = "", record: bool = True, latency: float = 0.0) -> None:
        super().__init__("http://registry.example" + prefix)
        self.prefix = prefix
        self.requests: list[RecordedRequest] = []
        self.attestations: dict[str, bytes] = {}
        self.token: str | None = None
        self.latency = latency
        self._record = record
        self._held: dict[str, Hold] = {}
        self._faults = FaultPlan()

    def __repr__(self) -> str:
        return f"<RegistrySimulator {self.base}, {len(self._packages)} packages, {len(self.requests)} requests>"

    def fail(self, where: str, fault: Fault, times: int | None = 1) -> None:
        """Misbehave at a path (``/...``, decoded, no prefix) or a package's packument, `times` times (None: always).

        Faults for the same place happen one after another, in the order they were planned.
        """
        self._faults.add(where if where.startswith("/") else f"/{where}", fault, times)
        self._ready.clear()

    def heal(self) -> None:
        """Forget all planned faults and held packuments."""
        self._faults.clear()
        self._held.clear()

    def hold_packument(self, name: str, *, answers: int | None = None, until: float | None = None) -> None:
        """Go on serving the packument as it is now, whatever happens to it: the feed is ahead of the registry.

        Args:
            name: the package; where it does not exist, 404 is what is held.
            answers: how many more answers show it so; None: not counted.
            until: up to when, by trio's clock; None: until `release_packument`, or the end of `answers`.
        """
        package = self._packages.get(name)
        self._held[name] = Hold(package and package.copy(), answers, until)
        self._ready.clear()

    def release_packument(self, name: str) -> None:
        """Serve a held packument as it is."""
        self._held.pop(name, None)

    def serve_older(self, name: str, *, revisions: int = 1, answers: int | None = 1) -> None:
        """Answer with the packument as it was some changes ago, that often: an older CDN edge, time goes backwards."""
        self.fail(name, Fault.stale(revisions), times=answers)

    def answer(self, request: RecordedRequest) -> bytes | Reply:
        """Return the reply to a request."""
        if self._record:
            self.requests.append(request)
        headers = request.headers
        plain = request.method == "GET" and "if-none-match" not in headers and "if-modified-since" not in headers
        key = (request.target, headers.get("accept"), headers.get("accept-encoding"))
        is_honest = not (self._faults or self._held) and self.token is None
        if plain and is_honest and (ready := self._ready.get(key)) is not None:
            return ready
        path = unquote(request.target.partition("?")[0]).removeprefix(self.prefix)
        fault = self._faults.next(path)
        reply = self._answer(request, path, back=fault.revisions_back if fault else 0)
        if fault is not None:
            return fault.spoil(reply)
        # Endpoints are not kept ready: a test may change `keys` and `attestations` as it likes.
        plain = plain and not path.startswith("/-/") and not self._held
        if plain and self.token is None and reply.status == 200 and len(self._ready) < _MAX_READY:
            self._ready[key] = reply.render(head_only=False)
        return reply

    def _answer(self, request: RecordedRequest, path: str, *, back: int) -> Reply:  # noqa: PLR0911 - a routing table
        if request.method not in {"GET", "HEAD"}:
            return json_reply(405, {"error": "method not allowed"})
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return json_reply(401, {"error": "authentication required"})
        if path.startswith("/-/") and not path.startswith("/-/-/"):  # a package is named "-"
            return self._answer_endpoint(path)
        name, _, rest = _split_name(path)
        package = self._packages.get(name) or (self._buried.get(name) if back else None)
        if not rest:
            package = self._take_held(name, package)
        is_there = package is not None and (package.document is not None or package.raw is not None)
        if package is None or not (is_there or rest or (back and package.history)):
            return json_reply(404, {"error": "Not found"})
        if rest.startswith("-/"):
            return self._answer_tarball(package, rest.removeprefix("-/"))
        if rest:
            return self._answer_version(package, rest)
        return self._answer_packument(package, request.headers, back=back)

    def _answer_endpoint(self, path: str) -> Reply:
        if path == "/-/ping":
            return json_reply(200, {})
        if path == "/-/demo/names":
            return json_reply(200, self.names)
        if path == "/-/npm/v1/keys" and self.keys is not None:
            return json_reply(200, {"keys": self.keys})
        found = self.attestations.get(path.removeprefix("/-/npm/v1/attestations/"))
        if found is not None:
            return Reply(200, (("content-type", "application/json"),), found)
        return json_reply(404, {"error": "Not found"})

    def _answer_tarball(self, package: Package, file: str) -> Reply:
        data = package.tarballs.get(file)
        if data is None:
            return json_reply(404, {"error": "Not found"})
        return Reply(200, (("content-type", "application/octet-stream"), ("etag", etag_of(data))), data)

    def _answer_version(self, package: Package, wanted: str) -> Reply:
        document = json.loads(package.render(base=self.base, back=0, short=False))
        version = document.get("dist-tags", {}).get(wanted, wanted)
        manifest = document.get("versions", {}).get(version)
        return json_reply(404, f"version not found: {wanted}") if manifest is None else json_reply(200, manifest)

    def _answer_packument(self, package: Package, headers: Mapping[str, str], *, back: int) -> Reply:
        accept = headers.get("accept", "*/*")
        short = _INSTALL_TYPE in accept or "*/*" in accept
        body = package.render(base=self.base, back=back, short=short)
        stamp = format_datetime(package.modified, usegmt=True)
        fields = [
            ("content-type", _INSTALL_TYPE if short else "application/json"),
            ("etag", etag_of(body)),
            ("last-modified", stamp),
            ("cache-control", "public, max-age=300"),
            ("vary", "accept-encoding, accept"),
        ]
        asked = headers.get("if-none-match")
        if asked == etag_of(body) or (asked is None and headers.get("if-modified-since") == stamp):
            return Reply(304, tuple(fields[1:]))
        if "gzip" in headers.get("accept-encoding", ""):
            fields.append(("content-encoding", "gzip"))
            body = gzip.compress(body, compresslevel=6, mtime=0)
        return Reply(200, tuple(fields), body)

    def _take_held(self, name: str, package: Package | None) -> Package | None:
        """Return what an edge has for a package, and count the answer."""
        hold = self._held.get(name)
        if hold is None:
            return package
        if hold.answers == 0 or (hold.until is not None and trio.current_time() >= hold.until):
            del self._held[name]
            return package
        if hold.answers is not None:
            hold.answers -= 1
        return hold.package


def _split_name(path: str) -> tuple[str, str, str]:
    parts = path.lstrip("/").split("/")
    count = 2 if parts[0].startswith("@") else 1
    return "/".join(parts[:count]), "/", "/".join(parts[count:])


async def _main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.fakes.registry", description="A registry simulator on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--demo", type=int, default=0, metavar="PACKAGES")
    parser.add_argument("--versions", type=int, default=1)
    parser.add_argument("--tarball-size", type=int, default=15_000, metavar="BYTES")
    parser.add_argument("--unsigned", action="store_true")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args(arguments)
    sim = RegistrySimulator(record=False, latency=options.latency_ms / 1000)
    signer = None if options.unsigned else Signer()
    add_demo(sim, options.demo, options.versions, tarball_size=options.tarball_size, signer=signer)
    if options.data is not None:
        load_recorded(sim, options.data)
    async with serve(sim, port=options.port) as base:
        print(f"listening on {base}", flush=True)  # noqa: T201 - the contract of a server process
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1:])
