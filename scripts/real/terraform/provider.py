"""A provider in Amazon's place, for tests of terraform/: plugin protocol 6, run by the Python in .cache/real/terraform.

Rules:

- Buckets, their versioning, lifecycle and policy are real: made in the S3 service at ``STUB_ENDPOINT`` and read back
  from it, so that a plan shows what somebody changed there.
- Everything else (roles, keys, the edge, and what that service has not) is kept in a file of the folder ``STUB_STATE``,
  one for each resource; its arguments are looked at: policies are JSON with statements, keys have a kind that signs, a
  function fits.
- One thing is changed at a time: what Amazon keeps apart of a bucket, SeaweedFS 4.48 keeps in one entry, which a policy
  rewrites as a whole. Put beside it, a bucket's versioning was lost in 37 of 300 tries, one after the other in none.
- Computed values look like Amazon's, and are the same for the same arguments.

What it does not do: anything of the real provider's. It tests how the modules hang together, not what Amazon takes.
"""

# ruff: noqa: ARG002 - the signatures are those of the library

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from shapes import SHAPES, make_schema
from tf.iface import Provider, Resource
from tf.runner import run_provider
from tf.schema import Attribute, Schema
from tf.types import String

if TYPE_CHECKING:
    from collections.abc import Callable

    from tf.utils import Diagnostics

ACCOUNT: Final = "111122223333"
MAX_FUNCTION_BYTES: Final = 10240
SIGNING_SPECS: Final = {"ECC_NIST_EDWARDS25519", "ML_DSA_44"}
POLICIES: Final = ("policy", "assume_role_policy")

Values = dict[str, Any]


class StubProvider(Provider):
    """All resources that terraform/ uses."""

    def __init__(self) -> None:
        self.region = "us-east-1"
        self.s3: Any = None
        self.changing = threading.Lock()

    def get_model_prefix(self) -> str:
        """Return what the types of all resources begin with."""
        return "aws_"

    def full_name(self) -> str:
        """Return the provider's address."""
        return "hashicorp/aws"

    def get_provider_schema(self, diags: Diagnostics) -> Schema:
        """Return what a provider block may have."""
        return Schema(version=0, attributes=[Attribute("region", String(), optional=True)])

    def validate_config(self, diags: Diagnostics, config: Values) -> None:
        """Take every region."""

    def configure_provider(self, diags: Diagnostics, config: Values) -> None:
        """Connect to the S3 service."""
        self.region = config.get("region") or self.region
        self.s3 = boto3.client(
            "s3",
            endpoint_url=os.environ["STUB_ENDPOINT"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}),
        )

    def get_data_sources(self) -> list[Any]:
        """Return none: the modules ask the cloud nothing."""
        return []

    def get_resources(self) -> list[type[Resource]]:
        """Return one class for each shape."""
        return [_make_class(name) for name in SHAPES]


