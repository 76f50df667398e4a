"""Storages of different kinds hold the same after a copy, whatever form their objects have inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.run.copy_report import CopyWishes
from mirrorwitness.run.copying import copy_address
from mirrorwitness.storage import Put
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.transfer import SMALL_BYTES
from tests.property.witness_places import copy_objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = bytes(range(256)) * (SMALL_BYTES // 256) + b"more than one piece"


async def read_all(address: str) -> dict[str, bytes]:
    """Return everything that a storage has."""
    async with open_storage(address) as storage:
        return await copy_objects(storage, limit=len(LARGE))


@pytest.mark.slow
async def test_from_a_directory_to_a_bucket_and_back(moto_bucket: Iterator[str], tmp_path: Path) -> None:
    """Cells, escaped names and large objects arrive under their keys; a second run finds everything there."""
    first = f"file:{tmp_path / 'first'}?names=escaped&fsync=off"
    bucket, back = next(moto_bucket), f"file:{tmp_path / 'back'}?names=plain&fsync=off"
    async with open_storage(first) as storage:
        await storage.put_pair(Put("state/witness/logs/Ab.json", b"record"), Put("witness/Ab/checkpoint", b"shown"))
        await storage.put("state/witness/identity.json", b"who")
        await storage.put("npm/@scope/Right/-/Right-1.0.0.tgz", LARGE)
    expected = await read_all(first)
    assert len(expected) == 4
    for source, target in ((first, bucket), (bucket, back), (back, bucket)):
        report = await copy_address(CopyWishes(source, target), lambda _step: None)
        assert report.copied.count == (0 if source == back else 4)
        assert await read_all(target) == expected
