"""Random histories of a registry, of wishes, of faults, of deaths and of damage, with runs in between.

P1, P2 and P5 hold after each step, whatever it was; P3 and P4 after each run that says that it is complete; and at the
end of every history the next run finishes, and the audit finds nothing.

The model knows upstream's live versions, the bytes that were stored first, and what it damaged itself; it shares no
code with the product.
"""

from __future__ import annotations

import hashlib
import json
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mirrorwitness.errors import ExitCode, StorageError, StorageRefusedError, StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.audit import FindingKind
from mirrorwitness.mirror.select import make_deny_rule
from mirrorwitness.npm.names import PackageName
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fault.dying import DyingStorage, run_until_death
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import make_mirror

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.mirror.audit import Finding

NAMES = ["left", "@scope/right"]
VERSIONS = ["1.0.0", "1.1.0", "2.0.0", "2.1.0-rc.1"]
MATCHES = {
    "": {"1.0.0", "1.1.0", "2.0.0", "2.1.0-rc.1"},
    "@1": {"1.0.0", "1.1.0"},
    "@>=1.1.0": {"1.1.0", "2.0.0"},
    "@2.0.0": {"2.0.0"},
}
"""What each range matches, written down rather than computed."""

Wishes: TypeAlias = tuple[str, str, str | None]
"""A range for each name, and the version of the first that is denied."""

UNFINISHED = {ExitCode.PARTIAL, ExitCode.UPSTREAM}
OF_BYTES = {FindingKind.WRONG_BYTES, FindingKind.MISSING_TARBALL, FindingKind.BAD_SIGNATURE}
"""Findings that no run may ever cause, however it ended."""

names = st.sampled_from(NAMES)
versions = st.sampled_from(VERSIONS)
ranges = st.sampled_from(sorted(MATCHES))
wishes = st.tuples(ranges, ranges, st.none() | versions)
operations = st.integers(1, 30)


class Change(Enum):
    """What upstream does to a version that is there; one that is not there is published."""

    UNPUBLISH = auto()
    REPUBLISH = auto()
    """Equivocate: other bytes and another integrity."""
    STRIP = auto()
    """Attack: take the promise away."""
    DEPRECATE = auto()
    TAG = auto()


