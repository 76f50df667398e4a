"""What a witness knows from lists: it only grows, survives everything, and what is disabled stays so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    PreconditionFailedError,
    RolledBackError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.witness import known
from mirrorwitness.witness.known import (
    DISABLED_KEY,
    LISTED_KEY,
    KnownLog,
    Refreshed,
    Roster,
    find_known,
    list_known,
    set_disabled,
)
from mirrorwitness.witness.loglist import ListedLog, format_log_list, parse_log_list
from mirrorwitness.witness.logs import LogSet
from mirrorwitness.witness.protocol import Reason
from mirrorwitness.witness.records import record_key
from tests.fakes.storage import MemoryStorage
from tests.unit.storage.lying import RefusingStorage
from tests.unit.witness.world import LOG, LOG_KEY, LOG_PQ, OTHER, OURS, MeddledStorage, World, contradiction, grow

if TYPE_CHECKING:
    from mirrorwitness.witness.logs import WitnessedLog

A, B = ListedLog(LOG.witnessed, 86400, "ops@log.example"), ListedLog(OTHER.witnessed)
OTHER_KEY_OF_A = ListedLog(replace(LOG.witnessed, keys=(LOG_PQ.verifier,)))
OWN = (OURS.verifier,)


def make_roster(storage: MemoryStorage, *flags: WitnessedLog) -> tuple[Roster, LogSet]:
    """Return what a process begins with."""
    logs = LogSet(flags, cosigners=OWN)
    return Roster(storage=storage, logs=logs), logs


async def test_what_lists_name_is_taken_in_and_kept() -> None:
    """Also by a process that sees no list any more; a second time nothing is written."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage)
    assert await roster.refresh((A, B)) == Refreshed(added=(LOG.origin, OTHER.origin))
    assert await roster.refresh((A, B)) == await roster.refresh() == Refreshed()
    assert storage.keys_of("put") == [LISTED_KEY]
    assert storage.objects == {LISTED_KEY: format_log_list((A, B))}
    assert storage.content_types == {LISTED_KEY: "text/plain; charset=utf-8"}
    after, again = make_roster(storage)
    assert await after.refresh() == Refreshed(added=(LOG.origin, OTHER.origin))
    assert list(again) == list(logs) == [LOG.witnessed, OTHER.witnessed]
    assert repr(after) == "<Roster of <LogSet of 2 logs>, 0 complaints>"


async def test_a_later_list_removes_and_changes_nothing() -> None:
    """Not the contact either; another key for a log that is known is told once."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage)
    await roster.refresh((A,))
    found = await roster.refresh((OTHER_KEY_OF_A, replace(A, contact="somebody else"), B))
    assert found == Refreshed(added=(OTHER.origin,), complaints=(contradiction(LOG_PQ, LOG_KEY),))
    assert await roster.refresh((OTHER_KEY_OF_A,)) == Refreshed()
    assert repr(roster) == "<Roster of <LogSet of 2 logs>, 1 complaints>"
    assert list(logs) == [LOG.witnessed, OTHER.witnessed]
    assert storage.objects[LISTED_KEY] == format_log_list((A, B))


async def test_two_keys_of_one_log_in_the_list_that_is_seen_first() -> None:
    """The first is taken in and written, the other one told once; both, where the operator says so with flags."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage)
    found = await roster.refresh((A, OTHER_KEY_OF_A))
    assert found == Refreshed(added=(LOG.origin,), complaints=(contradiction(LOG_PQ, LOG_KEY),))
    assert await roster.refresh((A, OTHER_KEY_OF_A)) == Refreshed()
    assert list(logs) == [LOG.witnessed]
    assert storage.objects[LISTED_KEY] == format_log_list((A,))
    both = replace(LOG.witnessed, keys=(LOG_KEY.verifier, LOG_PQ.verifier))
    after, again = make_roster(storage, both)
    assert (await after.refresh((A, OTHER_KEY_OF_A)), list(again)) == (Refreshed(), [both])


async def test_a_flag_comes_first() -> None:
    """What a list says against it is not written: it would count once the flag is gone."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage, LOG.witnessed)
    found = await roster.refresh((OTHER_KEY_OF_A,))
    assert (found.added, len(found.complaints)) == ((), 1)
    assert (list(logs), storage.objects) == ([LOG.witnessed], {})
    await roster.refresh((A,))
    assert storage.objects[LISTED_KEY] == format_log_list((A,))


async def test_a_listed_log_that_breaks_a_rule_is_left_out() -> None:
    """One with the witness's name, and one with another log's key; the rest is taken in."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage)
    ours = ListedLog(replace(LOG.witnessed, origin=OURS.name))
    thief = ListedLog(replace(LOG.witnessed, origin="thief.example"))
    assert await roster.refresh((ours, A, thief, B)) == Refreshed(
        added=(LOG.origin, OTHER.origin),
        complaints=(
            "log 'witness.example/w1' has the name of this witness: no name has two roles; not taken in",
            "log 'thief.example': its key log.example/a is also that of the log 'log.example/a'; not taken in",
        ),
    )
    assert list(logs) == [LOG.witnessed, OTHER.witnessed]
    assert storage.objects[LISTED_KEY] == format_log_list((A, B))


