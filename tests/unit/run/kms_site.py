"""A key in a KMS on loopback, opened with boto3 and credentials that are none."""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from botocore.loaders import create_loader

from mirrorwitness.run import kms
from mirrorwitness.run.kms import KmsSigner, Patience, open_kms
from mirrorwitness.run.kms_address import KmsAddress
from mirrorwitness.tlog.keys import KeyType
from tests.fakes.kms import REGION, FakeKms, serve_kms

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import pytest

NAME: Final = "witness.example/w1"
SEED: Final = bytes(range(32))
SPECS: Final = {"ECC_NIST_EDWARDS25519": KeyType.COSIGNATURE, "ML_DSA_44": KeyType.ML_DSA_44}
MESSAGE: Final = b"cosignature/v1\ntime 1700000000\nlog.example\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"

_load_once = functools.cache(create_loader)


def give_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give boto3 credentials that are none, and nothing of the machine's; keep what it reads of its own files."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setattr("botocore.session.create_loader", _load_once)  # 0.1 s for each test otherwise


def leave_out_pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let tries follow each other at once; return the list of the pauses left out, by number of the try."""
    made: list[int] = []

    def no_pause(attempt: int, *, jitter: float) -> float:
        assert 0 <= jitter <= 1
        made.append(attempt)
        return 0.0

    monkeypatch.setattr(kms, "backoff", no_pause)
    return made


@asynccontextmanager
async def signing(
    service: FakeKms, key_id: str, *, patience: Patience | None = None
) -> AsyncGenerator[KmsSigner, None]:
    """Serve KMS, and open a key in it."""
    async with serve_kms(service) as endpoint:
        address = KmsAddress(key_id, NAME, region=REGION, endpoint=endpoint)
        async with open_kms(address, patience=patience) as signer:
            yield signer
