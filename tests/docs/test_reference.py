"""The reference says what the code does, all of it, and nothing else (STYLE 54)."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import click
import pytest

import mirrorwitness
from mirrorwitness import errors
from mirrorwitness.config import list_options
from mirrorwitness.errors import ExitCode, exit_code
from mirrorwitness.server import asgi, routes
from mirrorwitness.server.routes import NoRoute, parse_path
from tests.docs.blocks import BLOCK, BLOCKS, EXAMPLES, PAGES, ROOT, fill, walk_commands

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = ROOT / "mirrorwitness"

TABLES = {
    "mirrorwitness.mirror.bundle.Link": "How a bundle belongs to those before it",
    "mirrorwitness.mirror.about.Kind": "Kinds of mirrors",
    "mirrorwitness.run.trouble.Trouble": "What ends a check",
    "mirrorwitness.mirror.result.Status": "State of a package",
    "mirrorwitness.mirror.confusion.ConfusionPolicy": "Policies for manifest confusion",
    "mirrorwitness.mirror.gate.BlockKind": "Why a version is not served",
    "mirrorwitness.mirror.voucher.LogCheck": "What the log's word means",
    "mirrorwitness.mirror.audit.FindingKind": "Findings of an audit",
    "mirrorwitness.mirror.withdrawal.Event": "What happened to a withdrawn version",
    "mirrorwitness.mirror.withdrawal.WithdrawnPolicy": "Policies for withdrawn versions",
    "mirrorwitness.mirror.explain.State": "States of status --why",
    "mirrorwitness.mirror.sources.Role": "Roles of sources",
    "mirrorwitness.mirror.withdrawal.Place": "Where the bytes of a version are",
    "mirrorwitness.npm.signatures.SignatureOutcome": "Outcomes of the signature check",
    "mirrorwitness.npm.signatures.SignaturePolicy": "Policies for signatures",
    "mirrorwitness.storage.probe_verdict.Verdict": "Verdicts of store-check",
    "mirrorwitness.storage.probe_verdict.Role": "Roles of store-check",
    "mirrorwitness.storage.probe_verdict.Outcome": "Outcomes of store-check",
    "mirrorwitness.storage.probe_verdict.Capability": "Capabilities in store-check",
    "mirrorwitness.sumdb.claims.Refusal": "Why a version is not logged",
    "mirrorwitness.sumdb.records.Event": "What a record says",
    "mirrorwitness.sumdb.watching.Kind": "What a monitor tells",
    "mirrorwitness.sumdb.verdict.Verdict": "Verdicts of check",
    "mirrorwitness.witness.protocol.Reason": "Why a witness does not cosign",
    "mirrorwitness.witness.feeder.Action": "What became of a poll",
    "mirrorwitness.witness.finding.Level": "Levels of conformance cases",
    "mirrorwitness.witness.finding.Result": "Results of conformance cases",
}
"""Enumerations whose words are printed → their heading in words.md."""

NEVER_PRINTED = {
    "mirrorwitness.errors.ExitCode": "numbers; commands.md lists them",
    "mirrorwitness.mirror.choice.BlockedKind": "its words are BlockKind's",
    "mirrorwitness.mirror.locked.Flag": "words of npm's lockfiles",
    "mirrorwitness.server.byterange.WithoutRange": "inside the server",
    "mirrorwitness.server.forms.Form": "inside the server",
    "mirrorwitness.server.negotiate.Coding": "words of HTTP",
    "mirrorwitness.server.routes.Fixed": "paths; http.md lists them",
    "mirrorwitness.server.sumdb_routes.State": "paths; http.md lists them",
    "mirrorwitness.storage.local_names.Names": "inside the directory storage",
    "mirrorwitness.storage.probe_requests.Signing": "inside the probe",
    "mirrorwitness.storage.s3_errors.Verdict": "inside the bucket storage",
    "mirrorwitness.sumdb.fates.Fate": "inside the sequencer; records have the words of Event",
    "mirrorwitness.tlog.keys.KeyType": "bytes of C2SP formats; reports say in words what a line is",
    "mirrorwitness.tlog.tiles.Dialect": "values of a flag, and paths; commands.md lists them",
}
"""The other enumerations, and why nobody who runs a mirror meets their words."""


def read_page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def read_table(page: str, heading: str) -> dict[str, str]:
    """Return the first table below a heading: first cell without backticks → last cell."""
    section = re.split(r"(?m)^#+ ", read_page(page).partition(f"# {heading}\n")[2])[0]
    rows = re.findall(r"(?m)^\| (.+?) \|(?: .* \|)? (.*?) \|$", section)
    return {first.strip("`"): last for first, last in rows if first not in {"word", "field", "path", "status", "code"}}


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_blocks_are_what_the_code_gives(page: str) -> None:
    """`make docs` would change nothing."""
    text = read_page(page)
    assert fill(text) == text, "run `make docs` and commit what it writes"


def test_every_block_stands_in_one_page() -> None:
    """No block is lost, none is written twice, no marker is misspelt."""
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES.glob("*.md"))
    names = [found[1] for found in BLOCK.findall(text)]
    assert sorted(names) == sorted(BLOCKS)
    assert text.count("<!-- BEGIN") == text.count("<!-- END") == len(names)


def test_every_command_and_option_says_what_it_is_for() -> None:
    """No empty help; every command shows an example, and no markup of click's is left in what a reader sees."""
    for path, command in walk_commands():
        assert command.help, path
        assert "\\" not in command.help, path
        if not isinstance(command, click.Group):
            assert "Example:" in command.help, path
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (path, option.name)


