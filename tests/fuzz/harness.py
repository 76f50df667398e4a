"""One target under atheris: ``python -m tests.fuzz.harness TARGET [libFuzzer's options and folders]``.

Runs in the fuzzer's own environment. The package is instrumented as it is imported, so nothing of it is above.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main(name: str, arguments: list[str]) -> None:
    """Fuzz one target until its time is over, or something is found."""
    atheris: Any = importlib.import_module("atheris")  # no requirement of anything else
    with atheris.instrument_imports(include=["mirrorwitness"]):
        targets = importlib.import_module("tests.fuzz.targets")
    run = targets.TARGETS[name].run

    def one(body: bytes) -> None:
        run(body)

    atheris.Setup([name, *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
