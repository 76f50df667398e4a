"""The small judge of policies, on policies whose answers are known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deploy.policy import Request, is_allowed

KEY = "arn:aws:s3:::b/state/x"


def policy(**statement: Any) -> str:
    given = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*", **statement}
    return json.dumps({"Version": "2012-10-17", "Statement": [given]})


@pytest.mark.parametrize(
    ("policies", "request_", "expected"),
    [
        ([], Request("s3:GetObject", KEY), False),
        ([policy()], Request("s3:GetObject", KEY), True),
        ([policy()], Request("s3:PutObject", KEY), False),
        ([policy()], Request("s3:GetObject", "arn:aws:s3:::other/x"), False),
        ([policy(Resource=["arn:aws:s3:::b/npm/*"])], Request("s3:GetObject", KEY), False),
        ([policy(), policy(Effect="Deny", Principal="*")], Request("s3:GetObject", KEY), False),
        ([policy(Principal="*")], Request("s3:GetObject", KEY, "anonymous"), True),
        ([policy(Principal={"Service": "edge"})], Request("s3:GetObject", KEY, "anonymous"), False),
        ([policy(Principal={"AWS": ["me"]})], Request("s3:GetObject", KEY, "me"), True),
        ([policy(Condition={"Null": {"a": "true", "b": "true"}})], Request("s3:GetObject", KEY), True),
        (
            [policy(Condition={"Null": {"a": "true", "b": "true"}})],
            Request("s3:GetObject", KEY, context={"a": "1"}),
            False,
        ),
        ([policy(Condition={"StringEquals": {"a": "1"}})], Request("s3:GetObject", KEY), False),
        (
            [policy(Condition={"StringEquals": {"a": ["0", "1"]}})],
            Request("s3:GetObject", KEY, context={"a": "1"}),
            True,
        ),
        ([policy(Condition={"ArnNotEquals": {"a": "x"}})], Request("s3:GetObject", KEY, context={"a": "x"}), False),
        ([policy(Condition={"ArnNotEquals": {"a": "x"}})], Request("s3:GetObject", KEY), True),
    ],
)
def test_what_policies_say(policies: list[str], request_: Request, *, expected: bool) -> None:
    """Denied before allowed before nothing said."""
    assert is_allowed(request_, policies) is expected


@pytest.mark.parametrize("more", [{"NotAction": "s3:*"}, {"Condition": {"IpAddress": {"aws:SourceIp": "::1"}}}])
def test_what_it_does_not_know_is_an_error(more: dict[str, Any]) -> None:
    """Rather than an answer."""
    with pytest.raises(ValueError, match="know"):
        is_allowed(Request("s3:GetObject", KEY), [policy(**more)])
