"""What ``--storage`` says: parse an address, and open what it names.

    file:DIR[?fsync=on|off&names=plain|escaped&threads=N]
    s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&profile=NAME]

Rules:

- A directory is taken literally, without percent-decoding, up to the first question mark; ``file:///DIR`` works too.
- Credentials never stand in an address: they come from where every AWS tool takes them (environment, profile, role).
- An unknown option, or one given twice, is an error: a misspelt ``fsync`` must not pass in silence.
- S3 code, and boto3 with it, is imported only where an address asks for it.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage import check_key
from mirrorwitness.storage.local_names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mirrorwitness.storage import Storage

__all__ = ["LocalAddress", "S3Address", "open_storage", "parse_address"]

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
"""S3's rule for buckets, with the capitals and underscores of older buckets and other services."""

_MAX_THREADS: Final = 256
"""Most threads for a directory; more only add memory and switches."""

MAX_S3_PREFIX_BYTES: Final = 256
"""Longest prefix within a bucket: leaves 768 of S3's 1,024 bytes, and the longest key of a mirror's layout has 560."""


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """A directory.

    Attributes:
        root: its path.
        fsync: whether writes wait for the disk.
        names: the format asked for; None lets the disk decide.
        threads: operations at a time; None for the default.
    """

    root: Path
    fsync: bool = True
    names: Names | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class S3Address:
    """A place in a bucket.

    Attributes:
        bucket: its name.
        prefix: what all keys begin with there: empty, or ending in a slash.
        endpoint: the service's URL without a trailing slash; None for AWS itself.
        region: the region to sign for; None takes the session's.
        profile: a profile of the AWS configuration; None takes the default one.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None


def parse_address(text: str) -> LocalAddress | S3Address:
    """Parse the address of a storage.

    Raises:
        ConfigurationError: it is none; the message says what was expected.
    """
    if text.startswith("file:"):
        return _parse_local(text)
    if text.startswith("s3://"):
        return _parse_s3(text)
    raise ConfigurationError(
        f"storage address {_shown(text)} begins with neither file: nor s3://; "
        "expected file:DIR or s3://BUCKET/PREFIX?endpoint=URL"
    )


@asynccontextmanager
async def open_storage(address: str) -> AsyncGenerator[Storage, None]:
    """Open the storage that an address names.

    Raises:
        ConfigurationError: the address is wrong, or the directory is not one of ours.
        StorageError: the disk or the service said no, or did not answer.
    """
    parsed = parse_address(address)
    if isinstance(parsed, LocalAddress):
        from mirrorwitness.storage.local import DEFAULT_THREADS, open_local  # noqa: PLC0415 - each kind when asked for

        threads = parsed.threads or DEFAULT_THREADS
        async with open_local(parsed.root, fsync=parsed.fsync, names=parsed.names, threads=threads) as local:
            yield local
    else:
        from mirrorwitness.storage.s3 import open_s3  # noqa: PLC0415 - boto3 takes 0.3 s and 45 MB

        async with open_s3(parsed) as bucket:
            yield bucket


def _parse_local(text: str) -> LocalAddress:
    path, _, query = text.removeprefix("file:").partition("?")
    if path.startswith("//"):
        if not path.startswith("///"):
            raise ConfigurationError(f"storage address {text!r} names a host; expected file:DIR or file:///DIR")
        path = path[2:]
    if not path or "\0" in path:
        raise ConfigurationError(f"storage address {text!r} names no directory; expected file:DIR")
    options = _options(text, query, {"fsync": "on|off", "names": "plain|escaped", "threads": "[1-9][0-9]{0,2}"})
    threads = int(options["threads"]) if "threads" in options else None
    if threads and threads > _MAX_THREADS:
        raise ConfigurationError(f"storage address {text!r}: threads is {threads}, expected at most {_MAX_THREADS}")
    return LocalAddress(
        root=Path(path),
        fsync=options.get("fsync") != "off",
        names=Names(options["names"]) if "names" in options else None,
        threads=threads,
    )


def _parse_s3(text: str) -> S3Address:
    rest, _, query = text.removeprefix("s3://").partition("?")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise ConfigurationError(
            "storage address s3://… holds credentials or a port; credentials come from the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or a profile, the service's address from ?endpoint=URL"
        )
    if not _BUCKET.fullmatch(bucket):
        raise ConfigurationError(
            f"storage address {text!r}: {bucket!r} cannot be a bucket's name (3 to 63 of A-Za-z0-9._-)"
        )
    options = _options(text, query, {"endpoint": ".+", "region": "[A-Za-z0-9-]{1,64}", "profile": ".{1,200}"})
    endpoint = options.get("endpoint")
    return S3Address(
        bucket=bucket,
        prefix=_parse_prefix(text, prefix),
        endpoint=None if endpoint is None else _parse_endpoint(endpoint),
        region=options.get("region"),
        profile=options.get("profile"),
    )


def _parse_prefix(text: str, prefix: str) -> str:
    stripped = prefix.removesuffix("/")
    if not stripped:
        return ""
    try:
        check_key(stripped)
    except ConfigurationError as error:
        raise ConfigurationError(f"storage address {text!r}: {error}") from error
    if len(stripped.encode()) > MAX_S3_PREFIX_BYTES:
        raise ConfigurationError(
            f"storage address {text!r}: the prefix is too long, expected at most {MAX_S3_PREFIX_BYTES} bytes"
        )
    return f"{stripped}/"


def _parse_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise ConfigurationError(
            f"storage endpoint {_shown(endpoint)} is not a URL; expected http(s)://HOST:PORT"
        ) from None
    if not is_url or parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(f"storage endpoint {_shown(endpoint)}: expected http(s)://HOST:PORT and nothing else")
    return endpoint.removesuffix("/")


def _options(text: str, query: str, known: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ConfigurationError(
                f"storage address {_shown(text)} has the option {name!r}; expected {', '.join(known)}"
            )
        if name in options:
            raise ConfigurationError(f"storage address {_shown(text)} has the option {name!r} twice")
        if not re.fullmatch(known[name], value):
            raise ConfigurationError(f"storage address {_shown(text)}: {name} is {value!r}, expected {known[name]}")
        options[name] = value
    return options


def _shown(text: str) -> str:
    """Return an address for a message, without what might be a password in it."""
    return repr(re.sub(r"//[^/@?]*@", "//…@", text)[:200])
