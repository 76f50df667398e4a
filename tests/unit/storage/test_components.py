"""Components of keys: any name has one, and two names never have the same."""

from __future__ import annotations

import hashlib

import pytest

from mirrorwitness.storage import check_key
from mirrorwitness.storage.components import component_of, component_path, escape_version


@pytest.mark.parametrize("text", ["left-pad", "Buffer", "@scope", "a" * 255, "1.0.0+build"])
def test_what_fits_is_kept(text: str) -> None:
    """Names keep their letters, so that static file servers find them."""
    assert component_of(text) == text


@pytest.mark.parametrize("text", [".hidden", "..", "a" * 256, "é" * 128, "\ud800" * 90])
def test_what_no_storage_has_is_replaced_by_its_digest(text: str) -> None:
    """Too long in bytes, beginning with a dot, or no text at all."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    assert component_of(text) == check_key(f"sha256={digest}")


def test_each_component_of_a_path_stands_for_itself() -> None:
    """A scoped name keeps its slash."""
    assert component_path("@scope/name") == "@scope/name"
    assert component_path(f"@scope/{'a' * 256}") == f"@scope/{component_of('a' * 256)}"


def test_a_version_may_be_any_text() -> None:
    """Slashes and spaces are escaped, what versions have is not."""
    assert escape_version("1.0.0-beta+x~1") == "1.0.0-beta+x~1"
    assert escape_version("a/b c\ud800") == "a%2Fb%20c%ED%A0%80"
