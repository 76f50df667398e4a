"""Fuzz all targets, each for a short time: ``python -m tests.fuzz [SECONDS [TARGET ...]]``.

Installs atheris into an environment of its own below .cache, and stops with one line where no wheel of it fits this
Python. What it learnt of the code is kept in .cache/fuzz-corpus; what a parser fails on, in .cache/fuzz-found. A found
fault becomes an example of a property in tests/property, or a seed in `tests.fuzz.targets`.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.fuzz.targets import TARGETS

ATHERIS: Final = "atheris==3.0.0"

NEEDED: Final = "import atheris, cryptography, mirrorwitness.errors, msgspec, rfc8785"
"""What an environment from before has to have, to be good enough."""

SECONDS: Final = 60.0
"""For all targets together."""

AT_ONCE: Final = 2
"""Processes; the tests' machines have two cores."""

LONGEST: Final = 16_384
"""Bytes that are tried at most: a note with several ML-DSA-44 signatures fits."""

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"
PYTHON: Final = CACHE / "fuzz" / "bin" / "python"
FOUND: Final = CACHE / "fuzz-found"
_RUNS: Final = re.compile(r"stat::number_of_executed_units: *(\d+)")


def say(*lines: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write("".join([f"{line}\n" for line in lines]))
    sys.stdout.flush()


def install() -> bool:
    """Install the fuzzer, and say whether it is there."""
    if PYTHON.exists() and not run("-c", NEEDED).returncode:
        return True
    venv.create(PYTHON.parents[1], clear=True, with_pip=True)
    for wanted in (["--require-hashes", "-r", "requirements/run.txt"], ["--only-binary", ":all:", ATHERIS]):
        done = run("-m", "pip", "--disable-pip-version-check", "--quiet", "install", *wanted)
        if done.returncode:
            say(f"fuzz: skipped: {wanted[-1]} cannot be installed here: {done.stderr.strip()[-300:]}")
            return False
    return True


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer's Python."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(PYTHON), *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, errors="replace", check=False
    )


def fuzz(name: str, seconds: float) -> bool:
    """Fuzz one target, print what became of it, and return whether all was well."""
    seeds, corpus = CACHE / "fuzz-seeds" / name, CACHE / "fuzz-corpus" / name
    for folder in (seeds, corpus, FOUND):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[name].seeds:
        (seeds / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = {
        "max_total_time": max(1, round(seconds)),
        "max_len": LONGEST,
        "timeout": 10,
        "print_final_stats": 1,
        "artifact_prefix": FOUND / f"{name}-",
    }
    flags = [f"-{key}={value}" for key, value in options.items()]
    done = run("-m", "tests.fuzz.harness", name, *flags, str(corpus), str(seeds))
    runs = _RUNS.search(done.stderr)
    told = f"{name}: {runs.group(1) if runs else 'no'} inputs in {options['max_total_time']} s"
    if done.returncode:
        say(f"{told}: FAILED, see {FOUND.relative_to(ROOT)}", (done.stdout + done.stderr)[-4000:])
    else:
        say(f"{told}, no fault")
    return not done.returncode


def main(arguments: list[str]) -> int:
    """Fuzz what was asked for, or everything."""
    seconds = float(arguments[0]) if arguments else SECONDS
    names = arguments[1:] or list(TARGETS)
    if not install():
        return 0
    with ThreadPoolExecutor(AT_ONCE) as threads:
        each = seconds * min(AT_ONCE, len(names)) / len(names)
        return 0 if all(list(threads.map(partial(fuzz, seconds=each), names))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
