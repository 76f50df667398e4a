"""Keys that never leave AWS KMS: the public half is read at start, each signature is asked for.

Rules:

- An alias is looked up once, at start: what it points to later is another key.
- Keys are of the spec ECC_NIST_EDWARDS25519 (signs with ED25519_SHA_512) or ML_DSA_44 (ML_DSA_SHAKE_256), for signing,
  and the messages are sent as they are (RAW): KMS then makes the signatures that any verifier expects.
- What the service returns is verified under the public key that was read at start before it is released. One that does
  not verify is a `SignatureError`, and is not asked for again.
- Throttling, 5xx, timeouts and answers that cannot be read are tried again `TRIES` times within one deadline, with
  pauses of our own: botocore's would hold a thread. Signing twice does no harm.
- boto3 blocks, so it runs in threads with a limiter of their own. A call whose deadline passed is left alone, and its
  signature is dropped when it comes.
- Credentials come from where every AWS tool takes them; they need kms:GetPublicKey and kms:Sign.

A known hole: KMS signs at most `MAX_MESSAGE_BYTES` at once, and Ed25519 has no way round it. A checkpoint with
extension lines of that length is not cosigned with an Ed25519 key of KMS; it is refused before anything is sent.

What it does not do: addresses (`mirrorwitness.run.kms_address`), make keys, read their policies.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

import boto3
import trio
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from mirrorwitness.errors import (
    ConfigurationError,
    MirrorWitnessError,
    SignatureError,
    StorageRefusedError,
    StorageUnavailableError,
)
from mirrorwitness.storage.s3_errors import backoff
from mirrorwitness.storage.s3_sign import DEFAULT_REGION
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.pem import parse_public_der

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from mirrorwitness.run.kms_address import KmsAddress
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["MAX_MESSAGE_BYTES", "KmsSigner", "Patience", "open_kms"]

MAX_MESSAGE_BYTES: Final = 4096
"""Longest message that KMS signs at once."""

TRIES: Final = 3
"""How often one request is sent."""

THREADS: Final = 8
"""Requests to one key at a time: at 20 ms each, 400 signatures a second."""

_SPECS: Final = {KeyType.COSIGNATURE: "ECC_NIST_EDWARDS25519", KeyType.ML_DSA_44: "ML_DSA_44"}
_ALGORITHMS: Final = {KeyType.COSIGNATURE: "ED25519_SHA_512", KeyType.ML_DSA_44: "ML_DSA_SHAKE_256"}
_EXPECTED: Final = " or ".join(_SPECS.values())

_BUSY_CODES: Final = frozenset({
    "DependencyTimeoutException",
    "InternalFailure",
    "KMSInternalException",
    "KeyUnavailableException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
})
_BUSY_STATUSES: Final = frozenset({408, 429})
_SERVER_ERROR: Final = 500

_WRONG_KEY_CODES: Final = frozenset({
    "InvalidArnException",
    "InvalidKeyUsageException",
    "NotFoundException",
    "UnsupportedOperationException",
    "ValidationException",
})
"""Codes that say, at start, that the address does not name a key that signs."""

_ADVICE: Final = {
    "AccessDeniedException": "allow kms:GetPublicKey and kms:Sign on it",
    "DisabledException": "enable it",
    "ExpiredTokenException": "the credentials have expired; renew them",
    "InvalidSignatureException": "the secret key does not fit the access key, or this machine's clock is wrong",
    "NotFoundException": "there is no such key in that account and region",
    "UnrecognizedClientException": "the service does not know this access key",
    "UnsupportedOperationException": f"it has no public key; expected {_EXPECTED}",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds. A log waits meanwhile, and so do the others of its requests.

    Attributes:
        connect: for a connection.
        read: for an answer; KMS takes some 20 ms.
        total: for a signature, with all tries and the wait for a thread.
    """

    connect: float = 2.0
    read: float = 3.0
    total: float = 8.0


