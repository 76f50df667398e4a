"""The main job on real input, from an empty folder: mirror, audit, install, tamper, be caught. ``make demo`` runs it.

What it does, each step with the product's own commands:

1. mirrors the lockfile of ``examples/app`` from the registry that npm is configured for, into ``./demo-mirror``;
2. runs again and shows that nothing is downloaded;
3. audits every stored byte;
4. serves the mirror inside a network namespace that can reach nothing else, and installs from it with an empty cache;
5. changes one byte of one stored tarball: the audit names it, and ``npm ci`` cannot be fooled;
6. repairs the mirror from upstream and audits it again.

Exits with 0 only when every step ended as it must. Without npm on the machine the installs are done by checking every
tarball of the lockfile over HTTP instead, and the output says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo-mirror")
LOCKFILE = Path("examples/app/package-lock.json")
VICTIM = "npm/is-number/-/is-number-7.0.0.tgz"
CANNOT_ISOLATE = 125  # what isolated.py exits with
STARTED = time.monotonic()


class DemoError(Exception):
    """A step did not end as it must."""


def say(text: str) -> None:
    """Print a heading with the time since the start."""
    print(f"\n\033[1m[{time.monotonic() - STARTED:4.1f} s] {text}\033[0m", flush=True)


def mirrorwitness(*arguments: str, expect: int) -> str:
    """Run the product, show what a user would see, and hold it to its exit code."""
    print(f"$ mirrorwitness {' '.join(arguments)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "mirrorwitness", *arguments], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, end="", flush=True)
    if done.returncode != expect:
        raise DemoError(f"`mirrorwitness {arguments[0]}` exited with {done.returncode} instead of {expect}")
    return done.stdout


def install(*, expect_failure: bool = False) -> None:
    """Serve the mirror and install from it, with no network but the mirror's where the kernel allows that."""
    inner = [sys.executable, "scripts/demo_install.py", str(DEMO / "storage")]
    if expect_failure:
        inner.append("--expect-failure")
    done = subprocess.run([sys.executable, "scripts/isolated.py", *inner], cwd=ROOT, check=False)
    if done.returncode == CANNOT_ISOLATE:
        print("(no network namespace here: npm runs with a proxy that leads nowhere instead)", flush=True)
        environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
        environment["NO_PROXY"] = "127.0.0.1"
        done = subprocess.run(inner, cwd=ROOT, check=False, env=environment)
    if done.returncode:
        raise DemoError("the installation did not end as it must")


def tamper() -> None:
    """Change one byte in the middle of one stored tarball, behind the mirror's back."""
    path = ROOT / DEMO / "storage" / VICTIM
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.chmod(0o644)
    path.write_bytes(data)
    print(f"changed byte {len(data) // 2} of {VICTIM}", flush=True)


def run() -> None:
    """Go through all steps."""
    shutil.rmtree(ROOT / DEMO, ignore_errors=True)
    (ROOT / DEMO).mkdir()
    config = str(DEMO / "mirrorwitness.toml")
    common = ("--config", config)
    say("configure: the upstream comes from npm's own configuration")
    storage = f"file:{DEMO / 'storage'}"
    mirrorwitness("init", "--storage", storage, "--lockfile", str(LOCKFILE), "--output", config, expect=0)
    say("plan: what would be downloaded")
    mirrorwitness("plan", *common, expect=0)
    say("sync: download, verify, store")
    mirrorwitness("sync", "--once", *common, expect=0)
    say("sync again: nothing changed, nothing is downloaded")
    again = json.loads(mirrorwitness("sync", "--once", "--json", *common, expect=0))
    if again["counts"].get("tarballs_downloaded", 0):
        raise DemoError("the second run downloaded tarballs")
    say("audit: read every byte again")
    mirrorwitness("audit", *common, expect=0)
    say("install from the mirror, with an empty cache and no other network")
    install()
    say("attack: one byte of one stored tarball changes")
    tamper()
    report = mirrorwitness("audit", *common, expect=4)
    if VICTIM not in report:
        raise DemoError(f"the audit did not name {VICTIM}")
    install(expect_failure=True)
    say("repair from upstream, and audit again")
    mirrorwitness("audit", "--repair", *common, expect=0)
    mirrorwitness("audit", *common, expect=0)
    say("done: everything was verified, and the attack was caught by the audit and by npm")
    print(f"mirror          {DEMO / 'storage'}")
    print(f"configuration   {config}")
    print(f"serve it        .venv/bin/mirrorwitness serve --config {config} --listen 127.0.0.1:4873")


if __name__ == "__main__":
    try:
        run()
    except DemoError as problem:
        print(f"\ndemo failed: {problem}", file=sys.stderr)
        sys.exit(1)
