"""Bundles from end to end: what one mirror exports another one imports, all of it or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ExitCode
from tests.fakes.storage import MemoryStorage
from tests.fault.dying import DyingStorage, run_until_death
from tests.fault.invariants import check_invariants
from tests.unit.mirror.bundling import World, make_world, read_manifest, visible

if TYPE_CHECKING:
    from pathlib import Path


async def filled(folder: Path, **options: bool) -> World:
    """Return two mirrors, one of which has two packages."""
    world = await make_world(folder, **options)
    await world.publish("left", "1.0.0")
    await world.publish("left", "1.1.0")
    await world.publish("@scope/right", "2.0.0")
    return world


@pytest.mark.parametrize("file", ["one.tar", "one"])
async def test_p2_what_was_exported_is_imported_whole_and_audits_clean(tmp_path: Path, file: str) -> None:
    """Documents, tarballs, proofs and keys arrive; the audit of the importing mirror finds nothing."""
    world = await filled(tmp_path)
    summary = await world.take_in(await world.export(file))
    assert (summary.exit_code(), summary.problems) == (ExitCode.COMPLETE, [])
    assert await world.inside.audit() == []
    outside, inside = world.outside.storage.objects, world.inside.storage.objects
    public = {key: body for key, body in outside.items() if key.startswith("npm/")}
    assert {key: body for key, body in inside.items() if key.startswith("npm/")} == public
    assert inside["about/keys.json"] == outside["about/keys.json"]
    check_invariants(inside, proven=True)


async def test_the_same_mirror_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two exports of one state are one file, bit for bit."""
    world = await filled(tmp_path)
    one, two = await world.export("one.tar"), await world.export("two.tar")
    assert one.read_bytes() == two.read_bytes()


async def test_three_bundles_in_a_row_carry_only_what_is_new(tmp_path: Path) -> None:
    """Each has the objects that its predecessors have not; together they make the mirror."""
    world = await filled(tmp_path)
    first = await world.export("first")
    await world.publish("left", "1.2.0")
    second = await world.export("second", since=first)
    await world.publish("third", "0.1.0")
    third = await world.export("third", since=second)
    contents = [set(read_manifest(path)[1].objects) for path in (first, second, third)]
    assert not contents[0] & contents[1]
    assert not (contents[0] | contents[1]) & contents[2]
    assert [len(found) for found in contents] == [9, 3, 3]
    for path in (first, second, third):
        assert (await world.take_in(path)).exit_code() is ExitCode.COMPLETE
        assert await world.inside.audit() == [] or path != third
    assert world.inside.served("left") == ["1.0.0", "1.1.0", "1.2.0"]
    assert world.inside.served("third") == ["0.1.0"]


async def test_importing_the_newest_bundle_again_changes_nothing(tmp_path: Path) -> None:
    """An import can be repeated; nothing but the notes of the run differs."""
    world = await filled(tmp_path)
    path = await world.export("one.tar")
    await world.take_in(path)
    before = visible(world.inside.storage)
    summary = await world.take_in(path)
    assert summary.counts["packages_unchanged"] == 2
    assert visible(world.inside.storage) == before


@pytest.mark.slow
@pytest.mark.parametrize("is_late", [False, True])
async def test_p2_killed_at_any_storage_operation_the_import_goes_on(
    tmp_path: Path,
    is_late: bool,  # noqa: FBT001
) -> None:
    """Between any two operations: no document names what is not there, and the same bundle completes it."""
    world = await filled(tmp_path)
    path = await world.export("one.tar")
    operation, died = 1, True
    while died:
        world.inside.storage = MemoryStorage()
        dying = DyingStorage(world.inside.storage, operations=operation, is_late=is_late)

        async def take_in() -> None:
            await world.take_in(path, dying)  # noqa: B023

        died = await run_until_death(dying, take_in)
        check_invariants(world.inside.storage.objects, proven=True)
        summary = await world.take_in(path)
        assert summary.exit_code() is ExitCode.COMPLETE
        assert await world.inside.audit() == []
        operation += 1
    assert operation > 25


async def test_a_mirror_without_a_log_is_carried_too(tmp_path: Path) -> None:
    """Where no log is asked, integrity and the registry's signatures decide."""
    world = await filled(tmp_path, has_log=False)
    assert (await world.take_in(await world.export("one.tar"))).exit_code() is ExitCode.COMPLETE
    assert await world.inside.audit() == []


async def test_a_large_tarball_goes_through_a_temporary_file(tmp_path: Path) -> None:
    """Memory does not grow with a tarball."""
    world = await filled(tmp_path)
    world.options = type(world.options)(concurrency=2, memory=0, spool_directory=tmp_path)
    assert (await world.take_in(await world.export("one"))).exit_code() is ExitCode.COMPLETE
