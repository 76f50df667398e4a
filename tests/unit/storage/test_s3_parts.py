"""The pure parts of buckets: listings, errors and pauses; and who we are to a service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.storage.s3_errors import Verdict, backoff, judge, make_error
from mirrorwitness.storage.s3_sign import Signer, find_endpoint, load_session, make_bucket_url
from mirrorwitness.storage.s3_xml import ListedObject, ListedPage, S3Failure, parse_failure, parse_listing
from tests.fakes.hostile_s3 import listing

if TYPE_CHECKING:
    from pathlib import Path


def _item(key: str, *, size: str = "1", etag: str = "&quot;e&quot;") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{etag}</ETag></Contents>"


def test_listing_of_encoded_keys() -> None:
    """Both ways to encode a space are read; a plus sign comes encoded."""
    body = listing(_item("p/a+b") + _item("p/a%2Bb", size="0") + _item("p/b%20c") + _item("p/%C3%A9"), truncated=True)
    expected = (
        ListedObject("p/a b", 1, "e"),
        ListedObject("p/a+b", 0, "e"),
        ListedObject("p/b c", 1, "e"),
        ListedObject("p/\u00e9", 1, "e"),
    )
    assert parse_listing(body, prefix="p/", after="p/a") == ListedPage(expected, is_truncated=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a ListBucketResult"),
        (b"<html>", "not a ListBucketResult"),
        (b"<Other/>", "not a ListBucketResult"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>', "not a ListBucketResult"),
        ("<ListBucketResult/>".encode("utf-16"), "not a ListBucketResult"),
        (listing("", encoding=""), "not URL-encoded"),
        (listing("").replace(b"false", b"no"), "IsTruncated 'no'"),
        (listing("", truncated=True), "more follows after nothing"),
        (listing(_item("p/b") + _item("p/b")), "does not lead on: 'p/b' came again"),
        (listing(_item("p/1")), "does not lead on: 'p/1' came again"),
        (listing(_item("q")), "not below it"),
        (listing(_item("p/%FF")), "not UTF-8"),
        (listing(_item("")), "without key, size or ETag"),
        (listing(_item("p/a", size="-1")), "without key, size or ETag"),
        (listing(_item("p/a", size="1e3")), "without key, size or ETag"),
        (listing(_item("p/a", etag="")), "without key, size or ETag"),
    ],
)
def test_wrong_listings_are_refused(body: bytes, message: str) -> None:
    """A listing that is not what was asked for is an error, never a shorter list."""
    with pytest.raises(StorageError, match=message):
        parse_listing(body, prefix="p/", after="p/1")


def test_failures() -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    assert parse_failure(body) == S3Failure("AccessDenied", "no")
    assert parse_failure(b"<Error/>") == S3Failure()
    assert parse_failure(b"<html></html>") == S3Failure()
    assert parse_failure(b"<Error><Code>") == S3Failure()
    assert parse_failure(b"Bad gateway") == S3Failure()


@pytest.mark.parametrize(
    ("status", "code", "verdict", "kind"),
    [
        (404, "NoSuchKey", Verdict.FAIL, ObjectMissingError),
        (404, "NoSuchBucket", Verdict.FAIL, StorageRefusedError),
        (409, "ConditionalRequestConflict", Verdict.RETRY, StorageUnavailableError),
        (412, "PreconditionFailed", Verdict.FAIL, PreconditionFailedError),
        (400, "RequestTimeout", Verdict.RETRY, StorageUnavailableError),
        (400, "ExpiredToken", Verdict.REFRESH, StorageRefusedError),
        (400, "InvalidArgument", Verdict.FAIL, StorageError),
        (403, "", Verdict.FAIL, StorageRefusedError),
        (429, "", Verdict.RETRY, StorageUnavailableError),
        (501, "NotImplemented", Verdict.FAIL, UnsupportedConditionError),
        (503, "SlowDown", Verdict.RETRY, StorageUnavailableError),
        (507, "", Verdict.FAIL, StorageRefusedError),
        (500, "QuotaExceeded", Verdict.FAIL, StorageRefusedError),
    ],
)
def test_table_of_answers(status: int, code: str, verdict: Verdict, kind: type[StorageError]) -> None:
    failure = S3Failure(code, "said")
    assert judge(status, failure) is verdict
    error = make_error(status, failure, what="PUT of k in bucket b")
    assert type(error) is kind
    assert str(error).startswith(f"PUT of k in bucket b: {status} {code or '(no code)'} (said)")


@pytest.mark.parametrize(
    ("attempt", "jitter", "wish", "expected"),
    [
        (0, 0.0, None, 0.1),
        (0, 1.0, None, 0.2),
        (3, 1.0, None, 1.6),
        (60, 1.0, None, 8.0),
        (0, 0.0, 0.0, 0.1),
        (0, 0.0, 30.0, 30.0),
        (0, 0.0, 86400.0, 60.0),
    ],
)
def test_pauses(attempt: int, jitter: float, wish: float | None, expected: float) -> None:
    """Doubled, capped, spread; a service's own wish counts up to a minute (P9)."""
    assert backoff(attempt, jitter=jitter, wish=wish) == expected


