"""Probes that one writer makes: what comes back, what a condition does, what a deletion leaves.

Each takes the check's `Scratch` and returns one observation; an error of the storage that a probe does not expect is
left to `observe`. What a serial probe cannot show is in `mirrorwitness.storage.probe_race`: several services pass
every condition here and let several racing writers win (research/E 0).
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError, UnsupportedConditionError
from mirrorwitness.storage.probe_verdict import Capability, Observation, Outcome

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo
    from mirrorwitness.storage.probe_scratch import Scratch

__all__ = [
    "BIG_BLOCKS",
    "CONTENT",
    "probe_big_object",
    "probe_delete",
    "probe_overwrite",
    "probe_put_if_absent",
    "probe_put_if_match",
    "probe_range_read",
    "probe_read_after_write",
    "probe_round_trip",
]

BIG_BLOCKS: Final = 12
"""Size of the large object in MiB: above the 8 MiB at which S3 clients begin to split uploads."""

_BLOCK_BYTES: Final = 1 << 20

CONTENT: Final = bytes(range(256)) * 16 + b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n\n\r"
"""Every byte, and what looks like the framing that some servers store or strip."""


async def probe_round_trip(scratch: Scratch, first: ObjectInfo, *, short: bool) -> Observation:
    """Read `CONTENT`, which is under the first key; in the long form put and read an object without bytes as well."""
    acknowledged = {first.key: (CONTENT, first)}
    if not short:
        key = scratch.key("empty")
        acknowledged[key] = (b"", await scratch.storage.put(key, b""))
    for key, (content, info) in acknowledged.items():
        found = await scratch.read(key)
        if found != content or info.size != len(content):
            seen = f"{len(content)} bytes put, {info.size} acknowledged, {len(found)} came back"
            return Observation(Capability.ROUND_TRIP, Outcome.BROKEN, seen)
    return Observation(Capability.ROUND_TRIP, Outcome.HOLDS, "the same bytes came back")


async def probe_read_after_write(scratch: Scratch) -> Observation:
    """Look for new objects in every way right after each put."""
    for number in range(3):
        key = scratch.key(f"fresh/{number}")
        await scratch.storage.put(key, key.encode())
        info = await scratch.storage.stat(key)
        listed = await scratch.storage.list(scratch.prefix + "fresh/")
        ways = {
            "stat": info is not None and info.size == len(key),
            "read": await scratch.read(key) == key.encode(),
            "list": key in [each.key for each in listed.objects],
        }
        blind = [way for way, sees in ways.items() if not sees]
        if blind:
            return Observation(Capability.READ_AFTER_WRITE, Outcome.BROKEN, f"not seen at once by {', '.join(blind)}")
    return Observation(Capability.READ_AFTER_WRITE, Outcome.HOLDS, "stat, read and list saw each put at once")


async def probe_overwrite(scratch: Scratch) -> Observation:
    """Put other bytes of the same length under one key."""
    key = scratch.key("overwrite")
    first = await scratch.storage.put(key, b"first")
    second = await scratch.storage.put(key, b"other")
    found = await scratch.read(key)
    if found != b"other":
        return Observation(Capability.OVERWRITE, Outcome.BROKEN, f"the second put was acknowledged, {found!r} is read")
    if first.etag == second.etag:
        return Observation(Capability.OVERWRITE, Outcome.IGNORED, f"other bytes, the same etag {first.etag!r}")
    return Observation(Capability.OVERWRITE, Outcome.HOLDS, "new bytes, new etag")


async def probe_delete(scratch: Scratch) -> Observation:
    """Delete an object, and delete it again."""
    key = scratch.key("delete")
    await scratch.storage.put(key, b"to be deleted")
    await scratch.storage.delete(key)
    await scratch.storage.delete(key)
    if await scratch.storage.stat(key) is not None:
        return Observation(Capability.DELETE, Outcome.BROKEN, "still there after it was deleted")
    return Observation(Capability.DELETE, Outcome.HOLDS, "gone; deleting it again was no error")


async def probe_put_if_absent(scratch: Scratch) -> Observation:
    """Put with if-absent on an object that is there, which must change nothing."""
    capability = Capability.PUT_IF_ABSENT
    key = scratch.key("if-absent")
    try:
        await scratch.storage.put(key, b"first", if_absent=True)
    except PreconditionFailedError:
        return Observation(capability, Outcome.BROKEN, "refused where there was no object")
    except UnsupportedConditionError as error:
        return Observation(capability, Outcome.UNSUPPORTED, str(error))
    refused = False
    try:
        await scratch.storage.put(key, b"other", if_absent=True)
    except PreconditionFailedError:
        refused = True
    found = await scratch.read(key)
    if found != b"first":
        seen = "the second put was refused, and stored" if refused else "the second put replaced the first"
        return Observation(capability, Outcome.BROKEN if refused else Outcome.IGNORED, seen)
    if not refused:
        return Observation(capability, Outcome.BROKEN, "the second put was acknowledged, and not stored")
    return Observation(capability, Outcome.HOLDS, "the second put was refused, the first stayed")


async def probe_put_if_match(scratch: Scratch, first: ObjectInfo, *, short: bool) -> Observation:
    """Put with the right etag, with the one before, and (in the long form) where there is nothing to match."""
    capability = Capability.PUT_IF_MATCH
    try:
        await scratch.storage.put(first.key, b"second", if_match=first.etag)
    except PreconditionFailedError:
        return Observation(capability, Outcome.BROKEN, f"refused with the right etag {first.etag!r}")
    except UnsupportedConditionError as error:
        return Observation(capability, Outcome.UNSUPPORTED, str(error))
    if await _is_put(scratch, first.key, first.etag):
        return Observation(capability, Outcome.IGNORED, "a put with an old etag was acknowledged")
    found = await scratch.read(first.key)
    if found != b"second":
        return Observation(capability, Outcome.BROKEN, f"{found!r} is read after a refused put")
    if not short and await _is_put(scratch, scratch.key("if-match-missing"), first.etag):
        return Observation(capability, Outcome.BROKEN, "a put with an etag was acknowledged where there was no object")
    return Observation(capability, Outcome.HOLDS, "the right etag was accepted, others refused")


async def probe_range_read(scratch: Scratch) -> Observation:
    """Read a range inside an object, and one to its end."""
    key = scratch.key("range")
    await scratch.storage.put(key, CONTENT)
    for start, length in ((100, 50), (len(CONTENT) - 10, None)):
        found = b""
        async with scratch.storage.open(key, start=start, length=length) as reader:
            while piece := await reader.receive_some():
                found += piece
        if found == CONTENT:
            return Observation(Capability.RANGE_READ, Outcome.IGNORED, "the whole object came back")
        if found != CONTENT[start : None if length is None else start + length]:
            seen = f"asked for {length or 10} bytes from {start}, got {len(found)} others"
            return Observation(Capability.RANGE_READ, Outcome.BROKEN, seen)
    return Observation(Capability.RANGE_READ, Outcome.HOLDS, "exactly the bytes asked for")


async def probe_big_object(scratch: Scratch) -> Observation:
    """Put a large object from a file, and stream it back."""
    key = scratch.key("big")
    with tempfile.TemporaryDirectory(prefix="mirrorwitness-probe-") as directory:
        path = Path(directory) / "big"
        expected = await trio.to_thread.run_sync(_write_big, path)
        await scratch.storage.put(key, path)
    hasher = hashlib.sha256()
    size = 0
    async with scratch.storage.open(key) as reader:
        while piece := await reader.receive_some():
            hasher.update(piece)
            size += len(piece)
    if hasher.digest() != expected:
        seen = f"{BIG_BLOCKS * _BLOCK_BYTES} bytes put, {size} came back, with another SHA-256"
        return Observation(Capability.BIG_OBJECT, Outcome.BROKEN, seen)
    return Observation(Capability.BIG_OBJECT, Outcome.HOLDS, f"the same {BIG_BLOCKS} MiB came back")


async def _is_put(scratch: Scratch, key: str, etag: str) -> bool:
    try:
        await scratch.storage.put(key, b"third", if_match=etag)
    except (PreconditionFailedError, ObjectMissingError):
        return False
    return True


def _write_big(path: Path) -> bytes:
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(BIG_BLOCKS):
            block = hashlib.shake_128(bytes([number])).digest(_BLOCK_BYTES)
            hasher.update(block)
            file.write(block)
    return hasher.digest()
