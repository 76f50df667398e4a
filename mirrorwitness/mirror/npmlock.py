"""npm's own lockfiles: ``package-lock.json`` and ``npm-shrinkwrap.json``, versions 1 to 3.

    version 1 (npm 5, 6; none at all in older shrinkwraps)   ``dependencies``: a tree, name → entry → ``dependencies``
    version 2 (npm 7, 8)                                     ``packages``: path → entry, and a copy of version 1
    version 3 (npm 9 and later)                              ``packages`` only

Rules:

- The package's name is the entry's ``name`` (an alias says so there), else what follows the last ``node_modules/``; in
  version 1 an alias is ``"version": "npm:NAME@VERSION"``.
- From a registry is what has a version and either no ``resolved`` (npm's ``omit-lockfile-registry-resolved``) or an
  address of the shape that registries use for exactly this package. Git, files, other addresses, links, bundled
  packages and the project's own directories are skipped with the reason.
- An address that belongs to *another* package than the entry says is skipped too, and the reason says so: that is how
  lockfiles are poisoned.
- The tree is walked with a stack of our own: a hostile depth cannot exhaust Python's.

SPEC: npm documentation, ``package-lock.json``; the ``shrinkwrap`` module of ``@npmcli/arborist``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import SplitResult, unquote, urlsplit

from mirrorwitness.errors import ConfigurationError, LockfileError
from mirrorwitness.mirror.locked import Collector, Flag, LockedPackage, Lockfile, Place
from mirrorwitness.npm.names import Version, parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mirrorwitness.npm.names import PackageName

__all__ = ["read_npm_lock"]

_T = TypeVar("_T")

_NEWEST: Final = 3
"""The newest version that exists; npm 11 writes it."""

_REWRITE: Final = "write it again with `npm install --package-lock-only`"
_BUNDLED: Final = "bundled: it comes inside the tarball of the package that contains it"
_MODULES: Final = "node_modules/"
_GIT: Final = re.compile(r"(?:git(?:\+[a-z]+)?|github|gitlab|bitbucket|gist):|git@|[\w.-]+/[\w.-]+#", re.IGNORECASE)
_LOCAL: Final = re.compile(r"(?:file|link|workspace|portal):|\.{1,2}/|/|~/|[A-Za-z]:[\\/]")
_WEB: Final = re.compile(r"https?://", re.IGNORECASE)
_REGISTRY_FILE: Final = re.compile(r"/-/(?:@[^/]+/)?[^/]+\Z")
_HASH: Final = re.compile(r"([a-z0-9]+)-([A-Za-z0-9+/]+={0,2})(?:\?\S*)?")
_HASH_LENGTHS: Final = {"sha1": 28, "sha256": 44, "sha384": 64, "sha512": 88}
"""Characters of base64 that each algorithm's digest has; others are kept unread."""


def read_npm_lock(document: Mapping[str, Any], *, path: str, line_of: Callable[[str], int | None]) -> Lockfile:
    """Read a parsed npm lockfile of any version.

    Args:
        document: the JSON object.
        path: the file's path, for messages.
        line_of: gives the line of a key where it is known.

    Returns:
        Its packages, and what is not from a registry.

    Raises:
        LockfileError: the version is unknown, or an entry cannot be what it says.
    """
    version = _read_version(document, path)
    collector = Collector(path)
    packages = _read_object(document, "packages", path)
    if packages is not None and version != 1:
        _read_packages(packages, collector, line_of)
    elif version == _NEWEST:
        raise LockfileError(f'{path}: lockfileVersion 3 without "packages": {_REWRITE}')
    else:
        _read_tree(_read_object(document, "dependencies", path) or {}, collector)
    kind = "npm-shrinkwrap" if path.endswith("npm-shrinkwrap.json") else "package-lock"
    return collector.finish(format=f"{kind} version {version}", version=version)


