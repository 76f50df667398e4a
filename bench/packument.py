"""Packuments: our partial reading beside orjson doing the same, in processor time and peak memory.

    python -m bench packument [--sizes 1,10,100] [--rounds 3]

Each measurement runs in a process of its own, so that peaks do not mix; the rounds of the two ways are interleaved and
the best of each counts. Documents are generated: versions of about 8 KB (the mean of large real packuments), a readme,
a time map. Memory is the growth of the peak resident size over the process with the document loaded, as a multiple of
the document's size; for the renderings it includes the output.

Goals (research/F 10, for documents of 2 MB and more): the list at least 5 times and the abbreviated form at least 4
times as fast as orjson, memory at most 1 time the document.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from bench.processes import ROOT
from mirrorwitness.npm.abbreviated import KEPT_MEMBERS, render_abbreviated
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.packument import parse_packument, render_full

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = PackageName("big")
MB = 1_000_000
GOAL_FROM_BYTES = 2 * MB
GOALS = {"list": 5.0, "abbreviated": 4.0}
GOAL_MEMORY = 1.0
SCRIPTS = ("preinstall", "install", "postinstall")


def make_manifest(index: int) -> dict[str, Any]:
    """Make a version object with the members and proportions of a large real package."""
    version = f"{index // 100}.{index % 100}.0"
    modules = {
        f"./m{module}": {
            "types": f"./dist/m{module}.d.ts",
            "import": f"./dist/m{module}.mjs",
            "require": f"./dist/m{module}.cjs",
        }
        for module in range(24)
    }
    return {
        "name": NAME,
        "version": version,
        "description": "A package with many versions, made for measuring",
        "scripts": {"build": "tsc -p .", "test": "jest --ci", **({"postinstall": "node x"} if index % 50 == 0 else {})},
        "repository": {"type": "git", "url": "git+https://registry.example/big.git"},
        "license": "MIT",
        "exports": modules,
        "dependencies": {f"dependency-{number}": f"^{number}.{index % 9}.0" for number in range(60)},
        "devDependencies": {f"development-{number}": f"^{number}.{index % 9}.0" for number in range(90)},
        "engines": {"node": ">=18"},
        "directories": {},
        "_id": f"{NAME}@{version}",
        "_nodeVersion": "20.0.0",
        "_npmUser": {"name": "someone", "email": "someone@registry.example"},
        "maintainers": [{"name": "someone", "email": "someone@registry.example"}],
        "_hasShrinkwrap": False,
        "dist": {
            "integrity": "sha512-" + "A" * 86 + "==",
            "shasum": "b" * 40,
            "tarball": f"https://registry.example/big/-/big-{version}.tgz",
            "fileCount": 100,
            "unpackedSize": 1_000_000 + index,
            "signatures": [{"keyid": "SHA256:x", "sig": "MEUC" + "a" * 92}],
        },
    }


def make_document(size: int) -> bytes:
    """Make a packument of about `size` bytes."""
    each = len(orjson.dumps(make_manifest(5)))
    manifests = [make_manifest(index) for index in range(max(1, size // each))]
    stamp = "2024-01-01T00:00:00.000Z"
    return orjson.dumps({
        "_id": NAME,
        "_rev": "5-abc",
        "name": NAME,
        "dist-tags": {"latest": manifests[-1]["version"]},
        "versions": {manifest["version"]: manifest for manifest in manifests},
        "time": {"created": stamp, "modified": stamp, **{manifest["version"]: stamp for manifest in manifests}},
        "readme": "# big\n" * 2000,
    })


def url(version: str) -> str:
    """Return where the mirror has a tarball."""
    return f"https://mirror.example/big/-/big-{version}.tgz"


def list_ours(body: bytes) -> object:
    """Read what a mirror needs to decide."""
    found = parse_packument(body, name=NAME).versions
    return [(key, entry.tarball, entry.integrity, entry.shasum) for key, entry in found.items()]


def list_orjson(body: bytes) -> object:
    """Read the same four values."""
    return [
        (key, entry["dist"]["tarball"], entry["dist"].get("integrity"), entry["dist"].get("shasum"))
        for key, entry in orjson.loads(body)["versions"].items()
    ]


def full_ours(body: bytes) -> bytes:
    """Read, then write all versions with other tarballs."""
    found = parse_packument(body, name=NAME)
    return render_full(found, versions=found.versions, tarball_url=url)


def full_orjson(body: bytes) -> bytes:
    """Do the same."""
    document = orjson.loads(body)
    for version, entry in document["versions"].items():
        entry["dist"]["tarball"] = url(version)
    return orjson.dumps(document)


def abbreviated_ours(body: bytes) -> bytes:
    """Read, then write the abbreviated form."""
    found = parse_packument(body, name=NAME)
    return render_abbreviated(found, versions=found.versions, tarball_url=url)


def abbreviated_orjson(body: bytes) -> bytes:
    """Do the same."""
    document = orjson.loads(body)
    versions = {}
    for version, entry in document["versions"].items():
        kept = {member: entry[member] for member in KEPT_MEMBERS if entry.get(member)}
        kept["dist"]["tarball"] = url(version)
        if any(script in entry.get("scripts", ()) for script in SCRIPTS):
            kept["hasInstallScript"] = True
        versions[version] = kept
    return orjson.dumps({
        "name": document["name"],
        "dist-tags": document["dist-tags"],
        "versions": versions,
        "modified": document["time"].get("modified"),
    })


TASKS: dict[str, tuple[Callable[[bytes], object], Callable[[bytes], object]]] = {
    "list": (list_ours, list_orjson),
    "full": (full_ours, full_orjson),
    "abbreviated": (abbreviated_ours, abbreviated_orjson),
}


def read_peak() -> int:
    """Return this process's peak resident size in bytes; getrusage would inherit the parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure(task: str, way: int, path: str) -> dict[str, float]:
    """Run one task once in this process."""
    body = Path(path).read_bytes()
    TASKS[task][way](make_document(20_000))
    before = read_peak()
    started = time.process_time()
    result = TASKS[task][way](body)
    seconds = time.process_time() - started
    grown = read_peak() - before
    del result
    return {"ms_per_mb": seconds * 1000 / (len(body) / MB), "memory": grown / len(body)}


