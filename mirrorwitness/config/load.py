"""Load: from layers to one typed, checked `Config`.

Rules:

- Unknown keys, wrong types, values out of bounds and contradictions are errors with the place (file, variable or flag),
  the key, what was found and what is expected. Nothing is ignored, nothing corrected in silence.
- Paths in the file are relative to the file; those of variables and flags to the working directory.
- Secrets never stand in the file: a registry names the variable of its token.
- What is read is frozen; components get the values they need, never this object's module (STYLE 38).

What this module does not do: read lockfiles or lists of names, or open the storage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast
from urllib.parse import urlsplit

import msgspec

from mirrorwitness.config.layers import CONFIG_VARIABLE, Layer, merge, parse_file, read_environment, read_flags, suggest
from mirrorwitness.config.options import Deny, Feed, Limits, Observe, Registry, Select, Serve, Settings
from mirrorwitness.config.quantities import Quantity, parse_quantity
from mirrorwitness.config.sumdb import ANY_REGISTRY, CheckedLog, Sumdb
from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.mirror.confusion import ConfusionPolicy
from mirrorwitness.mirror.select import DenyRule, Rule, make_deny_rule, make_rule, parse_rule
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.mirror.withdrawal import WithdrawnPolicy
from mirrorwitness.npm.signatures import SignaturePolicy
from mirrorwitness.sumdb.authority import registry_of
from mirrorwitness.sumdb.terms import parse_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_FILE", "Config", "find_config", "load_config", "make_config"]

DEFAULT_FILE: Final = "mirrorwitness.toml"

_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Largest configuration in bytes: one with a hundred thousand rules is about half of it."""

_STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "": Settings,
    "registry": Registry,
    "select": Select,
    "deny": Deny,
    "feed": Feed,
    "sumdb": Sumdb,
    "limits": Limits,
    "serve": Serve,
    "observe": Observe,
}
_AT_LEAST_ONE: Final = ("concurrency", "packages", "connections", "packument_max", "tarball_max")
_PLACE: Final = re.compile(r"(?s)(.*?)(?: - at `\$?\.?(.*)`)?")
_SCOPE: Final = re.compile(r"@[^/@\s]+")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything an operator can set.

    Attributes:
        path: the file it came from; None where there is none.
        storage: the storage's address; a directory as it is seen from the working directory.
        registries: the first is the authority for metadata.
        contact: for the User-Agent.
        public_url: the mirror's own address, without a trailing slash.
        mirror_key: file with the private key that signs the mirror's description.
        signatures: what a signature must be.
        withdrawn: what becomes of versions that upstream withdraws.
        rules: what is selected by name.
        lockfiles: what is selected by lockfile.
        denied: what must not be in the mirror.
        names_from: the list of names that globs choose from.
        spool_directory: where large downloads wait.
        scopes: scope (with its ``@``) → address of the registry that it is at home at.
        feed: the replication feed.
        log: the checksum database, and what its word means.
        limits: bounds.
        serve: how to answer.
        observe: what to tell, and when to call the mirror stuck.
    """

    path: Path | None = None
    storage: str | None = None
    registries: tuple[Registry, ...] = ()
    contact: str | None = None
    public_url: str | None = None
    mirror_key: Path | None = None
    signatures: SignaturePolicy = SignaturePolicy.VERIFY
    withdrawn: WithdrawnPolicy = WithdrawnPolicy.FOLLOW
    rules: tuple[Rule, ...] = ()
    lockfiles: tuple[Path, ...] = ()
    denied: tuple[DenyRule, ...] = ()
    names_from: Path | None = None
    spool_directory: Path | None = None
    scopes: Mapping[str, str] = field(default_factory=dict[str, str])
    feed: Feed = field(default_factory=Feed)
    log: CheckedLog = field(default_factory=CheckedLog)
    limits: Limits = field(default_factory=Limits)
    serve: Serve = field(default_factory=Serve)
    observe: Observe = field(default_factory=Observe)


def find_config(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to read: the one given, the environment's, or the one that lies here."""
    if path is not None:
        return path
    named = environ.get(CONFIG_VARIABLE, "").strip()
    if named:
        return Path(named)
    here = Path(DEFAULT_FILE)
    return here if here.exists() else None


def load_config(path: Path | None, environ: Mapping[str, str], *, flags: Mapping[str, object] | None = None) -> Config:
    """Read the configuration of a command.

    Args:
        path: the file; None for no file (`find_config` looks for one).
        environ: the environment.
        flags: dotted key → value of the flags that were given; they win over the environment, which wins over the file.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: a file cannot be read, or something in it, in a variable or in a flag is wrong.
    """
    file = Layer({}, {}) if path is None else parse_file(_read(path), path=str(path))
    environment = read_environment(environ, tokens=_token_variables(file))
    return make_config(merge(file, environment, read_flags(flags or {})), path=path)