_Answer: TypeAlias = "tuple[Mapping[str, object], bytes]"


class _Kms(Protocol):
    """What is used of boto3's client, which may be called from any thread."""

    def get_public_key(self, *, KeyId: str) -> Mapping[str, object]: ...  # noqa: N803 - KMS's names
    def sign(self, **request: object) -> Mapping[str, object]: ...
    def close(self) -> None: ...


@asynccontextmanager
async def open_kms(address: KmsAddress, *, patience: Patience | None = None) -> AsyncGenerator[KmsSigner, None]:
    """Read the public half of a key, and yield a signer.

    Raises:
        ConfigurationError: there are no credentials or no such key, or it is of another type.
        StorageRefusedError: the service said no.
        StorageUnavailableError: it does not answer.
    """
    patience = patience or Patience()
    client = await trio.to_thread.run_sync(_connect, address, patience)
    try:
        caller = _Caller(address, patience)
        answer, der = await caller.call(client.get_public_key, "GetPublicKey", "PublicKey", KeyId=address.key_id)
        verifier = _read_public_key(address, answer, der)
        found = answer.get("KeyId")
        key_id = found if isinstance(found, str) and found else address.key_id
        yield KmsSigner(client, caller, key_id=key_id, verifier=verifier)
    finally:
        client.close()