def _read_version(document: Mapping[str, Any], path: str) -> int:
    found = document.get("lockfileVersion", 1)
    if type(found) is int and 1 <= found <= _NEWEST:
        _check_not_manifest(document, path)
        return found
    raise LockfileError(
        f"{path}: lockfileVersion is {found!r}; versions 1, 2 and 3 are known. A newer npm may have written it: "
        "update mirrorwitness, or write it again with `npm install --package-lock-only --lockfile-version 3`"
    )


def _check_not_manifest(document: Mapping[str, Any], path: str) -> None:
    dependencies = document.get("dependencies")
    plain = isinstance(dependencies, dict) and any(
        isinstance(v, str) for v in cast("dict[str, Any]", dependencies).values()
    )
    known = document.keys() & {"lockfileVersion", "packages", "dependencies"}
    if "lockfileVersion" not in document and (plain or not known):
        raise LockfileError(
            f"{path}: has no lockfileVersion and no locked packages; a package.json is not a lockfile. Make one with "
            "`npm install --package-lock-only`"
        )


def _read_object(document: Mapping[str, Any], key: str, path: str) -> dict[str, Any] | None:
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise LockfileError(f'{path}: "{key}" is {_kind(value)}, expected an object')
    return cast("dict[str, Any] | None", value)


def _read_packages(packages: Mapping[str, Any], collector: Collector, line_of: Callable[[str], int | None]) -> None:
    for location, value in packages.items():
        if not location:
            continue  # the project itself
        place = Place(location, line_of(location))
        entry = _Entry(value, place, collector.path)
        before, modules, installed_as = location.rpartition(_MODULES)
        if not modules or (before and not before.endswith("/")):
            collector.skip(place, "a directory of the project itself, not a package of a registry")
        elif _is_inside_package(installed_as):
            collector.skip(place, "a directory inside another package")
        elif entry.is_true("link"):
            collector.skip(place, f"a link to {entry.text('resolved') or 'a directory of the project'}")
        elif entry.is_true("inBundle") and _MODULES in before and not entry.text("resolved"):
            collector.skip(place, _BUNDLED)  # what the project itself bundles is downloaded all the same
        else:
            _take(entry, entry.text("name") or installed_as, entry.text("version"), collector)


def _is_inside_package(location: str) -> bool:
    """Say whether a location goes on behind a package's name; one with dots is left to the check of names."""
    segments = location.split("/")
    return len(segments) > 1 + location.startswith("@") and not {"", ".", ".."} & set(segments)


def _read_tree(tree: Mapping[str, Any], collector: Collector) -> None:
    for entry, name in _walk(tree, collector.path):
        version = entry.text("version")
        if (entry.is_true("bundled") or entry.is_true("inBundle")) and not entry.text("resolved"):
            collector.skip(entry.place, _BUNDLED)
        elif version and version.startswith("npm:"):
            real, _, pinned = version.removeprefix("npm:").rpartition("@")
            _take(entry, real, pinned, collector)
        elif version and (reason := _foreign_source(version)):
            collector.skip(entry.place, reason)
        else:
            _take(entry, name, version, collector)


def _walk(tree: Mapping[str, Any], path: str) -> Iterator[tuple[_Entry, str]]:
    todo: list[tuple[str, Mapping[str, object]]] = [("", tree)]
    while todo:
        parent, children = todo.pop()
        for name, value in children.items():
            place = Place(f"{parent} > {name}" if parent else name)
            entry = _Entry(value, place, path)
            yield entry, name
            deeper = cast("dict[str, object] | None", entry.value("dependencies", dict, "an object"))
            if deeper:
                todo.append((place.path, deeper))


