"""What an S3 answer means: done again, asked again with fresh credentials, or one of our errors. Pure.

The table comes from Amazon's list of error codes and from what the servers of research/E 1.3 answer: 412 lost, 409 try
again, 501 not done here, 5xx and 429 try later with the outcome unknown.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    ObjectMissingError,
    PreconditionFailedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
)

if TYPE_CHECKING:
    from mirrorwitness.storage.s3_xml import S3Failure

__all__ = ["Verdict", "backoff", "judge", "make_error"]

TRIES: Final = 7
"""How often one request is sent: with `backoff`, over about 10 s of a service's trouble."""

_FIRST_PAUSE: Final = 0.2
"""Seconds before the second try, doubled for each further one."""

_LONGEST_PAUSE: Final = 8.0
"""Seconds; a service in trouble is asked at least so often."""

_LONGEST_WISH: Final = 60.0
"""Seconds of a service's own ``Retry-After`` that are honoured."""

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})

_RETRIED_CODES: Final = frozenset({
    "SlowDown",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "OperationAborted",
    "ConditionalRequestConflict",
    "ConcurrentModification",
})

_RETRIED_STATUSES: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "StorageFull", "XMinioStorageFull", "EntityTooLarge"})

_ADVICE: Final = {
    "NoSuchBucket": "create it, or correct the address",
    "AccessDenied": "allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there",
    "InvalidAccessKeyId": "the service does not know this access key",
    "SignatureDoesNotMatch": "the secret key or the region does not fit the access key",
    "AuthorizationHeaderMalformed": "the region does not fit; give ?region=NAME",
    "PermanentRedirect": "the bucket is in another region; give ?region=NAME",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "the credentials have expired and no newer ones were found; renew them",
}


class Verdict(Enum):
    """What to do with an answer that is no success."""

    RETRY = auto()
    """Send it again after a pause; a write may have taken effect."""
    REFRESH = auto()
    """Load the credentials again and send it again, once."""
    FAIL = auto()
    """Raise `make_error`."""


def judge(status: int, failure: S3Failure) -> Verdict:
    """Decide what to do about an answer that is no success."""
    if failure.code in _EXPIRED:
        return Verdict.REFRESH
    if failure.code in _FULL or failure.code == "NoSuchBucket":
        return Verdict.FAIL
    if status in _RETRIED_STATUSES or failure.code in _RETRIED_CODES:
        return Verdict.RETRY
    return Verdict.FAIL


def make_error(status: int, failure: S3Failure, *, what: str) -> StorageError:
    """Return the error that an answer means.

    Args:
        status: its HTTP status.
        failure: what its body said.
        what: the request, for the message: method, bucket and key.
    """
    said = f"{what}: {status} {failure.code or '(no code)'}"
    said += f" ({failure.message})" if failure.message else ""
    advice = _ADVICE.get(failure.code)
    kind = _error_kind(status, failure.code)
    if kind is UnsupportedConditionError:
        advice = "this service does no conditional writes of this kind"
    return kind(f"{said}; {advice}" if advice else said)


def backoff(attempt: int, *, jitter: float, wish: float | None = None) -> float:
    """Return the seconds to wait after failure number `attempt` (from 0).

    Args:
        attempt: how many failures there were before.
        jitter: a random number from 0 to 1; spreads clients over half of the pause.
        wish: the service's ``Retry-After`` in seconds; at least so long is waited, up to a minute.
    """
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt) * (0.5 + jitter / 2)
    return pause if wish is None else max(pause, min(wish, _LONGEST_WISH))


def _error_kind(status: int, code: str) -> type[StorageError]:
    if code in _FULL or status == 507:  # noqa: PLR2004 - Insufficient Storage
        return StorageRefusedError
    if status in {301, 307, 401, 403, 405} or code in _EXPIRED or code in _ADVICE:
        return StorageRefusedError  # the service says no to us, and not to this one request
    return {
        404: ObjectMissingError,
        412: PreconditionFailedError,
        501: UnsupportedConditionError,
    }.get(status) or (
        StorageUnavailableError if status in _RETRIED_STATUSES or code in _RETRIED_CODES else StorageError
    )
