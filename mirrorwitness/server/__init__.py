"""Serving a mirror over HTTP: an ASGI application over a storage, which never writes and keeps no state but caches."""

from mirrorwitness.server.options import ServeOptions
from mirrorwitness.server.registry import make_app

__all__ = ["ServeOptions", "make_app"]
