"""Components of keys made of names that may be too long, or begin with a dot, for a storage. Pure.

Such a name is replaced by its SHA-256, so any name has a key. No package name has an equals sign, so none is taken.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from mirrorwitness.storage import MAX_COMPONENT_BYTES

__all__ = ["component_of", "component_path", "escape_version"]


def component_of(text: str) -> str:
    """Return the component of a key for a text without a slash."""
    if text.startswith(".") or len(text.encode("utf-8", "surrogatepass")) > MAX_COMPONENT_BYTES:
        return f"sha256={hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return text


def component_path(text: str) -> str:
    """Return a text as a part of a key, each of its components by itself: a scoped name keeps its slash."""
    return "/".join(component_of(part) for part in text.split("/"))


def escape_version(version: str) -> str:
    """Return a version, which may be any text, without what no component can have."""
    return quote(version, safe="+~!()*@", errors="surrogatepass")
