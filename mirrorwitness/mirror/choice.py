"""Which versions of one package a selection wants, and what it asked for in vain.

    rules ──find──> candidates ──steps──> wanted (with the reason) | blocked (with the reason)

Rules:

- Every candidate passes the same tuple of small pure steps; the first one that objects wins and says why. Later gates
  (minimum age, advisories, approvals) and closure's additions are further steps and further candidates, nothing else.
- Deny rules come first and always win. "The N newest" are counted behind them, so a mirror of the newest version falls
  back to the one before when the newest is denied.
- A pin is only as good as its bytes: where the lockfile's integrity and the registry's differ, the version is a
  divergence, whoever else wants it.
- What was asked for by name and is not there is missing; what a glob did not find is no fault.

What this module does not do: check signatures or bytes. `mirrorwitness.mirror.gate` takes this as its first step.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.npm.ranges import is_prerelease, normalize_version, version_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mirrorwitness.mirror.select import DenyRule, Rule, Selection
    from mirrorwitness.npm.names import Version
    from mirrorwitness.npm.packument import Manifest, Packument

__all__ = ["Blocked", "BlockedKind", "Choice", "choose"]

_SHOWN_TAGS: Final = 8
"""Most dist-tags that a message lists."""

_HIGHEST: Final = 2**53 - 1
"""The largest part of a version that npm reads."""


class BlockedKind(StrEnum):
    """Why something that was asked for is not chosen; the values are `mirrorwitness.mirror.gate.BlockKind`'s."""

    POLICY = "policy"
    """The operator's own rules say no, or ask for nothing here."""
    MISSING = "missing"
    """Asked for by name and not there; it may appear."""
    EQUIVOCATION = "equivocation"
    """A lockfile pins other bytes than the registry promises."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """One thing that was asked for and is not chosen.

    Attributes:
        subject: the version; or the range or tag as it was asked for, where no version is known.
        kind: what follows from it.
        reason: why, for people, with the origin of the rules involved.
    """

    subject: str
    kind: BlockedKind
    reason: str

    @property
    def divergence(self) -> bool:
        """Whether two parties promise different bytes."""
        return self.kind is BlockedKind.EQUIVOCATION


@dataclass(frozen=True, slots=True)
class Choice:
    """What a selection means for one packument.

    Attributes:
        wanted: each chosen version in document order, with the reason.
        blocked: what was asked for and is not chosen.
    """

    wanted: Mapping[Version, str]
    blocked: tuple[Blocked, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """One candidate before the steps."""

    manifest: Manifest
    rule: Rule
    denials: Sequence[DenyRule]


def choose(selection: Selection, packument: Packument) -> Choice:
    """Choose versions.

    Args:
        selection: the rules.
        packument: one package.

    Returns:
        What is wanted and what is blocked.
    """
    denials = selection.denials_for(packument.name)
    reasons: dict[Version, str] = {}
    blocked: dict[Blocked, None] = {}
    refused: set[Version] = set()
    for rule in selection.rules_for(packument.name):
        found, missing = _find(rule, packument)
        blocked.update(dict.fromkeys(missing))
        taken = 0
        for version in found:
            if taken == rule.latest:
                break
            manifest = packument.versions[version]
            block = _judge(_Case(manifest, rule, denials))
            if block is not None:
                blocked[block] = None
                refused.add(version)
                continue
            reasons.setdefault(version, f"{'exact version' if rule.pins else rule.meaning} ({rule.origin})")
            taken += manifest.refused is None  # a malformed one never counts as one of the newest
    wanted = {
        version: reasons[version] for version in packument.versions if version in reasons and version not in refused
    }
    return Choice(wanted, tuple(blocked))


def _find(rule: Rule, packument: Packument) -> tuple[Sequence[Version], Sequence[Blocked]]:
    """Return a rule's candidates, the best first, and what it asked for in vain."""
    if rule.pins:
        return _find_pins(rule, packument)
    if rule.tag is not None:
        return _find_tag(rule.tag, rule, packument)
    found = list(packument.versions)
    if rule.versions is not None:
        includes = rule.versions.includes
        found = [version for version in found if includes(version)]
    if rule.range_text is not None and not found:
        kind = BlockedKind.MISSING if rule.is_exact else BlockedKind.POLICY
        return (), [Blocked(rule.range_text, kind, f"no version is in this range ({rule.origin})")]
    if rule.latest is not None:
        return _find_newest(found, rule)
    return found, ()


