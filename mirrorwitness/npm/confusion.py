"""Manifest confusion: a registry's document says one thing of a version, the package.json in its tarball another.

npm resolves, audits and shows by the document, and runs what the tarball says. Nothing makes them agree: whoever
publishes sends both. So dependencies or install scripts can be hidden from everybody who looks at the document.

What is compared: name, version, dependencies of all four kinds, bundled ones, the scripts that installing may run, bin,
os, cpu, libc and engines. What npm itself changes when it publishes is no confusion:

- the version is cleaned (``v1.0.0``, ``1.0.0+build``), the name trimmed;
- ``bin`` as text or list becomes an object, its paths are cleaned; ``directories.bin`` becomes ``bin``;
- optional dependencies are copied into ``dependencies``, or taken away from there; lists and texts of dependencies
  become objects; addresses of repositories at GitHub, GitLab and Bitbucket are written in another of their forms;
- ``bundledDependencies`` becomes ``bundleDependencies``, and ``true`` the names of all;
- a ``*.gyp`` file without install script gives one, ``node-gyp rebuild``; ``node_modules/.bin/`` before a command goes;
- what is empty may be missing, and order is of no meaning.

What it does not do: read tarballs (`mirrorwitness.npm.tarball`), or decide what a difference is worth. Registries that
rewrite documents on their own (copies that add fields) differ in other fields than these.

SPEC: npm's ``@npmcli/package-json`` and ``npm-normalize-package-bin``; research/A 2.3.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from mirrorwitness.npm.ranges import normalize_version

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Difference", "compare_manifests"]

_Members: TypeAlias = "dict[str, object]"
_Value: TypeAlias = "str | list[str] | dict[str, str]"

_SHOWN: Final = 300
"""Most characters of a value that a difference repeats."""

_SCRIPTS: Final = ("preinstall", "install", "postinstall", "prepare")
_PLATFORM: Final = ("os", "cpu", "libc")
_GYP: Final = "node-gyp rebuild"
_BOM: Final = b"\xef\xbb\xbf"
_LOCAL_BIN: Final = re.compile(r"^(?:\.[/\\])?node_modules[/\\]\.bin[/\\]")
_SEPARATORS: Final = re.compile(r"[\n\r\s\t ,]+")
_NAME_AND_RANGE: Final = re.compile(r"(@?[^@\s=<>]+)[@\s=<>]*")
_HOSTS: Final = {"github": "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org"}
_SHORTCUT: Final = re.compile(r"(?:(github|gitlab|bitbucket):)?([\w.-]+/[\w.-]+?)(?:\.git)?(?:#(.*))?", re.ASCII)
_REPOSITORY: Final = re.compile(
    r"(?:git\+)?(?:https?|git|ssh)://(?:[^@/]*@)?(?:www\.)?(github\.com|gitlab\.com|bitbucket\.org)[/:]"
    r"([\w.-]+/[\w.-]+?)(?:\.git)?/?(?:#(.*))?|(?:git@)(github\.com|gitlab\.com|bitbucket\.org):"
    r"([\w.-]+/[\w.-]+?)(?:\.git)?(?:#(.*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which document and tarball disagree.

    Attributes:
        field: its name.
        manifest: what the registry's document says, as JSON: of objects only what differs. Cut where it is long.
        tarball: what the package.json in the tarball says.
    """

    field: str
    manifest: str
    tarball: str

    def __str__(self) -> str:
        """Return the difference as a sentence."""
        return f"{self.field}: the document says {self.manifest}, the tarball {self.tarball}"


def compare_manifests(manifest: bytes, package_json: bytes, *, has_gyp: bool = False) -> tuple[Difference, ...]:
    """Compare what a registry says of a version with what its tarball says.

    Args:
        manifest: the version's object in the registry's document.
        package_json: the file in the tarball.
        has_gyp: the tarball has a ``*.gyp`` file beside it.

    Returns:
        The differences; none where they agree.
    """
    ours, theirs = _parse(manifest), _parse(package_json)
    if ours is None or theirs is None:
        return (Difference("package.json", _say(ours), _say(theirs)),)
    left, right = _describe(ours, has_gyp=has_gyp), _describe(theirs, has_gyp=has_gyp)
    if _is_bin_from_directory(theirs):
        left.pop("bin")
    return tuple([_differ(field, left[field], right[field]) for field in left if left[field] != right[field]])


