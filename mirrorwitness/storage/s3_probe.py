"""Single S3 requests for the check of a bucket: the only place that signs a request wrongly, on purpose.

A `SignedSender` sends exactly one request for each call, with the credentials that any other access to the bucket
would use, and gives back whatever comes. Nothing but `mirrorwitness.storage.probe` uses it; data goes through
`mirrorwitness.storage.s3`, whose `Signer` this uses with the bucket's credentials, and once with a wrong secret.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import trio
from botocore.credentials import Credentials

from mirrorwitness.errors import ConfigurationError, StorageUnavailableError, UpstreamError
from mirrorwitness.fetch.client import open_fetcher
from mirrorwitness.storage.address import S3Address, parse_address
from mirrorwitness.storage.probe_requests import Answer, Signing
from mirrorwitness.storage.s3_sign import DEFAULT_REGION, Signer, find_endpoint, load_session, make_bucket_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mirrorwitness.fetch.client import Fetcher

__all__ = ["SignedSender", "open_sender"]

_ANSWER_BYTES: Final = 1 << 20
_WRONG_SECRET: Final = "not-the-secret-of-this-storage"  # noqa: S105 - that is the point of it


class SignedSender:
    """Sends requests about the keys of one address."""

    def __init__(self, *, fetcher: Fetcher, base: str, signers: Mapping[Signing, Signer]) -> None:
        self._fetcher = fetcher
        self._base = base
        self._signers = signers

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
            claimed = hashlib.sha256(body if payload is None else payload).hexdigest()
            signer = self._signers[signing]
            if signer.is_stale:
                await signer.freshen()
            fields = signer.sign(method, url, fields, payload_hash=claimed)
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
        ConfigurationError: it is not the address of a bucket, or there are no credentials.
        StorageRefusedError: a source of credentials failed.
    """
    parsed = parse_address(address)
    if not isinstance(parsed, S3Address):
        raise ConfigurationError(f"storage address {address!r} is not a bucket's; expected s3://BUCKET/PREFIX")
    signers, bucket_url = await trio.to_thread.run_sync(_prepare, parsed)
    base = bucket_url + quote(parsed.prefix, safe="/~")
    async with open_fetcher() as fetcher:
        yield SignedSender(fetcher=fetcher, base=base, signers=signers)


def _prepare(address: S3Address) -> tuple[Mapping[Signing, Signer], str]:
    session, credentials = load_session(address.profile)
    region = address.region or session.region_name or DEFAULT_REGION
    frozen = credentials.get_frozen_credentials()
    wrong = Credentials(str(frozen.access_key), _WRONG_SECRET, frozen.token)
    signers = {
        signing: Signer(credentials=each, region=region, profile=address.profile)
        for signing, each in ((Signing.RIGHT, credentials), (Signing.WRONG_SECRET, wrong))
    }
    return signers, make_bucket_url(address.bucket, address.endpoint or find_endpoint(session, region))
