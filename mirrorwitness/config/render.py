"""Render: the commented `mirrorwitness.toml` that ``init`` writes.

Rules:

- Every option stands in it, with its meaning, unit, default and an example, so the file is its own manual.
- What is given stands as a setting; everything else as a comment with the default. With no comment taken away, the file
  reads back as exactly what was given.

What this module does not do: write the file.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final, cast

from mirrorwitness.config.options import (
    Deny,
    Feed,
    Limits,
    Observe,
    Option,
    Registry,
    Select,
    Serve,
    Sumdb,
    list_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["render_config"]

_WIDTH: Final = 100
"""Longest comment line in characters."""

_HEAD: Final = """\
# mirrorwitness: a verified mirror of npm packages.
#
# Lines that begin with # are comments; an option that is commented out shows its default or an example.
# Flags win over MIRRORWITNESS_… environment variables, which win over this file.
# Sizes can be written as "8 MiB", times as "30 s" or "5 min"; plain numbers are bytes and seconds.
"""


def render_config(
    *,
    storage: str | None = None,
    registries: Sequence[str] = (),
    contact: str | None = None,
    public_url: str | None = None,
    lockfiles: Sequence[str] = (),
    names: Sequence[str] = (),
    scopes: Mapping[str, str] | None = None,
) -> str:
    """Write a configuration file.

    Args:
        storage: the storage's address.
        registries: addresses, the authority first.
        contact: the operator's address.
        public_url: the mirror's address.
        lockfiles: lockfiles to mirror, as paths relative to the file.
        names: packages to mirror.
        scopes: scope → registry that it is at home at.

    Returns:
        TOML with comments.
    """
    options = list_options()
    given = {"storage": storage, "contact": contact, "public_url": public_url, "scopes": scopes or None}
    parts = [_HEAD, "\n", _table(options, "", given)]
    parts += _tables(options, "registry", Registry.__doc__, [{"url": url} for url in registries])
    wishes: list[dict[str, object]] = [{"lockfile": path} for path in lockfiles]
    if names:
        wishes.append({"name": list(names)})
    parts += _tables(options, "select", Select.__doc__, wishes)
    parts += _tables(options, "deny", Deny.__doc__, [])
    tables = (("feed", Feed), ("sumdb", Sumdb), ("limits", Limits), ("serve", Serve), ("observe", Observe))
    for name, table in tables:
        parts.append(f"\n{_comment(table.__doc__)}[{name}]\n{_table(options, f'{name}.', {})}")
    return "".join(parts)


def _tables(options: Sequence[Option], name: str, doc: str | None, given: Sequence[Mapping[str, object]]) -> list[str]:
    """Render an array of tables: the explained one first, further ones short."""
    first: Mapping[str, object] = given[0] if given else {}
    header = f"[[{name}]]" if given else f"# [[{name}]]"
    parts = [f"\n{_comment(doc)}{header}\n{_table(options, f'{name}[].', first)}"]
    parts += [
        f"\n[[{name}]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in more.items()) for more in given[1:]
    ]
    return parts


def _table(options: Sequence[Option], prefix: str, given: Mapping[str, object]) -> str:
    lines: list[str] = []
    for option in options:
        name = option.key.removeprefix(prefix)
        if not option.key.startswith(prefix) or "." in name:
            continue
        lines.append(f"\n{_comment(option.description)}")
        value = given.get(name)
        if value is not None:
            lines.append(f"{name} = {_toml(value)}\n")
        elif option.examples and not option.default:
            lines.extend(f"# {name} = {_toml(example)}\n" for example in option.examples)
        else:
            lines.append(f"# {name} = {_toml(option.default)}\n")
    return "".join(lines).removeprefix("\n")


def _comment(text: str | None) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text or "", _WIDTH))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in cast('Sequence[object]', value))}]"
    if isinstance(value, dict):
        items = cast("Mapping[str, object]", value).items()
        return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in items)}}}"
    if isinstance(value, int | float):
        text = str(value)
        return text if text.isdigit() else f'"{text}"'
    # JSON's strings are TOML's basic strings, but for the delete character.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