def test_every_option_of_the_file_has_a_meaning() -> None:
    """Whole sentences, with the unit of every size, rate and time."""
    for option in list_options():
        assert option.description.endswith("."), option.key
        unit = {"ByteCount": "Bytes.", "ByteRate": "Bytes per second.", "Seconds": "Seconds."}
        expected = unit.get(type(option.default).__name__, "")
        assert option.description.endswith(expected), option.key


def test_every_flag_that_is_an_option_of_the_file_is_called_the_same() -> None:
    """One thing has one name: a flag, or the last part of an option's key."""
    keys = {option.key.rpartition(".")[2] for option in list_options()} | {"registry"}
    only_flags = {
        "config", "lockfile", "latest", "names_from", "exact", "is_json", "once", "dry_run", "sample", "repair",
        "short", "writers", "replaces", "output", "force", "version", "follow", "shard", "processes", "feed",
        "vkey", "limit", "name", "out", "why", "reason",
        # those of a witness, which reads no file of options
        "algorithm", "is_pem", "is_encrypted", "anchor", "keys", "logs", "lists", "refuses_extensions",
        "signs_subtrees", "rate", "checkpoint", "policy", "origin", "dialect", "every", "refresh", "distributors",
        "vkeys", "seed", "monitoring", "only", "prints_logs", "log", "index", "entry", "old", "search", "refresh_lists",
        "webhook", "disable", "enable", "older_after", "mirrors",
        # those of a checksum database that no mirror has
        "witnesses", "authority", "at", "is_read_only", "is_once", "is_following",
        # those of a log mirror, likewise
        "to", "mirror_keys", "statement", "trusts_records", "begins_anew",
        # those of a bundle, and of a monitor
        "since", "signer", "is_dry", "watch", "ahead_for", "is_from_now",
        # those of check, which reads none either
        "sumdb", "bundle", "write_bundle", "state", "withdrawn", "max_age", "sarif", "verbose",
    }  # fmt: skip
    for path, command in walk_commands():
        for option in command.params:
            if isinstance(option, click.Option) and path != "mirrorwitness":
                assert option.name in keys | only_flags, (
                    f"{path} --{option.name}: neither an option nor known as a flag"
                )


def test_exit_codes() -> None:
    """The table of commands.md has every code; the help of every command too."""
    assert {int(code) for code in read_table("commands.md", "Exit codes")} == {int(code) for code in ExitCode}
    for path, command in walk_commands():
        if not isinstance(command, click.Group):
            codes = re.findall(r"(?m)^  (\d+) ", command.epilog or "")
            assert [int(code) for code in codes] == [int(code) for code in ExitCode], path


def test_environment_variables() -> None:
    """Every variable that the source names is in options.md, and no other."""
    said = set(re.findall(r"`(MIRRORWITNESS_[A-Z_]+)`", read_page("options.md")))
    known = {option.environment for option in list_options() if option.environment}
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r'"(MIRRORWITNESS_[A-Z_]*[A-Z])"', path.read_text(encoding="utf-8"))
    }
    assert said == known | found


def test_http_routes() -> None:
    """Every path of http.md is a route, every kind of route and every fixed path stands there."""
    paths = read_table("http.md", "Routes")
    values = {"<name>": "@scope/name", "<version or tag>": "1.0.0", "<file>": "a.tgz", "<version>": "1.0.0"}
    values |= {"<digits>": "ab", "<digest>": "ab" * 32, "<size>": "41"}
    found: dict[str, routes.Route] = {}
    for path in paths:
        concrete = re.sub(r"<[a-z ]+>", lambda match: values[match[0]], path)
        found[path] = parse_path(concrete)
    assert [path for path, route in found.items() if isinstance(route, NoRoute)] == []
    kinds = {kind for kind in vars(routes).values() if isinstance(kind, type) and kind.__name__.endswith("Route")}
    assert {type(route) for route in found.values()} == kinds - {NoRoute}
    assert {f"/-/{path}" for path in routes._EXACT} <= paths.keys()


OTHER_SERVERS = {"sumdb.py", "lookups.py"}
"""Of a checksum database; `tests.docs.test_sumdb` looks at them."""

LOG_MIRROR_SERVER = "logmirror.py"
"""`tests.docs.test_logmirror` looks at it."""


