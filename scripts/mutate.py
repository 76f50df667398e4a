"""Mutation score of pure modules: change the code in every small way, and see whether a test notices.

Works on a copy of the committed and uncommitted files below .cache/mutate, so that nothing here is touched. Each module
is run with its own tests (`OWN_TESTS`), or else with those of its package; survivors are listed with their differences.
Usage: mutate.py [MODULE ...], for example ``npm/integrity mirror/gate``; without arguments, the modules of `CRITICAL`.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".cache" / "mutate"
CRITICAL = (
    "npm/integrity",
    "npm/signatures",
    "npm/splice",
    "npm/packument",
    "mirror/gate",
    "tlog/note",
    "tlog/checkpoint",
    "tlog/cosignature",
    "witness/decision",
    "witness/records",
)
PROPERTIES = {"npm": "tests/property/test_npm_packument.py", "mirror": "tests/property/test_selection.py"}
OWN_TESTS = {
    "tlog/note": ("tlog/test_note",),
    "tlog/checkpoint": ("tlog/test_checkpoint",),
    "tlog/cosignature": ("tlog/test_cosignature",),
    "tlog/merkle": ("tlog/test_merkle", "tlog/test_merkle_checks", "tlog/test_merkle_vectors"),
    "witness/decision": ("witness/test_decision",),
    "witness/records": ("witness/test_records", "witness/test_state", "witness/test_adoption"),
}
"""Modules whose package has too many tests, or too slow ones, to run all of them for each mutant."""

SHOWN = 60
"""Survivors whose difference is printed."""

SETTINGS = """
[tool.mutmut]
source_paths = ["mirrorwitness"]
only_mutate = ["mirrorwitness/{module}.py"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider", "-W", "default"]
also_copy = ["examples"]
use_git_change_detection = false
track_dependencies = false
"""


def prepare(module: str) -> None:
    """Copy what the tests need, and say what to mutate."""
    shutil.rmtree(COPY, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("mirrorwitness", "tests", "examples"):
        shutil.copytree(ROOT / folder, COPY / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, COPY / name)
    with (COPY / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(SETTINGS.format(module=module, tests=json.dumps(choose_tests(module))))


def choose_tests(module: str) -> list[str]:
    """Return the files and folders of tests that are run for each mutant of a module."""
    if module in OWN_TESTS:
        return [f"tests/unit/{name}.py" for name in OWN_TESTS[module]]
    package = module.partition("/")[0]
    return [f"tests/unit/{package}", PROPERTIES[package]]


def run(module: str) -> bool:
    """Mutate one module, print its score and its survivors; return whether the tool worked."""
    prepare(module)
    started = time.monotonic()
    environ = os.environ | {"HYPOTHESIS_PROFILE": "mutate"}
    mutmut = [sys.executable, "-m", "mutmut"]
    done = subprocess.run([*mutmut, "run"], cwd=COPY, env=environ, capture_output=True, text=True, check=False)
    results = subprocess.run(
        [*mutmut, "results", "--all", "true"], cwd=COPY, capture_output=True, text=True, check=False
    )
    found = dict(line.strip().rsplit(": ", 1) for line in results.stdout.splitlines() if ": " in line)
    if not set(found.values()) - {"not checked"}:
        print(done.stdout[-2000:], done.stderr[-3000:], results.stderr[-1000:], file=sys.stderr)
        return False
    counts = collections.Counter(found.values())
    caught = counts["killed"] + counts["timeout"]
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    print(
        f"{module}: {100 * caught / len(found):.1f} % of {len(found)} ({told}; {time.monotonic() - started:.0f} s)",
        flush=True,
    )
    survivors = [name for name, state in found.items() if state not in {"killed", "timeout"}]
    for name in survivors[:SHOWN]:
        shown = subprocess.run([*mutmut, "show", name], cwd=COPY, capture_output=True, text=True, check=False)
        changed = [
            line for line in shown.stdout.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))
        ]
        print(f"  {name}: {found[name]}", *(f"    {line}" for line in changed), sep="\n", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(0 if all(list(map(run, sys.argv[1:] or CRITICAL))) else 1)
