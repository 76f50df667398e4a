"""Whether two addresses name two storages, and not one, or one within the other.

Rules:

- Directories are compared as the disk knows them: links, mounts and other spellings of a path count as what they are.
- Of buckets the name, the service's URL and the prefix are compared.

Known hole: one service under two names (of hosts, of profiles) looks like two. Copying from the one to the other finds
everything there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage.address import LocalAddress, S3Address, parse_address
from mirrorwitness.storage.local_names import MARKER_NAME

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_apart", "is_begun"]


def check_apart(source: str, target: str) -> None:
    """Check that two addresses name storages that have nothing in common.

    Raises:
        ConfigurationError: they do not, or one of them is no address.
    """
    one, other = parse_address(source), parse_address(target)
    if isinstance(one, LocalAddress) and isinstance(other, LocalAddress):
        is_around, is_inside = _is_around(one.root, other.root), _is_around(other.root, one.root)
    elif isinstance(one, S3Address) and isinstance(other, S3Address) and _service(one) == _service(other):
        is_around, is_inside = other.prefix.startswith(one.prefix), one.prefix.startswith(other.prefix)
    else:
        return
    if is_around and is_inside:
        raise ConfigurationError(f"{source} and {target} are one storage; expected two")
    if is_around:
        raise ConfigurationError(f"{target} lies inside {source}; expected two storages beside each other")
    if is_inside:
        raise ConfigurationError(f"{source} lies inside {target}; expected two storages beside each other")


def is_begun(address: str) -> bool:
    """Tell whether a directory is a storage already; of a bucket nobody knows before it is asked, so True.

    Raises:
        ConfigurationError: it is no address.
    """
    parsed = parse_address(address)
    return not isinstance(parsed, LocalAddress) or (parsed.root / MARKER_NAME).exists()


def _is_around(outer: Path, inner: Path) -> bool:
    """Tell whether a directory is another one, or around it; the inner one need not be there yet."""
    path = inner.resolve()
    if outer.resolve() in (path, *path.parents):
        return True
    return outer.exists() and any(outer.samefile(each) for each in (path, *path.parents) if each.exists())


def _service(address: S3Address) -> tuple[str | None, str]:
    return address.endpoint, address.bucket
