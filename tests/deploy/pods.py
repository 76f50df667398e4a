"""What a pod's container is started with: arguments, environment, files, user. Pure.

- ``envFrom`` in its order, a later one over an earlier one; then the index that a Job's controller adds.
- ``$(NAME)`` in an argument is replaced by the value of that variable, and stays where there is none.
- A ConfigMap or Secret that is mounted is a folder of files; an ``emptyDir`` is a place that may be written.

Of the kubelet only what our manifests use: one container, no ``env``, no ``subPath``, no projected volume.

SPEC: Kubernetes, Container v1 core: args, envFrom; SecurityContext.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.deploy.manifests import read_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.deploy.manifests import Manifest, Workload

__all__ = ["Start", "expand", "plan_start"]

VARIABLE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")

INDEX: Final = "JOB_COMPLETION_INDEX"
"""What the controller of an Indexed Job tells a pod."""

CONFIG_MODE: Final = 0o644
"""Of a file out of a ConfigMap or Secret where the manifest does not say."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Files that are mounted, and cannot be written.

    Attributes:
        files: content by name.
        mode: of each file; its owner is root, its group the pod's.
    """

    files: dict[str, str]
    mode: int


@dataclass(frozen=True, slots=True)
class Start:
    """How a container is started.

    Attributes:
        name: of the workload, and its index.
        image: with digest.
        args: what the image's entry point is given.
        environment: beside that of the image.
        folders: by where they are mounted.
        scratch: bytes that fit in, by where it is mounted.
        user: its number.
        group: its number; also the one that files belong to.
    """

    name: str
    image: str
    args: tuple[str, ...]
    environment: dict[str, str]
    folders: dict[str, Folder]
    scratch: dict[str, int]
    user: int
    group: int


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Put values in the place of variables."""
    return VARIABLE.sub(lambda found: environment.get(found[1], found[0]), text)


def plan_start(
    workload: Workload,
    manifests: Sequence[Manifest],
    secrets: Mapping[str, Mapping[str, str]],
    *,
    index: int | None = None,
) -> Start:
    """Return how the only container of a workload is started.

    Args:
        workload: Deployment, Job or CronJob.
        manifests: all that are applied, its ConfigMaps among them.
        secrets: what the operator made, by name.
        index: of the pod in an Indexed Job.

    Raises:
        KeyError: a ConfigMap, or a Secret that is not optional, is not there: the pod would never start.
    """
    (container,) = workload.containers
    maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            environment |= maps[source["configMapRef"]["name"]]
        elif not source["secretRef"].get("optional") or source["secretRef"]["name"] in secrets:
            environment |= secrets[source["secretRef"]["name"]]
    if index is not None:
        environment[INDEX] = str(index)
    places = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
    folders: dict[str, Folder] = {}
    scratch: dict[str, int] = {}
    for volume in workload.pod.get("volumes", []):
        place = places[volume["name"]]
        if "configMap" in volume:
            source = volume["configMap"]
            folders[place] = Folder(maps[source["name"]], source.get("defaultMode", CONFIG_MODE))
        elif "secret" in volume:
            source = volume["secret"]
            folders[place] = Folder(dict(secrets[source["secretName"]]), source.get("defaultMode", CONFIG_MODE))
        else:
            scratch[place] = int(read_quantity(volume["emptyDir"]["sizeLimit"]) or 0)
    context = workload.pod["securityContext"]
    return Start(
        name=workload.name if index is None else f"{workload.name}-{index}",
        image=container["image"],
        args=tuple([expand(word, environment) for word in container["args"]]),
        environment=environment,
        folders=folders,
        scratch=scratch,
        user=context["runAsUser"],
        group=context["runAsGroup"],
    )
