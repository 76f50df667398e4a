"""Logs: JSON lines with fixed events, text on a terminal, and nothing that a value from outside could forge."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from mirrorwitness.telemetry import configure_logs

if TYPE_CHECKING:
    import pytest

HOSTILE = 'x\n{"event": "forged"}\r\x1b[2J\u202egnp.exe\u2028 "quoted"'


def lines(captured: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.splitlines()]


def test_each_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With its name, level, time and fields; standard output stays empty."""
    configure_logs(level="info", is_terminal=False)
    logging.getLogger("mirrorwitness.run").info("package_finished", extra={"package": "left", "refused": 2})
    out, err = capsys.readouterr()
    (line,) = lines(err)
    assert out == ""
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "package_finished", "level": "info", "package": "left", "refused": 2}


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not shown; a second call replaces the first."""
    configure_logs(level="info", is_terminal=False)
    configure_logs(level="warning", is_terminal=False)
    log = logging.getLogger("mirrorwitness.server")
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in lines(capsys.readouterr().err)] == ["loud"]


def test_attack_forged_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A name or a reason with line ends, terminal escapes and turned text is one field of one line of plain ASCII."""
    configure_logs(level="info", is_terminal=False)
    logging.getLogger("mirrorwitness.run").warning("alarm", extra={"text": HOSTILE})
    err = capsys.readouterr().err
    assert err.isascii()
    assert err.rstrip("\n").isprintable()
    (line,) = lines(err)
    assert (line["event"], line["text"]) == ("alarm", HOSTILE)


def test_attack_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the same is shown as escapes: our own colours are the only control characters."""
    configure_logs(level="info", is_terminal=True)
    logging.getLogger("mirrorwitness.run").warning("alarm", extra={"text": HOSTILE})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b[2J" not in err
    assert "\u202e" not in err
    assert "\\x1b[2J" in err


def test_exceptions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug's traceback is a field of its line."""
    configure_logs(level="error", is_terminal=False)
    try:
        int("a bug")
    except ValueError:
        logging.getLogger("mirrorwitness.run.connection").exception("answer_broken", extra={"client": "127.0.0.1"})
    (line,) = lines(capsys.readouterr().err)
    assert (line["event"], line["client"]) == ("answer_broken", "127.0.0.1")
    assert "ValueError: invalid literal" in line["exception"]


def test_a_log_that_cannot_be_written_ends_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard error may be gone; work goes on."""

    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

    configure_logs(level="error", is_terminal=False)
    monkeypatch.setattr("sys.stderr", Gone())
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("mirrorwitness.run").error("lost")
    monkeypatch.undo()
    assert capsys.readouterr().err == ""
