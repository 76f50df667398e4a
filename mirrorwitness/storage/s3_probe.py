"""Single S3 requests for the check of a bucket: the only place that signs a request wrongly, on purpose.

A `SignedSender` sends exactly one request for each call, with the credentials that any other access to the bucket
would use, and gives back whatever comes. Nothing but `mirrorwitness.storage.probe` uses it; data goes through
`mirrorwitness.storage.s3`. SPEC: AWS Signature Version 4 for S3 (botocore's own signer), plain framing only.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import botocore.session
import trio
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from mirrorwitness.errors import ConfigurationError, StorageRefusedError, StorageUnavailableError, UpstreamError
from mirrorwitness.fetch.client import open_fetcher
from mirrorwitness.storage.address import S3Address, parse_address
from mirrorwitness.storage.probe_requests import Answer, Signing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mirrorwitness.fetch.client import Fetcher

__all__ = ["SignedSender", "make_base_url", "open_sender", "sign_request"]

DEFAULT_REGION: Final = "us-east-1"
"""What services of one region take; AWS itself needs the right one."""

_ANSWER_BYTES: Final = 1 << 20
_WRONG_SECRET: Final = "not-the-secret-of-this-storage"  # noqa: S105 - that is the point of it


class _Signer(S3SigV4Auth):
    """botocore's signer, told which payload to claim."""

    def __init__(self, credentials: Credentials, region: str, payload: bytes) -> None:
        super().__init__(credentials, "s3", region)
        self._claimed = hashlib.sha256(payload).hexdigest()

    def payload(self, request: AWSRequest) -> str:  # noqa: ARG002 - botocore's interface
        """Return the hash that the signature covers."""
        return self._claimed


def sign_request(
    method: str, url: str, *, headers: Mapping[str, str], payload: bytes, credentials: Credentials, region: str
) -> dict[str, str]:
    """Return the header fields with which a request is signed, `headers` included."""
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    _Signer(credentials, region, payload).add_auth(request)
    return {str(name): str(value) for name, value in request.headers.items()}


def make_base_url(address: S3Address, *, region: str) -> str:
    """Return the URL of a bucket, without a trailing slash: by path at an endpoint, by host at AWS."""
    if address.endpoint is not None:
        return f"{address.endpoint}/{address.bucket}"
    if "." in address.bucket:
        return f"https://s3.{region}.amazonaws.com/{address.bucket}"
    return f"https://{address.bucket}.s3.{region}.amazonaws.com"


class SignedSender:
    """Sends requests about the keys of one address."""

    def __init__(self, *, fetcher: Fetcher, address: S3Address, credentials: Credentials, region: str) -> None:
        self._fetcher = fetcher
        self._base = f"{make_base_url(address, region=region)}/{quote(address.prefix, safe='/~')}"
        self._credentials = credentials
        self._region = region

    def __repr__(self) -> str:
        return f"<SignedSender {self._base}>"

    async def send(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        payload: bytes | None = None,
        signing: Signing = Signing.RIGHT,
    ) -> Answer:
        """Send one request; see `mirrorwitness.storage.probe_requests.RequestSender`."""
        url = self._base + quote(key, safe="/~")
        fields = dict(headers or {})
        if signing is not Signing.NONE:
            credentials = self._credentials
            if signing is Signing.WRONG_SECRET:
                credentials = Credentials(credentials.access_key, _WRONG_SECRET, credentials.token)
            claimed = body if payload is None else payload
            fields = sign_request(
                method, url, headers=fields, payload=claimed, credentials=credentials, region=self._region
            )
        try:
            async with self._fetcher.request(
                method, url, headers=fields, body=body if method == "PUT" else None
            ) as response:
                content = await response.read(_ANSWER_BYTES)
                return Answer(response.status, response.headers, content)
        except UpstreamError as error:
            raise StorageUnavailableError(f"{method} of {key} got no answer: {error}") from error


@asynccontextmanager
async def open_sender(address: str) -> AsyncGenerator[SignedSender, None]:
    """Open a sender for the address of a bucket.

    Raises:
        ConfigurationError: it is not the address of a bucket, or its profile does not exist.
        StorageRefusedError: there are no credentials.
    """
    parsed = parse_address(address)
    if not isinstance(parsed, S3Address):
        raise ConfigurationError(f"storage address {address!r} is not a bucket's; expected s3://BUCKET/PREFIX")
    credentials, region = await trio.to_thread.run_sync(_find_credentials, parsed)
    async with open_fetcher() as fetcher:
        yield SignedSender(fetcher=fetcher, address=parsed, credentials=credentials, region=region)


def _find_credentials(address: S3Address) -> tuple[Credentials, str]:
    try:
        session = botocore.session.Session(profile=address.profile)
        found = session.get_credentials()
        region = address.region or session.get_config_variable("region") or DEFAULT_REGION
    except BotoCoreError as error:
        raise ConfigurationError(f"the AWS configuration cannot be used: {error}") from error
    if found is None:
        raise StorageRefusedError(f"no credentials for s3://{address.bucket}: set AWS_ACCESS_KEY_ID or a profile")
    frozen = found.get_frozen_credentials()
    return Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token), str(region)