async def test_terms_of_listed_logs() -> None:
    """Those of the operator."""
    logs = LogSet((), cosigners=OWN)
    await Roster(storage=MemoryStorage(), logs=logs, refuses_extensions=True).refresh((A,))
    assert list(logs) == [replace(LOG.witnessed, refuses_extensions=True)]


async def test_a_roster_that_does_not_write() -> None:
    """Takes in all the same."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage)
    assert await roster.refresh((A,), writes=False) == Refreshed(added=(LOG.origin,))
    assert (list(logs), storage.objects) == ([LOG.witnessed], {})


async def test_of_two_replicas_with_other_keys_the_slower_one_gives_way() -> None:
    """It takes in what the other one wrote meanwhile, and says that its own list is at odds with it."""
    storage = MeddledStorage()

    async def meddle() -> None:
        roster, _ = make_roster(storage)
        await roster.refresh((OTHER_KEY_OF_A,))

    storage.before("put", LISTED_KEY, meddle)
    roster, logs = make_roster(storage)
    found = await roster.refresh((A, B))
    assert (found.added, len(found.complaints)) == ((LOG.origin, OTHER.origin), 1)
    assert list(logs) == [OTHER_KEY_OF_A.log, OTHER.witnessed]
    assert parse_log_list(storage.objects[LISTED_KEY], name="") == (OTHER_KEY_OF_A, B)


async def test_swaps_that_are_lost_again_and_again() -> None:
    """Given up at some time; nothing was taken in."""
    storage = MemoryStorage()
    storage.fail_before("put", "*", PreconditionFailedError("lost"), times=2 * known.SWAP_TRIES)
    roster, logs = make_roster(storage)
    with pytest.raises(PreconditionFailedError, match=r"logs\.txt: other processes changed it 10 times"):
        await roster.refresh((A,))
    with pytest.raises(PreconditionFailedError, match=r"disabled\.json: other processes changed it 10 times"):
        await set_disabled(storage, LOG.origin, is_disabled=True)
    assert (list(logs), storage.objects) == ([], {})


@pytest.mark.parametrize("is_after", [False, True])
async def test_a_storage_that_fails_is_asked_again(*, is_after: bool) -> None:
    """Nothing is taken in before it is certain; the next refresh finds it written, or writes it."""
    storage = MemoryStorage()
    fail = storage.fail_after if is_after else storage.fail_before
    fail("put", LISTED_KEY, StorageUnavailableError("no answer"))
    roster, logs = make_roster(storage)
    with pytest.raises(StorageUnavailableError):
        await roster.refresh((A,))
    assert list(logs) == []
    assert (await roster.refresh((A,))).added == (LOG.origin,)
    assert storage.objects[LISTED_KEY] == format_log_list((A,))


async def test_cancelled_before_it_is_written() -> None:
    """Nothing was taken in or written."""
    storage = MeddledStorage()
    roster, logs = make_roster(storage)
    with trio.CancelScope() as scope:

        async def meddle() -> None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

        storage.before("put", LISTED_KEY, meddle)
        await roster.refresh((A,))
    assert (list(logs), storage.objects) == ([], {})


async def test_storages_without_conditions_are_not_written() -> None:
    """Another replica's logs would be lost."""
    storage = RefusingStorage()
    roster, _ = make_roster(storage)
    with pytest.raises(UnsupportedConditionError):
        await roster.refresh((A,))
    with pytest.raises(UnsupportedConditionError):
        await set_disabled(storage, LOG.origin, is_disabled=True)


async def test_lists_that_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read again is not written."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage)
    monkeypatch.setattr(known, "MAX_LIST_BYTES", 20)
    with pytest.raises(ConfigurationError, match=r"logs\.txt would have \d+ bytes, expected at most 20"):
        await roster.refresh((A,))
    assert (list(logs), storage.objects) == ([], {})


