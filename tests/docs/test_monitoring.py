"""monitoring/ fits the code: metrics, labels and words that exist, runbooks that are there, a unit test for each alert.

That the expressions are PromQL, and that the unit tests pass, is promtool's word: `tests/real/test_prometheus.py`.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from mirrorwitness.mirror.result import Status
from mirrorwitness.telemetry import METRICS
from mirrorwitness.witness.protocol import Reason
from tests.docs.blocks import ROOT
from tests.docs.test_links import _headings
from tests.docs.test_reference import read_page, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN: Final = {
    "kube_job_failed": {"condition", "job_name"},
    "kube_cronjob_status_last_successful_time": {"cronjob"},
    "ALERTS": {"alertstate", "role"},
}
"""Metrics of kube-state-metrics and of Prometheus itself → their labels that we use."""

SCRAPED: Final = {"namespace", "job", "instance"}
"""Labels that a scrape adds."""

OUTCOMES: Final = {"cosigned", "failed", "late", "wrong", "contradicts"}
"""What came of asking a witness (`mirrorwitness.sumdb.cosign`)."""

MONITORING: Final = ROOT / "monitoring"
ALERTS: Final = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
TESTS: Final = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text(encoding="utf-8"))
DASHBOARD: Final = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
RULES: Final[list[dict[str, Any]]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: Final[list[dict[str, Any]]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_METRIC = re.compile(r"\b((?:mirrorwitness|kube)_[a-z_]+|ALERTS)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every query: where it stands, and its text."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def used(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each metric that a query names, with its matchers."""
    for name, matchers in _METRIC.findall(expression):
        yield name, dict(_MATCHER.findall(matchers))


def test_every_metric_and_label_exists() -> None:
    """A query that names what nobody exports is silent for ever."""
    known = {metric.name: set(metric.labels) for metric in METRICS} | FOREIGN
    for where, expression in expressions():
        found = list(used(expression))
        assert found, where
        for name, matchers in found:
            assert name in known, f"{where}: {name}"
            assert matchers.keys() <= known[name] | SCRAPED, f"{where}: {name} has no such label: {set(matchers)}"


def test_every_word_in_a_matcher_exists() -> None:
    """A misspelt outcome matches nothing."""
    words = {
        "mirrorwitness_sync_packages_total": {str(status) for status in Status},
        "mirrorwitness_sync_alarms_total": set(read_table("words.md", "Kinds of alarms")),
        "mirrorwitness_witness_requests_total": {*(str(reason.value) for reason in Reason), "cosigned"},
        "mirrorwitness_sumdb_witness_answers_total": OUTCOMES,
    }
    for where, expression in expressions():
        for name, matchers in used(expression):
            for label in matchers.keys() & {"outcome", "kind"}:
                assert set(matchers[label].split("|")) <= words[name], f"{where}: {matchers}"


def test_every_metric_is_used_or_said_not_to_be() -> None:
    """A metric that nobody looks at is either missing from the dashboard, or has a reason."""
    named = {name for _, expression in expressions() for name, _ in used(expression)}
    text = (MONITORING / "README.md").read_text(encoding="utf-8").partition("## What is not used")[2]
    unused = set(re.findall(r"`(mirrorwitness_\w+)`", text))
    assert unused == {metric.name for metric in METRICS} - named


def test_jobs_in_alerts_exist() -> None:
    """The CronJobs that alerts watch are those of k8s/base."""
    text = "\n---\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "k8s" / "base").rglob("*.yaml"))
    jobs = {each["metadata"]["name"] for each in yaml.safe_load_all(text) if each and each.get("kind") == "CronJob"}
    assert set(re.findall(r'cronjob="([a-z-]+)"', json.dumps(ALERTS).replace('\\"', '"'))) == jobs


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_alerts_are_whole(rule: dict[str, Any]) -> None:
    """Name, severity, role, a sentence or two, and a runbook whose page and heading are there."""
    assert re.fullmatch(r"(?:[A-Z][a-z]+){2,4}", rule["alert"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["labels"]["role"] in {"mirror", "server", "witness", "sumdb", "logmirror", "jobs"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page.startswith("docs/incidents/")
    assert not anchor or anchor in _headings(ROOT / page)
    if not page.endswith("README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        heading = re.search(r"\*\*(?:Alerts|Signs):\*\* ([^\n]*\n?[^\n]*)", text)
        assert heading is not None
        assert f"`{rule['alert']}`" in heading[1], f"{page} does not say that {rule['alert']} leads to it"


def test_alerts_have_one_name_each() -> None:
    """And the page of metrics lists all of them, with the page that each leads to."""
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    rows = re.findall(
        r"(?m)^\| `([A-Za-z]+)` \| (.*) \| \[\w[\w ]*\]\(\.\./incidents/([^)]+)\) \|$", read_page("metrics.md")
    )
    expected = [(rule["alert"], rule["annotations"]["runbook"].removeprefix("docs/incidents/")) for rule in RULES]
    assert [(name, page) for name, _, page in rows] == expected


def test_every_alert_has_a_unit_test() -> None:
    """One in which it fires, another moment of the same series in which it does not, and the healthy one."""
    healthy, *tests = TESTS["tests"]
    assert {len(each["exp_samples"]) for each in healthy["promql_expr_test"]} == {0}
    fired: set[str] = set()
    for test in tests:
        moments = test.get("promql_expr_test", [])
        expected = [{label["labels"] for label in moment["exp_samples"]} for moment in moments]
        names = {re.sub(r"\W|alertname", "", label) for labels in expected for label in labels}
        assert not moments or test["name"].partition(":")[0] in names, test["name"]
        fired |= names
    assert fired == {rule["alert"] for rule in RULES}


def test_the_healthy_series_are_all_that_alerts_look_at() -> None:
    """An alert over a series that is not there would not fire either."""
    series = {name for each in TESTS["tests"][0]["input_series"] for name, _ in used(each["series"])}
    assert series == {name for rule in RULES for name, _ in used(rule["expr"])}


def test_panels_are_whole() -> None:
    """Title, a description of whole sentences, a unit, the chosen Prometheus; letters of queries are their order."""
    for panel in PANELS:
        assert panel["title"], panel["id"]
        assert panel["description"].endswith((".", ".md")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCD"[: len(panel["targets"])]), panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), panel["title"]
        for page in re.findall(r"docs/[\w/-]+\.md", panel["description"]):
            assert (ROOT / page).exists(), page
    titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert titles == ["Mirror", "Witness", "Checksum database", "Log mirror"]


def test_panels_do_not_overlap() -> None:
    """Each lies within 24 columns, below its row, on nobody else."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, panel["title"]
    for one, two in itertools.combinations(panels, 2):
        a, b = one["gridPos"], two["gridPos"]
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or above, f"{one['title']} lies on {two['title']}"


def test_every_query_can_be_told_apart_by_namespace() -> None:
    """The dashboard's choice holds for each metric of each query; alerts keep the label."""
    for panel in PANELS:
        for target in panel["targets"]:
            for name, matchers in used(target["expr"]):
                assert matchers["namespace"] == "$namespace", f"{panel['title']}: {name}"
    for rule in RULES:
        groups = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        assert all("namespace" in group for group in groups), rule["alert"]
