"""npm's configuration: the registry in npm's order, scopes, and tokens that stay where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.npmrc import NpmAccess, NpmSettings, ask_npm, find_npm_access, find_npm_settings, parse_npmrc
from mirrorwitness.run.scopes import Home

if TYPE_CHECKING:
    from pathlib import Path


def find(tmp_path: Path, environ: dict[str, str] | None = None, *, npm: str | None = None) -> NpmSettings:
    home, project = tmp_path / "home", tmp_path / "project"
    for directory in (home, project):
        directory.mkdir(exist_ok=True)
    (project / "package.json").touch()
    return find_npm_settings({"HOME": str(home)} | (environ or {}), directory=project / "src", ask=lambda _: npm)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", {}),
            ("; c\n# c\n\n[section]\n", {}),
            ("registry=https://a/", {"registry": "https://a/"}),
            (" registry = https://a/ ; why\r\n", {"registry": "https://a/"}),
            ("\ufeffa=1\na=2", {"a": "2"}),
            ("a", {"a": "true"}),
            ('a="x ; y"', {"a": "x ; y"}),
            ("a='x # y'", {"a": "x # y"}),
            ('a="bad \\x"', {"a": '"bad \\x"'}),
            ("a=x\\;y\\#z", {"a": "x;y#z"}),
            ('"@s:registry"=https://s/', {"@s:registry": "https://s/"}),
            ("a=${SET}-${UNSET}", {"a": "value-${UNSET}"}),
            ("a=${UNSET?}${SET?}", {"a": "value"}),
            ("a=\\${SET}", {"a": "\\${SET}"}),
            ("a=\\\\${SET}", {"a": "\\value"}),
            ("${SET}=1", {"value": "1"}),
        ],
    )
    def test_the_files_format(self, text: str, expected: dict[str, str]) -> None:
        """Comments, quotes, sections, variables: as npm reads them."""
        assert parse_npmrc(text, {"SET": "value"}) == expected


class TestOrder:
    def test_the_strongest_wins(self, tmp_path: Path) -> None:
        """Environment, project, user, global, npm itself; each takes over where the one above says nothing."""
        prefix = tmp_path / "prefix"
        (prefix / "etc").mkdir(parents=True)
        files = [
            (tmp_path / "project" / ".npmrc", "https://project.example"),
            (tmp_path / "home" / ".npmrc", "https://user.example"),
            (prefix / "etc" / "npmrc", "https://global.example"),
        ]
        environ = {"PREFIX": str(prefix)}
        assert find(tmp_path, environ, npm="https://npm.example/").registry == "https://npm.example"
        for path, registry in reversed(files):
            path.write_text(f"registry={registry}/\n")
            found = find(tmp_path, environ, npm="https://npm.example")
            assert (found.registry, found.origin) == (registry, str(path))
        found = find(tmp_path, environ | {"NPM_CONFIG_REGISTRY": "https://env.example/sub/"})
        assert (found.registry, found.origin) == ("https://env.example/sub", "environment")

    def test_npm_itself_is_the_last_resort(self, tmp_path: Path) -> None:
        """Where it is not installed either, the error says what to do; nothing is built in."""
        assert find(tmp_path, npm="https://npm.example/").origin == "npm config get registry"
        with pytest.raises(ConfigurationError) as caught:
            find(tmp_path)
        assert str(caught.value) == (
            "npm's configuration names no registry and npm is not installed: give --registry URL, or set registry in "
            ".npmrc"
        )

    def test_other_places_for_the_files(self, tmp_path: Path) -> None:
        """`userconfig`, `globalconfig` and `prefix` are settings themselves."""
        user, glob, prefix = tmp_path / "u", tmp_path / "g", tmp_path / "p"
        (prefix / "etc").mkdir(parents=True)
        user.write_text("@u:registry=https://u.example")
        glob.write_text("registry=https://g.example")
        (prefix / "etc" / "npmrc").write_text("registry=https://p.example")
        environ = {"npm_config_userconfig": str(user), "npm_config_globalconfig": str(glob)}
        found = find(tmp_path, environ)
        assert (found.registry, found.scopes) == ("https://g.example", {"@u": Home("https://u.example", str(user))})
        assert find(tmp_path, {"npm_config_prefix": str(prefix)}).registry == "https://p.example"

    def test_without_a_home(self, tmp_path: Path) -> None:
        """A container may have none."""
        (tmp_path / ".npmrc").write_text("registry=https://a.example")
        assert find_npm_settings({}, directory=tmp_path, ask=lambda _: None).registry == "https://a.example"

    @pytest.mark.parametrize(
        ("registry", "message"),
        [
            ("ftp://x", "environment: registry is 'ftp://x', expected an http or https address"),
            ("http://[x", "environment: registry is 'http://[x', expected an http or https address"),
            ("${UNSET}", "environment: registry is '${UNSET}', expected an http or https address"),
            (
                "https://me:secret@registry.example/",
                "environment: the registry's address holds a user name or password; use a token instead",
            ),
        ],
    )
    def test_an_unusable_registry(self, tmp_path: Path, registry: str, message: str) -> None:
        """The origin is named, a password never."""
        with pytest.raises(ConfigurationError) as caught:
            find(tmp_path, {"npm_config_registry": registry})
        assert str(caught.value) == message

    def test_unreadable_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A directory, bytes that are not text, a file that is too large."""
        path = tmp_path / "project" / ".npmrc"
        path.mkdir(parents=True)
        with pytest.raises(ConfigurationError, match=r"\.npmrc: cannot be read: Is a directory"):
            find(tmp_path)
        path.rmdir()
        path.write_bytes(b"a=1\nb=\xff")
        with pytest.raises(ConfigurationError, match=r"\.npmrc: line 2: is not UTF-8 text"):
            find(tmp_path)
        monkeypatch.setattr("mirrorwitness.run.npmrc._MAX_FILE_BYTES", 3)
        with pytest.raises(ConfigurationError, match=r"\.npmrc: has more than 3 bytes; that is no \.npmrc"):
            find(tmp_path)


