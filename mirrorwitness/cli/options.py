"""Flags that several commands share, and how they become a `Config`: flags > environment > file > npm's configuration.

Only the last step is not in `mirrorwitness.config`: npm's own configuration names the registry where nothing else does,
and, whichever is asked, its access token and the scopes that are at home elsewhere.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from mirrorwitness.config import Registry, find_config, load_config, parse_sumdb_flag
from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.mirror.lockfile import MAX_LOCKFILE_BYTES, parse_lockfile
from mirrorwitness.mirror.select import make_rule, parse_names, parse_rule, rules_of_lockfile
from mirrorwitness.run.npmrc import find_npm_access, find_npm_settings
from mirrorwitness.run.scopes import Home
from mirrorwitness.run.session import Wishes
from mirrorwitness.telemetry import LEVELS, configure_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mirrorwitness.config import Config
    from mirrorwitness.mirror.select import Rule
    from mirrorwitness.npm.names import PackageName

__all__ = [
    "Options",
    "common_options",
    "json_option",
    "log_level",
    "log_level_option",
    "selection_options",
    "sumdb_options",
]

MAX_NAMES_BYTES: Final = 256 * 1024 * 1024
"""Bytes of the largest list of names: all 5.7 million names ever used have about 120 MB."""

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def json_option(command: _Command) -> _Command:
    """Add ``--json``."""
    return click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of tables.")(command)


def log_level_option(command: _Command) -> _Command:
    """Add ``--log-level``."""
    return click.option(
        "--log-level", type=click.Choice(LEVELS), help="What is logged to standard error, and above it."
    )(command)


def common_options(command: _Command) -> _Command:
    """Add the flags that every command over a mirror has."""
    for option in reversed((
        click.option(
            "--config", type=click.Path(path_type=Path), metavar="FILE", help="Default: mirrorwitness.toml here."
        ),
        click.option("--storage", metavar="STORAGE", help="file:DIR, or s3://BUCKET/PREFIX?endpoint=URL."),
        click.option(
            "--registry",
            multiple=True,
            metavar="URL",
            help="Repeatable: the first is the authority. Default: npm's own.",
        ),
        click.option("--contact", metavar="ADDRESS", help="How an upstream's operator reaches you; in the User-Agent."),
        click.option("--public-url", metavar="URL", help="The mirror's own address, for tarball URLs."),
        click.option("--signatures", type=click.Choice(["require", "verify", "off"]), help="Default: verify."),
        log_level_option,
    )):
        command = option(command)
    return command


def selection_options(command: _Command) -> _Command:
    """Add the flags that select packages."""
    for option in reversed((
        click.argument("names", nargs=-1, metavar="[NAMES]..."),
        click.option("--lockfile", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Repeatable."),
        click.option(
            "--latest", type=click.IntRange(min=1), metavar="N", help="Of NAMES without a range: the N newest."
        ),
        click.option(
            "--names-from",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Names that globs choose from, one a line.",
        ),
    )):
        command = option(command)
    return command


def sumdb_options(command: _Command) -> _Command:
    """Add the flags that name the checksum database which versions are checked against."""
    for option in reversed((
        click.option(
            "--sumdb", metavar="VKEY=URL", help="Check against this checksum database; more keys: VKEY,VKEY=URL."
        ),
        click.option("--policy", metavar="FILE", help="Which witnesses must have cosigned it (tlog-policy)."),
    )):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Options:
    """What was given on the command line."""

    given: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Options:
        """Take click's keyword arguments."""
        return cls(given)

    @property
    def names_packages(self) -> bool:
        """Whether packages are selected by the command line, and not by the file, with no feed beside them."""
        return bool(self.given.get("names") or self.given.get("lockfile")) and not self.given.get("feed")

    def load(self, *, needs_registry: bool = True, is_service: bool = False) -> Wishes:
        """Read files and environment and put everything together, and begin to log as they say.

        Args:
            needs_registry: whether the command talks to an upstream.
            is_service: whether it goes on until a signal arrives, so that its log is what tells of it.

        Raises:
            ConfigurationError: something is wrong or missing; the message says what to do.
        """
        flags = {
            key: value for key in ("storage", "contact", "public_url", "signatures") if (value := self.given.get(key))
        }
        if self.given.get("sumdb"):
            flags["sumdb.vkeys"], flags["sumdb.url"] = parse_sumdb_flag(self.given["sumdb"])
        if self.given.get("policy"):
            flags["sumdb.policy"] = self.given["policy"]
        if self.given.get("feed"):
            flags["feed.url"] = self.given["feed"]
        for key in ("log_level", "metrics"):
            if self.given.get(key):
                flags[f"observe.{key}"] = self.given[key]
        if self.given.get("registry"):
            flags["registry"] = [{"url": url} for url in self.given["registry"]]
        config = load_config(find_config(self.given.get("config"), os.environ), os.environ, flags=flags)
        configure_logs(level=log_level(config, is_service=is_service), is_terminal=sys.stderr.isatty())
        tokens: dict[str, str] = {}
        homes: dict[str, Home] = {}
        if needs_registry:
            config, tokens, homes = _find_registries(config)
        rules, skipped = self._rules(config)
        return Wishes(
            config=config,
            rules=rules,
            names=self._names(config),
            skipped=skipped,
            tokens=tokens,
            homes=homes,
            feed_token=_read_variable(config.feed.token_env, "feed") if config.feed.url else None,
        )

    def _rules(self, config: Config) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
        """Selection from the command line replaces the file's; both kinds of lockfile are read here."""
        names = cast("tuple[str, ...]", self.given.get("names", ()))
        lockfiles = cast("tuple[Path, ...]", self.given.get("lockfile", ()))
        latest = self.given.get("latest")
        if latest is not None and not names:
            raise SelectionError("--latest says how many versions of NAMES; name packages, or write it into [[select]]")
        if names or lockfiles:
            rules = [_rule(name, latest) for name in names]
        else:
            rules, lockfiles = list(config.rules), config.lockfiles
        skipped: list[str] = []
        for path in lockfiles:
            lockfile = parse_lockfile(_read(path, MAX_LOCKFILE_BYTES), path=str(path))
            rules.extend(rules_of_lockfile(lockfile))
            skipped.extend(f"{path}: {item.place}: {item.reason}" for item in lockfile.skipped)
        return tuple(rules), tuple(skipped)

    def _names(self, config: Config) -> tuple[PackageName, ...] | None:
        path = self.given.get("names_from") or config.names_from
        return None if path is None else parse_names(_decode(_read(path, MAX_NAMES_BYTES), path), path=str(path))


