"""What the pages say of a checksum database: its routes and statuses, and the commands of its handbook (STYLE 54)."""

from __future__ import annotations

import ast
import re

import pytest

from mirrorwitness.server import sumdb_routes
from mirrorwitness.server.sumdb_routes import NoRoute, Placed, State, parse_request
from tests.docs.test_reference import _STATUSES, OTHER_SERVERS, PACKAGE, read_table

EXAMPLES = {"<L>": "0", "<N>": "000", "<name>": "@scope/name", "<version>": "1.0.0", "<size>": "7", "…": "checkpoint"}


def test_routes_of_a_checksum_database() -> None:
    """Every path of the table is a route, and every kind of route stands there."""
    found = {}
    for row in read_table("http.md", "Routes of a checksum database"):
        method, path = row.split(" ")
        assert method == "GET"
        found[row] = parse_request(re.sub(r"<\w+>|…", lambda match: EXAMPLES[match[0]], path), "")
    assert [row for row, route in found.items() if isinstance(route, NoRoute)] == []
    kinds = {type(route.route) if isinstance(route, Placed) else type(route) for route in found.values()}
    known = {kind for name, kind in vars(sumdb_routes).items() if isinstance(kind, type) and name.endswith("Route")}
    assert kinds == known - {NoRoute}
    assert {row for row in found if row.removeprefix("GET /") in set(State)} == {f"GET /{state}" for state in State}
    assert any(isinstance(route, Placed) and route.at == 7 for route in found.values())


def test_statuses_of_a_checksum_database() -> None:
    """Every status that its source can answer with, and no other."""
    found: set[int] = {500}  # what the ASGI layer makes of a bug
    for name in OTHER_SERVERS:
        for node in ast.walk(ast.parse((PACKAGE / "server" / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and type(node.value) is int and node.value in _STATUSES:
                found.add(node.value)
    assert {int(status) for status in read_table("http.md", "Statuses of a checksum database")} == found


@pytest.mark.parametrize("row", ["/tile/<L>/<N>", "/lookup/<name>@<version>", "/index/<name>"])
def test_what_is_fixed_says_so(row: str) -> None:
    """The paths that caches may keep for ever are those whose row says it."""
    text = read_table("http.md", "Routes of a checksum database")[f"GET {row}"]
    assert ("fixed" in text) == (row != "/index/<name>")
