"""The numbers of docs/capacity.md that are counted: requests and operations for each package (STYLE 54)."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.storage.local import LocalStorage
from tests.docs.blocks import ROOT
from tests.fakes.thread import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry

PACKAGES = [f"package-{number:02}" for number in range(20)]
GETS = ("read", "open", "stat")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Operations of all storages in directories: what a bucket would be asked for."""
    found: Counter[str] = Counter()

    def count(name: str) -> Callable[..., Any]:
        original = getattr(LocalStorage, name)

        def counting(self: LocalStorage, *args: Any, **options: Any) -> Any:
            found["GET" if name in GETS else name.upper()] += 1
            return original(self, *args, **options)

        return counting

    for name in (*GETS, "put", "list"):
        monkeypatch.setattr(LocalStorage, name, count(name))
    return found


def sync(counted: Counter[str], registry: ThreadedRegistry, *names: str) -> Counter[str]:
    """Run one sync; return its operations, and under ``upstream`` its requests to the registry."""
    counted.clear()
    before = len(registry.sim.requests)
    words = (
        "sync",
        "--once",
        "--storage",
        "file:mirror",
        "--registry",
        registry.url,
        "--contact",
        "a@b.example",
        *names,
    )
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return counted + Counter(upstream=len(registry.sim.requests) - before)


def publish(registry: ThreadedRegistry, *versions: str) -> None:
    for name in PACKAGES:
        for version in versions:
            registry.sim.publish(name, version, data=f"{name}@{version}".encode())


def row(name: str) -> list[str]:
    """Return the cells of a row of the page."""
    text = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"(?m)^\| {re.escape(name)} \| (.*) \|$", text)
    return str(found).split(" | ")


@pytest.mark.slow
def test_operations_for_each_package(counted: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New, changed, unchanged; the rest does not depend on how many there are, and is what the page says of a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serve_in_thread() as registry:
        publish(registry, "1.0.0", "1.0.1", "1.0.2")
        sync(counted, registry, PACKAGES[0])  # the first run tries the storage, which no later one does
        nothing = sync(counted, registry, PACKAGES[0])
        new = sync(counted, registry, *PACKAGES)
        unchanged = sync(counted, registry, *PACKAGES)
        publish(registry, "1.0.3", "1.0.4")
        changed = sync(counted, registry, *PACKAGES)
    run = Counter({
        kind: int(cell) for kind, cell in zip(("PUT", "GET", "LIST"), row("a run, whatever it finds"), strict=True)
    })
    assert nothing["PUT"] <= run["PUT"]
    assert nothing["GET"] <= run["GET"] + 1
    assert nothing["LIST"] <= run["LIST"]
    count = len(PACKAGES)
    _check(new, row("new, with n versions"), versions=3, packages=count - 1, run=run)
    _check(changed, row("n new versions of one that is there"), versions=2, packages=count, run=run)
    _check(unchanged, row("nothing changed"), versions=0, packages=count, run=run)
    assert (unchanged["upstream"], changed["upstream"]) == (count + 1, 3 * count + 1)


SUMMARY = 8
"""Operations for the summary's few nodes."""


def _check(found: Counter[str], cells: list[str], *, versions: int, packages: int, run: Counter[str]) -> None:
    """Compare what was counted with a row: exact for each package, and at most a run's share beside it."""
    for kind, cell in zip(("PUT", "GET", "LIST"), cells, strict=True):
        each = sum(versions if part == "n" else int(part) for part in cell.split(" + "))
        rest = found[kind] - each * packages
        assert 0 <= rest <= run[kind] + SUMMARY, f"{kind}: {cell} for each, {found[kind]} in all"