def test_http_statuses() -> None:
    """Every status that the server's source can answer with is in http.md, and no other."""
    found = {status for _, status, _ in asgi.ERROR_STATUS}
    for path in (PACKAGE / "server").glob("*.py"):
        if path.name in {*OTHER_SERVERS, LOG_MIRROR_SERVER}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value in _STATUSES:
                found.add(node.value)
    assert {int(status) for status in read_table("http.md", "Statuses")} == found


_STATUSES = {int(status) for status in HTTPStatus} - {100, 102, 103, 300, 500} | {500}


def _enumerations() -> Iterator[tuple[str, type[Enum]]]:
    for info in pkgutil.walk_packages(mirrorwitness.__path__, "mirrorwitness."):
        if info.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, type) and issubclass(value, Enum) and value.__module__ == info.name:
                yield f"{info.name}.{value.__qualname__}", value


def test_every_enumeration_is_documented_or_never_printed() -> None:
    """A new word that reports can print needs a table in words.md."""
    assert {name for name, _ in _enumerations()} == TABLES.keys() | NEVER_PRINTED.keys()


@pytest.mark.parametrize(("name", "heading"), sorted(TABLES.items()))
def test_words(name: str, heading: str) -> None:
    """The table has every word of the enumeration in its order, and no other."""
    words = dict(_enumerations())[name]
    assert list(read_table("words.md", heading)) == [member.value for member in words]


def test_words_of_blocks_have_the_right_exit_code() -> None:
    """What the table says of a kind is what the gate does."""
    from mirrorwitness.mirror.gate import BlockKind  # noqa: PLC0415 - only here

    for word, code in read_table("words.md", "Why a version is not served").items():
        kind = BlockKind(word)
        assert int(code) == (4 if kind.is_divergence else 3 if kind.is_unfinished else 0), word


def _literals(function: str, position: int) -> set[str]:
    """Return the constants that a mirror passes to a function at one place."""
    found: set[str] = set()
    for path in (PACKAGE / "mirror").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == function:
                argument = node.args[position]
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: not a constant: document it by hand"
                found.add(str(argument.value))
    return found


def test_kinds_of_evidence() -> None:
    """Those that a divergence of the gate writes, and those of tarballs."""
    from mirrorwitness.mirror.gate import BlockKind  # noqa: PLC0415 - only here

    kinds = {str(kind) for kind in BlockKind if kind.is_divergence} | _literals("_keep_evidence", 1)
    assert set(read_table("words.md", "Kinds of evidence")) == kinds


def test_errors() -> None:
    """Every error that can be named in a report, with the exit code of the one table."""
    classes = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    expected = {
        kind.__name__: str(int(code))
        for kind in [*classes, KeyboardInterrupt]
        if (code := exit_code(kind.__new__(kind))) is not None
    }
    assert read_table("words.md", "Errors") == expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_field_of_every_document_is_explained(name: str) -> None:
    """Each field of the example has a row, and each row a field in the example (or may be absent from this one)."""
    text = re.search(rf"(?s)BEGIN json-{name} -->\n```json\n(.*?)```", read_page("json.md"))
    assert text is not None
    fields = {field: is_leaf for field, is_leaf in _fields(json.loads(text[1])) if field}
    rows = read_table("json.md", name)
    patterns = {row: re.compile(re.sub(r"<[a-z]+>", "[^ ]+", re.escape(row))) for row in rows}
    explained = {field for field in fields if any(pattern.fullmatch(field) for pattern in patterns.values())}
    assert {field for field, is_leaf in fields.items() if is_leaf} - explained == set()
    unseen = {row for row, pattern in patterns.items() if not any(pattern.fullmatch(field) for field in fields)}
    assert {row for row in unseen - MAY_BE_ABSENT if not (name == "status" and FOLLOWING.match(row))} == set()


MAY_BE_ABSENT = {"alarms[]", "warnings[]", "counts.blocked_<kind>", "coverage.counted", "coverage.weak"} | {
    "problems.<package>", "sources[]", "advice[]", "evidence[]", "unfinished.reason", "unfinished.attempts",
    "unfinished.last", "checkpoint.extension[]", "trees[].extension[]",
    "counts.logged", "counts.unvouched", "counts.confused", "counts.proofs",
    "changed.first[]",
}  # fmt: skip
"""Fields that the examples' story does not bring about."""

FOLLOWING = re.compile(r"troubles\[\]|shards\[\]\..*|alarms\[\]\..*")
"""Those of a mirror that follows a feed; tests/unit/cli/test_status_following.py has them."""


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the path of every value, and whether nothing is inside it."""
    yield path, not isinstance(value, dict | list)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner, f"{path}[]")


def test_every_command_with_json_has_an_example() -> None:
    """The document of each ``--json`` is shown and explained."""
    with_json = {
        path.removeprefix("mirrorwitness ").replace(" ", "-")
        for path, command in walk_commands()
        if any(option.name == "is_json" for option in command.params)
    }
    assert with_json <= set(EXAMPLES)
