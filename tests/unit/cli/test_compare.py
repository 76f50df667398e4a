"""Mirrors described, signed, summarised and compared, with the commands as a user runs them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.cli.compare import _show_progress as show_progress
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.note import open_note
from tests.fakes.registry import Fault
from tests.fakes.served_mirror import serve_mirror

if TYPE_CHECKING:
    from tests.fakes.thread import ThreadedRegistry


def run(*arguments: str, expect: int = 0) -> str:
    """Run a command, hold it to its exit code, and return its standard output."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
    return done.stdout


def refusal(*arguments: str, expect: int) -> str:
    """Run a command that fails, and return what it says."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> ThreadedRegistry:
    """Three packages upstream, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", registry.url)
    for name in ("left", "right", "third"):
        for version in ("1.0.0", "2.0.0"):
            registry.sim.publish(name, version, files={"index.js": f"{name} {version}".encode()})
    return registry


def sync(mirror: str, *names: str, expect: int = 0) -> None:
    run("sync", "--once", "--storage", f"file:{mirror}", *names, expect=expect)


def about(mirror: str) -> dict[str, Any]:
    return json.loads(Path(mirror, "about/mirror.json").read_bytes())  # type: ignore[no-any-return]


def entries(mirror: str) -> str:
    """Return the root of a small mirror's summary: all its entries."""
    root = about(mirror)["summary"]["root"]
    return Path(mirror, "about/summary", root[:2], root).read_text()


def test_two_mirrors_of_the_same_packages_are_equal(folder: ThreadedRegistry) -> None:
    """Filled in another order, with one run or several: no difference, two descriptions read, no node."""
    sync("a", "left", "right")
    sync("b", "right")
    sync("b", "left", "right")
    assert about("a")["summary"]["root"] == about("b")["summary"]["root"]
    with serve_mirror("a") as a, serve_mirror("b") as b:
        document = json.loads(run("compare", a, b, "--json"))
        text = run("compare", a, b)
    assert (document["same"], document["only_a"], document["only_b"], document["differing"]) == (4, 0, 0, 0)
    assert [mirror["about"] for mirror in document["mirrors"]] == [about("a"), about("b")]
    assert document["exit_code"] == 0
    assert "DIFFERENT  none" in text


def test_coverage_is_no_disagreement(folder: ThreadedRegistry) -> None:
    """What only one has is counted; exit code 0."""
    sync("a", "left", "right")
    sync("b", "left@1.0.0", "third")
    with serve_mirror("a") as a, serve_mirror("b") as b:
        document = json.loads(run("compare", a, b, "--json"))
    assert (document["same"], document["only_a"], document["only_b"], document["differing"]) == (1, 3, 2, 0)


def test_replaced_bytes_are_found_by_their_digests(folder: ThreadedRegistry) -> None:
    """A registry shows two mirrors other bytes under one version: exit code 4, and the version with both digests."""
    sync("a", "left", "right", "third")
    folder.sim.publish("left", "2.0.0", files={"index.js": b"something else"})
    sync("b", "left", "right", "third")
    with serve_mirror("a") as a, serve_mirror("b") as b:
        document = json.loads(run("compare", a, b, "--json", expect=4))
        short = json.loads(run("compare", a, b, "--json", "--limit", "0", expect=4))
        text = run("compare", a, b, expect=4)
    (difference,) = document["differences"]
    assert (difference["name"], difference["version"]) == ("left", "2.0.0")
    assert difference["a"] != difference["b"]
    assert (document["same"], document["differing"], document["exit_code"]) == (5, 1, 4)
    assert (short["differing"], short["differences"]) == (1, [])
    assert "left@2.0.0" in text
    assert "DIFFERENT  1 versions" in text
    assert document["requests"] == sum(mirror["requests"] for mirror in document["mirrors"])
    assert document["received_bytes"] > 0


