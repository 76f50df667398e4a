"""Keys of a witness from files, variables and services: what is read, what is refused, and what is never shown."""

from __future__ import annotations

import functools
import getpass
import sys
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, StorageRefusedError
from mirrorwitness.run.kms import KmsSigner
from mirrorwitness.run.signers import KEY_LIMIT, PASSPHRASE_VARIABLE, ask_passphrase, format_pem, open_signers
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key
from mirrorwitness.tlog.pem import SALT_BYTES, encrypt_pem, make_pem, open_pem, parse_pem
from mirrorwitness.witness.signer import LocalSigner
from tests.fakes.kms import REGION, FakeKms, KmsFault, serve_kms
from tests.unit.run.kms_site import give_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NAME = "witness.example/w1"
KEY = make_signer_key(NAME, bytes(range(32)), KeyType.COSIGNATURE)
QUANTUM_KEY = make_signer_key("witness.example/pq", bytes(range(32)), KeyType.ML_DSA_44)
LOG_KEY = make_signer_key("log.example", bytes(range(32)), KeyType.ED25519)
MESSAGE = b"message\n"


@functools.cache
def sealed() -> str:
    """Encrypt once: it takes 0.1 s."""
    return encrypt_pem(make_pem(KEY), "abc", salt=bytes(SALT_BYTES)).format()


