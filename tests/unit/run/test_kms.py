"""Keys in AWS KMS, with boto3 against a service on loopback: signatures, trouble, and lies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import boto3
import pytest
import trio
from botocore.exceptions import NoCredentialsError

from mirrorwitness.errors import ConfigurationError, SignatureError, StorageRefusedError
from mirrorwitness.run.kms import MAX_MESSAGE_BYTES, open_kms
from mirrorwitness.run.kms_address import KmsAddress
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, fits_cosignature, make_line
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.tlog.merkle import Hash
from tests.fakes.kms import REGION, FakeKms, KmsFault, serve_kms
from tests.unit.run.kms_site import MESSAGE, NAME, SEED, SPECS, give_credentials, signing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_credentials(monkeypatch, tmp_path)


@pytest.mark.parametrize("spec", SPECS)
async def test_a_key_in_kms_is_the_key_on_disk(spec: str) -> None:
    """The same seed gives the same vkey, and signatures that verify under it."""
    service = FakeKms()
    local = make_signer_key(NAME, SEED, SPECS[spec])
    async with signing(service, service.add(spec, seed=SEED)) as signer:
        assert signer.verifier == local.verifier
        signature = await signer.sign(MESSAGE)
    assert local.verifier.fits(signature, MESSAGE)
    if spec == "ECC_NIST_EDWARDS25519":
        assert signature == local.sign(MESSAGE)


@pytest.mark.parametrize(
    ("spec", "algorithm"), [("ECC_NIST_EDWARDS25519", "ED25519_SHA_512"), ("ML_DSA_44", "ML_DSA_SHAKE_256")]
)
async def test_what_is_asked(spec: str, algorithm: str) -> None:
    """The public half once, at start; each signature by the key's ARN, of the message as it is."""
    service = FakeKms()
    key_id = service.add(spec)
    async with signing(service, key_id) as signer:
        assert repr(signer) == f"<KmsSigner {NAME} {SPECS[spec].title} {service.arn(f'key/{key_id}')}>"
        await signer.sign(b"m")
        await signer.sign(b"m")
    asked = {"Message": "bQ==", "MessageType": "RAW", "SigningAlgorithm": algorithm}
    request = ("Sign", {"KeyId": service.arn(f"key/{key_id}"), **asked})
    assert service.asked == [("GetPublicKey", {"KeyId": key_id}), request, request]


@pytest.mark.parametrize("spec", SPECS)
async def test_a_cosignature_by_kms_verifies(spec: str) -> None:
    """As a line under a checkpoint, the way that anyone checks it."""
    service = FakeKms()
    statement = Statement("log.example", 0, 1, Hash(bytes(32)), MESSAGE.split(b"\n", 2)[2])
    async with signing(service, service.add(spec)) as signer:
        key = signer.verifier
        line = make_line(key, 1700000000, await signer.sign(cosigned_message(key, 1700000000, statement)))
    assert fits_cosignature(key, line, statement)


@pytest.mark.parametrize("form", ["ID", "ARN", "alias", "alias ARN"])
async def test_each_name_of_a_key(form: str) -> None:
    """KMS takes four."""
    service = FakeKms()
    key_id = service.add(alias="alias/w1")
    names = {
        "ID": key_id,
        "ARN": service.arn(f"key/{key_id}"),
        "alias": "alias/w1",
        "alias ARN": service.arn("alias/w1"),
    }
    async with signing(service, names[form]) as signer:
        assert await signer.sign(MESSAGE)


async def test_an_alias_that_is_moved_does_not_change_the_key() -> None:
    """Attack, or mistake: point the alias to another key under a witness that runs."""
    service = FakeKms()
    service.add(alias="alias/w1")
    async with signing(service, "alias/w1") as signer:
        service.add(alias="alias/w1")
        assert signer.verifier.fits(await signer.sign(MESSAGE), MESSAGE)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("fault", [KmsFault(flip=True), KmsFault(stray=True)], ids=["flipped", "of-another-message"])
async def test_a_signature_that_does_not_verify_is_not_released(spec: str, fault: KmsFault) -> None:
    """Attack: a service, or somebody before it, that returns what is no signature of ours. Not asked for again."""
    service = FakeKms()
    async with signing(service, service.add(spec)) as signer:
        service.fail("Sign", fault)
        with pytest.raises(SignatureError, match=rf"what it signed does not verify under {NAME}\+[0-9a-f]{{8}}$"):
            await signer.sign(MESSAGE)
        assert service.count("Sign") == 1
        assert await signer.sign(MESSAGE)


@pytest.mark.parametrize("body", [b'{"Signature": ""}', b'{"Signature": "AAAA"}'], ids=["empty", "short"])
async def test_a_signature_of_another_length_is_none(body: bytes) -> None:
    """Nothing is padded to make it fit."""
    service = FakeKms()
    async with signing(service, service.add()) as signer:
        service.fail("Sign", KmsFault(body=body))
        with pytest.raises(SignatureError, match="does not verify"):
            await signer.sign(MESSAGE)


