"""Keys in AWS KMS: a service in trouble, one that says no, one that never answers, and waiting no longer for it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import StorageRefusedError, StorageUnavailableError
from mirrorwitness.run.kms import THREADS, TRIES, Patience, open_kms
from mirrorwitness.run.kms_address import KmsAddress
from tests.fakes.kms import REGION, FakeKms, KmsFault, serve_kms
from tests.unit.run.kms_site import MESSAGE, NAME, give_credentials, leave_out_pauses, signing

if TYPE_CHECKING:
    from pathlib import Path

HASTY = Patience(connect=0.5, read=0.1, total=30.0)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_credentials(monkeypatch, tmp_path)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leave the pauses out, and list them."""
    return leave_out_pauses(monkeypatch)


@pytest.fixture
def unused_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


BUSY = [
    KmsFault(code="ThrottlingException", message="Rate exceeded"),
    KmsFault(code="LimitExceededException"),
    KmsFault(status=500, code="KMSInternalException"),
    KmsFault(status=500, code="KeyUnavailableException"),
    KmsFault(status=503, code="DependencyTimeoutException"),
    KmsFault(status=429),
    KmsFault(status=500),
    KmsFault(status=502),
    KmsFault(reset=0),
    KmsFault(reset=20),
    KmsFault(cut=3),
    KmsFault(hang=True),
]
GARBLED = [
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"<html>hello</html>",
    b'{"Signature": 7, "PublicKey": 7}',
    b'{"Signature": "x", "PublicKey": "x"}',
]


@pytest.mark.parametrize("fault", BUSY, ids=lambda fault: f"{fault.status}-{fault.code or fault}"[:40])
async def test_trouble_that_passes(fault: KmsFault, pauses: list[int]) -> None:
    """Throttling, errors of the service and lost answers are met by asking again, at start and later."""
    service = FakeKms()
    key_id = service.add()
    service.fail("GetPublicKey", fault, times=TRIES - 1)
    async with signing(service, key_id, patience=HASTY) as signer:
        service.fail("Sign", fault, times=TRIES - 1)
        assert await signer.sign(MESSAGE)
    assert (service.count("GetPublicKey"), service.count("Sign")) == (TRIES, TRIES)
    assert pauses == [0, 1, 0, 1]


@pytest.mark.parametrize("fault", BUSY, ids=lambda fault: f"{fault.status}-{fault.code or fault}"[:40])
async def test_trouble_that_stays(fault: KmsFault) -> None:
    """After three tries the witness answers 503; its key is as good as before."""
    service = FakeKms()
    async with signing(service, service.add(), patience=HASTY) as signer:
        service.fail("Sign", fault, times=TRIES)
        with pytest.raises(StorageUnavailableError, match=r"^AWS KMS key .+: Sign: "):
            await signer.sign(MESSAGE)
        assert service.count("Sign") == TRIES
        assert await signer.sign(MESSAGE)


@pytest.mark.parametrize("body", GARBLED)
async def test_an_answer_that_cannot_be_read(body: bytes) -> None:
    """Whatever botocore makes of it, one error comes out, at start and later."""
    service = FakeKms()
    key_id = service.add()
    service.fail("GetPublicKey", KmsFault(body=body), times=TRIES)
    async with serve_kms(service) as endpoint:
        address = KmsAddress(key_id, NAME, region=REGION, endpoint=endpoint)
        with pytest.raises(StorageUnavailableError, match="GetPublicKey: the answer "):
            async with open_kms(address):
                pytest.fail("opened")
        del service.asked[:]
        service._faults.clear()
        async with open_kms(address) as signer:
            service.fail("Sign", KmsFault(body=body), times=TRIES)
            with pytest.raises(StorageUnavailableError, match="Sign: the answer "):
                await signer.sign(MESSAGE)


async def test_nobody_answers(unused_port: int) -> None:
    """A refused connection is trouble that may pass."""
    address = KmsAddress("alias/w1", NAME, region=REGION, endpoint=f"http://127.0.0.1:{unused_port}")
    with pytest.raises(StorageUnavailableError, match="AWS KMS key alias/w1: GetPublicKey: Could not connect"):
        async with open_kms(address):
            pytest.fail("opened")


