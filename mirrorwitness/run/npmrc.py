"""Which registry npm uses here: npm's own configuration, read the way npm reads it.

    npm_config_registry > project .npmrc > user .npmrc > global npmrc > `npm config get registry`

Rules:

- The file format is npm's ``ini``: ``key = value``, quotes, comments with ``;`` and ``#``; ``${NAME}`` is replaced by
  the environment variable, ``${NAME?}`` by nothing where it is not set, and an unset ``${NAME}`` stays as it is.
- Names of settings in the environment may be written in any case, with ``_`` for ``-`` (``NPM_CONFIG_REGISTRY``).
- A scope's registry (``@scope:registry``) is the user's wish for that scope and never the registry of everything else.
- Access tokens are bound to the address they are written for (``//host/path/:_authToken``) and are given for no other:
  the longest such path that leads to the registry wins, as in npm. A token is never printed, in no message and no repr.
- A file of the user's or of the machine's that we may not read is skipped, as npm does, where the registry is known
  already; where the registry is to be found, it is an error.
- No registry is built in. Where npm's configuration names none and npm is not installed, that is an error.

SPEC: npm documentation, ``npmrc`` and ``config``; the ``regKeyFromURI`` of ``npm-registry-fetch`` for tokens.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.scopes import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "NpmAccess",
    "NpmSettings",
    "ask_npm",
    "check_registry_url",
    "find_npm_access",
    "find_npm_settings",
    "parse_npmrc",
]

_NPM_PATIENCE: Final = 30
"""Seconds that `npm config get` may take; a cold start on a slow disk takes about five."""

_MAX_FILE_BYTES: Final = 1024 * 1024
"""Largest .npmrc in bytes that is read."""

_VARIABLE: Final = re.compile(r"(?<!\\)(\\*)\$\{([^${}?]+)(\?)?\}")
_PREFIX: Final = "npm_config_"
_TOKEN: Final = ":_authToken"  # noqa: S105  (the name of the setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmAccess:
    """What npm's configuration says about registries, whichever is asked.

    Attributes:
        scopes: scope (with its ``@``) → registry, and where that stands.
        tokens: ``//host/path/`` → access token; never shown.
    """

    scopes: Mapping[str, Home] = field(default_factory=dict[str, Home], repr=False)
    tokens: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def token_for(self, url: str) -> str | None:
        """Return the access token that npm would send to an address, or None.

        Args:
            url: an absolute address below a registry.

        Returns:
            The token of the longest matching path; one of another host or path never matches.
        """
        parts = urlsplit(url)
        path = f"//{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/"
        while len(path) > len("//"):
            if path in self.tokens:
                return self.tokens[path]
            path = path[: path.rstrip("/").rfind("/") + 1]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmSettings(NpmAccess):
    """The same, and the registry that npm would ask.

    Attributes:
        registry: the registry of everything that has no other.
        origin: where it was found, for people.
    """

    registry: str
    origin: str


def parse_npmrc(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the text of one npmrc.

    Args:
        text: the file.
        environ: for ``${NAME}``.

    Returns:
        Key → value; of a key that stands twice the last value.
    """
    found: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith((";", "#", "[")):
            continue
        key, equals, value = stripped.partition("=")
        found[_expand(_unquote(key), environ)] = _expand(_unquote(value), environ) if equals else "true"
    return found


def find_npm_settings(
    environ: Mapping[str, str], *, directory: Path, ask: Callable[[str], str | None] | None = None
) -> NpmSettings:
    """Find the registry that npm would use.

    Args:
        environ: the environment.
        directory: the project's directory.
        ask: asks npm for one setting and returns None where it cannot; `ask_npm` unless given.

    Returns:
        The settings.

    Raises:
        ConfigurationError: npm's configuration names no usable registry, or a file cannot be read.
    """
    ask = ask or ask_npm
    layers = _layers(environ, directory, is_lenient=False)
    origin, registry = _first(layers, "registry")
    if registry is None:
        origin, registry = "npm config get registry", ask("registry")
    if registry is None:
        raise ConfigurationError(
            "npm's configuration names no registry and npm is not installed: give --registry URL, or set registry in "
            ".npmrc"
        )
    return NpmSettings(
        registry=check_registry_url(registry, origin), origin=origin, scopes=_scopes(layers), tokens=_tokens(layers)
    )


