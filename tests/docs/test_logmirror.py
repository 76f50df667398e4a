"""What the pages say of a log mirror: its routes and statuses (STYLE 54)."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from typing import Any, cast

from mirrorwitness.logmirror.decision import MAX_EXCESS
from mirrorwitness.logmirror.receiving import IDLE_SECONDS, REQUEST_SECONDS
from mirrorwitness.logmirror.service import UPLOADS_AT_ONCE
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.witness.protocol import ANSWERS
from tests.docs.test_reference import _STATUSES, LOG_MIRROR_SERVER, PACKAGE, read_page, read_table

EXAMPLES = {"<L>": "0", "<N>": "000", "<hash>": "ab" * 32}
ANSWERED = {202, 409}
"""By `mirrorwitness.logmirror.service` alone."""


def test_routes_of_a_log_mirror() -> None:
    """Every path of the table is a route, and every constant path stands there."""
    nobody = cast("Any", SimpleNamespace(logs=None))
    app = LogMirrorApp(mirror=nobody, storage=nobody)
    rows = set(read_table("http.md", "Routes of a log mirror"))
    gets = {row.removeprefix("GET ") for row in rows if row.startswith("GET ")}
    assert all(app._gets(re.sub(r"<\w+>", lambda match: EXAMPLES[match[0]], path)) for path in gets)
    source = (PACKAGE / "server" / LOG_MIRROR_SERVER).read_text(encoding="utf-8")
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    paths = {value for value in constants if isinstance(value, str) and re.fullmatch(r"/[a-z-]+", value)}
    paths.remove("/checkpoint")  # the end of a key
    posts = {row.removeprefix("POST ") for row in rows if row.startswith("POST ")}
    assert paths == posts | {path for path in gets if "<" not in path}


def test_statuses_of_a_log_mirror() -> None:
    """Every status that its source, or the table that it shares with the witness, has; no other."""
    found: set[object] = set()
    for name in (LOG_MIRROR_SERVER, "answers.py"):
        source = (PACKAGE / "server" / name).read_text(encoding="utf-8")
        found |= {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)} & _STATUSES
    expected = {*ANSWERS.values(), *found, *ANSWERED}
    assert {int(status) for status in read_table("http.md", "Statuses of a log mirror")} == expected


def test_numbers_of_a_log_mirror() -> None:
    """The limits that the page names are those of the code."""
    page = read_page("http.md")
    for number in (f"{MAX_EXCESS:,} entries", f"{UPLOADS_AT_ONCE} uploads", f"{REQUEST_SECONDS:.0f} seconds in all"):
        assert number in page
    assert f"and {IDLE_SECONDS:.0f} for each piece" in page
