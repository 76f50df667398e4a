"""Probes of names: which keys a storage keeps apart, and in which order it lists them.

The shapes are those that npm names and versions lead to (`mirrorwitness.mirror.layout`), and a few that our layout
avoids because servers differ on them; the table in `mirrorwitness.storage.probe_verdict` says which is which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import IntegrityMismatchError, StorageError
from mirrorwitness.storage import MAX_COMPONENT_BYTES
from mirrorwitness.storage.probe_scratch import brief
from mirrorwitness.storage.probe_verdict import Capability, Observation, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.storage.probe_scratch import Scratch

__all__ = ["LISTED", "SHAPES", "probe_key_shape", "probe_listing"]

SHAPES: Final[Mapping[Capability, tuple[str, ...]]] = {
    Capability.KEY_SCOPED: ("@scope/name/packument.json", "@scope/name/-/name-1.0.0.tgz"),
    Capability.KEY_CASE: ("Buffer/packument.json", "buffer/packument.json"),
    Capability.KEY_LONG: ("l" * MAX_COMPONENT_BYTES,),
    Capability.KEY_PUNCTUATION: ("a+b", "~t", "a!b", "a(b)", "a*b", "a'b", "sha256=ab", "_a", "a%25b"),
    Capability.KEY_SPACE: ("a b",),
    Capability.KEY_UNICODE: ("grün", "日本"),
    Capability.KEY_NESTED: ("nested", "nested/-/nested-1.0.0.tgz"),
}

LISTED: Final = ("A1", "B", "a-b", "a.b", "a/b", "a/c", "a0", "b", "b+", "b~")
"""Names in the order of their bytes: a walk through directories or a dictionary's order gives another one."""

_PAGE: Final = 3
_INSIDE: Final = "a"
"""The prefix that ends inside a component; five of `LISTED` begin with it."""


async def probe_key_shape(scratch: Scratch, capability: Capability) -> Observation:
    """Put all names of one shape with bytes of their own, then read all of them."""
    keys = {name: scratch.key(f"{capability}/{name}") for name in SHAPES[capability]}
    wrong: dict[str, str] = {}
    for name, key in keys.items():
        try:
            await scratch.storage.put(key, key.encode())
        except (StorageError, IntegrityMismatchError) as error:
            wrong[name] = f"not stored ({brief(error)})"
    for name, key in keys.items():
        if name not in wrong:
            try:
                found = await scratch.read(key)
            except (StorageError, IntegrityMismatchError) as error:
                wrong[name] = f"stored, then not read ({brief(error)})"
            else:
                if found != key.encode():
                    wrong[name] = "has the bytes of another key"
    if wrong:
        seen = "; ".join(f"{name[:40]}: {reason}" for name, reason in wrong.items())
        return Observation(capability, Outcome.BROKEN, seen)
    return Observation(capability, Outcome.HOLDS, f"{len(keys)} kept" if len(keys) > 1 else "kept")


async def probe_listing(scratch: Scratch, capability: Capability) -> Observation:
    """List in one go, in pages, or by a prefix, and compare with what was put (put again by each: the order varies)."""
    prefix = f"{scratch.prefix}{capability}/"
    # Put in an order that is neither ours nor its reverse.
    for name in (*LISTED[1::2], *LISTED[::2]):
        await scratch.storage.put(scratch.key(f"{capability}/{name}"), b"listed")
    if capability is Capability.LIST_PREFIX:
        found = await _names(scratch, prefix, inside=_INSIDE)
        wanted = [name for name in LISTED if name.startswith(_INSIDE)]
        is_right = sorted(found) == sorted(wanted)
    elif capability is Capability.LIST_PAGING:
        found = await _names(scratch, prefix, limit=_PAGE)
        wanted = list(LISTED)
        is_right = sorted(found) == sorted(wanted)
    else:
        found = await _names(scratch, prefix)
        wanted = [name for name in LISTED if name in found]
        is_right = found == wanted
    if is_right:
        return Observation(capability, Outcome.HOLDS, f"{len(found)} keys as expected")
    return Observation(capability, Outcome.BROKEN, f"expected {' '.join(wanted)}; found {' '.join(found) or 'nothing'}")


async def _names(scratch: Scratch, prefix: str, *, inside: str = "", limit: int = 1000) -> list[str]:
    found: list[str] = []
    after = ""
    # Twice the pages that are needed: a server that never ends is cut off, and reported.
    for _ in range(2 * len(LISTED)):
        page = await scratch.storage.list(prefix + inside, after=after, limit=limit)
        found += [each.key.removeprefix(prefix) for each in page.objects]
        if page.more_after is None:
            break
        after = page.more_after
    return found
