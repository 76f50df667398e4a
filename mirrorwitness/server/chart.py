"""Drawings for the status page, as SVG text: the lag of a shard over a day, and a bar. Pure.

The lag's scale is logarithmic: a day's common 20 seconds and its outage of two hours are both to be seen.
Numbers only: nothing here takes text from outside, and nothing needs escaping.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from mirrorwitness.mirror.health import format_span

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DAY", "draw_bar", "draw_lag"]

DAY: Final = 86_400.0
"""Seconds that the drawing shows."""

GAP: Final = 3600.0
"""Points further apart are not joined: nobody followed between them."""

LEAST: Final = 1.0
"""Seconds at the bottom."""

LEAST_TOP: Final = 600.0
"""Seconds at the top, at least: a quiet day looks the same every day."""

_LINES: Final = ((60.0, "1 min"), (3600.0, "1 h"), (86_400.0, "1 d"), (30 * 86_400.0, "30 d"))
_WIDTH: Final = 440
_HEIGHT: Final = 150
_LEFT: Final = 38
_RIGHT: Final = 436
_TOP: Final = 8
_BOTTOM: Final = 126


def draw_lag(history: Sequence[tuple[float, float]], now: float, lag: float | None) -> str:
    """Draw a shard's lag over the last day.

    Args:
        history: pairs of time (seconds since 1970) and lag (seconds), oldest first.
        now: the time at the right edge.
        lag: the lag now, None where it is not known.
    """
    points = [(at, value) for at, value in history if now - DAY <= at <= now]
    if lag is not None:
        points.append((now, lag))
    highest = max((value for _, value in points), default=0.0)
    top = max(highest, LEAST_TOP)
    label = f"lag over the last 24 hours, at most {format_span(highest)}" if points else "no lag is known yet"
    lines = "".join(_line(run, now, top) for run in _runs(points))
    return (
        f'<svg class="lag" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}"><title>{label}</title>'
        f"{_grid(top)}{lines}{_hours()}</svg>"
    )


def draw_bar(share: float) -> str:
    """Draw which share, from 0 to 1, is used up."""
    share = min(1.0, max(0.0, share))
    label = f"{share * 100:.0f} % used"
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 12" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<title>{label}</title><rect class="all" width="{_WIDTH}" height="12"/>'
        f'<rect class="used" width="{share * _WIDTH:.1f}" height="12"/></svg>'
    )


def _grid(top: float) -> str:
    shown = [(_height(seconds, top), text) for seconds, text in ((LEAST, "1 s"), *_LINES) if seconds <= top]
    rows = "".join(f"M{_LEFT} {y:.1f}H{_RIGHT}" for y, _ in shown)
    texts = "".join(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>' for y, text in shown)
    return f'<path class="grid" d="{rows}"/>{texts}'


def _hours() -> str:
    places = ((0.0, "start", "24 h ago"), (0.5, "middle", "12 h ago"), (1.0, "end", "now"))
    return "".join(
        f'<text x="{_LEFT + (_RIGHT - _LEFT) * share:g}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{text}</text>'
        for share, anchor, text in places
    )


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if runs and 0 <= point[0] - runs[-1][-1][0] <= GAP:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _line(run: Sequence[tuple[float, float]], now: float, top: float) -> str:
    places = [(_RIGHT - (_RIGHT - _LEFT) * (now - at) / DAY, _height(value, top)) for at, value in run]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    (first, _), (last, end) = places[0], places[-1]
    area = f'<path class="area" d="M{first:.1f} {_BOTTOM}L{path}L{last:.1f} {_BOTTOM}Z"/>'
    # A run of one point has no line; its dot shows it.
    dot = f'<circle cx="{last:.1f}" cy="{end:.1f}" r="3"/>' if len(run) == 1 or run[-1][0] >= now else ""
    return f'{area}<path class="line" d="M{path}"/>{dot}'


def _height(seconds: float, top: float) -> float:
    share = math.log(max(seconds, LEAST) / LEAST) / math.log(top / LEAST)
    return _BOTTOM - (_BOTTOM - _TOP) * min(1.0, share)
