"""What single requests show of a bucket: each lie of a service is found and named (research/E 1.3)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mirrorwitness.storage import probe_serial
from mirrorwitness.storage.probe import check_storage
from mirrorwitness.storage.probe_verdict import Capability, Finding, Outcome, Role, Verdict
from tests.fakes.storage import MemoryStorage
from tests.unit.storage.lying import FakeSender

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_big_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_serial, "BIG_BLOCKS", 1)


async def bad(*broken: str, date: str = "Tue, 24 Nov 2026 00:00:10 GMT") -> list[Finding]:
    """What is found of a service that lies as named."""
    storage = MemoryStorage()
    sender = FakeSender(storage, *broken, date=date)
    report = await check_storage(storage, short=False, sender=sender, now=lambda: NOW)
    assert storage.objects == {}, "removed, whoever wrote it"
    return [each for each in report.findings if each.outcome is not Outcome.HOLDS]


@pytest.mark.parametrize(
    ("broken", "capability", "outcome", "verdict", "seen"),
    [
        ("checksum", Capability.CHECKSUM_CHECKED, Outcome.IGNORED, Verdict.DEGRADED, "accepted with status 200"),
        ("echo", Capability.CHECKSUM_ECHOED, Outcome.BROKEN, Verdict.DEGRADED, "another checksum in the answer: x"),
        ("no-echo", Capability.CHECKSUM_ECHOED, Outcome.MISSING, Verdict.DEGRADED, "no checksum in the answer"),
        ("payload", Capability.PAYLOAD_HASH_CHECKED, Outcome.IGNORED, Verdict.DEGRADED, "accepted with status 200"),
        ("delete", Capability.DELETE_IF_MATCH, Outcome.IGNORED, Verdict.OK, "deleted all the same, with status 204"),
        ("delete-501", Capability.DELETE_IF_MATCH, Outcome.UNSUPPORTED, Verdict.OK, "not deleted, status 501"),
        (
            "type",
            Capability.CONTENT_TYPE,
            Outcome.MISSING,
            Verdict.DEGRADED,
            "sent application/vnd.npm.install-v1+json, found binary/octet-stream",
        ),
        ("metadata", Capability.METADATA, Outcome.MISSING, Verdict.OK, "sent x-amz-meta-probe: kept, found nothing"),
        ("anonymous-read", Capability.ANONYMOUS_READ, Outcome.BROKEN, Verdict.OK, "allowed with status 200"),
        ("anonymous-write", Capability.ANONYMOUS_WRITE, Outcome.BROKEN, Verdict.REFUSED, "accepted with status 200"),
        ("secret", Capability.SECRET_CHECKED, Outcome.IGNORED, Verdict.REFUSED, "accepted with status 200"),
    ],
)
async def test_each_lie_is_found(
    broken: str, capability: Capability, outcome: Outcome, verdict: Verdict, seen: str
) -> None:
    """A service that breaks one promise is found out, and nothing else is held against it."""
    found = [(each.capability, each.outcome, each.verdict, each.seen) for each in await bad(broken)]
    assert found == [(capability, outcome, verdict, seen)]


async def test_a_bucket_that_anyone_can_write_is_refused_by_every_role() -> None:
    """Refused loudly, and already in the short form (attack: anyone replaces what is mirrored)."""
    storage = MemoryStorage()
    report = await check_storage(storage, short=True, sender=FakeSender(storage, "anonymous-write"), now=lambda: NOW)
    for role in Role:
        assert [each.capability for each in report.refusals(role)] == [Capability.ANONYMOUS_WRITE]
    assert "ANYONE CAN WRITE" in report.refusals(Role.MIRROR)[0].meaning


@pytest.mark.parametrize(
    ("date", "outcome", "seen"),
    [
        ("Tue, 24 Nov 2026 00:02:00 GMT", Outcome.BROKEN, "120 s ahead of our clock"),
        ("Mon, 23 Nov 2026 23:50:00 GMT", Outcome.BROKEN, "600 s behind our clock"),
        ("yesterday", Outcome.MISSING, "no usable Date header ('yesterday')"),
        ("", Outcome.MISSING, "no usable Date header ('')"),
        (
            "Tue, 24 Nov 2026 00:00:00 -0000",
            Outcome.MISSING,
            "no usable Date header ('Tue, 24 Nov 2026 00:00:00 -0000')",
        ),
    ],
)
async def test_a_clock_that_differs_is_found(date: str, outcome: Outcome, seen: str) -> None:
    """Clocks that drift apart are said to before signed requests are refused at 15 minutes."""
    found = [(each.capability, each.outcome, each.seen) for each in await bad(date=date)]
    assert found == [(Capability.CLOCK, outcome, seen)]


async def test_a_fault_of_the_service_is_no_answer() -> None:
    """A 500 is neither a refusal nor a permission: the finding says that it could not be tried."""
    found = await bad("500")
    assert {each.capability: each.outcome for each in found} == {
        Capability.CHECKSUM_CHECKED: Outcome.FAILED,
        Capability.CHECKSUM_ECHOED: Outcome.FAILED,
        Capability.PAYLOAD_HASH_CHECKED: Outcome.FAILED,
        Capability.DELETE_IF_MATCH: Outcome.UNSUPPORTED,
        Capability.CONTENT_TYPE: Outcome.FAILED,
        Capability.METADATA: Outcome.FAILED,
        Capability.ANONYMOUS_WRITE: Outcome.FAILED,
        Capability.SECRET_CHECKED: Outcome.FAILED,
    }
