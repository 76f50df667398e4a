"""The optional monitoring of k8s/: the alerts are those of monitoring/, and what is scraped is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from tests.deploy.manifests import parse
from tests.deploy.rules import ALERTS, ROOT, RULES, wrap

if TYPE_CHECKING:
    from pathlib import Path

MONITORS = ROOT / "k8s/components/monitoring/monitors.yaml"
BASES = {"mirror": "/-/metrics", "witness": "/metrics", "sumdb": "/metrics"}


def test_the_rules_are_the_alerts() -> None:
    """Word for word; `make docs` makes them so."""
    assert RULES.read_text(encoding="utf-8") == wrap(ALERTS.read_text(encoding="utf-8")), "run make docs"


def test_the_wrapped_alerts_say_the_same() -> None:
    """To a parser, too."""
    (rule,) = parse(wrap(ALERTS.read_text(encoding="utf-8")))
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text(encoding="utf-8"))


def test_each_role_is_scraped_where_it_shows_its_metrics() -> None:
    """By the labels that its base gives to services, the port that they have, and a path that the reference has."""
    found = {}
    for monitor in parse(MONITORS.read_text(encoding="utf-8")):
        labels = monitor["spec"]["selector"]["matchLabels"]
        role = labels["app.kubernetes.io/part-of"]
        base = ROOT / "k8s/base" / role
        (given,) = yaml.safe_load((base / "kustomization.yaml").read_text(encoding="utf-8"))["labels"]
        assert labels == given["pairs"]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in service_ports(base)
        found[role] = endpoint["path"]
    assert found == BASES
    reference = (ROOT / "docs/reference/http.md").read_text(encoding="utf-8")
    assert {path for path in found.values() if re.search(rf"`(GET )?{path}`", reference)} == {"/-/metrics", "/metrics"}


def service_ports(base: Path) -> set[str]:
    """Return the names of the ports that the services of a base have."""
    objects = [each for path in base.glob("*.yaml") for each in parse(path.read_text(encoding="utf-8"))]
    return {port["name"] for each in objects if each["kind"] == "Service" for port in each["spec"]["ports"]}
