"""Open the keys of a witness, wherever they are; and those of a log, which are in files or the environment.

    FILE                             ``PRIVATE+KEY+…`` or PEM, readable by its owner only
    env:NAME                         the same text in a variable
    awskms:KEYID?name=NAME&…         a key in AWS KMS (`mirrorwitness.run.kms_address`)

Rules:

- A key in a file that others can read is refused: it may be somebody else's already. Where another user owns the file,
  as where Kubernetes mounts a secret for us, its group may read it: that is how it reaches us.
- The passphrase of an encrypted PEM is that of `PASSPHRASE_VARIABLE`, and only where there is none is it asked for. One
  variable serves all keys. Neither it nor anything of a key stands in a message.
- A key that was given in place of its file's name is refused without repeating it.
- boto3 is loaded only where an address asks for it.

What it does not do: say which keys may sign together (`mirrorwitness.witness.startup`).
"""

from __future__ import annotations

import getpass
import os
import secrets
import stat
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirrorwitness.config.layers import PASSPHRASE_VARIABLE
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.kms_address import KMS_SCHEME, parse_kms_address
from mirrorwitness.tlog.checkpoint import LOG_KEYS
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import parse_signer_key
from mirrorwitness.tlog.pem import SALT_BYTES, encrypt_pem, is_pem, make_pem, open_pem, parse_pem
from mirrorwitness.witness.signer import LocalSigner

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mirrorwitness.run.kms_address import KmsAddress
    from mirrorwitness.tlog.keys import SignerKey
    from mirrorwitness.witness.signer import Signer

__all__ = ["PASSPHRASE_VARIABLE", "ask_passphrase", "format_pem", "open_signers", "read_log_keys"]

KEY_LIMIT: Final = 64 * 1024
"""Bytes of the largest key file read."""

_ENVIRONMENT: Final = "env:"
_PKCS11: Final = "pkcs11:"
_KEY_BEGINNINGS: Final = ("PRIVATE+KEY+", "-----BEGIN ", "name: ")


@asynccontextmanager
async def open_signers(
    sources: Sequence[str], *, passphrase: Callable[[str], str] | None
) -> AsyncGenerator[list[Signer], None]:
    """Open keys, and yield a signer for each, in the same order.

    Args:
        sources: where they are, see above.
        passphrase: asks somebody for the passphrase of a source, and may block while it does: nothing is served yet.
            None where nobody can be asked.

    Raises:
        ConfigurationError: there are none, or one cannot be read, or is of a wrong type, or others can read its file.
        StorageRefusedError: a service that has a key said no.
        StorageUnavailableError: it does not answer.

    *Resources*: connections and threads for each key in a service, until the block ends.
    """
    if not sources:
        raise ConfigurationError("no key: give --key FILE, made by `mirrorwitness witness keygen`")
    # All that needs no network first: a typing error in the last one is found at once.
    opened = [_open_source(source, passphrase) for source in sources]
    async with AsyncExitStack() as stack:
        signers: list[Signer] = []
        for item in opened:
            if isinstance(item, LocalSigner):
                signers.append(item)
                continue
            from mirrorwitness.run.kms import open_kms  # noqa: PLC0415 - boto3 takes 0.3 s and 45 MB

            signers.append(await stack.enter_async_context(open_kms(item)))
        yield signers


def read_log_keys(sources: Sequence[str]) -> tuple[SignerKey, ...]:
    """Read the keys of a log: ``PRIVATE+KEY+…``, one on each line of a FILE or of the variable of env:NAME.

    Raises:
        ConfigurationError: there are none, one cannot be read, or others can read its file; or they have two names.
    """
    if not sources:
        raise ConfigurationError("no key: give --key FILE, made by `mirrorwitness sumdb init`")
    keys: list[SignerKey] = []
    for source in sources:
        if source.startswith(_KEY_BEGINNINGS):
            raise _given_itself()
        try:
            lines = _read_source(source).split("\n")
            keys += [parse_signer_key(line.strip(), *LOG_KEYS) for line in lines if line.strip()]
        except ConfigurationError as error:
            raise ConfigurationError(f"--key {source}: {error}") from error
    names = sorted({key.name for key in keys})
    if len(names) != 1:
        raise ConfigurationError(
            f"--key: found keys of {', '.join(names)[:200] or 'nobody'}, expected those of one log"
        )
    return tuple(keys)


def format_pem(key: SignerKey, passphrase: str | None) -> str:
    """Write a cosigner's key as a PEM file; the result is as secret as the key, or as the passphrase is good.

    Raises:
        ConfigurationError: it is the key of a log, or the passphrase is empty or too long.
    """
    pem = make_pem(key)
    if passphrase is not None:
        pem = encrypt_pem(pem, passphrase, salt=secrets.token_bytes(SALT_BYTES))
    return pem.format()


def ask_passphrase(source: str) -> str:
    """Ask for the passphrase of a key on the terminal. Blocking.

    Raises:
        ConfigurationError: there is no terminal, or it was closed.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError(f"the key is encrypted, and there is no terminal to ask on; set {PASSPHRASE_VARIABLE}")
    try:
        return getpass.getpass(f"Passphrase of {source}: ")
    except EOFError as error:
        raise ConfigurationError("the key is encrypted, and no passphrase was given") from error


def _open_source(source: str, passphrase: Callable[[str], str] | None) -> LocalSigner | KmsAddress:
    if source.startswith(_KEY_BEGINNINGS):
        raise _given_itself()
    if source.startswith(KMS_SCHEME):
        return parse_kms_address(source)
    if source.startswith(_PKCS11):
        # Not the whole address: it may have a PIN.
        raise ConfigurationError(
            "--key pkcs11:…: PKCS#11 is not implemented; use an encrypted PEM file, or a key in AWS KMS "
            "(awskms:KEYID?name=NAME)"
        )
    try:
        return LocalSigner(_read_key(source, passphrase))
    except ConfigurationError as error:
        raise ConfigurationError(f"--key {source}: {error}") from error


def _read_key(source: str, passphrase: Callable[[str], str] | None) -> SignerKey:
    text = _read_source(source)
    if not is_pem(text):
        return parse_signer_key(text.strip(), *COSIGNER_KEYS)
    pem = parse_pem(text)
    return open_pem(pem, _find_passphrase(source, passphrase) if pem.is_encrypted else None)


def _given_itself() -> ConfigurationError:
    return ConfigurationError(
        "--key has a private key in place of a file's name; who can list processes may have read it: make a new "
        "one, and give its FILE or env:NAME"
    )


def _read_source(source: str) -> str:
    is_variable = source.startswith(_ENVIRONMENT)
    return _read_variable(source.removeprefix(_ENVIRONMENT)) if is_variable else _read_private(Path(source))


def _find_passphrase(source: str, passphrase: Callable[[str], str] | None) -> str:
    found = os.environ.get(PASSPHRASE_VARIABLE)
    if found:
        return found
    if passphrase is None:
        raise ConfigurationError(f"the key is encrypted; set {PASSPHRASE_VARIABLE}")
    return passphrase(source)


def _read_variable(name: str) -> str:
    text = os.environ.get(name)
    if text is None:
        raise ConfigurationError("the environment has no such variable")
    return text


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if mode & (0o077 if status.st_uid == os.geteuid() else 0o037):
                raise ConfigurationError(f"its mode is {mode:04o}, so others can use it; `chmod 600 {path}`")
            body = file.read(KEY_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise ConfigurationError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(body) > KEY_LIMIT:
        raise ConfigurationError(f"more than {KEY_LIMIT} bytes, which no key has")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("is not text") from None  # the cause holds the file's bytes
