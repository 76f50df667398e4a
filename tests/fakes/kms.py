"""A small AWS KMS on loopback that is honest by default and does wrong on request.

It speaks the JSON 1.1 protocol of KMS for GetPublicKey and Sign, with real Ed25519 and ML-DSA-44 keys, and refuses what
KMS refuses: unknown and disabled keys, keys of other use, algorithms and message types that do not fit the key, too
long messages, requests that are not signed for KMS (it checks no signature). A `KmsFault` says what it does wrong for
the next requests of an operation.

Status codes and bodies are those of botocore's service model and of Amazon's API reference.
"""

from __future__ import annotations

import base64
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fakes.registry_server import RecordedRequest, Reply
from tests.fakes.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["ACCOUNT", "REGION", "FakeKms", "KmsFault", "serve_kms"]

ACCOUNT: Final = "111122223333"
REGION: Final = "eu-west-1"

_TYPE: Final = "application/x-amz-json-1.1"
_TARGET: Final = "TrentService."
_MAX_MESSAGE: Final = 4096
_SCOPE: Final = re.compile(
    rf"AWS4-HMAC-SHA256 Credential=\w+/[0-9]{{8}}/{REGION}/kms/aws4_request, .*Signature=\w{{64}}"
)

_ALGORITHMS: Final = {
    "ECC_NIST_EDWARDS25519": ["ED25519_SHA_512", "ED25519_PH_SHA_512"],
    "ML_DSA_44": ["ML_DSA_SHAKE_256"],
    "ECC_NIST_P256": ["ECDSA_SHA_256"],
}
_MESSAGE_TYPES: Final = {
    "ED25519_SHA_512": {"RAW"},
    "ED25519_PH_SHA_512": {"DIGEST"},
    "ML_DSA_SHAKE_256": {"RAW", "EXTERNAL_MU"},
    "ECDSA_SHA_256": {"RAW", "DIGEST"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsFault:
    """What goes wrong with one request.

    Attributes:
        status: the answer's status.
        code: the code in the error's body; empty for no JSON at all.
        message: what it says with it.
        body: the body in place of the right one.
        hang: never answer.
        reset: break the connection after so many bytes.
        cut: end the connection after so many bytes of the body.
        flip: change one bit of the signature.
        stray: sign another message than the one that was sent.
    """

    status: int = 200
    code: str = ""
    message: str = "as planned"
    body: bytes | None = None
    hang: bool = False
    reset: int | None = None
    cut: int | None = None
    flip: bool = False
    stray: bool = False


@dataclass(slots=True)
class _Key:
    arn: str
    spec: str
    usage: str
    private: Ed25519PrivateKey | MLDSA44PrivateKey | EllipticCurvePrivateKey
    says_little: bool
    enabled: bool = True


class _Refused(Exception):  # noqa: N818 - a way out of nested calls, not an error of the fake
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code)
        self.reply = _json(status, {"__type": code, "message": message})


@dataclass
class FakeKms:
    """The state of one service in one account and region: keys, aliases, planned faults, requests seen.

    Attributes:
        aliases: name with ``alias/`` → ID.
        asked: operation and parameters of each request, in order.
        latency: seconds before each answer.
    """

    prefix: str = ""
    base: str = ""
    latency: float = 0.0
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    _news: trio.Event = field(default_factory=trio.Event)
    _keys: dict[str, _Key] = field(default_factory=dict[str, _Key])
    _faults: dict[str, list[KmsFault]] = field(default_factory=dict[str, list[KmsFault]])

    def add(
        self,
        spec: str = "ECC_NIST_EDWARDS25519",
        *,
        alias: str = "",
        usage: str = "SIGN_VERIFY",
        claimed: str = "",
        seed: bytes | None = None,
        says_little: bool = False,
    ) -> str:
        """Make a key; return its ID.

        Args:
            spec: its type.
            alias: a name for it, with ``alias/``.
            usage: its use.
            claimed: the type that it says it has, where that is another one.
            seed: makes an Ed25519 or ML-DSA-44 key of these bytes.
            says_little: nothing but the public key is in the answer to GetPublicKey.
        """
        key_id = f"00000000-0000-4000-8000-{len(self._keys):012}"
        private: Ed25519PrivateKey | MLDSA44PrivateKey | EllipticCurvePrivateKey
        if spec == "ML_DSA_44":
            private = MLDSA44PrivateKey.from_seed_bytes(seed) if seed else MLDSA44PrivateKey.generate()
        elif spec == "ECC_NIST_EDWARDS25519":
            private = Ed25519PrivateKey.from_private_bytes(seed) if seed else Ed25519PrivateKey.generate()
        else:
            private = generate_private_key(SECP256R1())
        self._keys[key_id] = _Key(self.arn(f"key/{key_id}"), claimed or spec, usage, private, says_little)
        if alias:
            self.aliases[alias] = key_id
        return key_id

    @staticmethod
    def arn(resource: str) -> str:
        """Return the ARN of ``key/ID`` or ``alias/NAME``."""
        return f"arn:aws:kms:{REGION}:{ACCOUNT}:{resource}"

    def disable(self, key_id: str) -> None:
        """Let a key sign nothing any more."""
        self._keys[key_id].enabled = False

    def remove(self, key_id: str) -> None:
        """Forget a key, as after its waiting period."""
        del self._keys[key_id]

    def fail(self, operation: str, fault: KmsFault, *, times: int = 1) -> None:
        """Plan a fault for the next requests of an operation, after those that are planned."""
        self._faults.setdefault(operation, []).extend([fault] * times)

    def count(self, operation: str) -> int:
        """Return how many requests of an operation came."""
        return sum(asked == operation for asked, _ in self.asked)

    async def wait_asked(self, operation: str, count: int) -> None:
        """Wait until so many requests of an operation came."""
        while self.count(operation) < count:
            await self._news.wait()

    def answer(self, request: RecordedRequest) -> Reply:
        """Return the reply to a request; see `tests.fakes.serving.Simulator`."""
        operation = request.headers.get("x-amz-target", "").removeprefix(_TARGET)
        try:
            body = json.loads(request.body)
            self.asked.append((operation, body))
            self._news.set()
            self._news = trio.Event()
            planned = self._faults.get(operation)
            fault = planned.pop(0) if planned else KmsFault()
            if fault.status != 200 or fault.code:
                return _failure(fault)
            self._check(request)
            value = self._sign(body, fault) if operation == "Sign" else self._get_public_key(operation, body)
        except _Refused as refused:
            return refused.reply
        reply = _json(200, value)
        body_sent = reply.body if fault.body is None else fault.body
        return Reply(200, reply.headers, body_sent, hang=fault.hang, reset=fault.reset, cut=fault.cut)

    def _check(self, request: RecordedRequest) -> None:
        if (request.method, request.target, request.headers.get("content-type")) != ("POST", "/", _TYPE):
            raise _Refused("UnknownOperationException", "", 404)
        if not _SCOPE.fullmatch(request.headers.get("authorization", "")):
            raise _Refused("IncompleteSignatureException", "not signed for KMS in this region", 403)

    def _get_public_key(self, operation: str, body: Mapping[str, Any]) -> dict[str, object]:
        if operation != "GetPublicKey":
            raise _Refused("UnknownOperationException", operation)
        key = self._find(body)
        if key.spec == "SYMMETRIC_DEFAULT":
            raise _Refused("UnsupportedOperationException", f"{key.arn} is not asymmetric")
        der = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        public: dict[str, object] = {"PublicKey": base64.b64encode(der).decode()}
        if key.says_little:
            return public
        return public | {
            "CustomerMasterKeySpec": key.spec,
            "KeyId": key.arn,
            "KeySpec": key.spec,
            "KeyUsage": key.usage,
            "SigningAlgorithms": _ALGORITHMS.get(key.spec, []),
        }

    def _sign(self, body: Mapping[str, Any], fault: KmsFault) -> dict[str, object]:
        key, algorithm = self._find(body), body["SigningAlgorithm"]
        message = base64.b64decode(body["Message"], validate=True)
        if not 1 <= len(message) <= _MAX_MESSAGE:
            raise _Refused("ValidationException", f"the message has {len(message)} bytes")
        if key.usage != "SIGN_VERIFY" or algorithm not in _ALGORITHMS.get(key.spec, []):
            raise _Refused("InvalidKeyUsageException", f"{algorithm} does not fit {key.spec}")
        if body.get("MessageType", "RAW") not in _MESSAGE_TYPES[algorithm] or algorithm == "ED25519_PH_SHA_512":
            raise _Refused("ValidationException", f"message type {body.get('MessageType')} is incompatible")
        if isinstance(key.private, EllipticCurvePrivateKey):
            raise _Refused("InvalidKeyUsageException", "this fake makes no ECDSA")
        signature = key.private.sign(message + b"?" if fault.stray else message)
        if fault.flip:
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        encoded = base64.b64encode(signature).decode()
        return {"KeyId": key.arn, "Signature": encoded, "SigningAlgorithm": algorithm}

    def _find(self, body: Mapping[str, Any]) -> _Key:
        asked: str = body["KeyId"]
        resource = asked.removeprefix(self.arn(""))
        key_id = self.aliases.get(resource, resource.removeprefix("key/"))
        if asked.startswith("arn:") and resource == asked:
            raise _Refused("NotFoundException", f"Invalid arn {asked}")
        key = self._keys.get(key_id)
        if key is None:
            raise _Refused("NotFoundException", f"Key '{self.arn('key/' + key_id)}' does not exist")
        if not key.enabled:
            raise _Refused("DisabledException", f"{key.arn} is disabled.")
        return key


@asynccontextmanager
async def serve_kms(service: FakeKms) -> AsyncGenerator[str, None]:
    """Serve on a loopback port for the length of a block; gives the endpoint."""
    async with serve(service) as url:
        yield url


def _failure(fault: KmsFault) -> Reply:
    if not fault.code:
        return Reply(fault.status, (("content-type", "text/html"),), b"<html>as planned</html>")
    status = 400 if fault.status == 200 else fault.status
    return _json(status, {"__type": fault.code, "message": fault.message})


def _json(status: int, value: object) -> Reply:
    return Reply(status, (("content-type", _TYPE),), json.dumps(value).encode())