def run(task: str, way: int, path: Path) -> dict[str, float]:
    """Run one task once in another process."""
    command = [sys.executable, "-m", "bench", "packument", "--measure", task, str(way), str(path)]
    answer: dict[str, float] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return answer


def compare(task: str, path: Path, rounds: int) -> None:
    """Measure both ways, and print one line that says whether the goals are met."""
    results: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(rounds):
        for way in (0, 1):
            results[way].append(run(task, way, path))
    (ours, memory), (theirs, their_memory) = [
        (min(result["ms_per_mb"] for result in way), max(result["memory"] for result in way)) for way in results
    ]
    size = path.stat().st_size
    missed = theirs / ours < GOALS.get(task, 0) or (task != "full" and memory > GOAL_MEMORY)
    judged = size >= GOAL_FROM_BYTES and task in GOALS
    verdict = f"   goal {GOALS[task]:g}: {'NOT MET' if missed else 'met'}" if judged else ""
    print(
        f"{size / MB:7.1f} MB  {task:12} {ours:6.2f} ms/MB {memory:5.2f}x memory   orjson {theirs:6.2f} ms/MB "
        f"{their_memory:5.2f}x   {theirs / ours:5.1f} times as fast{verdict}"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the comparison, or one measurement for it."""
    parser = argparse.ArgumentParser(prog="python -m bench packument", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="1,10,100", help="document sizes in MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, metavar=("TASK", "WAY", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure[0], int(options.measure[1]), options.measure[2])))
        return 0
    with tempfile.TemporaryDirectory(prefix="mirrorwitness-bench-") as scratch:
        for size in map(int, options.sizes.split(",")):
            path = Path(scratch) / f"packument-{size}.json"
            path.write_bytes(make_document(size * MB))
            for task in TASKS:
                compare(task, path, options.rounds)
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
