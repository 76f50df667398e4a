"""The manifests as kubectl renders them: strict schemas, and what schemas miss (research/E 2)."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.manifests import find_faults, parse
from tests.real.clients import ROOT
from tests.real.overlays import FOLDERS, K8S, Values, find_tool, needs_k8s_tools, render, write_overlay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.deploy.manifests import Manifest

pytestmark = needs_k8s_tools


def find_schema_faults(manifests: list[Manifest], folder: Path) -> str:
    """Return what the schemas of Kubernetes say against objects; empty where nothing."""
    path = folder / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    command = [find_tool("kubernetes-validate"), "--strict", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert (done.returncode == 0) == all("passed for resource" in line for line in said), said
    return "\n".join(line for line in said if "passed for resource" not in line)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_rendered_is_valid(folder: str, tmp_path: Path) -> None:
    """By the strict schemas, and by our own rules; a base has no digests and ConfigMaps yet."""
    manifests = parse(render(K8S / folder))
    assert find_schema_faults(manifests, tmp_path) == ""
    assert find_faults(manifests, is_rendered=folder.startswith("overlays/")) == []


@pytest.mark.parametrize("overlay", ["community-mirror", "org-partial-mirror"])
def test_the_bootstrap_finds_its_configuration_in_an_overlay(overlay: str, tmp_path: Path) -> None:
    """As k8s/README.md says: in the overlay's resources, because its ConfigMaps have names with digests."""
    manifests = write_overlay(tmp_path, f"overlays/{overlay}", Values(resources=("base/bootstrap",)))
    assert find_schema_faults(manifests, tmp_path) == ""
    assert find_faults(manifests) == []


@pytest.mark.parametrize(
    ("overlay", "role", "services"),
    [
        ("community-mirror", "mirror", {"mirror"}),
        ("witness", "witness", {"witness"}),
        ("sumdb", "sumdb", {"sumdb", "sumdb-log"}),
    ],
)
def test_monitoring_is_a_component(overlay: str, role: str, services: set[str], tmp_path: Path) -> None:
    """It comes into the overlay's namespace, finds the services of its role and no others, and changes nothing else."""
    values = Values(components=("components/monitoring",))
    manifests = write_overlay(tmp_path, f"overlays/{overlay}", values)
    added = [each for each in manifests if each["apiVersion"] == "monitoring.coreos.com/v1"]
    assert [each for each in manifests if each not in added] == parse(render(K8S / "overlays" / overlay))
    assert find_faults(manifests) == []
    (namespace,) = {each["metadata"]["namespace"] for each in manifests if each["kind"] == "Service"}
    assert {each["metadata"]["namespace"] for each in added} == {namespace}
    found = {
        each["metadata"]["name"]: {
            service["metadata"]["name"]
            for service in manifests
            if service["kind"] == "Service"
            and each["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        }
        for each in added
        if each["kind"] == "ServiceMonitor"
    }
    assert found == {"mirror": set(), "witness": set(), "sumdb": set(), role: services}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda spec: spec.update(conccurrencyPolicy="Forbid"), "conccurrencyPolicy"),
        (lambda spec: spec["jobTemplate"]["spec"]["template"]["spec"].update(restartpolicy="Never"), "restartpolicy"),
        (lambda spec: spec.update(successfulJobsHistoryLimit="three"), "'three' is not of type"),
    ],
)
def test_a_fault_that_schemas_know_is_found_by_them(
    change: Callable[[Manifest], object], expected: str, tmp_path: Path
) -> None:
    """The three of research/E's ten that are theirs: an unknown field at two depths, and a wrong type."""
    manifests = parse(render(K8S / "overlays/community-mirror"))
    (sync,) = [each for each in manifests if each["metadata"]["name"] == "mirror-sync"]
    change(sync["spec"])
    assert expected in find_schema_faults(manifests, tmp_path)


def test_hadolint_has_nothing_against_the_containerfile() -> None:
    """But for what image/.hadolint.yaml takes out, each with its reason."""
    config = ROOT / "image" / ".hadolint.yaml"
    command = [find_tool("hadolint"), "--config", str(config), "--no-color", str(ROOT / "image" / "Containerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
