"""What operators see of a running program: logs (`logs`) and metrics (`metrics`). The only door to both libraries.

Components log through the standard library (``logging.getLogger``, a fixed event name, fields in ``extra``), so that
they need nothing of this; `configure_logs` decides once, for the process, what becomes of it. Metrics are not counted
here at all: `metrics` declares them, and their values are read from snapshots when somebody asks.
"""

from __future__ import annotations

from mirrorwitness.telemetry.logs import LEVELS, configure_logs
from mirrorwitness.telemetry.metrics import CONTENT_TYPE, METRICS, Metric, Sample, format_metrics

__all__ = ["CONTENT_TYPE", "LEVELS", "METRICS", "Metric", "Sample", "configure_logs", "format_metrics"]
