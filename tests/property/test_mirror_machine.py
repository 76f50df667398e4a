"""Random histories of a registry, of wishes and of tampering, with syncs in between: P1, P2, P4 and P5 hold throughout.

The model remembers what upstream first promised for each version; that, and nothing that came later, may be served.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.select import make_deny_rule
from mirrorwitness.npm.names import PackageName
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import make_mirror

NAMES = ["left", "@scope/right"]
VERSIONS = ["1.0.0", "1.1.0", "2.0.0", "2.1.0-rc.1"]
RANGES = ["", "@1", "@>=1.1.0", "@2.0.0"]
DIVERGED = {ExitCode.DIVERGENCE}

names = st.sampled_from(NAMES)
versions = st.sampled_from(VERSIONS)


class MirrorMachine(RuleBasedStateMachine):
    """One registry, one mirror, one adversary."""

    @initialize()
    def begin(self) -> None:
        """Publish one version of each package."""
        self.sim = RegistrySimulator(record=False)
        self.published: set[bytes] = set()
        self.mirror = make_mirror(self.sim, rules=list(NAMES))
        self.first: dict[tuple[str, str], bytes] = {}
        """The bytes that the mirror stored first, by version."""
        self.is_tampered = False
        self.count = 0
        for name in NAMES:
            self._publish(name, "1.0.0")

    # ---- upstream

    @rule(name=names, version=versions)
    def publish(self, name: str, version: str) -> None:
        """Publish a version that is not there, with bytes of its own."""
        if version not in self._live(name):
            self._publish(name, version)

    @rule(name=names, version=versions)
    def unpublish(self, name: str, version: str) -> None:
        """Take a version away, but for the last one."""
        if version in self._live(name) and len(self._live(name)) > 1:
            self.sim.unpublish(name, version)

    @rule(name=names, version=versions)
    def republish(self, name: str, version: str) -> None:
        """Equivocate: other bytes and another integrity for a version."""
        if version in self._live(name):
            self.count += 1
            body = self.sim.republish(name, version, {"index.js": f"{self.count}".encode()})
            self.published.add(body)

    @rule(name=names, version=versions)
    def strip_integrity(self, name: str, version: str) -> None:
        """Attack: take the promise away."""
        if version in self._live(name):
            self.sim.edit_packument(name)["versions"][version]["dist"].pop("integrity", None)

    @rule(name=names, version=versions)
    def move_tag(self, name: str, version: str) -> None:
        """Move ``next``, perhaps to what is not there."""
        self.sim.set_tag(name, "next", version)

    @rule(name=names, version=versions)
    def deprecate(self, name: str, version: str) -> None:
        """Change a field that decides nothing."""
        if version in self._live(name):
            self.sim.edit_packument(name)["versions"][version]["deprecated"] = "old"

    @rule(name=names, version=versions, status=st.sampled_from([404, 500]))
    def break_tarball(self, name: str, version: str, status: int) -> None:
        """Let the next download of a tarball fail."""
        self.sim.fail(f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz", Fault.status(status), times=2)

    @rule(name=names)
    def lag(self, name: str) -> None:
        """Let the next packument be an older one."""
        self.sim.fail(name, Fault.stale())

    # ---- the operator

    @rule(wanted=st.tuples(*[st.sampled_from(RANGES) for _ in NAMES]))
    def select(self, wanted: tuple[str, ...]) -> None:
        """Want other versions."""
        self.mirror.rules = [name + text for name, text in zip(NAMES, wanted, strict=True)]

    @rule(version=versions | st.none())
    def deny(self, version: str | None) -> None:
        """Deny one version, or none."""
        denied = [] if version is None else [make_deny_rule("left", versions=version, reason="bad", origin="a test")]
        self.mirror.denied = denied

    # ---- the intruder

    @rule(name=names)
    def lose_record(self, name: str) -> None:
        """Remove what the mirror knows; documents and tarballs stay."""
        self.mirror.storage._objects.pop(layout.record_key(PackageName(name)), None)

    @rule(name=names, version=versions)
    def rot(self, name: str, version: str) -> None:
        """Change the bytes of a stored tarball."""
        key = self.mirror.tarball_key(name, version)
        if key in self.mirror.storage.objects:
            self.mirror.storage.set_bytes(key, b"rotten")
            self.is_tampered = True

    # ---- the mirror

    @rule()
    def sync(self) -> None:
        """Run once; exit 0 only where the audit agrees."""
        summary = trio.run(self.mirror.sync)
        code = summary.exit_code()
        assert code in {ExitCode.COMPLETE, ExitCode.PARTIAL, ExitCode.DIVERGENCE, ExitCode.UPSTREAM}
        if not self.is_tampered:
            self._remember()
            assert trio.run(self.mirror.audit, *NAMES) == []
            if code is ExitCode.COMPLETE:
                self._check_equal()

    @precondition(lambda self: getattr(self, "is_tampered", False))
    @rule()
    def repair(self) -> None:
        """Audit and repair; what cannot be repaired is not served any more."""
        self.sim.heal()
        for _ in range(2):
            findings = trio.run(self.mirror.audit, *NAMES)
            for name in {finding.name for finding in findings}:
                wrong = [str(finding.version) for finding in findings if finding.name == name and finding.version]
                trio.run(self.mirror.repair, name, *wrong)
        assert trio.run(self.mirror.audit, *NAMES) == []
        self.is_tampered = any(body == b"rotten" for body in self.mirror.storage.objects.values())
        self._remember()

    @invariant()
    def holds(self) -> None:
        """P1 and P2, at every step at which nobody tampered."""
        if hasattr(self, "mirror") and not self.is_tampered:
            check_invariants(self.mirror.storage.objects, published=self.published)

    @invariant()
    def first_bytes_win(self) -> None:
        """P5: no stored tarball is ever other good bytes than the first."""
        if not hasattr(self, "mirror"):
            return
        objects = self.mirror.storage.objects
        for (name, version), body in self.first.items():
            assert objects[self.mirror.tarball_key(name, version)] in {body, b"rotten"}

    # ---- helpers

    def _publish(self, name: str, version: str) -> None:
        self.count += 1
        self.published.add(self.sim.publish(name, version, files={"index.js": f"{self.count}".encode()}))

    def _live(self, name: str) -> dict[str, Any]:
        live: dict[str, Any] = self.sim.packument(name)["versions"]
        return live

    def _remember(self) -> None:
        for name in NAMES:
            for version in VERSIONS:
                body = self.mirror.tarball(name, version)
                if body is not None and body != b"rotten":
                    self.first.setdefault((name, version), body)

    def _check_equal(self) -> None:
        """P4: what is served differs from upstream in nothing but the versions, their tags and the tarballs' URLs."""
        for name in NAMES:
            if not self.mirror.served(name):
                continue
            served, upstream = self.mirror.document(name), self.sim.packument(name)
            if served["_rev"] != upstream["_rev"]:
                continue  # a lagging edge answered
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
TestMirrorMachine = MirrorMachine.TestCase