def find_npm_access(environ: Mapping[str, str], *, directory: Path) -> NpmAccess:
    """Find scopes and tokens for registries that are known already.

    Args:
        environ: the environment.
        directory: the project's directory.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    layers = _layers(environ, directory, is_lenient=True)
    return NpmAccess(scopes=_scopes(layers), tokens=_tokens(layers))


def ask_npm(key: str) -> str | None:
    """Ask the installed npm for one setting.

    Args:
        key: the setting.

    Returns:
        Its value; None where npm is not installed, fails or knows none.
    """
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  (a fixed command, found on the operator's own path)
            [npm, "config", "get", key], capture_output=True, text=True, timeout=_NPM_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    value = done.stdout.strip()
    return value if value not in {"", "undefined", "null"} else None


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in environ.items():
        key = name.lower()
        if key.startswith(_PREFIX) and value:
            # SPEC: a key that holds an address or a scope keeps its spelling; others have dashes for underscores.
            bare = name[len(_PREFIX) :]
            found[bare if bare.startswith(("//", "@")) else bare.lower().replace("_", "-")] = value
    return found


def _layers(environ: Mapping[str, str], directory: Path, *, is_lenient: bool) -> list[tuple[str, Mapping[str, str]]]:
    """Return where settings stand and what they are, the strongest first."""
    settings = _environment(environ)
    layers: list[tuple[str, Mapping[str, str]]] = [("environment", settings)]
    for number, path in enumerate(_files(environ, directory, settings)):
        text = _read(path, is_lenient=is_lenient and number > 0)
        if text is not None:
            layers.append((str(path), parse_npmrc(text, environ)))
    return layers


def _merge(layers: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, tuple[str, str]]:
    """Return each key's strongest value and where it stands."""
    return {key: (value, origin) for origin, layer in reversed(layers) for key, value in layer.items()}


def _scopes(layers: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, Home]:
    found = _merge(layers).items()
    return {key.removesuffix(":registry"): Home(url, origin) for key, (url, origin) in found if _is_scope(key) and url}


def _tokens(layers: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    found = _merge(layers).items()
    return {key.removesuffix(_TOKEN): value for key, (value, _) in found if _is_token(key, value)}


def _files(environ: Mapping[str, str], directory: Path, settings: Mapping[str, str]) -> Iterable[Path]:
    yield _project(directory) / ".npmrc"
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if "userconfig" in settings:
        yield Path(settings["userconfig"])
    elif home:
        yield Path(home) / ".npmrc"
    if "globalconfig" in settings:
        yield Path(settings["globalconfig"])
    elif "prefix" in settings or "PREFIX" in environ:
        yield Path(settings.get("prefix") or environ["PREFIX"]) / "etc" / "npmrc"


def _project(directory: Path) -> Path:
    """Return the directory of the project, as npm finds it: the nearest one above with a package.json."""
    here = directory.absolute()
    marked = (
        path for path in (here, *here.parents) if (path / "package.json").exists() or (path / "node_modules").exists()
    )
    return next(marked, here)


def _read(path: Path, *, is_lenient: bool) -> str | None:
    try:
        with path.open("rb") as file:
            body = file.read(_MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if is_lenient and isinstance(error, PermissionError):
            return None
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(body) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: has more than {_MAX_FILE_BYTES:,} bytes; that is no .npmrc")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}: line {line}: is not UTF-8 text") from error


def _first(layers: Sequence[tuple[str, Mapping[str, str]]], key: str) -> tuple[str, str | None]:
    return next(((origin, layer[key]) for origin, layer in layers if layer.get(key)), ("", None))


def _expand(text: str, environ: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        backslashes, name, optional = match.groups()
        if len(backslashes) % 2:
            return match.group()
        value = environ.get(name)
        unset = "" if optional else match.group()[len(backslashes) :]
        return backslashes[: len(backslashes) // 2] + (unset if value is None else value)

    return _VARIABLE.sub(replace, text)


def _unquote(text: str) -> str:
    """Undo the quoting and the comments of the ``ini`` format."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        if text[0] == "'":
            return text[1:-1]
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return re.sub(r"\\([;#])", r"\1", re.split(r"(?<!\\)[;#]", text, maxsplit=1)[0]).strip()


def _is_scope(key: str) -> bool:
    return key.startswith("@") and key.endswith(":registry")


def _is_token(key: str, value: str) -> bool:
    # An unset ``${NAME}`` is left standing by npm; sent as a token it would only tell what the variable is called.
    return key.startswith("//") and key.endswith(f"/{_TOKEN}") and bool(value) and "${" not in value


def check_registry_url(url: str, origin: str) -> str:
    """Return a registry's address without its trailing slash.

    Raises:
        ConfigurationError: it is none, or holds a secret; the message names where it stands.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable, parts = False, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{origin}: the registry's address holds a user name or password; use a token instead")
    if not usable:
        raise ConfigurationError(f"{origin}: registry is {url[:200]!r}, expected an http or https address")
    return url.rstrip("/")
