"""Layers: the settings of one source (file, environment, flags), and one merge over them.

    flags > environment > file > defaults

Rules:

- A layer is plain nested data as TOML gives it, and where each value came from, for messages.
- A later layer replaces a value; tables (``feed``, ``limits``, …) merge key by key, lists are replaced whole.
- An environment variable that begins with ``MIRRORWITNESS_`` and names no option is an error with a suggestion, unless
  it is a token that a registry's ``token_env`` names. An empty variable is not set.

What this module does not do: open files, or know types (`mirrorwitness.config.load`).
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from mirrorwitness.config.options import list_options
from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CONFIG_VARIABLE", "PREFIX", "Layer", "merge", "parse_file", "read_environment", "read_flags", "suggest"]

PREFIX: Final = "MIRRORWITNESS_"
CONFIG_VARIABLE: Final = "MIRRORWITNESS_CONFIG"

WEBHOOK_VARIABLE: Final = "MIRRORWITNESS_WEBHOOK"
"""The environment variable with a witness's webhook; no option of a mirror."""

PASSPHRASE_VARIABLE: Final = "MIRRORWITNESS_KEY_PASSPHRASE"  # noqa: S105 - its name
"""The environment variable with the passphrase of a witness's encrypted keys; no option, so that no file has it."""
"""The configuration file's path; read by `mirrorwitness.config.load.find_config`."""

_REGISTRY_VARIABLE: Final = "MIRRORWITNESS_REGISTRY"
"""Registries' addresses, separated by spaces."""

_FLAGS: Final = {"sumdb.url": "sumdb", "sumdb.vkeys": "sumdb"}
"""Options whose flag is called otherwise."""

_TABLES: Final = frozenset({"feed", "limits", "serve", "observe", "scopes", "sumdb"})


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings of one source.

    Attributes:
        values: nested data.
        origins: dotted key → where its value came from; a missing key has the origin of its longest known prefix.
    """

    values: Mapping[str, object]
    origins: Mapping[str, str]


def parse_file(text: str, *, path: str) -> Layer:
    """Read the text of a configuration file.

    Args:
        text: TOML.
        path: the file's path, for messages.

    Returns:
        Its layer.

    Raises:
        ConfigurationError: it is not TOML; the message gives line, column and reason.
    """
    try:
        values = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: is nested too deeply") from error
    if "registry" in values:
        values["registry"] = _as_tables(values["registry"])
    return Layer(values, {"": path})


def read_environment(environ: Mapping[str, str], *, tokens: Iterable[str] = ()) -> Layer:
    """Read the ``MIRRORWITNESS_…`` variables.

    Args:
        environ: the environment.
        tokens: variables that hold a registry's token and are no options.

    Returns:
        Their layer.

    Raises:
        ConfigurationError: a variable names no option.
    """
    known = {option.environment: option.key for option in list_options() if option.environment}
    known[_REGISTRY_VARIABLE] = "registry"
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for variable, text in environ.items():
        if (
            not variable.startswith(PREFIX)
            or variable in {CONFIG_VARIABLE, PASSPHRASE_VARIABLE, WEBHOOK_VARIABLE, *tokens}
            or not text.strip()
        ):
            continue
        key = known.get(variable)
        if key is None:
            raise ConfigurationError(
                f"environment variable {variable} names no option{suggest(variable, known, prefix=PREFIX)}"
            )
        _put(values, key, _as_tables(text.split()) if key == "registry" else _plain(text.strip()))
        origins[key] = f"environment variable {variable}"
    return Layer(values, origins)


def read_flags(flags: Mapping[str, object]) -> Layer:
    """Make a layer of what the command line gave.

    Args:
        flags: dotted key → value; None and an empty tuple mean that the flag was not given.

    Returns:
        Their layer.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for key, value in flags.items():
        if value is not None and value != ():
            _put(values, key, _as_tables(value) if key == "registry" else value)
            origins[key] = f"flag --{_FLAGS.get(key) or key.rpartition('.')[2].replace('_', '-')}"
    return Layer(values, origins)


def merge(*layers: Layer) -> Layer:
    """Put layers on top of each other.

    Args:
        layers: the weakest first.

    Returns:
        One layer with the strongest value of each key.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        origins.update({f"{key}": layer.origins.get("", "") for key in layer.values if "" in layer.origins})
        for key, value in layer.values.items():
            below = values.get(key)
            if key in _TABLES and isinstance(value, dict) and isinstance(below, dict):
                values[key] = {**cast("dict[str, object]", below), **cast("dict[str, object]", value)}
            else:
                values[key] = value
        origins.update(layer.origins)
    return Layer(values, origins)


def suggest(found: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return the end of a message about a misspelt word: what it may have meant, or what there is.

    Args:
        found: the word.
        known: the right words.
        prefix: what all of them begin with; it makes no two words alike.
    """
    words = sorted(known)
    close = difflib.get_close_matches(found.removeprefix(prefix), [word.removeprefix(prefix) for word in words], n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else f"; there are: {', '.join(words)}"


def _put(values: dict[str, object], key: str, value: object) -> None:
    table, dot, name = key.partition(".")
    if dot:
        inner = values.setdefault(table, {})
        cast("dict[str, object]", inner)[name] = value
    else:
        values[key] = value


def _plain(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


def _as_tables(value: object) -> object:
    """Return ``registry`` in its long form: one address and a list of addresses are short for tables."""
    if isinstance(value, str):
        return [{"url": value}]
    if isinstance(value, dict):
        return [cast("object", value)]
    if not isinstance(value, list | tuple):
        return value
    return [{"url": item} if isinstance(item, str) else item for item in cast("list[object]", value)]