class KmsSigner:
    """A `mirrorwitness.witness.signer.Signer` whose key is in AWS KMS; made by `open_kms`.

    *Cancellation*: at any time; the service may then have signed what nobody gets.
    """

    def __init__(self, client: _Kms, caller: _Caller, *, key_id: str, verifier: VerifierKey) -> None:
        self._client = client
        self._caller = caller
        self._key_id = key_id
        self._verifier = verifier

    def __repr__(self) -> str:
        return f"<KmsSigner {self._verifier.name} {self._verifier.kind.title} {self._key_id}>"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return self._verifier

    async def sign(self, message: bytes) -> bytes:
        """Return the bare signature of a message, which verifies.

        Raises:
            StorageUnavailableError: the service is busy or does not answer.
            StorageRefusedError: it said no, or the message is too long for it.
            SignatureError: what it returned does not verify; it was not released.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise StorageRefusedError(
                f"AWS KMS key {self._key_id}: {len(message)} bytes are to be signed, KMS takes {MAX_MESSAGE_BYTES}"
            )
        request = {"Message": message, "MessageType": "RAW", "SigningAlgorithm": _ALGORITHMS[self._verifier.kind]}
        try:
            _, signature = await self._caller.call(
                self._client.sign, "Sign", "Signature", KeyId=self._key_id, **request
            )
        except ConfigurationError as error:
            # What was right at start: the key was removed meanwhile. For a log this is trouble of ours like any other.
            raise StorageRefusedError(str(error)) from error
        if not self._verifier.fits(signature, message):
            key = f"{self._verifier.name}+{self._verifier.key_id.hex()}"
            raise SignatureError(f"AWS KMS key {self._key_id}: what it signed does not verify under {key}")
        return signature


class _Caller:
    """Calls a client in threads, again where that may help, until a deadline."""

    def __init__(self, address: KmsAddress, patience: Patience) -> None:
        self._address = address
        self._patience = patience
        self._limiter = trio.CapacityLimiter(THREADS)
        self._jitter = random.SystemRandom().random

    async def call(
        self, method: Callable[..., Mapping[str, object]], operation: str, wanted: str, **request: object
    ) -> _Answer:
        """Send a request until there is an answer that counts; raise what another one means.

        Returns:
            The answer, and its field `wanted`, which is bytes.
        """
        what = f"{self._address}: {operation}"
        ask = partial(_ask, partial(method, **request), what, wanted)
        try:
            with trio.fail_after(self._patience.total):
                return await self._try(ask)
        except trio.TooSlowError:
            raise StorageUnavailableError(f"{what}: no answer within {self._patience.total:g} s") from None

    async def _try(self, ask: Callable[[], _Answer]) -> _Answer:
        for attempt in range(TRIES - 1):
            try:
                return await self._run(ask)
            except StorageUnavailableError:
                await trio.sleep(backoff(attempt, jitter=self._jitter()))
        return await self._run(ask)

    async def _run(self, ask: Callable[[], _Answer]) -> _Answer:
        return await trio.to_thread.run_sync(ask, limiter=self._limiter, abandon_on_cancel=True)


def _connect(address: KmsAddress, patience: Patience) -> _Kms:
    """Make a client. Blocking, 0.3 s of CPU; sources of credentials may be asked."""
    config = Config(
        connect_timeout=patience.connect,
        read_timeout=patience.read,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=THREADS,
    )
    try:
        session = boto3.Session(profile_name=address.profile)
        if session.get_credentials() is None:
            raise ConfigurationError(
                f"{address}: there are no AWS credentials; set AWS_ACCESS_KEY_ID, or name a ?profile="
            )
        region = address.region or session.region_name or (DEFAULT_REGION if address.endpoint else None)
        if region is None:
            raise ConfigurationError(f"{address}: in which region? Name a ?region=, or set AWS_DEFAULT_REGION")
        client = session.client(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            "kms", region_name=region, endpoint_url=address.endpoint, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"{address}: {error}") from error
    return cast("_Kms", client)


def _ask(method: Callable[[], Mapping[str, object]], what: str, wanted: str) -> _Answer:
    """Call boto3, in a thread, and let only errors of ours out."""
    try:
        answer = method()
    except ClientError as error:
        raise _make_error(error, what) from error
    except (BotoConnectionError, HTTPClientError) as error:
        raise StorageUnavailableError(f"{what}: {error}") from error
    except BotoCoreError as error:
        raise StorageRefusedError(f"{what}: {error}") from error
    except (ResponseParserError, ValueError, TypeError, AttributeError) as error:
        # botocore's parser stumbles over what is no JSON, no object or no base64, each in a way of its own.
        raise StorageUnavailableError(f"{what}: the answer cannot be read ({type(error).__name__})") from error
    value = answer.get(wanted)
    if not isinstance(value, bytes):  # botocore takes what is no JSON, a cut body among it, for an empty answer
        raise StorageUnavailableError(f"{what}: the answer has no {wanted}")
    return answer, value


def _make_error(error: ClientError, what: str) -> MirrorWitnessError:
    """Return what an answer that is no success means."""
    said = error.response.get("Error", {})
    code, message = said.get("Code", ""), said.get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{what}: {status} {code} ({message[:300]})"
    if code in _BUSY_CODES or status in _BUSY_STATUSES or status >= _SERVER_ERROR:
        return StorageUnavailableError(text)
    kind = ConfigurationError if code in _WRONG_KEY_CODES else StorageRefusedError
    return kind(f"{text}; {_ADVICE[code]}" if code in _ADVICE else text)


def _read_public_key(address: KmsAddress, answer: Mapping[str, object], der: bytes) -> VerifierKey:
    """Return the public key, if it is one that cosigns."""
    spec, usage = answer.get("KeySpec"), answer.get("KeyUsage")
    if spec is not None and spec not in _SPECS.values():  # not every emulator says it
        raise ConfigurationError(f"{address}: its key spec is {spec}, expected {_EXPECTED}")
    if usage is not None and usage != "SIGN_VERIFY":
        raise ConfigurationError(f"{address}: its key usage is {usage}, expected SIGN_VERIFY")
    verifier = parse_public_der(der, name=address.name)
    expected = _SPECS[verifier.kind]
    if spec is not None and spec != expected:  # at least one emulator gave out a P-521 key as Ed25519
        raise ConfigurationError(f"{address}: its public key is of the spec {expected}, the service says {spec}")
    return verifier
