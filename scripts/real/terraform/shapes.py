"""The arguments of those resources of Amazon's provider that terraform/ uses, as its documentation has them.

A shape is attributes and nested blocks. An attribute is ``!`` required, ``?`` optional or ``=`` computed, then its
type: ``s`` text, ``b`` yes or no, ``n`` number, ``m`` map of text, ``l`` list of text; a ``#`` behind it means that
another value makes another resource. A nested block is a list (``[]``) or a set (``{}``) of shapes.

It was written down by hand and holds the parts that are used: whoever misspells an argument learns it here, and whoever
uses one that Amazon's provider has and this has not adds it. It is no proof that the provider takes the rest.
"""

from __future__ import annotations

from typing import Any, Final

from tf.gen import tfplugin_pb2 as pb
from tf.schema import Attribute, Block, NestedBlock, NestMode, Schema
from tf.types import Bool, List, Map, Number, String

__all__ = ["SHAPES", "make_schema"]

Shape = dict[str, Any]

_TYPES: Final = {"s": String(), "b": Bool(), "n": Number(), "m": Map(String()), "l": List(String())}

_BUCKET: Final = {"id": "=s", "bucket": "!s#"}

_FUNCTION: Final = {"{}": {"event_type": "!s", "function_arn": "!s"}}
_BEHAVIOR: Final = {
    "target_origin_id": "!s",
    "viewer_protocol_policy": "!s",
    "allowed_methods": "!l",
    "cached_methods": "!l",
    "compress": "?b",
    "cache_policy_id": "?s",
    "response_headers_policy_id": "?s",
    "function_association": _FUNCTION,
}

SHAPES: Final[dict[str, Shape]] = {
    "s3_bucket": {
        "id": "=s",
        "arn": "=s",
        "bucket_regional_domain_name": "=s",
        "bucket": "!s#",
        "force_destroy": "?b",
        "tags": "?m",
    },
    "s3_bucket_ownership_controls": {**_BUCKET, "rule": {"[]": {"object_ownership": "!s"}}},
    "s3_bucket_public_access_block": {
        **_BUCKET,
        "block_public_acls": "?b",
        "block_public_policy": "?b",
        "ignore_public_acls": "?b",
        "restrict_public_buckets": "?b",
    },
    "s3_bucket_server_side_encryption_configuration": {
        **_BUCKET,
        "rule": {"{}": {"apply_server_side_encryption_by_default": {"[]": {"sse_algorithm": "!s"}}}},
    },
    "s3_bucket_versioning": {**_BUCKET, "versioning_configuration": {"[]": {"status": "!s"}}},
    "s3_bucket_lifecycle_configuration": {
        **_BUCKET,
        "rule": {
            "[]": {
                "id": "!s",
                "status": "!s",
                "filter": {"[]": {"prefix": "?s"}},
                "abort_incomplete_multipart_upload": {"[]": {"days_after_initiation": "?n"}},
                "expiration": {"[]": {"days": "?n"}},
                "noncurrent_version_expiration": {"[]": {"noncurrent_days": "!n"}},
            }
        },
    },
    "s3_bucket_policy": {**_BUCKET, "policy": "!s"},
    "iam_role": {
        "id": "=s",
        "arn": "=s",
        "name": "!s#",
        "description": "?s",
        "assume_role_policy": "!s",
        "max_session_duration": "?n",
        "tags": "?m",
    },
    "iam_role_policy": {"id": "=s", "name": "!s#", "role": "!s#", "policy": "!s"},
    "kms_key": {
        "id": "=s",
        "arn": "=s",
        "key_id": "=s",
        "description": "?s",
        "key_usage": "?s#",
        "customer_master_key_spec": "?s#",
        "deletion_window_in_days": "?n",
        "policy": "?s",
        "tags": "?m",
    },
    "kms_alias": {"id": "=s", "arn": "=s", "name": "!s#", "target_key_id": "!s"},
    "cloudfront_origin_access_control": {
        "id": "=s",
        "name": "!s",
        "description": "?s",
        "origin_access_control_origin_type": "!s",
        "signing_behavior": "!s",
        "signing_protocol": "!s",
    },
    "cloudfront_function": {
        "id": "=s",
        "arn": "=s",
        "name": "!s#",
        "comment": "?s",
        "runtime": "!s",
        "publish": "?b",
        "code": "!s",
    },
    "cloudfront_cache_policy": {
        "id": "=s",
        "name": "!s",
        "comment": "?s",
        "min_ttl": "?n",
        "default_ttl": "?n",
        "max_ttl": "?n",
        "parameters_in_cache_key_and_forwarded_to_origin": {
            "[]": {
                "enable_accept_encoding_brotli": "?b",
                "enable_accept_encoding_gzip": "?b",
                "cookies_config": {"[]": {"cookie_behavior": "!s"}},
                "headers_config": {"[]": {"header_behavior": "?s"}},
                "query_strings_config": {"[]": {"query_string_behavior": "!s"}},
            }
        },
    },
    "cloudfront_response_headers_policy": {
        "id": "=s",
        "name": "!s",
        "comment": "?s",
        "security_headers_config": {
            "[]": {
                "content_type_options": {"[]": {"override": "!b"}},
                "strict_transport_security": {
                    "[]": {
                        "access_control_max_age_sec": "!n",
                        "include_subdomains": "?b",
                        "preload": "?b",
                        "override": "!b",
                    }
                },
            }
        },
    },
    "cloudfront_distribution": {
        "id": "=s",
        "arn": "=s",
        "domain_name": "=s",
        "enabled": "!b",
        "is_ipv6_enabled": "?b",
        "http_version": "?s",
        "comment": "?s",
        "aliases": "?l",
        "price_class": "?s",
        "web_acl_id": "?s",
        "tags": "?m",
        "origin": {
            "{}": {
                "origin_id": "!s",
                "domain_name": "!s",
                "origin_access_control_id": "?s",
                "connection_attempts": "?n",
                "connection_timeout": "?n",
            }
        },
        "default_cache_behavior": {"[]": _BEHAVIOR},
        "ordered_cache_behavior": {"[]": {"path_pattern": "!s", **_BEHAVIOR}},
        "custom_error_response": {"{}": {"error_code": "!n", "error_caching_min_ttl": "?n"}},
        "logging_config": {"[]": {"bucket": "!s", "include_cookies": "?b", "prefix": "?s"}},
        "restrictions": {"[]": {"geo_restriction": {"[]": {"restriction_type": "!s"}}}},
        "viewer_certificate": {
            "[]": {
                "acm_certificate_arn": "?s",
                "cloudfront_default_certificate": "?b",
                "minimum_protocol_version": "?s",
                "ssl_support_method": "?s",
            }
        },
    },
}
"""Each resource by its type, without the provider's prefix."""


