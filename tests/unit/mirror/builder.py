"""Builds mirrors in memory over a registry simulator, so that each test reads as a scenario.

sim = RegistrySimulator()
sim.publish("left-pad", "1.0.0")
mirror = make_mirror(sim, rules=["left-pad"])
summary = await mirror.sync()
assert mirror.served("left-pad") == ["1.0.0"]
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mirrorwitness.errors import ExitCode
from mirrorwitness.fetch import Backoff
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.attempt import Attempts
from mirrorwitness.mirror.audit import Audit, ProofTerms
from mirrorwitness.mirror.catalogue import Catalogue, PackageRecord, Unfinished
from mirrorwitness.mirror.confusion import ConfusionPolicy
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.package import PackageSync
from mirrorwitness.mirror.planner import Planner
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import make_selection, parse_rule
from mirrorwitness.mirror.sources import Sources
from mirrorwitness.mirror.sync import SyncRun
from mirrorwitness.mirror.tarballs import TarballOptions, Tarballs
from mirrorwitness.mirror.terms import PackageTerms
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.mirror.withdrawal import WithdrawnPolicy
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.registry import Registry, RegistryOptions
from mirrorwitness.npm.signatures import SignaturePolicy
from mirrorwitness.run.session import Upstream, refresh_keys
from mirrorwitness.run.voucher import name_terms
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.direct import DirectFetcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mirrorwitness.mirror.audit import Finding
    from mirrorwitness.mirror.plan import Plan
    from mirrorwitness.mirror.result import PackageResult
    from mirrorwitness.mirror.select import DenyRule, Rule, Selection
    from mirrorwitness.storage import Storage
    from tests.fakes.registry import RegistrySimulator
    from tests.fakes.simulated_log import SimulatedLog

__all__ = ["NOW", "Mirror", "lasting", "make_mirror"]

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
STAMP = "2026-03-04T05:06:07Z"

_QUICK = Backoff(attempts=2, base=0.001, cap=0.002)


@dataclass
class Mirror:
    """One mirror, its upstreams, and what its operator wants; change any attribute between two runs."""

    sims: Sequence[RegistrySimulator]
    storage: MemoryStorage
    rules: list[Rule | str]
    denied: list[DenyRule] = field(default_factory=list)
    policy: SignaturePolicy = SignaturePolicy.VERIFY
    public_base: str = layout.STORED_BASE
    withdrawn: WithdrawnPolicy = WithdrawnPolicy.FOLLOW
    workers: int = 4
    options: TarballOptions = field(default_factory=lambda: TarballOptions(concurrency=8))
    hosts: tuple[str, ...] = ()
    peers: tuple[RegistrySimulator, ...] = ()
    """Those of `sims` that are asked for bytes before the authority."""
    dropped_for: float = 7 * 86_400
    now: datetime = NOW
    silent: tuple[RegistrySimulator, ...] = ()
    """Hosts that can be reached and are no source."""
    wrapped: Storage | None = None
    """Used in the place of `storage` by runs, where a test puts something in between."""
    log: SimulatedLog | None = None
    check: LogCheck = LogCheck.REQUIRE
    confusion: ConfusionPolicy = ConfusionPolicy.OFF

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.storage)

    def selection(self) -> Selection:
        rules = [parse_rule(rule, origin="a test") if isinstance(rule, str) else rule for rule in self.rules]
        return make_selection(rules, self.denied)

    def upstream(self) -> Upstream:
        fetcher = DirectFetcher(*self.sims, *self.silent)
        options = RegistryOptions(tries=_QUICK, allowed_hosts=self.hosts)
        return Upstream(tuple(Registry(base=sim.base, fetcher=fetcher, options=options) for sim in self.sims), fetcher)

    def sources(self, upstream: Upstream) -> Sources:
        """Return where bytes come from: `peers` first, then the authority, then what is left."""
        authority, *others = upstream.sources
        peers = [sim.base for sim in self.peers]
        return Sources(
            authority=authority,
            peers=[source for source in others if source.base in peers],
            fallbacks=[source for source in others if source.base not in peers],
            storage=self._used,
            now=lambda: self.now,
            dropped_for=self.dropped_for,
        )

    async def terms(self, upstream: Upstream) -> PackageTerms:
        keys, _ = await refresh_keys(self._used, upstream, self.policy)
        return PackageTerms(
            selection=self.selection(),
            keys=keys,
            policy=self.policy,
            public_base=self.public_base,
            withdrawn=self.withdrawn,
            check=LogCheck.OFF if self.log is None else self.check,
            log="" if self.log is None else name_terms(self.log.terms),
            confusion=self.confusion,
        )

    async def packages(self) -> PackageSync:
        """Return what brings single packages up to date."""
        upstream = self.upstream()
        catalogue = Catalogue(self._used)
        tarballs = Tarballs(
            storage=self._used,
            catalogue=catalogue,
            sources=self.sources(upstream),
            options=self.options,
            progress=SilentProgress(),
        )
        return PackageSync(
            storage=self._used,
            catalogue=catalogue,
            authority=upstream.authority,
            tarballs=tarballs,
            terms=await self.terms(upstream),
            now=lambda: NOW,
            voucher=None if self.log is None else self.log.make_voucher(self._used),
        )

    async def make_run(self) -> SyncRun:
        attempts = Attempts(
            storage=self._used,
            packages=await self.packages(),
            catalogue=Catalogue(self._used),
            terms=OwedTerms(),
            summary=RunSummary(),
            progress=SilentProgress(),
            now=lambda: NOW,
        )
        return SyncRun(attempts=attempts, workers=self.workers)

    async def sync(self) -> RunSummary:
        """Run once over the selected names, as `mirrorwitness sync --once` does."""
        run = await self.make_run()
        return await run.run(self.selection().names())

    async def sync_well(self) -> RunSummary:
        """Run once; everything must be complete, and the audit must find nothing."""
        summary = await self.sync()
        assert (summary.exit_code(), summary.problems) == (ExitCode.COMPLETE, [])
        assert await self.audit() == []
        return summary

    async def audit(self, *names: str) -> list[Finding]:
        """Audit the named packages, or the selected ones, and return what is wrong."""
        return (await self.audited(*names)).findings

    async def audited(self, *names: str) -> Audit:
        audit = Audit(
            storage=self._used,
            catalogue=Catalogue(self._used),
            keys=await Catalogue(self.storage).read_keys(),
            policy=self.policy,
            concurrency=4,
            progress=SilentProgress(),
            proofs=self._proofs(),
        )
        await audit.run([PackageName(name) for name in names] or self.selection().names())
        return audit

    def _proofs(self) -> ProofTerms | None:
        if self.log is None or self.check is LogCheck.OFF:
            return None
        return ProofTerms(self.log.terms, name_terms(self.log.terms), is_required=self.check is LogCheck.REQUIRE)

    async def repair(self, name: str, *versions: str, unproven: Sequence[str] = ()) -> PackageResult:
        """Bring a package with wrong bytes or proofs up to date, as `mirrorwitness audit --repair` does."""
        packages = await self.packages()
        wrong = frozenset(Version(version) for version in versions)
        proofs = frozenset(Version(version) for version in unproven)
        return await packages.run(PackageName(name), is_forced=True, replace_bytes=wrong, renew_proofs=proofs)

    async def confirm_deleted(self, name: str) -> PackageResult:
        """Handle a confirmed deletion, as a follower does after the second 404 (`Attempts`)."""
        packages = await self.packages()
        return await packages.withdraw(await self.record(name))

    async def plan(self, *, ask_sizes: bool = False, is_new: bool = False) -> Plan:
        upstream = self.upstream()
        planner = Planner(
            authority=upstream.authority,
            catalogue=None if is_new else self.catalogue,
            terms=await self.terms(upstream),
            workers=self.workers,
            ask_sizes=ask_sizes,
            progress=SilentProgress(),
            voucher=None if self.log is None else self.log.make_voucher(self._used),
        )
        return await planner.run(self.selection().names())

    # ---- what is stored

    def document(self, name: str) -> dict[str, Any]:
        """Return the stored full document."""
        parsed: dict[str, Any] = json.loads(self.storage.objects[layout.packument_key(PackageName(name))])
        return parsed

    def abbreviated(self, name: str) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.storage.objects[layout.install_key(PackageName(name))])
        return parsed

    def served(self, name: str) -> list[str]:
        """Return the versions that the stored documents name; none where there are no documents."""
        if layout.packument_key(PackageName(name)) not in self.storage.objects:
            assert layout.install_key(PackageName(name)) not in self.storage.objects
            return []
        versions = list(self.document(name)["versions"])
        assert list(self.abbreviated(name)["versions"]) == versions
        return versions

    def tarball(self, name: str, version: str) -> bytes | None:
        """Return the stored bytes under npm's own file name."""
        file = f"{name.rpartition('/')[2]}-{version}.tgz"
        return self.storage.objects.get(layout.tarball_key(PackageName(name), file))

    def tarball_key(self, name: str, version: str) -> str:
        return layout.tarball_key(PackageName(name), f"{name.rpartition('/')[2]}-{version}.tgz")

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.storage.objects if key.startswith(prefix)]

    def evidence(self) -> list[dict[str, Any]]:
        return [json.loads(body) for key, body in self.storage.objects.items() if key.startswith("evidence/")]

    def tombstones(self) -> list[dict[str, Any]]:
        """Return all tombstones, in the order of their keys."""
        return [json.loads(body) for key, body in self.storage.objects.items() if key.startswith("state/tombstones/")]

    async def record(self, name: str) -> PackageRecord:
        record = await self.catalogue.read_record(PackageName(name))
        assert record is not None
        return record

    async def note(self, name: str) -> Unfinished | None:
        return await self.catalogue.read_unfinished(PackageName(name))

    @property
    def _used(self) -> Storage:
        return self.storage if self.wrapped is None else self.wrapped


def lasting(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return objects without what each write of a record draws anew, so that two storages can be compared."""
    return {key: _lasting(body) if key.startswith(layout.RECORD_PREFIX) else body for key, body in objects.items()}


def _lasting(record: bytes) -> bytes:
    parts = json.loads(record)
    return json.dumps({part: parts[part] for part in parts if part not in {"documents", "written"}}).encode()


def make_mirror(
    *sims: RegistrySimulator, rules: Sequence[Rule | str], storage: MemoryStorage | None = None, **wishes: Any
) -> Mirror:
    """Return a mirror of these registries, the authority first."""
    return Mirror(sims, MemoryStorage() if storage is None else storage, list(rules), **wishes)


def spool_directory(path: Path) -> TarballOptions:
    """Return options under which every tarball is spooled to disk."""
    return TarballOptions(concurrency=4, memory=0, spool_directory=path)