def write(path: Path, text: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


async def refuse(sources: Sequence[str], passphrase: Callable[[str], str] | None = None) -> str:
    """Return what is said instead of opening keys."""
    with pytest.raises(ConfigurationError) as caught:
        async with open_signers(sources, passphrase=passphrase):
            pytest.fail("opened")
    return str(caught.value)


async def check_opens(sources: Sequence[str], passphrase: Callable[[str], str] | None = None) -> None:
    """Check that the one source has the key of these tests."""
    async with open_signers(sources, passphrase=passphrase) as opened:
        assert [signer.verifier for signer in opened] == [KEY.verifier]
        assert await opened[0].sign(MESSAGE) == KEY.sign(MESSAGE)


async def test_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both texts of a key, in both places and with both algorithms; the signers are in the order asked for."""
    monkeypatch.setenv("W1", format_signer_key(KEY))
    monkeypatch.setenv("W1_PEM", make_pem(QUANTUM_KEY).format().strip())
    sources = [
        write(tmp_path / "pq.key", format_signer_key(QUANTUM_KEY) + "\n"),
        "env:W1",
        write(tmp_path / "w1.pem", make_pem(KEY).format()),
        "env:W1_PEM",
    ]
    async with open_signers(sources, passphrase=None) as opened:
        assert [signer.verifier for signer in opened] == [
            QUANTUM_KEY.verifier,
            KEY.verifier,
            KEY.verifier,
            QUANTUM_KEY.verifier,
        ]
        for signer in opened:
            assert isinstance(signer, LocalSigner)
            assert signer.verifier.fits(await signer.sign(MESSAGE), MESSAGE)


async def test_no_key() -> None:
    """A witness without one has nothing to do."""
    assert (await refuse([])).startswith("no key: give --key FILE")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601, 0o777])
async def test_a_file_that_others_can_use(tmp_path: Path, mode: int) -> None:
    """It is refused with its mode and the way out, before it is read."""
    path = tmp_path / "w1.key"
    reason = await refuse([write(path, b"\xff", mode)])
    assert reason == f"--key {path}: its mode is {mode:04o}, so others can use it; `chmod 600 {path}`"


@pytest.mark.parametrize("mode", [0o600, 0o400])
async def test_a_file_of_its_owner_alone(tmp_path: Path, mode: int) -> None:
    """Also where the owner cannot write it."""
    await check_opens([write(tmp_path / "w1.key", format_signer_key(KEY), mode)])


@pytest.mark.parametrize("mode", [0o440, 0o400])
async def test_a_secret_that_kubernetes_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """Somebody else owns it, and its group, which is ours, may read it."""
    path = tmp_path / "w1.key"
    source = write(path, format_signer_key(KEY), mode)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    await check_opens([source])


@pytest.mark.parametrize("mode", [0o444, 0o460])
async def test_a_mounted_secret_that_others_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """It is refused: others may read it, or the group may write it."""
    path = tmp_path / "w1.key"
    source = write(path, format_signer_key(KEY), mode)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    assert f"its mode is {mode:04o}" in await refuse([source])


async def test_what_cannot_be_read(tmp_path: Path) -> None:
    """Each source is named with the reason; of what is in it nothing is."""
    cases = {
        str(tmp_path / "nix"): "cannot be read: No such file or directory",
        str(tmp_path): "cannot be read: Is a directory",
        "nul\0": "cannot be read: embedded null byte",
        "env:NIX": "the environment has no such variable",
        write(tmp_path / "large", b"x" * (KEY_LIMIT + 1)): f"more than {KEY_LIMIT} bytes, which no key has",
        write(tmp_path / "binary", b"\xff\xfe"): "is not text",
        write(tmp_path / "empty", b""): "signer key: expected PRIVATE+KEY+NAME+ID+BASE64",
        write(tmp_path / "pem", "-----BEGIN PRIVATE KEY-----\n"): "PEM file: expected one block of base64, ",
    }
    for source, reason in cases.items():
        assert (await refuse([source])).startswith(f"--key {source}: {reason}")


async def test_the_key_of_a_log_does_not_cosign(tmp_path: Path) -> None:
    """Attack: one key in two roles; what it signs as a log would be signed as a witness."""
    reason = await refuse([write(tmp_path / "log.key", format_signer_key(LOG_KEY))])
    assert "its type is 0x01, expected 0x04" in reason
    with pytest.raises(ConfigurationError, match="cannot tell from a cosigner's"):
        format_pem(LOG_KEY, None)


@pytest.mark.parametrize("source", [format_signer_key(KEY), make_pem(KEY).format(), make_pem(KEY).format()[25:]])
async def test_a_key_in_place_of_a_file_is_not_repeated(source: str) -> None:
    """It has been on a command line, and shall not stand in a log too."""
    reason = await refuse([source])
    assert reason.startswith("--key has a private key in place of a file's name; who can list processes")
    assert "MC4CAQ" not in reason
    assert "PRIVATE+KEY" not in reason


async def test_pkcs_11() -> None:
    """It says that it is not there and what is; a PIN in the address is not repeated."""
    reason = await refuse(["pkcs11:token=w1?pin-value=1234"])
    assert reason == (
        "--key pkcs11:…: PKCS#11 is not implemented; use an encrypted PEM file, or a key in AWS KMS "
        "(awskms:KEYID?name=NAME)"
    )


async def test_the_passphrase_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken first, nobody is asked, and keys that are not encrypted do not mind it."""
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "abc")
    path = write(tmp_path / "w1.pem", sealed())
    await check_opens([path], lambda _source: pytest.fail("asked"))
    await check_opens([write(tmp_path / "w1.key", format_signer_key(KEY))])
    monkeypatch.setenv("W1", sealed())
    await check_opens(["env:W1"])


async def test_a_passphrase_is_asked_for(tmp_path: Path) -> None:
    """With the source's name, and only for a key that needs one."""
    asked: list[str] = []

    def answer(source: str) -> str:
        asked.append(source)
        return "abc"

    path = write(tmp_path / "w1.pem", sealed())
    await check_opens([path], answer)
    await check_opens([write(tmp_path / "w1.key", format_signer_key(KEY))], answer)
    assert asked == [path]


