"""A mirror with a checksum database as an operator runs it: flags, exit codes (P3), files, views, over HTTP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.authority import registry_of
from mirrorwitness.sumdb.records import Event, Record
from tests.fakes.registry_server import Fault
from tests.fakes.serving import serve
from tests.fakes.sumdb import POLICY, FakeSumdb
from tests.fakes.thread import run_in_thread
from tests.fault.invariants import check_invariants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.registry import RegistrySimulator
    from tests.fakes.thread import ThreadedRegistry

PROOF = "npm/left/-/left-1.0.0.tgz.tlog-proof"


def record_of(sim: RegistrySimulator, name: str, version: str, **changes: Any) -> Record:
    """Return what an honest database says of a version."""
    dist = sim.packument(name)["versions"][version]["dist"]
    body = sim.tarball(name, version)
    values: dict[str, Any] = {
        "registry": registry_of(sim.base),
        "name": PackageName(name),
        "version": Version(version),
        "integrity": dist["integrity"],
        "tarball_size": len(body),
        "shasum": hashlib.sha1(body, usedforsecurity=False).hexdigest(),
        "manifest": None,
        "tarball_manifest": None,
        "published": None,
        "signatures": (),
        "attestations": None,
        "event": Event.PUBLISH,
    }
    return Record(**{**values, **changes})


@dataclass(slots=True)
class Shell:
    """Runs commands in an empty folder, with a registry and a checksum database."""

    folder: Path
    registry: ThreadedRegistry
    sumdb: FakeSumdb
    flags: list[str] = field(default_factory=list[str])

    def run(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run a command with ``--json``, hold it to its exit code, and return its document."""
        done = CliRunner().invoke(main, [*arguments, *self.flags, "--json"])
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def log(self, name: str, *versions: str) -> None:
        """Log versions of the registry."""
        self.sumdb.append(*(record_of(self.registry.sim, name, version) for version in versions))

    def path(self, key: str) -> Path:
        return self.folder / "mirror" / key

    def served(self) -> list[str]:
        return list(json.loads(self.path("npm/left/packument.json").read_bytes())["versions"])

    def objects(self) -> dict[str, bytes]:
        root = self.folder / "mirror"
        files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def shell(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("npm_config_registry", registry.url)
    registry.sim.publish("left", "1.0.0")
    registry.sim.publish("left", "1.1.0")
    (tmp_path / "policy.txt").write_bytes(POLICY)
    (tmp_path / "mirrorwitness.toml").write_text('select = [{name = "left"}]\n')
    made = Shell(tmp_path, registry, FakeSumdb(()))
    made.log("left", "1.0.0", "1.1.0")
    with run_in_thread(serve(made.sumdb)):
        made.flags = ["--storage", "file:mirror?fsync=off", "--sumdb", made.sumdb.flag, "--policy", "policy.txt"]
        yield made


def test_sync_and_audit_against_a_checksum_database(shell: Shell) -> None:
    """Everything is vouched for, proofs lie beside the tarballs, and the audit checks them without the database."""
    document = shell.run("sync", "--once", "left")
    assert (document["counts"]["logged"], document["alarms"]) == (2, [])
    check_invariants(shell.objects(), proven=True)
    shell.sumdb.fail("/checkpoint", Fault.status(503))
    audit = shell.run("audit")
    assert (audit["counts"]["proofs"], audit["findings"]) == (2, [])


def test_a_version_that_is_not_logged_is_partial(shell: Shell) -> None:
    """`plan` says it before, `sync` withholds it with exit 3, `status --why` explains; once logged it comes."""
    shell.registry.sim.publish("left", "2.0.0")
    plan = shell.run("plan", "left", expect=3)
    assert plan["packages"][0]["blocked"][0]["kind"] == "unvouched"
    shell.run("sync", "--once", "left", expect=3)
    assert shell.served() == ["1.0.0", "1.1.0"]
    flags, shell.flags = shell.flags, shell.flags[:2]
    why = shell.run("status", "--why", "left@2.0.0", expect=3)
    assert any("the log does not have it yet" in sentence for sentence in why["sentences"])
    shell.flags = flags
    shell.log("left", "2.0.0")
    shell.run("sync", "--once", "left")
    assert shell.served() == ["1.0.0", "1.1.0", "2.0.0"]


def test_attack_the_log_says_another_integrity(shell: Shell) -> None:
    """Exit 4, the evidence is named, and nothing of the version is served."""
    shell.registry.sim.republish("left", "1.1.0", {"index.js": b"evil"})
    document = shell.run("sync", "--once", "left", expect=4)
    (key,) = document["evidence"]
    evidence = json.loads(shell.path(key).read_bytes())
    assert (evidence["kind"], evidence["upstream"]["version"]) == ("contradicted", "1.1.0")
    assert shell.served() == ["1.0.0"]
    assert not shell.path("npm/left/-/left-1.1.0.tgz").exists()


def test_attack_another_registrys_record(shell: Shell) -> None:
    """A log of several registries has these bytes under this name, of somebody else: exit 4, and what to do."""
    sim = shell.registry.sim
    sim.publish("left", "2.0.0")
    shell.sumdb.append(record_of(sim, "left", "2.0.0", registry="other.example"))
    document = shell.run("sync", "--once", "left", expect=4)
    assert shell.served() == ["1.0.0", "1.1.0"]
    assert json.loads(shell.path(document["evidence"][0]).read_bytes())["kind"] == "contradicted"
    flags, shell.flags = shell.flags, shell.flags[:2]
    reason = " ".join(shell.run("status", "--why", "left@2.0.0", expect=4)["sentences"])
    shell.flags = flags
    assert "the log's record is of other.example, expected one of 127.0.0.1:" in reason
    assert "say whose with sumdb.registry" in reason
    (shell.folder / "mirrorwitness.toml").write_text('select = [{name = "left"}]\n[sumdb]\nregistry = "any"\n')
    shell.run("sync", "--once", "left")
    assert (shell.served(), shell.run("audit")["findings"]) == (["1.0.0", "1.1.0", "2.0.0"], [])
    home = f'select = [{{name = "left"}}]\n[[registry]]\nurl = "{sim.base}"\n'
    (shell.folder / "mirrorwitness.toml").write_text(home)
    (finding,) = shell.run("audit", expect=4)["findings"]
    assert (finding["kind"], finding["version"]) == ("wrong-proof", "2.0.0")


def test_attack_the_log_forks(shell: Shell) -> None:
    """The next run stops before it does anything, with exit 4, and names evidence that anybody can check."""
    shell.run("sync", "--once", "left")
    before = shell.objects()
    sim = shell.registry.sim
    sim.publish("left", "9.0.0")
    shell.sumdb.become(shell.sumdb.fork(1, record_of(sim, "left", "9.0.0"), record_of(sim, "left", "1.1.0")))
    document = shell.run("sync", "--once", "left", expect=4)
    assert document["error"]["kind"] == "ForkError"
    new = shell.objects().keys() - before.keys()
    (key,) = (name for name in new if name.startswith("evidence/"))
    assert key in document["error"]["message"]
    assert shell.served() == ["1.0.0", "1.1.0"]
    done = CliRunner().invoke(main, ["witness", "evidence", str(shell.path(key))])
    assert (done.exit_code, "signed two trees that contradict each other" in done.output) == (4, True)


def test_attack_a_proof_is_changed_by_one_bit(shell: Shell) -> None:
    """The audit exits with 4 and names it; a repair fetches a sound one."""
    shell.run("sync", "--once", "left")
    body = shell.path(PROOF).read_bytes()
    shell.path(PROOF).write_bytes(body[:60] + bytes([body[60] ^ 4]) + body[61:])
    audit = shell.run("audit", expect=4)
    assert [(finding["kind"], finding["key"]) for finding in audit["findings"]] == [("wrong-proof", PROOF)]
    assert shell.run("audit", "--repair")["repaired"] == ["left"]
    assert shell.path(PROOF).read_bytes() == body


def test_a_missing_proof_is_partial(shell: Shell) -> None:
    """Exit 3; with the database down a repair changes nothing and exits with 5, and later it makes it good."""
    shell.run("sync", "--once", "left")
    body = shell.path(PROOF).read_bytes()
    shell.path(PROOF).unlink()
    audit = shell.run("audit", expect=3)
    assert audit["counts"]["findings_missing-proof"] == 1
    shell.sumdb.fail("/checkpoint", Fault.status(404), times=1)
    shell.run("audit", "--repair", expect=5)
    assert shell.served() == ["1.0.0", "1.1.0"]
    assert shell.run("audit", "--repair")["repaired"] == ["left"]
    assert shell.path(PROOF).read_bytes() == body


def test_a_checksum_database_that_is_down_withholds_everything_new(shell: Shell) -> None:
    """Exit 3, an alarm, nothing served that nobody vouched for; with `warn` it is served and told."""
    shell.sumdb.fail("/checkpoint", Fault.status(404))
    document = shell.run("sync", "--once", "left", expect=3)
    assert document["counts"]["blocked_unvouched"] == 2
    assert "cannot be read" in document["alarms"][0]
    assert not shell.path("npm/left/packument.json").exists()
    (shell.folder / "mirrorwitness.toml").write_text('select = [{name = "left"}]\n[sumdb]\ncheck = "warn"\n')
    document = shell.run("sync", "--once", "left")
    assert document["counts"]["unvouched"] == 2
    assert shell.served() == ["1.0.0", "1.1.0"]


def test_the_file_says_the_same_as_the_flags(shell: Shell) -> None:
    """`[sumdb]` with keys, address and a policy beside the file; without a policy the output says so."""
    vkey, _, url = shell.sumdb.flag.partition("=http")
    lines = ["[sumdb]", f'url = "http{url}"', f'vkeys = ["{vkey}"]']
    config = shell.folder / "mirrorwitness.toml"
    config.write_text("\n".join([*lines, 'policy = "policy.txt"', ""]))
    shell.flags = ["--storage", "file:mirror?fsync=off"]
    assert shell.run("sync", "--once", "left")["alarms"] == []
    config.write_text("\n".join([*lines, ""]))
    (alarm,) = shell.run("sync", "--once", "left")["alarms"]
    assert alarm.startswith("no witness vouches for the log")


def test_a_policy_of_another_log_is_refused(shell: Shell) -> None:
    """Exit 2 and a sentence that says what to do, before anything is asked."""
    other = "log other.example+d5a0a4d0+AQ==\nquorum none\n"
    (shell.folder / "policy.txt").write_text(other)
    document = shell.run("sync", "--once", "left", expect=2)
    assert document["error"]["kind"] == "ConfigurationError"
    assert "policy.txt" in document["error"]["message"]
