"""Run the hermetic tests in two processes with branch coverage, and hold the coverage to its gates.

Measurement is switched on by the environment, for every process alike. ``coverage run`` would be the wrong door: the
process that it starts only hands tests to the workers and imports nothing of the product, so it never has any data.

A test that hangs ends its worker process (``--timeout-method=thread``): the exception that the other method raises in
the test may be taken for one of the test's own, by Hypothesis for example, and the test goes on for ever.

The gates apply when the whole suite ran: 100 % of the branches of the pure modules, 95 % over everything.
Usage: run_tests.py [PYTEST ARGUMENTS]; without arguments, the whole suite.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PURE = (
    "mirrorwitness/tlog/*",
    "mirrorwitness/npm/*",
    "mirrorwitness/logmirror/decision.py",
    "mirrorwitness/logmirror/holdings.py",
    "mirrorwitness/logmirror/inflate.py",
    "mirrorwitness/logmirror/paths.py",
    "mirrorwitness/logmirror/protocol.py",
    "mirrorwitness/logmirror/record.py",
    "mirrorwitness/logmirror/ticket.py",
    "mirrorwitness/mirror/layout.py",
    "mirrorwitness/mirror/bundle.py",
    "mirrorwitness/mirror/confusion.py",
    "mirrorwitness/mirror/gate.py",
    "mirrorwitness/mirror/voucher.py",
    "mirrorwitness/mirror/plan.py",
    "mirrorwitness/mirror/select*.py",
    "mirrorwitness/mirror/lock*.py",
    "mirrorwitness/mirror/npmlock.py",
    "mirrorwitness/mirror/summary.py",
    "mirrorwitness/mirror/subtree.py",
    "mirrorwitness/mirror/reconcile.py",
    "mirrorwitness/mirror/budget.py",
    "mirrorwitness/mirror/health.py",
    "mirrorwitness/mirror/owed.py",
    "mirrorwitness/mirror/receipts.py",
    "mirrorwitness/mirror/shards.py",
    "mirrorwitness/npm/times.py",
    "mirrorwitness/mirror/watermark.py",
    "mirrorwitness/mirror/window.py",
    "mirrorwitness/witness/decision.py",
    "mirrorwitness/tlog/evidence.py",
    "mirrorwitness/witness/loglist.py",
    "mirrorwitness/witness/logs.py",
    "mirrorwitness/witness/protocol.py",
    "mirrorwitness/witness/rates.py",
    "mirrorwitness/witness/records.py",
    "mirrorwitness/sumdb/authority.py",
    "mirrorwitness/sumdb/batch.py",
    "mirrorwitness/sumdb/claims.py",
    "mirrorwitness/sumdb/ingested.py",
    "mirrorwitness/sumdb/news.py",
    "mirrorwitness/sumdb/withdrawals.py",
    "mirrorwitness/sumdb/contradiction.py",
    "mirrorwitness/sumdb/fates.py",
    "mirrorwitness/sumdb/growth.py",
    "mirrorwitness/sumdb/head.py",
    "mirrorwitness/sumdb/index.py",
    "mirrorwitness/sumdb/paths.py",
    "mirrorwitness/storage/cell.py",
    "mirrorwitness/storage/components.py",
    "mirrorwitness/sumdb/lookups.py",
    "mirrorwitness/sumdb/comparison.py",
    "mirrorwitness/sumdb/found.py",
    "mirrorwitness/sumdb/offline.py",
    "mirrorwitness/sumdb/proofbundle.py",
    "mirrorwitness/sumdb/records.py",
    "mirrorwitness/sumdb/terms.py",
    "mirrorwitness/sumdb/verdict.py",
    "mirrorwitness/sumdb/watching.py",
    "mirrorwitness/cli/sarif.py",
    "mirrorwitness/sumdb/quorum.py",
    "mirrorwitness/server/sumdb_routes.py",
    "mirrorwitness/server/chart.py",
    "mirrorwitness/server/page.py",
)
NOT_PURE = ("mirrorwitness/npm/registry*.py",)
OVERALL = 95


def run(*arguments: str, **environment: str) -> int:
    """Run a module of this interpreter and return its exit status."""
    words = [sys.executable, "-m", *arguments]
    return subprocess.run(words, cwd=ROOT, check=False, env=os.environ | environment).returncode


def main(arguments: list[str]) -> int:
    """Run pytest under coverage; then check the gates where everything ran."""
    is_whole = arguments in ([], ["tests"])
    for old in ROOT.glob(".coverage*"):
        old.unlink()
    workers = str(min(4, max(2, os.cpu_count() or 2)))
    words = ("pytest", "-n", workers, "--dist", "loadgroup", "-q", "--timeout-method=thread", *arguments)
    # An absolute file: tests start processes in folders of their own.
    measured = {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"), "COVERAGE_FILE": str(ROOT / ".coverage")}
    status = run(*words, **measured)
    if status or not is_whole:
        return status
    run("coverage", "combine", "--quiet")
    include, omit = ",".join(PURE), ",".join(NOT_PURE)
    status = run("coverage", "report", f"--include={include}", f"--omit={omit}", "--fail-under=100")
    return status or run("coverage", "report", f"--fail-under={OVERALL}", "--format=total", "--precision=1")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
