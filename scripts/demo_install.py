"""Serve a stored mirror on loopback and install examples/app from it with an empty cache (a step of demo.py).

Usage: demo_install.py STORAGE [--expect-failure]. Exits with 0 where the installation succeeds and the application
runs, or, with --expect-failure, where the client refuses the altered tarball.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "examples" / "app"


def serve(storage: str) -> tuple[subprocess.Popen[str], str]:
    """Start the server and return it with its address, once it accepts requests."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mirrorwitness", "serve", "--storage", f"file:{storage}", "--listen", "127.0.0.1:0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline() if process.stdout is not None else ""
    if "listening on " not in line:
        raise SystemExit(f"the server said {line!r} and ended with {process.wait()}")
    return process, line.split("listening on ")[1].strip()


def install_with_npm(address: str) -> bool:
    """Run npm ci with an empty home and cache, then the application."""
    with tempfile.TemporaryDirectory(prefix="mirrorwitness-demo-") as scratch:
        project = Path(scratch) / "app"
        shutil.copytree(APP, project)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": scratch,
            "npm_config_registry": f"{address}/",
            "npm_config_cache": f"{scratch}/cache",
            "npm_config_fund": "false",
            "npm_config_audit": "false",
            "npm_config_update_notifier": "false",
            "npm_config_fetch_retries": "0",
        }
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
            if name in os.environ:
                environment[name] = os.environ[name]
        print(f"$ npm ci --registry {address}/", flush=True)
        if subprocess.run(["npm", "ci", "--no-progress"], cwd=project, env=environment, check=False).returncode:
            return False
        print("$ node index.js", flush=True)
        return subprocess.run(["node", "index.js"], cwd=project, env=environment, check=False).returncode == 0


def install_without_npm(address: str) -> bool:
    """Fetch every tarball of the lockfile and compare it with the lockfile's integrity."""
    print("npm is not installed here: checking every tarball of the lockfile over HTTP instead", flush=True)
    packages = json.loads((APP / "package-lock.json").read_bytes())["packages"]
    checked = 0
    for path, entry in packages.items():
        if not path or "integrity" not in entry:
            continue
        name = entry.get("name", path.rpartition("node_modules/")[2])
        url = f"{address}/{name}/-/{name.rpartition('/')[2]}-{entry['version']}.tgz"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own loopback server
                digest = hashlib.sha512(answer.read()).digest()
        except urllib.error.HTTPError as error:
            print(f"{name}@{entry['version']}: {error}", flush=True)
            return False
        if f"sha512-{base64.b64encode(digest).decode()}" not in entry["integrity"].split():
            print(f"{name}@{entry['version']}: the bytes are not those of the lockfile", flush=True)
            return False
        checked += 1
    print(f"{checked} tarballs match the lockfile", flush=True)
    return True


def main(arguments: list[str]) -> int:
    """Serve, install, stop."""
    expects_failure = "--expect-failure" in arguments
    server, address = serve(arguments[0])
    try:
        has_npm = shutil.which("npm") is not None and shutil.which("node") is not None
        succeeded = install_with_npm(address) if has_npm else install_without_npm(address)
    finally:
        server.terminate()
        server.wait(timeout=30)
    if expects_failure:
        print("the client refused it" if not succeeded else "THE CLIENT ACCEPTED ALTERED BYTES", flush=True)
        return 1 if succeeded else 0
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