class _Nested(NestedBlock):
    """A nested block whose values go through as they are; the library knows no lists and nothing nested deeper."""

    def __init__(self, name: str, kind: str, shape: Shape) -> None:
        attributes, blocks = _parts(shape)
        super().__init__(name, NestMode.Set, Block(attributes=attributes, block_types=blocks))
        self._nesting = pb.Schema.NestedBlock.LIST if kind == "[]" else pb.Schema.NestedBlock.SET

    def to_pb(self) -> Any:
        """Return the block as the protocol has it."""
        return pb.Schema.NestedBlock(type_name=self.type_name, block=self.block.to_pb(), nesting=self._nesting)

    def encode(self, value: Any) -> Any:
        """Return the value."""
        return value

    def decode(self, value: Any) -> Any:
        """Return the value."""
        return value

    def semantically_equal(self, a_decoded: Any, b_decoded: Any) -> bool:
        """Compare two values."""
        return bool(a_decoded == b_decoded)


def make_schema(name: str) -> Schema:
    """Return the schema of a resource."""
    attributes, blocks = _parts(SHAPES[name])
    return Schema(version=0, attributes=attributes, block_types=blocks)


def _parts(shape: Shape) -> tuple[list[Attribute], list[NestedBlock]]:
    attributes: list[Attribute] = []
    blocks: list[NestedBlock] = []
    for name, each in shape.items():
        if isinstance(each, str):
            attributes.append(_attribute(name, each))
        else:
            ((kind, inner),) = each.items()
            blocks.append(_Nested(name, kind, inner))
    return attributes, blocks


def _attribute(name: str, text: str) -> Attribute:
    return Attribute(
        name,
        _TYPES[text[1]],
        required=text[0] == "!",
        optional=text[0] == "?",
        computed=text[0] == "=",
        requires_replace=text.endswith("#"),
    )