class MirrorMachine(RuleBasedStateMachine):
    """One registry, one mirror, one operator, one adversary."""

    @initialize()
    def begin(self) -> None:
        """Publish one version of each package."""
        self.sim = RegistrySimulator(record=False)
        self.published: set[bytes] = set()
        self.mirror = make_mirror(self.sim, rules=list(NAMES))
        self.select(("", "", None))
        self.first: dict[tuple[str, str], bytes] = {}
        """The bytes that the mirror stored first, by version."""
        self.damaged: dict[str, bytes | None] = {}
        """What the intruder did to each key, until the mirror has changed it again."""
        self.is_interrupted = False
        """Whether a run was broken off or a record lost, so that records may be behind documents."""
        self.count = 0
        for name in NAMES:
            self._publish(name, "1.0.0")

    # ---- upstream; one rule for many changes, so that runs are not rare among them

    @rule(change=st.sampled_from(Change), name=names, version=versions)
    def change_upstream(self, change: Change, name: str, version: str) -> None:
        """Let a registry do what registries do, attacks included."""
        if change is Change.TAG:
            self.sim.set_tag(name, "next", version)  # perhaps to what is not there
        elif version not in self._live(name):
            self._publish(name, version)
        elif change is Change.UNPUBLISH and len(self._live(name)) > 1:
            self.sim.unpublish(name, version)
        elif change is Change.REPUBLISH:
            self.count += 1
            self.published.add(self.sim.republish(name, version, {"index.js": f"{self.count}".encode()}))
        elif change is Change.STRIP:
            self.sim.edit_packument(name)["versions"][version]["dist"].pop("integrity", None)
        elif change is Change.DEPRECATE:
            self.sim.edit_packument(name)["versions"][version]["deprecated"] = "old"

    @rule(
        name=names, version=versions, fault=st.sampled_from([Fault.status(404), Fault.status(500), Fault.truncated()])
    )
    def break_tarball(self, name: str, version: str, fault: Fault) -> None:
        """Let the next downloads of a tarball fail."""
        self.sim.fail(f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz", fault, times=2)

    @rule(name=names)
    def lag(self, name: str) -> None:
        """Let the next packument be an older one."""
        self.sim.fail(name, Fault.stale())

    # ---- the operator

    @rule(wanted=wishes)
    def select(self, wanted: Wishes) -> None:
        """Want other versions, and deny one of the first package or none."""
        *ranges, self.denied = self.wanted = wanted
        self.ranges = dict(zip(NAMES, ranges, strict=True))
        self.mirror.rules = [name + text for name, text in self.ranges.items()]
        denied = self.denied and make_deny_rule("left", versions=self.denied, reason="bad", origin="a test")
        self.mirror.denied = [denied] if denied else []

    # ---- the intruder

    @rule(name=names)
    def lose_record(self, name: str) -> None:
        """Remove what the mirror knows; documents and tarballs stay."""
        self.mirror.storage._objects.pop(layout.record_key(PackageName(name)), None)
        self._forget()
        self.is_interrupted = True

    @rule(name=names, version=st.none() | versions, body=st.none() | st.just(b"{"))
    def damage(self, name: str, version: str | None, body: bytes | None) -> None:
        """Change the bytes of a tarball that is served, or of a package's full document; or remove it."""
        key = layout.packument_key(PackageName(name))
        if version is not None:
            key = self.mirror.tarball_key(name, version) if version in self._named(name) else ""
        if key in self.mirror.storage.objects:
            self._damage(key, body)

    # ---- the mirror

    @rule()
    def sync(self) -> None:
        """Run once; exit 0 only where everything is there, and then the audit agrees."""
        code = trio.run(self.mirror.sync).exit_code()
        self._remember()
        self._check_ended(code)

    @rule()
    def sync_beside_another(self) -> None:
        """Run twice at the same time: neither breaks what the other did, and who says "complete" is right."""
        codes: list[ExitCode] = []

        async def run() -> None:
            codes.append((await self.mirror.sync()).exit_code())

        async def run_both() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                nursery.start_soon(run)

        trio.run(run_both)
        self._remember()
        self._check_ended(*codes)

    @rule(after=operations, is_late=st.booleans(), wanted=st.none() | wishes)
    def sync_killed(self, after: int, is_late: bool, wanted: Wishes | None) -> None:  # noqa: FBT001
        """Run, perhaps under wishes of that run only, and die in one of the first operations on the storage."""
        before = self.wanted
        self.select(wanted or before)
        self._die(self.mirror.sync, after, is_late=is_late)
        self.select(before)

    @rule(
        operation=st.sampled_from(["read", "open", "list", "put", "delete"]),
        where=st.sampled_from(["fail_before", "fail_after"]),
        error=st.sampled_from([StorageUnavailableError("503"), StorageRefusedError("403")]),
        key=st.sampled_from(["npm/*", "npm/*.tgz", "npm/*.json", "state/package/*", "*"]),
        times=st.integers(1, 5),
    )
    def sync_on_a_failing_storage(self, operation: str, where: str, error: StorageError, key: str, times: int) -> None:
        """Run while some operations fail before or after they took effect; exit 0 is no lie even so."""
        getattr(self.mirror.storage, where)(operation, key, error, times=times)
        try:
            code = trio.run(self.mirror.sync).exit_code()
        except StorageError:
            code = ExitCode.PARTIAL
        self.mirror.storage._faults.clear()
        self._remember()
        self.is_interrupted = self.is_interrupted or code is not ExitCode.COMPLETE
        if code is ExitCode.COMPLETE and not self._is_damaged():
            assert self._audit() == []
            self._check_complete()

    @rule()
    def repair(self) -> None:
        """Audit and repair once; what cannot be repaired is not served any more."""
        self.sim.heal()
        trio.run(self._repair)
        self._remember()
        assert self._audit() == []
        self.is_interrupted = False

    @precondition(lambda self: self._is_damaged())
    @rule(after=operations, is_late=st.booleans())
    def repair_killed(self, after: int, is_late: bool) -> None:  # noqa: FBT001
        """Audit and repair, and die in between."""
        self.sim.heal()
        self._die(self._repair, after, is_late=is_late)

    def teardown(self) -> None:
        """After any history one repair and one run are enough."""
        if not hasattr(self, "mirror"):
            return
        self.sim.heal()
        trio.run(self._repair)
        code = trio.run(self.mirror.sync).exit_code()
        self._remember()
        self.first_bytes_win()
        assert self._audit() == []
        is_owed = any(not self._expected(name) for name in NAMES)
        assert code in {ExitCode.COMPLETE, ExitCode.DIVERGENCE} or is_owed
        if code is ExitCode.COMPLETE:
            self._check_complete()

    # ---- what holds

    @invariant()
    def holds(self) -> None:
        """P1 and P2, but for what the intruder did and nobody has repaired yet."""
        if hasattr(self, "mirror"):
            self._is_damaged()
            check_invariants(self.mirror.storage.objects, published=self.published, damaged=self.damaged)

    @invariant()
    def first_bytes_win(self) -> None:
        """P5: no stored tarball is ever other good bytes than the first."""
        if not hasattr(self, "mirror"):
            return
        objects = self.mirror.storage.objects
        for (name, version), body in self.first.items():
            key = self.mirror.tarball_key(name, version)
            assert key in self.damaged or objects[key] == body

    # ---- helpers

    def _publish(self, name: str, version: str) -> None:
        self.count += 1
        self.published.add(self.sim.publish(name, version, files={"index.js": f"{self.count}".encode()}))

    def _live(self, name: str) -> dict[str, Any]:
        live: dict[str, Any] = self.sim.packument(name)["versions"]
        return live

    def _named(self, name: str) -> set[str]:
        body = self.mirror.storage.objects.get(layout.packument_key(PackageName(name)), b"{}")
        return set() if body == b"{" else set(json.loads(body).get("versions", ()))

    def _expected(self, name: str) -> set[str]:
        """What a complete mirror serves."""
        wanted = MATCHES[self.ranges[name]] & set(self._live(name))
        return wanted - {self.denied} if name == "left" else wanted

    def _damage(self, key: str, body: bytes | None) -> None:
        self.damaged[key] = body
        if body is None:
            self.mirror.storage.remove(key)
        else:
            self.mirror.storage.set_bytes(key, body)
        self._forget()

    def _is_damaged(self) -> bool:
        """Forget what the mirror has put right or removed meanwhile; return whether any damage is left."""
        objects = self.mirror.storage.objects
        self.damaged = {key: body for key, body in self.damaged.items() if objects.get(key) == body}
        return bool(self.damaged)

    def _forget(self) -> None:
        """Give up first bytes that nobody knows any more: neither a sound tarball is there nor a record of it."""
        for name, version in list(self.first):
            record = self.mirror.storage.objects.get(layout.record_key(PackageName(name)), b"{}")
            is_known = version in json.loads(record).get("versions", {})
            if self.mirror.tarball_key(name, version) in self.damaged and not is_known:
                del self.first[name, version]

    def _die(self, work: Callable[[], Awaitable[object]], after: int, *, is_late: bool) -> None:
        async def run() -> bool:
            dying = DyingStorage(self.mirror.storage, operations=after, is_late=is_late)
            self.mirror.wrapped = dying
            return await run_until_death(dying, work)

        self.is_interrupted = trio.run(run) or self.is_interrupted
        self.mirror.wrapped = None
        self._remember()

    async def _repair(self) -> None:
        """Do as `mirrorwitness audit --repair` does."""
        findings = await self.mirror.audit(*NAMES)
        for name in sorted({finding.name for finding in findings}):
            wrong = {
                finding.version
                for finding in findings
                if finding.name == name and finding.version and finding.kind in OF_BYTES
            }
            await self.mirror.repair(name, *sorted(wrong))

    def _audit(self) -> list[Finding]:
        findings = trio.run(self.mirror.audit, *NAMES)
        assert [finding for finding in findings if finding.kind in OF_BYTES and finding.key not in self.damaged] == []
        return findings

    def _remember(self) -> None:
        self._is_damaged()
        for name in NAMES:
            for version in VERSIONS:
                body = self.mirror.tarball(name, version)
                if body is not None and self.mirror.tarball_key(name, version) not in self.damaged:
                    self.first.setdefault((name, version), body)

    def _check_ended(self, *codes: ExitCode) -> None:
        """Check what runs that came to their end have left."""
        assert set(codes) <= {ExitCode.COMPLETE, ExitCode.DIVERGENCE, *UNFINISHED}
        if self._is_damaged():
            return
        is_complete = ExitCode.COMPLETE in codes
        findings = self._audit()
        if is_complete or not self.is_interrupted:
            assert findings == []
            self.is_interrupted = False
        # Of two runs one may have been shown an older document, and the other one what diverges.
        if is_complete and ExitCode.DIVERGENCE not in codes:
            self._check_complete()

    def _check_complete(self) -> None:
        """P3, P4: all that is wanted is served, and differs from upstream in nothing but versions, tags and URLs."""
        for name in NAMES:
            upstream = self.sim.packument(name)
            if trio.run(self.mirror.record, name).rev != upstream["_rev"]:
                continue  # a lagging edge answered
            if not self._expected(name):
                assert self.mirror.served(name) == []
                continue
            served = self.mirror.document(name)
            assert set(self.mirror.served(name)) == self._expected(name)
            kept = {version: upstream["versions"][version] for version in served["versions"]}
            for version, manifest in kept.items():
                file = manifest["dist"]["tarball"].rpartition("/")[2]
                manifest["dist"]["tarball"] = f"{layout.STORED_BASE}/{name}/-/{file}"
                digest = hashlib.sha1(self.first[name, version], usedforsecurity=False).hexdigest()
                assert manifest["dist"]["shasum"] == digest
            tags = {tag: version for tag, version in upstream["dist-tags"].items() if version in kept}
            assert {**served["dist-tags"], **tags} == served["dist-tags"]
            assert set(served["dist-tags"]) <= {*tags, "latest"}
            assert json.dumps({**upstream, "versions": kept, "dist-tags": 0}) == json.dumps({**served, "dist-tags": 0})


MirrorMachine.TestCase.settings = settings(settings.default, stateful_step_count=25)
TestMirrorMachine = pytest.mark.timeout(600)(MirrorMachine.TestCase)  # a failure is shrunk for minutes