def test_a_mirror_with_a_key_signs_what_it_says(folder: ThreadedRegistry) -> None:
    """The note's text is the description to the byte; who knows the key is told so, who knows another refuses."""
    vkey = run("keygen", "--name", "mirror.example", "--out", "mirror.key").strip()
    other = run("keygen", "--name", "mirror.example", "--out", "other.key").strip()
    assert Path("mirror.key").stat().st_mode & 0o777 == 0o600
    Path("mirrorwitness.toml").write_text('mirror_key = "mirror.key"\n')
    sync("a", "left")
    Path("mirrorwitness.toml").unlink()
    sync("b", "left")
    note, _ = open_note(Path("a/about/mirror.json.note").read_bytes(), [parse_verifier_key(vkey)])
    assert note.text == Path("a/about/mirror.json").read_bytes() + b"\n"
    assert (about("a")["mirror_key"], about("b")["mirror_key"]) == (vkey, None)
    with serve_mirror("a") as a, serve_mirror("b") as b:
        document = json.loads(run("compare", a, b, "--json"))
        assert [(m["signed_by"], m["trusted"]) for m in document["mirrors"]] == [(vkey, False), (None, False)]
        document = json.loads(run("compare", a, a, "--vkey", vkey, "--vkey", other, "--json"))
        assert [m["trusted"] for m in document["mirrors"]] == [True, True]
        assert "a key that you did not name" in run("compare", a, a)
        assert "no trusted key signed" in refusal("compare", a, a, "--vkey", other, expect=4)
        assert "does not sign" in refusal("compare", a, b, "--vkey", vkey, expect=4)
        assert "verifier key" in refusal("compare", a, b, "--vkey", "nonsense", expect=2)


def test_a_mirror_that_lost_its_key_stops_signing_visibly(folder: ThreadedRegistry) -> None:
    """No older note stays behind to name an older summary."""
    run("keygen", "--name", "mirror.example", "--out", "mirror.key")
    Path("mirrorwitness.toml").write_text('mirror_key = "mirror.key"\n')
    sync("a", "left")
    assert Path("a/about/mirror.json.note").exists()
    Path("mirrorwitness.toml").unlink()
    sync("a", "left")
    assert not Path("a/about/mirror.json.note").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), ("", "PRIVATE+KEY"), ("PRIVATE+KEY+a+b+c", "signer key"), ("x" * 5000, "5000 bytes")],
)
def test_a_key_that_cannot_be_used_stops_the_run_before_it_begins(
    folder: ThreadedRegistry, content: str | None, reason: str
) -> None:
    """Exit code 2 with the path; nothing is mirrored unsigned by mistake."""
    if content is not None:
        Path("mirror.key").write_text(content)
    Path("mirrorwitness.toml").write_text('mirror_key = "mirror.key"\n')
    said = refusal("sync", "--once", "--storage", "file:a", "left", expect=2)
    assert "mirror_key mirror.key" in said
    assert reason in said
    assert not Path("a").exists()


def test_a_key_is_never_replaced(folder: ThreadedRegistry) -> None:
    """Neither an existing file, nor one that cannot be written, nor a name that no key has."""
    run("keygen", "--name", "a", "--out", "mirror.key")
    before = Path("mirror.key").read_text()
    assert "never replaced" in refusal("keygen", "--name", "a", "--out", "mirror.key", expect=2)
    assert Path("mirror.key").read_text() == before
    assert "cannot be written" in refusal("keygen", "--name", "a", "--out", "absent/mirror.key", expect=2)
    assert "key name" in refusal("keygen", "--name", "a b", "--out", "b.key", expect=2)
    assert not Path("b.key").exists()


def test_forged_node(folder: ThreadedRegistry) -> None:
    """A mirror that shows other entries than its root stands for is named; nothing is compared by them."""
    sync("a", "left")
    sync("b", "left", "right")
    (node,) = [path for path in Path("b/about/summary").rglob("*") if path.is_file()]
    node.write_text(node.read_text().replace("@1.0.0", "@1.0.1"))
    with serve_mirror("a") as a, serve_mirror("b") as b:
        said = refusal("compare", a, b, expect=4)
    assert f"error: {b}: node of range -" in said
    assert "expected sha256" in said


