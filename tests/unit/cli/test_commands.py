"""The commands as a user runs them: flags, output, exit codes (P3), against a registry of our own on loopback."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.errors import StorageRefusedError
from tests.fakes.registry import Fault, Signer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry


@dataclass(slots=True)
class Shell:
    """Runs commands in an empty folder with a registry configured the way npm would have it."""

    folder: Path
    registry: ThreadedRegistry

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run a command, hold it to its exit code, and return its standard output."""
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return done.stdout

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """The same with ``--json``: standard output is one document."""
        return json.loads(self.run(*arguments, "--json", expect=expect))  # type: ignore[no-any-return]

    def path(self, *parts: str) -> Path:
        """Return a path inside the mirror."""
        return self.folder.joinpath("mirror", *parts)


@pytest.fixture
def shell(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("npm_config_registry", registry.url)
    return Shell(tmp_path, registry)


@pytest.fixture
def filled(shell: Shell) -> Shell:
    """Three packages upstream, and a configuration that selects two of them."""
    sim = shell.registry.sim
    sim.publish("left", "1.0.0", files={"index.js": b"1"})
    sim.publish("left", "2.0.0", files={"index.js": b"2"})
    sim.publish("@scope/right", "1.0.0", files={"index.js": b"r"}, signer=Signer())
    sim.publish("other", "1.0.0", files={"index.js": b"o"})
    shell.run("init", "left", "@scope/right@^1")
    return shell


def test_init_takes_the_upstream_from_npms_configuration(shell: Shell) -> None:
    """The product has no built-in upstream; the file that init writes reads back and names npm's registry."""
    shown = shell.run("init", "left", "--storage", "file:mirror")
    assert shown == "wrote mirrorwitness.toml; the registry comes from environment\n"
    text = (shell.folder / "mirrorwitness.toml").read_text()
    assert f'url = "{shell.registry.url}' in text
    assert 'storage = "file:mirror"' in text


def test_init_never_overwrites_without_force(shell: Shell) -> None:
    """Somebody's configuration is lost only when they say so."""
    (shell.folder / "mirrorwitness.toml").write_text("# mine\n")
    shell.run("init", "left", expect=2)
    assert (shell.folder / "mirrorwitness.toml").read_text() == "# mine\n"
    shell.run("init", "left", "--force")
    assert (shell.folder / "mirrorwitness.toml").read_text() != "# mine\n"


def test_init_dry_run_prints_and_writes_nothing(shell: Shell) -> None:
    """`--dry-run` shows the very file."""
    text = shell.run("init", "left", "--dry-run")
    assert text.startswith("# mirrorwitness")
    assert list(shell.folder.iterdir()) == []
    assert shell.json("init", "left", "--dry-run")["text"] == text


def test_init_refuses_a_storage_that_is_none(shell: Shell) -> None:
    """A wrong address is told at once, not by the first sync."""
    document = shell.json("init", "left", "--storage", "ftp://x", expect=2)
    assert document["error"]["kind"] == "ConfigurationError"
    assert list(shell.folder.iterdir()) == []


def test_whoever_only_reads_may_audit_everything(filled: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counters of what is served cannot be written, and stay as they were; what was found is said all the same."""
    filled.json("sync", "--once")

    async def refuse(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise StorageRefusedError("state/coverage.json: access denied")

    monkeypatch.setattr("mirrorwitness.run.jobs.CoverageStore.replace", refuse)
    assert filled.json("audit")["findings"] == []


def test_paths_in_a_configuration_are_relative_to_it(filled: Shell) -> None:
    """A scheduled job may run anywhere and still finds its mirror."""
    inner = filled.folder / "inner"
    inner.mkdir()
    filled.run("init", "left", "--storage", "file:inner/mirror", "--output", "inner/mirrorwitness.toml")
    os.chdir(inner)
    filled.run("sync", "--once", "--config", str(inner / "mirrorwitness.toml"))
    assert (inner / "mirror/npm/left/packument.json").exists()


def test_plan_prints_what_sync_would_do_and_writes_nothing(filled: Shell) -> None:
    """Packages, versions, files and bytes, exact where asked for; no tarball is downloaded."""
    document = filled.json("plan", "--exact")
    totals = document["totals"]
    assert (totals["packages"], totals["versions"], totals["files_to_fetch"]) == (2, 3, 3)
    assert totals["files_estimated"] == 0
    assert document["exit_code"] == 0
    assert not filled.path("npm").exists()
    assert not [
        request for request in filled.registry.sim.requests if request.method == "GET" and ".tgz" in request.target
    ]
    table = filled.run("plan")
    assert "left" in table
    assert "estimated" in table


def test_plan_says_what_is_blocked_and_why(filled: Shell) -> None:
    """A version that is not there is a gap: named, with exit code 3, as sync would exit."""
    document = filled.json("plan", "left@9.9.9", "absent", expect=3)
    by_name = {package["name"]: package for package in document["packages"]}
    assert by_name["left"]["blocked"][0]["kind"] == "missing"
    assert "absent" in by_name["absent"]["problem"]
    assert "9.9.9" in filled.run("plan", "left@9.9.9", expect=3)


def test_sync_status_audit_of_a_clean_mirror(filled: Shell) -> None:
    """The main job: everything is stored, counted, and audits clean; a second run downloads nothing."""
    first = filled.json("sync", "--once")
    assert first["counts"]["tarballs_downloaded"] == 3
    assert first["exit_code"] == 0
    second = filled.json("sync", "--once")
    assert second["counts"]["tarballs_downloaded"] == 0
    assert second["counts"]["packages_unchanged"] == 2
    status = filled.json("status")
    assert status["last_run"]["counts"]["versions"] == 3
    assert status["last_run"]["storage_check"]
    assert status["unfinished_total"] == 0
    audit = filled.json("audit")
    assert audit["counts"]["tarballs"] == 3
    assert audit["findings"] == []
    assert "3 versions" in filled.run("sync", "--once")
    assert "3 versions" in filled.run("status")
    assert filled.json("audit", "--sample", "1")["counts"]["packages"] == 1
    about = json.loads(filled.path("about/mirror.json").read_bytes())
    assert about["coverage"]["versions"] == 3


def test_a_changed_selection_is_picked_up_by_the_next_run(filled: Shell) -> None:
    """No flag is needed: new packages come, deselected versions leave the documents."""
    filled.run("sync", "--once")
    filled.run("sync", "--once", "left@^2", "other", "--storage", "file:mirror")
    served = json.loads(filled.path("npm/left/packument.json").read_bytes())
    assert sorted(served["versions"]) == ["2.0.0"]
    assert served["dist-tags"] == {"latest": "2.0.0"}
    assert filled.path("npm/other/packument.json").exists()


def test_sync_exits_with_3_and_status_says_why(filled: Shell) -> None:
    """P3: one withheld tarball makes the run partial; the package is still served without that version."""
    filled.registry.sim.fail("/left/-/left-2.0.0.tgz", Fault.status(404), times=99)
    document = filled.json("sync", "--once", expect=3)
    assert document["problems"][0]["name"] == "left"
    assert "left@2.0.0" in document["problems"][0]["reason"]
    served = json.loads(filled.path("npm/left/packument.json").read_bytes())
    assert sorted(served["versions"]) == ["1.0.0"]
    status = filled.json("status", expect=3)
    assert [note["name"] for note in status["unfinished"]] == ["left"]
    assert "left" in filled.run("status", expect=3)
    filled.registry.sim.heal()
    filled.run("sync", "--once")
    assert filled.json("status")["unfinished_total"] == 0


def test_p1_wrong_bytes_are_divergence_and_never_visible(filled: Shell) -> None:
    """P1, P3: exit 4, evidence kept, the other versions served."""
    filled.registry.sim.replace_bytes("left", "2.0.0", b"other bytes")
    document = filled.json("sync", "--once", expect=4)
    assert len(document["evidence"]) == 1
    assert filled.path(document["evidence"][0]).exists()
    assert not filled.path("npm/left/-/left-2.0.0.tgz").exists()
    assert CliRunner().invoke(main, ("sync", "--once")).stderr.count("evidence: ") == 1
    assert sorted(json.loads(filled.path("npm/left/packument.json").read_bytes())["versions"]) == ["1.0.0"]


def test_audit_names_an_altered_tarball_and_repairs_it(filled: Shell) -> None:
    """One changed byte: exit 4 and its key; repaired from upstream it is exit 0 and clean."""
    filled.run("sync", "--once")
    victim = filled.path("npm/left/-/left-1.0.0.tgz")
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    document = filled.json("audit", expect=4)
    assert [(f["kind"], f["key"]) for f in document["findings"]] == [("wrong-bytes", "npm/left/-/left-1.0.0.tgz")]
    assert "npm/left/-/left-1.0.0.tgz" in filled.run("audit", expect=4)
    assert filled.json("audit", "--repair")["repaired"] == ["left"]
    assert filled.json("audit")["findings"] == []


def test_audit_that_cannot_repair_says_so(filled: Shell) -> None:
    """Exit 4 stays until the mirror is right again."""
    filled.run("sync", "--once")
    filled.path("npm/left/-/left-1.0.0.tgz").unlink()
    filled.registry.sim.fail("left", Fault.status(403), times=99)
    document = filled.json("audit", "--repair", expect=4)
    assert list(document["unrepaired"]) == ["left"]
    assert "not repaired left" in filled.run("audit", "--repair", expect=4)


def test_an_upstream_that_refuses_everything_is_exit_5(filled: Shell) -> None:
    """P3: nothing could be done, and it is the upstream's doing."""
    for name in ("left", "@scope/right"):
        filled.registry.sim.fail(name, Fault.status(403), times=99)
    assert filled.json("sync", "--once", expect=5)["counts"]["packages_upstream_failed"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sync", "--once", "--storage", "nowhere"), "nowhere"),
        (("sync",), "--once"),
        (("plan", "--latest", "2"), "--latest"),
        (("plan", "@scope/*"), "names-from"),
        (("plan", "--lockfile", "absent.json"), "absent.json"),
        (("sync", "--once", "--config", "absent.toml"), "absent.toml"),
        (("serve", "--listen", "nonsense"), "nonsense"),
        (("plan", "left@not a range!"), "left"),
    ],
)
def test_bad_input_is_exit_2_names_the_thing_and_changes_nothing(
    filled: Shell, arguments: tuple[str, ...], said: str
) -> None:
    """A mistake of the operator's costs nothing but the message."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not filled.path("npm").exists()


@pytest.mark.parametrize("place", ["file", "environment"])
def test_serve_listens_where_the_configuration_says(filled: Shell, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Without the flag, the option and its variable count; an unusable value shows that they are read."""
    if place == "file":
        (filled.folder / "mirrorwitness.toml").write_text('storage = "file:mirror"\n[serve]\nlisten = "nonsense"\n')
    else:
        monkeypatch.setenv("MIRRORWITNESS_SERVE_LISTEN", "nonsense")
    done = CliRunner().invoke(main, ("serve",))
    assert done.exit_code == 2
    assert "nonsense" in done.stderr


def test_a_half_written_lockfile_is_named_with_its_line(filled: Shell) -> None:
    """The error says file, line and reason."""
    (filled.folder / "package-lock.json").write_text('{\n  "lockfileVersion": 3,\n  "packages": {')
    document = filled.json("plan", "--lockfile", "package-lock.json", expect=2)
    assert document["error"]["kind"] == "LockfileError"
    assert "package-lock.json" in document["error"]["message"]
    assert "line 3" in document["error"]["message"]


def test_names_and_globs_with_a_list(filled: Shell) -> None:
    """A glob chooses from the list that was given."""
    (filled.folder / "names.txt").write_text("left\n@scope/right\nother\n")
    document = filled.json("plan", "@scope/*", "o*", "--names-from", "names.txt")
    assert [package["name"] for package in document["packages"]] == ["@scope/right", "other"]


def test_latest_takes_the_newest_versions(filled: Shell) -> None:
    """`--latest 1` is the newest version of every named package without a range."""
    document = filled.json("plan", "left", "--latest", "1")
    assert document["packages"][0]["versions"] == ["2.0.0"]


def test_sync_dry_run_is_the_plan(filled: Shell) -> None:
    """Nothing is written."""
    assert "to fetch" in filled.run("sync", "--once", "--dry-run")
    assert not filled.path("npm").exists()


def test_status_before_the_first_run(filled: Shell) -> None:
    """It says what to do, and exits with 3 because nothing is complete."""
    assert "none yet" in filled.run("status", expect=3)
    assert filled.json("status", expect=3)["last_run"] is None


def test_store_check_of_a_directory(filled: Shell) -> None:
    """A directory is good for every role, and nothing is left behind."""
    document = filled.json("store-check", "file:checked", "--short")
    assert document["exit_code"] == 0
    assert "as a mirror" in filled.run("store-check", "file:checked", "--short")
    left = [path for path in (filled.folder / "checked").rglob("*") if path.is_file() and "probe" in str(path)]
    assert left == []


def test_signatures_are_counted_and_required(filled: Shell) -> None:
    """Every report says how many versions were signed, unsigned, refused."""
    counts = filled.json("sync", "--once")["counts"]
    assert counts["signature_verified"] == 1
    assert counts["signature_unsigned"] == 2
    strict = filled.json("sync", "--once", "--signatures", "require")
    assert strict["counts"]["blocked_unsigned"] == 2
    assert not filled.path("npm/left/packument.json").exists()


def test_a_token_is_read_from_its_variable_and_never_shown(filled: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that names the variable of its token gets it; without the variable the run does not start."""
    text = (filled.folder / "mirrorwitness.toml").read_text()
    marker = f'url = "{filled.registry.url}'
    place = text.index("\n", text.index(marker)) + 1
    (filled.folder / "mirrorwitness.toml").write_text(f'{text[:place]}token_env = "SECRET_TOKEN"\n{text[place:]}')
    message = filled.json("sync", "--once", expect=2)["error"]["message"]
    assert "SECRET_TOKEN" in message
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t")
    shown = filled.run("sync", "--once")
    assert "s3cr3t" not in shown
    assert {request.headers.get("authorization") for request in filled.registry.sim.requests} == {"Bearer s3cr3t"}
