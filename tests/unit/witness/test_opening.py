"""Putting a witness together: keys, lists of logs, storages that cannot be relied on, adopting and retiring."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from mirrorwitness.errors import ConfigurationError, RolledBackError, StorageUnavailableError
from mirrorwitness.run import relying, witnessing
from mirrorwitness.run.witnessing import (
    WitnessWishes,
    adopt_checkpoint,
    open_witness,
    retire_witness,
    serve_witness,
)
from mirrorwitness.tlog.evidence import check_evidence, parse_evidence
from mirrorwitness.tlog.keys import format_signer_key, make_signer_key
from mirrorwitness.witness.known import LISTED_KEY
from mirrorwitness.witness.logs import WitnessedLog
from mirrorwitness.witness.protocol import Reason, format_add_checkpoint
from mirrorwitness.witness.records import IDENTITY_KEY, public_key, record_key
from tests.fakes.storage import MemoryStorage
from tests.unit.storage.lying import IgnoringStorage, RacyStorage, RefusingStorage
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    LOG_PQ,
    NEXT,
    OTHER_KEY,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    Log,
    contradiction,
    cosign,
    grow,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import SignerKey


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 on loopback")
FORK = LOG.fork(6)
VKEY = str(LOG_KEY.verifier)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> dict[str, MemoryStorage]:
    """Storages in memory, by their addresses."""
    found = {"storage": MemoryStorage(), "anchor": MemoryStorage()}

    @asynccontextmanager
    async def open_storage(address: str) -> AsyncGenerator[Storage, None]:
        yield found[address]

    for module in (relying, witnessing):
        monkeypatch.setattr(module, "open_storage", open_storage)
    return found


def key_file(folder: Path, key: SignerKey = OURS, *, mode: int = 0o600) -> str:
    """Write the file of a key."""
    path = folder / f"{key.verifier.key_id.hex()}.key"
    path.write_text(format_signer_key(key) + "\n", encoding="utf-8")
    path.chmod(mode)
    return str(path)


@pytest.fixture
def wishes(tmp_path: Path) -> WitnessWishes:
    """A witness of one log."""
    return WitnessWishes(storage="storage", keys=(key_file(tmp_path),), logs=(VKEY,))


async def check_refused(wishes: WitnessWishes, error: type[Exception], said: str) -> None:
    """Check that a witness is not opened."""
    with pytest.raises(error, match=said):
        async with open_witness(wishes):
            pytest.fail("opened")


async def test_a_witness_is_opened(places: dict[str, MemoryStorage], wishes: WitnessWishes) -> None:
    """It signs, and goes on from there when it is opened again."""
    for old, size in ((0, 10), (10, 20)):
        async with open_witness(wishes) as running:
            await grow(running.witness, size, old=old)
            assert (running.storage, running.notes) == (places["storage"], ())
            assert running.witness.own == (OURS.verifier,)
    assert IDENTITY_KEY in places["storage"].objects


@pytest.mark.parametrize("kind", [RefusingStorage, IgnoringStorage, RacyStorage])
@pytest.mark.parametrize("place", ["storage", "anchor"])
async def test_a_storage_without_compare_and_swap_is_no_place_for_a_witness(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, kind: type[MemoryStorage], place: str
) -> None:
    """One that says so, one that ignores conditions, and one that is right for one writer at a time: all refused."""
    places[place] = kind()
    said = rf"--{place} {place}: a witness cannot rely on it \(.+\); `mirrorwitness store-check {place}` says more"
    await check_refused(replace(wishes, anchor="anchor"), ConfigurationError, said)
    assert not [key for key in places["storage"].objects if key.startswith(("state/witness/", "witness/"))]


async def test_fork_evidence_is_kept_once(places: dict[str, MemoryStorage], wishes: WitnessWishes) -> None:
    """However often it is sent; a file that anybody can check, with both notes."""
    async with open_witness(wishes) as running:
        await grow(running.witness, 10)
        for old in (10, 10, 0):
            answer = await running.witness.add_checkpoint(format_add_checkpoint(old, (), FORK.note(10)))
            assert answer.status in {422, 409}
            answer = await running.witness.add_checkpoint(LOG.request(10, 10))  # a newer time on ours
            assert answer.status == 200
        await running.witness.add_checkpoint(format_add_checkpoint(10, (), LOG.fork(3).note(10)))
    kept = {key: body for key, body in places["storage"].objects.items() if key.startswith("evidence/")}
    assert len(kept) == 2
    proofs = [check_evidence(parse_evidence(body)) for body in kept.values()]
    assert {proof.theirs for proof in proofs} == {FORK.tree(10), LOG.fork(3).tree(10)}
    assert {proof.ours for proof in proofs} == {LOG.tree(10)}
    assert all(proof.cosignatures for proof in proofs)


async def test_fork_evidence_that_cannot_be_written_is_written_with_the_next(
    places: dict[str, MemoryStorage], wishes: WitnessWishes
) -> None:
    """The log is answered all the same."""
    async with open_witness(wishes) as running:
        await grow(running.witness, 10)
        places["storage"].fail_before("put", "evidence/*", StorageUnavailableError("no answer"))
        for count in (0, 1):
            answer = await running.witness.add_checkpoint(format_add_checkpoint(10, (), FORK.note(10)))
            assert answer.reason is Reason.OTHER_ROOT
            assert len([key for key in places["storage"].objects if key.startswith("evidence/")]) == count


async def test_keys(wishes: WitnessWishes, tmp_path: Path, places: dict[str, MemoryStorage]) -> None:
    """None, one that is not there, one that others can read, one of a log, nonsense: each refused with its name."""
    missing = str(tmp_path / "missing.key")
    cases = [
        ((), "no key: give --key FILE"),
        ((missing,), "missing.key"),
        ((_large(tmp_path),), r"large\.key: .*more than 65536 bytes"),
        ((key_file(tmp_path, NEXT, mode=0o640),), "its mode is 0640, so others can use it"),
        ((key_file(tmp_path, LOG_KEY),), r"its type is 0x01 \(Ed25519\)|its type is 0x01, expected"),
        (("env:NO_SUCH_VARIABLE",), "no such variable"),
    ]
    for keys, said in cases:
        await check_refused(replace(wishes, keys=keys), ConfigurationError, said)
    assert places["storage"].objects == {}


def _large(folder: Path) -> str:
    path = folder / "large.key"
    path.write_bytes(bytes(64 * 1024 + 1))
    path.chmod(0o600)
    return str(path)


async def test_a_key_of_the_environment(
    wishes: WitnessWishes, places: dict[str, MemoryStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containers are given secrets."""
    monkeypatch.setenv("WITNESS_KEY", format_signer_key(OURS))
    async with open_witness(replace(wishes, keys=("env:WITNESS_KEY",))) as running:
        assert running.witness.own == (OURS.verifier,)
    assert IDENTITY_KEY in places["storage"].objects


