"""Ask upstream what a sync would find, and plan it (`mirrorwitness.mirror.plan`). Downloads no tarball, writes nothing.

Resources: one packument in memory per worker. Errors of single packages become part of the plan; nothing is raised
for them. Cancellation: at any time, nothing is left behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import MirrorWitnessError, UpstreamError
from mirrorwitness.mirror.catalogue import PackageRecord
from mirrorwitness.mirror.gate import decide
from mirrorwitness.mirror.plan import PackagePlan, Plan, make_package_plan
from mirrorwitness.mirror.select import choose
from mirrorwitness.mirror.vouching import Vouching
from mirrorwitness.mirror.withdraw import judge_package
from mirrorwitness.mirror.withdrawal import Place, Release
from mirrorwitness.npm.offloop import parse_off_loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.gate import Decision
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.terms import PackageTerms
    from mirrorwitness.mirror.voucher import Voucher
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.registry import Registry

__all__ = ["Planner"]


class Planner:
    """Plans packages.

    Args:
        authority: the registry that is asked.
        catalogue: the mirror's records, or None where there is no mirror yet.
        terms: what is wanted.
        workers: packages asked for at once.
        ask_sizes: ask upstream for the size of every tarball that would be downloaded (one HEAD request each).
        progress: told of every planned package.
        voucher: asks the log; None where none is configured.
    """

    def __init__(
        self,
        *,
        authority: Registry,
        catalogue: Catalogue | None,
        terms: PackageTerms,
        workers: int,
        ask_sizes: bool,
        progress: Progress,
        voucher: Voucher | None = None,
    ) -> None:
        self._authority = authority
        self._catalogue = catalogue
        self._terms = terms
        self._workers = workers
        self._ask_sizes = ask_sizes
        self._progress = progress
        self._vouching = Vouching(storage=None, voucher=voucher, check=terms.check, log=terms.log)

    async def run(self, names: Sequence[PackageName]) -> Plan:
        """Plan every named package; the plan lists them in the order given."""
        planned: dict[PackageName, PackagePlan] = {}
        work = iter(names)
        async with trio.open_nursery() as nursery:
            for _ in range(min(self._workers, len(names))):
                nursery.start_soon(self._work, work, planned)
        return Plan([planned[name] for name in names])

    async def _work(self, work: Iterator[PackageName], planned: dict[PackageName, PackagePlan]) -> None:
        for name in work:
            try:
                planned[name] = await self._one(name)
            except MirrorWitnessError as error:
                planned[name] = PackagePlan(name, problem=str(error))
            self._progress.package_finished(name, problem=planned[name].problem)

    async def _one(self, name: PackageName) -> PackagePlan:
        record = None if self._catalogue is None else await self._catalogue.read_record(name)
        record = record or PackageRecord(name=name)
        releases = frozenset[Release]() if self._catalogue is None else await self._catalogue.read_releases(record)
        answer = await self._authority.packument(name)
        assert answer.body is not None  # noqa: S101 - the request was not conditional
        packument = await parse_off_loop(answer.body, name)
        judgement = judge_package(packument, record, releases, policy=self._terms.withdrawn)
        decision = decide(
            packument,
            choose(self._terms.selection, packument),
            held=record.versions,
            keys=self._terms.keys,
            policy=self._terms.policy,
            wrong=[version for version, item in record.versions.items() if item.place is not Place.PUBLIC],
            barred=judgement.barred,
            confusion=self._terms.confusion,
        )
        decision = (await self._vouching.ask(decision, record)).admit(decision)
        sizes = await self._sizes(decision) if self._ask_sizes else None
        held = {v: record.versions[v].size for v in judgement.held if record.versions[v].served}
        return make_package_plan(name, decision, exact=sizes, withdrawn=held)

    async def _sizes(self, decision: Decision) -> dict[Version, int]:
        sizes: dict[Version, int] = {}
        for item in decision.missing:
            try:
                size = await self._authority.tarball_size(item.url)
            except UpstreamError:  # the estimate stands in; sync will say what is wrong with the file
                continue
            if size is not None:
                sizes[item.version] = size
        return sizes
