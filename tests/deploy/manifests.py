"""What is wrong with a set of Kubernetes manifests although their schemas accept it (research/E 2).

`find_faults` returns sentences; none means that the set is as we want it. It is run over what kustomize renders
(`tests/real/test_deploy.py`) and over the files of ``k8s/base`` as they lie there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from mirrorwitness.errors import ExitCode
from tests.deploy.commands import find_command_fault
from tests.deploy.cron import parse_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Manifest = dict[str, Any]

NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
QUANTITY: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>m|[kMGTPE]|[KMGTPE]i)?")
UNITS: Final = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")
SECRETS: Final = frozenset({
    "mirror-s3",
    "mirror-reader-s3",
    "witness-s3",
    "witness-key",
    "sumdb-s3",
    "sumdb-reader-s3",
    "sumdb-key",
})
"""Secrets that k8s/README.md tells the operator to make; no manifest has one."""

JOB_CODES: Final = frozenset(int(code) for code in ExitCode if code)


@dataclass(frozen=True, slots=True)
class Workload:
    """One object that makes pods.

    Attributes:
        manifest: the whole object.
        kind: what it is.
        name: its name.
        spec: of a Deployment, or of the Job that is made.
        template: of its pods.
    """

    manifest: Manifest
    kind: str
    name: str
    spec: Manifest
    template: Manifest

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def pod(self) -> Manifest:
        found: Manifest = self.template["spec"]
        return found

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.template.get("metadata", {}).get("labels", {})
        return found

    @property
    def containers(self) -> list[Manifest]:
        found: list[Manifest] = self.pod["containers"]
        return found


def read_folder(folder: Path) -> list[Manifest]:
    """Return the objects in the files of a folder, as they lie there."""
    return [
        manifest
        for path in sorted(folder.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for manifest in parse(path.read_text(encoding="utf-8"))
    ]


def parse(text: str) -> list[Manifest]:
    """Return the objects of a text with several documents."""
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def find_workloads(manifests: Sequence[Manifest]) -> list[Workload]:
    """Return what makes pods."""
    return [found for manifest in manifests if (found := _as_workload(manifest)) is not None]


def find_faults(manifests: Sequence[Manifest], *, is_rendered: bool = True) -> list[str]:
    """Return what is wrong, as sentences.

    Args:
        manifests: all objects that are applied together.
        is_rendered: they come from an overlay, so images have digests and all ConfigMaps are there.
    """
    workloads = find_workloads(manifests)
    faults = [*_name_faults(manifests), *_selection_faults(manifests, workloads)]
    for workload in workloads:
        faults += [f"{workload}: {fault}" for fault in _workload_faults(workload)]
        faults += [f"{workload}: {fault}" for fault in _reference_faults(workload, manifests, is_rendered=is_rendered)]
    return faults


def _as_workload(manifest: Manifest) -> Workload | None:
    kind = manifest["kind"]
    if kind in {"Deployment", "StatefulSet", "Job"}:
        spec = manifest["spec"]
    elif kind == "CronJob":
        spec = manifest["spec"]["jobTemplate"]["spec"]
    else:
        return None
    return Workload(manifest, kind, manifest["metadata"]["name"], spec, spec["template"])


def _name_faults(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        if not NAME.fullmatch(name):
            yield f"{manifest['kind']} {name}: is no name that an object can have (RFC 1123)"


def _is_within(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Say whether a label selector chooses a pod; of the expressions the one that we use."""
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In" or labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _selection_faults(manifests: Sequence[Manifest], workloads: Sequence[Workload]) -> Iterator[str]:
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        chosen: list[Workload] = []
        if kind == "Service":
            chosen = [each for each in workloads if _is_within(manifest["spec"]["selector"], each.labels)]
        elif kind == "PodDisruptionBudget":
            chosen = [each for each in workloads if _selects(manifest["spec"]["selector"], each.labels)]
        else:
            continue
        if len(chosen) != 1 or chosen[0].kind != "Deployment":
            yield f"{kind} {name}: chooses the pods of {[str(each) for each in chosen]}, expected of one Deployment"
    policies = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    for workload in workloads:
        covering = [each for each in policies if _selects(each["spec"]["podSelector"], workload.labels)]
        types = {kind for each in covering for kind in each["spec"]["policyTypes"]}
        if policies and types != {"Ingress", "Egress"}:
            yield f"{workload}: its traffic is limited for {sorted(types)} only"
    budgets = [manifest for manifest in manifests if manifest["kind"] == "PodDisruptionBudget"]
    for workload in workloads:
        is_covered = any(_selects(each["spec"]["selector"], workload.labels) for each in budgets)
        if workload.kind == "Deployment" and workload.spec["replicas"] > 1 and not is_covered:
            yield f"{workload}: has several replicas and no PodDisruptionBudget"


def _workload_faults(workload: Workload) -> Iterator[str]:
    if workload.kind == "CronJob":
        yield from _cron_faults(workload)
    if workload.kind in {"CronJob", "Job"}:
        yield from _job_faults(workload)
    else:
        yield from _server_faults(workload)
    yield from _pod_faults(workload)
    for container in workload.containers:
        yield from (f"container {container['name']}: {fault}" for fault in _container_faults(container))
        fault = find_command_fault(container["args"])
        if fault is not None:
            yield f"container {container['name']}: our command line does not take its args: {fault}"


def _cron_faults(workload: Workload) -> Iterator[str]:
    spec = workload.manifest["spec"]
    if spec.get("concurrencyPolicy") != "Forbid":
        yield f"concurrencyPolicy is {spec.get('concurrencyPolicy')!r}, expected 'Forbid'"
    if spec.get("timeZone") != "Etc/UTC":
        yield f"timeZone is {spec.get('timeZone')!r}, so the schedule moves with the cluster"
    try:
        interval = parse_schedule(spec["schedule"]).interval
    except ValueError as error:
        yield f"schedule: {error}"
        return
    deadline = workload.spec.get("activeDeadlineSeconds")
    if deadline is None or deadline >= interval:
        yield f"activeDeadlineSeconds is {deadline}, expected less than the {interval} s between two runs"


