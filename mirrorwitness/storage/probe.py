"""What a storage really enforces: the check behind `mirrorwitness store-check`, and its short form for `sync`.

S3-compatible services lie in many small ways (research/E 1.3), and a disk can fold case. `check_storage` writes under
``state/probe/<time>-<random>/``, looks at each promise of `mirrorwitness.storage` on its own, races for the ones that
matter under concurrency, removes what it wrote (also after an error or a cancellation), and judges.

- The long form makes some 300 requests and puts 12 MiB. The short form makes at most 10 requests and one race of
  four writers: enough to refuse a bucket that stores framing, ignores conditions or lets anyone write.
- Checks that were killed leave objects behind: the long form, and every `sync`, removes those that are a day old
  (`mirrorwitness.storage.probe_sweep`).
- One broken promise never hides another. Only two things end the check early: credentials that do not work and a
  storage that does not answer at all, and both are raised as the errors they are.
- A probe that needs more than the Protocol offers (wrong checksum, no credentials) runs only where a
  `RequestSender` is at hand: for a bucket.

The document that ``--json`` prints is described at `report_document`. What this does not do: decide what a role does
with a verdict (`StoreReport.refusals` is for that), or record it.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    IntegrityMismatchError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
)
from mirrorwitness.storage.probe_keys import SHAPES, probe_key_shape, probe_listing
from mirrorwitness.storage.probe_race import probe_put_if_absent_raced, probe_put_if_match_raced
from mirrorwitness.storage.probe_requests import REQUEST_PROBES, RequestSender, probe_anonymous_write, probe_clock
from mirrorwitness.storage.probe_scratch import CLEAN_UP_SECONDS, Scratch, brief, observe
from mirrorwitness.storage.probe_serial import (
    CONTENT,
    probe_big_object,
    probe_delete,
    probe_overwrite,
    probe_put_if_absent,
    probe_put_if_match,
    probe_range_read,
    probe_read_after_write,
    probe_round_trip,
)
from mirrorwitness.storage.probe_sweep import make_token, sweep_leftovers
from mirrorwitness.storage.probe_verdict import Capability, Finding, Observation, Outcome, Role, Verdict, judge, worst

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from mirrorwitness.storage import ObjectInfo, Storage

__all__ = ["DEFAULT_WRITERS", "ReportRow", "StoreReport", "check_storage", "format_report", "report_document"]

DEFAULT_WRITERS: Final = 10
"""Writers in a race: one service's locks poll, and 50 writers on one key take it 6.5 s (research/E 1.3)."""

_SHORT_WRITERS: Final = 4

_PROBES: Final[Mapping[Capability, Callable[[Scratch], Awaitable[Observation]]]] = {
    Capability.READ_AFTER_WRITE: probe_read_after_write,
    Capability.OVERWRITE: probe_overwrite,
    Capability.DELETE: probe_delete,
    Capability.PUT_IF_ABSENT: probe_put_if_absent,
    Capability.RANGE_READ: probe_range_read,
    Capability.BIG_OBJECT: probe_big_object,
}
"""The probes of the long form that need the scratch and nothing else."""

