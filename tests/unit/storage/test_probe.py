"""`check_storage`: a faithful storage passes, each lie is found and named, and nothing is left behind (DESIGN 4)."""

# ruff: noqa: ARG002 - a storage that lies ignores what it is given

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    IntegrityMismatchError,
    PreconditionFailedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
)
from mirrorwitness.storage import probe_serial
from mirrorwitness.storage.probe import check_storage, format_report, report_document
from mirrorwitness.storage.probe_scratch import CLEAN_UP_SECONDS, PROBE_PREFIX, PROBE_SECONDS, Scratch, brief
from mirrorwitness.storage.probe_verdict import Capability, Outcome, Role, Verdict
from tests.fakes.storage import MemoryStorage
from tests.unit.storage.lying import (
    CaseFoldingStorage,
    DirectoryStorage,
    FakeSender,
    FramingStorage,
    IgnoringStorage,
    ImmortalStorage,
    LateStorage,
    LossyListStorage,
    OldStorage,
    RacyStorage,
    RefusingStorage,
    SameEtagStorage,
    UnsortedStorage,
    WholeStorage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.storage import ObjectInfo
    from mirrorwitness.storage.probe import StoreReport

NOW = datetime(2026, 11, 24, tzinfo=UTC)

SENDER_ONLY = {
    Capability.CHECKSUM_CHECKED,
    Capability.CHECKSUM_ECHOED,
    Capability.PAYLOAD_HASH_CHECKED,
    Capability.DELETE_IF_MATCH,
    Capability.CONTENT_TYPE,
    Capability.METADATA,
    Capability.ANONYMOUS_READ,
    Capability.ANONYMOUS_WRITE,
    Capability.SECRET_CHECKED,
    Capability.CLOCK,
}


def bad(report: StoreReport) -> dict[Capability, Outcome]:
    """What a report finds that does not hold."""
    return {each.capability: each.outcome for each in report.findings if each.outcome is not Outcome.HOLDS}


async def check(storage: MemoryStorage, sender: FakeSender | None = None, *, short: bool = False) -> StoreReport:
    return await check_storage(storage, short=short, sender=sender, now=lambda: NOW)


@pytest.fixture(autouse=True)
def small_big_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """One MiB is as good as twelve in memory, and the fake hashes it for every listing."""
    monkeypatch.setattr(probe_serial, "BIG_BLOCKS", 1)


async def test_a_faithful_storage_is_ok_for_every_role() -> None:
    """Nothing is held against a storage that keeps the Protocol, and nothing of the check stays in it (P8)."""
    storage = MemoryStorage({"npm/x/packument.json": b"{}"})
    report = await check(storage)
    assert bad(report) == {}
    assert [each.capability for each in report.findings] == [each for each in Capability if each not in SENDER_ONLY]
    assert {role: report.verdict_for(role) for role in Role} == dict.fromkeys(Role, Verdict.OK)
    assert storage.objects == {"npm/x/packument.json": b"{}"}
    assert all(call.key.startswith(PROBE_PREFIX) for call in storage.operations)


async def test_a_faithful_bucket_is_ok_for_every_role() -> None:
    """With single requests as well, every capability is looked at and holds."""
    storage = MemoryStorage()
    report = await check(storage, FakeSender(storage))
    assert bad(report) == {}
    assert [each.capability for each in report.findings] == list(Capability)
    assert report.verdict is Verdict.OK
    assert storage.objects == {}


async def test_the_short_form_is_short() -> None:
    """At most ten requests beside one race of four writers, so that `sync` can ask every storage."""
    storage = MemoryStorage()
    report = await check(storage, FakeSender(storage), short=True)
    assert bad(report) == {}
    assert [each.capability for each in report.findings] == [
        Capability.ROUND_TRIP,
        Capability.PUT_IF_ABSENT_RACED,
        Capability.PUT_IF_MATCH,
        Capability.ANONYMOUS_WRITE,
        Capability.CLEAN_UP,
    ]
    outside = [call for call in storage.operations if "/race/" not in call.key]
    assert len(outside) + 1 <= 10, "the request without credentials is not among the storage's calls"
    assert storage.objects == {}


@pytest.mark.parametrize(
    ("storage", "found"),
    [
        (
            IgnoringStorage(),
            {Capability.PUT_IF_ABSENT: Outcome.IGNORED, Capability.PUT_IF_MATCH: Outcome.IGNORED},
        ),
        (
            RefusingStorage(),
            {Capability.PUT_IF_ABSENT: Outcome.UNSUPPORTED, Capability.PUT_IF_MATCH: Outcome.UNSUPPORTED},
        ),
        (
            RacyStorage(),
            {Capability.PUT_IF_ABSENT_RACED: Outcome.BROKEN, Capability.PUT_IF_MATCH_RACED: Outcome.BROKEN},
        ),
        (
            FramingStorage(),
            {
                Capability.ROUND_TRIP: Outcome.BROKEN,
                Capability.READ_AFTER_WRITE: Outcome.BROKEN,
                Capability.OVERWRITE: Outcome.BROKEN,
                Capability.PUT_IF_ABSENT: Outcome.BROKEN,
                Capability.PUT_IF_MATCH: Outcome.BROKEN,
                Capability.RANGE_READ: Outcome.BROKEN,
                Capability.BIG_OBJECT: Outcome.BROKEN,
                Capability.KEY_SCOPED: Outcome.BROKEN,
                Capability.KEY_CASE: Outcome.BROKEN,
                Capability.KEY_LONG: Outcome.BROKEN,
                Capability.KEY_PUNCTUATION: Outcome.BROKEN,
                Capability.KEY_SPACE: Outcome.BROKEN,
                Capability.KEY_UNICODE: Outcome.BROKEN,
                Capability.KEY_NESTED: Outcome.BROKEN,
            },
        ),
        (CaseFoldingStorage(), None),
        (UnsortedStorage(), {Capability.LIST_ORDER: Outcome.BROKEN}),
        (LossyListStorage(), {Capability.LIST_PAGING: Outcome.BROKEN, Capability.LIST_PREFIX: Outcome.BROKEN}),
        (
            DirectoryStorage(),
            {
                Capability.KEY_PUNCTUATION: Outcome.BROKEN,
                Capability.KEY_NESTED: Outcome.BROKEN,
                Capability.LIST_ORDER: Outcome.FAILED,
                Capability.LIST_PAGING: Outcome.FAILED,
                Capability.LIST_PREFIX: Outcome.FAILED,
            },
        ),
        (WholeStorage(), {Capability.RANGE_READ: Outcome.IGNORED}),
        (ImmortalStorage(), {Capability.DELETE: Outcome.BROKEN, Capability.CLEAN_UP: Outcome.BROKEN}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_each_lie_is_found(storage: MemoryStorage, found: dict[Capability, Outcome] | None) -> None:
    """A storage that breaks one promise is found out, and nothing else is held against it."""
    report = await check(storage)
    if found is None:
        assert bad(report)[Capability.KEY_CASE] is Outcome.BROKEN
    else:
        assert bad(report) == found


async def test_a_stale_listing_is_found() -> None:
    """Read after write includes listings."""
    assert bad(await check(LateStorage()))[Capability.READ_AFTER_WRITE] is Outcome.BROKEN


async def test_an_etag_that_stays_is_found() -> None:
    """Compare-and-swap on an etag that does not change with the bytes would lose updates."""
    found = bad(await check(SameEtagStorage()))
    assert found[Capability.OVERWRITE] is Outcome.IGNORED


async def test_a_put_that_changes_nothing_is_found() -> None:
    """An acknowledged put whose bytes are not there is not a put."""
    found = bad(await check(OldStorage()))
    assert found[Capability.OVERWRITE] is Outcome.BROKEN
    assert found[Capability.PUT_IF_ABSENT] is Outcome.BROKEN


@pytest.mark.parametrize("storage", [IgnoringStorage(), RacyStorage()], ids=lambda value: type(value).__name__)
async def test_a_storage_that_fails_the_race_is_refused_by_the_witness(storage: MemoryStorage) -> None:
    """The short form is enough to keep a witness away; a mirror runs, one writer at a time (P7)."""
    report = await check(storage, short=True)
    assert report.verdict_for(Role.MIRROR) is Verdict.DEGRADED
    assert report.verdict_for(Role.WITNESS) is Verdict.REFUSED
    assert report.verdict_for(Role.SUMDB) is Verdict.REFUSED
    assert Capability.PUT_IF_ABSENT_RACED in [each.capability for each in report.refusals(Role.WITNESS)]
    assert report.refusals(Role.MIRROR) == ()


async def test_credentials_that_do_not_work_end_the_check() -> None:
    """Wrong credentials are the operator's error, not thirty findings."""
    storage = MemoryStorage()
    storage.fail_before("put", "*", StorageRefusedError("status 403"))
    with pytest.raises(StorageRefusedError, match="status 403"):
        await check(storage)


@pytest.mark.parametrize("short", [True, False])
async def test_a_first_write_that_is_stored_changed_is_the_only_finding(*, short: bool) -> None:
    """Where our own client already finds other bytes than it sent, nothing else can be asked."""
    storage = MemoryStorage()
    storage.fail_after("put", "*/first", StorageError("other bytes than were sent"))
    report = await check(storage, short=short)
    assert [(each.capability, each.verdict, each.seen) for each in report.findings] == [
        (Capability.ROUND_TRIP, Verdict.REFUSED, "StorageError: other bytes than were sent"),
        (Capability.CLEAN_UP, Verdict.OK, "everything was removed"),
    ]


async def test_several_unknown_outcomes_and_no_winner_are_not_passed() -> None:
    """A client that finds another's bytes when it reads back says only that it does not know; nobody won for sure."""

    class Unknowing(MemoryStorage):
        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            if "/race/" not in key:
                return await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came
            await super().put(key, body)  # type: ignore[arg-type]  # passed on as it came
            raise StorageUnavailableError("replaced by somebody else before it could be verified")

    report = await check(Unknowing(), short=True)
    assert bad(report) == {Capability.PUT_IF_ABSENT_RACED: Outcome.BROKEN}


async def test_a_first_answer_that_is_lost_ends_the_check_and_is_removed() -> None:
    """Where the first write is unknown, it is removed all the same."""
    storage = MemoryStorage()
    storage.fail_after("put", "*/first", StorageUnavailableError("cut"))
    with pytest.raises(StorageUnavailableError, match="cut"):
        await check(storage)
    assert storage.objects == {}


async def test_a_failing_probe_is_a_finding_and_hides_no_other() -> None:
    """An error in one probe is judged like the broken promise; the others run."""
    storage = MemoryStorage()
    storage.fail_before("put", "*/big", StorageUnavailableError("status 503\nfor " + "yz" * 150))
    storage.fail_before("put", "*/overwrite", IntegrityMismatchError("read back other bytes"))
    report = await check(storage)
    assert bad(report) == {Capability.OVERWRITE: Outcome.FAILED, Capability.BIG_OBJECT: Outcome.FAILED}
    big = next(each for each in report.findings if each.capability is Capability.BIG_OBJECT)
    assert big.seen == f"StorageUnavailableError: status 503 for {'yz' * 92}y…"
    assert big.verdicts == {Role.MIRROR: Verdict.REFUSED, Role.WITNESS: Verdict.OK, Role.SUMDB: Verdict.OK}


async def test_a_probe_that_hangs_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    """A storage that never answers one request costs a minute, not for ever (P10)."""

    class Hanging(MemoryStorage):
        async def stat(self, key: str) -> ObjectInfo | None:
            return await trio.sleep_forever()

    found = bad(await check(Hanging()))
    assert (found[Capability.READ_AFTER_WRITE], found[Capability.DELETE]) == (Outcome.FAILED, Outcome.FAILED)
    assert trio.current_time() >= 2 * PROBE_SECONDS


async def test_a_cancelled_check_cleans_up() -> None:
    """Ctrl-C in the middle leaves nothing behind."""
    storage = MemoryStorage()
    with trio.CancelScope() as scope:

        class Cancelling(MemoryStorage):
            async def stat(self, key: str) -> ObjectInfo | None:
                scope.cancel()
                return await super().stat(key)

        storage = Cancelling()
        await check(storage)
    assert scope.cancelled_caught
    assert "put" in [call.operation for call in storage.operations]
    assert storage.objects == {}


async def test_removal_gives_up_after_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A storage that hangs in deletions cannot hold the check for ever; what is left is reported."""

    class Hanging(MemoryStorage):
        async def delete(self, key: str) -> None:
            await trio.sleep_forever()

    started = trio.current_time()
    report = await check(Hanging(), short=True)
    assert bad(report) == {Capability.CLEAN_UP: Outcome.BROKEN}
    assert trio.current_time() - started == pytest.approx(CLEAN_UP_SECONDS)


async def test_a_deletion_that_failed_and_a_listing_that_shows_nothing_is_removed() -> None:
    """A server that cannot delete what it never stored leaves nothing behind."""
    storage = MemoryStorage()
    storage.fail_after("delete", "*/if-match-missing", StorageUnavailableError("status 500"), times=1000)
    assert bad(await check(storage)) == {}


async def test_repr_of_a_scratch_shows_its_state() -> None:
    """One line says where it writes and how much is there."""
    scratch = Scratch(MemoryStorage(), token="abc")
    scratch.key("a")
    assert repr(scratch) == "<Scratch state/probe/abc/ with 1 keys>"


async def test_removal_reports_what_is_left() -> None:
    """A deletion that fails is named, whether listing works or not."""
    storage = MemoryStorage()
    storage.fail_before("delete", "*", StorageRefusedError("status 403"), times=1000)
    storage.fail_before("list", f"{PROBE_PREFIX}*", StorageUnavailableError("status 500"), times=1000)
    report = await check(storage)
    last = report.findings[-1]
    assert (last.capability, last.outcome) == (Capability.CLEAN_UP, Outcome.BROKEN)
    assert "objects are left under state/probe/" in last.seen


async def test_removal_finds_what_the_storage_renamed() -> None:
    """Objects that a listing shows under other keys than ours are removed too."""
    storage = CaseFoldingStorage()
    await check(storage)
    assert storage.objects == {}


async def test_an_unknown_outcome_in_a_race_is_no_lie() -> None:
    """A writer whose answer was lost may have won; neither it nor the lost number counts against the storage."""
    storage = MemoryStorage()
    storage.fail_after("put", "*/race/0", StorageUnavailableError("cut"))
    storage.fail_before("put", "*/race/1", StorageUnavailableError("cut"), times=10)
    storage.fail_after("put", "*/counter", StorageUnavailableError("cut"), times=3)
    report = await check(storage)
    # The first fault at the counter hits the put that sets it to 0.
    assert bad(report)[Capability.PUT_IF_MATCH_RACED] is Outcome.FAILED
    # Nobody wrote in race 1, and everybody may have.
    assert bad(report)[Capability.PUT_IF_ABSENT_RACED] is Outcome.BROKEN


async def test_lost_answers_while_counting_are_counted_as_unknown() -> None:
    """The sum may be anything between the steps that are sure and all steps."""

    class Losing(MemoryStorage):
        lost = 0

        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            info = await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came
            if key.endswith("/counter") and info.etag and "if_match" in options and self.lost < 3:
                self.lost += 1
                raise StorageUnavailableError("cut")
            return info

    report = await check(Losing())
    counter = next(each for each in report.findings if each.capability is Capability.PUT_IF_MATCH_RACED)
    assert (counter.outcome, counter.seen) == (
        Outcome.HOLDS,
        "10 writers: 17 steps acknowledged, 3 unknown, the number is 20",
    )


@pytest.mark.parametrize("error", [StorageRefusedError("status 403"), IntegrityMismatchError("other bytes")])
async def test_errors_inside_a_race_are_findings(error: Exception) -> None:
    """A race that cannot be run is not passed; bytes that are another's when read back are a second winner."""
    storage = MemoryStorage()
    storage.fail_after("put", "*/race/0", error)
    report = await check(storage)
    assert Capability.PUT_IF_ABSENT_RACED in bad(report)


@pytest.mark.parametrize("error", [StorageRefusedError("status 403"), IntegrityMismatchError("other bytes")])
async def test_errors_while_counting_are_judged(error: Exception) -> None:
    """An error ends the race; bytes that somebody wrote over before they were read back are a step like any other."""

    class Once(MemoryStorage):
        failed = False

        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            info = await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came
            if key.endswith("/counter") and "if_match" in options and not self.failed:
                self.failed = True
                raise error
            return info

    found = bad(await check(Once()))
    expected = {Capability.PUT_IF_MATCH_RACED: Outcome.FAILED} if isinstance(error, StorageRefusedError) else {}
    assert found == expected


async def test_a_race_that_nobody_wins_is_found() -> None:
    """Refusing every writer is no compare-and-swap."""
    storage = MemoryStorage()
    storage.fail_before("put", "*/race/2", PreconditionFailedError("status 412"), times=10)
    assert bad(await check(storage)) == {Capability.PUT_IF_ABSENT_RACED: Outcome.BROKEN}


async def test_a_race_whose_winner_is_overwritten_is_found() -> None:
    """One winner is told so, and the bytes are a loser's."""

    class Swapping(MemoryStorage):
        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            info = await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came
            if "/race/" in key:
                self.set_bytes(key, b"a loser's bytes")
            return info

    assert bad(await check(Swapping())) == {Capability.PUT_IF_ABSENT_RACED: Outcome.BROKEN}


async def test_conditions_that_refuse_the_right_are_found() -> None:
    """One service refuses the right etag unless it is sent without quotes; another shape refuses a new key."""
    storage = MemoryStorage()
    storage.fail_before("put", "*/if-absent", PreconditionFailedError("status 412"))

    class Refusing(MemoryStorage):
        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            if options.get("if_match") is not None:
                raise PreconditionFailedError("status 412")
            return await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came

    assert bad(await check(storage)) == {Capability.PUT_IF_ABSENT: Outcome.BROKEN}
    assert bad(await check(Refusing())) == {Capability.PUT_IF_MATCH: Outcome.BROKEN}


async def test_a_condition_that_creates_is_found() -> None:
    """A put with an etag where there is nothing must not create anything."""

    class Creating(MemoryStorage):
        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            if key.endswith("/if-match-missing"):
                options = {}
            return await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came

    assert bad(await check(Creating())) == {Capability.PUT_IF_MATCH: Outcome.BROKEN}


async def test_a_refused_put_that_is_stored_is_found() -> None:
    """One service answers 500 to a condition that fails, and stores the object all the same."""

    class Storing(MemoryStorage):
        async def put(self, key: str, body: object, **options: object) -> ObjectInfo:
            try:
                return await super().put(key, body, **options)  # type: ignore[arg-type]  # passed on as they came
            except PreconditionFailedError:
                self.set_bytes(key, bytes(body))  # type: ignore[call-overload]  # bytes here
                raise

    found = bad(await check(Storing()))
    assert (found[Capability.PUT_IF_ABSENT], found[Capability.PUT_IF_MATCH]) == (Outcome.BROKEN, Outcome.BROKEN)


async def test_a_key_that_is_gone_when_read_is_named() -> None:
    """A name that is stored and cannot be read again is in the report."""
    storage = MemoryStorage()
    storage.fail_before("read", "*'b", StorageUnavailableError("status 404"))
    report = await check(storage)
    found = next(each for each in report.findings if each.capability is Capability.KEY_PUNCTUATION)
    assert found.seen == "a'b: stored, then not read (StorageUnavailableError: status 404)"


async def test_an_endless_listing_is_cut_off() -> None:
    """A service whose pages never end cannot keep the check going (P10)."""

    class Endless(MemoryStorage):
        async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> object:  # type: ignore[override]  # broken on purpose
            page = await super().list(prefix, limit=limit)
            return type(page)(page.objects, more_after="state/probe")

    found = bad(await check(Endless()))
    assert found[Capability.LIST_PAGING] is Outcome.BROKEN


async def test_an_address_is_opened(tmp_path: Path) -> None:
    """The command gives an address; a directory needs no sender, and is clean afterwards."""
    address = f"file:{tmp_path / 'storage'}?fsync=off"
    report = await check_storage(address, short=False)
    assert report.storage == address
    assert report.verdict_for(Role.WITNESS) is Verdict.OK
    assert report.verdict_for(Role.MIRROR) is not Verdict.REFUSED
    assert [path for path in (tmp_path / "storage").rglob("*") if "probe" in path.name] == []


async def test_the_report_as_a_table_and_as_json() -> None:
    """Both forms say what was seen, what it means, and the verdict for each role."""
    report = await check(IgnoringStorage(), short=True)
    rows = [(row.capability, row.verdict, row.seen) for row in format_report(report)]
    assert rows == [
        ("round-trip", "ok", "the same bytes came back"),
        ("put-if-absent-raced", "refused", "4 writers on 1 key: several winners on 1 (up to 4)"),
        ("put-if-match", "refused", "a put with an old etag was acknowledged"),
        ("clean-up", "ok", "everything was removed"),
        ("as a mirror", "degraded", "because of put-if-absent-raced, put-if-match"),
        ("as a witness", "refused", "because of put-if-absent-raced, put-if-match"),
        ("as a sumdb", "refused", "because of put-if-absent-raced, put-if-match"),
    ]
    assert format_report(report)[2].meaning == (
        "mirror degraded, witness refused, sumdb refused: compare-and-swap is accepted and not done: "
        "run only one writing process at a time"
    )
    document = report_document(report)
    assert json.loads(json.dumps(document)) == document
    assert {key: document[key] for key in ("format", "checked", "short", "verdict", "roles")} == {
        "format": "mirrorwitness-store-check/1",
        "checked": "2026-11-24T00:00:00Z",
        "short": True,
        "verdict": "refused",
        "roles": {"mirror": "degraded", "witness": "refused", "sumdb": "refused"},
    }
    findings = document["findings"]
    assert isinstance(findings, list)
    assert findings[2] == {
        "capability": "put-if-match",
        "outcome": "ignored",
        "tried": "put with the right etag, with an old one, and where there is no object",
        "seen": "a put with an old etag was acknowledged",
        "verdict": "refused",
        "roles": {"mirror": "degraded", "witness": "refused", "sumdb": "refused"},
        "meaning": "compare-and-swap is accepted and not done: run only one writing process at a time",
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            f"PUT of npm/state/probe/20261126-1a2b/key-long/{'l' * 255} in bucket b: 500",
            "PUT of …/key-long/l…l in bucket b: 500",
        ),
        ("PUT http://127.0.0.1:1/b/state/probe/20261126-1a2b/x: cut", "PUT …/x: cut"),
        ("a  word\nand\tanother", "a word and another"),
    ],
)
def test_messages_in_a_report_have_room_for_the_reason(message: str, expected: str) -> None:
    """The place of the check and a name of 255 letters are cut short, so that the end of a message can be read."""
    assert brief(StorageError(message)) == f"StorageError: {expected}"
