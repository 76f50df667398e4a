"""A directory that holds something else is no storage, and is left as it was."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage.local import open_local

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_foreign_directory_is_refused(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """The message names what lies there, and no file of the directory stays open (`ResourceWarning`)."""
    for number in range(3):
        (tmp_path / f"file{number}").touch()
    with pytest.raises(ConfigurationError, match=r"holds 'file\d' and has no \.mirrorwitness file"):
        async with open_local(tmp_path):
            pytest.fail("opened")
    gc.collect()
    assert [str(each.message) for each in recwarn.list] == []
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh/lost+found").mkdir()
    async with open_local(tmp_path / "fresh") as storage:
        await storage.put("a/b", b"c")
