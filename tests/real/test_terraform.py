"""``terraform/`` as an operator runs it, against a real S3 server, with a provider of our own in place of Amazon's.

What this shows: the decisions hold, the modules hang together, an apply makes what it says and a second one changes
nothing. What it does not show: that Amazon's provider takes every argument, or that Amazon means the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
import yaml

from mirrorwitness.run.kms_address import parse_kms_address
from mirrorwitness.storage.address import S3Address, parse_address
from tests.deploy.manifests import find_faults, find_workloads
from tests.real.clients import ROOT
from tests.real.overlays import render
from tests.real.terraform import (
    ACCOUNT,
    COMMUNITY,
    ORGANIZATION,
    SEAWEED,
    TERRAFORM,
    Terraform,
    flags,
    open_terraform,
    tool,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.deploy.manifests import Manifest
    from tests.real.servers import S3Server

MODULES: Final = ("bucket", "identity", "kms", "edge")
EXAMPLES: Final = ("community-mirror", "organization")


@pytest.fixture
def terraform(tmp_path: Path, start_server: Callable[[str], S3Server]) -> Terraform:
    """Terraform over an S3 server."""
    return open_terraform(tmp_path, start_server("seaweedfs"))


@pytest.fixture
def s3(start_server: Callable[[str], S3Server]) -> Iterator[Any]:
    """A client of that server that is not the provider."""
    server = start_server("seaweedfs")
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    yield client
    client.close()


def test_files_are_formatted(tmp_path: Path) -> None:
    """As `terraform fmt` leaves them."""
    assert open_terraform(tmp_path).run(".", "fmt", "-check", "-recursive", "-diff").output == ""


@pytest.mark.parametrize("module", MODULES)
def test_decisions_hold(tmp_path: Path, module: str) -> None:
    """Without any provider."""
    output = open_terraform(tmp_path).run(f"modules/{module}/decisions", "test").output
    assert re.search(r"Success! ([0-9]+) passed, 0 failed", output), output


@pytest.mark.parametrize(
    "module", [*(f"modules/{each}" for each in MODULES), *(f"examples/{each}" for each in EXAMPLES)]
)
def test_modules_are_valid(tmp_path: Path, module: str) -> None:
    """For terraform and the shapes of the resources; a misspelt argument is not."""
    terraform = open_terraform(tmp_path)
    terraform.run(module, "get")
    terraform.run(module, "validate")
    if module == "modules/bucket":
        main = terraform.tree / module / "main.tf"
        main.write_text(main.read_text("utf-8").replace("force_destroy =", "force_destory ="), encoding="utf-8")
        assert "force_destory" in terraform.run(module, "validate", expect=1).output


@pytest.mark.parametrize("path", sorted(TERRAFORM.rglob("variables.tf")), ids=lambda path: path.parent.name)
def test_every_variable_is_described(path: Path) -> None:
    """And has a type."""
    program = "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1], encoding='utf-8'))))"
    done = subprocess.run([tool("python"), "-c", program, str(path)], stdout=subprocess.PIPE, check=True)
    variables = [(name, each) for block in json.loads(done.stdout)["variable"] for name, each in block.items()]
    bare = [name for name, each in variables if not each.get("description") or not each.get("type")]
    assert (bare, bool(variables)) == ([], True)


def test_a_community_mirror_comes_and_goes(terraform: Terraform, s3: Any) -> None:
    """Applied, read back, applied again without a change, mended where somebody changed it, and gone without a rest."""
    module, values = "examples/community-mirror", flags({**COMMUNITY, **SEAWEED})
    bucket = COMMUNITY["bucket"]
    terraform.run(module, "get")
    terraform.run(module, "apply", "-auto-approve", *values)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert [each["Sid"] for each in policy["Statement"]] == [
        "KeepForEver",
        "EdgeReadsPublicPart",
        "EdgeLearnsWhatIsMissing",
    ]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert {rule["Filter"]["Prefix"] for rule in rules if "Expiration" in rule} == {"state/probe/"}
    terraform.run(module, "plan", "-detailed-exitcode", *values)

    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_policy(Bucket=bucket)
    drifted = terraform.run(module, "plan", "-detailed-exitcode", *values, expect=2).output
    assert re.findall(r"# (\S+) will be (\S+)", drifted) == [
        ("module.bucket.aws_s3_bucket_policy.this", "created"),
        ("module.bucket.aws_s3_bucket_versioning.this", "updated"),
    ]
    terraform.run(module, "apply", "-auto-approve", *values)
    terraform.run(module, "plan", "-detailed-exitcode", *values)
    assert env_of(terraform, module, "mirror_env") == keys_of("community-mirror/mirror.env")
    terraform.run(module, "destroy", "-auto-approve", *values)
    assert terraform.kept() == {}
    assert bucket not in {each["Name"] for each in s3.list_buckets()["Buckets"]}


def test_an_organization_comes_and_goes(terraform: Terraform, s3: Any) -> None:
    """Four buckets, five roles, a key and an edge; the overlays get their values, the witness its key."""
    module, values = "examples/organization", flags({**ORGANIZATION, **SEAWEED})
    terraform.run(module, "get")
    terraform.run(module, "apply", "-auto-approve", *values)
    names = {"tf-acme-mirror", "tf-acme-sumdb", "tf-acme-witness", "tf-acme-witness-anchor"}
    assert names <= {each["Name"] for each in s3.list_buckets()["Buckets"]}
    terraform.run(module, "plan", "-detailed-exitcode", *values)

    assert env_of(terraform, module, "mirror_env") == keys_of("org-partial-mirror/mirror.env")
    assert env_of(terraform, module, "sumdb_env") == keys_of("sumdb/sumdb.env")
    assert env_of(terraform, module, "witness_env") == keys_of("witness/witness.env")
    address = parse_kms_address(terraform.output(module, "witness_key"))
    kept = terraform.kept()
    (key,) = (each for name, each in kept.items() if name.startswith("kms_key "))
    assert (address.key_id, address.name, address.region) == (key["arn"], "witness.acme.example/w1", "eu-central-1")
    accounts = terraform.output(module, "service_accounts")["tlog-witness"]
    check_overlay(terraform.folder / "overlay", key=str(terraform.output(module, "witness_key")), accounts=accounts)

    terraform.run(module, "destroy", "-auto-approve", *values)
    assert terraform.kept() == {}
    assert names & {each["Name"] for each in s3.list_buckets()["Buckets"]} == set()


def test_a_witness_is_not_thrown_away_with_its_bucket(terraform: Terraform) -> None:
    """`force_destroy` is refused where something was signed."""
    values = flags({"name": "tf-witness", "kind": "witness", "force_destroy": "true"})
    terraform.run("modules/bucket", "get")
    assert "never thrown away" in terraform.run("modules/bucket", "plan", *values, expect=1).output


def test_one_of_two_applies_gets_the_lock(terraform: Terraform, s3: Any) -> None:
    """Terraform's own state in the same service, locked by a conditional write."""
    module = "examples/state-backend"
    s3.create_bucket(Bucket="tf-state")
    terraform.run(module, "init", "-backend-config=bucket=tf-state", "-backend-config=key=example.tfstate")
    both = [terraform.start(module, "apply", "-auto-approve", "-var=pause_seconds=5") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 1], outputs
    assert "Error acquiring the state lock" in outputs[codes.index(1)]
    assert "PreconditionFailed" in outputs[codes.index(1)]
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="tf-state")["Contents"]] == ["example.tfstate"]


