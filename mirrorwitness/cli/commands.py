"""Commands by name, each imported when somebody calls it.

Every command's module brings in what it works with. All of them together take most of a second to import, which a check
in a CI job, or a scheduled job every minute, would spend on what it does not use.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import click

__all__ = ["Commands"]


class Commands(MutableMapping[str, "click.Command"]):
    """The commands of a group, for `click.Group`.

    Args:
        places: name → ``module:attribute``, the module being one of this package.
        below: name of a group → the places of commands that are added to it.
    """

    def __init__(self, places: Mapping[str, str], below: Mapping[str, Sequence[str]]) -> None:
        self._places = dict(places)
        self._below = below
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            command = _load(self._places[name])
            for place in self._below.get(name, ()):
                cast("click.Group", command).add_command(_load(place))
            self._loaded[name] = command
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places.setdefault(name, "")  # its place does not matter any more: it is here
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _load(place: str) -> click.Command:
    module, _, attribute = place.partition(":")
    return cast("click.Command", getattr(import_module(f"mirrorwitness.cli.{module}"), attribute))
