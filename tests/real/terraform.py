"""terraform as an operator runs it, with the provider of ``scripts/real/terraform`` in place of Amazon's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.real.clients import ROOT, Outcome
from tests.real.servers import CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.real.servers import S3Server

__all__ = [
    "ACCOUNT",
    "COMMUNITY",
    "ORGANIZATION",
    "SEAWEED",
    "TERRAFORM",
    "Terraform",
    "flags",
    "open_terraform",
    "tool",
]

TERRAFORM: Final = ROOT / "terraform"
PROVIDER: Final = ROOT / "scripts" / "real" / "terraform" / "provider.py"

ACCOUNT: Final = "111122223333"

# SeaweedFS speaks no TLS here and does not know s3:if-match; the decisions about both are tested without it.
SEAWEED: Final = {"require_tls": "false", "conditional_writes_only": "false"}
_PLACE: Final = {
    "account_id": ACCOUNT,
    "oidc_issuer": "oidc.example/id/EXAMPLE",
    "registry": "https://registry.example",
}
COMMUNITY: Final = {**_PLACE, "bucket": "tf-community", "contact": "mirror@community.example"}
ORGANIZATION: Final = {
    **_PLACE,
    "organization": "tf-acme",
    "administrator_arns": f'["arn:aws:iam::{ACCOUNT}:role/keepers"]',
    "contact": "platform@acme.example",
    "witness_name": "witness.acme.example/w1",
    "polled_log": "sumdb.example/npm+420ab7f0+AVTTpBNirYpKp/D9IPvdXHH/i8Mut0xPf6oU/WxqmlcN=https://sumdb.example/npm",
}
"""Values of the two examples."""


def flags(values: Mapping[str, str]) -> list[str]:
    """Return values as terraform takes them."""
    return [f"-var={name}={value}" for name, value in values.items()]


def tool(name: str) -> str:
    """Return a program that scripts/real/install-terraform installs, or skip."""
    path = CACHE / "terraform" / "bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed; run scripts/real/install-terraform")
    return str(path)


@dataclass(frozen=True, slots=True)
class Terraform:
    """Runs terraform over a copy of ``terraform/``.

    Attributes:
        folder: of everything; the copy is in ``tree``.
        environment: what terraform and the provider are given.
    """

    folder: Path
    environment: Mapping[str, str]

    @property
    def tree(self) -> Path:
        """The copy."""
        return self.folder / "terraform"

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start terraform in a folder of the copy."""
        return subprocess.Popen(
            ["terraform", f"-chdir={self.tree / module}", *arguments],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, module: str, *arguments: str, expect: int | None = 0) -> Outcome:
        """Run it to its end, and hold it to its exit code."""
        process = self.start(module, *arguments)
        output, _ = process.communicate(timeout=300)
        assert expect is None or process.returncode == expect, (arguments, process.returncode, output)
        return Outcome(process.returncode, output)

    def output(self, module: str, name: str) -> Any:
        """Return an output of an applied configuration."""
        done = subprocess.run(
            ["terraform", f"-chdir={self.tree / module}", "output", "-json", name],
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout)

    def resources(self, module: str) -> dict[str, dict[str, Any]]:
        """Return the values of what was applied, by type and ID."""
        output = self.run(module, "show", "-json").output
        root = json.loads(output[output.index('{"format_version"') :])["values"]["root_module"]
        found = [each for module in root["child_modules"] for each in module.get("resources", ())]
        return {f"{each['type']} {each['values']['id']}": each["values"] for each in found}

    def kept(self) -> dict[str, dict[str, Any]]:
        """Return what the provider keeps in files, by the name of the resource's kind and its ID."""
        files = sorted((self.folder / "kept").glob("*.json"))
        found = [(path.stem.rpartition("-")[0], json.loads(path.read_bytes())) for path in files]
        return {f"{kind} {values['id']}": values for kind, values in found}


def open_terraform(folder: Path, server: S3Server | None = None) -> Terraform:
    """Copy ``terraform/`` and point terraform at the provider; skips where either is not there."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not on this machine; it is in no package index, install it by hand")
    python = tool("python")
    shutil.copytree(TERRAFORM, folder / "terraform", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    for name in ("kept", "provider", "home"):
        (folder / name).mkdir()
    program = folder / "provider" / "terraform-provider-aws"
    program.write_text(f'#!/bin/sh\nexec "{python}" "{PROVIDER}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    configuration = folder / "terraform.rc"
    overrides = f'dev_overrides {{\n "hashicorp/aws" = "{program.parent}"\n }}\n direct {{}}'
    configuration.write_text(
        f"disable_checkpoint = true\nprovider_installation {{\n {overrides}\n}}\n", encoding="utf-8"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "TF_CLI_CONFIG_FILE": str(configuration),
        "TF_IN_AUTOMATION": "1",
        "TF_CLI_ARGS": "-no-color",
        "CHECKPOINT_DISABLE": "1",
        "STUB_STATE": str(folder / "kept"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if server is not None:
        environment |= {"STUB_ENDPOINT": server.endpoint, "AWS_ENDPOINT_URL_S3": server.endpoint}
        environment |= server.environment()
    return Terraform(folder, environment)
