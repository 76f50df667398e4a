"""Schedules of CronJobs: read one as Kubernetes does, and say how often it comes round. Of the syntax what we use."""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due: the minutes of a day, on all days or on some."""

    minutes: tuple[int, ...]

    @property
    def interval(self) -> int:
        """The shortest time between two runs, in seconds."""
        following = [*self.minutes[1:], self.minutes[0] + DAY]
        return 60 * min(after - before for before, after in zip(self.minutes, following, strict=True))


def parse_schedule(text: str) -> Schedule:
    """Read five fields.

    Raises:
        ValueError: there are not five, or one is out of its range.
    """
    words = text.split()
    if len(words) != len(FIELDS):
        raise ValueError(f"{text!r} has {len(words)} fields, expected 5")
    values = [_parse_field(word, *field) for word, field in zip(words, FIELDS, strict=True)]
    return Schedule(tuple(sorted(hour * 60 + minute for hour in values[1] for minute in values[0])))


def _parse_field(word: str, name: str, least: int, most: int) -> tuple[int, ...]:
    found: set[int] = set()
    for item in word.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        if not (span == "*" or (first.isdecimal() and (last.isdecimal() or not last))) or (
            step and not step.isdecimal()
        ):
            raise ValueError(f"{name} {word!r} cannot be read")
        begin, end = (least, most) if span == "*" else (int(first), int(last or (most if step else first)))
        if not least <= begin <= end <= most or step == "0":
            raise ValueError(f"{name} {word!r} is not within {least} to {most}")
        found.update(range(begin, end + 1, int(step or 1)))
    return tuple(sorted(found))
