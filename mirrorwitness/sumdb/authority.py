"""Name authority: which registry may say what a name's versions are.

    {"@acme" = "npm.acme.example", "left-*" = "npm.acme.example", "*" = "registry.example"}

Rules:

- A log holds records of several registries under one namespace, so each name belongs to one of them: that of its exact
  name, else of the longest pattern that fits it (``*`` stands for any text without a slash), else of its scope, else of
  ``*``. What the others say of the name is never logged, however well it is signed.
- A registry is written as records have it: host, port and path without scheme (`registry_of`).
- Each name, pattern or scope stands once, in whatever spelling; a scope may be written ``@acme`` or ``@acme/*``. Two
  patterns of one length that may both fit a name are allowed for one registry only, so that no order decides.
- Without ``*``, names that nothing fits belong to nobody.

What it does not do: ask registries, or check signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.names import parse_name
from mirrorwitness.sumdb.records import is_registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.npm.names import PackageName

__all__ = ["Authority", "make_authority", "registry_of"]

_ANY: Final = "*"
_SCOPE: Final = re.compile(r"@(?![.])[A-Za-z0-9._~!()*'-]*[A-Za-z0-9_~!()'-][A-Za-z0-9._~!()*'-]*")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Authority:
    """Which registry each name belongs to.

    Attributes:
        rules: pattern → registry, as they were given: names, patterns, scopes (``@scope``) and ``*``.
    """

    rules: Mapping[str, str]
    _patterns: tuple[tuple[re.Pattern[str], str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare the patterns, the longest first."""
        patterns = [key for key in self.rules if _ANY in key and key != _ANY]
        patterns.sort(key=lambda key: (-len(key), key))
        object.__setattr__(self, "_patterns", tuple((_compile(key), self.rules[key]) for key in patterns))

    @property
    def registries(self) -> frozenset[str]:
        """All registries that have authority for something."""
        return frozenset(self.rules.values())

    def authority_of(self, name: PackageName) -> str | None:
        """Return the registry that a name belongs to; None where it belongs to nobody."""
        exact = self.rules.get(name)
        if exact is not None:
            return exact
        for pattern, registry in self._patterns:
            if pattern.fullmatch(name):
                return registry
        scope = self.rules.get(name.partition("/")[0]) if name.startswith("@") else None
        return scope or self.rules.get(_ANY)


def make_authority(entries: Iterable[tuple[str, str]], *, default: str | None = None) -> Authority:
    """Read the configured map.

    Args:
        entries: (name, pattern or scope, registry); a registry may be given as a URL.
        default: the registry of all other names where ``*`` is not among the entries; None: they belong to nobody.

    Raises:
        ConfigurationError: one is neither, stands twice, or fits the same names as another of another registry.
    """
    rules: dict[str, str] = {}
    for given, registry in entries:
        key = _check_key(given.removesuffix("/*") if given.startswith("@") and given.count(_ANY) == 1 else given)
        prefix = registry_of(registry) if "://" in registry else registry
        if not is_registry(prefix):
            raise ConfigurationError(
                f"authority {given!r}: {registry!r} is no registry: expected host[:port][/path] in lower case"
            )
        if key in rules:
            raise ConfigurationError(f"authority {given!r} stands twice: for {rules[key]} and for {prefix}")
        rules[key] = prefix
    if default is not None:
        rules.setdefault(_ANY, default)
    _check_rivals(rules)
    return Authority(rules)


def registry_of(url: str) -> str:
    """Return a registry's URL as records have it: no scheme, default port, or slash at the end.

    Raises:
        ConfigurationError: it is no http or https URL, or has what no record has: a user, a query, a fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"registry {url!r}: {error}") from error
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    suffix = "" if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f":{port}"
    text = f"{host}{suffix}{parts.path.rstrip('/')}"
    is_plain = parts.username is None and parts.password is None and not parts.query and not parts.fragment
    if parts.scheme not in _DEFAULT_PORTS or not is_plain or not is_registry(text):
        raise ConfigurationError(f"registry {url!r}: expected http(s)://host[:port][/path] and no more")
    return text


def _check_key(key: str) -> str:
    if key == _ANY or (_ANY not in key and _SCOPE.fullmatch(key)):
        return key
    try:
        parse_name(key.replace(_ANY, "x"))
    except ConfigurationError as error:
        raise ConfigurationError(f"authority {key!r} is no name, pattern or scope: {error}") from error
    return key


def _check_rivals(rules: Mapping[str, str]) -> None:
    """Refuse two patterns between which only their spelling would decide."""
    patterns = sorted(key for key in rules if _ANY in key and key != _ANY)
    for at, one in enumerate(patterns):
        for other in patterns[at + 1 :]:
            if len(one) == len(other) and rules[one] != rules[other] and _may_both_fit(one, other):
                raise ConfigurationError(
                    f"authority {one!r} is {rules[one]} and {other!r} is {rules[other]}: a name may fit both;"
                    " make one of them longer"
                )


def _may_both_fit(one: str, other: str) -> bool:
    """Say whether some name may fit two patterns; by their beginnings and ends, so it rather says yes."""
    begins, ends = [key.split(_ANY)[0] for key in (one, other)], [key.split(_ANY)[-1] for key in (one, other)]
    is_begin = begins[0].startswith(begins[1]) or begins[1].startswith(begins[0])
    is_end = ends[0].endswith(ends[1]) or ends[1].endswith(ends[0])
    return is_begin and is_end and one.count("/") == other.count("/")


def _compile(key: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(re.escape(part) for part in key.split(_ANY)))