@pytest.mark.parametrize(
    ("spec", "claimed", "usage", "reason"),
    [
        ("ECC_NIST_EDWARDS25519", "7", "", "its key spec is 7, expected"),
        ("ECC_NIST_P256", "", "", "its key spec is ECC_NIST_P256, expected ECC_NIST_EDWARDS25519 or ML_DSA_44"),
        ("ECC_NIST_P256", "SYMMETRIC_DEFAULT", "", "it has no public key; expected ECC_NIST_EDWARDS25519"),
        ("ECC_NIST_P256", "ECC_NIST_EDWARDS25519", "", "its type is EC.*, expected Ed25519 or ML-DSA-44"),
        ("ECC_NIST_EDWARDS25519", "", "KEY_AGREEMENT", "its key usage is KEY_AGREEMENT, expected SIGN_VERIFY"),
        ("ML_DSA_44", "ECC_NIST_EDWARDS25519", "", "is of the spec ML_DSA_44, the service says ECC_NIST_EDWARDS25519"),
    ],
)
async def test_a_key_of_another_type(spec: str, claimed: str, usage: str, reason: str) -> None:
    """Found and expected are named; a service that says one type and gives out another is not believed."""
    service = FakeKms()
    with pytest.raises(ConfigurationError, match=reason):
        async with signing(service, service.add(spec, claimed=claimed, usage=usage or "SIGN_VERIFY")):
            pytest.fail("opened")


@pytest.mark.parametrize("key_id", ["alias/nix", "arn:aws:kms:us-east-1:111122223333:key/1"])
async def test_no_such_key(key_id: str) -> None:
    """The operator's mistake, and the service's own words with it."""
    with pytest.raises(ConfigurationError, match=r"NotFoundException \(.+\); there is no such key in that account"):
        async with signing(FakeKms(), key_id):
            pytest.fail("opened")


@pytest.mark.parametrize("spec", SPECS)
async def test_a_service_that_says_little(spec: str) -> None:
    """Of the public key's answer its bytes are enough; some emulators leave out the rest."""
    service = FakeKms()
    key_id = service.add(spec, says_little=True)
    async with signing(service, key_id) as signer:
        assert signer.verifier.fits(await signer.sign(MESSAGE), MESSAGE)
    assert service.asked[1][1]["KeyId"] == key_id


async def test_a_key_that_is_taken_away() -> None:
    """Disabled or deleted while the witness runs: trouble of ours, whatever it would be called at start."""
    service = FakeKms()
    key_id = service.add()
    async with signing(service, key_id) as signer:
        service.disable(key_id)
        with pytest.raises(StorageRefusedError, match="enable it"):
            await signer.sign(MESSAGE)
        service.remove(key_id)
        with pytest.raises(StorageRefusedError, match="there is no such key"):
            await signer.sign(MESSAGE)


async def test_the_longest_message() -> None:
    """What KMS takes is sent; what it would refuse is not."""
    service = FakeKms()
    async with signing(service, service.add()) as signer:
        assert await signer.sign(b"m" * MAX_MESSAGE_BYTES)
        with pytest.raises(StorageRefusedError, match="4097 bytes are to be signed, KMS takes 4096"):
            await signer.sign(b"m" * (MAX_MESSAGE_BYTES + 1))
    assert service.count("Sign") == 1


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is sent; so is a profile that is not there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    address = KmsAddress("alias/w1", NAME, region=REGION, endpoint="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="AWS KMS key alias/w1: there are no AWS credentials"):
        async with open_kms(address):
            pytest.fail("opened")
    with pytest.raises(ConfigurationError, match="The config profile \\(nix\\) could not be found"):
        async with open_kms(KmsAddress("alias/w1", NAME, profile="nix")):
            pytest.fail("opened")


async def test_the_region() -> None:
    """Amazon's has to be known; another service's does not."""
    with pytest.raises(ConfigurationError, match="in which region"):
        async with open_kms(KmsAddress("alias/w1", NAME)):
            pytest.fail("opened")
    service = FakeKms()
    service.add(alias="alias/w1")
    async with serve_kms(service) as endpoint:
        with pytest.raises(StorageRefusedError, match="not signed for KMS in this region"):
            async with open_kms(KmsAddress("alias/w1", NAME, endpoint=endpoint)):  # us-east-1, which the fake is not
                pytest.fail("opened")


async def test_the_region_and_keys_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the address names none; expired credentials that cannot be renewed are a no."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    service = FakeKms()
    service.add(alias="alias/w1")
    async with serve_kms(service) as endpoint, open_kms(KmsAddress("alias/w1", NAME, endpoint=endpoint)) as signer:
        assert await signer.sign(MESSAGE)
        monkeypatch.setattr(signer._client, "sign", _no_credentials)
        with pytest.raises(StorageRefusedError, match="Sign: Unable to locate credentials"):
            await signer.sign(MESSAGE)


def _no_credentials(**_request: object) -> None:
    raise NoCredentialsError


@pytest.fixture
def moto_endpoint() -> Iterator[str]:
    """Run the AWS simulator that others wrote, which knows neither Ed25519 nor ML-DSA."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - only where a test asks for it

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.mark.slow
async def test_a_second_opinion_on_wrong_keys(moto_endpoint: str) -> None:
    """What moto answers for an elliptic curve and for no key at all means the same as what our fake answers."""
    client = boto3.Session().client("kms", endpoint_url=moto_endpoint, region_name=REGION)
    made = await trio.to_thread.run_sync(lambda: client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY"))
    client.close()
    cases = {
        made["KeyMetadata"]["KeyId"]: "its type is EC.*, expected Ed25519 or ML-DSA-44",
        "alias/nix": "there is no such key in that account and region",
    }
    for key_id, reason in cases.items():
        with pytest.raises(ConfigurationError, match=reason):
            async with open_kms(KmsAddress(key_id, NAME, region=REGION, endpoint=moto_endpoint)):
                pytest.fail("opened")
