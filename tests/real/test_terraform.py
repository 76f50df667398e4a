"""``terraform/`` as an operator runs it, against a real S3 server, with a provider of our own in place of Amazon's.

What this shows: the decisions hold, the modules hang together, an apply makes what it says and a second one changes
nothing, and policies do on a server that has them what they say. What it does not show: that Amazon's provider takes every
argument, or that Amazon means the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
from botocore.exceptions import ClientError

from mirrorwitness.mirror.layout import attestations_key, packument_key, tarball_key
from mirrorwitness.npm.names import parse_name
from mirrorwitness.run.kms_address import parse_kms_address
from mirrorwitness.storage.address import S3Address, parse_address
from tests.deploy.policy import Request, is_allowed
from tests.deploy.working import Operation, work_of_all_roles
from tests.fakes.thread import serve_in_thread
from tests.real.clients import ROOT, mirrorwitness
from tests.real.terraform import TERRAFORM, Terraform, open_terraform, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.real.servers import S3Server

MODULES: Final = ("bucket", "identity", "kms", "edge")
EXAMPLES: Final = ("community-mirror", "organization")
ACCOUNT: Final = "111122223333"

# SeaweedFS speaks no TLS here and does not know s3:if-match; the decisions about both are tested without it.
SEAWEED: Final = {"require_tls": "false", "conditional_writes_only": "false"}
PLACE: Final = {"account_id": ACCOUNT, "oidc_issuer": "oidc.example/id/EXAMPLE"}
COMMUNITY: Final = {
    **PLACE,
    "bucket": "tf-community",
    "registry": "https://registry.example",
    "contact": "mirror@community.example",
}
ORGANIZATION: Final = {
    **PLACE,
    "organization": "tf-acme",
    "administrator_arns": f'["arn:aws:iam::{ACCOUNT}:role/keepers"]',
    "registry": "https://registry.example",
    "contact": "platform@acme.example",
    "witness_name": "witness.acme.example/w1",
    "polled_log": "sumdb.example/npm+420ab7f0+AVTTpBNirYpKp/D9IPvdXHH/i8Mut0xPf6oU/WxqmlcN=https://sumdb.example/npm",
}


def flags(values: dict[str, str]) -> list[str]:
    return [f"-var={name}={value}" for name, value in values.items()]


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


@pytest.mark.parametrize("module", [*(f"modules/{each}" for each in MODULES), *(f"examples/{each}" for each in EXAMPLES)])
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
    assert [each["Sid"] for each in policy["Statement"]] == ["KeepForEver", "EdgeReadsPublicPart", "EdgeLearnsWhatIsMissing"]
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

    signer = f"arn:aws:iam::{ACCOUNT}:role/mirrorwitness-witness"
    context = {"kms:MessageType": "RAW", "kms:SigningAlgorithm": "ED25519_SHA_512", "aws:PrincipalArn": signer}
    identity = kept["iam_role_policy mirrorwitness-witness:storage"]["policy"]
    sign = Request("kms:Sign", key["arn"], signer, context)
    assert is_allowed(sign, [key["policy"], identity])
    keeper = f"arn:aws:iam::{ACCOUNT}:role/keepers"
    everything = json.dumps({"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]})
    by_keeper = Request("kms:Sign", key["arn"], keeper, {**context, "aws:PrincipalArn": keeper})
    assert not is_allowed(by_keeper, [key["policy"], everything])
    digest = Request("kms:Sign", key["arn"], signer, {**context, "kms:MessageType": "DIGEST"})
    assert not is_allowed(digest, [key["policy"]])

    terraform.run(module, "destroy", "-auto-approve", *values)
    assert terraform.kept() == {}
    assert names & {each["Name"] for each in s3.list_buckets()["Buckets"]} == set()


def test_a_witness_is_not_thrown_away_with_its_bucket(terraform: Terraform) -> None:
    """`force_destroy` is refused where something was signed."""
    values = flags({"name": "tf-witness", "kind": "witness", "force_destroy": "true"})
    terraform.run("modules/bucket", "get")
    assert "never thrown away" in terraform.run("modules/bucket", "plan", *values, expect=1).output


def test_a_public_bucket_shows_its_public_part_alone(
    terraform: Terraform, s3: Any, start_server: Callable[[str], S3Server], use_credentials: Callable[[S3Server], None]
) -> None:
    """A real sync goes into it; then nobody without credentials gets, lists, puts or removes anything else."""
    server = start_server("seaweedfs")
    use_credentials(server)
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


def test_rendered_policies_allow_what_roles_do_and_refuse_attacks(terraform: Terraform, tmp_path: Path) -> None:
    """What every command did is allowed by role and bucket together; what only an attacker does is refused."""
    module, values = "examples/organization", flags({**ORGANIZATION, "require_tls": "false"})
    terraform.run(module, "get")
    # The S3 server would refuse all writes; nothing is written to these buckets.
    terraform.run(module, "apply", "-auto-approve", *values)
    roles = {
        name.split(":")[0].removeprefix("iam_role_policy mirrorwitness-"): each["policy"]
        for name, each in terraform.kept().items()
        if name.startswith("iam_role_policy ")
    }
    buckets = {
        place: policy_of(terraform, f"tf-acme-{bucket}")
        for place, bucket in {"mirror": "mirror", "sumdb": "sumdb", "witness": "witness", "anchor": "witness-anchor"}.items()
    }
    arns = {"mirror": "tf-acme-mirror", "sumdb": "tf-acme-sumdb", "witness": "tf-acme-witness"}
    arns["anchor"] = "tf-acme-witness-anchor"

    (tmp_path / "work").mkdir()
    work = work_of_all_roles(tmp_path / "work")
    refused = [
        (role, each, request)
        for role in roles
        for each in sorted(work.done_by(role))
        for request in requests_of(each, arns)
        if not is_allowed(request, [roles[role], buckets[place_of(each)]])
    ]
    assert refused == []

    def asks(role: str, action: str, place: str, key: str, **context: str) -> bool:
        request = Request(f"s3:{action}", f"arn:aws:s3:::{arns[place]}/{key}", context=context)
        return is_allowed(request, [roles[role], buckets[place]])

    everything = json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    roles["administrator"] = everything
    record = f"state/witness/logs/{'0' * 64}.json"
    assert asks("administrator", "PutObject", "witness", record, **{"s3:if-match": "etag"})
    # An old state copied back, by whoever may do everything.
    assert not asks("administrator", "PutObject", "witness", record)
    assert not asks("administrator", "PutObject", "anchor", f"witness/{'0' * 64}/checkpoint")
    assert not asks("administrator", "DeleteObjectVersion", "witness", record)
    assert not asks("administrator", "DeleteObject", "mirror", "evidence/left/1.0.0/x.json")
    # A server that was broken into.
    assert not asks("mirror-reader", "PutObject", "mirror", "npm/left/packument.json")
    assert not asks("mirror-reader", "GetObject", "mirror", "quarantine/left/left-1.0.0.tgz")
    # A mirror that was broken into, and wants to sign or to rewrite the log.
    assert not asks("mirror", "PutObject", "sumdb", "log/checkpoint", **{"s3:if-match": "etag"})
    assert not asks("mirror", "PutObject", "witness", record, **{"s3:if-match": "etag"})
    assert not asks("sumdb", "DeleteObject", "sumdb", "log/checkpoint")
    terraform.run(module, "destroy", "-auto-approve", *values)


CASES: Final = {
    "/left": packument_key(parse_name("left")),
    "/@s/right": packument_key(parse_name("@s/right")),
    "/@s%2fright": packument_key(parse_name("@s/right")),
    "/@s%2Fright": packument_key(parse_name("@s/right")),
    "/%40s%2Fright": packument_key(parse_name("@s/right")),
    "/left/-/left-1.0.0.tgz": tarball_key(parse_name("left"), "left-1.0.0.tgz"),
    "/@s/right/-/right-1.0.0.tgz": tarball_key(parse_name("@s/right"), "right-1.0.0.tgz"),
    "/@s%2fright/-/right-1.0.0.tgz": tarball_key(parse_name("@s/right"), "right-1.0.0.tgz"),
    "/left/-/left-1.0.0+build.tgz": tarball_key(parse_name("left"), "left-1.0.0+build.tgz"),
    "/left/-/left-1.0.0.tgz.tlog-proof": "npm/left/-/left-1.0.0.tgz.tlog-proof",
    "/-": packument_key(parse_name("-")),
    "/about": packument_key(parse_name("about")),
    "/-/npm/v1/keys": "about/keys.json",
    "/-/npm/v1/attestations/@s%2fright@1.0.0": attestations_key(parse_name("@s/right"), "1.0.0"),  # type: ignore[arg-type]
    "/-/npm/v1/attestations/left@1.0.0": attestations_key(parse_name("left"), "1.0.0"),  # type: ignore[arg-type]
    "/-/about.json": "about/mirror.json",
    "/-/about.json.note": "about/mirror.json.note",
    f"/-/summary/0a/0a{'1' * 62}": f"about/summary/0a/0a{'1' * 62}",
    "/": None,
    "/left/": None,
    "//left": None,
    "/left/1.0.0": None,
    "/state/package/left.json": None,
    "/evidence/x": None,
    "/../state/cursor/1-of-1.json": None,
    "/%2e%2e/state": None,
    "/left/-/..%2f..%2f..%2fstate%2fcoverage.json": None,
    "/@s%2f..%2f..%2fstate": None,
    "/left%00": None,
    "/left%": None,
    "/left%5c..": None,
    "/@s": None,
    "/-/summary/0a/../../../state": None,
    "/-/metrics": None,
}
LOG_CASES: Final = {
    "/checkpoint": "log/checkpoint",
    "/tile/0/x001/067": "log/tile/0/x001/067",
    "/tile/0/001.p/7": "log/tile/0/001.p/7",
    "/tile/entries/000.p/200": "log/tile/entries/000.p/200",
    "/index/left": "log/index/left",
    "/index/@s%2fright": "log/index/@s/right",
    "/index/@s/right": "log/index/@s/right",
    "/lookup/left@1.0.0": None,
    "/tile/0/../../state": None,
    "/state/sumdb/head.json": None,
    "/index/..": None,
}
HASH: Final = "a" * 64
MONITORING_CASES: Final = {
    f"/{HASH}/checkpoint": f"witness/{HASH}/checkpoint",
    f"/{HASH}/tile/0/000": None,
    "/checkpoint": None,
    "/state/witness/identity.json": None,
}
LOGMIRROR_CASES: Final = {
    f"/{HASH}/checkpoint": f"logmirror/{HASH}/checkpoint",
    f"/{HASH}/tile/entries/000.p/3": f"logmirror/{HASH}/tile/entries/000.p/3",
    f"/{HASH}/index/left": None,
    "/checkpoint": None,
}
RUN_RULE: Final = """
const [kind, paths] = JSON.parse(require('fs').readFileSync(0))
const text = require('fs').readFileSync(process.argv[1], 'utf8').replace('{{kind}}', kind)
const handler = new Function(text + '; return handler')()
console.log(JSON.stringify(paths.map((uri) => {
  const found = handler({ request: { uri, querystring: { x: { value: '1' } } } })
  return found.statusCode ? found.statusCode : [found.uri, Object.keys(found.querystring)]
})))
"""


@pytest.mark.parametrize(
    ("kind", "cases"),
    [("registry", CASES), ("log", LOG_CASES), ("monitoring", MONITORING_CASES), ("logmirror", LOGMIRROR_CASES)],
)
def test_the_path_rule_finds_objects(kind: str, cases: dict[str, str | None]) -> None:
    """Each path that a client asks for means the key that the product writes, and nothing leads out of the public part."""
    rule = TERRAFORM / "modules/edge/decisions/path_rule.js"
    done = subprocess.run(
        ["node", "-e", RUN_RULE, str(rule)], input=json.dumps([kind, list(cases)]), stdout=subprocess.PIPE, text=True, check=True
    )
    found = [404 if each == 404 else (urllib.request.unquote(each[0][1:]), each[1]) for each in json.loads(done.stdout)]
    assert dict(zip(cases, found, strict=True)) == {path: 404 if key is None else (key, []) for path, key in cases.items()}


def test_the_path_rule_says_pong_and_encodes_a_plus() -> None:
    """A + that goes to S3 as it is means a space there."""
    rule = TERRAFORM / "modules/edge/decisions/path_rule.js"
    asked = json.dumps(["registry", ["/-/ping", "/left/-/left-1.0.0+a!(b).tgz"]])
    done = subprocess.run(["node", "-e", RUN_RULE, str(rule)], input=asked, stdout=subprocess.PIPE, text=True, check=True)
    assert json.loads(done.stdout) == [200, ["/npm/left/-/left-1.0.0%2Ba%21%28b%29.tgz", []]]


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


def test_checkov_has_nothing_to_say_about_terraform() -> None:
    """But for what is skipped where it is, with the reason."""
    report = run_checkov("--directory", str(TERRAFORM), "--framework", "terraform")
    assert [(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]] == []
    skipped = report["results"]["skipped_checks"]
    assert [each["check_id"] for each in skipped if len(each["check_result"]["suppress_comment"]) < 20] == []
    assert report["summary"]["passed"] > 50


KUBERNETES_SKIPS: Final = {
    "CKV_K8S_11": "a limit on processor time slows a job down while the node is idle; requests are set, memory is limited",
    "CKV_K8S_35": "AWS tools read credentials from the environment; with a workload identity there is no secret at all",
}


@pytest.mark.parametrize("overlay", ["community-mirror", "org-partial-mirror", "witness", "sumdb"])
def test_checkov_has_nothing_to_say_about_manifests(overlay: str, tmp_path: Path) -> None:
    """As kubectl renders them, but for the reasons above."""
    from tests.real.overlays import find_tool  # noqa: PLC0415 - skips where kubectl is missing

    rendered = tmp_path / "rendered.yaml"
    done = subprocess.run(
        [find_tool("kubectl"), "kustomize", str(ROOT / "k8s" / "overlays" / overlay)], stdout=subprocess.PIPE, check=True
    )
    rendered.write_bytes(done.stdout)
    skip = ",".join(KUBERNETES_SKIPS)
    report = run_checkov("--file", str(rendered), "--framework", "kubernetes", "--skip-check", skip)
    assert [(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]] == []
    assert report["summary"]["passed"] > 100


def run_checkov(*arguments: str) -> dict[str, Any]:
    """Run checkov, offline, and return its report."""
    done = subprocess.run(
        [tool("checkov"), "--skip-download", "--quiet", "--output", "json", *arguments],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def place_of(operation: Operation) -> str:
    return operation.storage.removesuffix("2")


def requests_of(operation: Operation, arns: dict[str, str]) -> Iterator[Request]:
    """Yield what a bucket is asked for by one operation of a storage."""
    bucket = f"arn:aws:s3:::{arns[place_of(operation)]}"
    context = {"create": {"s3:if-none-match": "*"}, "swap": {"s3:if-match": "etag"}}.get(operation.verb, {})
    if operation.verb == "list":
        yield Request("s3:ListBucket", bucket)
    elif operation.verb == "delete":
        yield Request("s3:DeleteObject", f"{bucket}/{operation.key}")
    else:
        yield Request("s3:GetObject", f"{bucket}/{operation.key}")
        if operation.verb in {"create", "swap", "put"}:
            yield Request("s3:PutObject", f"{bucket}/{operation.key}", context=context)


def policy_of(terraform: Terraform, bucket: str) -> str:
    """Return a bucket's policy as terraform has it in its state."""
    state = terraform.run("examples/organization", "show", "-json").output
    document = json.loads(state[state.index('{"format_version"') :])
    resources = [
        each
        for module in document["values"]["root_module"]["child_modules"]
        for each in module.get("resources", ())
        if each["type"] == "aws_s3_bucket_policy"
    ]
    (found,) = [each["values"]["policy"] for each in resources if each["values"]["bucket"] == bucket]
    return str(found)


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


def status_of(url: str, *, method: str = "GET", body: bytes | None = None) -> int:
    """Return the status of an unsigned request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=body), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


