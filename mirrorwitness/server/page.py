"""The status page: one HTML document from one snapshot, for a person who wants to know how the mirror is. Pure.

Rules:

- Everything that is not a constant of this module goes through `_text`: HTML is escaped, and characters that control
  or turn text are shown as escapes. Names of packages and reasons come from upstream, who may be hostile.
- Self-contained: one inline style sheet, drawings as SVG, no script, no font, no picture, no request but for itself.
  The policy that is sent with it allows exactly that sheet, by its digest, and nothing else.
- Bounded: `SHARDS_SHOWN` shards, as many unfinished packages and alarms as the snapshot has.
- Readable without colour, in light and in dark, and at the width of a telephone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from typing import TYPE_CHECKING, Final

from mirrorwitness.mirror.health import format_span, lag_of, last_alarms, saved_at
from mirrorwitness.server.chart import draw_bar, draw_lag
from mirrorwitness.server.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.mirror.budget import BudgetState
    from mirrorwitness.mirror.health import ShardCursor
    from mirrorwitness.mirror.snapshot import MirrorSnapshot
    from mirrorwitness.server.asgi import Exchange

__all__ = ["PAGE_POLICY", "SHARDS_SHOWN", "answer_status", "render_status"]

SHARDS_SHOWN: Final = 32
"""Shards on the page, those that lag most; metrics have all."""

_REASON_CHARACTERS: Final = 400
_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_FOOTER: Final = (
    '<footer><a href="about.json">about.json</a><a href="metrics">metrics</a><a href="readyz">readyz</a>'
    "<span>Every byte matched its digest when it was stored. That proves authenticity, never safety.</span>"
    "</footer>\n</body>\n</html>\n"
)
_DIGEST: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

PAGE_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox"
)
"""The page's Content-Security-Policy."""


async def answer_status(exchange: Exchange, snapshot: MirrorSnapshot) -> None:
    """Send the page."""
    headers = {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": PAGE_POLICY,
        "referrer-policy": "no-referrer",
    }
    await exchange.respond(200, headers, render_status(snapshot))


def render_status(snapshot: MirrorSnapshot) -> bytes:
    """Return the page for a snapshot."""
    state, word = ("bad", "stuck") if snapshot.troubles else ("good", "working")
    at = snapshot.at.strftime("%Y-%m-%d %H:%M:%S UTC")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{word}: mirrorwitness</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        f'<header><h1>npm mirror</h1><p class="state {state}">{word}</p>',
        f'<p class="at">as of <time>{at}</time></p></header>\n<main>\n',
        _troubles(snapshot.troubles),
        _figures(snapshot),
        _shards(snapshot),
        _budget(snapshot.budget),
        _unfinished(snapshot),
        _alarms(snapshot),
        _keys(snapshot),
        "</main>\n",
        _FOOTER,
    ]
    return "".join(parts).encode()


def _troubles(troubles: Sequence[str]) -> str:
    if not troubles:
        return ""
    items = "".join(f"<li>{_text(trouble)}</li>" for trouble in troubles)
    return f'<section class="troubles"><h2>Why it is stuck</h2><ul>{items}</ul></section>\n'


def _figures(snapshot: MirrorSnapshot) -> str:
    coverage, run = snapshot.coverage, snapshot.run
    lags = [lag_of(cursor.record, snapshot.at) for cursor in snapshot.cursors]
    known = [lag for lag in lags if lag is not None]
    lag = "not caught up yet" if None in lags else format_span(max(known)) if known else "no feed"
    unfinished = f"{snapshot.unfinished_total:,}{'' if snapshot.is_total_exact else ' or more'}"
    figures = [
        ("behind its registry", lag),
        ("packages", "not counted" if coverage is None else f"{coverage.packages:,}"),
        ("versions", "not counted" if coverage is None else f"{coverage.versions:,}"),
        ("of tarballs", "not counted" if coverage is None else _bytes(coverage.bytes)),
        ("unfinished packages", unfinished),
        ("owed revisions", f"{sum(cursor.record.owed for cursor in snapshot.cursors):,}"),
    ]
    if not snapshot.cursors:
        complete = None if run is None else run.last_complete
        figures[-1] = ("last complete run", "none" if complete is None else complete[:10])
    items = "".join(f"<div><dd>{_text(value)}</dd><dt>{name}</dt></div>" for name, value in figures)
    return f'<dl class="figures">{items}</dl>\n'


def _shards(snapshot: MirrorSnapshot) -> str:
    if not snapshot.cursors:
        return (
            "<section><h2>Following</h2><p>This mirror follows no feed; <code>sync --once</code> brings it up to date."
            "</p></section>\n"
        )
    ranked = sorted(snapshot.cursors, key=lambda cursor: -(lag_of(cursor.record, snapshot.at) or 0))
    shown = sorted(ranked[:SHARDS_SHOWN], key=lambda cursor: (cursor.shard.total, cursor.shard.index))
    rest = len(ranked) - len(shown)
    more = f"<p>{rest} more shards lag less; metrics have all.</p>" if rest else ""
    cards = "".join(_shard(cursor, snapshot) for cursor in shown)
    return f'<section><h2>Following</h2><div class="shards">{cards}</div>{more}</section>\n'


