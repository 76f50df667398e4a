"""How a key in AWS KMS is named among the keys of a witness. Pure.

    awskms:KEYID?name=NAME[&region=NAME&endpoint=URL&profile=NAME]

Rules:

- KEYID is a key's ID or ARN, ``alias/NAME`` or an alias's ARN. An ARN names its region, and the option may not name
  another one.
- NAME is the name in the signature lines; KMS has none.
- Credentials never stand in an address: they come from where every AWS tool takes them (environment, profile, role).
- An unknown option, or one given twice, is an error.

What it does not do: talk to KMS (`mirrorwitness.run.kms`); boto3 is not loaded to find a typing error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.keys import is_key_name

__all__ = ["KMS_SCHEME", "KmsAddress", "parse_kms_address"]

KMS_SCHEME: Final = "awskms:"

_REGION: Final = "[a-z0-9-]{1,64}"
_KEY_ID: Final = re.compile(
    rf"arn:aws[a-z-]*:kms:(?P<region>{_REGION}):[0-9]{{12}}:(?:key|alias)/[A-Za-z0-9/_-]{{1,256}}"
    r"|alias/[A-Za-z0-9/_-]{1,250}|[A-Za-z0-9-]{1,128}"
)
_OPTIONS: Final = {
    "name": ".+",
    "region": _REGION,
    "endpoint": r"https?://[A-Za-z0-9.:\[\]-]+/?",
    "profile": ".{1,200}",
}
_USER: Final = re.compile(r"//[^/@?]*@")


@dataclass(frozen=True, slots=True)
class KmsAddress:
    """A key in AWS KMS.

    Attributes:
        key_id: how KMS knows it.
        name: the name in its signatures.
        region: the region; None takes the session's.
        endpoint: the service's URL; None for AWS itself.
        profile: a profile of the AWS configuration; None takes the default one.
    """

    key_id: str
    name: str
    region: str | None = None
    endpoint: str | None = None
    profile: str | None = None

    def __str__(self) -> str:
        """Name it for a message."""
        return f"AWS KMS key {self.key_id}"


def parse_kms_address(text: str) -> KmsAddress:
    """Read the address of a key.

    Raises:
        ConfigurationError: it is none; the message says what was expected.
    """
    shown = repr(_USER.sub("//…@", text)[:200])
    key_id, _, query = text.removeprefix(KMS_SCHEME).partition("?")
    found = _KEY_ID.fullmatch(key_id)
    if not text.startswith(KMS_SCHEME) or found is None:
        raise ConfigurationError(
            f"{shown}: expected awskms:KEYID?name=NAME, the KEYID being an ID, an ARN or alias/NAME"
        )
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS or name in options:
            raise ConfigurationError(
                f"{shown}: the option {name!r}; expected each of {', '.join(_OPTIONS)} at most once"
            )
        if not re.fullmatch(_OPTIONS[name], value):
            raise ConfigurationError(f"{shown}: the option {name} does not fit {_OPTIONS[name]}")
        options[name] = value
    if not is_key_name(options.get("name", "")):
        raise ConfigurationError(f"{shown}: expected name=NAME, the name of the key in its signatures, like host/w1")
    region = found["region"]
    if region and options.setdefault("region", region) != region:
        raise ConfigurationError(f"{shown}: the ARN is of the region {region}, the option says {options['region']}")
    return KmsAddress(key_id, **options)
