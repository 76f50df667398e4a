"""``mirrorwitness bundle`` as both operators run it: outside with a registry and a log, inside without any network."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.sumdb.authority import registry_of
from mirrorwitness.tlog.keys import format_signer_key, make_signer_key
from tests.fakes.registry import Signer
from tests.fakes.serving import serve
from tests.fakes.simulated_log import make_registry_record
from tests.fakes.sumdb import LOG_KEY, POLICY, FakeSumdb
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.thread import ThreadedRegistry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[3]
MIRROR_KEY = make_signer_key("mirror.example.org", bytes([31] * 32))


@dataclass
class Shell:
    """Two mirrors in one folder, and what the outer one has around it."""

    folder: Path
    registry: ThreadedRegistry
    log: FakeSumdb

    def run(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stdout, done.stderr

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run(*arguments, "--json", expect=expect)[0])
        assert document["exit_code"] == expect
        return document

    def publish(self, name: str, version: str) -> None:
        """Publish and log a version, and bring the outer mirror up to date."""
        sim = self.registry.sim
        sim.publish(name, version, files={"index.js": version.encode()}, signer=Signer())
        self.log.append(make_registry_record(sim, name, version, registry=registry_of(self.registry.url)))
        self.run("sync", "--once", "left", "@scope/right", "--storage", "file:outside", *self.sumdb)

    @property
    def sumdb(self) -> tuple[str, ...]:
        return "--sumdb", self.log.flag, "--policy", "policy"

    def isolated(self, *arguments: str, expect: int = 0) -> str:
        """Run a command in a network namespace without a network, and hold it to its exit code."""
        command = [sys.executable, str(ROOT / "scripts" / "isolated.py"), sys.executable, "-m", "mirrorwitness"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 125:
            pytest.skip(done.stderr.strip())
        assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("npm_config_registry", registry.url)
    log = FakeSumdb([])
    (tmp_path / "policy").write_bytes(POLICY)
    with run_in_thread(serve(log)) as address:
        log.base = address
        shell = Shell(tmp_path, registry, log)
        registry.sim.publish("@scope/right", "2.0.0", files={"index.js": b"r"}, signer=Signer())
        log.append(make_registry_record(registry.sim, "@scope/right", "2.0.0", registry=registry_of(registry.url)))
        shell.publish("left", "1.0.0")
        yield shell


KEYS = ("--keys", "outside/about/keys.json")
INSIDE = ("--storage", "file:inside", "--sumdb", str(LOG_KEY.verifier), "--policy", "policy")


def test_a_mirror_is_carried_to_where_no_network_is(shell: Shell) -> None:
    """Export, carry, import in an empty network namespace, and again with what is new; a client gets the bytes."""
    first = shell.json("bundle", "export", "--storage", "file:outside", "--out", "one.tar", *shell.sumdb)
    assert (first["counts"]["tarballs"], first["tree_size"], first["previous"]) == (2, 2, None)
    shell.isolated("bundle", "import", "one.tar", *INSIDE, *KEYS, "--dry-run")
    assert not (shell.folder / "inside" / "npm").exists()
    told = shell.isolated("bundle", "import", "one.tar", *INSIDE, *KEYS)
    assert "2 updated, 0 unchanged, 0 unfinished, 0 diverged" in told
    assert "2 verified" in told
    shell.publish("left", "1.1.0")
    second = shell.json(
        "bundle", "export", "--storage", "file:outside", "--out", "two.tar", "--since", first["id"], *shell.sumdb
    )
    assert (second["previous"], second["counts"]["tarballs"]) == (first["id"], 1)
    shell.isolated("bundle", "import", "two.tar", *INSIDE)
    assert "findings    0" in shell.run("audit", "--storage", "file:inside")[0]
    about = json.loads((shell.folder / "inside" / "about" / "mirror.json").read_bytes())
    assert about["sources"] == [f"bundle:{second['id']}"]
    assert about["summary"]["versions"] == 3
    with serving(shell.folder) as address:
        check_installable(shell, address)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the inner mirror as a process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mirrorwitness", "serve", "--storage", "file:inside", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split("listening on ")[1].strip()
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def check_installable(shell: Shell, address: str) -> None:
    """Fetch a document, and every tarball that it names, as a client does."""
    import urllib.request  # noqa: PLC0415

    with urllib.request.urlopen(f"{address}/left", timeout=30) as answer:
        document = json.loads(answer.read())
    assert list(document["versions"]) == ["1.0.0", "1.1.0"]
    for version, manifest in document["versions"].items():
        with urllib.request.urlopen(manifest["dist"]["tarball"], timeout=30) as answer:
            body = answer.read()
        assert body == shell.registry.sim.tarball("left", version)
        digest = base64.b64encode(hashlib.sha512(body).digest()).decode()
        assert manifest["dist"]["integrity"] == f"sha512-{digest}"


def test_exit_codes(shell: Shell) -> None:
    """A gap is 2, a damaged bundle 5, forged bytes 4; something in the way is 2, and nothing is replaced."""
    out = ("bundle", "export", "--storage", "file:outside", *shell.sumdb)
    shell.run(*out, "--out", "one")
    shell.run(*out, "--out", "one", expect=2)
    shell.publish("left", "1.1.0")
    shell.run(*out, "--out", "two.tar", "--since", "one")
    shell.run(*out, "--out", "three.tar", "--since", "0" * 64, expect=2)
    inside = ("bundle", "import", *INSIDE, *KEYS)
    said = shell.json(*inside, "two.tar", expect=2)
    assert said["error"]["kind"] == "ConfigurationError"
    assert "which was never imported here" in said["error"]["message"]
    body = (shell.folder / "two.tar").read_bytes()
    (shell.folder / "cut.tar").write_bytes(body[:-700])
    shell.run(*inside, "cut.tar", expect=5)
    largest = max((shell.folder / "one" / "objects").iterdir(), key=lambda path: path.stat().st_size)
    good = largest.read_bytes()
    largest.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    shell.run(*inside, "one", expect=4)
    shell.run(*inside, "one", "--registry", "https://registry.example", expect=4)
    largest.write_bytes(good)
    shell.run(*inside, "one")
    shell.run(*inside, "two.tar")
    shell.run(*inside, "one", expect=2)
    shell.run("bundle", "import", "missing.tar", "--storage", "file:inside", expect=2)
    shell.run("bundle", "import", "two.tar", "--storage", "file:other", "--policy", "policy", expect=2)


def test_a_signed_bundle_and_one_of_some_packages(shell: Shell) -> None:
    """The mirror's key signs; the importer names it. What is not selected is not carried."""
    (shell.folder / "mirror.key").write_text(format_signer_key(MIRROR_KEY))
    (shell.folder / "mirrorwitness.toml").write_text('storage = "file:outside"\nmirror_key = "mirror.key"\n')
    signed = shell.json("bundle", "export", "left", "--out", "some.tar")
    assert (signed["counts"]["packages"], signed["signer"]) == (1, str(MIRROR_KEY.verifier))
    some = shell.json("bundle", "export", "@scope/*", "--out", "scope")
    assert (some["counts"]["packages"], some["counts"]["tarballs"]) == (1, 1)
    shell.run("bundle", "export", "absent", "--out", "absent.tar", expect=2)
    (shell.folder / "mirrorwitness.toml").unlink()
    inside = ("bundle", "import", "--storage", "file:inside", *KEYS)
    shell.run(*inside, "some.tar", "--signer", str(LOG_KEY.verifier), expect=4)
    said = shell.run(*inside, "some.tar", "--signer", str(MIRROR_KEY.verifier))
    assert "registry signatures alone vouch for the bytes" in said[1]
    assert sorted(path.name for path in (shell.folder / "inside" / "npm").iterdir()) == ["left"]


def test_the_log_cannot_be_read(shell: Shell) -> None:
    """The newest checkpoint that the mirror verified is carried; without any there is no bundle."""
    shell.log.gone.add("/checkpoint")
    said = shell.run("bundle", "export", "--storage", "file:outside", "--out", "one.tar", *shell.sumdb)
    assert "cannot be read, its newest known tree is 2" in said[1]
