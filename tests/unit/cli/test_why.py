"""`status --why` and `release` as an operator uses them: why it is (not) served, and letting it in again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from mirrorwitness.cli.options import Options
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.npm.names import PackageName
from mirrorwitness.run.mirroring import open_mirroring
from tests.fakes.registry import Fault, Signer
from tests.unit.cli.test_commands import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry


@pytest.fixture
def shell(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A mirror of every version of two packages, with all policies at their defaults."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setenv("MIRRORWITNESS_LIMITS_RETRIES", "0")
    shell = Shell(tmp_path, registry)
    sim = registry.sim
    sim.publish("left", "1.0.0", files={"index.js": b"1"})
    sim.publish("left", "2.0.0", files={"index.js": b"2"}, signer=Signer())
    sim.publish("@scope/right", "1.0.0", files={"index.js": b"r"})
    shell.run("init", "left", "@scope/right@^1")
    shell.run("sync", "--once")
    return shell


def why(shell: Shell, subject: str, expect: int = 0) -> dict[str, Any]:
    """Explain offline: nothing may be asked of upstream."""
    before = len(shell.registry.sim.requests)
    document = shell.json("status", "--why", subject, expect=expect)
    assert len(shell.registry.sim.requests) == before
    return document


def test_a_served_version(shell: Shell) -> None:
    """Which rule, which bytes, which signature; a tag means its version; nothing to do."""
    shown = shell.run("status", "--why", "left@2.0.0")
    assert shown.startswith("left@2.0.0  served\n- It is selected by every version (")
    assert "left-2.0.0.tgz" in shown
    assert "signature verified" in shown
    document = why(shell, "left@latest")
    assert (document["subject"], document["state"], document["advice"]) == ("left@2.0.0", "served", [])
    assert document["held"]["place"] == "public"
    assert why(shell, "@scope/right@1.0.0")["rules"] != []


def test_a_served_package(shell: Shell) -> None:
    """How many versions, as of when."""
    document = why(shell, "@scope/right")
    assert document["state"] == "served"
    assert document["sentences"][1].startswith("1 of the 1 versions ever stored are served, as of 20")


def test_row_01_an_unpublished_version(shell: Shell) -> None:
    """Hidden: when we saw it, what upstream said, under which policy, and what to do."""
    shell.registry.sim.unpublish("left", "2.0.0")
    shell.run("sync", "--once")
    document = why(shell, "left@2.0.0")
    assert document["state"] == "hidden"
    (stone,) = document["tombstones"]
    assert (stone["event"], stone["policy"], stone["upstream"]["dist-tags"]) == (
        "unpublished",
        "follow",
        {"latest": "1.0.0"},
    )
    assert any("upstream no longer lists it; policy follow" in sentence for sentence in document["sentences"])
    assert "mirrorwitness release left@2.0.0 --reason TEXT" in document["advice"][0]
    assert "1 are withdrawn (unpublished)." in why(shell, "left")["sentences"]


def test_row_04_quarantine_and_release(shell: Shell) -> None:
    """Explained, released by a person with a reason, served from the first bytes, and the reason is told for ever."""
    shell.registry.sim.replace_by_holder("left")
    shell.run("sync", "--once")
    assert why(shell, "left@2.0.0")["state"] == "quarantined"
    assert not shell.path("npm", "left", "-", "left-2.0.0.tgz").exists()
    released = shell.json("release", "left@2.0.0", "--reason", "taken away by mistake")
    assert released["released"] == [{"version": "left@2.0.0", "served": True}]
    assert shell.json("status")["coverage"]["versions"] == 3  # the holder's, the released one, and the other package's
    document = why(shell, "left@2.0.0")
    assert document["state"] == "held"
    assert any("taken away by mistake" in sentence for sentence in document["sentences"])
    assert shell.path("npm", "left", "-", "left-2.0.0.tgz").exists()
    assert why(shell, "left@1.0.0")["state"] == "quarantined"
    assert "The bytes of 1 are in quarantine." in why(shell, "left")["sentences"]
    shell.run("audit")
    shown = shell.run("release", "left", "--reason", "all of it")
    assert shown.splitlines()[0].split() == ["released", "served", "now"]
    assert why(shell, "left")["state"] == "served"


def test_p8_a_release_without_upstream_is_done_by_the_next_run(shell: Shell) -> None:
    """The release is stored first; the command says that it is not done yet, and the next sync does it."""
    sim = shell.registry.sim
    sim.replace_by_holder("left")
    shell.run("sync", "--once")
    sim.fail("left", Fault.status(500), times=1)
    released = shell.json("release", "left@2.0.0", "--reason", "mistake", expect=5)
    assert released["released"] == [{"version": "left@2.0.0", "served": False}]
    assert "by the next run" in released["problems"]["left"]
    shell.run("sync", "--once")
    assert why(shell, "left@2.0.0")["state"] == "held"


def test_nothing_to_release(shell: Shell) -> None:
    """A mistyped version releases nothing and says how to find out."""
    document = shell.json("release", "left@1.0.0", "--reason", "x", expect=2)
    assert "nothing of it is withdrawn here; `mirrorwitness status --why left@1.0.0`" in document["error"]["message"]
    shell.json("release", "left@", "--reason", "x", expect=2)


def test_purged_and_held(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's policy is applied by the next run; what was purged needs upstream to come back."""
    shell.registry.sim.unpublish("left", "2.0.0")
    monkeypatch.setenv("MIRRORWITNESS_WITHDRAWN", "hold")
    shell.run("sync", "--once")
    assert why(shell, "left@2.0.0")["state"] == "held"
    monkeypatch.setenv("MIRRORWITNESS_WITHDRAWN", "purge")
    shell.run("sync", "--once")
    document = why(shell, "left@2.0.0")
    assert document["state"] == "purged"
    assert document["held"]["sri"].startswith("sha512-")
    assert not shell.path("npm", "left", "-", "left-2.0.0.tgz").exists()
    assert "The bytes of 1 were deleted." in why(shell, "left")["sentences"]
    shell.json("sync", "--once")
    monkeypatch.setenv("MIRRORWITNESS_WITHDRAWN", "keep")
    shell.run("status", expect=2)


