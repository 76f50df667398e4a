"""Overlays of ``k8s/``, rendered by kubectl, and overlays over them with the values of an operator.

`find_tool` says where the programs are that ``scripts/real/install-deploy k8s`` installs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.deploy.manifests import Manifest, parse
from tests.real.clients import ROOT
from tests.real.servers import CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["FOLDERS", "K8S", "Values", "find_tool", "needs_k8s_tools", "render", "write_overlay"]

K8S: Final = ROOT / "k8s"
TOOLS: Final = CACHE / "deploy"

FOLDERS: Final = [
    path.parent.relative_to(K8S).as_posix()
    for kind in ("base", "overlays")
    for path in sorted((K8S / kind).glob("*/kustomization.yaml"))
]
"""Everything that can be rendered by itself."""

needs_k8s_tools: Final = pytest.mark.skipif(
    not (TOOLS / "installed.txt").exists(), reason="needs what scripts/real/install-deploy k8s installs"
)


@dataclass(frozen=True, slots=True)
class Values:
    """What an operator puts into an overlay.

    Attributes:
        settings: variables of a ConfigMap, by its name.
        files: content of files in a ConfigMap, by its name.
        resources: folders of ``k8s/`` that are applied with it.
        components: folders of ``k8s/`` that add to all of it.
        patches: of objects, each as kustomize has them.
        digest: of the image.
    """

    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    resources: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    patches: tuple[Mapping[str, Any], ...] = ()
    digest: str = "sha256:" + "0" * 64


def find_tool(name: str) -> str:
    """Return the path of a program: the machine's own kubectl where it has one, else what was installed."""
    return (shutil.which(name) if name == "kubectl" else None) or str(TOOLS / "bin" / name)


def render(folder: Path) -> str:
    """Return what ``kubectl apply -k`` would send."""
    done = subprocess.run([find_tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_overlay(folder: Path, base: str, values: Values) -> list[Manifest]:
    """Write an overlay over one of ours, and return what it renders to.

    Args:
        folder: an empty one.
        base: below ``k8s/``.
        values: what is different in it.
    """
    (namespace,) = {each["metadata"]["namespace"] for each in parse(render(K8S / base)) if each["kind"] == "Service"}
    maps = []
    for name in {*values.settings, *values.files}:
        entry: dict[str, Any] = {"name": name, "namespace": namespace, "behavior": "merge"}
        entry["literals"] = [f"{key}={value}" for key, value in values.settings.get(name, {}).items()]
        entry["files"] = []
        for file, text in values.files.get(name, {}).items():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / file).write_text(text, encoding="utf-8")
            entry["files"].append(f"{file}={name}/{file}")
        maps.append(entry)
    pinned = {"newName": "images.example/mirrorwitness", "digest": values.digest}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(K8S / each, folder) for each in (base, *values.resources)],
        "components": [os.path.relpath(K8S / each, folder) for each in values.components],
        "configMapGenerator": maps,
        "images": [{"name": each, **pinned} for each in ("images.example/mirrorwitness", "mirrorwitness")],
        "patches": [*values.patches],
    }
    # JSON is YAML.
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization), encoding="utf-8")
    return parse(render(folder))
