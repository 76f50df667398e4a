"""Random histories of an upstream: what publishers and registry do, one operation after another, the same for a seed.

    history = FeedHistory(seed=7, names=["a", "b", "@s/c"])
    for _ in range(50):
        apply(history.next(), upstream)
    assert history.packages["a"].versions == ...

An `Upstream` is the registry simulator, or the real database of `tests.real.pouchdb`. After the same history both have
the same documents but for the hash in ``_rev``. A version's bytes depend on its name and number only.

What it does not do: the faults of a feed, and equivocation (`RegistrySimulator.republish`); npm lets nobody publish a
version twice, so no operation here does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

from tests.fakes.registry_packages import HOLDER_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FeedHistory", "Kind", "Life", "Operation", "PackageModel", "Upstream", "apply"]


class Upstream(Protocol):
    """What can be done to an upstream; each is one change with one new revision, visible when the method returns."""

    def publish(self, name: str, version: str, *, tag: str | None = "latest") -> bytes:
        """Publish a version, also of a package that was unpublished or deleted; return its tarball."""
        ...

    def unpublish(self, name: str, version: str | None = None) -> None:
        """Remove one version, or all of them, which leaves a stub."""
        ...

    def remove(self, name: str) -> None:
        """Delete the document."""
        ...

    def set_tag(self, name: str, tag: str, version: str) -> None:
        """Move a dist-tag."""
        ...

    def deprecate(self, name: str, version: str | None = None, message: str = "do not use") -> None:
        """Deprecate one version, or all; an empty message takes it back."""
        ...

    def replace_by_holder(self, name: str) -> None:
        """Take the package away for security."""
        ...

    def packument(self, name: str) -> dict[str, Any]:
        """Return the full document; KeyError where there is none."""
        ...


class Kind(StrEnum):
    """What can happen."""

    PUBLISH = auto()
    NEW_VERSION = auto()
    REPUBLISH = auto()
    UNPUBLISH_VERSION = auto()
    UNPUBLISH = auto()
    DELETE = auto()
    TAG = auto()
    DEPRECATE = auto()
    HOLDER = auto()


class Life(StrEnum):
    """What a package is at a time."""

    UNKNOWN = auto()
    LIVE = auto()
    UNPUBLISHED = auto()
    DELETED = auto()
    HOLDER = auto()


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a history; fields that do not concern its kind are None."""

    kind: Kind
    name: str
    version: str | None = None
    tag: str | None = None
    message: str | None = None


@dataclass(slots=True)
class PackageModel:
    """What upstream has of a package.

    Attributes:
        life: what it is.
        versions: what its document lists.
        tags: its dist-tags.
        deprecated: messages by version, also empty ones (taken back).
        published: how many versions it ever had: numbers are not used twice.
        changes: how many operations it has seen, which is its revision's number.
    """

    life: Life = Life.UNKNOWN
    versions: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    deprecated: dict[str, str] = field(default_factory=dict)
    published: int = 0
    changes: int = 0


_WEIGHTS: Final[dict[Kind, int]] = {
    Kind.PUBLISH: 6,
    Kind.NEW_VERSION: 6,
    Kind.REPUBLISH: 4,
    Kind.UNPUBLISH_VERSION: 2,
    Kind.UNPUBLISH: 1,
    Kind.DELETE: 1,
    Kind.TAG: 2,
    Kind.DEPRECATE: 2,
    Kind.HOLDER: 1,
}
"""Most packages are alive most of the time, and each kind happens in some fifty operations."""

_POSSIBLE: Final[dict[Life, list[Kind]]] = {
    Life.UNKNOWN: [Kind.PUBLISH],
    Life.LIVE: [
        *(Kind.NEW_VERSION, Kind.UNPUBLISH_VERSION, Kind.UNPUBLISH, Kind.DELETE, Kind.TAG, Kind.DEPRECATE),
        Kind.HOLDER,
    ],
    Life.UNPUBLISHED: [Kind.REPUBLISH, Kind.DELETE, Kind.HOLDER],
    Life.DELETED: [Kind.REPUBLISH],
    Life.HOLDER: [Kind.DELETE],
}