def check_overlay(folder: Path, *, key: str, accounts: str) -> None:
    """Render the overlay of the README: pods get their roles, the witness its key, and no fault is in it."""
    folder.mkdir()
    text = (TERRAFORM / "README.md").read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]
    base = os.path.relpath(ROOT / "k8s/overlays/witness", folder)
    overlay = text.replace("../k8s/overlays/witness", base).replace("awskms:…", key)
    (folder / "kustomization.yaml").write_text(overlay, encoding="utf-8")
    (folder / "service-accounts.yaml").write_text(accounts, encoding="utf-8")
    manifests: list[Manifest] = list(yaml.safe_load_all(render(folder)))
    assert find_faults(manifests, is_rendered=True) == []
    (account,) = (each for each in manifests if each["kind"] == "ServiceAccount")
    role = f"arn:aws:iam::{ACCOUNT}:role/mirrorwitness-witness"
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": role}
    given = [
        [arg for arg in workload.pod["containers"][0]["args"] if "key" in arg] for workload in find_workloads(manifests)
    ]
    assert given == [[f"--key={key}"], [f"--key={key}"]]


def env_of(terraform: Terraform, module: str, output: str) -> list[str]:
    """Return the names in an output that is the file of an overlay; its addresses are ones that the product takes."""
    lines = [line.split("=", 1) for line in str(terraform.output(module, output)).splitlines()]
    for name, value in lines:
        if name in {"MIRRORWITNESS_STORAGE", "STORAGE", "ANCHOR"}:
            assert isinstance(parse_address(value), S3Address)
    return [name for name, _ in lines]


def keys_of(file: str) -> list[str]:
    lines = (ROOT / "k8s" / "overlays" / file).read_text("utf-8").splitlines()
    return [line.split("=", 1)[0] for line in lines]
