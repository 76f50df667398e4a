"""The policies that ``terraform/`` makes: enforced by a real S3 server, and judged over what every role really does."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.deploy.policy import Request, is_allowed
from tests.deploy.working import Operation, work_of_all_roles
from tests.fakes.thread import serve_in_thread
from tests.real.clients import mirrorwitness
from tests.real.terraform import ACCOUNT, ORGANIZATION, SEAWEED, flags, open_terraform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.real.servers import S3Server

BUCKETS: Final = {
    "mirror": "tf-acme-mirror",
    "sumdb": "tf-acme-sumdb",
    "witness": "tf-acme-witness",
    "anchor": "tf-acme-witness-anchor",
}
"""By the folders of `tests.deploy.working`."""

EVERYTHING: Final = json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
"""What an administrator has."""

RECORD: Final = f"state/witness/logs/{'0' * 64}.json"


@dataclass(frozen=True, slots=True)
class Policies:
    """What the example of an organization made.

    Attributes:
        roles: policies by role; "administrator" may do everything.
        buckets: policies by place, a key of `BUCKETS`.
        key: the policy of the witness's key.
        key_arn: that key.
    """

    roles: Mapping[str, str]
    buckets: Mapping[str, str]
    key: str
    key_arn: str

    def allow(self, role: str, action: str, place: str, key: str, **context: str) -> bool:
        """Tell whether a role may do something with an object."""
        given = {f"s3:{name.replace('_', '-')}": value for name, value in context.items()}
        request = Request(f"s3:{action}", f"arn:aws:s3:::{BUCKETS[place]}/{key}", context=given)
        return is_allowed(request, [self.roles[role], self.buckets[place]])


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[[str], S3Server]) -> Iterator[Policies]:
    """Apply the example, and read what was made."""
    terraform = open_terraform(tmp_path_factory.mktemp("policies"), start_server("seaweedfs"))
    # Nothing is written to these buckets: a server that does not know the conditions would refuse it.
    module, values = "examples/organization", flags({**ORGANIZATION, "require_tls": "false"})
    terraform.run(module, "get")
    terraform.run(module, "apply", "-auto-approve", *values)
    made = terraform.resources(module)
    start = "aws_iam_role_policy mirrorwitness-"
    roles = {name[len(start) :].partition(":")[0]: made[name]["policy"] for name in made if name.startswith(start)}
    (key,) = (each for name, each in made.items() if name.startswith("aws_kms_key "))
    yield Policies(
        roles={**roles, "administrator": EVERYTHING},
        buckets={place: made[f"aws_s3_bucket_policy {bucket}"]["policy"] for place, bucket in BUCKETS.items()},
        key=key["policy"],
        key_arn=key["arn"],
    )
    terraform.run(module, "destroy", "-auto-approve", *values)


def test_roles_may_do_all_that_their_commands_do(policies: Policies, tmp_path: Path) -> None:
    """By role and bucket together, with the conditions of each write."""
    work = work_of_all_roles(tmp_path)
    assert work.roles | {"administrator"} == set(policies.roles)
    refused = [
        (role, each, request)
        for role in sorted(work.roles)
        for each in sorted(work.done_by(role))
        for request in requests_of(each)
        if not is_allowed(request, [policies.roles[role], policies.buckets[place_of(each)]])
    ]
    assert refused == []


def test_an_old_state_copied_back(policies: Policies) -> None:
    """Is refused to whoever may do everything; a swap is not."""
    assert policies.allow("administrator", "PutObject", "witness", RECORD, if_match="etag")
    assert not policies.allow("administrator", "PutObject", "witness", RECORD)
    assert not policies.allow("administrator", "PutObject", "anchor", f"witness/{'0' * 64}/checkpoint")
    assert not policies.allow("administrator", "DeleteObject", "witness", RECORD)
    assert not policies.allow("administrator", "DeleteObjectVersion", "witness", RECORD)
    assert not policies.allow("administrator", "PutObject", "sumdb", "state/sumdb/head.json")


def test_evidence_removed(policies: Policies) -> None:
    """By nobody."""
    for place in ("mirror", "sumdb", "witness"):
        assert not policies.allow("administrator", "DeleteObject", place, "evidence/x/1.0.0/y.json")
        assert not policies.allow("administrator", "DeleteObjectVersion", place, "evidence/x/1.0.0/y.json")


def test_a_server_that_was_broken_into(policies: Policies) -> None:
    """Writes nothing, and reads no more than it serves and audits."""
    assert policies.allow("mirror-reader", "GetObject", "mirror", "npm/left/packument.json")
    assert not policies.allow("mirror-reader", "PutObject", "mirror", "npm/left/packument.json")
    assert not policies.allow("mirror-reader", "GetObject", "mirror", "quarantine/left/left-1.0.0.tgz")
    assert not policies.allow("sumdb-reader", "PutObject", "sumdb", "log/checkpoint", if_match="etag")


def test_a_mirror_that_was_broken_into(policies: Policies) -> None:
    """Does not reach the log or the witness; and the log itself removes no checkpoint."""
    assert not policies.allow("mirror", "PutObject", "sumdb", "log/checkpoint", if_match="etag")
    assert not policies.allow("mirror", "GetObject", "witness", RECORD)
    assert not policies.allow("mirror", "PutObject", "witness", RECORD, if_match="etag")
    assert not policies.allow("sumdb", "DeleteObject", "sumdb", "log/checkpoint")


def test_a_key_that_signs_for_its_witness_alone(policies: Policies) -> None:
    """A message, by its own algorithm; neither for administrators nor a digest that somebody made."""

    def may_sign(name: str, role: str, kind: str = "RAW") -> bool:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        context = {"kms:MessageType": kind, "kms:SigningAlgorithm": "ED25519_SHA_512", "aws:PrincipalArn": arn}
        return is_allowed(Request("kms:Sign", policies.key_arn, arn, context), [policies.key, policies.roles[role]])

    assert may_sign("mirrorwitness-witness", "witness")
    assert not may_sign("keepers", "administrator")
    assert not may_sign("mirrorwitness-mirror", "administrator")


@pytest.mark.parametrize(("kind", "algorithm"), [("DIGEST", "ED25519_SHA_512"), ("RAW", "ED25519_PH_SHA_512")])
def test_a_key_that_signs_messages_alone(policies: Policies, kind: str, algorithm: str) -> None:
    """The key's policy allows nothing else, and the role's own policy alone does not make it."""
    arn = f"arn:aws:iam::{ACCOUNT}:role/mirrorwitness-witness"
    context = {"kms:MessageType": kind, "kms:SigningAlgorithm": algorithm, "aws:PrincipalArn": arn}
    assert not is_allowed(Request("kms:Sign", policies.key_arn, arn, context), [policies.key])


def test_a_public_bucket_shows_its_public_part_alone(
    tmp_path: Path, start_server: Callable[[str], S3Server], use_credentials: Callable[[S3Server], None]
) -> None:
    """A real sync goes into it; then nobody without credentials gets, lists, puts or removes anything else."""
    server = start_server("seaweedfs")
    use_credentials(server)
    terraform = open_terraform(tmp_path, server)
    s3 = boto3.client("s3", endpoint_url=server.endpoint, region_name=server.region)
    name = "tf-public"
    terraform.run("modules/bucket", "get")
    values = flags({"name": name, "kind": "mirror", "readers": "everybody", **SEAWEED})
    terraform.run("modules/bucket", "apply", "-auto-approve", *values)
    with serve_in_thread() as registry:
        registry.sim.publish("left", "1.0.0", files={"index.js": b"1"})
        done = mirrorwitness("sync", "--once", "left", "--storage", server.address(name), "--registry", registry.url)
    assert done.code == 0, done.output
    url = f"{server.endpoint}/{name}"
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=name)["Contents"]]
    public = [key for key in keys if key.startswith(("npm/", "about/"))]
    assert {status_of(f"{url}/{key}") for key in public} == {200}
    assert {status_of(f"{url}/{key}") for key in set(keys) - set(public)} == {403}
    assert {"npm/left/packument.json", "npm/left/-/left-1.0.0.tgz"} <= set(public)
    assert status_of(f"{url}?list-type=2") == 403
    assert status_of(f"{url}/npm/left/packument.json", method="PUT", body=b"{}") == 403
    assert status_of(f"{url}/npm/left/packument.json", method="DELETE") == 403
    s3.put_object(Bucket=name, Key="evidence/left/x.json", Body=b"{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=name, Key="evidence/left/x.json")


def place_of(operation: Operation) -> str:
    return operation.storage.removesuffix("2")


def requests_of(operation: Operation) -> Iterator[Request]:
    """Yield what a bucket is asked for by one operation of a storage."""
    bucket = f"arn:aws:s3:::{BUCKETS[place_of(operation)]}"
    context = {"create": {"s3:if-none-match": "*"}, "swap": {"s3:if-match": "etag"}}.get(operation.verb, {})
    if operation.verb == "list":
        yield Request("s3:ListBucket", bucket)
    elif operation.verb == "delete":
        yield Request("s3:DeleteObject", f"{bucket}/{operation.key}")
    else:
        yield Request("s3:GetObject", f"{bucket}/{operation.key}")
        if operation.verb in {"create", "swap", "put"}:
            yield Request("s3:PutObject", f"{bucket}/{operation.key}", context=context)


def status_of(url: str, *, method: str = "GET", body: bytes | None = None) -> int:
    """Return the status of an unsigned request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=body), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
