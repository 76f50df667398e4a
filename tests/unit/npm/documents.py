"""Documents for tests: made here, with a host that never exists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import Packument, parse_packument, render_full

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = PackageName("pkg")


def manifest(version: str, **extra: Any) -> dict[str, Any]:
    dist = {
        "integrity": f"sha512-of-{version}",
        "shasum": f"sha1-of-{version}",
        "tarball": f"https://registry.example/pkg/-/pkg-{version}.tgz",
        **extra.pop("dist", {}),
    }
    return {"name": "pkg", "version": version, "dist": dist, **extra}


def document(*versions: str | dict[str, Any], **extra: Any) -> dict[str, Any]:
    manifests = [manifest(entry) if isinstance(entry, str) else entry for entry in versions]
    keys = [entry["version"] for entry in manifests]
    return {
        "_id": "pkg",
        "_rev": "12-abc",
        "name": "pkg",
        "dist-tags": {"latest": keys[-1]} if keys else {},
        "versions": dict(zip(keys, manifests, strict=True)),
        "time": {"created": "2020-01-01T00:00:00.000Z", "modified": "2021-01-01T00:00:00.000Z"},
        **extra,
    }


def encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def parse(value: object) -> Packument:
    return parse_packument(value if isinstance(value, bytes) else encode(value), name=NAME)


def new_url(version: Version) -> str:
    return f"https://mirror.example/pkg/-/pkg-{version}.tgz"


def render(packument: Packument, versions: Iterable[str]) -> Any:
    wanted = [Version(version) for version in versions]
    return json.loads(render_full(packument, versions=wanted, tarball_url=new_url))