def _parse(text: bytes) -> _Members | None:
    try:
        parsed: object = json.loads(text.removeprefix(_BOM), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return cast("_Members", parsed) if isinstance(parsed, dict) else None


def _say(parsed: _Members | None) -> str:
    return "something that is no JSON object" if parsed is None else "a JSON object"


def _describe(manifest: _Members, *, has_gyp: bool) -> dict[str, _Value]:
    """Return each field in one form."""
    required, optional = _dependencies(manifest, "dependencies"), _dependencies(manifest, "optionalDependencies")
    together = {**required, **optional}
    return {
        "name": _string(manifest, "name"),
        "version": _clean_version(_string(manifest, "version")),
        "dependencies": together,
        "optionalDependencies": optional,
        "devDependencies": _dependencies(manifest, "devDependencies"),
        "peerDependencies": _dependencies(manifest, "peerDependencies"),
        "bundleDependencies": _bundled(manifest, together),
        "scripts": _scripts(manifest, has_gyp=has_gyp),
        "bin": _bin(manifest),
        **{field: _list(manifest.get(field)) for field in _PLATFORM},
        "engines": _engines(manifest),
    }


def _string(manifest: _Members, field: str) -> str:
    value = manifest.get(field)
    return value.strip() if isinstance(value, str) else ""


def _clean_version(text: str) -> str:
    return (normalize_version(text) or text.strip()).partition("+")[0]


def _dependencies(manifest: _Members, field: str) -> dict[str, str]:
    value = manifest.get(field)
    if isinstance(value, str):
        value = [part for part in _SEPARATORS.split(value.strip()) if part]
    if isinstance(value, list):
        texts = [text.strip() for text in cast("list[object]", value) if isinstance(text, str)]
        return {found[1]: _clean_range(text[found.end() :]) for text in texts if (found := _NAME_AND_RANGE.match(text))}
    if not isinstance(value, dict):
        return {}
    members = cast("_Members", value)
    return {name: _clean_range(wanted) for name, wanted in members.items() if isinstance(wanted, str)}


def _clean_range(wanted: str) -> str:
    """Return a range; a repository in one of its forms."""
    text = wanted.strip()
    short = _SHORTCUT.fullmatch(text)
    if short:
        return f"{_HOSTS[short[1] or 'github']}/{short[2]}#{short[3] or ''}"
    found = _REPOSITORY.fullmatch(text)
    if found:
        return f"{found[1] or found[4]}/{found[2] or found[5]}#{found[3] or found[6] or ''}"
    return text


def _bundled(manifest: _Members, dependencies: Mapping[str, str]) -> list[str]:
    value = manifest.get("bundleDependencies", manifest.get("bundledDependencies"))
    if value is True:
        return sorted(dependencies)
    if isinstance(value, dict):
        return sorted(cast("_Members", value))
    return _list(value)


def _list(value: object) -> list[str]:
    found = cast("list[object]", value) if isinstance(value, list) else [value]
    return sorted({text.strip() for text in found if isinstance(text, str) and text.strip()})


def _engines(manifest: _Members) -> dict[str, str]:
    value = manifest.get("engines")
    if not isinstance(value, dict):
        return dict.fromkeys(_list(value), "")  # a list in documents of 2011
    return {name: text.strip() for name, text in cast("_Members", value).items() if isinstance(text, str)}


def _scripts(manifest: _Members, *, has_gyp: bool) -> dict[str, str]:
    value = manifest.get("scripts")
    members = cast("_Members", value) if isinstance(value, dict) else {}
    scripts = {
        name: _LOCAL_BIN.sub("", text.strip())
        for name in _SCRIPTS
        if isinstance(text := members.get(name), str) and text.strip()
    }
    if has_gyp and manifest.get("gypfile") is not False and not scripts.keys() & {"preinstall", "install"}:
        scripts["install"] = _GYP
    return scripts


def _bin(manifest: _Members) -> dict[str, str]:
    value = manifest.get("bin")
    if isinstance(value, str):
        value = {_string(manifest, "name"): value}
    if isinstance(value, list):
        value = {text: text for text in cast("list[object]", value) if isinstance(text, str)}
    if not isinstance(value, dict):
        return {}
    found: dict[str, str] = {}
    for key, target in cast("_Members", value).items():
        command = posixpath.basename(re.sub(r"[\\:]", "/", key.strip()))
        path = _clean_path(target) if isinstance(target, str) else ""
        if command not in {"", ".", ".."} and path:
            found[command] = path
    return found


def _clean_path(target: str) -> str:
    return posixpath.normpath("/" + target.replace("\\", "/")).lstrip("/")


def _is_bin_from_directory(package_json: _Members) -> bool:
    """Say whether npm makes ``bin`` of the files of a directory, which are not looked at here."""
    value = package_json.get("directories")
    directories = cast("_Members", value) if isinstance(value, dict) else {}
    return not package_json.get("bin") and isinstance(directories.get("bin"), str)


def _differ(field: str, manifest: _Value, tarball: _Value) -> Difference:
    if isinstance(manifest, dict) and isinstance(tarball, dict):
        only_left = {key: value for key, value in manifest.items() if tarball.get(key) != value}
        only_right = {key: value for key, value in tarball.items() if manifest.get(key) != value}
        return Difference(field, _show(only_left), _show(only_right))
    return Difference(field, _show(manifest), _show(tarball))


def _show(value: _Value) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _refuse(text: str) -> object:
    raise ValueError(f"{text} is not JSON")
