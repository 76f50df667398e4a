"""What a mirror remembers: records, notes, tombstones, evidence, runs (P5, P8)."""

from __future__ import annotations

import json

import msgspec
import pytest

from mirrorwitness.errors import StorageError, UnsupportedConditionError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue, HeldVersion, PackageRecord, RunRecord, Tombstone, Unfinished
from mirrorwitness.mirror.withdrawal import Event
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.storage import MemoryStorage

NAME = PackageName("@scope/left-pad")
HELD = HeldVersion(file="left-pad-1.0.0.tgz", size=3, sri="sha512-x")
RUN = RunRecord(started="a", finished="b", exit_code=0, last_complete="b", counts={"versions": 1})


async def test_a_record_comes_back_as_it_was() -> None:
    """Defaults are not stored, and are there again."""
    storage = MemoryStorage()
    catalogue = Catalogue(storage)
    record = PackageRecord(name=NAME, etag='"x"', versions={Version("1.0.0"): HELD}, blocked={"2.0.0": "policy: no"})
    info = await storage.put(layout.record_key(NAME), msgspec.json.encode(record))
    assert await catalogue.read_record(NAME) == record
    assert await catalogue.find_record(NAME) == (record, info.etag)
    assert await catalogue.record_page() == ([layout.record_key(NAME)], None)
    assert await catalogue.read_record_key(layout.record_key(NAME)) == record
    assert repr(catalogue) == "<Catalogue over <MemoryStorage 1 objects, 0 faults planned>>"


@pytest.mark.parametrize("body", [b"", b"{", b'{"name": 7}', b"[]", b'{"name":"x","versions":{"1.0.0":{}}}'])
async def test_a_damaged_record_only_costs_work(body: bytes) -> None:
    """It is as if there were none; so is one that is not there."""
    catalogue = Catalogue(MemoryStorage({layout.record_key(NAME): body}))
    assert await catalogue.read_record(NAME) is None
    assert await catalogue.read_record(PackageName("other")) is None


async def test_a_note_is_replaced_and_removed() -> None:
    """P8: written by any worker, removed when the package completes."""
    catalogue = Catalogue(MemoryStorage())
    note = Unfinished(name=NAME, reason="", kind="")
    for attempts in (1, 2, 3):
        note = Unfinished(name=NAME, reason="why", kind="k", attempts=attempts, first="1", last="3")
        await catalogue.write_unfinished(note)
    assert await catalogue.read_unfinished(NAME) == note
    assert await catalogue.unfinished_page() == ([note], None)
    await catalogue.clear_unfinished(NAME)
    assert await catalogue.unfinished_page() == ([], None)


async def test_pages_hold_everything_once() -> None:
    """More notes than a page has, one of them damaged: that one is passed over."""
    catalogue = Catalogue(storage := MemoryStorage())
    for number in range(5):
        await catalogue.write_unfinished(Unfinished(name=f"p{number}", reason="", kind=""))
    storage.set_bytes(layout.unfinished_key(PackageName("p2")), b"{")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        notes, after = await catalogue.unfinished_page(after=after, limit=2)
        seen += [note.name for note in notes]
    assert seen == ["p0", "p1", "p3", "p4"]


async def test_the_last_run_is_kept_and_a_damaged_one_says_so() -> None:
    catalogue = Catalogue(storage := MemoryStorage())
    assert await catalogue.read_run() is None
    await catalogue.write_run(RUN)
    assert await catalogue.read_run() == RUN
    storage.set_bytes(layout.LAST_RUN_KEY, b"{")
    with pytest.raises(StorageError, match=r"state/run/last.json is damaged: .*; remove it"):
        await catalogue.read_run()


@pytest.mark.parametrize("is_conditional", [True, False])
async def test_p5_evidence_and_tombstones_are_added_once(is_conditional: bool) -> None:  # noqa: FBT001
    """The first one stays, also on a storage that knows no conditional writes."""
    catalogue = Catalogue(storage := MemoryStorage())
    if not is_conditional:
        put = storage.put

        async def plain_put(key: str, body: bytes, *, if_absent: bool = False, content_type: str = "") -> object:
            if if_absent:
                raise UnsupportedConditionError("501")
            return await put(key, body, content_type=content_type)

        storage.put = plain_put  # type: ignore[assignment,method-assign]
    for seen in ("monday", "tuesday"):
        tombstone = Tombstone(name=NAME, version=Version("1.0.0"), event=Event.UNPUBLISHED, seen=seen, held=HELD)
        await catalogue.add_tombstone(tombstone, "unpublished-01")
    keys = [await catalogue.add_evidence(NAME, Version("1.0.0"), {"b": 1, "a": 2}) for _ in range(2)]
    (stone,) = [json.loads(body) for key, body in storage.objects.items() if key.startswith("state/tombstones/")]
    assert (stone["seen"], stone["event"], stone["held"]["sri"]) == ("monday", "unpublished", "sha512-x")
    assert keys[0] == keys[1]
    assert storage.objects[keys[0]] == b'{"a":2,"b":1}'
