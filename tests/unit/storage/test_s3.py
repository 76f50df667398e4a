"""Buckets on a service that does wrong: what was written is known, or said to be unknown; nothing is just believed."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
    UpstreamNotFoundError,
)
from mirrorwitness.storage import s3_put
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.s3 import S3Storage
from mirrorwitness.storage.s3_errors import TRIES
from tests.fakes.hostile_s3 import Answer, Fault, HostileS3, Recorded, listing, serve_s3

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from trio.testing import MockClock

    from mirrorwitness.storage import Storage

pytestmark = pytest.mark.usefixtures("credentials")

LOST = Fault(status=0, after=True)
REFUSED_CONNECTION = Fault(status=0)


@pytest.fixture
def service() -> HostileS3:
    return HostileS3()


@pytest.fixture
async def bucket(service: HostileS3, clock: MockClock) -> AsyncGenerator[Storage, None]:
    async with serve_s3(service) as address, open_storage(address) as storage:
        yield storage


async def _drain(storage: Storage, key: str, **where: int) -> bytes:
    received = b""
    async with storage.open(key, **where) as reader:
        while piece := await reader.receive_some():
            received += piece
    return received


async def test_a_put_is_plain_signed_and_carries_its_checksum(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    """P1: no chunk framing, the signed payload hash, and both headers that make a service check (research/E 0)."""
    await bucket.put("@s/n ame.tgz", b"body", content_type="application/gzip")
    (request,) = [found for found in service.requests if found.method == "PUT"]
    digest = hashlib.sha256(b"body")
    expected = {
        "content-length": "4",
        "content-type": "application/gzip",
        "x-amz-content-sha256": digest.hexdigest(),
        "x-amz-sdk-checksum-algorithm": "SHA256",
        "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
    }
    assert {name: request.headers[name] for name in expected} == expected
    assert request.target == "/bkt/p/%40s/n%20ame.tgz"
    assert "transfer-encoding" not in request.headers
    assert "content-encoding" not in request.headers
    signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"content-type", "host", "x-amz-checksum-sha256", "x-amz-content-sha256", "x-amz-date"} <= set(signed)


@pytest.mark.parametrize("keeps_metadata", [True, False])
@pytest.mark.parametrize("fault", [LOST, Fault(status=500, after=True), Fault(status=503, code="SlowDown", after=True)])
async def test_answer_lost_after_the_put_took_effect(
    clock: MockClock, bucket: Storage, service: HostileS3, fault: Fault, *, keeps_metadata: bool
) -> None:
    """A conditional put whose answer was lost finds its own object there and has won, with or without metadata."""
    service.keeps_metadata = keeps_metadata
    service.fail("PUT", "p/*", fault)
    first = await bucket.put("k", b"one", if_absent=True)
    assert await bucket.read("k", limit=9) == (b"one", first)
    service.fail("PUT", "p/*", fault)
    second = await bucket.put("k", b"two", if_match=first.etag)
    assert await bucket.read("k", limit=9) == (b"two", second)


async def test_answer_lost_and_another_writer_won_with_the_same_bytes(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    """Equal bytes under another writer's token are another writer's victory."""
    service.fail("PUT", "p/k", REFUSED_CONNECTION)
    service.objects["p/k"] = (b"same", {"x-amz-meta-mirrorwitness-write": "another"})
    with pytest.raises(PreconditionFailedError, match="k"):
        await bucket.put("k", b"same", if_absent=True)


async def test_answer_lost_without_md5_etags(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """Where neither token nor ETag says whose it is, the object is read back."""
    service.keeps_metadata = False
    service.fail("PUT", "p/k", LOST)
    service.fail("HEAD", "p/k", Fault(headers={"ETag": '"opaque"'}))
    await bucket.put("k", b"one", if_absent=True)
    assert service.count("GET") == 1


async def test_unknown_compare_and_swap_that_finds_another_object(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    """P7: after a lost answer, another object may have replaced ours; neither victory nor defeat is claimed."""
    first = await bucket.put("k", b"one")
    service.fail("PUT", "p/k", REFUSED_CONNECTION)
    service.set_bytes("p/k", b"other")
    with pytest.raises(StorageUnavailableError, match="may have been replaced"):
        await bucket.put("k", b"two", if_match=first.etag)


async def test_plain_put_is_sent_again_after_a_lost_answer(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    service.fail("PUT", "p/k", LOST, times=2)
    await bucket.put("k", b"one")
    assert service.objects["p/k"][0] == b"one"
    # fetch itself repeats an unconditional put on a kept-alive connection that went silent.
    assert service.count("PUT") >= 3


async def test_storm_of_503_is_waited_out(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """P9: SlowDown makes all tasks pause for as long as the service asks, and then the put is done."""
    service.fail("PUT", "p/k", Fault(status=503, code="SlowDown", headers={"Retry-After": "30"}), times=2)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.put, "k", b"one")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.sleep(1)
        await bucket.stat("other")
    assert trio.current_time() - start >= 60
    assert service.objects["p/k"][0] == b"one"


@pytest.mark.parametrize("fault", [Fault(status=503), REFUSED_CONNECTION, Fault(status=409, code="OperationAborted")])
async def test_storm_that_does_not_end(clock: MockClock, bucket: Storage, service: HostileS3, fault: Fault) -> None:
    """Tries are bounded; the put's outcome is then unknown and says so."""
    service.fail("PUT", "p/k", fault, times=100)
    with pytest.raises(StorageUnavailableError, match="PUT of p/k in bucket bkt"):
        await bucket.put("k", b"one", if_absent=True)
    assert service.count("PUT") == TRIES