def _job_faults(workload: Workload) -> Iterator[str]:
    spec, pod = workload.spec, workload.pod
    rules = spec.get("podFailurePolicy", {}).get("rules", [])
    if not rules:
        yield "has no podFailurePolicy, so an exit code of ours means nothing"
    if pod.get("restartPolicy") != "Never":
        yield f"restartPolicy is {pod.get('restartPolicy')!r}; with a podFailurePolicy it has to be 'Never'"
    is_indexed = spec.get("completionMode") == "Indexed"
    if not is_indexed and ("backoffLimitPerIndex" in spec or "maxFailedIndexes" in spec):
        yield "has limits for each index, and is not Indexed"
    yield from _rule_faults(rules, {container["name"] for container in workload.containers}, is_indexed=is_indexed)
    for container in workload.containers:
        if any(probe in container for probe in ("livenessProbe", "readinessProbe", "startupProbe")):
            yield f"container {container['name']}: has probes, and is a job"
    parts = [word for container in workload.containers for word in container["args"] if word.startswith("job/")]
    if is_indexed and parts != [f"job/{spec['completions']}"]:
        yield f"makes {spec['completions']} pods, and its args say {parts}"


def _rule_faults(rules: Sequence[Manifest], names: set[str], *, is_indexed: bool) -> Iterator[str]:
    for rule in rules:
        if rule["action"] == "FailIndex" and not is_indexed:
            yield "has a rule that fails an index, and is not Indexed"
        codes = rule.get("onExitCodes")
        if codes is None:
            continue
        if codes["containerName"] not in names:
            yield f"a rule is about the container {codes['containerName']!r}, there are {sorted(names)}"
        unknown = set(codes["values"]) - JOB_CODES
        if unknown:
            yield f"a rule is about exit codes {sorted(unknown)}, which no command of ours has"


def _server_faults(workload: Workload) -> Iterator[str]:
    selector = workload.spec["selector"]["matchLabels"]
    if not _is_within(selector, workload.labels):
        yield f"its selector {selector} does not choose its own pods {workload.labels}"
    for container in workload.containers:
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe not in container:
                yield f"container {container['name']}: has no {probe}"
            elif container[probe]["httpGet"]["port"] not in ports:
                yield f"container {container['name']}: {probe} asks port {container[probe]['httpGet']['port']!r}"


def _pod_faults(workload: Workload) -> Iterator[str]:
    pod = workload.pod
    if pod.get("automountServiceAccountToken") is not False:
        yield "its pods get a token for the Kubernetes API"
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "its pods may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "its pods have no seccomp profile"
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    mounts = {mount["name"] for container in workload.containers for mount in container.get("volumeMounts", [])}
    if volumes != mounts:
        yield f"has the volumes {sorted(volumes)} and mounts {sorted(mounts)}"
    for volume in pod.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']}: may fill the node"


def _container_faults(container: Manifest) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written"
    elif not any(mount["mountPath"] == "/tmp" for mount in container.get("volumeMounts", [])):
        yield "has a read-only root and no /tmp"
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "may gain privileges"
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for name, text in [*requests.items(), *limits.items()]:
        if read_quantity(text) is None:
            yield f"{name} {text!r} is no quantity"
    if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
        yield f"requests {sorted(requests)} and limits {sorted(limits)}; expected cpu and memory, and a limit of memory"
    for name in requests.keys() & limits.keys():
        low, high = read_quantity(requests[name]), read_quantity(limits[name])
        if low is not None and high is not None and low > high:
            yield f"{name}: requests {requests[name]}, more than its limit of {limits[name]}"


def read_quantity(text: object) -> float | None:
    """Return the number that a quantity stands for, None where it is none."""
    found = QUANTITY.fullmatch(str(text))
    if found is None or (found["unit"] or "") not in UNITS:
        return None
    return float(found["number"]) * UNITS[found["unit"] or ""]


def _reference_faults(workload: Workload, manifests: Sequence[Manifest], *, is_rendered: bool) -> Iterator[str]:
    maps = {each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"}
    accounts = {each["metadata"]["name"] for each in manifests if each["kind"] == "ServiceAccount"}
    wanted_maps, wanted_secrets = set[str](), set[str]()
    for volume in workload.pod.get("volumes", []):
        wanted_maps |= {volume["configMap"]["name"]} if "configMap" in volume else set()
        wanted_secrets |= {volume["secret"]["secretName"]} if "secret" in volume else set()
    for container in workload.containers:
        for source in container.get("envFrom", []):
            wanted_maps |= {source["configMapRef"]["name"]} if "configMapRef" in source else set()
            wanted_secrets |= {source["secretRef"]["name"]} if "secretRef" in source else set()
        if any("value" in variable and "SECRET" in variable["name"] for variable in container.get("env", [])):
            yield f"container {container['name']}: has a secret in its manifest"
        if is_rendered and not DIGEST.fullmatch(container["image"]):
            yield f"container {container['name']}: image {container['image']} is not pinned by a digest"
    if is_rendered and wanted_maps - maps:
        yield f"needs the ConfigMaps {sorted(wanted_maps - maps)}, which are not there"
    if wanted_secrets - SECRETS:
        yield f"needs the secrets {sorted(wanted_secrets - SECRETS)}, which k8s/README.md does not name"
    account = workload.pod.get("serviceAccountName")
    if accounts and account not in accounts:
        yield f"runs as {account!r}, there are {sorted(accounts)}"
