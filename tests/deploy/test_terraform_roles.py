"""The least that each role needs: every command of every role is run, and what it did is held to terraform's files.

The files are data that both read: ``roles.json`` (who reads, writes and removes what) and ``kinds.json`` (what is
public, written under conditions alone, never removed). `tests/real/test_terraform_policies.py` does the same with the
policies that terraform makes of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.deploy.working import Operation, Work, work_of_all_roles

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("terraform roles")]
"""In one process: what all roles do takes 20 s."""

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = ROOT / "terraform" / "modules"
ROLES: Final[dict[str, Any]] = json.loads((MODULES / "identity/decisions/roles.json").read_bytes())
KINDS: Final[dict[str, Any]] = json.loads((MODULES / "bucket/decisions/kinds.json").read_bytes())

NEEDS: Final = {
    "read": {"read"},
    "open": {"read"},
    "stat": {"read"},
    "create": {"read", "write"},
    "swap": {"read", "write"},
    "put": {"read", "write"},
    "delete": {"delete"},
    "list": set[str](),
}
"""What each operation needs in a bucket; whoever writes looks at what is there. Everybody may list."""

UNSEEN: Final = {
    ("mirror", "storage", "write", "state/pause/"): "a host that said 429 or 503 (mirror/pauses.py)",
    ("mirror", "storage", "write", "state/sources/"): "a second source that sent wrong bytes (mirror/sources.py)",
    ("mirror", "storage", "delete", "state/sources/"): "a source that is asked again (mirror/sources.py)",
    ("mirror", "storage", "delete", "about/summary/"): "nodes that are a day out of use (mirror/nodes.py)",
    ("mirror", "storage", "delete", "state/summary/replaced/"): "the same",
    ("mirror", "storage", "delete", "trust/"): "a damaged tile, or more than 512 (sumdb/trust.py)",
    ("sumdb", "storage", "write", "evidence/sumdb/"): "other bytes for a logged version (sumdb/paths.py)",
    ("sumdb", "storage", "write", "state/pause/"): "a host that said 429 or 503 (mirror/pauses.py)",
    ("sumdb", "storage", "delete", "log/tile/"): "partial tiles, once a tile is full (sumdb/pruning.py)",
}
"""What a role may do and did not do here, and what does it."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """What all roles do."""
    return work_of_all_roles(tmp_path_factory.mktemp("roles"))


def part_of(role: str, operation: Operation) -> str:
    """Return which of a role's buckets an operation is about."""
    return "anchor" if operation.storage == "anchor" else "storage"


def is_below(key: str, prefixes: Iterable[str]) -> bool:
    return any(key.startswith(each) if each.endswith("/") else key == each for each in prefixes)


def granted(role: str, part: str, need: str) -> list[str]:
    """Return the prefixes in which a role may do something; whoever writes also reads."""
    grant: dict[str, list[str]] = ROLES[role][part]
    return grant[need] + (grant["write"] if need == "read" else [])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_all_that_it_does(work: Work, role: str) -> None:
    """No command of a role is refused anything, in what was tried."""
    refused = {
        (operation.verb, operation.key)
        for operation in work.done_by(role)
        for need in NEEDS[operation.verb]
        if not is_below(operation.key, granted(role, part_of(role, operation), need))
    }
    assert refused == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_nothing_that_it_never_does(work: Work, role: str) -> None:
    """Every prefix is used here, or it is written down what uses it."""
    done = work.done_by(role)
    unused = {
        (role, part, need, prefix)
        for part, grant in ROLES[role].items()
        for need, prefixes in grant.items()
        for prefix in prefixes
        if not any(
            need in NEEDS[operation.verb] and part_of(role, operation) == part and is_below(operation.key, [prefix])
            for operation in done
        )
    }
    assert unused == {each for each in UNSEEN if each[0] == role}


@pytest.mark.parametrize(
    ("role", "part", "kind"),
    [
        ("mirror", "storage", "mirror"),
        ("sumdb", "storage", "sumdb"),
        ("witness", "storage", "witness"),
        ("witness", "anchor", "anchor"),
    ],
)
def test_a_bucket_refuses_nothing_that_its_role_does(work: Work, role: str, part: str, kind: str) -> None:
    """Where conditions are wanted every write has one, and what is kept is never removed."""
    done = [each for each in work.done_by(role) if part_of(role, each) == part]
    bare = {each.key for each in done if each.verb == "put" and is_below(each.key, KINDS[kind]["conditional"])}
    removed = {each.key for each in done if each.verb == "delete" and is_below(each.key, KINDS[kind]["kept"])}
    assert (bare, removed) == (set(), set())


@pytest.mark.parametrize("part", ["storage", "anchor"])
def test_a_witness_writes_nothing_without_a_condition(work: Work, part: str) -> None:
    """So its bucket can refuse whatever copies an old state back; the probe alone tries what a service does."""
    bare = {each.key for each in work.done_by("witness") if each.verb == "put" and part_of("witness", each) == part}
    assert {key for key in bare if not key.startswith("state/probe/")} == set()
