"""Makes small mirrors in memory, as `mirrorwitness sync` leaves them behind."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from mirrorwitness.mirror.layout import STORED_BASE, packument_key, tarball_key, tarball_url
from mirrorwitness.npm.names import PackageName
from mirrorwitness.server import ServeOptions, make_app
from tests.fakes.storage import MemoryStorage
from tests.unit.server.asgi_client import AsgiClient

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["make_client", "make_document", "make_manifest", "store", "store_package"]


def make_manifest(name: str, version: str, body: bytes, *, file: str | None = None, **extra: Any) -> dict[str, Any]:
    """Return one version's document."""
    file = file or f"{name.rpartition('/')[2]}-{version}.tgz"
    digest = base64.b64encode(hashlib.sha512(body).digest()).decode()
    dist = {"tarball": tarball_url(STORED_BASE, PackageName(name), file), "integrity": f"sha512-{digest}"}
    return {"name": name, "version": version, "scripts": {"install": "make"}, "dist": dist, **extra}


def make_document(name: str, versions: Mapping[str, dict[str, Any]], **extra: Any) -> dict[str, Any]:
    """Return a packument."""
    times = {"modified": "2026-01-02T00:00:00.000Z"} | dict.fromkeys(versions, "2026-01-01T00:00:00.000Z")
    tags = {"latest": list(versions)[-1]} if versions else {}
    return {"_id": name, "name": name, "dist-tags": tags, "versions": dict(versions), "time": times, **extra}


def store(objects: dict[str, bytes], document: dict[str, Any]) -> None:
    """Store a packument among the objects."""
    objects[packument_key(PackageName(document["name"]))] = json.dumps(document).encode()


def store_package(
    objects: dict[str, bytes], name: str, bodies: Mapping[str, bytes], **extra: Any
) -> dict[str, dict[str, Any]]:
    """Store a package with its tarballs, and return its manifests."""
    versions = {version: make_manifest(name, version, body) for version, body in bodies.items()}
    for version, body in bodies.items():
        objects[tarball_key(PackageName(name), f"{name.rpartition('/')[2]}-{version}.tgz")] = body
    store(objects, make_document(name, versions, **extra))
    return versions


def make_client(
    objects: dict[str, bytes] | MemoryStorage, *, host: str | None = "mirror.example", **options: Any
) -> AsgiClient:
    """Return a client of a server over these objects."""
    storage = objects if isinstance(objects, MemoryStorage) else MemoryStorage(objects)
    return AsgiClient(make_app(storage=storage, options=ServeOptions(**options)), host=host)
