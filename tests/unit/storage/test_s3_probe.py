"""`SignedSender` sends exactly what it is told, and nothing of a wrong secret ever looks right (DESIGN 4)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, StorageUnavailableError
from mirrorwitness.storage import probe_serial
from mirrorwitness.storage.probe import check_storage
from mirrorwitness.storage.probe_requests import Signing
from mirrorwitness.storage.probe_verdict import Capability, Outcome
from mirrorwitness.storage.s3_probe import open_sender
from tests.fakes.hostile_s3 import Fault, HostileS3, serve_s3

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.hostile_s3 import Recorded


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def claimed(request: Recorded) -> tuple[str | None, bool]:
    """The payload hash that a request claims, and whether it is signed by our access key."""
    signature = request.headers.get("authorization", "")
    return request.headers.get("x-amz-content-sha256"), "Credential=AKIAEXAMPLE/" in signature


async def test_each_signing_is_what_it_says() -> None:
    """Right, with a wrong secret, with another payload claimed, and not at all: four requests, no more."""
    service = HostileS3()
    async with serve_s3(service) as address, open_sender(address) as sender:
        for signing, payload in (
            (Signing.RIGHT, None),
            (Signing.RIGHT, b"other"),
            (Signing.WRONG_SECRET, None),
            (Signing.NONE, None),
        ):
            answer = await sender.send(
                "PUT", "@s/a~b c", headers={"x-amz-meta-probe": "kept"}, body=b"body", payload=payload, signing=signing
            )
            assert answer.status == 200
        head = await sender.send("HEAD", "@s/a~b c")
        assert (head.status, head.headers["x-amz-meta-probe"], head.body) == (200, "kept", b"")
        assert (await sender.send("GET", "@s/a~b c")).body == b"body"
        assert repr(sender).startswith("<SignedSender http://127.0.0.1:")
    puts = [request for request in service.requests if request.method == "PUT"]
    body, other = hashlib.sha256(b"body").hexdigest(), hashlib.sha256(b"other").hexdigest()
    assert [claimed(request) for request in puts] == [(body, True), (other, True), (body, True), (None, False)]
    assert {request.target for request in puts} == {"/bkt/p/%40s/a~b%20c"}
    signatures = {request.headers["authorization"].rpartition("=")[2] for request in puts[:3]}
    assert len(signatures) == 3


async def test_no_answer_is_the_storage_being_unavailable() -> None:
    """Nothing of the HTTP client leaves this boundary."""
    service = HostileS3()
    service.fail("PUT", "*", Fault(status=0), times=5)
    async with serve_s3(service) as address, open_sender(address) as sender:
        with pytest.raises(StorageUnavailableError, match="PUT of k got no answer"):
            await sender.send("PUT", "k", body=b"body")


async def test_a_directory_has_no_sender() -> None:
    """Only a bucket can be asked for single requests."""
    with pytest.raises(ConfigurationError, match="is not a bucket's"):
        async with open_sender("file:somewhere"):
            raise AssertionError("opened")


async def test_a_bucket_is_checked_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole check through our own client: a service that checks no signature is found, and left clean (P8)."""
    monkeypatch.setattr(probe_serial, "BIG_BLOCKS", 1)
    service = HostileS3()
    async with serve_s3(service) as address:
        report = await check_storage(address, short=False)
    found = {each.capability: each.outcome for each in report.findings if each.outcome is not Outcome.HOLDS}
    assert service.objects == {}
    assert report.storage == address
    assert found == {
        # This fake checks neither checksums nor signatures, and keeps no content type.
        Capability.CHECKSUM_CHECKED: Outcome.IGNORED,
        Capability.PAYLOAD_HASH_CHECKED: Outcome.IGNORED,
        Capability.DELETE_IF_MATCH: Outcome.IGNORED,
        Capability.CONTENT_TYPE: Outcome.MISSING,
        Capability.ANONYMOUS_READ: Outcome.BROKEN,
        Capability.ANONYMOUS_WRITE: Outcome.BROKEN,
        Capability.SECRET_CHECKED: Outcome.IGNORED,
        Capability.CLOCK: Outcome.MISSING,
    }


async def test_a_bucket_that_stores_other_bytes_is_one_finding() -> None:
    """What our client notices on the first put is the report, not an exception."""
    service = HostileS3()
    service.fail("PUT", "*", Fault(store=b"2e\r\nframed\r\n0\r\n"), times=5)
    async with serve_s3(service) as address:
        report = await check_storage(address, short=True)
    assert [(each.capability, each.outcome) for each in report.findings] == [
        (Capability.ROUND_TRIP, Outcome.FAILED),
        (Capability.CLEAN_UP, Outcome.HOLDS),
    ]
    assert service.objects == {}
