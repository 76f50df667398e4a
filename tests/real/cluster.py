"""A cluster's work, done by hand: the pods of rendered manifests, as processes on this machine.

- A pod is the image's entry point with the arguments, environment, files, user and rights of its manifest, in the
  image's own files, which it cannot write (`tests/real/pod_start.py`).
- `Cluster.run_job` starts pods, and again those that ended, as the rules of the Job say (`tests/deploy/jobs.py`).
- `Cluster.serve` starts the replicas of a Deployment, each at an address of its own out of 127.0.0.0/8 in the place of
  the 0.0.0.0 that its manifest says, and waits for their readiness probe.

What is not here: a network for each pod and its policies, seccomp; limits are not enforced, but memory is measured.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.jobs import JobState, Outcome
from tests.deploy.manifests import Manifest, Workload, find_workloads, read_quantity
from tests.deploy.pods import plan_start
from tests.real.clients import ROOT
from tests.real.pod_start import CANNOT
from tests.real.servers import tail, wait_for_http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.deploy.pods import Start
    from tests.real.image import Image

__all__ = ["Cluster", "Pod", "launch", "open_cluster"]

ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - what manifests say, never listened at

POD_SECONDS: Final = 240
"""Longest run of one pod on a busy machine."""

START_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that was started.

    Attributes:
        start: how.
        process: it.
        log: standard error.
        output: standard output.
    """

    start: Start
    process: subprocess.Popen[bytes]
    log: Path
    output: Path

    def wait(self) -> int:
        """Wait for its end; return the exit code as Kubernetes shows it: 128 and the signal's number."""
        code = self.process.wait(POD_SECONDS)
        if code == CANNOT:
            pytest.skip(f"this machine allows no pods: {tail(self.log)}")
        return code if code >= 0 else 128 - code

    def terminate(self) -> int:
        """Tell it to go, as a node that is drained does; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def said(self) -> str:
        """Return the ends of what it wrote, for the message of a failed test."""
        return f"{self.start.name}:\n{tail(self.output)}\n{tail(self.log)}"


@dataclass
class Cluster:
    """Where the manifests are applied.

    Attributes:
        image: what all pods run.
        directory: for what is mounted, and logs.
        secrets: by name; the operator's part.
        manifests: all that are applied; changed by `apply`.
        pods: all that were ever started.
        drained: processes of pods that had to go for no fault of their own.
        peaks: most bytes of memory that a pod of each workload had.
    """

    image: Image
    directory: Path
    secrets: dict[str, dict[str, str]]
    manifests: list[Manifest] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    drained: set[int] = field(default_factory=set)
    peaks: dict[str, int] = field(default_factory=dict)

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Add objects, or put them in the place of those with the same kind and name."""
        names = {(each["kind"], each["metadata"]["name"]) for each in manifests}
        kept = [each for each in self.manifests if (each["kind"], each["metadata"]["name"]) not in names]
        self.manifests = [*kept, *manifests]

    def find(self, name: str) -> Workload:
        """Return a workload by its name."""
        (found,) = [each for each in find_workloads(self.manifests) if each.name == name]
        return found

    def start(self, name: str, *, index: int | None = None, address: str = "127.0.0.1") -> Pod:
        """Start one pod of a workload."""
        start = plan_start(self.find(name), self.manifests, self.secrets, index=index)
        assert start.image.endswith(f"@{self.image.digest}"), f"{start.name} is to run {start.image}"
        start = replace(start, args=tuple([word.replace(ANYWHERE, address) for word in start.args]))
        place = self.directory / f"pod-{len(self.pods)}"
        place.mkdir()
        self.pods.append(launch(self.image, start, place))
        return self.pods[-1]

    def run_job(self, name: str, *, meanwhile: Callable[[dict[int, Pod]], None] | None = None) -> JobState:
        """Run a Job, or what a CronJob starts, to its end; the state says what became of it.

        Args:
            name: of the workload.
            meanwhile: called once, with the first pods, while they run.
        """
        workload = self.find(name)
        state = JobState(workload.spec)
        is_indexed = workload.spec.get("completionMode") == "Indexed"
        running: dict[int, Pod] = {}
        while state.outcome is Outcome.RUNNING:
            for index in state.needed():
                if index not in running:
                    running[index] = self.start(name, index=index if is_indexed else None)
            if meanwhile is not None:
                meanwhile(running)
                meanwhile = None
            for index, pod in list(running.items()):
                self._measure(name, pod)
                if pod.process.poll() is not None:
                    del running[index]
                    state.end(index, pod.wait(), is_disrupted=pod.process.pid in self.drained)
            time.sleep(0.05)
        return state

    def drain(self, name: str, pod: Pod) -> int:
        """Take a pod's node away: it is told to go, has the time that its manifest says; return its exit code."""
        self.drained.add(pod.process.pid)
        pod.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            pod.process.wait(self.find(name).pod["terminationGracePeriodSeconds"])
        pod.process.kill()
        return pod.wait()

    def _measure(self, name: str, pod: Pod) -> None:
        """Note how much memory a pod ever had, for as long as it is there."""
        with contextlib.suppress(OSError):
            lines = (Path("/proc") / str(pod.process.pid) / "status").read_text(encoding="utf-8").splitlines()
            # Of a process that has ended, and is not waited for, there is no such line.
            found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
            self.peaks[name] = max([self.peaks.get(name, 0), *found])

    def too_large(self) -> dict[str, int]:
        """Return the workloads whose pods had more memory than their manifests allow."""
        limits = {name: self.find(name).containers[0]["resources"]["limits"]["memory"] for name in self.peaks}
        return {name: peak for name, peak in self.peaks.items() if peak > (read_quantity(limits[name]) or 0)}

    @contextlib.contextmanager
    def serve(self, name: str) -> Iterator[list[str]]:
        """Run all replicas of a Deployment until the block ends; gives their URLs once each is ready."""
        workload = self.find(name)
        (container,) = workload.containers
        (port,) = [each["containerPort"] for each in container["ports"]]
        pods, urls = [], []
        for _ in range(workload.spec["replicas"]):
            address = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{len(self.pods) % 250 + 1}"  # noqa: S311
            pods.append(self.start(name, address=address))
            urls.append(f"http://{address}:{port}")
        for pod, url in zip(pods, urls, strict=True):
            wait_for_http(pod.process, url + container["readinessProbe"]["httpGet"]["path"], seconds=START_SECONDS)
        yield urls
        for pod in pods:
            self._measure(name, pod)
        codes = [self.drain(name, pod) for pod in pods]
        assert codes == [0] * len(pods), "\n".join(pod.said() for pod in pods)

    def said(self) -> str:
        """Return the ends of what all pods wrote."""
        return "\n".join(pod.said() for pod in self.pods)