async def test_logs_of_flags_and_lists(places: dict[str, MemoryStorage], tmp_path: Path, wishes: WitnessWishes) -> None:
    """Lists add to what flags say, and do not change it; what they named is kept, and known without them."""
    listed = tmp_path / "logs.txt"
    listed.write_text(f"logs/v0\nvkey {LOG_PQ.verifier}\nqpd 5\nvkey {OTHER_KEY.verifier}\n", encoding="utf-8")
    url = "https://log.example/a"
    asked = replace(wishes, logs=(VKEY, f"{VKEY}={url}"), lists=(str(listed),), refuses_extensions=True)
    logs = [
        WitnessedLog("log.example/a", (LOG_KEY.verifier,), url, refuses_extensions=True),
        WitnessedLog("log.example/b", (OTHER_KEY.verifier,), refuses_extensions=True),
    ]
    async with open_witness(asked) as running:
        assert list(running.witness.logs) == logs
        assert running.notes == (contradiction(LOG_PQ, LOG_KEY),)
    assert places["storage"].objects[LISTED_KEY] == f"logs/v0\n\nvkey {OTHER_KEY.verifier}\n".encode()
    async with open_witness(replace(asked, lists=())) as running:
        assert (list(running.witness.logs), running.notes) == (logs, ())
    async with open_witness(replace(asked, logs=(VKEY, str(LOG_PQ.verifier)))) as running:
        assert running.notes == ()
        assert running.witness.logs.get(LOG.origin) == replace(Log(LOG_KEY, LOG_PQ).witnessed, refuses_extensions=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"logs": ("nonsense",)}, "verifier key 'nonsense'"),
        ({"logs": (str(OURS.verifier),)}, "verifier key"),
        ({"lists": ("missing.txt",)}, r"missing\.txt: cannot be read"),
        ({"anchor": "storage"}, "--anchor storage is --storage"),
        ({"webhook": "ftp://hooks.example"}, "--webhook: expected an absolute http or https URL"),
        ({"signs_subtrees": True}, "--sign-subtree needs a key of ML-DSA-44"),
    ],
)
async def test_wrong_flags_are_told_before_anything_is_written(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, changes: dict[str, Any], said: str
) -> None:
    """The storage is as it was."""
    await check_refused(replace(wishes, **changes), ConfigurationError, said)
    assert places["storage"].objects == {}


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("[::1]", marks=NEEDS_IPV6)])
async def test_serving_until_a_signal(
    wishes: WitnessWishes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """It tells what lists have against flags, then its address, answers, and ends when it is asked to."""
    listed = tmp_path / "logs.txt"
    listed.write_text(f"logs/v0\nvkey {LOG_PQ.verifier}\n", encoding="utf-8")
    told: list[str] = []
    replies: list[bytes] = []

    async def until_signal(work: Callable[[], Awaitable[None]], *, stop: Callable[[], None]) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            with trio.fail_after(10):
                while len(told) < 2:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                port = int(told[1].rpartition(":")[2])
                async with await trio.open_tcp_stream(host.strip("[]"), port) as stream:
                    await stream.send_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
                    replies.append(await stream.receive_some())
            stop()
        return True

    monkeypatch.setattr(witnessing, "run_until_signal", until_signal)
    wishes = replace(wishes, lists=(str(listed),))
    await serve_witness(wishes, listen=f"{host}:0", ready=told.append, told=told.append)
    assert told[0] == contradiction(LOG_PQ, LOG_KEY)
    assert told[1].startswith(f"http://{host}:")
    assert replies[0].startswith(b"HTTP/1.1 200 ")
    assert replies[0].endswith(b"\r\n\r\nready\n")


async def test_a_listed_log_with_two_roles_is_left_out(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, tmp_path: Path
) -> None:
    """A log with the name of the witness: a sentence, and the witness starts without it."""
    listed = tmp_path / "logs.txt"
    listed.write_text(f"logs/v0\nvkey {OTHER_KEY.verifier}\norigin {OURS.name}\n", encoding="utf-8")
    async with open_witness(replace(wishes, lists=(str(listed),))) as running:
        assert list(running.witness.logs) == [LOG.witnessed]
        assert running.notes == (
            "log 'witness.example/w1' has the name of this witness: no name has two roles; not taken in",
        )
    assert LISTED_KEY not in places["storage"].objects


async def test_a_flag_with_two_roles_is_told_before_the_storage_is_claimed(
    places: dict[str, MemoryStorage], wishes: WitnessWishes
) -> None:
    """A log with the name of the witness."""
    flag = str(make_signer_key(OURS.name, bytes(32)).verifier)
    said = "has the name of this witness: no name has two roles"
    await check_refused(replace(wishes, logs=(flag,)), ConfigurationError, said)
    assert IDENTITY_KEY not in places["storage"].objects


async def test_adopting_knows_listed_logs_and_writes_no_list(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, tmp_path: Path
) -> None:
    """Of a list that is given, and of one that is not there any more."""
    listed = tmp_path / "logs.txt"
    listed.write_text(f"logs/v0\nvkey {VKEY}\n", encoding="utf-8")
    newest = LOG.note(10, more=[cosign(OURS, LOG.tree(10).text, START)])
    wishes = replace(wishes, logs=(), lists=(str(listed),))
    assert await adopt_checkpoint(wishes, body=newest) == LOG.tree(10)
    assert LISTED_KEY not in places["storage"].objects
    async with open_witness(wishes):
        pass
    assert await adopt_checkpoint(replace(wishes, lists=()), body=newest) == LOG.tree(10)


async def test_subtrees_with_a_key_that_can(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, tmp_path: Path
) -> None:
    """Beside one that cannot."""
    keys = (*wishes.keys, key_file(tmp_path, OURS_PQ))
    async with open_witness(replace(wishes, keys=keys, signs_subtrees=True)) as running:
        assert running.witness.own == (OURS.verifier, OURS_PQ.verifier)
    assert IDENTITY_KEY in places["storage"].objects


@pytest.mark.parametrize("lost", ["identity", "everything", "record"])
async def test_adopting_is_a_way_out_of_lost_state(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, lost: str
) -> None:
    """Of the identity, of the whole storage beside an anchor, of a record: after it the witness starts again."""
    wishes = replace(wishes, anchor="anchor")
    async with open_witness(wishes) as running:
        await grow(running.witness, 10)
    newest = places["anchor"].objects[public_key(LOG.origin)]
    gone = {
        "identity": [IDENTITY_KEY],
        "record": [record_key(LOG.origin)],
        "everything": list(places["storage"].objects),
    }
    for key in gone[lost]:
        places["storage"].remove(key)
    await check_refused(wishes, RolledBackError, "witness adopt")
    assert await adopt_checkpoint(wishes, body=newest) == LOG.tree(10)
    async with open_witness(wishes) as running:
        await grow(running.witness, 20, old=10)


async def test_adopting_fails_without_a_trace(
    places: dict[str, MemoryStorage], wishes: WitnessWishes, tmp_path: Path
) -> None:
    """With another witness's key, or something older: the storage does not change hands."""
    async with open_witness(wishes) as running:
        await grow(running.witness, 10, 20)
    places["storage"].remove(IDENTITY_KEY)
    before = places["storage"].objects
    theirs = LOG.note(30, more=[cosign(STRANGER, LOG.tree(30).text, START)])
    with pytest.raises(RolledBackError, match="this is the storage of another witness"):
        await adopt_checkpoint(replace(wishes, keys=(key_file(tmp_path, STRANGER),)), body=theirs)
    with pytest.raises(RolledBackError):
        await adopt_checkpoint(wishes, body=LOG.note(10, more=[cosign(OURS, LOG.tree(10).text, START)]))
    with pytest.raises(ConfigurationError, match="signed note"):
        await adopt_checkpoint(wishes, body=b"nonsense")
    assert places["storage"].objects == before


async def test_a_retired_witness(places: dict[str, MemoryStorage], wishes: WitnessWishes) -> None:
    """Neither serves nor adopts; retiring is idempotent, and is in both places."""
    wishes = replace(wishes, anchor="anchor")
    async with open_witness(wishes) as running:
        await grow(running.witness, 10)
    newest = places["anchor"].objects[public_key(LOG.origin)]
    for _ in range(2):
        assert await retire_witness(wishes) == (str(OURS.verifier),)
    assert places["anchor"].objects[IDENTITY_KEY] == places["storage"].objects[IDENTITY_KEY]
    await check_refused(wishes, ConfigurationError, "was retired, and never signs again")
    with pytest.raises(ConfigurationError, match="was retired"):
        await adopt_checkpoint(wishes, body=newest)
    await check_refused(replace(wishes, anchor=None), ConfigurationError, "was retired, and never signs again")


async def test_retiring_without_an_anchor(places: dict[str, MemoryStorage], wishes: WitnessWishes) -> None:
    """In the storage alone."""
    assert await retire_witness(wishes) == (str(OURS.verifier),)
    await check_refused(wishes, ConfigurationError, "was retired")
    assert places["anchor"].objects == {}