_LISTINGS: Final = (Capability.LIST_ORDER, Capability.LIST_PAGING, Capability.LIST_PREFIX)


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a check found.

    Attributes:
        storage: which storage, for people.
        checked: when, in UTC.
        short: whether it was the short form.
        findings: one for each capability that was looked at, in the order of `Capability`.
    """

    storage: str
    checked: datetime
    short: bool
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict for any role."""
        return worst(self.verdict_for(role) for role in Role)

    def verdict_for(self, role: Role) -> Verdict:
        """Return the verdict for one role: the worst of its findings."""
        return worst(finding.verdicts[role] for finding in self.findings)

    def refusals(self, role: Role) -> tuple[Finding, ...]:
        """Return the findings because of which a role must not run here."""
        return tuple(each for each in self.findings if each.verdicts[role] is Verdict.REFUSED)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One line of the report as a table for people."""

    capability: str
    verdict: str
    seen: str
    meaning: str


async def check_storage(
    storage: Storage | str,
    *,
    short: bool,
    writers: int = DEFAULT_WRITERS,
    sender: RequestSender | None = None,
    now: Callable[[], datetime] | None = None,
) -> StoreReport:
    """Find out what a storage really enforces.

    Args:
        storage: an open storage, or the address of one.
        short: only what `sync` asks once per storage.
        writers: how many writers race in the long form.
        sender: sends what the Protocol cannot say; made by itself for the address of a bucket.
        now: our clock, to compare the service's with; None for the machine's.

    Returns:
        The findings; those of a promise that could not be tried say so.

    Raises:
        ConfigurationError: the address cannot be read.
        StorageRefusedError: the credentials do not work, or the storage is read-only or full.
        StorageUnavailableError: the storage does not answer.

    Cancellation:
        What was written is removed first, within a deadline of its own.
    """
    clock = now or partial(datetime.now, UTC)
    async with AsyncExitStack() as stack:
        if isinstance(storage, str):
            name = storage
            opened, sender = await stack.enter_async_context(_open(storage, sender))
        else:
            name, opened = repr(storage), storage
        scratch = Scratch(opened, token=make_token(clock(), secrets.token_hex(8)))
        try:
            observations = await (_look_briefly(scratch, sender) if short else _look(scratch, sender, writers, clock))
        finally:
            with trio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await scratch.clean_up(search=not short)
    observations.append(_cleaned(scratch))
    findings = sorted(map(judge, observations), key=lambda each: tuple(Capability).index(each.capability))
    return StoreReport(name, clock(), short, tuple(findings))


def format_report(report: StoreReport) -> list[ReportRow]:
    """Return the report as the lines of a table: one for each finding, then one for each role."""
    rows = [ReportRow(each.capability, each.verdict, each.seen, _meaning(each)) for each in report.findings]
    for role in Role:
        verdict = report.verdict_for(role)
        because = [each.capability for each in report.findings if each.verdicts[role] is verdict]
        seen = "" if verdict is Verdict.OK else f"because of {', '.join(because)}"
        rows.append(ReportRow(f"as a {role}", verdict, seen, ""))
    return rows


def report_document(report: StoreReport) -> dict[str, object]:
    """Return the report as plain values for JSON.

    The document is ``{"format": "mirrorwitness-store-check/1", "storage": text, "checked": RFC 3339 time, "short":
    bool, "verdict": V, "roles": {role: V}, "findings": [{"capability": text, "outcome": text, "tried": text, "seen":
    text, "verdict": V, "roles": {role: V}, "meaning": text}]}``, where V is ``ok``, ``degraded`` or ``refused`` and
    the roles are ``mirror``, ``witness`` and ``sumdb``. Capabilities and outcomes are the values of
    `mirrorwitness.storage.probe_verdict.Capability` and ``Outcome``; new ones may come, none changes its meaning.
    """
    return {
        "format": "mirrorwitness-store-check/1",
        "storage": report.storage,
        "checked": report.checked.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "short": report.short,
        "verdict": report.verdict.value,
        "roles": {role.value: report.verdict_for(role).value for role in Role},
        "findings": [
            {
                "capability": each.capability.value,
                "outcome": each.outcome.value,
                "tried": each.tried,
                "seen": each.seen,
                "verdict": each.verdict.value,
                "roles": {role.value: verdict.value for role, verdict in each.verdicts.items()},
                "meaning": each.meaning,
            }
            for each in report.findings
        ],
    }


@asynccontextmanager
async def _open(
    address: str, sender: RequestSender | None
) -> AsyncGenerator[tuple[Storage, RequestSender | None], None]:
    from mirrorwitness.storage.address import open_storage  # noqa: PLC0415 - the address module may import S3 lazily

    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_storage(address))
        if sender is None and address.startswith("s3:"):
            from mirrorwitness.storage.s3_probe import open_sender  # noqa: PLC0415 - S3 is imported where it is used

            sender = await stack.enter_async_context(open_sender(address))
        yield storage, sender


async def _put_first(scratch: Scratch) -> ObjectInfo | Observation:
    """Make the first write, which is no probe: a storage that lets nobody in, or does not answer, has no report."""
    try:
        return await scratch.storage.put(scratch.key("first"), CONTENT)
    except (StorageRefusedError, StorageUnavailableError):
        raise
    except (StorageError, IntegrityMismatchError) as error:
        # Our own client reads back what it puts; this is how it says that other bytes are there.
        return Observation(Capability.ROUND_TRIP, Outcome.FAILED, brief(error))


async def _look_briefly(scratch: Scratch, sender: RequestSender | None) -> list[Observation]:
    """Make the short form; with the removal these are 9 requests, and a race for one key."""
    first = await _put_first(scratch)
    if isinstance(first, Observation):
        return [first]
    observations = [
        await observe(Capability.ROUND_TRIP, partial(probe_round_trip, scratch, first, short=True)),
        await observe(Capability.PUT_IF_MATCH, partial(probe_put_if_match, scratch, first, short=True)),
        await observe(
            Capability.PUT_IF_ABSENT_RACED, partial(probe_put_if_absent_raced, scratch, writers=_SHORT_WRITERS, keys=1)
        ),
    ]
    if sender is not None:
        probe = partial(probe_anonymous_write, scratch, sender)
        observations.append(await observe(Capability.ANONYMOUS_WRITE, probe))
    return observations


async def _look(
    scratch: Scratch, sender: RequestSender | None, writers: int, clock: Callable[[], datetime]
) -> list[Observation]:
    """Make the long form."""
    first = await _put_first(scratch)
    if isinstance(first, Observation):
        return [first]
    observations = [
        await observe(Capability.ROUND_TRIP, partial(probe_round_trip, scratch, first, short=False)),
        await observe(Capability.PUT_IF_MATCH, partial(probe_put_if_match, scratch, first, short=False)),
    ]
    observations += [await observe(capability, partial(probe, scratch)) for capability, probe in _PROBES.items()]
    observations += await _look_at_races(scratch, writers, observations)
    observations += [await _look_at_keys(scratch, each) for each in SHAPES if each is not Capability.KEY_LONG]
    observations += [await observe(each, partial(probe_listing, scratch, each)) for each in _LISTINGS]
    if sender is not None:
        observations += await _look_below(scratch, sender, clock)
    # One server dies of this one and stays down, so everything else is done and removed before.
    with trio.move_on_after(CLEAN_UP_SECONDS):
        await scratch.clean_up(search=False)
        # Others' leftovers are no promise of the storage, so they are no finding either.
        with suppress(StorageError, IntegrityMismatchError):
            await sweep_leftovers(scratch.storage, now=clock())
    observations.append(await _look_at_keys(scratch, Capability.KEY_LONG))
    return observations


async def _look_at_races(scratch: Scratch, writers: int, seen: list[Observation]) -> list[Observation]:
    """Race for the conditions that held for one writer; where one did not, the result is known."""
    kept = {each.capability for each in seen if each.outcome is Outcome.HOLDS}
    observations: list[Observation] = []
    if Capability.PUT_IF_ABSENT in kept:
        race = partial(probe_put_if_absent_raced, scratch, writers=writers)
        observations.append(await observe(Capability.PUT_IF_ABSENT_RACED, race))
    if Capability.PUT_IF_MATCH in kept:
        race = partial(probe_put_if_match_raced, scratch, writers=writers)
        observations.append(await observe(Capability.PUT_IF_MATCH_RACED, race))
    return observations


async def _look_at_keys(scratch: Scratch, capability: Capability) -> Observation:
    return await observe(capability, partial(probe_key_shape, scratch, capability))


async def _look_below(scratch: Scratch, sender: RequestSender, now: Callable[[], datetime]) -> list[Observation]:
    """Look at what only single requests can show."""
    observations = [
        await observe(capability, partial(probe, scratch, sender)) for capability, probe in REQUEST_PROBES.items()
    ]
    observations.append(await observe(Capability.CLOCK, partial(probe_clock, scratch, sender, now=now)))
    return observations


def _cleaned(scratch: Scratch) -> Observation:
    if scratch.left:
        example = scratch.left[0].removeprefix(scratch.prefix)[:40]
        seen = f"{len(scratch.left)} objects are left under {scratch.prefix}, for example {example}"
        return Observation(Capability.CLEAN_UP, Outcome.BROKEN, seen)
    return Observation(Capability.CLEAN_UP, Outcome.HOLDS, "everything was removed")


def _meaning(finding: Finding) -> str:
    """Return the meaning, after the roles it concerns where these are not all."""
    bad = [role for role, verdict in finding.verdicts.items() if verdict is not Verdict.OK]
    concerned = [] if len({*finding.verdicts.values()}) == 1 else [f"{role} {finding.verdicts[role]}" for role in bad]
    return f"{', '.join(concerned)}: {finding.meaning}" if concerned else finding.meaning