def make_config(layer: Layer, *, path: Path | None = None) -> Config:
    """Check merged settings and give them their types.

    Args:
        layer: what `mirrorwitness.config.layers.merge` gave.
        path: the file; paths in settings are relative to its directory.

    Returns:
        The configuration.

    Raises:
        ConfigurationError: something is wrong; the message says where, what, and what is expected.
    """
    settings = _convert(layer)
    _check_bounds(settings, layer)
    base = path.parent if path is not None else Path()
    rules, lockfiles = _read_select(settings, layer)
    return Config(
        path=path,
        storage=_anchor_storage(settings.storage, layer, path),
        registries=tuple(
            Registry(
                url=_check_url(entry.url, layer, f"registry[{index}].url"),
                token_env=entry.token_env,
                role=_check_role(entry, index, layer),
                tarball_hosts=entry.tarball_hosts,
            )
            for index, entry in enumerate(settings.registry)
        ),
        contact=settings.contact,
        public_url=None if settings.public_url is None else _check_url(settings.public_url, layer, "public_url"),
        mirror_key=_anchor(settings.mirror_key, "mirror_key", layer, path),
        signatures=SignaturePolicy(settings.signatures),
        withdrawn=WithdrawnPolicy(settings.withdrawn),
        rules=rules,
        lockfiles=tuple(base / name for name in lockfiles),
        denied=_read_deny(settings, layer),
        names_from=_anchor(settings.names_from, "names_from", layer, path),
        spool_directory=_anchor(settings.spool_directory, "spool_directory", layer, path),
        scopes=_read_scopes(settings, layer),
        feed=_read_feed(settings.feed, layer),
        log=_read_log(settings.sumdb, layer, path),
        limits=settings.limits,
        serve=settings.serve,
        observe=settings.observe,
    )


def _read(path: Path) -> str:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(body) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: has {len(body):,} bytes, more than {_MAX_FILE_BYTES:,}")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}: line {line}: byte 0x{body[error.start]:02x} is not UTF-8 text") from error


def _read_feed(feed: Feed, layer: Layer) -> Feed:
    if feed.url is None:
        return feed
    return msgspec.structs.replace(feed, url=_check_url(feed.url, layer, "feed.url"))


def _read_log(sumdb: Sumdb, layer: Layer, path: Path | None) -> CheckedLog:
    vkeys = tuple(sumdb.vkeys.split()) if isinstance(sumdb.vkeys, str) else sumdb.vkeys
    try:
        keys = parse_keys(vkeys)
    except ConfigurationError as error:
        raise _error(layer, "sumdb.vkeys", str(error)) from error
    return CheckedLog(
        url=None if sumdb.url is None else _check_url(sumdb.url, layer, "sumdb.url"),
        keys=keys,
        policy=_anchor(sumdb.policy, "sumdb.policy", layer, path),
        registry=_read_log_registry(sumdb.registry, layer),
        check=LogCheck(sumdb.check),
        confusion=ConfusionPolicy(sumdb.confusion or ("report" if keys else "off")),
    )


def _read_log_registry(text: str | None, layer: Layer) -> str | None:
    if text is None or text == ANY_REGISTRY:
        return text
    url = _check_url(text, layer, "sumdb.registry")
    try:
        registry_of(url)
    except ConfigurationError as error:
        raise _error(layer, "sumdb.registry", str(error)) from error
    return url


def _anchor(name: str | None, key: str, layer: Layer, path: Path | None) -> Path | None:
    """Make a path that the file names relative to the file; a variable's or a flag's is relative to where we are."""
    if name is None:
        return None
    return path.parent / name if path is not None and _origin(layer, key) == str(path) else Path(name)


def _anchor_storage(storage: str | None, layer: Layer, path: Path | None) -> str | None:
    """Do the same with a storage that is a directory."""
    if storage is None or not storage.startswith("file:"):
        return storage
    directory, question, options = storage.removeprefix("file:").partition("?")
    return f"file:{_anchor(directory, 'storage', layer, path)}{question}{options}"


def _token_variables(file: Layer) -> list[str]:
    entries = file.values.get("registry")
    tables = (
        [cast("dict[str, object]", entry) for entry in cast("list[object]", entries) if isinstance(entry, dict)]
        if isinstance(entries, list)
        else []
    )
    feed = file.values.get("feed")
    if isinstance(feed, dict):
        tables.append(cast("dict[str, object]", feed))
    return [name for table in tables if isinstance(name := table.get("token_env"), str)]


def _convert(layer: Layer) -> Settings:
    try:
        return msgspec.convert(layer.values, Settings, dec_hook=_read_quantity)
    except msgspec.ValidationError as error:
        raise _explain(str(error), layer) from error


