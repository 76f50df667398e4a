"""Metrics: names, HELP and TYPE as promtool wants them, and what is declared is what is shown (STYLE 44)."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from mirrorwitness.telemetry import CONTENT_TYPE, METRICS, Metric, Sample, format_metrics

UNITS = {"seconds", "bytes", "requests", "packages", "revisions", "versions", "logs", "records", "total", "status"}
"""Base units, and what is counted: the last word of a name."""

WRONG_UNITS = re.compile(
    r"_(milliseconds|minutes|hours|days|kilobytes|megabytes|percent|ratio_total|count|sum|bucket)\b"
)


def sample_of(metric: Metric, value: float = 1.5) -> Sample:
    return Sample(metric, value, tuple(f"a {label}" for label in metric.labels))


def test_names() -> None:
    """``mirrorwitness_<subsystem>_<noun>_<unit>``, unique; only counters end in ``_total``, and all of them do."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"mirrorwitness(_[a-z]+){3,5}", metric.name), metric.name
        assert metric.name.rpartition("_")[2] in UNITS, metric.name
        assert not WRONG_UNITS.search(metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert not any(word in metric.name.split("_") for word in ("gauge", "counter", "metric")), metric.name


def test_help_and_labels() -> None:
    """Whole sentences; labels are lower-case words, never reserved, and never a package."""
    for metric in METRICS:
        assert metric.help.endswith("."), metric.name
        assert metric.help[0].isupper() or metric.help[0].isdigit(), metric.name
        assert "\n" not in metric.help, metric.name
        for label in metric.labels:
            assert re.fullmatch(r"[a-z]+", label), metric.name
            assert label not in {"le", "quantile", "job", "instance", "package", "name"}, metric.name


def test_every_metric_reads_back() -> None:
    """Prometheus' own parser finds each with its type, help, labels and value."""
    text = format_metrics([sample_of(metric) for metric in METRICS]).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(found) == len(METRICS)
    for metric in METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        (sample,) = family.samples
        assert (sample.name, sample.value) == (metric.name, 1.5)
        assert sample.labels == {label: f"a {label}" for label in metric.labels}


def test_text() -> None:
    """HELP and TYPE stand once, before the samples; values of labels are escaped; nothing else is shown."""
    metric = Metric("mirrorwitness_x_y_total", "counter", "What.", ("host",))
    samples = [Sample(metric, 1, ('a"b\\\n',)), Sample(metric, 2, ("c",))]
    assert format_metrics(samples).decode() == (
        "# HELP mirrorwitness_x_y_total What.\n"
        "# TYPE mirrorwitness_x_y_total counter\n"
        'mirrorwitness_x_y_total{host="a\\"b\\\\\\n"} 1.0\n'
        'mirrorwitness_x_y_total{host="c"} 2.0\n'
    )
    assert format_metrics([]) == b""
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
