"""`store-copy` to real buckets and back: a witness is moved, and everything that a storage may hold comes along."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.run.copy_report import CopyWishes
from mirrorwitness.run.copying import copy_address
from mirrorwitness.run.witnessing import WitnessWishes, open_witness
from mirrorwitness.storage import Put
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.local import open_local
from mirrorwitness.storage.local_names import Names
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.witness.records import record_key
from tests.contract.test_storage import ODD_KEYS
from tests.property.witness_places import copy_objects
from tests.unit.witness.world import LOG, OURS, read_cosignatures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mirrorwitness.run.copy_report import CopyReport

pytestmark = pytest.mark.parametrize("server", ["seaweedfs", "rgw"])

LARGE = random.Random(1).randbytes(30 << 20)  # noqa: S311 - any bytes, the same each time


async def copy(source: str, target: str) -> CopyReport:
    """Copy one address to another."""
    return await copy_address(CopyWishes(source=source, target=target), lambda _step: None)


async def test_everything_arrives_and_comes_back(
    server: str, start_storage: Callable[[str], str], tmp_path: Path
) -> None:
    """Cells, escaped names, odd keys and a large object; and the second run writes nothing."""
    bucket = start_storage(server)
    async with open_local(tmp_path / "one", fsync=False, names=Names.ESCAPED) as storage:
        for number, key in enumerate(ODD_KEYS):
            await storage.put(key, b"%d" % number)
        await storage.put("npm/large/-/large-1.0.0.tgz", LARGE)
        for body in (b"1", b"2"):
            await storage.put_pair(Put("state/cell", body), Put("shown/cell", body))
        expected = await copy_objects(storage, limit=len(LARGE))
    there = await copy(f"file:{tmp_path / 'one'}", bucket)
    assert (there.exit_code(), there.copied.count) == (ExitCode.COMPLETE, len(expected))
    async with open_storage(bucket) as storage:
        assert await copy_objects(storage, limit=len(LARGE)) == expected
    again = await copy(f"file:{tmp_path / 'one'}", bucket)
    assert (again.exit_code(), again.copied.count, again.present.count) == (ExitCode.COMPLETE, 0, len(expected))
    back = await copy(bucket, f"file:{tmp_path / 'two'}")
    assert (back.exit_code(), back.copied.count) == (ExitCode.COMPLETE, len(expected))
    async with open_local(tmp_path / "two") as storage:
        assert await copy_objects(storage, limit=len(LARGE)) == expected


async def test_p7_a_witness_moves_into_a_bucket(
    server: str, start_storage: Callable[[str], str], tmp_path: Path
) -> None:
    """It goes on from where it was, and contradicts nothing that it signed in the directory."""
    bucket = start_storage(server)
    key = tmp_path / "w1.key"
    key.write_text(format_signer_key(OURS) + "\n", encoding="utf-8")
    key.chmod(0o600)
    logs = (str(LOG.keys[0].verifier),)
    async with open_witness(
        WitnessWishes(storage=f"file:{tmp_path / 'state'}", keys=(str(key),), logs=logs)
    ) as running:
        for old, new in ((0, 10), (10, 12)):
            assert (await running.witness.add_checkpoint(LOG.request(old, new))).status == 200
    report = await copy(f"file:{tmp_path / 'state'}", bucket)
    assert (report.exit_code(), report.signers) == (ExitCode.COMPLETE, ["state/witness/identity.json"])
    async with open_storage(bucket) as storage:
        assert b'"size":12' in (await storage.read(record_key(LOG.origin), limit=100_000))[0]
    async with open_witness(WitnessWishes(storage=bucket, keys=(str(key),), logs=logs)) as running:
        assert (await running.witness.add_checkpoint(LOG.request(0, 20))).body == b"12\n"
        assert (await running.witness.add_checkpoint(LOG.fork(6).request(12, 20))).status == 422
        given = await running.witness.add_checkpoint(LOG.request(12, 20))
        assert given.status == 200
        assert read_cosignatures(given.body, LOG.tree(20).text, OURS)
