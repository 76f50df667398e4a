"""Which registry is asked, and with which token: npm's configuration beside our own (attack: dependency confusion)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main
from tests.fakes.registry import Fault
from tests.fakes.thread import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry


@dataclass(slots=True)
class Office:
    """A project whose .npmrc maps @corp to a private registry."""

    folder: Path
    public: ThreadedRegistry
    corp: ThreadedRegistry

    def run(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        done = CliRunner().invoke(main, (*arguments, "--json"))
        assert done.exit_code == expect, (done.exit_code, done.output, done.exception)
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def npmrc(self, *lines: str) -> None:
        (self.folder / ".npmrc").write_text("".join(f"{line}\n" for line in lines))

    def nerf(self, registry: ThreadedRegistry) -> str:
        """Return the address as a token's key has it."""
        return registry.url.partition(":")[2].rstrip("/") + "/"

    def asked(self, registry: ThreadedRegistry) -> list[str]:
        return [request.target for request in registry.sim.requests]

    def tokens(self, registry: ThreadedRegistry) -> set[str | None]:
        return {request.headers.get("authorization") for request in registry.sim.requests}


@pytest.fixture
def office(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with serve_in_thread() as corp:
        registry.sim.publish("left", "1.0.0", files={"index.js": b"left"})
        registry.sim.publish("@corp/tool", "99.0.0", files={"index.js": b"evil"})
        corp.sim.publish("@corp/tool", "1.0.0", files={"index.js": b"good"})
        found = Office(tmp_path, registry, corp)
        found.npmrc(f"registry={registry.url}", f"@corp:registry={corp.url}")
        yield found


COMMANDS = [("plan",), ("sync", "--once"), ("sync", "--once", "--dry-run")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", ["npm", "flag", "file", "moved"])
def test_attack_dependency_confusion(office: Office, command: tuple[str, ...], given: str) -> None:
    """However the public registry was chosen, it is never asked for a name that npm would ask another one for."""
    arguments = ["left", "@corp/tool", "--storage", "file:mirror"]
    if given == "flag":
        arguments += ["--registry", office.public.url]
    elif given == "file":
        (office.folder / "mirrorwitness.toml").write_text(f'registry = "{office.public.url}"\n')
    elif given == "moved":
        office.run("init", "left")
        (office.folder / ".npmrc").unlink()  # another machine, without the project's npmrc
    message = office.run(*command, *arguments, expect=2)["error"]["message"]
    assert "@corp/tool: packages of @corp are at home at" in message
    assert office.corp.url.rstrip("/") in message
    assert ("mirrorwitness.toml" if given == "moved" else ".npmrc") in message
    assert office.asked(office.public) == []
    assert not (office.folder / "mirror").exists()


def test_init_writes_where_scopes_are_at_home(office: Office) -> None:
    """The file that `init` writes says it too, and the command tells."""
    document = office.run("init", "left")
    assert document["scopes"] == {"@corp": office.corp.url.rstrip("/")}
    text = (office.folder / "mirrorwitness.toml").read_text()
    assert f'scopes = {{"@corp" = "{office.corp.url.rstrip("/")}"}}' in text
    done = CliRunner().invoke(main, ("init", "left", "--force"))
    assert "packages of @corp are at home at" in done.stderr
    assert office.run("init", "left", "--force", "--registry", office.public.url)["scopes"] == document["scopes"]
    assert office.run("init", "left", "--force", "--registry", office.corp.url)["scopes"] == {}


def test_init_takes_no_secret_from_a_scopes_address(office: Office) -> None:
    """An address with a password is refused, and the password not shown."""
    office.npmrc(f"registry={office.public.url}", "@corp:registry=https://me:hunter2@npm.corp.example/")
    message = office.run("init", "left", expect=2)["error"]["message"]
    assert ".npmrc" in message
    assert "hunter2" not in message


def test_the_scopes_own_registry_is_asked(office: Office) -> None:
    """The way on that the message names: a mirror of the private registry."""
    document = office.run("sync", "--once", "@corp/tool", "--registry", office.corp.url, "--storage", "file:corp")
    assert document["counts"]["versions"] == 1
    assert office.asked(office.public) == []


def test_the_configuration_wins_over_npms(office: Office) -> None:
    """Whoever writes that the authority is right for a scope is believed."""
    text = f'registry = "{office.public.url}"\n[scopes]\n"@corp" = "{office.public.url}"\n'
    (office.folder / "mirrorwitness.toml").write_text(text)
    document = office.run("plan", "@corp/tool")
    assert document["packages"][0]["versions"] == ["99.0.0"]


def test_a_denied_scope_is_left_out(office: Office) -> None:
    """A lockfile that holds private packages can be mirrored without them; the run says so."""
    integrity = office.corp.sim.packument("@corp/tool")["versions"]["1.0.0"]["dist"]["integrity"]
    packages = {
        "node_modules/left": {"version": "1.0.0"},
        "node_modules/@corp/tool": {"version": "1.0.0", "integrity": integrity},
    }
    (office.folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
    arguments = ("--lockfile", "package-lock.json", "--storage", "file:mirror")
    office.run("sync", "--once", *arguments, expect=2)
    (office.folder / "mirrorwitness.toml").write_text('[[deny]]\nname = "@corp/*"\nreason = "private"\n')
    document = office.run("sync", "--once", *arguments)
    assert document["counts"]["versions"] == 1
    assert [alarm.partition(":")[0] for alarm in document["alarms"]] == ["@corp/tool"]
    assert not [target for target in office.asked(office.public) if "corp" in target]


def test_another_source_never_hears_of_a_private_name(office: Office) -> None:
    """A second registry may supply bytes, but not those of a scope that is at home at the first."""
    registries = ("--registry", office.corp.url, "--registry", office.public.url)
    office.corp.sim.publish("left", "1.0.0", data=office.public.sim.tarball("left", "1.0.0"))
    for path in ("/@corp/tool/-/tool-1.0.0.tgz", "/left/-/left-1.0.0.tgz"):
        office.corp.sim.fail(path, Fault.status(404), times=99)
    document = office.run("sync", "--once", "@corp/tool", "left", *registries, "--storage", "file:corp", expect=3)
    assert [problem["name"] for problem in document["problems"]] == ["@corp/tool"]
    assert office.asked(office.public) == ["/left/-/left-1.0.0.tgz"]


def test_repair_asks_no_wrong_registry(office: Office) -> None:
    """A package that an older mirror took from elsewhere is named as not repaired."""
    arguments = ("@corp/tool", "left", "--storage", "file:mirror", "--registry", office.public.url)
    office.npmrc()
    office.run("sync", "--once", *arguments)
    for path in (office.folder / "mirror" / "npm").rglob("*.tgz"):
        path.write_bytes(b"altered")
    office.npmrc(f"@corp:registry={office.corp.url}")
    office.public.sim.requests.clear()
    (office.folder / "mirrorwitness.toml").write_text('[[select]]\nname = ["left", "@corp/tool"]\n')
    document = office.run("audit", "--repair", *arguments[2:], expect=4)
    assert document["repaired"] == ["left"]
    assert "at home at" in document["unrepaired"]["@corp/tool"]
    (office.folder / "mirrorwitness.toml").write_text(
        '[[select]]\nname = ["left", "@corp/tool"]\n[[deny]]\nname = "@corp/*"\nreason = "private"\n'
    )
    document = office.run("audit", "--repair", *arguments[2:], expect=4)
    assert "not asked for" in document["unrepaired"]["@corp/tool"]
    assert not [target for target in office.asked(office.public) if "corp" in target]


@pytest.mark.parametrize("given", ["npm", "flag", "file", "environment"])
def test_npms_token_is_used_wherever_the_registry_is_named(
    office: Office, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The token belongs to the address, not to the place that named it; it is never shown."""
    office.npmrc(f"registry={office.public.url}", f"{office.nerf(office.public)}:_authToken=s3cr3t")
    office.public.sim.token = "s3cr3t"
    if given == "file":
        (office.folder / "mirrorwitness.toml").write_text(f'registry = "{office.public.url}"\n')
    elif given == "environment":
        monkeypatch.setenv("MIRRORWITNESS_REGISTRY", office.public.url)
    flags = ("--registry", office.public.url) if given == "flag" else ()
    shown = office.run("sync", "--once", "left", "--storage", "file:mirror", *flags)
    assert "s3cr3t" not in json.dumps(shown)
    assert office.tokens(office.public) == {"Bearer s3cr3t"}


def test_a_token_is_never_sent_to_another_registry(office: Office) -> None:
    """Two sources, and the token of one: the other sees none, nor the token of a port or path beside it."""
    office.npmrc(
        f"{office.nerf(office.corp)}:_authToken=corp-secret",
        f"{office.nerf(office.public)}other/:_authToken=other-secret",
        "//127.0.0.1/:_authToken=host-secret",
    )
    office.corp.sim.publish("left", "1.0.0", data=office.public.sim.tarball("left", "1.0.0"))
    office.corp.sim.fail("/left/-/left-1.0.0.tgz", Fault.status(404), times=99)
    registries = ("--registry", office.corp.url, "--registry", office.public.url)
    office.run("sync", "--once", "left", *registries, "--storage", "file:mirror")
    assert office.tokens(office.corp) == {"Bearer corp-secret"}
    assert office.tokens(office.public) == {None}


def test_a_configured_token_wins_over_npms(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """`token_env` is the operator's own word for this mirror."""
    office.npmrc(f"{office.nerf(office.public)}:_authToken=npm-secret")
    monkeypatch.setenv("OWN_TOKEN", "own-secret")
    text = f'[[registry]]\nurl = "{office.public.url}"\ntoken_env = "OWN_TOKEN"\n'
    (office.folder / "mirrorwitness.toml").write_text(text)
    office.run("sync", "--once", "left", "--storage", "file:mirror")
    assert office.tokens(office.public) == {"Bearer own-secret"}
