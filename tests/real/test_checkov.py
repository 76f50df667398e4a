"""checkov over ``terraform/`` and over the manifests as kubectl renders them, offline."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.real.clients import ROOT
from tests.real.overlays import render
from tests.real.terraform import TERRAFORM, tool

if TYPE_CHECKING:
    from pathlib import Path

KUBERNETES_SKIPS: Final = {
    "CKV_K8S_11": "a limit on processor time slows a job down while the node idles; memory is limited",
    "CKV_K8S_35": "AWS's tools read credentials from the environment; a workload identity needs no secret",
}
"""What is not asked of manifests, and why. What is not asked of terraform/ stands there, beside each resource."""


def test_terraform() -> None:
    """Nothing, but for what is skipped with a reason."""
    report = run_checkov("--directory", str(TERRAFORM), "--framework", "terraform")
    assert [(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]] == []
    skipped = report["results"]["skipped_checks"]
    reasons = {each["check_id"]: each["check_result"]["suppress_comment"] for each in skipped}
    assert [check for check, reason in reasons.items() if len(reason) < len("the same: …")] == []
    assert report["summary"]["passed"] > 50


@pytest.mark.parametrize("overlay", sorted(path.name for path in (ROOT / "k8s/overlays").iterdir()))
def test_manifests(overlay: str, tmp_path: Path) -> None:
    """Nothing, but for the two above."""
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(render(ROOT / "k8s/overlays" / overlay), encoding="utf-8")
    skipped = ",".join(KUBERNETES_SKIPS)
    report = run_checkov("--file", str(rendered), "--framework", "kubernetes", "--skip-check", skipped)
    assert [(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]] == []
    assert report["summary"]["passed"] > 100


def run_checkov(*arguments: str) -> dict[str, Any]:
    """Run checkov and return its report."""
    done = subprocess.run(
        [tool("checkov"), "--skip-download", "--compact", "--output", "json", *arguments],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report