async def test_disabled_logs_stay_disabled_whoever_names_them() -> None:
    """A flag, a list, a new process; enabled again it is cosigned."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage, LOG.witnessed)
    await roster.refresh((B,))
    for origin in (LOG.origin, OTHER.origin, LOG.origin):
        await set_disabled(storage, origin, is_disabled=True)
    assert storage.keys_of("put") == [LISTED_KEY, DISABLED_KEY, DISABLED_KEY]
    assert await roster.refresh((A, B)) == Refreshed(disabled=(LOG.origin, OTHER.origin))
    after, again = make_roster(storage, LOG.witnessed)
    await after.refresh((A, B))
    assert [log.is_disabled for log in (*logs, *again)] == [True] * 4
    await set_disabled(storage, LOG.origin, is_disabled=False)
    assert await roster.refresh() == Refreshed(enabled=(LOG.origin,))
    assert [log.is_disabled for log in logs] == [False, True]
    assert storage.objects[DISABLED_KEY] == b'{"disabled":["log.example/b"],"format":1}'


async def test_a_log_that_is_disabled_while_requests_run() -> None:
    """Answered from the next refresh on: 404 with its reason; and again after it was enabled."""
    world = World()
    witness = await world.start()
    roster = Roster(storage=world.storage, logs=witness.logs)
    await grow(witness, 10)
    await set_disabled(world.storage, LOG.origin, is_disabled=True)
    assert (await witness.add_checkpoint(LOG.request(10, 11))).status == 200
    await roster.refresh()
    answer = await witness.add_checkpoint(LOG.request(11, 12))
    assert (answer.status, answer.reason) == (404, Reason.DISABLED_LOG)
    await set_disabled(world.storage, LOG.origin, is_disabled=False)
    await roster.refresh()
    await grow(witness, 12, old=11)


async def test_a_log_that_is_added_while_requests_run() -> None:
    """Unknown before, cosigned after."""
    world = World()
    witness = await world.start()
    assert (await witness.add_checkpoint(OTHER.request(0, 5))).reason is Reason.UNKNOWN_LOG
    await Roster(storage=world.storage, logs=witness.logs).refresh((B,))
    await grow(witness, 5, log=OTHER)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "is damaged: .*; restore it from a copy, or delete it"),
        (b'{"disabled": "all"}', "is damaged"),
        (b'{"disabled": [], "format": 2}', "its format is 2, expected 1"),
    ],
)
async def test_damaged_disabled_logs_enable_none(body: bytes, said: str) -> None:
    """An error for whoever reads or writes it; a running process goes on with what it knows."""
    storage = MemoryStorage()
    roster, logs = make_roster(storage, LOG.witnessed)
    await set_disabled(storage, LOG.origin, is_disabled=True)
    await roster.refresh()
    storage.set_bytes(DISABLED_KEY, body)
    with pytest.raises(ConfigurationError, match=said):
        await roster.refresh((B,))
    with pytest.raises(ConfigurationError, match=said):
        await set_disabled(storage, OTHER.origin, is_disabled=True)
    assert list(logs) == [replace(LOG.witnessed, is_disabled=True)]


async def test_a_damaged_list_is_an_error() -> None:
    """With its line."""
    storage = MemoryStorage({LISTED_KEY: b"logs/v0\nvkey nonsense\n"})
    roster, _ = make_roster(storage)
    with pytest.raises(ConfigurationError, match=r"state/witness/logs\.txt, line 2"):
        await roster.refresh((A,))


async def test_what_a_storage_knows() -> None:
    """Listed logs in their order, then others; sizes from records; keys where a list gave some."""
    world = World()
    witness = await world.start()
    await Roster(storage=world.storage, logs=witness.logs).refresh((B,))
    await grow(witness, 10)
    await set_disabled(world.storage, "old.example", is_disabled=True)
    a = KnownLog(LOG.origin, (), is_disabled=False, size=10)
    b = KnownLog(OTHER.origin, OTHER.witnessed.keys, is_disabled=False, size=None)
    old = KnownLog("old.example", (), is_disabled=True, size=None)
    assert await list_known(world.storage) == (b, a, old)
    assert [await find_known(world.storage, item.origin) for item in (a, b, old)] == [a, b, old]
    assert await find_known(world.storage, "nobody") is None
    await grow(witness, 5, log=OTHER)
    assert (await list_known(world.storage))[0] == replace(b, size=5)
    assert await list_known(MemoryStorage()) == ()


async def test_many_records() -> None:
    """More than a page of a listing, and one that is gone when it is read."""
    storage = MeddledStorage()
    for number in range(1001):
        body = b'{"origin":"log-%d","size":%d,"root":"%s","timestamp":1}' % (number, number, b"A" * 43 + b"=")
        storage.set_bytes(record_key(f"log-{number}"), body)

    async def meddle() -> None:
        await trio.lowlevel.checkpoint()
        storage.remove(record_key("log-5"))

    storage.before("read", record_key("log-5"), meddle)
    found = await list_known(storage)
    assert sorted(log.size or 0 for log in found) == [number for number in range(1001) if number != 5]


@pytest.mark.parametrize("body", [b"nonsense", b'{"origin":"x","size":1,"root":"!","timestamp":1}'])
async def test_a_damaged_record_is_told(body: bytes) -> None:
    """By the name of its log where that is known, and not as a size."""
    storage = MemoryStorage({LISTED_KEY: format_log_list((A,)), record_key(LOG.origin): body})
    with pytest.raises(RolledBackError, match=r"the record of 'log\.example/a' is damaged"):
        await list_known(storage)
    with pytest.raises(RolledBackError, match=r"the record of 'log\.example/a' is damaged"):
        await find_known(storage, LOG.origin)
    storage.remove(LISTED_KEY)
    with pytest.raises(RolledBackError, match="is damaged"):
        await list_known(storage)
