"""RegistrySimulator: an npm registry of our own on loopback, honest by default and hostile on demand.

    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0", files={"index.js": b"..."}, signer=Signer())
    sim.fail("left-pad", Fault.status(503, retry_after="1"), times=2)
    async with serve(sim) as base_url:
        ...

It speaks the dialect of research/B 2: full and abbreviated packuments with ETag, Last-Modified, 304 and gzip, single
versions, tarballs, keys, attestations, all encodings of scoped names. `requests` lists what clients asked.
As a process: ``python -m tests.fakes.registry --demo 100 --versions 3 --port 0`` prints ``listening on http://...``.

What it does not do: publish over HTTP, search, the change feed.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import sys
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import trio

from tests.fakes.registry_build import Signer, etag_of, integrity_of, make_tarball, shasum_of
from tests.fakes.registry_demo import add_demo, demo_names, demo_version, load_recorded
from tests.fakes.registry_packages import FIRST_TIME, Package, file_of, iso
from tests.fakes.registry_server import Fault, RecordedRequest, Reply, json_reply, serve_connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

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


class RegistrySimulator:
    """The state of the simulated registry, and its answers.

    Attributes:
        requests: every request so far, in order (unless `record` is off).
        keys: the keys listed at ``/-/npm/v1/keys``; None: the endpoint answers 404.
        attestations: documents by ``name@version``.
        token: a bearer token that every request must carry; None: anybody may read.
        latency: seconds before each answer.
        base: where it listens; set by `serve`, and part of every ``dist.tarball``.
    """

    def __init__(self, *, prefix: str = "", record: bool = True, latency: float = 0.0) -> None:
        self.prefix = prefix
        self.base = "http://registry.example" + prefix
        self.requests: list[RecordedRequest] = []
        self.keys: list[dict[str, str | None]] | None = None
        self.attestations: dict[str, bytes] = {}
        self.token: str | None = None
        self.latency = latency
        self._record = record
        self._packages: dict[str, Package] = {}
        self._faults: dict[str, list[tuple[Fault, int | None]]] = {}
        self._ready: dict[tuple[str, str | None, str | None], bytes] = {}
        self._now = FIRST_TIME

    def __repr__(self) -> str:
        return f"<RegistrySimulator {self.base}, {len(self._packages)} packages, {len(self.requests)} requests>"

    def publish(
        self,
        name: str,
        version: str,
        *,
        files: Mapping[str, bytes] | None = None,
        signer: Signer | None = None,
        tag: str | None = "latest",
        published: str | None = None,
        data: bytes | None = None,
        file: str | None = None,
        dist: Mapping[str, Any] | None = None,
        **manifest: Any,
    ) -> bytes:
        """Publish a version and return its tarball.

        Args:
            name: the package.
            version: the version.
            files: what the tarball holds besides package.json.
            signer: signs ``name@version:integrity``; its key is added to `keys`.
            tag: the dist-tag to move to this version.
            published: the time of publication, ISO 8601.
            data: the tarball itself, instead of `files`.
            file: the tarball's file name; npm's own where None.
            dist: fields to put into ``dist``; a value of None removes the field.
            manifest: more fields of the manifest.
        """
        content = {"index.js": f"module.exports = '{name}@{version}'\n".encode()} if files is None else files
        tarball = make_tarball(content, name=name, version=version) if data is None else data
        file = file or f"{name.rpartition('/')[2]}-{version}.tgz"
        now = self._tick()
        package = self._packages.setdefault(name, Package(name))
        document = package.open(self._now)
        described = self._describe_dist(name, version, tarball, file, signer)
        described.update(dist or {})
        package.tarballs[file] = tarball
        package.touch(now)
        document["versions"][version] = {
            "name": name,
            "version": version,
            "description": f"test package {name}",
            "main": "index.js",
            "license": "MIT",
            "_id": f"{name}@{version}",
            **manifest,
            "dist": {key: value for key, value in described.items() if value is not None},
        }
        document["time"][version] = published or iso(now)
        if tag is not None:
            document["dist-tags"][tag] = version
        return tarball

    def unpublish(self, name: str, version: str | None = None) -> None:
        """Remove one version and its tarball, or the whole package, which leaves a stub with ``time.unpublished``."""
        package = self._packages[name]
        document = package.open(self._now)
        package.touch(self._tick())
        if version is not None:
            package.tarballs.pop(file_of(document["versions"].pop(version)), None)
            tags = document["dist-tags"]
            for tag in [tag for tag, target in tags.items() if target == version]:
                del tags[tag]
            if document["versions"] and "latest" not in tags:
                tags["latest"] = list(document["versions"])[-1]
            return
        gone = {"name": name, "time": iso(self._now), "versions": list(document["versions"])}
        for key in ("versions", "dist-tags"):
            del document[key]
        document["time"]["unpublished"] = gone
        package.tarballs.clear()

    def replace_bytes(self, name: str, version: str, data: bytes) -> None:
        """Serve other bytes for a version; the packument and its integrity stay (an attack)."""
        package = self._packages[name]
        package.tarballs[file_of(package.open(self._now)["versions"][version])] = data
        self._ready.clear()

    def republish(self, name: str, version: str, files: Mapping[str, bytes], *, signer: Signer | None = None) -> bytes:
        """Give a version other bytes and another integrity (an equivocation)."""
        package = self._packages[name]
        document = package.open(self._now)
        file = file_of(document["versions"][version])
        tarball = make_tarball(files, name=name, version=version)
        package.touch(self._tick())
        package.tarballs[file] = tarball
        document["versions"][version]["dist"] = self._describe_dist(name, version, tarball, file, signer)
        return tarball

    def set_tag(self, name: str, tag: str, version: str) -> None:
        """Move a dist-tag; nothing else changes but the revision."""
        package = self._packages[name]
        package.touch(self._tick())
        package.open(self._now)["dist-tags"][tag] = version

    def edit_packument(self, name: str) -> dict[str, Any]:
        """Count a change and return the live document, for the caller to change .

        In it ``{base}`` stands for the base URL.
        """
        package = self._packages[name]
        package.touch(self._tick())
        return package.open(self._now)

    def set_packument(self, name: str, raw: bytes) -> None:
        """Serve exactly these bytes as the packument, in whatever form was asked for."""
        package = self._packages.setdefault(name, Package(name))
        package.touch(self._tick())
        package.raw = raw

    def set_tarball(self, name: str, file: str, data: bytes) -> None:
        """Serve a file below ``/<name>/-/``."""
        self._packages.setdefault(name, Package(name)).tarballs[file] = data
        self._ready.clear()

    def remove(self, name: str) -> None:
        """Forget a package: its packument and tarballs answer 404."""
        self._tick()
        del self._packages[name]

    def packument(self, name: str) -> dict[str, Any]:
        """Return the full packument as it is served now."""
        parsed: dict[str, Any] = json.loads(self._packages[name].render(base=self.base, back=0, short=False))
        return parsed

    def tarball(self, name: str, version: str) -> bytes:
        """Return the bytes that are served for a version."""
        package = self._packages[name]
        return package.tarballs[file_of(package.open(self._now)["versions"][version])]

    @property
    def names(self) -> list[str]:
        """The packages, in order of their first publication."""
        return list(self._packages)

    def fail(self, where: str, fault: Fault, times: int | None = 1) -> None:
        """Misbehave at a path (``/...``, decoded, no prefix) or a package's packument, `times` times (None: always).

        Faults for the same place happen one after another, in the order they were planned.
        """
        path = where if where.startswith("/") else f"/{where}"
        self._faults.setdefault(path, []).append((fault, times))
        self._ready.clear()

    def heal(self) -> None:
        """Forget all planned faults."""
        self._faults.clear()

    def answer(self, request: RecordedRequest) -> bytes | Reply:
        """Return the reply to a request."""
        if self._record:
            self.requests.append(request)
        headers = request.headers
        plain = request.method == "GET" and "if-none-match" not in headers and "if-modified-since" not in headers
        key = (request.target, headers.get("accept"), headers.get("accept-encoding"))
        if plain and not self._faults and self.token is None and (ready := self._ready.get(key)) is not None:
            return ready
        path = unquote(request.target.partition("?")[0]).removeprefix(self.prefix)
        fault = self._next_fault(path)
        reply = self._answer(request, path, back=fault.revisions_back if fault else 0)
        if fault is not None:
            return fault.spoil(reply)
        # Endpoints are not kept ready: a test may change `keys` and `attestations` as it likes.
        plain = plain and not path.startswith("/-/")
        if plain and self.token is None and reply.status == 200 and len(self._ready) < _MAX_READY:
            self._ready[key] = reply.render(head_only=False)
        return reply

    def _answer(self, request: RecordedRequest, path: str, *, back: int) -> Reply:  # noqa: PLR0911 - a routing table
        if request.method not in {"GET", "HEAD"}:
            return json_reply(405, {"error": "method not allowed"})
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return json_reply(401, {"error": "authentication required"})
        if path.startswith("/-/"):
            return self._answer_endpoint(path)
        name, _, rest = _split_name(path)
        package = self._packages.get(name)
        if package is None or (package.document is None and package.raw is None and not rest):
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

    def _tick(self) -> datetime:
        self._ready.clear()
        self._now += timedelta(minutes=1)
        return self._now

    def _next_fault(self, path: str) -> Fault | None:
        planned = self._faults.get(path)
        if not planned:
            return None
        fault, times = planned[0]
        if times is not None:
            planned[0] = (fault, times - 1)
            if times <= 1:
                del planned[0]
        if not planned:
            del self._faults[path]
        return fault

    def _describe_dist(
        self, name: str, version: str, tarball: bytes, file: str, signer: Signer | None
    ) -> dict[str, Any]:
        integrity = integrity_of(tarball)
        described: dict[str, Any] = {
            "integrity": integrity,
            "shasum": shasum_of(tarball),
            "tarball": f"{{base}}/{name}/-/{file}",
            "fileCount": 2,
            "unpackedSize": len(tarball) * 2,
        }
        if signer is not None:
            described["signatures"] = [signer.sign(name, version, integrity)]
            if self.keys is None:
                self.keys = []
            if signer.key() not in self.keys:
                self.keys.append(signer.key())
        return described


@asynccontextmanager
async def serve(sim: RegistrySimulator, *, port: int = 0) -> AsyncGenerator[str, None]:
    """Let a simulator listen on loopback for the length of a block; gives its base URL (with prefix, no slash)."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    handler = functools.partial(serve_connection, sim)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        sim.base = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}{sim.prefix}"
        sim._ready.clear()
        await nursery.start(functools.partial(trio.serve_listeners, handler, listeners))
        try:
            yield sim.base
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group round it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


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