def test_unselected_denied_and_unknown(shell: Shell) -> None:
    """What the selection leaves out, what a rule denies, and what nobody ever heard of are three answers."""
    shell.run("sync", "--once", "left@^1")
    assert why(shell, "left@2.0.0")["state"] == "unselected"
    text = (shell.folder / "mirrorwitness.toml").read_text()
    deny = '\n[[deny]]\nname = "left"\nversions = "2.0.0"\nreason = "held malicious code"\n'
    (shell.folder / "mirrorwitness.toml").write_text(text + deny)
    shell.run("sync", "--once")
    document = why(shell, "left@2.0.0")
    assert document["state"] == "blocked"
    assert any("It is denied: held malicious code" in sentence for sentence in document["sentences"])
    assert why(shell, "left@9.9.9", expect=3)["state"] == "unknown"
    assert why(shell, "never-heard", expect=3)["state"] == "unknown"
    assert "Nothing of it was ever stored here." in why(shell, "never-heard", expect=3)["sentences"]


def test_published_and_never_stored(shell: Shell) -> None:
    """A version outside of every rule is known by its time of publication only."""
    shell.registry.sim.publish("@scope/right", "2.0.0", files={"index.js": b"r2"})
    shell.run("sync", "--once")
    document = why(shell, "@scope/right@2.0.0")
    assert (document["state"], document["rules"], document["held"]) == ("unselected", [], None)
    assert any("its tarball was never stored here" in sentence for sentence in document["sentences"])


def test_withheld_and_diverged(shell: Shell) -> None:
    """What is owed says since when and how often; other bytes say where the evidence is, and exit with 4."""
    sim = shell.registry.sim
    sim.publish("left", "3.0.0", files={"index.js": b"3"})
    sim.fail("/left/-/left-3.0.0.tgz", Fault.status(404), times=1)
    shell.run("sync", "--once", expect=3)
    document = why(shell, "left@3.0.0", expect=3)
    assert document["state"] == "withheld"
    assert document["unfinished"]["attempts"] == 1
    assert any("Its bytes could not be had: " in sentence for sentence in document["sentences"])
    assert why(shell, "left", expect=3)["state"] == "served"
    sim.republish("left", "1.0.0", {"index.js": b"other"})
    shell.run("sync", "--once", expect=4)
    document = why(shell, "left@1.0.0", expect=4)
    assert document["state"] == "served"
    assert document["evidence"][0].startswith("evidence/left/1.0.0/")
    assert document["advice"] == ["Compare both sides in the evidence before you change anything."]
    assert why(shell, "left", expect=4)["evidence"] == document["evidence"]


def test_it_works_where_nothing_is_configured(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another machine with nothing but the storage: everything but the rules."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    document = shell.json("status", "--storage", f"file:{tmp_path}/mirror", "--why", "left@1.0.0")
    assert document["state"] == "served"
    assert "Nothing is selected by the configuration" in document["sentences"][0]
    shell.json("status", "--why", "left@1.0.0", expect=2)


def test_row_03_a_deleted_package_is_released(shell: Shell) -> None:
    """Deleted upstream, confirmed and hidden: a release serves it again although every answer is a 404."""
    shell.registry.sim.remove("left")
    trio.run(_confirm_deleted)
    assert why(shell, "left")["state"] == "hidden"
    assert "Upstream deleted the package." in why(shell, "left")["sentences"]
    shell.run("sync", "--once")
    shell.run("release", "left", "--reason", "we depend on it")
    assert why(shell, "left")["state"] == "held"
    shell.run("audit")


async def _confirm_deleted() -> None:
    """Do what a follower does after the second 404."""
    wishes = Options.of({}).load()
    async with open_mirroring(wishes, SilentProgress()) as mirroring:
        record = await Catalogue(mirroring.storage).read_record(PackageName("left"))
        assert record is not None
        await mirroring.packages.withdraw(record)


def test_p5_a_release_of_a_version_that_came_back_with_other_bytes(shell: Shell) -> None:
    """Letting it in again lets only the first bytes in: exit 4, and it is not served."""
    sim = shell.registry.sim
    sim.unpublish("left", "2.0.0")
    shell.run("sync", "--once")
    sim.publish("left", "2.0.0", files={"index.js": b"other"})
    shown = shell.json("release", "left@2.0.0", "--reason", "x", expect=4)
    assert shown["released"] == [{"version": "left@2.0.0", "served": False}]
