"""What an export refuses to carry, and what it reads again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ConfigurationError, ExitCode, IntegrityMismatchError, SignatureError, StorageError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.bundleexport import Previous
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.registry_build import Signer
from tests.unit.mirror.bundling import World, make_world, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

LEFT = PackageName("left")


async def attest(world: World) -> None:
    """Let the outer mirror have attestations of its one version."""
    key = layout.attestations_key(LEFT, Version("1.0.0"))
    await world.outside.storage.put(key, b'{"attestations":[]}')
    record = json.loads(world.outside.storage.objects[layout.record_key(LEFT)])
    record["versions"]["1.0.0"]["attested"] = True
    await world.outside.storage.put(layout.record_key(LEFT), json.dumps(record).encode())


async def filled(folder: Path) -> World:
    world = await make_world(folder)
    await world.publish("left", "1.0.0")
    return world


async def test_wrong_bytes_do_not_go_out(tmp_path: Path) -> None:
    """A tarball that rotted in the storage ends the export, and no bundle is left."""
    world = await filled(tmp_path)
    await world.outside.storage.put(world.outside.tarball_key("left", "1.0.0"), b"rotten")
    with pytest.raises(IntegrityMismatchError, match=r"left@1.0.0: npm/left/-/left-1.0.0.tgz: .*audit --repair"):
        await world.export("one.tar")
    assert not (tmp_path / "one.tar").exists()


async def test_nothing_is_served_of_it(tmp_path: Path) -> None:
    """A name that the mirror does not have is told, not left away."""
    world = await filled(tmp_path)
    world.outside.rules.append("absent")
    with pytest.raises(ConfigurationError, match="absent: the mirror serves nothing of it"):
        await world.export("one.tar")


async def test_a_document_that_is_being_changed_is_read_again(tmp_path: Path, autojump_clock: object) -> None:
    """A worker between document and record: the export waits for it; one that does not end is told."""
    assert autojump_clock is not None
    world = await filled(tmp_path)
    key = layout.packument_key(LEFT)
    good = world.outside.storage.objects[key]
    await world.outside.storage.put(key, good + b" ")
    with pytest.raises(StorageError, match="its document is not the recorded one"):
        await world.export("one.tar")

    async def mend() -> None:
        await trio.sleep(1)
        await world.outside.storage.put(key, good)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mend)
        await world.export("two.tar")


async def test_a_record_that_does_not_know_a_version(tmp_path: Path) -> None:
    """Document and record that do not belong together end the export."""
    world = await filled(tmp_path)
    key = layout.record_key(LEFT)
    record = json.loads(world.outside.storage.objects[key])
    record["versions"] = {}
    await world.outside.storage.put(key, json.dumps(record).encode())
    with pytest.raises(StorageError, match=r"left@1.0.0: the document names it and the record does not"):
        await world.export("one.tar")


async def test_the_same_bytes_are_carried_once(tmp_path: Path) -> None:
    """Two versions with one tarball's bytes have one object; so does what an earlier bundle had."""
    world = await make_world(tmp_path, has_log=False)
    for version in ("1.0.0", "1.0.1"):
        world.sim.publish("left", version, data=b"the same", signer=Signer())
    world.outside.rules.append("left")
    world.inside.rules.append("left")
    await world.outside.sync_well()
    first = await world.export("first")
    _, manifest = read_manifest(first)
    assert len({file.sha256 for file in manifest.packages[0].files}) == 1
    assert len(manifest.objects) == 3
    assert (await world.take_in(first)).exit_code() is ExitCode.COMPLETE
    previous = Previous(*read_manifest(first))
    assert previous.checkpoint is None
    world.sim.publish("left", "1.0.2", data=b"the same", signer=Signer())
    await world.outside.sync_well()
    second = await world.export("second", since=first)
    assert len(read_manifest(second)[1].objects) == 1


async def test_attestations_are_carried(tmp_path: Path) -> None:
    """Npm asks the mirror for them wherever the manifest names them."""
    world = await filled(tmp_path)
    await attest(world)
    path = await world.export("one")
    file = read_manifest(path)[1].packages[0].files[0]
    assert file.attestations is not None
    assert (path / "objects" / file.attestations).read_bytes() == b'{"attestations":[]}'
    assert (await world.take_in(path)).exit_code() is ExitCode.COMPLETE


async def test_steps_of_a_log(tmp_path: Path) -> None:
    """From nothing, to the same size, and never backwards."""
    world = await make_world(tmp_path)
    empty = await world.log.read_head()
    for version in ("1.0.0", "1.1.0"):
        await world.publish("left", version)
    new = Previous(*read_manifest(await world.export("one"))).checkpoint
    assert new is not None
    assert (await world.prove(empty, new)).size == 0
    assert (await world.prove(new, new)).hashes == ()
    with pytest.raises(ConfigurationError, match="which is smaller"):
        await world.prove(new, empty)
    with pytest.raises(SignatureError):
        await world.prove(
            new.replace(b"sumdb.example/test Ag", b"sumdb.example/test Bg").replace(b"\n\n", b"\nx\n\n"), new
        )
