"""Metrics: every one that this program has, declared in this one place (STYLE 44), and their text for Prometheus.

Rules:

- ``mirrorwitness_<subsystem>_<noun>_<unit>``; counters end in ``_total`` and only grow while a process lives.
- Values are not kept here. They are read from snapshots of what is counted anyway, when somebody asks, as `Sample`.
- Labels have few values: shards, hosts that the configuration allows, words of `docs/reference/words.md`. Never a
  package's name.

SPEC: Prometheus text format 0.0.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric as Family

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "Sample", "format_metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus knows it.
        kind: whether it only grows.
        help: one sentence.
        labels: names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A metric's value at this moment, for one value of each label."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"mirrorwitness_{name}", "gauge", text, labels)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"mirrorwitness_{name}", "counter", text, labels)


FEED_LAG: Final = _gauge(
    "feed_lag_seconds", "Time since everything that the feed had shown was last handled; absent until it was.", "shard"
)
FEED_SAVED: Final = _gauge("feed_saved_timestamp_seconds", "When the shard's cursor was last saved.", "shard")
FEED_OWED: Final = _gauge(
    "feed_owed_revisions", "Revisions that the feed announced and the registry does not show yet.", "shard"
)
FEED_UNFINISHED: Final = _gauge(
    "feed_unfinished_packages", "Packages of the shard that have a note of unfinished work.", "shard"
)
SWEEP_LISTED: Final = _gauge(
    "sweep_listed_packages", "Packages compared by the sweep under way; absent where none is.", "shard"
)
SWEEP_BEHIND: Final = _gauge(
    "sweep_behind_packages", "Packages that the sweep under way found out of date; absent where none is.", "shard"
)
SWEEP_ENDED: Final = _gauge(
    "sweep_ended_timestamp_seconds", "When a sweep last compared all names; absent until one has.", "shard"
)
BUDGET_ALLOWED: Final = _gauge("budget_allowed_requests", "Requests allowed in this month; absent without a budget.")
BUDGET_TAKEN: Final = _gauge("budget_taken_requests", "Requests of this month that workers sent or hold.")
BUDGET_LEFT: Final = _gauge("budget_left_requests", "Requests of this month that nobody has taken.")
BUDGET_HELD: Final = _gauge("budget_held_requests", "Requests that this worker took and has not sent.")
UPSTREAM_REQUESTS: Final = _counter(
    "upstream_requests_total", "Requests to a host that ended, by class of status; none: no answer.", "host", "status"
)
UPSTREAM_PAUSES: Final = _counter(
    "upstream_pauses_total", "How often a host asked to be left alone (429, 503).", "host"
)
UPSTREAM_PAUSE: Final = _gauge("upstream_pause_seconds", "What is left of the pause that a host asked for.", "host")
UPSTREAM_FLIGHT: Final = _gauge("upstream_open_requests", "Requests to a host that are under way.", "host")
SYNC_PACKAGES: Final = _counter("sync_packages_total", "Packages that were attempted, by what came of it.", "outcome")
SYNC_TARBALLS: Final = _counter("sync_downloaded_tarballs_total", "Tarballs downloaded, verified and stored.")
SYNC_BYTES: Final = _counter("sync_downloaded_bytes_total", "Bytes of these tarballs.")
SYNC_REFUSALS: Final = _counter("sync_refusals_total", "Versions that were not taken, by the reason.", "reason")
SYNC_ALARMS: Final = _counter("sync_alarms_total", "Alarms, by kind.", "kind")
SYNC_SWEEPS: Final = _counter("sync_sweeps_total", "Sweeps that compared all names to the end.")
MIRROR_READY: Final = _gauge("mirror_ready_status", "1 where readiness says yes, 0 where it says no.")
MIRROR_UNFINISHED: Final = _gauge(
    "mirror_unfinished_packages", "Packages that have a note of unfinished work, over all shards; counted to 10,000."
)
MIRROR_PACKAGES: Final = _gauge("mirror_served_packages", "Packages with at least one version that is served.")
MIRROR_VERSIONS: Final = _gauge("mirror_served_versions", "Versions that are served.")
MIRROR_BYTES: Final = _gauge("mirror_served_bytes", "Bytes of their tarballs.")
WITNESS_REQUESTS: Final = _counter(
    "witness_requests_total", "Requests to a witness that were answered, by what came of them.", "outcome"
)
WITNESS_LOGS: Final = _gauge("witness_known_logs", "Logs that the witness is configured for.")
WITNESS_FORKS: Final = _counter("witness_forks_total", "Proofs that a log forked, each kept as evidence.")
SUMDB_LOGGED: Final = _gauge("sumdb_logged_records", "Records of the newest tree that the log signed.")
SUMDB_PUBLISHED: Final = _gauge(
    "sumdb_published_records", "Records of the published tree, which meets the quorum; absent until this process knows."
)
SUMDB_PUBLISHED_AT: Final = _gauge(
    "sumdb_published_timestamp_seconds", "When this process last published a checkpoint; absent until it did."
)
SUMDB_UNPUBLISHED: Final = _gauge(
    "sumdb_unpublished_seconds", "How long the newest tree waits to be published by now; 0 where it is published."
)
SUMDB_WITNESSES: Final = _counter(
    "sumdb_witness_answers_total",
    "Rounds in which a witness was asked to cosign, by what came of it.",
    "witness",
    "outcome",
)
SUMDB_MIRRORED: Final = _gauge(
    "sumdb_mirrored_records",
    "Records that this process brought to a log mirror, which cosigned them; absent until then.",
    "mirror",
)
LOGMIRROR_REQUESTS: Final = _counter(
    "logmirror_requests_total", "Requests of logs to a log mirror, by kind and status.", "request", "status"
)
LOGMIRROR_ENTRIES: Final = _counter(
    "logmirror_stored_entries_total", "Entries of logs that were proven and stored by this process."
)
LOGMIRROR_LOGS: Final = _gauge("logmirror_known_logs", "Logs that the log mirror is configured for.")
LOGMIRROR_FORKS: Final = _counter("logmirror_forks_total", "Proofs that a log forked, each kept as evidence.")
HTTP_REQUESTS: Final = _counter(
    "http_requests_total", "Requests of clients that were answered, by kind of route and status.", "route", "status"
)
HTTP_BYTES: Final = _counter("http_sent_bytes_total", "Bytes of the bodies sent to clients.")

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of this page."""


def format_metrics(samples: Iterable[Sample]) -> bytes:
    """Return samples as text for Prometheus.

    Args:
        samples: in any order; at most one for each metric and values of its labels.

    Returns:
        Each metric that has a sample once, with its HELP and TYPE.
    """
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for sample in samples:
        metric = sample.metric
        family = families.get(metric.name)
        if family is None:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = families[metric.name] = kind(metric.name, metric.help, labels=metric.labels)
        family.add_metric(sample.labels, sample.value)
    return generate_latest(_Families(families.values()))


class _Families(Collector):
    """What `generate_latest` asks for: nothing is registered anywhere."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterator[Family]:
        return iter(self._families)