class FeedHistory:
    """Chooses operations and knows what upstream must have after them.

    Attributes:
        packages: what upstream has by name, after the last operation that was given out.
        operations: all of them.
    """

    def __init__(self, *, seed: int, names: Sequence[str]) -> None:
        self.packages = {name: PackageModel() for name in names}
        self.operations: list[Operation] = []
        self._random = random.Random(seed)  # noqa: S311 - the same history for a seed

    def __repr__(self) -> str:
        return f"<FeedHistory of {len(self.operations)} operations, {len(self.packages)} names>"

    def next(self) -> Operation:
        """Return an operation that is possible now, and count it as done."""
        name = self._random.choice(list(self.packages))
        package = self.packages[name]
        kinds = [kind for kind in _POSSIBLE[package.life] if _is_possible(kind, package)]
        (kind,) = self._random.choices(kinds, [_WEIGHTS[kind] for kind in kinds])
        operation = self._choose(kind, name, package)
        _do(operation, package)
        self.operations.append(operation)
        return operation

    def _choose(self, kind: Kind, name: str, package: PackageModel) -> Operation:
        match kind:
            case Kind.PUBLISH | Kind.NEW_VERSION | Kind.REPUBLISH:
                number = package.published + 1
                if package.versions and self._random.random() < 0.2:
                    return Operation(kind, name, f"1.{number}.0-beta.1", tag="next")
                return Operation(kind, name, f"1.{number}.0", tag="latest")
            case Kind.UNPUBLISH_VERSION:
                return Operation(kind, name, self._random.choice(package.versions))
            case Kind.TAG:
                tag = self._random.choice(["latest", "next", "beta"])
                return Operation(kind, name, self._random.choice(package.versions), tag=tag)
            case Kind.DEPRECATE:
                version = self._random.choice([None, *package.versions])
                return Operation(kind, name, version, message=self._random.choice(["do not use", "too old", ""]))
            case _:
                return Operation(kind, name)


def apply(operation: Operation, upstream: Upstream) -> None:
    """Do one operation to an upstream."""
    name, version = operation.name, operation.version
    match operation.kind:
        case Kind.PUBLISH | Kind.NEW_VERSION | Kind.REPUBLISH:
            upstream.publish(name, version or "", tag=operation.tag)
        case Kind.UNPUBLISH_VERSION | Kind.UNPUBLISH:
            upstream.unpublish(name, version)
        case Kind.DELETE:
            upstream.remove(name)
        case Kind.TAG:
            upstream.set_tag(name, operation.tag or "", version or "")
        case Kind.DEPRECATE:
            upstream.deprecate(name, version, operation.message or "")
        case Kind.HOLDER:
            upstream.replace_by_holder(name)
        case kind:
            assert_never(kind)


def _is_possible(kind: Kind, package: PackageModel) -> bool:
    return kind is not Kind.UNPUBLISH_VERSION or len(package.versions) > 1


def _do(operation: Operation, package: PackageModel) -> None:
    """Let the model follow."""
    version = operation.version or ""
    package.changes += 1
    match operation.kind:
        case Kind.PUBLISH | Kind.NEW_VERSION | Kind.REPUBLISH:
            package.life = Life.LIVE
            package.published += 1
            package.versions.append(version)
            package.tags[operation.tag or ""] = version
        case Kind.UNPUBLISH_VERSION:
            package.versions.remove(version)
            package.deprecated.pop(version, None)
            package.tags = {tag: target for tag, target in package.tags.items() if target != version}
            package.tags.setdefault("latest", package.versions[-1])
        case Kind.UNPUBLISH:
            _empty(package, Life.UNPUBLISHED)
        case Kind.DELETE:
            _empty(package, Life.DELETED)
        case Kind.TAG:
            package.tags[operation.tag or ""] = version
        case Kind.DEPRECATE:
            for each in package.versions if operation.version is None else [version]:
                package.deprecated[each] = operation.message or ""
        case Kind.HOLDER:
            _empty(package, Life.HOLDER)
            package.versions = [HOLDER_VERSION]
            package.tags = {"latest": HOLDER_VERSION}
        case kind:
            assert_never(kind)


def _empty(package: PackageModel, life: Life) -> None:
    package.life = life
    package.versions, package.tags, package.deprecated = [], {}, {}
