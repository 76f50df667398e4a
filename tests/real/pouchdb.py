"""A real database as upstream: express-pouchdb behind our thin front, started on free loopback ports and stopped again.

    with open_pouchdb() as upstream:
        upstream.publish("left-pad", "1.0.0")
        upstream.feed_base, upstream.registry_base  # what a follower is told

The database's sequences, rows and revisions are its own; `scripts/real/feed/front.js` says which requests it takes.
Documents are made by the same rules as the simulator's (`tests.fakes.registry_packages`), times included, and written
as a client of CouchDB does: read, change, put with the revision that was read; tarballs are attachments.

Each method is one request that changes something, so one revision and one sequence; none may be called concurrently.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tests.fakes.registry_build import default_files, file_name, make_dist, make_tarball
from tests.fakes.registry_packages import FIRST_TIME, HOLDER_VERSION, Package, file_of, iso, make_manifest
from tests.real.servers import CACHE, NotInstalledError, free_ports, run_process, wait_for_http

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PouchUpstream", "open_pouchdb"]

_FRONT: Final = Path(__file__).resolve().parents[2] / "scripts" / "real" / "feed" / "front.js"
_MODULES: Final = CACHE / "feed" / "node_modules"
_SECONDS: Final = 30
_STORED: Final = b""
"""Stands for the bytes of a tarball that the database has already; no tarball is empty."""


class PouchUpstream:
    """A running database with front; an `Upstream` of `tests.fakes.feed_history`.

    Attributes:
        feed_base: URL of the feed, without a slash at the end.
        registry_base: URL of the registry, the same.
        pid: the process, for tests that stop it.
    """

    def __init__(self, *, database: str, feed: str, registry: str, pid: int) -> None:
        self.feed_base = feed
        self.registry_base = registry
        self.pid = pid
        self._database = database
        self._now = FIRST_TIME

    def __repr__(self) -> str:
        return f"<PouchUpstream {self.feed_base}, {self.registry_base}>"

    def publish(self, name: str, version: str, *, tag: str | None = "latest") -> bytes:
        """Publish a version, also of a package that was unpublished or deleted; return its tarball."""
        tarball = make_tarball(default_files(name, version), name=name, version=version)
        with self._change(name, make=True) as package:
            package.revive()
            document = package.open(self._now)
            document["versions"][version] = self._manifest(name, version, tarball)
            document["time"][version] = iso(self._now)
            if tag is not None:
                document["dist-tags"][tag] = version
            package.tarballs[file_name(name, version)] = tarball
        return tarball

    def unpublish(self, name: str, version: str | None = None) -> None:
        """Remove one version and its attachment, or all of them, which leaves a stub."""
        with self._change(name) as package:
            if version is None:
                package.unpublish_all(self._now)
            else:
                package.unpublish_version(version)

    def remove(self, name: str) -> None:
        """Delete the document."""
        self._now += timedelta(minutes=1)
        rev = self.packument(name)["_rev"]
        self._ask("DELETE", f"{self._url(name)}?rev={rev}")

    def set_tag(self, name: str, tag: str, version: str) -> None:
        """Move a dist-tag."""
        with self._change(name) as package:
            package.open(self._now)["dist-tags"][tag] = version

    def deprecate(self, name: str, version: str | None = None, message: str = "do not use") -> None:
        """Deprecate one version, or all; an empty message takes it back."""
        with self._change(name) as package:
            versions = package.open(self._now)["versions"]
            for each in versions if version is None else [version]:
                versions[each]["deprecated"] = message

    def replace_by_holder(self, name: str) -> None:
        """Take the package away for security."""
        tarball = make_tarball({}, name=name, version=HOLDER_VERSION)
        with self._change(name) as package:
            manifest = self._manifest(name, HOLDER_VERSION, tarball, _npmUser={"name": "npm"})
            package.become_holder(self._now, manifest)
            package.tarballs = {file_name(name, HOLDER_VERSION): tarball}

    def reset(self) -> None:
        """Begin with an empty database, at sequence 0: another one answers in the old one's place."""
        self._now = FIRST_TIME
        for method in ("DELETE", "PUT"):
            self._ask(method, f"{self._database}/registry")

    def packument(self, name: str) -> dict[str, Any]:
        """Return the document as the registry serves it; KeyError where there is none."""
        status, value = self._ask("GET", f"{self.registry_base}/{quote(name, safe='@')}")
        if status == 404:
            raise KeyError(name)
        found: dict[str, Any] = value
        return found

    def tarball(self, name: str, version: str) -> bytes:
        """Return the bytes that the registry serves for a version."""
        url = f"{self.registry_base}/{name}/-/{file_of(self.packument(name)['versions'][version])}"
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            data: bytes = response.read()
        return data

    @contextlib.contextmanager
    def _change(self, name: str, *, make: bool = False) -> Iterator[Package]:
        """Give the package to be changed, and put what the block leaves of it."""
        status, document = self._ask("GET", self._url(name))
        if status == 404 and not make:
            raise KeyError(name)
        package, rev, stubs = Package(name), None, {}
        if status == 200:
            rev, stubs = document.pop("_rev"), document.pop("_attachments", {})
            package.document = document
            package.tarballs = dict.fromkeys(stubs, _STORED)
        self._now += timedelta(minutes=1)
        yield package
        changed = package.open(self._now)
        changed["time"]["modified"] = iso(self._now)
        body = {key: value for key, value in changed.items() if key != "_rev"}
        if rev is not None:
            body["_rev"] = rev
        body["_attachments"] = {
            file: stubs[file] if data is _STORED else _attachment(data) for file, data in package.tarballs.items()
        }
        status, answer = self._ask("PUT", self._url(name), body)
        if status != 201:
            raise RuntimeError(f"{name}: the database answers {status} {answer} to a put with revision {rev}")

    def _manifest(self, name: str, version: str, tarball: bytes, **fields: Any) -> dict[str, Any]:
        url = f"{self.registry_base}/{name}/-/{file_name(name, version)}"
        return make_manifest(name, version, make_dist(tarball, url), **fields)

    def _url(self, name: str) -> str:
        return f"{self._database}/registry/{quote(name, safe='')}"

    @staticmethod
    def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"accept": "application/json", "content-type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@contextlib.contextmanager
def open_pouchdb() -> Iterator[PouchUpstream]:
    """Run an empty database with its front until the block ends.

    Raises:
        NotInstalledError: `scripts/real/install-clients feed` was not run.
    """
    if not (CACHE / "feed" / "installed.json").exists():
        raise NotInstalledError("express-pouchdb is not installed; run scripts/real/install-clients feed")
    ports = free_ports(3)
    database, feed, registry = (f"http://127.0.0.1:{port}" for port in ports)
    path = f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="mw-pouchdb-", ignore_cleanup_errors=True) as directory:
        command = ["node", str(_FRONT), *map(str, ports)]
        environment = {"NODE_PATH": str(_MODULES), "PATH": path}
        with run_process(command, directory=Path(directory), environment=environment) as process:
            wait_for_http(process, f"{feed}/")
            yield PouchUpstream(database=database, feed=feed, registry=registry, pid=process.pid)


def _attachment(data: bytes) -> dict[str, str]:
    return {"content_type": "application/octet-stream", "data": base64.b64encode(data).decode()}
