"""The functions of ``terraform/modules/edge``, run by Node: which object a path means, and who may keep an answer."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final
from urllib.parse import unquote

import pytest

from mirrorwitness.mirror.layout import attestations_key, packument_key, tarball_key
from mirrorwitness.npm.names import Version, parse_name
from tests.real.terraform import TERRAFORM

DECISIONS: Final = TERRAFORM / "modules" / "edge" / "decisions"

CASES: Final = {
    "/left": packument_key(parse_name("left")),
    "/@s/right": packument_key(parse_name("@s/right")),
    "/@s%2fright": packument_key(parse_name("@s/right")),
    "/@s%2Fright": packument_key(parse_name("@s/right")),
    "/%40s%2Fright": packument_key(parse_name("@s/right")),
    "/left/-/left-1.0.0.tgz": tarball_key(parse_name("left"), "left-1.0.0.tgz"),
    "/@s/right/-/right-1.0.0.tgz": tarball_key(parse_name("@s/right"), "right-1.0.0.tgz"),
    "/@s%2fright/-/right-1.0.0.tgz": tarball_key(parse_name("@s/right"), "right-1.0.0.tgz"),
    "/left/-/left-1.0.0+build.tgz": tarball_key(parse_name("left"), "left-1.0.0+build.tgz"),
    "/left/-/left-1.0.0.tgz.tlog-proof": "npm/left/-/left-1.0.0.tgz.tlog-proof",
    "/-": packument_key(parse_name("-")),
    "/about": packument_key(parse_name("about")),
    "/-/npm/v1/keys": "about/keys.json",
    "/-/npm/v1/attestations/@s%2fright@1.0.0": attestations_key(parse_name("@s/right"), Version("1.0.0")),
    "/-/npm/v1/attestations/left@1.0.0": attestations_key(parse_name("left"), Version("1.0.0")),
    "/-/about.json": "about/mirror.json",
    "/-/about.json.note": "about/mirror.json.note",
    f"/-/summary/0a/0a{'1' * 62}": f"about/summary/0a/0a{'1' * 62}",
    "/": None,
    "/left/": None,
    "//left": None,
    "/left/1.0.0": None,
    "/state/package/left.json": None,
    "/evidence/x": None,
    "/../state/cursor/1-of-1.json": None,
    "/%2e%2e/state": None,
    "/left/-/..%2f..%2f..%2fstate%2fcoverage.json": None,
    "/@s%2f..%2f..%2fstate": None,
    "/left%00": None,
    "/left%": None,
    "/left%5c..": None,
    "/@s": None,
    "/-/summary/0a/../../../state": None,
    "/-/metrics": None,
}
LOG_CASES: Final = {
    "/checkpoint": "log/checkpoint",
    "/tile/0/x001/067": "log/tile/0/x001/067",
    "/tile/0/001.p/7": "log/tile/0/001.p/7",
    "/tile/entries/000.p/200": "log/tile/entries/000.p/200",
    "/index/left": "log/index/left",
    "/index/@s%2fright": "log/index/@s/right",
    "/index/@s/right": "log/index/@s/right",
    "/lookup/left@1.0.0": None,
    "/tile/0/../../state": None,
    "/state/sumdb/head.json": None,
    "/index/..": None,
}
HASH: Final = "a" * 64
MONITORING_CASES: Final = {
    f"/{HASH}/checkpoint": f"witness/{HASH}/checkpoint",
    f"/{HASH}/tile/0/000": None,
    "/checkpoint": None,
    "/state/witness/identity.json": None,
}
LOGMIRROR_CASES: Final = {
    f"/{HASH}/checkpoint": f"logmirror/{HASH}/checkpoint",
    f"/{HASH}/tile/entries/000.p/3": f"logmirror/{HASH}/tile/entries/000.p/3",
    f"/{HASH}/index/left": None,
    "/checkpoint": None,
}
RUN: Final = """
const [file, from, to, events] = JSON.parse(require('fs').readFileSync(0))
const text = require('fs').readFileSync(file, 'utf8').replace(from, to)
const handler = new Function(text + '; return handler')()
console.log(JSON.stringify(events.map((event) => handler(event))))
"""


def run_function(name: str, hole: str, value: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run one of the functions on several events."""
    given = json.dumps([str(DECISIONS / name), f"{{{{{hole}}}}}", value, events])
    done = subprocess.run(["node", "-e", RUN], input=given, stdout=subprocess.PIPE, text=True, check=True)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def ask(kind: str, paths: list[str]) -> list[dict[str, Any]]:
    """Return what the path rule makes of requests, each with a query that nobody wants."""
    events = [{"request": {"uri": uri, "querystring": {"x": {"value": "1"}}}} for uri in paths]
    return run_function("path_rule.js", "kind", kind, events)


@pytest.mark.parametrize(
    ("kind", "cases"),
    [("registry", CASES), ("log", LOG_CASES), ("monitoring", MONITORING_CASES), ("logmirror", LOGMIRROR_CASES)],
)
def test_the_path_rule_finds_objects(kind: str, cases: dict[str, str | None]) -> None:
    """Each path of a client means the key that the product writes, and nothing leads out of the public part."""
    found = [each.get("statusCode") or (unquote(each["uri"]), each["querystring"]) for each in ask(kind, list(cases))]
    expected: dict[str, Any] = {path: 404 if key is None else (f"/{key}", {}) for path, key in cases.items()}
    assert dict(zip(cases, found, strict=True)) == expected


def test_the_path_rule_says_pong() -> None:
    """Clients ask for it; nothing is behind it."""
    (answer,) = ask("registry", ["/-/ping"])
    assert (answer["statusCode"], answer["body"]["data"]) == (200, "{}")


def test_the_path_rule_encodes_what_s3_would_read_otherwise() -> None:
    """A + that goes to S3 as it is means a space there."""
    (answer,) = ask("registry", ["/left/-/left-1.0.0+a!(b).tgz"])
    assert answer["uri"] == "/npm/left/-/left-1.0.0%2Ba%21%28b%29.tgz"


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_nobody_keeps_an_error(status: int) -> None:
    """What was found may be kept; that something is missing may not."""
    events = [{"response": {"statusCode": each, "headers": {}}} for each in (200, 206, 304, status)]
    told = run_function("cache_control.js", "cache_control", "public, max-age=9", events)
    kept = {"cache-control": {"value": "public, max-age=9"}}
    assert [each["headers"] for each in told] == [kept, kept, kept, {}]
