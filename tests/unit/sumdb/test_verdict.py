"""What a record means for what somebody wants to use."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from itertools import product

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import Event, Record
from mirrorwitness.sumdb.verdict import Judgement, Verdict, Wanted, exit_code_of, judge
from tests.fakes.sumdb import REGISTRY, integrity_of, make_record

RIGHT, WRONG = integrity_of(b"left"), integrity_of(b"evil")
RECORD = make_record("left", "1.0.0", b"left")


def sri(algorithm: str, data: bytes) -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, data, usedforsecurity=False).digest()).decode()}"


def wanted(integrity: str | None = RIGHT, *, is_pinned: bool = True, registry: str | None = None) -> Wanted:
    return Wanted(PackageName("left"), Version("1.0.0"), integrity, is_pinned=is_pinned, registry=registry)


def verdict_of(integrity: str | None, record: Record = RECORD) -> Verdict:
    return judge(wanted(integrity), record).verdict


def test_the_same_integrity_is_verified() -> None:
    """Nothing has to be said."""
    assert judge(wanted(), RECORD) == Judgement(Verdict.VERIFIED)
    assert str(wanted()) == "left@1.0.0"


@pytest.mark.parametrize(
    ("integrity", "expected"),
    [
        (RIGHT, Verdict.VERIFIED),
        (f"{sri('sha1', b'evil')} {RIGHT}", Verdict.VERIFIED),  # the strongest decides
        (WRONG, Verdict.OTHER_INTEGRITY),
        (f"{RIGHT} {WRONG}", Verdict.OTHER_INTEGRITY),  # a lockfile that would take either
        (sri("sha1", b"left"), Verdict.WEAK_INTEGRITY),
        (sri("sha1", b"evil"), Verdict.OTHER_INTEGRITY),
        (f"{sri('sha1', b'left')} {sri('sha1', b'evil')}", Verdict.OTHER_INTEGRITY),
        (sri("sha256", b"left"), Verdict.NO_INTEGRITY),  # the record has none of these
        (sri("md5", b"left"), Verdict.NO_INTEGRITY),
        ("", Verdict.NO_INTEGRITY),
        (None, Verdict.NO_INTEGRITY),
    ],
)
def test_integrities(integrity: str | None, expected: Verdict) -> None:
    """The strongest algorithm of both decides; what cannot be compared is not verified."""
    assert verdict_of(integrity) is expected


def test_stripped_integrity_is_never_verified() -> None:
    """Whatever the record is."""
    for event in (Event.PUBLISH, Event.UNPUBLISH, Event.SECURITY_HOLD):
        assert verdict_of(None, replace(RECORD, event=event)) is Verdict.NO_INTEGRITY


def test_a_record_with_weaker_digests_beside() -> None:
    """SHA-256 alone is enough where both have it; SHA-1 of the integrity is SHA-1."""
    both = replace(RECORD, integrity=f"{RIGHT} {sri('sha256', b'left')} {sri('sha1', b'left')}", shasum=None)
    assert verdict_of(sri("sha256", b"left"), both) is Verdict.VERIFIED
    assert verdict_of(sri("sha256", b"evil"), both) is Verdict.OTHER_INTEGRITY
    assert verdict_of(sri("sha1", b"left"), both) is Verdict.WEAK_INTEGRITY
    assert verdict_of(sri("sha1", b"left"), replace(RECORD, shasum=None)) is Verdict.NO_INTEGRITY


def test_a_name_alone_asks_only_whether_it_is_logged() -> None:
    """Nobody said which bytes; the record does."""
    assert judge(wanted(None, is_pinned=False), RECORD) == Judgement(Verdict.VERIFIED)


def test_a_conflict_is_a_divergence_whichever_integrity_is_wanted() -> None:
    """Both are named."""
    record = make_record("left", data=b"left", event=Event.CONFLICT, other=b"evil")
    for integrity in (RIGHT, WRONG, None):
        judgement = judge(wanted(integrity), record)
        assert judgement.verdict is Verdict.CONFLICT
        assert RIGHT in judgement.reason
        assert WRONG in judgement.reason


def test_other_registrys_record() -> None:
    """Only where one is expected: mirrors repeat names, and that is their task."""
    assert judge(wanted(registry=REGISTRY), RECORD).verdict is Verdict.VERIFIED
    judgement = judge(wanted(registry="npm.acme.example"), RECORD)
    assert judgement == Judgement(
        Verdict.OTHER_REGISTRY, "the log's record is of registry.example, expected one of npm.acme.example"
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [(Event.UNPUBLISH, Verdict.WITHDRAWN), (Event.SECURITY_HOLD, Verdict.SECURITY_HOLD)],
)
def test_what_was_taken_away_still_has_its_bytes(event: Event, expected: Verdict) -> None:
    """It is told; other bytes weigh more."""
    record = replace(RECORD, event=event)
    judgement = judge(wanted(), record)
    assert (judgement.verdict, REGISTRY in judgement.reason) == (expected, True)
    assert verdict_of(WRONG, record) is Verdict.OTHER_INTEGRITY


def test_every_verdict_is_one_of_four_kinds() -> None:
    """Divergence, unfinished, withdrawn, or fine; none is two."""
    kinds = {item: (item.is_divergence, item.is_unfinished, item.is_withdrawn) for item in Verdict}
    assert all(sum(kind) <= 1 for kind in kinds.values())
    assert {item for item, kind in kinds.items() if not any(kind)} == {Verdict.VERIFIED, Verdict.NOT_FROM_REGISTRY}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], ExitCode.COMPLETE),
        ([Verdict.VERIFIED, Verdict.NOT_FROM_REGISTRY, Verdict.WITHDRAWN], ExitCode.COMPLETE),
        ([Verdict.VERIFIED, Verdict.UNREACHABLE], ExitCode.PARTIAL),
        ([Verdict.UNREACHABLE, Verdict.NOT_LOGGED], ExitCode.PARTIAL),
        ([Verdict.NO_INTEGRITY], ExitCode.PARTIAL),
        ([Verdict.UNREACHABLE, Verdict.UNREACHABLE], ExitCode.UPSTREAM),
        ([Verdict.UNREACHABLE, Verdict.NOT_FROM_REGISTRY], ExitCode.UPSTREAM),
        ([Verdict.UNREACHABLE, Verdict.CONFLICT], ExitCode.DIVERGENCE),
    ],
)
def test_exit_codes(verdicts: list[Verdict], expected: ExitCode) -> None:
    """P3: the heaviest counts."""
    assert exit_code_of(verdicts, refuses_withdrawn=False) is expected


def test_withdrawn_versions_can_be_refused() -> None:
    """Then they count as not verified, and a divergence still weighs more."""
    for verdict in (Verdict.WITHDRAWN, Verdict.SECURITY_HOLD):
        assert exit_code_of([verdict], refuses_withdrawn=False) is ExitCode.COMPLETE
        assert exit_code_of([verdict], refuses_withdrawn=True) is ExitCode.PARTIAL
        assert exit_code_of([verdict, Verdict.UNPROVEN], refuses_withdrawn=True) is ExitCode.DIVERGENCE


def test_any_divergence_is_exit_4() -> None:
    """Whatever else there is."""
    for one, other in product(Verdict, Verdict):
        if one.is_divergence:
            assert exit_code_of([one, other], refuses_withdrawn=False) is ExitCode.DIVERGENCE