async def test_conflict_is_tried_again(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """409 means that nothing was written: the next 412 is a plain defeat."""
    service.fail("PUT", "p/k", Fault(status=409, code="ConditionalRequestConflict"))
    await bucket.put("k", b"one", if_absent=True)
    service.fail("PUT", "p/k", Fault(status=409, code="ConditionalRequestConflict"))
    with pytest.raises(PreconditionFailedError):
        await bucket.put("k", b"one", if_absent=True)


async def test_unsupported_condition(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    service.fail("PUT", "p/k", Fault(status=501, code="NotImplemented"))
    with pytest.raises(UnsupportedConditionError, match="501 NotImplemented"):
        await bucket.put("k", b"one", if_absent=True)


async def test_bare_etags_are_found_out(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """Ceph RGW 16 matches no quoted ETag (research/E 1.3): asked once more without quotes, and remembered."""
    service.wants_bare_etags = True
    first = await bucket.put("k", b"one")
    second = await bucket.put("k", b"two", if_match=first.etag)
    assert service.count("PUT") == 3
    third = await bucket.put("k", b"three", if_match=second.etag)
    assert service.count("PUT") == 4
    with pytest.raises(PreconditionFailedError):
        await bucket.put("k", b"four", if_match=second.etag)
    assert await bucket.stat("k") == third


async def test_if_match_lost_names_both_etags(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    first = await bucket.put("k", b"one")
    second = await bucket.put("k", b"two")
    with pytest.raises(PreconditionFailedError, match=f"etag {first.etag}, has {second.etag}"):
        await bucket.put("k", b"three", if_match=first.etag)


@pytest.mark.parametrize(
    "fault", [Fault(headers={"x-amz-checksum-sha256": "wrong"}), Fault(drop=("x-amz-checksum-sha256",))]
)
async def test_md5_as_etag_stands_for_the_echo(
    clock: MockClock, bucket: Storage, service: HostileS3, fault: Fault
) -> None:
    """A service that echoes nothing, or nonsense, but computed the right MD5 has the right bytes; nothing is read."""
    service.fail("PUT", "p/k", fault)
    await bucket.put("k", b"one")
    assert service.count("GET") == 0


async def test_without_echo_and_md5_the_object_is_read_back(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    service.fail("PUT", "p/k", Fault(drop=("x-amz-checksum-sha256", "ETag")))
    written = await bucket.put("k", b"one")
    assert service.count("GET") == 1
    assert await bucket.stat("k") == written


async def test_service_that_stores_other_bytes(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """P1: bytes that are not what was sent are removed again, and the put failed."""
    framed = Fault(store=b"4;chunk-signature=x\r\nbody\r\n0\r\n\r\n")
    service.fail("PUT", "p/k", framed)
    with pytest.raises(StorageError, match=r"stored other bytes .* removed again"):
        await bucket.put("k", b"body", if_absent=True)
    assert service.objects == {}


async def test_service_that_stores_other_bytes_under_if_match(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    """An object under compare-and-swap is not removed: that would end its chain."""
    first = await bucket.put("k", b"one")
    service.fail("PUT", "p/k", Fault(store=b"other"))
    with pytest.raises(StorageError, match=r"it says [^;]*$"):
        await bucket.put("k", b"two", if_match=first.etag)
    assert service.objects["p/k"][0] == b"other"


async def test_replaced_before_it_was_verified(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """Where somebody else's object is there already, ours can be neither confirmed nor removed."""
    service.fail("PUT", "p/k", Fault(store=b"x", headers={"ETag": '"opaque"'}))
    with pytest.raises(StorageUnavailableError, match="before it could be verified"):
        await bucket.put("k", b"one")
    assert "p/k" in service.objects


async def test_read_back_that_breaks_or_finds_nothing(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    blind = Fault(drop=("x-amz-checksum-sha256", "ETag"))
    service.fail("PUT", "p/k", blind)
    service.fail("GET", "p/k", Fault(cut=1))
    with pytest.raises(StorageUnavailableError, match="cannot be read back"):
        await bucket.put("k", b"one")
    service.fail("PUT", "p/k", blind)
    service.fail("GET", "p/k", Fault(status=404))
    with pytest.raises(StorageUnavailableError, match="before it could be verified"):
        await bucket.put("k", b"one")


async def test_expired_credentials_are_loaded_again(
    clock: MockClock, bucket: Storage, service: HostileS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row "S3 credentials expired in mid-run": new ones in the environment are used without a restart."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECOND")
    service.fail("PUT", "p/*", Fault(status=400, code="ExpiredToken"), times=1)
    service.fail("GET", "p/*", Fault(status=400, code="ExpiredToken"), times=1)
    await bucket.put("k", b"one")
    assert "AKIASECOND" in service.requests[-1].headers["authorization"]


async def test_expired_credentials_without_newer_ones(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    service.fail("PUT", "p/*", Fault(status=400, code="ExpiredToken"), times=9)
    with pytest.raises(StorageRefusedError, match=r"PUT of p/k in bucket bkt: 400 ExpiredToken .*have expired"):
        await bucket.put("k", b"one")
    assert service.count("PUT") == 2


async def test_expired_token_met_by_many_tasks_is_loaded_once(
    service: HostileS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A HEAD cannot say why it was refused; with temporary credentials it is tried with new ones.

    On the real clock: nothing here pauses, and a clock that jumps would take a slow machine for a silent service.
    """
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    async with serve_s3(service) as address, open_storage(address) as storage:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new")
        service.expired_token = "old"
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(storage.stat, f"k{number}")
        assert isinstance(storage, S3Storage)
        assert storage._client.signer.generation == 1
        service.expired_token = "new"
        with pytest.raises(StorageRefusedError, match="403"):
            await storage.stat("k")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=403, code="AccessDenied"), "GET of p/k in bucket bkt: 403 AccessDenied .*allow s3:ListBucket"),
        (Fault(status=404, code="NoSuchBucket"), "404 NoSuchBucket .*create it"),
        (Fault(status=301, code="PermanentRedirect"), "region=NAME"),
        (Fault(status=507), "507"),
        (Fault(status=403, code="QuotaExceeded"), "QuotaExceeded"),
    ],
)
async def test_refusals_name_bucket_key_and_code(
    clock: MockClock, bucket: Storage, service: HostileS3, fault: Fault, message: str
) -> None:
    service.fail("GET", "p/k", fault)
    with pytest.raises(StorageRefusedError, match=message):
        await bucket.read("k", limit=1)
    service.fail("PUT", "p/k", fault)
    with pytest.raises(StorageRefusedError, match=message.replace("GET", "PUT")):
        await bucket.put("k", b"", if_match="x")


async def test_other_refusals_are_storage_errors(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    service.fail("DELETE", "p/k", Fault(status=400, code="InvalidArgument"))
    with pytest.raises(StorageError, match="400 InvalidArgument"):
        await bucket.delete("k")


async def test_missing_bucket_is_noticed_when_opening(service: HostileS3, clock: MockClock) -> None:
    service.fail("GET", "", Fault(status=404, code="NoSuchBucket"))
    async with serve_s3(service) as address:
        with pytest.raises(StorageRefusedError, match="GET of the bucket in bucket bkt: 404 NoSuchBucket"):
            async with open_storage(address):
                pass  # pragma: no cover


async def test_short_body_is_read_again_and_a_stream_ends_with_an_error(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    """A cut body is never taken for the object."""
    await bucket.put("k", b"0123456789")
    service.fail("GET", "p/k", Fault(cut=3))
    assert (await bucket.read("k", limit=10))[0] == b"0123456789"
    service.fail("GET", "p/k", Fault(cut=3))
    with pytest.raises(StorageUnavailableError, match="k"):
        await _drain(bucket, "k")
    service.fail("GET", "p/k", Fault(cut=3), times=100)
    with pytest.raises(StorageUnavailableError, match="k"):
        await bucket.read("k", limit=10)


async def test_opening_is_tried_again(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    await bucket.put("k", b"0123456789")
    service.fail("GET", "p/k", REFUSED_CONNECTION)
    service.fail("GET", "p/k", Fault(status=500))
    service.fail("GET", "p/k", Fault(status=500, code="InternalError", headers={"Content-Length": "900"}))
    assert await _drain(bucket, "k", start=2, length=3) == b"234"


async def test_reading_whole_objects_tries_as_often_as_anything_else(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    """P10: a service that is gone costs a read some 10 s, not the tries of opening times the tries of reading."""
    service.fail("GET", "p/k", Fault(status=500), times=1000)
    with pytest.raises(StorageUnavailableError, match="p/k"):
        await bucket.read("k", limit=10)
    assert service.count("GET") == TRIES


async def test_errors_of_the_reader_are_the_callers(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """An `UpstreamError` that a caller raises while it reads is no error of the storage."""
    await bucket.put("k", b"0123456789")
    with pytest.raises(UpstreamNotFoundError):
        async with bucket.open("k"):
            raise UpstreamNotFoundError("the caller's own")
    with pytest.raises(StorageUnavailableError, match="the caller's own"):
        async with bucket.open("k"):
            raise StorageUnavailableError("the caller's own")
    assert service.count("GET") == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(headers={"Content-Range": "bytes 0-4/10"}), "Content-Range 'bytes 0-4/10'"),
        (Fault(headers={"Content-Range": "bytes 2-9/10"}), "up to byte 4"),
        (Fault(headers={"Content-Range": "bytes */10"}), "from byte 2"),
        (Fault(drop=("Content-Range",)), "from byte 2"),
    ],
)
async def test_range_answers_are_checked(
    clock: MockClock, bucket: Storage, service: HostileS3, fault: Fault, message: str
) -> None:
    await bucket.put("k", b"0123456789")
    service.fail("GET", "p/k", fault)
    with pytest.raises(StorageError, match=message.replace("*", r"\*")):
        await _drain(bucket, "k", start=2, length=3)


async def test_service_that_ignores_ranges(clock: MockClock) -> None:
    """The beginning of an object is taken from a whole answer, the middle is refused."""

    class Whole(HostileS3):
        def answer(self, request: Recorded, body: bytes) -> tuple[Answer | None, int]:
            headers = {name: value for name, value in request.headers.items() if name != "range"}
            return super().answer(replace(request, headers=headers), body)

    service = Whole()
    async with serve_s3(service) as address, open_storage(address) as storage:
        await storage.put("k", b"0123456789")
        assert await _drain(storage, "k", start=0, length=3) == b"012"
        with pytest.raises(StorageError, match="ignores ranges"):
            await _drain(storage, "k", start=2, length=3)


async def test_service_that_sends_ranges_with_status_200(clock: MockClock) -> None:
    """P1: rclone says 200 and sends a part: its Content-Range counts, or the part would pass for the whole object."""

    class Mumbling(HostileS3):
        def answer(self, request: Recorded, body: bytes) -> tuple[Answer | None, int]:
            answer, cut = super().answer(request, body)
            if answer is not None and answer.status == 206:
                answer.status = 200
            return answer, cut

    async with serve_s3(Mumbling()) as address, open_storage(address) as storage:
        written = await storage.put("k", b"0123456789")
        assert await _drain(storage, "k", start=0, length=3) == b"012"
        assert await _drain(storage, "k", start=2, length=3) == b"234"
        assert await _drain(storage, "k", start=7) == b"789"
        async with storage.open("k", start=0, length=3) as reader:
            assert reader.info == written


async def test_object_replaced_while_its_range_is_refused(
    clock: MockClock, bucket: Storage, service: HostileS3
) -> None:
    await bucket.put("k", b"0123456789")
    service.fail("GET", "p/k", Fault(status=416), times=2)
    with pytest.raises(StorageUnavailableError, match="replaced while it was opened"):
        await _drain(bucket, "k", start=2)
    service.fail("HEAD", "p/k", Fault(status=404))
    with pytest.raises(ObjectMissingError, match="k"):
        await _drain(bucket, "k", start=2)


async def test_length_must_be_a_number(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    await bucket.put("k", b"1")
    service.fail("HEAD", "p/k", Fault(headers={"Transfer-Encoding": "chunked"}, drop=("Content-Length",)))
    with pytest.raises(StorageError, match="Content-Length"):
        await bucket.stat("k")


@pytest.mark.parametrize(
    "items",
    [
        "".join(f"<Contents><Key>p/{k}</Key><Size>1</Size><ETag>e</ETag></Contents>" for k in "bb"),
        "<Contents><Key>q/a</Key><Size>1</Size><ETag>e</ETag></Contents>",
    ],
)
async def test_repeating_or_foreign_listing_is_refused(
    clock: MockClock, bucket: Storage, service: HostileS3, items: str
) -> None:
    """A listing that goes round in circles, or shows what was not asked for, is believed in nothing."""
    service.fail("GET", "", Fault(body=listing(items)))
    with pytest.raises(StorageError, match="listing"):
        await bucket.list("")


async def test_foreign_keys_in_a_listing_are_passed_over(clock: MockClock, bucket: Storage, service: HostileS3) -> None:
    """Markers of directories and dot files that others put there are no objects of ours; paging goes on after them."""
    for key in ("p/", "p/.hidden", "p/a", "p/d/", "p/d/e"):
        service.set_bytes(key, b"x")
    keys: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await bucket.list("", after=after, limit=1)
        keys += [found.key for found in page.objects]
        after = page.more_after
    assert keys == ["a", "d/e"]


@pytest.mark.slow
async def test_big_body_streams_from_its_file(
    clock: MockClock, bucket: Storage, service: HostileS3, tmp_path: Path
) -> None:
    body = os.urandom(3 << 20)
    path = tmp_path / "body"
    path.write_bytes(body)
    assert (await bucket.put("k", path)).size == len(body)
    assert service.objects["p/k"][0] == body
    assert (await bucket.put("m", body)).size == len(body)


async def test_body_that_cannot_be_read(clock: MockClock, bucket: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read the body"):
        await bucket.put("k", tmp_path / "none")
    with pytest.raises(StorageError, match="cannot read the body"):
        await bucket.put("k", tmp_path)


async def test_key_too_long_with_its_prefix(service: HostileS3) -> None:
    """A key that fits by itself is refused where the prefix makes it too long for S3."""
    async with serve_s3(service) as address, open_storage(address.replace("/p?", f"/{'p' * 50}?")) as storage:
        with pytest.raises(ConfigurationError, match="longer than 1024 bytes"):
            await storage.stat("k/" * 490 + "k")


async def test_body_above_the_limit_of_one_put(
    clock: MockClock, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_put, "MAX_PUT_BYTES", 3)
    with pytest.raises(StorageRefusedError, match="at most 3"):
        await bucket.put("k", b"four")
