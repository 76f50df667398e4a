"""Lists of logs in the format of the witness network. Pure.

    logs/v0
    vkey <vkey>            begins a log
    origin <origin>        where it is not the key's name
    qpd <number>           requests that the log will send in a day
    contact <text>

Rules:

- White space around a line means nothing, and neither do blank lines and lines that begin with ``#``.
- A list may add logs, and never removes or changes one (`merge_lists`).
- An entry has one key, and a log is new where its origin is. A second key for an origin, of a later list or of the
  very same one, is therefore no rotation: the first is kept, and the other one is a sentence that a person looks at.
  Whoever could add a line to a list could sign for the log otherwise, and what is known would hang on which list was
  read first. An operator who knows better names all keys of the log (``--log``).

SPEC: transparency-dev/witness-network, log-list format, and "Automate discovery of logs".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.witness.logs import parse_log_flag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.witness.logs import WitnessedLog

__all__ = ["ListedLog", "format_log_list", "merge_lists", "parse_log_list"]

HEADER: Final = "logs/v0"
MAX_LIST_BYTES: Final = 64 * 1024 * 1024
"""Largest list: 40,000 logs with post-quantum keys of 1,750 characters."""

_MAX_QPD: Final = 2**31 - 1
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class ListedLog:
    """A log as a list has it.

    Attributes:
        log: who it is.
        qpd: requests in a day; None where it does not say.
        contact: whom to ask; empty where it does not say.
    """

    log: WitnessedLog
    qpd: int | None = None
    contact: str = ""


def parse_log_list(body: bytes, *, name: str) -> tuple[ListedLog, ...]:
    """Read a list; `name` is what messages call it.

    Raises:
        ConfigurationError: a line cannot be read; the message gives its number.
    """
    if len(body) > MAX_LIST_BYTES:
        raise ConfigurationError(f"{name}: {len(body)} bytes, expected at most {MAX_LIST_BYTES}")
    try:
        lines = body.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name}: byte {error.start} is not UTF-8") from error
    found: list[ListedLog] = []
    is_headed = False
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if not is_headed:
            if line != HEADER:
                raise ConfigurationError(f"{name}, line {number}: {line[:100]!r}, expected {HEADER!r}")
            is_headed = True
            continue
        try:
            _take(found, line)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}, line {number}: {error}") from error
    if not is_headed:
        raise ConfigurationError(f"{name}: expected {HEADER!r} as the first line")
    return tuple(found)


def format_log_list(logs: Iterable[ListedLog]) -> bytes:
    """Write a list; of each log its first key."""
    lines = [HEADER]
    for item in logs:
        key = item.log.keys[0]
        lines += ["", f"vkey {key}"]
        lines += [f"origin {item.log.origin}"] if item.log.origin != key.name else []
        lines += [f"qpd {item.qpd}"] if item.qpd is not None else []
        lines += [f"contact {item.contact}"] if item.contact else []
    return "".join(f"{line}\n" for line in lines).encode()


def merge_lists(known: Iterable[ListedLog], more: Iterable[ListedLog]) -> tuple[tuple[ListedLog, ...], tuple[str, ...]]:
    """Add what a newer list has; nothing that is known changes or goes away.

    Returns:
        All logs, and a sentence for each that the newer list has with another key than the one that is known, or that
        stands above it: for a person to look at.
    """
    merged = {item.log.origin: item for item in known}
    complaints: list[str] = []
    for item in more:
        before = merged.setdefault(item.log.origin, item)
        if not set(item.log.keys) <= set(before.log.keys):
            complaints.append(
                f"{item.log.origin!r} is listed with the key {_names(item.log)}, and known with {_names(before.log)}: "
                "nothing changes; where both are the log's, give both with --log"
            )
    return tuple(merged.values()), tuple(complaints)


def _names(log: WitnessedLog) -> str:
    """Return the names and IDs of a log's keys, which tell them apart."""
    return ", ".join(f"{key.name}+{key.key_id.hex()}" for key in log.keys)


def _take(found: list[ListedLog], line: str) -> None:
    word, _, value = line.partition(" ")
    if word == "vkey":
        log = parse_log_flag(value)
        if log.url is not None:
            raise ConfigurationError(f"{line[:100]!r}: expected a vkey and nothing else")
        found.append(ListedLog(log))
        return
    if not found:
        raise ConfigurationError(f"{line[:100]!r} stands before the first vkey")
    last = found[-1]
    if word == "origin" and value:
        found[-1] = replace(last, log=replace(last.log, origin=value))
    elif word == "qpd" and _NUMBER.fullmatch(value) and int(value) <= _MAX_QPD:
        found[-1] = replace(last, qpd=int(value))
    elif word == "contact" and value:
        found[-1] = replace(last, contact=value)
    else:
        raise ConfigurationError(f"{line[:100]!r}: expected vkey, origin, qpd (1 to 2^31-1) or contact, and a value")
