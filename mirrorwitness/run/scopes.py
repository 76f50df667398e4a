"""Which registry a scope belongs to, and the refusal to ask another one for it (dependency confusion).

Rules:

- `[scopes]` of the configuration and ``@scope:registry`` of npm's configuration say where a scope is at home; the first
  wins. A scope that neither names is at home at the authority.
- A name of a scope that is at home elsewhere is never sent to any registry of this mirror: whoever owns the name there
  would otherwise decide what is installed here, and would learn what is used here.
- A scope that is at home at the authority is asked for there and nowhere else, also where other sources are configured.
- A denied name needs no refusal: it is left out, and said so.

What this does not do: ask several authorities in one mirror. One mirror has one authority for metadata and signing
keys; another registry is mirrored into a storage of its own. This module is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.names import PackageName

__all__ = ["Home", "is_same_registry", "keep_home", "show_registry"]

_SHOWN: Final = 5
"""Names in a message; it says how many there are."""

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Home:
    """Where a scope is at home.

    Attributes:
        url: the registry's address as it was written.
        origin: where that stands, for people.
    """

    url: str
    origin: str


def keep_home(
    names: Iterable[PackageName], selection: Selection, homes: Mapping[str, Home], *, authority: str
) -> tuple[list[PackageName], list[str]]:
    """Return the names that the authority may be asked for, and sentences about those that are left out.

    Args:
        names: what is to be mirrored.
        selection: for its deny rules.
        homes: scope (with its ``@``) → where it is at home.
        authority: the registry that is asked.

    Raises:
        ConfigurationError: a name that is not denied is at home elsewhere; the message says what to do.
    """
    foreign = {scope: home for scope, home in homes.items() if not is_same_registry(home.url, authority)}
    kept: list[PackageName] = []
    left_out: list[str] = []
    wanted: dict[str, list[PackageName]] = {}
    for name in names:
        home = foreign.get(name.partition("/")[0])
        if home is None:
            kept.append(name)
        elif any(rule.range_text is None for rule in selection.denials_for(name)):
            left_out.append(f"{name}: not asked for: it is denied, and at home at {show_registry(home.url)}")
        else:
            wanted.setdefault(name.partition("/")[0], []).append(name)
    for scope, found in wanted.items():
        raise ConfigurationError(_refusal(scope, found, foreign[scope], authority))
    return kept, left_out


def is_same_registry(one: str, other: str) -> bool:
    """Tell whether two addresses are the same registry; in doubt they are not."""
    return _parts(one) == _parts(other)


def show_registry(url: str) -> str:
    """Return an address for people, without anything that may be a secret."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"[:200]


def _parts(url: str) -> tuple[object, ...]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), parts.path.rstrip("/"), parts.query
    except ValueError:
        return (url,)


def _refusal(scope: str, names: list[PackageName], home: Home, authority: str) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    url = show_registry(home.url)
    return (
        f"{shown}: packages of {scope} are at home at {url} ({home.origin}), and this mirror asks {authority}; nothing "
        f"was asked. Mirror them into a storage of their own (--registry {url} --storage ANOTHER), or keep them out "
        f'with a [[deny]] rule for "{scope}/*". If {authority} is right for them, say so in the configuration: '
        f'scopes = {{"{scope}" = "{authority}"}}'
    )
