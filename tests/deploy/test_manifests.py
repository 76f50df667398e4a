"""The manifests in ``k8s/base``, and that each fault which schemas let through is found (research/E 2)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.deploy.cron import parse_schedule
from tests.deploy.manifests import Manifest, find_faults, find_workloads, read_folder

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BASE = ROOT / "k8s/base"
FOLDERS = sorted(path.name for path in BASE.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_base_has_no_fault(folder: str) -> None:
    """Neither in what Kubernetes takes nor in what we want of it."""
    assert find_faults(read_folder(BASE / folder), is_rendered=False) == []


def test_every_role_has_its_workloads() -> None:
    """What issue 6 names is there."""
    found = {str(workload) for folder in FOLDERS for workload in find_workloads(read_folder(BASE / folder))}
    assert found == {
        "CronJob mirror-audit",
        "CronJob mirror-sync",
        "CronJob sumdb-fsck",
        "CronJob witness-poll",
        "Deployment mirror-serve",
        "Deployment sumdb-log",
        "Deployment sumdb-read",
        "Deployment witness-serve",
        "Job mirror-bootstrap",
    }


def plant(folder: str, name: str, change: Callable[[Manifest], object]) -> list[str]:
    """Return the faults of a base after one of its objects was changed."""
    manifests = copy.deepcopy(read_folder(BASE / folder))
    chosen = [each for each in manifests if f"{each['kind']} {each['metadata']['name']}" == name]
    assert len(chosen) == 1
    change(chosen[0])
    return find_faults(manifests, is_rendered=False)


def pod_of(manifest: Manifest) -> Manifest:
    found: Manifest = find_workloads([manifest])[0].pod
    return found


def job_of(manifest: Manifest) -> Manifest:
    found: Manifest = find_workloads([manifest])[0].spec
    return found


def container_of(manifest: Manifest) -> Manifest:
    found: Manifest = pod_of(manifest)["containers"][0]
    return found


SYNC, SERVE, JOB = "CronJob mirror-sync", "Deployment mirror-serve", "Job mirror-bootstrap"


@pytest.mark.parametrize(
    ("folder", "name", "change", "expected"),
    [
        # The seven of research/E's ten that its strict schemas accept; the other three are the schemas' own.
        ("mirror", SYNC, lambda m: m["spec"].update(concurrencyPolicy="Never"), "concurrencyPolicy is 'Never'"),
        ("mirror", SYNC, lambda m: m["spec"].update(schedule="61 * * * *"), "minute '61' is not within 0 to 59"),
        ("mirror", SYNC, lambda m: pod_of(m).update(restartPolicy="OnFailure"), "restartPolicy is 'OnFailure'"),
        (
            "mirror",
            SERVE,
            lambda m: m["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/component": "other"}),
            "does not choose its own pods",
        ),
        ("bootstrap", JOB, lambda m: job_of(m).update(completionMode="NonIndexed"), "is not Indexed"),
        (
            "mirror",
            SERVE,
            lambda m: container_of(m)["resources"]["requests"].update(memory="64Mib"),
            "memory '64Mib' is no quantity",
        ),
        ("mirror", SYNC, lambda m: m["metadata"].update(name="Mirror-Sync"), "is no name that an object can have"),
        # Further ones, of the list that follows there.
        ("mirror", SYNC, lambda m: job_of(m).update(activeDeadlineSeconds=900), "expected less than the 900 s"),
        ("mirror", SYNC, lambda m: m["spec"].update(timeZone=None), "timeZone is None"),
        (
            "mirror",
            SYNC,
            lambda m: job_of(m)["podFailurePolicy"]["rules"][1]["onExitCodes"].update(values=[2, 77]),
            "exit codes [77], which no command of ours has",
        ),
        (
            "mirror",
            SYNC,
            lambda m: job_of(m)["podFailurePolicy"]["rules"][1]["onExitCodes"].update(containerName="main"),
            "a rule is about the container 'main'",
        ),
        ("mirror", SYNC, lambda m: job_of(m).pop("podFailurePolicy"), "has no podFailurePolicy"),
        (
            "mirror",
            SYNC,
            lambda m: container_of(m).update(livenessProbe={"httpGet": {"path": "/", "port": "x"}}),
            "has probes, and is a job",
        ),
        ("mirror", SERVE, lambda m: container_of(m).pop("readinessProbe"), "has no readinessProbe"),
        ("mirror", SERVE, lambda m: container_of(m)["ports"][0].update(name="web"), "asks port 'http'"),
        (
            "mirror",
            SERVE,
            lambda m: container_of(m)["securityContext"].update(readOnlyRootFilesystem=False),
            "its root file system can be written",
        ),
        ("mirror", SERVE, lambda m: container_of(m).update(volumeMounts=[]), "has a read-only root and no /tmp"),
        (
            "mirror",
            SERVE,
            lambda m: container_of(m)["securityContext"]["capabilities"].update(drop=[]),
            "may gain privileges",
        ),
        ("mirror", SERVE, lambda m: pod_of(m)["securityContext"].update(runAsNonRoot=False), "may run as root"),
        ("mirror", SERVE, lambda m: pod_of(m)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
        ("mirror", SERVE, lambda m: pod_of(m).pop("automountServiceAccountToken"), "token for the Kubernetes API"),
        ("mirror", SERVE, lambda m: pod_of(m).update(serviceAccountName="mirrors"), "runs as 'mirrors'"),
        ("mirror", SERVE, lambda m: pod_of(m)["volumes"][0].update(emptyDir={}), "may fill the node"),
        ("mirror", SERVE, lambda m: container_of(m).update(args=["serve", "--port", "80"]), "No such option"),
        ("mirror", SERVE, lambda m: container_of(m).update(args=["server"]), "no command 'server'"),
        (
            "mirror",
            SERVE,
            lambda m: container_of(m)["resources"]["limits"].update(memory="1Mi"),
            "memory: requests 192Mi, more than its limit of 1Mi",
        ),
        ("mirror", SERVE, lambda m: container_of(m)["resources"].pop("limits"), "a limit of memory"),
        (
            "mirror",
            SERVE,
            lambda m: container_of(m)["envFrom"][1]["secretRef"].update(name="s3"),
            "needs the secrets ['s3']",
        ),
        ("mirror", "Service mirror", lambda m: m["spec"]["selector"].clear(), "Service mirror: chooses the pods of []"),
        (
            "mirror",
            "PodDisruptionBudget mirror-serve",
            lambda m: m["spec"]["selector"].update(matchLabels={"app.kubernetes.io/component": "sync"}),
            "Deployment mirror-serve: has several replicas and no PodDisruptionBudget",
        ),
        (
            "mirror",
            "NetworkPolicy mirror-jobs",
            lambda m: m["spec"]["podSelector"]["matchExpressions"][0].update(values=["sync"]),
            "CronJob mirror-audit: its traffic is limited for [] only",
        ),
        ("bootstrap", JOB, lambda m: job_of(m).update(completions=9), "makes 9 pods, and its args say ['job/8']"),
    ],
)
def test_a_planted_fault_is_found(folder: str, name: str, change: Callable[[Manifest], object], expected: str) -> None:
    """Each of them, by a sentence that says what it is."""
    faults = plant(folder, name, change)
    assert any(expected in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("*/15 * * * *", 900), ("17 3 * * *", 86_400), ("0 0-23/6 * * *", 21_600), ("5,50 * * * 1", 15 * 60)],
)
def test_the_shortest_time_between_two_runs(text: str, seconds: int) -> None:
    """Also over midnight."""
    assert parse_schedule(text).interval == seconds


@pytest.mark.parametrize(
    "text", ["* * * *", "* * * * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "@daily"]
)
def test_schedules_that_are_none(text: str) -> None:
    """Each is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_schedule(text)
