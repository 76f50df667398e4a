"""Metrics, events of the log and kinds of alarms: the pages have every one of them, and no other (STYLE 43, 44, 54)."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mirrorwitness.telemetry import METRICS
from tests.docs.blocks import PAGES
from tests.docs.test_reference import PACKAGE, read_page, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = {"debug", "info", "warning", "error", "exception"}


def test_metrics() -> None:
    """Name, kind, labels and meaning of each, in the order of the code."""
    rows = re.findall(r"(?m)^\| `(mirrorwitness_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", read_page("metrics.md"))
    expected = [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]
    assert [(name, kind, labels.strip(), text) for name, kind, labels, text in rows] == expected


def test_metrics_in_examples_exist() -> None:
    """A rule that is copied from a page works."""
    names = {metric.name for metric in METRICS}
    for path in PAGES.parent.rglob("*.md"):
        found = set(re.findall(r"\bmirrorwitness_[a-z_]+", path.read_text(encoding="utf-8")))
        assert {name for name in found if name.count("_") > 2} <= names, path


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a method in the package, with the method's name."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node.func.attr, node


def _given_events() -> set[str]:
    """Return the names of events that are given to who logs them, as ``event="…"`` to a plain function."""
    return {
        str(keyword.value.value)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for keyword in node.keywords
        if keyword.arg == "event" and isinstance(keyword.value, ast.Constant)
    }


def test_events_of_the_log() -> None:
    """What the package logs is what the page lists; every name is a constant."""
    found: set[str] = set()
    for name, call in _calls():
        if not (isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)):
            continue
        if call.func.value.id == "_log" and name in _LEVELS | {"log"}:
            argument = call.args[1 if name == "log" else 0]
            if isinstance(argument, ast.Name) and argument.id == "event":
                continue  # what its callers give
            assert isinstance(argument, ast.Constant), ast.unparse(call)
            found.add(str(argument.value))
    found |= _given_events()
    assert set(read_table("logs.md", "Events")) - {"event"} == found


def test_kinds_of_alarms() -> None:
    """The word of every alarm, and the one of those that name none."""
    found = {"run"}
    for name, call in _calls():
        if name == "_alarm" and isinstance(call.args[0], ast.Constant):
            found.add(str(call.args[0].value))
        found |= {
            str(keyword.value.value)
            for keyword in call.keywords
            if name == "alarm" and keyword.arg == "kind" and isinstance(keyword.value, ast.Constant)
        }
    assert set(read_table("words.md", "Kinds of alarms")) == found
