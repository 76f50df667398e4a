"""Who we are to an S3 service: credentials and region from boto3's session, signatures by botocore.

Rules:

- Signature Version 4 is computed by botocore; nothing of it is written here. Only the payload's hash is handed over,
  because the body is hashed already.
- Credentials are looked for where every AWS tool looks (environment, profile, container, instance). Looking may read
  files or ask a server, so it happens in a thread; temporary ones are renewed before they expire.
- `Signer.reload` looks again from the beginning. Any number of tasks that met an expired token at once cause one look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import boto3
import trio
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError

from mirrorwitness.errors import ConfigurationError, StorageRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPMessage

    from botocore.credentials import Credentials, ReadOnlyCredentials

__all__ = ["DEFAULT_REGION", "Signer", "find_endpoint", "load_session", "make_bucket_url"]

DEFAULT_REGION: Final = "us-east-1"
"""What is signed for where nobody named a region; services other than Amazon's mostly do not look."""


class _HashedAuth(S3SigV4Auth):
    """botocore's signer for S3, told the payload's hash instead of computing it again."""

    payload_hash = ""

    _signed: HTTPMessage | None = None

    def payload(self, request: AWSRequest) -> str:  # noqa: ARG002 - botocore's signature
        return self.payload_hash

    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        # botocore asks twice for the same; it is a tenth of the cost of a small put.
        if self._signed is None:
            self._signed = super().headers_to_sign(request)
        return self._signed


def load_session(profile: str | None) -> tuple[boto3.Session, Credentials]:
    """Look for credentials. Blocking.

    Raises:
        ConfigurationError: the profile does not exist, or there are no credentials anywhere.
        StorageRefusedError: a source of credentials failed.
    """
    try:
        session = boto3.Session(profile_name=profile)
        credentials = session.get_credentials()
    except BotoCoreError as error:
        kind = ConfigurationError if type(error).__name__ == "ProfileNotFound" else StorageRefusedError
        raise kind(f"cannot load S3 credentials: {error}") from error
    if credentials is None:
        raise ConfigurationError(
            "there are no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a ?profile="
        )
    return session, credentials


def find_endpoint(session: boto3.Session, region: str) -> str:
    """Return where S3 is for a region, from boto3's tables or ``AWS_ENDPOINT_URL_S3``. Blocking, 0.3 s of CPU.

    Raises:
        ConfigurationError: boto3 knows no such region.
    """
    try:
        client = session.client("s3", region_name=region)  # pyright: ignore[reportUnknownMemberType]
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"cannot find S3's endpoint for the region {region}: {error}") from error
    try:
        return client.meta.endpoint_url
    finally:
        client.close()


def make_bucket_url(bucket: str, endpoint: str) -> str:
    """Return what the URLs of a bucket's objects begin with.

    Amazon wants the bucket in the host name (a dot in it would break TLS, so such a bucket goes into the path);
    everybody else understands it in the path.
    """
    scheme, _, host = endpoint.rstrip("/").partition("://")
    is_amazon = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    if is_amazon and "." not in bucket and bucket == bucket.lower():
        return f"{scheme}://{bucket}.{host}/"
    return f"{scheme}://{host}/{bucket}/"


class Signer:
    """Signs requests with credentials that it keeps fresh.

    Attributes:
        generation: how often credentials were loaded; pass what you saw to `reload`.
    """

    def __init__(self, *, credentials: Credentials, region: str, profile: str | None) -> None:
        self.generation = 0
        self._credentials = credentials
        self._region = region
        self._profile = profile
        self._frozen: ReadOnlyCredentials | None = None
        self._loading = trio.Lock()

    def __repr__(self) -> str:
        return f"<Signer for {self._region}, credentials loaded {self.generation + 1} times>"

    @property
    def is_temporary(self) -> bool:
        """Whether the credentials carry a session token, which expires."""
        return self._frozen is not None and self._frozen.token is not None

    @property
    def is_stale(self) -> bool:
        """Whether `freshen` has something to do before the next `sign`."""
        if self._frozen is None:
            return True
        return isinstance(self._credentials, RefreshableCredentials) and self._credentials.refresh_needed()

    async def freshen(self) -> None:
        """Get credentials that hold for the next minutes; a source may be asked.

        Raises:
            StorageRefusedError: the credentials expired and could not be renewed.
        """
        # Under the lock: a source that answers late must not put back what a `reload` has just replaced.
        async with self._loading:
            if self.is_stale:
                self._frozen = await trio.to_thread.run_sync(_freeze, self._credentials)

    def sign(self, method: str, url: str, headers: Mapping[str, str], *, payload_hash: str) -> dict[str, str]:
        """Return the headers with those that authenticate the request, signed with what `freshen` got.

        Args:
            method: the request's method.
            url: its URL, path and query percent-encoded as they are sent.
            headers: the headers to sign; Host is added by botocore, Content-Length is not signed.
            payload_hash: the SHA-256 of the body in hexadecimal.
        """
        if self._frozen is None:
            raise ValueError("sign was called before freshen")
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        auth = _HashedAuth(self._frozen, "s3", self._region)
        auth.payload_hash = payload_hash
        auth.add_auth(request)
        return dict(request.headers.items())

    async def reload(self, seen: int) -> None:
        """Look for credentials again, unless somebody has since `seen`.

        Raises:
            ConfigurationError: there are none any more.
            StorageRefusedError: a source of credentials failed.
        """
        async with self._loading:
            if self.generation == seen:
                # All at once: tasks that sign or judge an answer meanwhile see the old state or the new one.
                self._credentials, self._frozen = await trio.to_thread.run_sync(_load, self._profile)
                self.generation += 1


def _load(profile: str | None) -> tuple[Credentials, ReadOnlyCredentials]:
    _, credentials = load_session(profile)
    return credentials, _freeze(credentials)


def _freeze(credentials: Credentials) -> ReadOnlyCredentials:
    try:
        return credentials.get_frozen_credentials()
    except BotoCoreError as error:
        raise StorageRefusedError(f"cannot renew the S3 credentials: {error}") from error