def _take(entry: _Entry, name: str, version: str | None, collector: Collector) -> None:
    resolved = entry.text("resolved")
    if not version:
        collector.skip(entry.place, "has no version: npm wrote no more than that it may be needed")
        return
    parsed = entry.name(name)
    reason = resolved and _foreign_address(resolved, parsed, version)
    if reason:
        collector.skip(entry.place, reason, is_poisoned=_is_of_another_package(resolved or ""))
        return
    collector.add(
        LockedPackage(
            name=parsed,
            version=Version(version),
            integrity=entry.integrity(),
            resolved=resolved,
            flags=frozenset(flag for flag in Flag if entry.is_true(flag.value)),
            os=entry.texts("os"),
            cpu=entry.texts("cpu"),
            libc=entry.texts("libc"),
            places=(entry.place,),
        )
    )


class _Entry:
    """One entry, read with an eye on the types: a lockfile is what somebody sent."""

    def __init__(self, value: object, place: Place, path: str) -> None:
        self.place = place
        self._path = path
        if not isinstance(value, dict):
            raise self._error(f"is {_kind(value)}, expected an object")
        self._value = cast("dict[str, object]", value)

    def is_true(self, key: str) -> bool:
        return self._value.get(key) is True

    def value(self, key: str, kind: type[_T], expected: str) -> _T | None:
        found = self._value.get(key)
        if found is None or isinstance(found, kind):
            return found
        raise self._error(f'"{key}" is {_kind(found)}, expected {expected}')

    def text(self, key: str) -> str | None:
        # npm 5 and 6 wrote ``"resolved": false``, and ``"version": ""`` for what was not there.
        return None if self._value.get(key) is False else self.value(key, str, "a string") or None

    def texts(self, key: str) -> tuple[str, ...]:
        found = self._value.get(key)
        items = cast("list[object]", found) if isinstance(found, list) else [] if found is None else [found]
        return tuple(item for item in items if isinstance(item, str))

    def name(self, text: str) -> PackageName:
        try:
            return parse_name(text)
        except ConfigurationError as error:
            raise self._error(str(error)) from error

    def integrity(self) -> str | None:
        found = self.text("integrity")
        for part in (found or "").split():
            match = _HASH.fullmatch(part)
            if not match or len(match[2]) != _HASH_LENGTHS.get(match[1], len(match[2])):
                raise self._error(f"integrity {part[:120]!r} is not a digest (ALGORITHM-BASE64 in full length)")
        return found

    def _error(self, reason: str) -> LockfileError:
        return LockfileError(f"{self._path}: {self.place}: {reason}")


def _foreign_source(text: str) -> str | None:
    """Say why a version or address cannot be a registry's, or return None where it may be."""
    if _GIT.match(text):
        return f"from git: {_redact(text)}"
    if _LOCAL.match(text):
        return f"from a file or directory: {text}"
    if _WEB.match(text):
        return f"from an address that is no registry's: {_redact(text)}"
    return None


def _foreign_address(resolved: str, name: PackageName, version: str) -> str | None:
    if not _WEB.match(resolved):
        return _foreign_source(resolved) or f"from a source of an unknown kind: {resolved[:100]!r}"
    path = unquote(_split(resolved).path)
    # ``/name/-/file`` (most), ``/name/1.0.0/file`` and ``/name/download/file`` (mirrors), and a forge's
    # ``/download/@scope/name/1.0.0/digest``. What it really holds is decided by the integrity, never by this shape.
    if any(f"/{name}/{middle}/" in path for middle in ("-", version, "download")):
        return None
    if _is_of_another_package(resolved):
        return f"its address belongs to another package than {name}: {_redact(resolved)}"
    return _foreign_source(resolved)


def _is_of_another_package(resolved: str) -> bool:
    """Say whether an address has a registry's shape; asked where it is not that of the entry's own package.

    A forge's archive (``/group/project/-/archive/v1/project.tar.gz``) has more behind the dash, and is none.
    """
    return bool(_WEB.match(resolved) and _REGISTRY_FILE.search(unquote(_split(resolved).path)))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _redact(url: str) -> str:
    """Return an address without user name, password, query and fragment: any of them can be a secret."""
    plain = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:200] if slashes else plain[:200]


def _kind(value: object) -> str:
    kinds: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        type(None): "null",
    }
    return kinds.get(type(value), "a number")