def log_level(config: Config, *, is_service: bool) -> str:
    """Return the level that the configuration says, or else the one that fits the command."""
    fitting = "error" if not is_service else "warning" if sys.stderr.isatty() else "info"
    return config.observe.log_level or fitting


def _rule(name: str, latest: int | None) -> Rule:
    rule = parse_rule(name, origin="command line")
    if latest is None or rule.pins or rule.tag is not None:
        return rule
    return make_rule(rule.pattern, versions=rule.range_text, latest=latest, origin="command line")


def _find_registries(config: Config) -> tuple[Config, dict[str, str], dict[str, Home]]:
    """Add what npm's configuration knows: the registry where none is named, access tokens, homes of scopes.

    Returns:
        The configuration, registry URL → token, scope → home.
    """
    if config.registries:
        access = find_npm_access(os.environ, directory=Path.cwd())
    else:
        access = find_npm_settings(os.environ, directory=Path.cwd())
        config = replace(config, registries=(Registry(url=access.registry),))
    tokens: dict[str, str] = {}
    for registry in config.registries:
        token = _read_variable(registry.token_env, f"registry {registry.url}") or access.token_for(registry.url)
        if token is not None:
            tokens[registry.url] = token
    own = str(config.path or "configuration")
    return config, tokens, {**access.scopes, **{scope: Home(url, own) for scope, url in config.scopes.items()}}


def _read_variable(name: str | None, owner: str) -> str | None:
    if name is None:
        return None
    token = os.environ.get(name)
    if not token:
        raise ConfigurationError(f"{owner}: its token_env names {name}, which is not set")
    return token


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(body) > limit:
        raise ConfigurationError(f"{path}: is larger than {limit:,} bytes")
    return body


def _decode(body: bytes, path: Path) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}: line {line}: byte 0x{body[error.start]:02x} is not UTF-8 text") from error