def test_a_node_that_is_withheld(folder: ThreadedRegistry) -> None:
    """A mirror that does not have what its own root names is no mirror to compare with; it is named."""
    sync("a", "left")
    sync("b", "left", "right")
    shutil.rmtree("b/about/summary")
    with serve_mirror("a") as a, serve_mirror("b") as b:
        said = refusal("compare", a, b, expect=5)
    assert f"{b}: node " in said
    assert "mirrorwitness summarize" in said


@pytest.mark.slow
def test_what_is_no_mirror_is_said_clearly(folder: ThreadedRegistry) -> None:
    """A registry, a mirror of another version, one without a summary, one that is not there, and no URL at all."""
    sync("a", "left")
    with serve_mirror("a") as a:
        assert f"{folder.url}: no mirrorwitness mirror" in refusal("compare", a, folder.url, expect=5)
        assert "mirror" in refusal("compare", a, "ftp://x", expect=2)
        assert refusal("compare", "http://127.0.0.1:9", a, expect=5)
        said = about("a")
        for change, reason in (
            ({"schema": "mirrorwitness-about-9"}, "is mirrorwitness-about-9, this program reads mirrorwitness-about-2"),
            ({"schema": "other"}, "has the schema 'other'"),
            ({"summary": None}, "has no summary of its versions"),
            ({"summary": {"format": "mirrorwitness-summary-9"}}, "has the format 'mirrorwitness-summary-9'"),
            ({"summary": {**said["summary"], "root": "../x"}}, "names the root '../x'"),
            ({"summary": {**said["summary"], "versions": 10**12}}, "of 1000000000000 versions"),
            ({"summary": {**said["summary"], "versions": True}}, "of True versions"),
        ):
            Path("a/about/mirror.json").write_text(json.dumps(said | change))
            assert reason in refusal("compare", a, a, expect=5)
        Path("a/about/mirror.json").write_text("[")
        assert "is not JSON" in refusal("compare", a, a, expect=5)
        Path("a/about/mirror.json").write_text("[]")
        assert "has the schema None" in refusal("compare", a, a, expect=5)
        document = json.loads(run("compare", a, a, "--json", expect=5))
        assert document["error"]["kind"] == "UpstreamProtocolError"


def test_forged_signature(folder: ThreadedRegistry) -> None:
    """An altered description, one that names another key, and a note that is none: each is refused and named."""
    run("keygen", "--name", "mirror.example", "--out", "mirror.key")
    other = run("keygen", "--name", "mirror.example", "--out", "other.key").strip()
    Path("mirrorwitness.toml").write_text('mirror_key = "mirror.key"\n')
    sync("a", "left")
    path = Path("a/about/mirror.json.note")
    note = path.read_text()
    with serve_mirror("a") as a:
        for forged, code, reason in (
            (note.replace('"partial"', '"full"'), 4, "does not verify"),
            (note.replace(about("a")["mirror_key"], other), 4, "no trusted key signed"),
            (note.replace(about("a")["mirror_key"], "nobody"), 4, "names is none"),
            (note.replace(f'"{about("a")["mirror_key"]}"', "null"), 4, "names is none"),
            (note.replace("— ", "- "), 5, "signed note"),
            ("<html>", 5, "is not JSON"),
        ):
            path.write_text(forged)
            said = refusal("compare", a, a, expect=code)
            assert reason in said
            assert a in said


