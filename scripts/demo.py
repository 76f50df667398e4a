"""The main job on real input, from an empty folder: mirror it verifiably, attack it, see who notices. ``make demo``.

What it does, each step with the product's own commands:

1. starts a checksum database and two witnesses on loopback, and a policy that asks for both of them;
2. mirrors the lockfile of ``examples/app`` from the registry that npm is configured for, into ``./demo-mirror``; the
   database logs every version first, and the proof of it lies beside every tarball;
3. runs again and shows that nothing is downloaded; audits every stored byte and proof, without asking anybody;
4. checks the lockfile against the database, as a developer would;
5. serves the mirror inside a network namespace that can reach nothing else, and installs from it with an empty cache;
6. attacks: a mirror that swaps a tarball, a log that forks, a witness that is restored from an old copy. Each is
   caught, and the output says by whom;
7. repairs the mirror from upstream and audits it again.

Exits with 0 only when every step ended as it must. Without npm on the machine the installs are done by checking every
tarball of the lockfile over HTTP instead, and the output says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from demo_watchers import WatcherError, Watchers, shorten

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo-mirror")
LOCKFILE = Path("examples/app/package-lock.json")
VICTIM = "npm/is-number/-/is-number-7.0.0.tgz"
LATER, OTHER = "is-odd@3.0.0", "is-odd@2.0.0"  # what the two histories of the forked log go on with
CANNOT_ISOLATE = 125  # what isolated.py exits with
STARTED = time.monotonic()


class DemoError(Exception):
    """A step did not end as it must."""


def say(text: str) -> None:
    """Print a heading with the time since the start."""
    print(f"\n\033[1m[{time.monotonic() - STARTED:4.1f} s] {text}\033[0m", flush=True)


def mirrorwitness(*arguments: str, expect: int) -> str:
    """Run the product, show what a user would see, and hold it to its exit code."""
    print(f"$ mirrorwitness {shorten(arguments)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "mirrorwitness", *arguments],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if expect else None,
        text=True,
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


def refuses_to_start(start: str, watchers: Watchers) -> str:
    """Start a watcher that must not start, and return why it does not."""
    try:
        watchers.start_witness(start)
    except WatcherError as error:
        print(error, flush=True)
        return str(error)
    raise DemoError(f"the witness {start} started, and must not")


def expect_in(text: str, *words: str) -> None:
    """Hold an output to what it has to say."""
    for word in words:
        if word not in text:
            raise DemoError(f"the output does not say {word!r}")


def build(watchers: Watchers, config: str) -> None:
    """Mirror the example, and look at it in every way that an honest user would."""
    common = ("--config", config)
    say("plan: what would be downloaded")
    mirrorwitness("plan", *common, expect=0)
    say("start a checksum database, and two witnesses that have to cosign it")
    watchers.begin()
    watchers.start_witness("a")
    watchers.start_witness("b")
    watchers.start_log()
    log = ("--sumdb", watchers.flag, "--policy", str(watchers.policy))
    say("sync: log, download, verify, store")
    mirrorwitness("sync", "--once", *common, *log, expect=0)
    say("sync again: nothing changed, nothing is downloaded")
    again = json.loads(mirrorwitness("sync", "--once", "--json", *common, *log, expect=0))
    if again["counts"].get("tarballs_downloaded", 0):
        raise DemoError("the second run downloaded tarballs")
    say("audit: read every byte and every proof again, offline")
    mirrorwitness("audit", *common, *log, expect=0)
    say("check: the lockfile against the database, as a developer would")
    mirrorwitness("check", str(LOCKFILE), *log, "--state", str(DEMO / "client"), expect=0)
    say("install from the mirror, with an empty cache and no other network")
    install()


def swap_a_tarball(watchers: Watchers, config: str) -> None:
    """Attack the mirror."""
    say("attack 1: the mirror swaps a tarball")
    tamper()
    log = ("--sumdb", watchers.flag, "--policy", str(watchers.policy))
    expect_in(mirrorwitness("audit", "--config", config, *log, expect=4), VICTIM)
    swapped = str(DEMO / "storage" / VICTIM)
    mirrorwitness("check", swapped, "--sumdb", watchers.vkey, "--policy", str(watchers.policy), expect=4)
    install(expect_failure=True)
    print("caught by the audit, by anybody's check of the file, and by npm", flush=True)
    say("repair from upstream, and audit again")
    mirrorwitness("audit", "--repair", "--config", config, *log, expect=0)
    mirrorwitness("audit", "--config", config, *log, expect=0)


def fork_the_log(watchers: Watchers) -> None:
    """Attack the log: two histories under one key, one of them shown to our client."""
    say("attack 2: the log forks; one history goes on with one record, the other with another")
    state = ("--state", str(DEMO / "client"))
    policy = ("--policy", str(watchers.policy))
    watchers.copy("sumdb", "sumdb-other")
    watchers.copy("a", "a-backup")
    mirrorwitness("check", LATER, "--sumdb", watchers.flag, *policy, *state, expect=0)
    watchers.stop("sumdb")
    watchers.start_log("sumdb-other", is_witnessed=False)
    fork = watchers.flag
    # Somebody asks the second history for what the first does not have, so that it grows too.
    mirrorwitness("check", OTHER, "--sumdb", fork, "--state", str(DEMO / "somebody"), expect=0)
    mirrorwitness("check", OTHER, "--sumdb", fork, *policy, *state, expect=4)
    print("caught by the policy: no witness cosigns the second history", flush=True)
    report = mirrorwitness("check", OTHER, "--sumdb", fork, *state, expect=4)
    evidence = re.search(r"\S+\.json", report)
    if evidence is None:
        raise DemoError("the client names no evidence")
    mirrorwitness("witness", "evidence", evidence[0], expect=4)
    print("caught by the client, which remembers what it saw; the evidence convinces anybody", flush=True)
    watchers.stop("sumdb")


def restore_a_witness(watchers: Watchers) -> None:
    """Attack a witness: its state goes back to before its latest cosignature."""
    say("attack 3: a witness is restored from an old copy, and could now cosign the second history")
    watchers.stop("a")
    watchers.copy("a-backup/state", "a/state")
    expect_in(refuses_to_start("a", watchers), "exit code 4")
    print("caught by the witness itself: it knows what it published", flush=True)


def run() -> None:
    """Go through all steps."""
    shutil.rmtree(ROOT / DEMO, ignore_errors=True)
    (ROOT / DEMO / "watchers").mkdir(parents=True)
    config = str(DEMO / "mirrorwitness.toml")
    say("configure: the upstream comes from npm's own configuration")
    storage = f"file:{DEMO / 'storage'}"
    mirrorwitness("init", "--storage", storage, "--lockfile", str(LOCKFILE), "--output", config, expect=0)
    registry = re.search(r'^url = "(.+)"$', (ROOT / config).read_text(encoding="utf-8"), re.MULTILINE)
    if registry is None:
        raise DemoError(f"{config} names no registry")
    watchers = Watchers(folder=DEMO / "watchers", registry=registry[1])
    try:
        build(watchers, config)
        swap_a_tarball(watchers, config)
        fork_the_log(watchers)
        restore_a_witness(watchers)
    finally:
        watchers.stop_all()
    say("done: everything was verified, and each attack was caught")
    print(f"mirror          {DEMO / 'storage'}")
    print(f"configuration   {config}")
    print(f"serve it        .venv/bin/mirrorwitness serve --config {config} --listen 127.0.0.1:4873")


if __name__ == "__main__":
    try:
        run()
    except (DemoError, WatcherError) as problem:
        print(f"\ndemo failed: {problem}", file=sys.stderr)
        sys.exit(1)
