"""The contract suite of all storages, against real S3 servers: the same tests, other walls.

The tests are those of `tests/contract/test_storage.py`; only the fixture that opens the storage is another. Each test
gets a corner of its own in the server's bucket. No test is left out and none is expected to fail: what these two
servers do otherwise (SeaweedFS lists in the order of a walk through directories, Ceph RGW 16 leaves the outcome of
contended puts unknown) is outside of what a storage promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.storage.address import open_storage
from tests.contract import test_storage as suite

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mirrorwitness.storage import Storage

# Each test of the suite becomes one of this module, where `storage` is the fixture below.
globals().update({name: test for name, test in vars(suite).items() if name.startswith("test_")})


@pytest.fixture(params=["seaweedfs", "rgw"])
async def storage(request: pytest.FixtureRequest, start_storage: Callable[[str], str]) -> AsyncGenerator[Storage, None]:
    """Open an empty corner of a real server's bucket."""
    async with open_storage(start_storage(request.param)) as opened:
        yield opened