def launch(image: Image, start: Start, place: Path, *, volumes: Mapping[str, Path] | None = None) -> Pod:
    """Start a container.

    Args:
        image: what it runs.
        start: how.
        place: an empty folder, for what is mounted and for what it writes to its standard output and error.
        volumes: folders that it may write, by where they are mounted.
    """
    spec = place / "spec.json"
    spec.write_text(json.dumps(_specify(image, start, place, volumes or {})), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tests" / "real" / "pod_start.py"), str(spec)]
    with (place / "log").open("wb") as log, (place / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env={}, stdin=subprocess.DEVNULL, stdout=output, stderr=log, start_new_session=True
        )
    return Pod(start, process, place / "log", place / "output")


def _specify(image: Image, start: Start, place: Path, volumes: Mapping[str, Path]) -> dict[str, object]:
    settings = image.config["config"]
    # What a runtime does, too: a place to mount at is made where the image has none.
    for target in ("/proc", "/dev", *start.folders, *start.scratch, *volumes):
        (image.root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
    sources: dict[str, str] = {}
    for number, (target, folder) in enumerate(start.folders.items()):
        source = place / f"folder-{number}"
        source.mkdir()
        for name, text in folder.files.items():
            (source / name).write_text(text, encoding="utf-8")
            shutil.chown(source / name, 0, start.group)
            (source / name).chmod(folder.mode)
        sources[target] = str(source)
    return {
        "root": str(image.root),
        "folders": sources,
        "volumes": {target: str(source) for target, source in volumes.items()},
        "scratch": start.scratch,
        "user": start.user,
        "group": start.group,
        "directory": settings["WorkingDir"],
        "command": [*settings["Entrypoint"], *start.args],
        "environment": {**image.environment, **start.environment},
    }


@contextlib.contextmanager
def open_cluster(image: Image, secrets: dict[str, dict[str, str]]) -> Iterator[Cluster]:
    """Open a place for pods; what still runs at the end of the block is killed."""
    with tempfile.TemporaryDirectory(prefix="mw-cluster-") as directory:
        Path(directory).chmod(0o755)
        cluster = Cluster(image, Path(directory), secrets)
        try:
            yield cluster
        finally:
            for pod in cluster.pods:
                pod.process.kill()
                pod.process.wait()
