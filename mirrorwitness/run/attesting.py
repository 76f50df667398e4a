"""Attest that an npm mirror holds the tarballs that a checksum database speaks of: once, for scheduled jobs.

Rules:

- Each log is looked at for itself; what goes wrong with one stays with it.
- A log with a URL is read there; one without is read from its copy in the same storage (`mirrorwitness logmirror`), or
  from the log itself where the storage is that of its operator.
- The exit code is 4 where a log contradicts itself or tarballs are held that are others than it says; else 5 where no
  log could be read, 3 where some head is not attested (the first gap is named), 0 where all are.

What it does not do: bring what is missing (`mirrorwitness sync`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, ExitCode, MirrorWitnessError, UpstreamError, exit_code
from mirrorwitness.fetch import FetchOptions, HostGate, make_user_agent, open_fetcher
from mirrorwitness.logmirror.attest import Attester
from mirrorwitness.logmirror.paths import PUBLIC_PREFIX, checkpoint_key
from mirrorwitness.logmirror.roles import ARTIFACTS, in_role
from mirrorwitness.logmirror.shelf import Shelf
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.run.cosigners import open_cosigner
from mirrorwitness.run.polling import PATIENCE, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.sumdb.paths import LOG_PREFIX
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.logmirror.attest import Attested
    from mirrorwitness.run.cosigners import CosignerWishes, OpenedCosigner
    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.witness.logs import WitnessedLog

__all__ = ["AttestResult", "AttestWishes", "attest"]

GAPS_SHOWN: Final = 20
"""Gaps of one log that are told; the first one is what keeps its head from being signed."""

_log = logging.getLogger("mirrorwitness.logmirror")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestWishes:
    """What the operator asks of an artifact statement.

    Attributes:
        cosigner: the mirror's storage, the statement's keys, the logs.
        trusts_records: believe the digests of the catalogue instead of reading tarballs.
        begins_anew: look at all tarballs again.
        contact: how a log's operator reaches ours.
    """

    cosigner: CosignerWishes
    trusts_records: bool = False
    begins_anew: bool = False
    contact: str | None = None


@dataclass(frozen=True, slots=True)
class AttestResult:
    """What came of all logs.

    Attributes:
        logs: those that could be looked at.
        failed: origin and error of those that could not.
    """

    logs: tuple[Attested, ...]
    failed: tuple[tuple[str, MirrorWitnessError], ...]

    def exit_code(self) -> ExitCode:
        """Return what the command exits with (P3)."""
        codes = [exit_code(error) or ExitCode.PARTIAL for _, error in self.failed]
        if ExitCode.DIVERGENCE in codes or any(gap.differs for log in self.logs for gap in log.gaps):
            return ExitCode.DIVERGENCE
        if not self.logs and all(isinstance(error, UpstreamError) for _, error in self.failed):
            return ExitCode.UPSTREAM
        is_complete = not self.failed and all(log.is_complete for log in self.logs)
        return ExitCode.COMPLETE if is_complete else ExitCode.PARTIAL

    def document(self) -> dict[str, object]:
        """Return the JSON document, without its exit code."""
        logs = [_document(log) for log in self.logs]
        return {"logs": logs, "failed": [{"origin": origin, "error": str(error)} for origin, error in self.failed]}


async def attest(wishes: AttestWishes, *, on_progress: Callable[[str, int, int], None]) -> AttestResult:
    """Look at what is new in each log, and sign what may be signed.

    Args:
        wishes: what the operator asks.
        on_progress: told of a log how many records of how many were looked at.

    Raises:
        ConfigurationError: keys, logs, URLs or the storage do not fit.
        RolledBackError: state was lost, or is older than what was published.
        StorageError: the storage failed before any log was looked at.
    """
    done: list[Attested] = []
    failed: list[tuple[str, MirrorWitnessError]] = []
    gate = HostGate(max_in_flight=REQUESTS_AT_ONCE, max_rate=REQUESTS_PER_SECOND)
    options = FetchOptions(patience=PATIENCE, user_agent=make_user_agent(wishes.contact))
    async with open_fetcher(options) as fetcher, open_cosigner(wishes.cosigner, ARTIFACTS) as opened:
        if not len(opened.logs):
            raise ConfigurationError("no log: give --log VKEY=URL, the URL being what comes before /checkpoint")
        for log in opened.logs:
            source = await _find_source(log, opened, fetcher, gate)
            attester = _attester(wishes, opened, log, source, on_progress)
            try:
                found = await attester.run(begins_anew=wishes.begins_anew)
            except MirrorWitnessError as error:
                _log.error("attest_failed", extra={"origin": log.origin, "error": in_role(str(error), ARTIFACTS)})
                failed.append((log.origin, error))
            else:
                _log.info("attested", extra=_document(found))
                done.append(found)
    return AttestResult(tuple(done), tuple(failed))


def _attester(
    wishes: AttestWishes,
    opened: OpenedCosigner,
    log: WitnessedLog,
    source: LogSource,
    on_progress: Callable[[str, int, int], None],
) -> Attester:
    storage = opened.storage
    return Attester(
        log=log,
        source=source,
        storage=storage,
        shelf=Shelf(storage=storage, catalogue=Catalogue(storage), trusts_records=wishes.trusts_records),
        cosigner=opened.cosigner,
        on_fork=opened.on_fork,
        on_progress=lambda looked, size: on_progress(log.origin, looked, size),
    )


async def _find_source(log: WitnessedLog, opened: OpenedCosigner, fetcher: Fetcher, gate: HostGate) -> LogSource:
    if log.url is not None:
        return LogClient(log=log, url=log.url, dialect=Dialect.TILES, fetcher=fetcher, gate=gate)
    is_copied = await opened.storage.stat(checkpoint_key(log.origin)) is not None
    return StoredLog(opened.storage, f"{PUBLIC_PREFIX}{origin_hash(log.origin)}/" if is_copied else LOG_PREFIX)


def _document(log: Attested) -> dict[str, object]:
    return {
        "origin": log.origin,
        "head": log.head,
        "looked": log.looked,
        "signed": log.signed,
        "signed_now": log.is_new,
        "gaps": len(log.gaps),
        "first_gaps": _gaps(log),
    }


def _gaps(log: Attested) -> Sequence[dict[str, object]]:
    return [
        {
            "leaf": gap.index,
            "name": gap.parsed.name,
            "version": gap.parsed.version,
            "registry": gap.parsed.registry,
            "why": gap.why,
            "differs": gap.differs,
        }
        for gap in log.gaps[:GAPS_SHOWN]
    ]