class TestTokens:
    def test_a_token_goes_to_its_own_address_only(self) -> None:
        """The longest path that leads to the registry; another host, port or path never gets it."""
        tokens = {"//a.example/": "host", "//a.example/team/": "team", "//b.example:8080/x/": "port"}
        settings = NpmAccess(tokens=tokens)
        urls = {
            "https://a.example": "host",
            "https://a.example/": "host",
            "https://a.example/left/-/left-1.0.0.tgz": "host",
            "https://a.example/team": "team",
            "https://a.example/team/left": "team",
            "https://a.example/teams/left": "host",
            "https://u@a.example/team": "team",
            "http://b.example:8080/x/": "port",
            "http://b.example:8080/y/": None,
            "http://b.example/x/": None,
            "https://a.example.evil/": None,
            "https://evil/a.example/": None,
        }
        assert {url: settings.token_for(url) for url in urls} == urls

    def test_tokens_come_from_every_layer_and_are_never_shown(self, tmp_path: Path) -> None:
        """The stronger layer wins; an unset variable is no token; no repr has one."""
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / ".npmrc").write_text(
            "registry=https://a.example\n//a.example/:_authToken=user-secret\n//b.example/:_authToken=${TOKEN}\n"
            "//c.example/:_authToken=${UNSET}\n_authToken=legacy\n"
        )
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / ".npmrc").write_text("//a.example/:_authToken=project-secret")
        found = find(tmp_path, {"TOKEN": "env-secret", "npm_config_//d.example/:_authToken": "d-secret"})
        assert found.tokens == {
            "//a.example/": "project-secret",
            "//b.example/": "env-secret",
            "//d.example/": "d-secret",
        }
        assert "secret" not in repr(found)

    def test_scopes(self, tmp_path: Path) -> None:
        """A scope's registry is never the registry of everything else; the stronger layer wins, and is named."""
        (tmp_path / "home").mkdir()
        user = tmp_path / "home" / ".npmrc"
        user.write_text("@s:registry=https://s.example\n@t:registry=https://t.example\n@u:registry=https://u.example")
        environ = {"npm_config_@t:registry": "https://env.example", "npm_config_@u:registry": ""}
        found = find(tmp_path, environ, npm="https://npm.example")
        assert found.registry == "https://npm.example"
        assert found.scopes == {
            "@s": Home("https://s.example", str(user)),
            "@t": Home("https://env.example", "environment"),
            "@u": Home("https://u.example", str(user)),
        }


class TestAccess:
    def test_npm_is_not_asked_and_no_registry_is_needed(self, tmp_path: Path) -> None:
        """Where the registry is known, scopes and tokens are read from the same files, in the same order."""
        (tmp_path / ".npmrc").write_text("@s:registry=https://s.example\n//a.example/:_authToken=secret")
        found = find_npm_access({}, directory=tmp_path)
        assert (found.scopes["@s"].url, found.token_for("https://a.example/x")) == ("https://s.example", "secret")
        assert "secret" not in repr(found)

    def test_files_that_we_may_not_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A service has no right to somebody's home, and npm skips it too; a project's own file has to be readable."""
        user = tmp_path / "home" / ".npmrc"
        refused: list[Path] = [user]
        opened = type(tmp_path).open

        def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
            if path in refused:
                raise PermissionError(13, "Permission denied")
            return opened(path, *arguments, **options)

        monkeypatch.setattr(type(tmp_path), "open", refuse)
        environ = {"HOME": str(tmp_path / "home")}
        assert find_npm_access(environ, directory=tmp_path) == NpmAccess()
        with pytest.raises(ConfigurationError, match=r"home/\.npmrc: cannot be read: Permission denied"):
            find_npm_settings(environ, directory=tmp_path, ask=lambda _: "https://npm.example")
        refused.append(tmp_path / ".npmrc")
        with pytest.raises(ConfigurationError, match=r"\.npmrc: cannot be read: Permission denied"):
            find_npm_access(environ, directory=tmp_path)


class TestAskNpm:
    @staticmethod
    def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        npm = tmp_path / "npm"
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ('echo "https://$1-$2-$3.example/"', "https://config-get-registry.example/"),
            ("echo undefined", None),
            ("echo", None),
            ("exit 1", None),
            ("printf '\\377'", None),
        ],
    )
    def test_what_it_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str | None
    ) -> None:
        """Its answer, or nothing where it has none or fails."""
        self.install(tmp_path, monkeypatch, script)
        assert ask_npm("registry") == expected

    def test_it_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No error: another source may know."""
        monkeypatch.setenv("PATH", str(tmp_path))
        assert ask_npm("registry") is None

    def test_it_hangs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It has a deadline."""
        self.install(tmp_path, monkeypatch, "exec sleep 20")
        monkeypatch.setattr("mirrorwitness.run.npmrc._NPM_PATIENCE", 0.05)
        assert ask_npm("registry") is None

    def test_the_default_asks_npm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without another way to ask, the installed npm is asked."""
        self.install(tmp_path, monkeypatch, "echo https://installed.example/")
        assert find_npm_settings({}, directory=tmp_path).registry == "https://installed.example"
