"""Single objects on their way from one storage to another."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import (
    ObjectMissingError,
    PreconditionFailedError,
    StorageRefusedError,
    UnsupportedConditionError,
)
from mirrorwitness.storage import transfer as module
from mirrorwitness.storage.transfer import SMALL_BYTES, Transfer
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.storage import Body, ObjectInfo

LARGE = bytes(range(256)) * (SMALL_BYTES // 256) + b"and one piece more"


def names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


class Watched(MemoryStorage):
    """Knows in which form each body came."""

    def __init__(self, *, fails_conditions: bool = False) -> None:
        super().__init__()
        self.kinds: list[type[Body]] = []
        self.conditions: list[tuple[bool, str | None]] = []
        self.fails_conditions = fails_conditions

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        self.kinds.append(bytes if isinstance(body, bytes) else type(body))
        self.conditions.append((if_absent, if_match))
        if self.fails_conditions and (if_absent or if_match):
            raise UnsupportedConditionError("not implemented")
        return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)


@pytest.mark.parametrize("body", [b"", b"small", bytes(SMALL_BYTES), LARGE], ids=["empty", "small", "edge", "large"])
async def test_every_byte_arrives(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones in memory, large ones through a file, which is gone afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source, target = MemoryStorage({"a/b": body}), Watched()
    transfer = Transfer(source, target)
    assert await transfer.copy("a/b", over=None, content_type="text/plain") == len(body)
    assert (target.objects, target.content_types) == ({"a/b": body}, {"a/b": "text/plain"})
    assert (target.kinds[0] is bytes) == (len(body) <= SMALL_BYTES)
    assert names_in(tmp_path) == []
    assert await transfer.is_same("a/b")


async def test_p10_a_large_object_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece is on its way to the file before the next one is asked for."""
    written: list[int] = []
    append = module._append

    def watch(descriptor: int, piece: bytes) -> None:
        written.append(len(piece))
        append(descriptor, piece)

    monkeypatch.setattr(module, "_append", watch)
    source, target = MemoryStorage({"a": LARGE}), MemoryStorage()
    await Transfer(source, target).copy("a", over=None, content_type="")
    assert (sum(written), max(written) < SMALL_BYTES, target.objects) == (len(LARGE), True, {"a": LARGE})


async def test_nothing_is_replaced_unseen() -> None:
    """Where there should be nothing, or another object, the put is refused and the object stays."""
    source, target = MemoryStorage({"a": b"new"}), MemoryStorage({"a": b"old"})
    transfer = Transfer(source, target)
    for over in (None, "another etag"):
        with pytest.raises(PreconditionFailedError):
            await transfer.copy("a", over=over, content_type="")
    assert target.objects == {"a": b"old"}
    assert not await transfer.is_same("a")
    found = await target.stat("a")
    assert found is not None
    await transfer.copy("a", over=found.etag, content_type="")
    assert target.objects == {"a": b"new"}


async def test_a_service_without_conditions_is_asked_once() -> None:
    """Its refusal is remembered."""
    source, target = MemoryStorage({"a": b"1", "b": b"2"}), Watched(fails_conditions=True)
    transfer = Transfer(source, target)
    for key in ("a", "b"):
        await transfer.copy(key, over=None, content_type="")
    assert target.objects == source.objects
    assert target.conditions == [(True, None), (False, None), (False, None)]
    assert "without conditions" in repr(transfer)


async def test_a_missing_object_is_said() -> None:
    """Nothing is written."""
    target = MemoryStorage()
    transfer = Transfer(MemoryStorage(), target)
    assert "without" not in repr(transfer)
    with pytest.raises(ObjectMissingError):
        await transfer.copy("a", over=None, content_type="")
    assert target.objects == {}


async def test_a_full_temporary_directory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the object, the place and what to do."""

    def fail(_descriptor: int, _piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_append", fail)
    target = MemoryStorage()
    with pytest.raises(StorageRefusedError, match=r"a: cannot spool its .* No space left on device; .* TMPDIR"):
        await Transfer(MemoryStorage({"a": LARGE}), target).copy("a", over=None, content_type="")
    assert target.objects == {}
