"""What policies of Amazon's language say to a request: as much of it as terraform/ uses, and an error for more.

An explicit deny wins, then an allow, else it is refused. SPEC: AWS IAM User Guide, "Policy evaluation logic" and
"IAM JSON policy elements".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ROLE", "Request", "is_allowed"]

ROLE: Final = "arn:aws:iam::111122223333:role/somebody"


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody who wants something.

    Attributes:
        action: like ``s3:GetObject``.
        resource: an ARN.
        principal: an ARN, the name of a service, or "anonymous".
        context: condition keys that the request has.
    """

    action: str
    resource: str
    principal: str = ROLE
    context: Mapping[str, str] = field(default_factory=dict)


def is_allowed(request: Request, policies: Iterable[str]) -> bool:
    """Tell what all policies together say: those of the principal (without ``Principal``) and those of the resource."""
    statements = [each for policy in policies for each in json.loads(policy)["Statement"] if _fits(each, request)]
    return bool(statements) and all(each["Effect"] == "Allow" for each in statements)


def _fits(statement: Mapping[str, Any], request: Request) -> bool:
    known = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    if not statement.keys() <= known:
        raise ValueError(f"a statement has {sorted(statement.keys() - known)}, which this does not know")
    return (
        _names(statement.get("Principal", "*"), request.principal)
        and any(_matches(each, request.action) for each in _list(statement["Action"]))
        and any(_matches(each, request.resource) for each in _list(statement["Resource"]))
        and all(
            _holds(operator, key, _list(values), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _names(principals: str | Mapping[str, Any], principal: str) -> bool:
    named = (
        [principals] if isinstance(principals, str) else [each for kind in principals.values() for each in _list(kind)]
    )
    return "*" in named or principal in named


def _holds(operator: str, key: str, values: list[str], context: Mapping[str, str]) -> bool:
    found = context.get(key)
    if operator == "Null":
        return values == [str(found is None).lower()]
    if operator == "ArnNotEquals":
        return found is None or not any(_matches(each, found) for each in values)
    if operator in {"Bool", "StringEquals", "ArnEquals"}:
        return found is not None and any(_matches(each, found) for each in values)
    raise ValueError(f"the condition {operator} is none that this knows")


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text) is not None


def _list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]
