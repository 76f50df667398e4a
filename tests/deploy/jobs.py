"""What Kubernetes' Job controller does when a pod ends: the rules of a podFailurePolicy, tries, indexes. Pure.

- The first rule that matches decides; where none does, the end counts as a try.
- A container that ended with 0 matches no rule about exit codes.
- An ignored end is made good by a new pod, and counts nothing.

It starts nothing and waits for nothing: `tests/real/cluster.py` runs the pods, and asks here what follows. Of the
controller only what our manifests use: no pod replacement policy, no success policy, no suspension.

SPEC: Kubernetes, "Jobs", sections "Pod failure policy" and "Backoff limit per index".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.deploy.manifests import Manifest

__all__ = ["COUNT", "JobState", "Outcome", "choose_action"]

COUNT: Final = "Count"
"""What happens where no rule says something."""

DISRUPTED: Final = "DisruptionTarget"
"""The condition of a pod whose node is drained, or that had to make room."""


class Outcome(StrEnum):
    """What a Job has come to."""

    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"


def choose_action(spec: Manifest, codes: Mapping[str, int], *, is_disrupted: bool = False) -> str:
    """Return the action of the first rule that matches.

    Args:
        spec: of the Job.
        codes: with what each container ended, by its name.
        is_disrupted: the pod was told to go, for no fault of its own.
    """
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        conditions = [each["type"] for each in rule.get("onPodConditions", []) if each["status"] == "True"]
        if is_disrupted and DISRUPTED in conditions:
            return str(rule["action"])
        wanted = rule.get("onExitCodes")
        code = codes.get(wanted["containerName"], 0) if wanted else 0
        if code and (code in wanted["values"]) == (wanted["operator"] == "In"):
            return str(rule["action"])
    return COUNT


@dataclass
class JobState:
    """A Job as its controller sees it.

    Attributes:
        spec: of the Job.
        tries: how often each index failed.
        succeeded: indexes that are done.
        failed: indexes that are given up.
        is_failed: a rule ended the whole Job.
    """

    spec: Manifest
    tries: dict[int, int] = field(default_factory=dict)
    succeeded: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    is_failed: bool = False

    @property
    def indexes(self) -> range:
        """Every index; a Job that is not Indexed is taken for one with one."""
        return range(self.spec.get("completions", 1))

    @property
    def outcome(self) -> Outcome:
        """What the Job has come to."""
        most = self.spec.get("maxFailedIndexes", len(self.indexes))
        if self.is_failed or len(self.failed) > most:
            return Outcome.FAILED
        if len(self.succeeded) + len(self.failed) < len(self.indexes):
            return Outcome.RUNNING
        return Outcome.FAILED if self.failed else Outcome.COMPLETE

    def needed(self) -> list[int]:
        """Return the indexes that have to have a pod now."""
        if self.outcome is not Outcome.RUNNING:
            return []
        open_ones = [index for index in self.indexes if index not in self.succeeded | self.failed]
        return open_ones[: self.spec.get("parallelism", 1)]

    def end(self, index: int, code: int, *, is_disrupted: bool = False) -> str:
        """Take note that the pod of an index ended; return what was decided."""
        if code == 0:
            self.succeeded.add(index)
            return "Succeed"
        (name,) = {each["name"] for each in self.spec["template"]["spec"]["containers"]}
        action = choose_action(self.spec, {name: code}, is_disrupted=is_disrupted)
        if action == COUNT:
            self.tries[index] = self.tries.get(index, 0) + 1
            most = self.spec["backoffLimitPerIndex" if "backoffLimitPerIndex" in self.spec else "backoffLimit"]
            if self.tries[index] > most:
                self.failed.add(index)
        elif action == "FailIndex":
            self.failed.add(index)
        elif action == "FailJob":
            self.is_failed = True
        return action
