"""A mirror whose peer is another mirrorwitness `serve`, as two operators would run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.served_mirror import serve_mirror
from tests.unit.cli.test_commands import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry

CONFIG = """
storage = "file:mirror"
[[registry]]
url = "{authority}"
[[registry]]
url = "{peer}"
role = "peer"
[[select]]
name = ["left", "@scope/right"]
"""


@pytest.fixture
def shell(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A registry with two packages, and the mirror of a friend, which has both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    sim = registry.sim
    sim.publish("left", "1.0.0", files={"index.js": b"1"})
    sim.publish("@scope/right", "1.0.0", files={"index.js": b"r"})
    shell = Shell(tmp_path, registry)
    shell.run("sync", "--once", "--registry", registry.url, "--storage", "file:friend", "left", "@scope/right")
    sim.requests.clear()
    return shell


def configure(shell: Shell, peer: str) -> None:
    text = CONFIG.format(authority=shell.registry.url, peer=peer)
    (shell.folder / "mirrorwitness.toml").write_text(text, encoding="utf-8")


def test_p9_a_mirror_fills_another(shell: Shell) -> None:
    """Documents from the registry, tarballs from the friend's `serve`, both told in the summary; the audit agrees."""
    with serve_mirror("friend") as peer:
        configure(shell, peer)
        document = shell.json("sync", "--once")
    assert [r.target for r in shell.registry.sim.requests if r.target.endswith(".tgz")] == []
    assert document["sources"] == {peer: document["counts"]["bytes_downloaded"]}
    assert document["counts"]["bytes_from_peer"] == document["counts"]["bytes_downloaded"] > 0
    shell.run("audit")


def test_row_08_a_friend_whose_disk_rots_is_dropped_and_released(shell: Shell) -> None:
    """Wrong bytes: exit 4, evidence, complete all the same; a person lets the peer in again by its URL."""
    rotten = shell.folder / "friend" / "npm" / "left" / "-" / "left-1.0.0.tgz"
    rotten.write_bytes(b"x" * rotten.stat().st_size)
    with serve_mirror("friend") as peer:
        configure(shell, peer)
        document = shell.json("sync", "--once", expect=4)
        assert document["evidence"][0].startswith("evidence/left/1.0.0/")
        assert f"mirrorwitness release {peer} --reason TEXT" in document["alarms"][0]
        assert shell.path("npm", "left", "-", "left-1.0.0.tgz").exists()
        shown = shell.json("release", f"{peer}/", "--reason", "a new disk")
        assert (shown["sources"], shown["released"]) == ([peer], [])
        assert shell.json("release", peer, "--reason", "again")["sources"] == []
        shell.run("sync", "--once")


def test_the_first_registry_is_no_peer(shell: Shell) -> None:
    """Somebody has to have the last word on metadata."""
    text = CONFIG.format(authority="http://a.example", peer="http://b.example").replace(
        'url = "http://a.example"', 'url = "http://a.example"\nrole = "peer"'
    )
    (shell.folder / "mirrorwitness.toml").write_text(text, encoding="utf-8")
    message = shell.json("sync", "--once", expect=2)["error"]["message"]
    assert "registry[0].role: the first registry is the authority for metadata" in message