async def test_a_wrong_passphrase_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment and of a person; none at all; an empty variable is none."""
    path = write(tmp_path / "w1.pem", sealed())
    wrong = f"--key {path}: PEM file: cannot be decrypted: the passphrase is wrong, or the file is damaged"
    assert await refuse([path], lambda _source: "guess") == wrong
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "guess")
    assert await refuse([path], lambda _source: "abc") == wrong
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "")
    assert await refuse([path]) == f"--key {path}: the key is encrypted; set {PASSPHRASE_VARIABLE}"
    assert (await refuse([path], lambda _source: "")).endswith("the passphrase has 0 bytes, expected 1 to 1023")


def test_asking_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed does not show; without a terminal, or with the end of input, there is an error."""
    prompts: list[str] = []

    def typed(prompt: str) -> str:
        prompts.append(prompt)
        return "abc"

    monkeypatch.setattr(sys, "stdin", _Stdin(is_terminal=False))
    with pytest.raises(ConfigurationError, match=f"no terminal to ask on; set {PASSPHRASE_VARIABLE}"):
        ask_passphrase("w1.pem")
    monkeypatch.setattr(sys, "stdin", _Stdin(is_terminal=True))
    monkeypatch.setattr(getpass, "getpass", typed)
    assert (ask_passphrase("w1.pem"), prompts) == ("abc", ["Passphrase of w1.pem: "])

    def closed(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", closed)
    with pytest.raises(ConfigurationError, match="no passphrase was given"):
        ask_passphrase("w1.pem")


class _Stdin:
    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def test_pem_files_of_keygen() -> None:
    """Without a passphrase and with one; each encryption has its own salt."""
    assert format_pem(KEY, None) == make_pem(KEY).format()
    one, other = format_pem(KEY, "abc"), format_pem(KEY, "abc")
    assert one != other
    assert open_pem(parse_pem(one), "abc") == KEY
    assert bytes(range(32)) not in parse_pem(one).der
    with pytest.raises(ConfigurationError, match="the passphrase has 0 bytes"):
        format_pem(KEY, "")


async def test_keys_in_kms_beside_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation from a file to a service: both sign, in the order asked for."""
    give_credentials(monkeypatch, tmp_path)
    service = FakeKms()
    service.add(alias="alias/w2")
    service.add("ML_DSA_44", alias="alias/pq")
    async with serve_kms(service) as endpoint:
        sources = [
            f"awskms:alias/w2?name=witness.example/w2&region={REGION}&endpoint={endpoint}",
            write(tmp_path / "w1.key", format_signer_key(KEY)),
            f"awskms:alias/pq?name=witness.example/pq&region={REGION}&endpoint={endpoint}",
        ]
        async with open_signers(sources, passphrase=None) as opened:
            names = [(type(signer), signer.verifier.name, signer.verifier.kind) for signer in opened]
            assert names == [
                (KmsSigner, "witness.example/w2", KeyType.COSIGNATURE),
                (LocalSigner, NAME, KeyType.COSIGNATURE),
                (KmsSigner, "witness.example/pq", KeyType.ML_DSA_44),
            ]
            for signer in opened:
                assert signer.verifier.fits(await signer.sign(MESSAGE), MESSAGE)


async def test_a_service_that_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes out as it is."""
    give_credentials(monkeypatch, tmp_path)
    service = FakeKms()
    service.fail("GetPublicKey", KmsFault(code="AccessDeniedException"))
    async with serve_kms(service) as endpoint:
        with pytest.raises(StorageRefusedError, match="AWS KMS key alias/w1: GetPublicKey"):
            async with open_signers([f"awskms:alias/w1?name=w1&region={REGION}&endpoint={endpoint}"], passphrase=None):
                pytest.fail("opened")


async def test_a_typing_error_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    """Neither a service nor a person is bothered where a later source is wrong."""
    first = "awskms:alias/w1?name=w1&region=eu-west-1&endpoint=http://127.0.0.1:1"
    assert "expected name=NAME" in await refuse([first, "awskms:alias/w2"])
    assert "cannot be read" in await refuse([first, str(tmp_path / "nix")])