async def test_the_deadline_holds_for_all_tries_together() -> None:
    """A service that never answers costs a log a bounded time; the thread is left alone."""
    service = FakeKms()
    patience = Patience(connect=5.0, read=5.0, total=0.1)
    async with signing(service, service.add()) as signer:
        service.fail("Sign", KmsFault(hang=True), times=2)
        signer._caller._patience = patience
        with trio.fail_after(4.0), pytest.raises(StorageUnavailableError, match=r"Sign: no answer within 0\.1 s"):
            await signer.sign(MESSAGE)
        signer._caller._patience = Patience()
        service._faults.clear()
        assert await signer.sign(MESSAGE)


async def test_a_cancelled_signature_is_left_alone() -> None:
    """Shutting down does not wait for KMS, and the signer goes on for others."""
    service = FakeKms()
    async with signing(service, service.add()) as signer:
        service.fail("Sign", KmsFault(hang=True))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signer.sign, MESSAGE)
            await service.wait_asked("Sign", 1)
            nursery.cancel_scope.cancel()
        assert await signer.sign(MESSAGE)


async def test_threads_of_their_own() -> None:
    """At most eight requests are on their way, and nobody else's threads are taken."""
    service = FakeKms()
    async with signing(service, service.add()) as signer:
        service.fail("Sign", KmsFault(hang=True), times=THREADS)
        async with trio.open_nursery() as nursery:
            for _ in range(THREADS + 3):
                nursery.start_soon(signer.sign, MESSAGE)
            await service.wait_asked("Sign", THREADS)
            statistics = signer._caller._limiter.statistics()
            assert (statistics.borrowed_tokens, statistics.tasks_waiting) == (THREADS, 3)
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            nursery.cancel_scope.cancel()


async def test_many_at_once() -> None:
    """Each gets the signature of its own message."""
    service = FakeKms()
    made: dict[bytes, bytes] = {}
    async with signing(service, service.add()) as signer:

        async def sign(message: bytes) -> None:
            made[message] = await signer.sign(message)

        async with trio.open_nursery() as nursery:
            for number in range(3 * THREADS):
                nursery.start_soon(sign, b"message %d" % number)
        assert len(made) == 3 * THREADS
        assert all(signer.verifier.fits(signature, message) for message, signature in made.items())


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDeniedException", r"\(as planned\); allow kms:GetPublicKey and kms:Sign on it"),
        ("UnrecognizedClientException", "does not know this access key"),
        ("InvalidSignatureException", "or this machine's clock is wrong"),
        ("ExpiredTokenException", "the credentials have expired; renew them"),
        ("DisabledException", "enable it"),
        ("KMSInvalidStateException", r"400 KMSInvalidStateException \(as planned\)$"),
        ("SomethingNewException", r"400 SomethingNewException \(as planned\)$"),
    ],
)
async def test_a_no_is_a_no(code: str, advice: str) -> None:
    """It is not asked again, and says what to do, at start and later."""
    service = FakeKms()
    key_id = service.add()
    service.fail("GetPublicKey", KmsFault(code=code))
    with pytest.raises(StorageRefusedError, match=f"AWS KMS key {key_id}: GetPublicKey: .*{advice}"):
        async with signing(service, key_id):
            pytest.fail("opened")
    async with signing(service, key_id) as signer:
        service.fail("Sign", KmsFault(code=code))
        with pytest.raises(StorageRefusedError, match=f"Sign: .*{advice}"):
            await signer.sign(MESSAGE)
    assert (service.count("GetPublicKey"), service.count("Sign")) == (2, 1)


async def test_a_long_message_is_cut() -> None:
    """A service cannot fill our logs."""
    service = FakeKms()
    service.fail("GetPublicKey", KmsFault(code="AccessDeniedException", message="x" * 10_000))
    with pytest.raises(StorageRefusedError) as caught:
        async with signing(service, service.add()):
            pytest.fail("opened")
    assert len(str(caught.value)) < 600
