"""Supplier: what brings single packages up to date asks for documents and bytes: a registry, or a bundle of one.

Implementations: over HTTP (`mirrorwitness.npm.registry.Registry`), and out of a bundle
(`mirrorwitness.mirror.bundlesource.BundleSource`). Whoever it is, nothing that it gives is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.registry import PackumentAnswer, TarballSink

__all__ = ["Supplier"]


class Supplier(Protocol):
    """Gives packuments, tarballs and attestations. May be used by several tasks at once."""

    base: str
    """What people call it: a URL, or the name of a bundle."""

    async def packument(
        self, name: PackageName, *, etag: str | None = None, last_modified: str | None = None
    ) -> PackumentAnswer:
        """Return the full packument, or say that it has not changed since `etag` or `last_modified`.

        Raises:
            UpstreamError: it cannot be had.
        """
        ...

    async def tarball(self, url: str, sink: TarballSink) -> int:
        """Stream what a packument says is at a URL to `sink`, and return its length in bytes.

        Raises:
            UpstreamError: it cannot be had.
        """
        ...

    async def attestations(self, name: PackageName, version: Version) -> bytes | None:
        """Return the attestations of one version, None where there are none.

        Raises:
            UpstreamError: they cannot be had.
        """
        ...
