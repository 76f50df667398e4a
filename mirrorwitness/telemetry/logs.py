"""Logs: one JSON object a line on standard error, or coloured text where that is a terminal.

Rules:

- Every line has ``event``, a fixed name; ``level``; ``timestamp``, ISO 8601 in UTC; and fields of its own. What differs
  from one line to the next stands in fields, never in the name (STYLE 43).
- Values come from outside too: names of packages, reasons of upstreams. JSON escapes everything but printable ASCII,
  and the text of a terminal shows control characters as escapes, so no value can forge a line or drive a terminal.
- Standard output is never written to.

What this does not do: rotate, ship or sample; whoever runs the process does.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Final, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LEVELS", "configure_logs"]

LEVELS: Final = ("debug", "info", "warning", "error")

_ROOT: Final = "mirrorwitness"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of text, and lone surrogates."""


def configure_logs(*, level: str, is_terminal: bool) -> None:
    """Decide what becomes of this process's logs; the last call counts.

    Args:
        level: the least that is shown, one of `LEVELS`.
        is_terminal: write text for people instead of JSON.
    """
    logger = logging.getLogger(_ROOT)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _StandardError)]:
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(_make_formatter(is_terminal=is_terminal))
    logger.addHandler(handler)
    logger.setLevel(level.upper())


class _StandardError(logging.Handler):
    """Writes to what standard error is at that moment: progress bars replace it while they are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - a log that cannot be written must not end what it tells of
            self.handleError(record)


def _make_formatter(*, is_terminal: bool) -> logging.Formatter:
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor]
    if is_terminal:
        rendering = [_escape, structlog.dev.ConsoleRenderer(colors=True)]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: _show(cast("object", value)) if key != "exc_info" else value for key, value in event.items()}


def _show(value: object) -> object:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], value) if isinstance(value, str) else value
