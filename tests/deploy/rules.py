"""The alerts of ``monitoring/alerts.yaml`` as the Prometheus operator takes them. ``make docs`` writes them anew."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

__all__ = ["ALERTS", "RULES", "wrap"]

ROOT: Final = Path(__file__).resolve().parents[2]
ALERTS: Final = ROOT / "monitoring/alerts.yaml"
RULES: Final = ROOT / "k8s/components/monitoring/rules.yaml"

HEAD: Final = """\
# Made from monitoring/alerts.yaml by `make docs`; change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mirrorwitness
spec:
"""


def wrap(alerts: str) -> str:
    """Return the file of the operator's rule object; all that is said about the alerts stays in it."""
    return HEAD + textwrap.indent(alerts, "  ")


if __name__ == "__main__":
    RULES.write_text(wrap(ALERTS.read_text(encoding="utf-8")), encoding="utf-8")