def _shard(cursor: ShardCursor, snapshot: MirrorSnapshot) -> str:
    record, now = cursor.record, snapshot.at
    lag = lag_of(record, now)
    sweep = record.sweep
    comparing = "never yet"
    if sweep is not None:
        comparing = f"now ({sweep.reason}): {sweep.listed:,} so far, {sweep.behind:,} behind"
    elif record.swept:
        comparing = _ago(now.timestamp() - record.swept)
    saved = saved_at(record)
    facts = [
        ("lag", "not caught up yet" if lag is None else format_span(lag)),
        ("position", record.position if record.position == record.head else f"{record.position} of {record.head}"),
        ("owed revisions", f"{record.owed:,}"),
        ("unfinished", f"{record.unfinished:,}"),
        ("all names compared", comparing),
        ("cursor saved", "unknown" if saved is None else _ago((now - saved).total_seconds())),
    ]
    rows = "".join(f"<tr><th>{name}</th><td>{_text(value)}</td></tr>" for name, value in facts)
    title = "The whole mirror" if cursor.shard.total == 1 else f"Shard {cursor.shard}"
    return (
        f"<article><h3>{title}</h3><figure><figcaption>lag over the last 24 hours</figcaption>"
        f"{draw_lag(record.history, now.timestamp(), lag)}</figure><table>{rows}</table></article>"
    )


def _budget(budget: BudgetState | None) -> str:
    if budget is None:
        return ""
    share = budget.taken / budget.allowed if budget.allowed else 0.0
    return (
        "<section><h2>Requests to upstream this month</h2>"
        f"{draw_bar(share)}<p><strong>{budget.left:,}</strong> of {budget.allowed:,} left; {budget.taken:,} taken in "
        f"{_text(budget.month)}. Renews {_text(budget.renews[:10])}.</p></section>\n"
    )


def _unfinished(snapshot: MirrorSnapshot) -> str:
    notes = snapshot.unfinished
    if not notes:
        return "<section><h2>Unfinished</h2><p>Nothing: every package is complete.</p></section>\n"
    rows = "".join(
        f"<tr><td><code>{_text(note.name)}</code></td><td>{_text(note.reason)}</td>"
        f'<td class="number">{note.attempts}</td><td>{_time(note.first)}</td><td>{_time(note.next_try)}</td></tr>'
        for note in notes
    )
    rest = snapshot.unfinished_total - len(notes)
    more = f"<p>{rest:,} more: <code>mirrorwitness status</code> lists them.</p>" if rest > 0 else ""
    return (
        "<section><h2>Unfinished</h2>"
        '<div class="wide"><table class="list"><thead><tr><th>package</th><th>why</th><th class="number">tries</th>'
        f"<th>since (UTC)</th><th>next try (UTC)</th></tr></thead><tbody>{rows}</tbody></table></div>{more}</section>\n"
    )


def _alarms(snapshot: MirrorSnapshot) -> str:
    alarms = last_alarms(snapshot.cursors)
    if not alarms:
        return "<section><h2>Alarms</h2><p>None.</p></section>\n"
    items = "".join(
        f'<li><span class="when">{_time(at)}{"" if shard == "1/1" else f" · shard {shard}"}</span> '
        f"<strong>{_text(kind)}</strong><br>{_text(text)}</li>"
        for at, kind, text, shard in alarms
    )
    return f'<section><h2>Last alarms (UTC)</h2><ul class="alarms">{items}</ul></section>\n'


def _keys(snapshot: MirrorSnapshot) -> str:
    keys = snapshot.keys.keys
    if not keys:
        return "<section><h2>Signing keys</h2><p>The registry has none, or none were copied.</p></section>\n"
    items = "".join(
        f"<li><code>{_text(key.keyid)}</code> "
        f'<span class="when">{"no expiry" if key.expires is None else f"expires {key.expires:%Y-%m-%d}"}</span></li>'
        for key in keys
    )
    return f"<section><h2>Signing keys of the registry</h2><ul>{items}</ul></section>\n"


def _text(value: str) -> str:
    """Return text as HTML, on one line, bounded, with nothing in it that controls or turns text."""
    if len(value) > _REASON_CHARACTERS:
        value = f"{value[:_REASON_CHARACTERS]}…"
    return escape(_CONTROL.sub(lambda found: ascii(found[0])[1:-1], value))


def _ago(seconds: float) -> str:
    return f"{format_span(max(0.0, seconds))} ago"


def _time(stamp: str) -> str:
    """Return an ISO time without what a person does not need."""
    return _text(stamp.replace("T", " ")[:16])


def _bytes(count: float) -> str:
    unit = "B"
    for larger in _UNITS:
        if count < 1000:  # noqa: PLR2004 - the step of decimal units
            break
        count, unit = count / 1000, larger
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