def _read_quantity(kind: type, value: object) -> object:
    return parse_quantity(cast("Quantity", kind), value)


def _explain(message: str, layer: Layer) -> ConfigurationError:
    match = cast("re.Match[str]", _PLACE.fullmatch(message))
    reason, place = match[1], match[2] or ""
    unknown = _UNKNOWN.fullmatch(reason)
    missing = _MISSING.fullmatch(reason)
    if unknown:
        key = f"{place}.{unknown[1]}".lstrip(".")
        table = _STRUCTS[place.partition("[")[0]]
        fields = [item.encode_name for item in msgspec.structs.fields(table)]
        return _error(layer, key, f"there is no such option{suggest(unknown[1], fields)}")
    if missing:
        return _error(layer, place, f"{missing[1]} is missing")
    found = _find_value(layer.values, place)
    reason = reason.replace("Expected", "expected").replace("`object`", "a table").replace("array", "list")
    shown = f" (found {found!r})" if "found" not in reason else ""
    return _error(layer, place, f"{reason}{shown}")


def _find_value(values: object, place: str) -> object:
    for name, index in re.findall(r"([A-Za-z_]+)|\[(\d+)\]", place):
        values = cast("list[object]", values)[int(index)] if index else cast("dict[str, object]", values)[name]
    return values


def _error(layer: Layer, key: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{_origin(layer, key)}: {key}: {reason}")


def _origin(layer: Layer, key: str) -> str:
    while key and key not in layer.origins:
        key = re.sub(r"(?:\.[^.\[]*|\[[^\[]*|^[^.\[]*)$", "", key)
    return layer.origins.get(key) or "configuration"


def _check_bounds(settings: Settings, layer: Layer) -> None:
    for name in _AT_LEAST_ONE:
        if getattr(settings.limits, name) < 1:
            raise _error(layer, f"limits.{name}", "found 0, expected at least 1")
    feed = settings.feed
    if feed.page_rows < 2:  # noqa: PLR2004 - a page of names repeats the last name of the one before
        raise _error(layer, "feed.page_rows", f"found {feed.page_rows}, expected at least 2")
    if feed.idle_least > feed.idle_most:
        found = f"found {feed.idle_least}, expected at most feed.idle_most, which is {feed.idle_most}"
        raise _error(layer, "feed.idle_least", found)


def _check_url(url: str, layer: Layer, key: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise _error(layer, key, "holds a user name or password; name the variable of a token with token_env")
    if not usable or parts.query or parts.fragment:
        raise _error(layer, key, f"found {url[:200]!r}, expected an http or https address without query")
    return url.rstrip("/")


def _check_role(entry: Registry, index: int, layer: Layer) -> Literal["fallback", "peer"]:
    if index == 0 and entry.role == "peer":
        raise _error(layer, "registry[0].role", "the first registry is the authority for metadata, and no peer")
    return entry.role


def _read_scopes(settings: Settings, layer: Layer) -> dict[str, str]:
    for scope in settings.scopes:
        if not _SCOPE.fullmatch(scope):
            raise _error(layer, "scopes", f"found {scope[:100]!r}, expected a scope such as @corp")
    return {scope: _check_url(url, layer, f"scopes.{scope}") for scope, url in settings.scopes.items()}


def _read_select(settings: Settings, layer: Layer) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    rules: list[Rule] = []
    lockfiles: list[str] = []
    for index, entry in enumerate(settings.select):
        origin = f"{_origin(layer, 'select')}: select[{index}]"
        narrowed = entry.versions is not None or entry.latest is not None or entry.tag is not None or entry.prereleases
        if (entry.name is None) == (entry.lockfile is None):
            raise SelectionError(f"{origin}: give name or lockfile, one of them")
        if entry.lockfile is not None:
            if narrowed:
                raise SelectionError(
                    f"{origin}: a lockfile pins exact versions; versions, latest and tag contradict it"
                )
            lockfiles.extend(_texts(entry.lockfile))
            continue
        for name in _texts(entry.name or ()):
            if narrowed:
                rules.append(
                    make_rule(
                        name,
                        versions=entry.versions,
                        latest=entry.latest,
                        prereleases=entry.prereleases,
                        tag=entry.tag,
                        origin=origin,
                    )
                )
            else:
                rules.append(parse_rule(name, origin=origin))
    return tuple(rules), tuple(lockfiles)


def _read_deny(settings: Settings, layer: Layer) -> tuple[DenyRule, ...]:
    return tuple(
        make_deny_rule(
            name,
            versions=entry.versions,
            reason=entry.reason,
            origin=f"{_origin(layer, 'deny')}: deny[{index}]",
        )
        for index, entry in enumerate(settings.deny)
        for name in _texts(entry.name)
    )


def _texts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