def _find_pins(rule: Rule, packument: Packument) -> tuple[Sequence[Version], Sequence[Blocked]]:
    missing: list[Blocked] = []
    for version in rule.pins:
        if version not in packument.versions:
            once = packument.time.get(version)
            why = f"it was published at {once} and is gone" if once else "the registry does not have it"
            missing.append(Blocked(version, BlockedKind.MISSING, f"pinned, and {why} ({rule.origin})"))
    return [version for version in rule.pins if version in packument.versions], missing


def _find_tag(tag: str, rule: Rule, packument: Packument) -> tuple[Sequence[Version], Sequence[Blocked]]:
    target = packument.dist_tags.get(tag)
    found = [version for version in packument.versions if version == target]
    if found:
        return found, ()
    if target is None:
        known = ", ".join(list(packument.dist_tags)[:_SHOWN_TAGS]) or "none at all"
        why = f"there is no such tag; there are: {known}"
    else:
        why = f"the tag points to {target}, which is not there"
    kind = BlockedKind.MISSING if rule.is_exact else BlockedKind.POLICY
    return (), [Blocked(tag, kind, f"{why} ({rule.origin})")]


def _find_newest(found: Sequence[Version], rule: Rule) -> tuple[Sequence[Version], Sequence[Blocked]]:
    counted = [version for version in found if rule.prereleases or not is_prerelease(version)]
    if found and not counted:
        why = f"all {len(found)} versions are prereleases; prereleases = true counts them ({rule.origin})"
        return (), [Blocked(f"latest {rule.latest}", BlockedKind.POLICY, why)]
    return sorted(counted, key=version_order, reverse=True), ()


def _judge(case: _Case) -> Blocked | None:
    return next((block for step in _STEPS if (block := step(case)) is not None), None)


def _judge_denied(case: _Case) -> Blocked | None:
    version = case.manifest.version
    for deny in case.denials:
        if deny.versions is None or any(deny.versions.includes(near) for near in _near(version)):
            return Blocked(version, BlockedKind.POLICY, f"denied: {deny.reason} ({deny.origin})")
    return None


def _near(version: str) -> tuple[str, ...]:
    """Return a version, and for a prerelease the releases next to it.

    npm's ranges leave prereleases out unless they name one, so ``<1.2.3`` would deny 1.2.2 and let 1.2.3-rc.1 pass,
    which is older than the fix. Denied is what either neighbour is: at the edge of a range one prerelease too many.
    """
    core = (normalize_version(version) or "").partition("-")[0]
    if not core or not is_prerelease(version):
        return (version,)
    major, minor, patch = map(int, core.split("."))
    if patch:
        below = f"{major}.{minor}.{patch - 1}"
    elif minor:
        below = f"{major}.{minor - 1}.{_HIGHEST}"
    else:
        below = f"{major - 1}.{_HIGHEST}.{_HIGHEST}"  # below 0.0.0 this is no version, and in no range
    return version, core, below


def _judge_pinned(case: _Case) -> Blocked | None:
    manifest = case.manifest
    pinned = case.rule.pins.get(manifest.version)
    if pinned is None:
        return None
    promised, same = manifest.integrity, is_same_content(pinned, manifest.integrity)
    if same is None and manifest.shasum:
        # An old lockfile has a sha1 only; the registry's shasum is what it can be compared with.
        promised = _shasum_as_sri(manifest.shasum)
        same = is_same_content(pinned, promised)
    if same is not False:
        return None
    reason = f"{case.rule.origin} pins {pinned}, the registry promises {promised}"
    return Blocked(manifest.version, BlockedKind.EQUIVOCATION, reason)


_STEPS: Final[tuple[Callable[[_Case], Blocked | None], ...]] = (_judge_denied, _judge_pinned)


def _shasum_as_sri(shasum: str) -> str | None:
    try:
        return f"sha1-{base64.b64encode(bytes.fromhex(shasum)).decode()}"
    except ValueError:
        return None
