"""Open what asks the configured checksum database on a mirror's behalf, or checks its proofs without asking anybody.

The newest checkpoint that was verified is remembered in the mirror's own storage (``trust/``), so every worker of a
mirror, on whatever machine, notices when the log shows it another history than it showed the others. Evidence of that
lies under ``evidence/``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from mirrorwitness.config.sumdb import ANY_REGISTRY
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.fetch import HostGate
from mirrorwitness.mirror.logword import LogVoucher
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.run.files import read_file
from mirrorwitness.sumdb.authority import registry_of
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.sumdb.lookupclient import LookupClient
from mirrorwitness.sumdb.ratchet import Ratchet
from mirrorwitness.sumdb.terms import make_terms
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.tlog.policy import format_policy, parse_policy
from mirrorwitness.tlog.policy_text import MAX_POLICY_BYTES
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.config import CheckedLog, Config
    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms

__all__ = ["make_voucher", "name_terms", "read_log_registry", "read_log_terms"]

CONNECTIONS: Final = 16
"""Connections to the checksum database: what `mirrorwitness.mirror.logword` has on the wire at once."""

_NAMED_BY: Final = 16
"""Hex digits of a policy's digest that tell it from others."""


def read_log_terms(log: CheckedLog) -> Terms | None:
    """Read whom to believe about the configured log; None where no log is asked.

    Raises:
        ConfigurationError: it has an address without a key or the other way round, or a policy and no log; or the
            policy cannot be read, or does not trust this log.
    """
    if log.check is LogCheck.OFF:
        return None
    if bool(log.keys) != (log.url is not None):
        missing = "vkeys" if log.url is not None else "url"
        raise ConfigurationError(f"sumdb.{missing} is missing: a checksum database has an address and at least one key")
    if not log.keys:
        if log.policy is not None:
            raise ConfigurationError(f"{log.policy}: a policy, and no checksum database: give --sumdb VKEY=URL")
        return None
    if log.policy is None:
        return make_terms(log.keys, None)
    try:
        return make_terms(log.keys, parse_policy(read_file(log.policy, limit=MAX_POLICY_BYTES)))
    except ConfigurationError as error:
        raise ConfigurationError(f"{log.policy}: {error}") from error


def read_log_registry(config: Config) -> str | None:
    """Return whose names the log's records have to be, as records write it; None for any registry's.

    Raises:
        ConfigurationError: it is no registry's URL.
    """
    wanted = config.log.registry
    if wanted == ANY_REGISTRY:
        return None
    if wanted is None and not config.registries:
        return None
    return registry_of(wanted or config.registries[0].url)


def name_terms(terms: Terms | None) -> str:
    """Return what tells a log and a policy from others in records and fingerprints; empty where no log is asked."""
    if terms is None:
        return ""
    return f"{terms.origin} {hashlib.sha256(format_policy(terms.policy)).hexdigest()[:_NAMED_BY]}"


def make_voucher(
    log: CheckedLog,
    terms: Terms,
    *,
    storage: Storage,
    fetcher: Fetcher,
    rate: float | None,
    now: Callable[[], datetime],
    registry: str | None = None,
) -> LogVoucher:
    """Put together what asks the log.

    Args:
        log: where it is.
        terms: whom to believe about it.
        storage: where what was verified is remembered.
        fetcher: the door to HTTP.
        rate: requests in a second; None for no limit.
        now: the clock.
        registry: whose names the records have to be, as records write it; None for any registry's.

    Raises:
        ConfigurationError: its address is none that a log can be read at.
    """
    assert log.url is not None  # noqa: S101 - a log that has keys has an address (`mirrorwitness.config.load`)
    gate = HostGate(max_in_flight=CONNECTIONS, max_rate=rate)  # of its own: the month's budget is the registry's
    source = LogClient(log=terms, url=log.url, dialect=Dialect.TILES, fetcher=fetcher, gate=gate)
    trust = TrustStore(storage, place="the mirror's storage")
    return LogVoucher(
        terms=terms,
        ratchet=Ratchet(terms=terms, source=source, trust=trust, now=now),
        lookups=LookupClient(url=log.url, fetcher=fetcher, gate=gate),
        registry=registry,
    )