def test_a_repair_is_taken_into_the_summary(folder: ThreadedRegistry) -> None:
    """What could not be repaired and is withdrawn leaves it, under a description that is signed again."""
    run("keygen", "--name", "mirror.example", "--out", "mirror.key")
    selected = '[[select]]\nname = ["left", "right"]\n'
    Path("mirrorwitness.toml").write_text(f'mirror_key = "mirror.key"\n{selected}')
    sync("a")
    assert about("a")["summary"]["versions"] == 4
    Path("a/npm/left/-/left-1.0.0.tgz").write_bytes(b"rotten")
    folder.sim.fail("/left/-/left-1.0.0.tgz", Fault.status(404), times=99)
    run("audit", "--repair", "--storage", "file:a")
    assert about("a")["summary"]["versions"] == 3
    open_note(Path("a/about/mirror.json.note").read_bytes(), [parse_verifier_key(about("a")["mirror_key"])])
    with serve_mirror("a") as a:
        assert json.loads(run("compare", a, a, "--json"))["same"] == 3
    Path("mirrorwitness.toml").write_text(selected)
    Path("a/npm/right/-/right-1.0.0.tgz").write_bytes(b"rotten")
    assert "configure mirror_key" in refusal("audit", "--repair", "--storage", "file:a", expect=2)


def test_what_upstream_takes_away_and_you_let_in_again(folder: ThreadedRegistry) -> None:
    """Leaves the summary with the withdrawal, and is part of it again after the release."""
    sync("a", "left")
    folder.sim.replace_by_holder("left")
    sync("a", "left")
    assert "left@1.0.0 " not in entries("a")
    Path("mirrorwitness.toml").write_text('[[select]]\nname = "left"\n')
    run("release", "left@1.0.0", "--reason", "a mistake", "--storage", "file:a")
    assert "left@1.0.0 " in entries("a")


def test_summarize_heals_a_mirror_and_keeps_its_description_true(folder: ThreadedRegistry) -> None:
    """After nodes were lost and others left behind; with the key that signed before, and not without."""
    run("keygen", "--name", "mirror.example", "--out", "mirror.key")
    Path("mirrorwitness.toml").write_text('mirror_key = "mirror.key"\n')
    sync("a", "left", "right")
    before = about("a")
    shutil.rmtree("a/about/summary")
    Path("a/about/summary/ff").mkdir(parents=True)
    Path("a/about/summary/ff", "ff" * 32).write_text("left behind")
    sync("a", "left", "right", "third")
    assert about("a")["summary"]["root"] == before["summary"]["root"]
    document = json.loads(run("summarize", "--storage", "file:a", "--json"))
    assert (document["packages"], document["versions"], document["nodes"], document["removed"]) == (3, 6, 1, 1)
    assert (document["described"], about("a")["summary"]["root"]) == (True, document["root"])
    with serve_mirror("a") as a:
        assert json.loads(run("compare", a, a, "--json"))["mirrors"][0]["signed_by"] == before["mirror_key"]
    Path("mirrorwitness.toml").unlink()
    assert "configure mirror_key" in refusal("summarize", "--storage", "file:a", expect=2)
    Path("a/about/mirror.json.note").unlink()
    assert "6 versions of 3 packages" in run("summarize", "--storage", "file:a")
    assert about("a")["mirror_key"] is None
    Path("a/about/mirror.json").write_text("{")
    assert "is damaged" in refusal("summarize", "--storage", "file:a", expect=3)
    Path("a/about/mirror.json").write_text("[]")
    assert "another version" in refusal("summarize", "--storage", "file:a", expect=3)
    Path("a/about/mirror.json").unlink()
    done = CliRunner().invoke(main, ("summarize", "--storage", "file:a"))
    assert "has not described itself yet" in done.stderr


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves with the versions accounted for; nobody else sees anything, and standard output never does."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with show_progress(is_quiet=False) as told:
        told(500, 1000)
    assert "comparing" in terminal.getvalue()
    quiet = io.StringIO()
    monkeypatch.setattr("sys.stderr", quiet)
    with show_progress(is_quiet=False) as told:
        told(500, 1000)
    with show_progress(is_quiet=True) as told:
        told(500, 1000)
    assert quiet.getvalue() == ""
