"""What the pages say of a witness: its routes and statuses, and what its words mean (STYLE 54)."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from typing import Any, cast

from mirrorwitness.run.polling import PollResult
from mirrorwitness.server.witness import WitnessApp
from mirrorwitness.witness.feeder import Action, Polled
from mirrorwitness.witness.protocol import ANSWERS, Reason
from tests.docs.test_reference import _STATUSES, PACKAGE, read_table

_CHECKPOINT = "GET /<hash>/checkpoint"


def _constants() -> list[object]:
    """Return every constant of the witness's HTTP interface."""
    found: list[object] = []
    for name in ("witness.py", "answers.py"):
        source = (PACKAGE / "server" / name).read_text(encoding="utf-8")
        found += [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return found


def test_routes_of_a_witness() -> None:
    """The table has every path with its method, and no other."""
    nobody = cast("Any", SimpleNamespace(add_checkpoint=None, sign_subtree=None))
    app = WitnessApp(witness=nobody, storage=nobody, signs_subtrees=True)
    paths = {value for value in _constants() if isinstance(value, str) and re.fullmatch(r"/[a-z-]+", value)}
    expected = {f"{'POST' if path in app._posts else 'GET'} {path}" for path in paths}
    assert set(read_table("http.md", "Routes of a witness")) == {*expected, _CHECKPOINT}
    served = {*(f"POST {path}" for path in app._posts), *(f"GET {path}" for path in paths if app._gets(path))}
    assert served == expected
    assert app._gets(_CHECKPOINT.removeprefix("GET ").replace("<hash>", "ab" * 32)) is not None


def test_statuses_of_a_witness() -> None:
    """Every status of the one table from reason to status, and of the HTTP interface; no other."""
    found = {value for value in _constants() if type(value) is int and value in _STATUSES}
    expected = {*ANSWERS.values(), *found}
    assert {int(status) for status in read_table("http.md", "Statuses of a witness")} == expected


def test_reasons_have_the_right_status() -> None:
    """What the table says of a reason is what is answered."""
    expected = {reason.value: str(ANSWERS[reason]) for reason in Reason}
    assert read_table("words.md", "Why a witness does not cosign") == expected


def test_actions_have_the_right_exit_code() -> None:
    """What the table says of an action is how a poll of one log ends."""
    expected = {
        action.value: str(int(PollResult((Polled("log", action, None, None),), ()).exit_code())) for action in Action
    }
    assert read_table("words.md", "What became of a poll") == expected