@pytest.mark.parametrize(
    ("bucket", "endpoint", "expected"),
    [
        ("mirror", "http://127.0.0.1:9000", "http://127.0.0.1:9000/mirror/"),
        ("mirror", "https://s3.eu-1.amazonaws.com", "https://mirror.s3.eu-1.amazonaws.com/"),
        ("my.mirror", "https://s3.eu-1.amazonaws.com", "https://s3.eu-1.amazonaws.com/my.mirror/"),
        ("Mirror", "https://s3.eu-1.amazonaws.com/", "https://s3.eu-1.amazonaws.com/Mirror/"),
    ],
)
def test_bucket_urls(bucket: str, endpoint: str, expected: str) -> None:
    assert make_bucket_url(bucket, endpoint) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("credentials")
def test_endpoints_come_from_boto3() -> None:
    session = boto3.Session()
    assert find_endpoint(session, "eu-central-1") == "https://s3.eu-central-1.amazonaws.com"
    with pytest.raises(ConfigurationError, match="cannot find S3's endpoint"):
        find_endpoint(session, "no region!")


@pytest.mark.usefixtures("credentials")
def test_credentials_missing_or_of_an_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator has to set is said."""
    with pytest.raises(ConfigurationError, match=r"cannot load S3 credentials: .*nobody"):
        load_session("nobody")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="set AWS_ACCESS_KEY_ID"):
        load_session(None)


@pytest.mark.usefixtures("credentials")
def test_broken_configuration_of_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(StorageRefusedError, match="cannot load S3 credentials"):
        load_session(None)


def test_signing_needs_credentials_first() -> None:
    signer = Signer(credentials=Credentials("a", "b"), region="r", profile=None)
    assert repr(signer) == "<Signer for r, credentials loaded 1 times>"
    with pytest.raises(ValueError, match="before freshen"):
        signer.sign("GET", "http://host/", {}, payload_hash="")


async def test_temporary_credentials_are_renewed_before_they_expire() -> None:
    """Refreshable ones are asked for again within their last minutes; where that fails, the operator is told."""
    lifetimes = [60, 3600]

    def refresh() -> dict[str, str]:
        if not lifetimes:
            raise CredentialRetrievalError(provider="test", error_msg="no answer")
        expiry = datetime.now(UTC) + timedelta(seconds=lifetimes.pop(0))
        return {
            "access_key": f"AKIA{len(lifetimes)}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": expiry.isoformat(),
        }

    credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh_using=refresh, method="test")
    signer = Signer(credentials=credentials, region="r", profile=None)
    assert (signer.is_stale, signer.is_temporary) == (True, False)
    await signer.freshen()
    assert (signer.is_stale, signer.is_temporary) == (False, True)
    assert "AKIA0/" in signer.sign("GET", "http://host/", {}, payload_hash="")["Authorization"]
    credentials = RefreshableCredentials("a", "s", "t", datetime.now(UTC), refresh, "test")
    signer = Signer(credentials=credentials, region="r", profile=None)
    with pytest.raises(StorageRefusedError, match="cannot renew the S3 credentials"):
        await signer.freshen()