class Kept(Resource):
    """A resource in a file."""

    NAME: ClassVar[str]

    def __init__(self, provider: StubProvider) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Return the type without the prefix."""
        return cls.NAME

    @classmethod
    def get_schema(cls) -> Schema:
        """Return its shape."""
        return make_schema(cls.NAME)

    def create(self, ctx: Any, planned: Values) -> Values | None:
        """Make it; what is there already is an error."""
        made = {**planned, **_computed(self.NAME, planned, self.provider.region)}
        if self.find(made) is not None:
            ctx.diagnostics.add_error(f"aws_{self.NAME} {made['id']} is there already")
            return None
        return self._store(ctx, made)

    def read(self, ctx: Any, current: Values) -> Values | None:
        """Return what is there, None where nothing is."""
        return self.find(current)

    def update(self, ctx: Any, current: Values, planned: Values) -> Values | None:
        """Replace it."""
        return self._store(ctx, planned)

    def delete(self, ctx: Any, current: Values) -> None:
        """Remove it."""
        with self.provider.changing:
            self.remove(current)

    def _store(self, ctx: Any, values: Values) -> Values | None:
        fault = find_fault(self.NAME, values)
        if fault is not None:
            ctx.diagnostics.add_error(f"aws_{self.NAME} {values['id']}: {fault}")
            return None
        with self.provider.changing:
            self.store(values)
        return values

    def find(self, values: Values) -> Values | None:
        """Read what is there."""
        path = self._path(values)
        return json.loads(path.read_bytes()) if path.exists() else None

    def store(self, values: Values) -> None:
        """Write it."""
        self._path(values).write_text(json.dumps(values, indent=1, sort_keys=True), encoding="utf-8")

    def remove(self, values: Values) -> None:
        """Remove it."""
        self._path(values).unlink()

    def _path(self, values: Values) -> Path:
        digest = hashlib.sha256(values["id"].encode()).hexdigest()[:8]
        return Path(os.environ["STUB_STATE"]) / f"{self.NAME}-{digest}.json"


class Bucket(Kept):
    """A bucket of the S3 service."""

    def find(self, values: Values) -> Values | None:
        """Ask for it; tags are taken on trust."""
        return values if _ask(self.provider.s3.head_bucket, Bucket=values["bucket"]) is not None else None

    def store(self, values: Values) -> None:
        """Make it, where it is not there."""
        if self.find(values) is None:
            self.provider.s3.create_bucket(Bucket=values["bucket"])

    def remove(self, values: Values) -> None:
        """Remove it; one that is not empty stays, unless that is wanted."""
        s3, name = self.provider.s3, values["bucket"]
        found = s3.list_object_versions(Bucket=name)
        objects = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
        if objects and not values["force_destroy"]:
            raise RuntimeError(f"bucket {name} is not empty: {len(objects)} objects")
        for each in objects:
            s3.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])
        s3.delete_bucket(Bucket=name)


class Versioning(Kept):
    """Whether a bucket keeps versions."""

    def find(self, values: Values) -> Values | None:
        """Ask for it."""
        found = _ask(self.provider.s3.get_bucket_versioning, Bucket=values["bucket"]) or {}
        status = found.get("Status")
        return None if status is None else {**values, "versioning_configuration": [{"status": status}]}

    def store(self, values: Values) -> None:
        """Set it."""
        (configuration,) = values["versioning_configuration"]
        wanted = {"Status": configuration["status"]}
        self.provider.s3.put_bucket_versioning(Bucket=values["bucket"], VersioningConfiguration=wanted)

    def remove(self, values: Values) -> None:
        """Leave it: a bucket that had versions has them for ever."""


class Lifecycle(Kept):
    """What is removed from a bucket when."""

    def find(self, values: Values) -> Values | None:
        """Ask for the rules, in the order in which they were given."""
        found = _ask(self.provider.s3.get_bucket_lifecycle_configuration, Bucket=values["bucket"])
        if found is None:
            return None
        order = {rule["id"]: place for place, rule in enumerate(values["rule"])}
        rules = sorted((_rule_of(each) for each in found["Rules"]), key=lambda rule: order.get(rule["id"], len(order)))
        return {**values, "rule": rules}

    def store(self, values: Values) -> None:
        """Set them."""
        rules = [_lifecycle_rule(rule) for rule in values["rule"]]
        self.provider.s3.put_bucket_lifecycle_configuration(
            Bucket=values["bucket"], LifecycleConfiguration={"Rules": rules}
        )

    def remove(self, values: Values) -> None:
        """Remove them all."""
        self.provider.s3.delete_bucket_lifecycle(Bucket=values["bucket"])


class Policy(Kept):
    """Who may do what in a bucket."""

    def find(self, values: Values) -> Values | None:
        """Ask for it; the same policy in another spelling is the same."""
        found = _ask(self.provider.s3.get_bucket_policy, Bucket=values["bucket"])
        if found is None:
            return None
        text = found["Policy"]
        return {**values, "policy": values["policy"] if _is_same_policy(text, values["policy"]) else text}

    def store(self, values: Values) -> None:
        """Set it."""
        self.provider.s3.put_bucket_policy(Bucket=values["bucket"], Policy=values["policy"])

    def remove(self, values: Values) -> None:
        """Remove it."""
        self.provider.s3.delete_bucket_policy(Bucket=values["bucket"])


REAL: Final[dict[str, type[Kept]]] = {
    "s3_bucket": Bucket,
    "s3_bucket_versioning": Versioning,
    "s3_bucket_lifecycle_configuration": Lifecycle,
    "s3_bucket_policy": Policy,
}
"""What the S3 service does itself."""


def find_fault(name: str, values: Values) -> str | None:
    """Return what is wrong with the arguments of a resource, None where nothing is."""
    for each in POLICIES:
        if values.get(each) is not None:
            try:
                policy = json.loads(values[each])
            except ValueError as error:
                return f"{each} is no JSON: {error}"
            if policy.get("Version") != "2012-10-17" or not policy.get("Statement"):
                return f"{each} has no statements, or is in another language"
    if name == "kms_key" and (
        values["customer_master_key_spec"] not in SIGNING_SPECS or values["key_usage"] != "SIGN_VERIFY"
    ):
        return f"a key {values['customer_master_key_spec']} for {values['key_usage']} does not sign"
    if name == "cloudfront_function" and len(values["code"].encode()) > MAX_FUNCTION_BYTES:
        return f"the code has {len(values['code'].encode())} bytes, expected at most {MAX_FUNCTION_BYTES}"
    return None


def _make_class(name: str) -> type[Resource]:
    return type(name, (REAL.get(name, Kept),), {"NAME": name})


def _computed(name: str, values: Values, region: str) -> Values:
    given = values.get("bucket") or f"{values.get('role', '')}:{values.get('name', '')}".strip(":")
    given = given or values.get("comment") or values.get("description") or name
    digest = hashlib.sha256(f"{name} {given}".encode()).hexdigest()
    found = {
        "id": given,
        "key_id": digest[:32],
        "bucket_regional_domain_name": f"{given}.s3.{region}.amazonaws.com",
        "domain_name": f"d{digest[:13]}.cloudfront.example",
        "arn": {
            "s3_bucket": f"arn:aws:s3:::{given}",
            "iam_role": f"arn:aws:iam::{ACCOUNT}:role/{given}",
            "kms_key": f"arn:aws:kms:{region}:{ACCOUNT}:key/{digest[:32]}",
            "kms_alias": f"arn:aws:kms:{region}:{ACCOUNT}:{given}",
            "cloudfront_function": f"arn:aws:cloudfront::{ACCOUNT}:function/{given}",
            "cloudfront_distribution": f"arn:aws:cloudfront::{ACCOUNT}:distribution/E{digest[:13].upper()}",
        }.get(name),
    }
    return {key: value for key, value in found.items() if SHAPES[name].get(key, "").startswith("=")}


def _ask(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call the S3 service; None where it says that there is no such thing."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004
            return None
        raise


def _lifecycle_rule(rule: Values) -> Values:
    (chosen,) = rule["filter"]
    made: Values = {"ID": rule["id"], "Status": rule["status"], "Filter": {"Prefix": chosen["prefix"]}}
    for each in rule["abort_incomplete_multipart_upload"]:
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(each["days_after_initiation"])}
    for each in rule["expiration"]:
        made["Expiration"] = {"Days": int(each["days"])}
    for each in rule["noncurrent_version_expiration"]:
        made["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(each["noncurrent_days"])}
    return made


def _rule_of(found: Values) -> Values:
    abort, expiration = found.get("AbortIncompleteMultipartUpload"), found.get("Expiration")
    noncurrent = found.get("NoncurrentVersionExpiration")
    return {
        "id": found["ID"],
        "status": found["Status"],
        "filter": [{"prefix": found.get("Filter", {}).get("Prefix", found.get("Prefix", ""))}],
        "abort_incomplete_multipart_upload": [{"days_after_initiation": abort["DaysAfterInitiation"]}] if abort else [],
        "expiration": [{"days": expiration["Days"]}] if expiration else [],
        "noncurrent_version_expiration": [{"noncurrent_days": noncurrent["NoncurrentDays"]}] if noncurrent else [],
    }


def _is_same_policy(one: str, other: str) -> bool:
    return bool(_normal(json.loads(one)) == _normal(json.loads(other)))


def _normal(value: Any) -> Any:
    """Return a policy in which one thing and a list of one thing are the same, and lists have an order."""
    if isinstance(value, dict):
        return {key: _normal(each) for key, each in value.items()}
    if isinstance(value, list):
        return (
            sorted((_normal(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
            if len(value) != 1
            else _normal(value[0])
        )
    return value


if __name__ == "__main__":
    run_provider(StubProvider(), sys.argv)
