"""What tests of buckets share: made-up credentials, and a clock that does not wait for pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio.testing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made-up credentials in the environment, and none anywhere else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Jump over pauses once nothing has moved for 20 ms: sockets and threads are real here."""
    return trio.testing.MockClock(autojump_threshold=0.02)
