"""What each record means for somebody who watches names."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.names import PackageName
from mirrorwitness.sumdb.authority import make_authority
from mirrorwitness.sumdb.records import Event
from mirrorwitness.sumdb.watching import Kind, Known, News, find_stranger, judge_record, make_watch
from tests.fakes.sumdb import REGISTRY, integrity_of, make_record

A, B = b"bytes", b"other bytes"


@pytest.mark.parametrize(
    ("texts", "name", "expected"),
    [
        (["left"], "left", True),
        (["left"], "left-pad", False),
        (["left*"], "left-pad", True),
        (["left*"], "@scope/left", False),
        (["@scope/*"], "@scope/left", True),
        (["@scope/*"], "@scopes/left", False),
        (["*"], "@scope/left", True),
        (["a", "b*"], "bc", True),
    ],
)
def test_names_and_patterns(texts: list[str], name: str, expected: bool) -> None:  # noqa: FBT001
    """A star stands for anything but a slash, and alone for every name."""
    assert make_watch(texts).has(PackageName(name)) is expected


@pytest.mark.parametrize("texts", [[], ["no/such/name"], ["../*"], [""]])
def test_what_is_no_name_is_refused(texts: list[str]) -> None:
    """A monitor that watches nothing would say that all is well."""
    with pytest.raises(ConfigurationError, match="--watch"):
        make_watch(texts)


def judge(event: Event, data: bytes, known: Known | None, *, index: int = 9) -> tuple[Kind | None, Known | None]:
    news, now = judge_record(make_record("left", "1.0.0", data, event=event), index, known)
    return None if news is None else news.kind, now


PUBLISHED = Known(3, integrity_of(A), Event.PUBLISH)
AWAY = Known(3, integrity_of(A), Event.UNPUBLISH)
TORN = Known(3, integrity_of(A), Event.CONFLICT)


@pytest.mark.parametrize(
    ("event", "data", "known", "kind", "now"),
    [
        (Event.PUBLISH, A, None, Kind.PUBLISHED, Known(9, integrity_of(A), Event.PUBLISH)),
        (Event.PUBLISH, A, PUBLISHED, None, PUBLISHED),
        (Event.PUBLISH, A, AWAY, Kind.PUBLISHED, Known(9, integrity_of(A), Event.PUBLISH)),
        (Event.PUBLISH, B, PUBLISHED, Kind.EQUIVOCATION, PUBLISHED),
        (Event.PUBLISH, B, AWAY, Kind.EQUIVOCATION, AWAY),
        (Event.PUBLISH, A, TORN, Kind.EQUIVOCATION, TORN),
        (Event.UNPUBLISH, A, PUBLISHED, Kind.UNPUBLISHED, Known(9, integrity_of(A), Event.UNPUBLISH)),
        (Event.UNPUBLISH, B, PUBLISHED, Kind.EQUIVOCATION, PUBLISHED),
        (Event.SECURITY_HOLD, A, None, Kind.SECURITY_HOLD, Known(9, integrity_of(A), Event.SECURITY_HOLD)),
        (Event.CONFLICT, A, PUBLISHED, Kind.CONFLICT, Known(9, integrity_of(A), Event.CONFLICT)),
        (Event.CONFLICT, A, None, Kind.CONFLICT, Known(9, integrity_of(A), Event.CONFLICT)),
    ],
)
def test_what_a_record_means(event: Event, data: bytes, known: Known | None, kind: Kind | None, now: Known) -> None:
    """One integrity for ever; another one is an equivocation, unless the log itself says conflict."""
    assert judge(event, data, known) == (kind, now)


def test_a_record_that_was_judged_before_means_nothing_new() -> None:
    """A run that died is followed by one that reads the same entries again."""
    assert judge(Event.PUBLISH, B, PUBLISHED, index=3) == (None, PUBLISHED)


def test_what_is_an_alarm() -> None:
    """What disagrees is an alarm at once, what may be nothing only once it is old."""
    alarms = {kind for kind in Kind if News(kind, "", "").is_alarm}
    assert alarms == {Kind.CONFLICT, Kind.EQUIVOCATION, Kind.NO_AUTHORITY, Kind.UNREADABLE, Kind.FORK}
    assert {kind for kind in Kind if kind.is_doubt} == {Kind.OLDER_HEAD, Kind.WITNESS_AHEAD, Kind.WITNESS_SILENT}
    assert News(Kind.WITNESS_AHEAD, "", "", is_old=True).is_alarm


def test_names_of_somebody_else() -> None:
    """A registry that publishes what belongs to another one is told of."""
    authority = make_authority([("@acme", "npm.acme.example")], default=REGISTRY)
    assert find_stranger(make_record("left"), 4, None) is None
    assert find_stranger(make_record("left"), 4, authority) is None
    news = find_stranger(make_record("@acme/left"), 4, authority)
    assert news is not None
    assert news.document() == {
        "kind": "no-authority",
        "is_alarm": True,
        "subject": "@acme/left@1.0.0",
        "reason": f"published by {REGISTRY}, the name belongs to npm.acme.example",
        "index": 4,
        "registry": REGISTRY,
        "integrity": integrity_of(b""),
        "evidence": None,
    }
    nobody = make_authority([("@acme", "npm.acme.example")])
    stranger = find_stranger(make_record("left"), 4, nobody)
    assert stranger is not None
    assert stranger.reason.endswith("no registry that is known here")
