"""monitoring/ under Prometheus itself: rules, their unit tests, every query of the dashboard, and a real scrape.

One Prometheus with the configuration that monitoring/README.md shows scrapes all servers of ours, each a process of the
product: `serve`, a follower, a witness, a checksum database, a log mirror. Nothing leaves loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest
import yaml

from mirrorwitness.cli.keyfile import write_key
from mirrorwitness.telemetry import METRICS
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key
from tests.docs.test_monitoring import MONITORING, expressions
from tests.fakes.feed_process import ROOT, Workplace, end, run_feed, wait_until
from tests.real.servers import free_ports, run_process, wait_for_http
from tests.unit.witness.log_server import make_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMTOOL_SECONDS: Final = 200
"""The unit tests of alerts take 20 s of one core."""

JOBS: Final = {"mirror", "follower", "witness", "sumdb", "logmirror"}

NEVER_AT_REST: Final = {
    "mirrorwitness_upstream_pause_seconds",
    "mirrorwitness_sweep_listed_packages",
    "mirrorwitness_sweep_behind_packages",
    "mirrorwitness_sync_alarms_total",
    "mirrorwitness_sumdb_witness_answers_total",
    "mirrorwitness_sumdb_mirrored_records",
}
"""Metrics that need a request, an alarm, a pause or a sweep under way; unit tests have them."""


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """Skip all of this where Prometheus is not installed."""
    if not (shutil.which("promtool") and shutil.which("prometheus")):
        pytest.skip("Prometheus is not installed; run scripts/real/install-prometheus")


def promtool(*words: str, given: bytes = b"") -> str:
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, timeout=PROMTOOL_SECONDS, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def test_rules() -> None:
    """Promtool finds nothing wrong with the rules, however strict."""
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(MONITORING / "alerts.yaml"))


def test_unit_tests_of_the_alerts() -> None:
    """Each alert fires on its trouble, and none on a healthy set of series."""
    assert "SUCCESS" in promtool("test", "rules", str(MONITORING / "alerts.test.yaml"))


def test_an_alert_that_never_fires_is_noticed(tmp_path: Path) -> None:
    """The unit tests test something: with a threshold out of reach they fail."""
    rules = (MONITORING / "alerts.yaml").read_text(encoding="utf-8")
    (tmp_path / "alerts.yaml").write_text(rules.replace("_unpublished_seconds) > 900", "_unpublished_seconds) > 9e9"))
    tests = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text(encoding="utf-8"))
    tests["tests"] = [test for test in tests["tests"] if test["name"].startswith("SumdbNotPublished")]
    (tmp_path / "alerts.test.yaml").write_text(yaml.safe_dump(tests))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", str(tmp_path / "alerts.test.yaml"))


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """Promtool reads each, with what Grafana puts in place of its variables."""
    queries = [text.replace("$__rate_interval", "4m").replace("$namespace", ".*") for _, text in expressions()]
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(queries)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))


@contextlib.contextmanager
def server(folder: Path, *words: str) -> Iterator[str]:
    """Run a server of the product until the block ends; gives host and port."""
    command = [sys.executable, "-m", "mirrorwitness", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = folder / f"{words[0]}.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on http://"), log.read_text(encoding="utf-8")
            yield line.strip().removeprefix("listening on http://")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run one server of each kind: name of its job → where it is scraped."""
    folder = tmp_path_factory.mktemp("servers")
    place = Workplace(folder)
    with contextlib.ExitStack() as stack, contextlib.chdir(folder):
        feed = stack.enter_context(run_feed("--demo", "5"))
        place.configure(registry=feed.registry, feed=feed.feed)
        write_key(
            Path("w1.key"), format_signer_key(make_signer_key("w1.example", bytes([1] * 32), KeyType.COSIGNATURE))
        )
        write_key(
            Path("m1.key"), format_signer_key(make_signer_key("m1.example", bytes([2] * 32), KeyType.COSIGNATURE))
        )
        log = str(make_lab().keys[0].verifier)
        begun = place.run("sumdb", "init", "--storage", "file:log", "--name", "l.example", "--out", "l.key")
        assert begun[0] == 0, begun
        (port,) = free_ports(1)
        follower = place.start("sync", "--follow", "--metrics", f"127.0.0.1:{port}")
        stack.callback(end, follower)
        any_port = ("--listen", "127.0.0.1:0")
        wait_until(lambda: bool(place.cursor()), what="the follower saves its cursor", process=follower)
        yield {
            "follower": f"127.0.0.1:{port}",
            "mirror": stack.enter_context(server(folder, "serve", *any_port)),
            "witness": stack.enter_context(
                server(folder, "witness", "serve", *any_port, "--storage", "file:w", "--key", "w1.key", "--log", log)
            ),
            "logmirror": stack.enter_context(
                server(folder, "logmirror", "serve", *any_port, "--storage", "file:m", "--key", "m1.key", "--log", log)
            ),
            "sumdb": stack.enter_context(
                server(
                    folder, "sumdb", "serve", *any_port, "--storage", "file:log", "--key", "l.key", "--registry",
                    feed.registry,
                )
            ),
        }  # fmt: skip


@pytest.mark.parametrize("job", sorted(JOBS))
def test_metrics_of_each_server(targets: dict[str, str], job: str) -> None:
    """Promtool finds nothing wrong with what a server answers."""
    path = "/-/metrics" if job == "mirror" else "/metrics"
    with urllib.request.urlopen(f"http://{targets[job]}{path}", timeout=30) as answer:
        body = answer.read()
    assert b"# TYPE mirrorwitness_" in body
    assert promtool("check", "metrics", given=body).strip() == ""


def test_prometheus_scrapes_all_of_them(targets: dict[str, str], tmp_path: Path) -> None:
    """Configured as the page says: every target is up, every rule evaluates, nothing fires, every metric arrives."""
    (block,) = re.findall(r"(?s)```yaml\n(.*?)```", (MONITORING / "README.md").read_text(encoding="utf-8"))
    config: dict[str, Any] = yaml.safe_load(block)
    assert {each["job_name"] for each in config["scrape_configs"]} == JOBS
    for each in config["scrape_configs"]:
        each["static_configs"] = [{"targets": [targets[each["job_name"]]]}]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    promtool("check", "config", str(tmp_path / "prometheus.yaml"))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus", f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with run_process(command, directory=tmp_path) as process:
        wait_for_http(process, f"{url}/-/ready")
        wait_until(lambda: _up(url) == JOBS, what="all targets are scraped")
        wait_until(lambda: _health(url) == {"ok"}, what="all rules are evaluated")
        expected = {metric.name for metric in METRICS} - NEVER_AT_REST
        wait_until(lambda: expected <= _names(url), what="every metric arrives")
        alerts = [each["metric"]["alertname"] for each in _query(url, 'ALERTS{alertstate="firing"}')]
    assert alerts == []


def _ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}{path}", timeout=30) as answer:
        return json.load(answer)["data"]


def _query(url: str, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _ask(url, f"/api/v1/query?{urlencode({'query': query, 'time': time.time()})}")[
        "result"
    ]
    return found


def _names(url: str) -> set[str]:
    return {each["metric"]["__name__"] for each in _query(url, '{__name__=~"mirrorwitness_.+"}')}


def _up(url: str) -> set[str]:
    return {each["metric"]["job"] for each in _query(url, "up == 1")}


def _health(url: str) -> set[str]:
    return {rule["health"] for group in _ask(url, "/api/v1/rules")["groups"] for rule in group["rules"]}
