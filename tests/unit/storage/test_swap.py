"""One object is replaced only where it still is what was read."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import PreconditionFailedError, UnsupportedConditionError
from mirrorwitness.storage.swap import swap
from tests.fakes.storage import MemoryStorage

KEY = "state/x.json"


async def test_who_read_an_older_object_loses() -> None:
    """Also who saw none where there is one now."""
    storage = MemoryStorage()
    first = await swap(storage, KEY, b"1", etag=None)
    with pytest.raises(PreconditionFailedError):
        await swap(storage, KEY, b"other", etag=None)
    second = await swap(storage, KEY, b"2", etag=first.etag)
    with pytest.raises(PreconditionFailedError):
        await swap(storage, KEY, b"other", etag=first.etag)
    assert (storage.objects, second.etag != first.etag) == ({KEY: b"2"}, True)


async def test_a_storage_without_conditions_is_simply_written() -> None:
    """It is said in the docstring what that costs."""
    storage = MemoryStorage({KEY: b"1"})
    storage.fail_before("put", KEY, UnsupportedConditionError("501"))
    await swap(storage, KEY, b"2", etag="an older one")
    assert storage.objects == {KEY: b"2"}
