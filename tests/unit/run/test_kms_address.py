"""Addresses of keys in AWS KMS: what is one, and what only resembles it."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.kms_address import KmsAddress, parse_kms_address

NAME = "witness.example/w1"
ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-west-1:111122223333:key/{ID}"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (f"awskms:{ID}?name={NAME}", KmsAddress(ID, NAME)),
        (f"awskms:mrk-0123?name={NAME}", KmsAddress("mrk-0123", NAME)),
        (f"awskms:alias/logs/w_1?name={NAME}", KmsAddress("alias/logs/w_1", NAME)),
        (f"awskms:{ARN}?name={NAME}", KmsAddress(ARN, NAME, region="eu-west-1")),
        (f"awskms:{ARN}?name={NAME}&region=eu-west-1", KmsAddress(ARN, NAME, region="eu-west-1")),
        (
            f"awskms:arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/w1?name={NAME}",
            KmsAddress("arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/w1", NAME, region="us-gov-west-1"),
        ),
        (
            f"awskms:{ID}?region=eu-west-1&endpoint=http://[::1]:80/&profile=my%20own&name=witness.example%2Fw1",
            KmsAddress(ID, NAME, region="eu-west-1", endpoint="http://[::1]:80/", profile="my own"),
        ),
    ],
)
def test_addresses(text: str, address: KmsAddress) -> None:
    """Each way in which KMS names a key, and each option."""
    assert parse_kms_address(text) == address
    assert str(address) == f"AWS KMS key {address.key_id}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{ID}?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:{ID}/x?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:alias/?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:key/{ID}?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:arn:aws:s3:eu-west-1:111122223333:key/{ID}?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:arn:aws:kms:eu-west-1:1111:key/{ID}?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:{ID}\n?name={NAME}", "expected awskms:KEYID"),
        (f"awskms:{ID}", "expected name=NAME"),
        (f"awskms:{ID}?region=eu-west-1", "expected name=NAME"),
        (f"awskms:{ID}?name=", "the option name does not fit"),
        (f"awskms:{ID}?name=a+b", "expected name=NAME"),
        (f"awskms:{ID}?name=a%2Bb", "expected name=NAME"),
        (f"awskms:{ID}?name={NAME}&name={NAME}", "the option 'name'; expected each of name, region, endpoint, profile"),
        (f"awskms:{ID}?name={NAME}&zone=eu-west-1", "the option 'zone'"),
        (f"awskms:{ID}?name={NAME}&region=EU", "the option region does not fit"),
        (f"awskms:{ID}?name={NAME}&endpoint=localhost:80", "the option endpoint does not fit"),
        (f"awskms:{ID}?name={NAME}&endpoint=http://h/path", "the option endpoint does not fit"),
        (f"awskms:{ARN}?name={NAME}&region=us-east-1", "the ARN is of the region eu-west-1, the option says us-east-1"),
    ],
)
def test_malformed(text: str, reason: str) -> None:
    """A typing error is an error, and says what was expected."""
    with pytest.raises(ConfigurationError, match=reason):
        parse_kms_address(text)


def test_a_password_in_an_endpoint_is_not_shown() -> None:
    """It is refused, and the message can be passed on."""
    with pytest.raises(ConfigurationError, match=r"http://…@h:80") as caught:
        parse_kms_address(f"awskms:{ID}?name={NAME}&endpoint=http://me:secret@h:80")
    assert "secret" not in str(caught.value)
