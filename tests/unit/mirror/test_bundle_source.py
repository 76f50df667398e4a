"""A bundle in the place of a registry and of a log: it gives what it has, and vouches for what it can prove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ExitCode, IntegrityMismatchError, UpstreamNotFoundError, UpstreamProtocolError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.bundlefile import open_bundle_file
from mirrorwitness.mirror.bundlereading import read_object
from mirrorwitness.mirror.bundlesource import BundleSource
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.voucher import Claim, Contradiction, NotLogged, Vouched
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.sumdb import integrity_of
from tests.unit.mirror.bundling import World, make_world, read_manifest
from tests.unit.mirror.test_bundle_export import attest

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.mirror.voucher import Answer

LEFT = PackageName("left")
ONE = Version("1.0.0")


async def open_source(world: World, path: Path, *, has_log: bool = True) -> BundleSource:
    bundle, manifest = read_manifest(path)
    return BundleSource(
        bundle=bundle,
        manifest=manifest,
        file=await open_bundle_file(path),
        storage=world.inside.storage,
        terms=world.log.terms if has_log else None,
    )


async def ask(source: BundleSource, claim: Claim) -> Answer:
    return (await source.vouch(LEFT, [claim]))[claim.version]


async def test_what_it_does_not_have(tmp_path: Path) -> None:
    """Nothing is made up: neither documents, nor tarballs, nor attestations, nor proofs."""
    world = await make_world(tmp_path)
    await world.publish("left", "1.0.0")
    first = await world.export("first")
    source = await open_source(world, first)
    with pytest.raises(UpstreamNotFoundError, match="other is not in it"):
        await source.packument(PackageName("other"))
    with pytest.raises(UpstreamNotFoundError, match="no tarball of http"):
        await source.tarball("http://registry.example/x.tgz", world)  # type: ignore[arg-type]
    assert await source.attestations(LEFT, Version("9.9.9")) is None
    assert await source.attestations(LEFT, ONE) is None
    assert isinstance(await ask(source, Claim(Version("9.9.9"), None, None, None)), NotLogged)
    second = await open_source(world, await world.export("second", since=first))
    with pytest.raises(UpstreamNotFoundError, match="was imported before"):
        await second.packument(LEFT)


async def test_what_it_vouches_for(tmp_path: Path) -> None:
    """By its own proof, by the one that was imported before, and not at all."""
    world = await make_world(tmp_path)
    await world.publish("left", "1.0.0")
    first = await world.export("first")
    source = await open_source(world, first)
    held = integrity_of(world.sim.tarball("left", "1.0.0"))
    good, bad = Claim(ONE, held, None, held), Claim(ONE, integrity_of(b"other"), None, None)
    assert isinstance(await ask(source, good), Vouched)
    assert isinstance(await ask(source, bad), Contradiction)
    later = await open_source(world, await world.export("second", since=first))
    assert isinstance(await ask(later, good), NotLogged)
    assert (await world.take_in(first)).exit_code() is ExitCode.COMPLETE
    assert isinstance(await ask(later, good), Vouched)
    key = layout.proof_key(LEFT, "left-1.0.0.tgz")
    await world.inside.storage.put(key, b"damaged")
    assert isinstance(await ask(later, good), NotLogged)
    without = await open_source(world, first, has_log=False)
    with pytest.raises(UpstreamProtocolError, match="no log is asked"):
        without.check(b"", LEFT, good)


async def test_an_object_that_changed_is_not_given_out(tmp_path: Path) -> None:
    """Between the check and the import somebody may write to the medium."""
    world = await make_world(tmp_path)
    await world.publish("left", "1.0.0")
    path = await world.export("one")
    _, manifest = read_manifest(path)
    digest = manifest.packages[0].packument
    file = await open_bundle_file(path)
    assert await read_object(file, manifest, digest)
    (path / "objects" / digest).write_bytes(b"x" * manifest.objects[digest])
    with pytest.raises(IntegrityMismatchError, match="has the SHA-256"):
        await read_object(file, manifest, digest)


async def test_attestations_go_in(tmp_path: Path) -> None:
    """Where a manifest says that a version is attested, they are copied like a registry's."""
    world = await make_world(tmp_path)
    world.sim.publish("left", "1.0.0", dist={"attestations": {"url": "https://registry.example/-/x"}})
    await world.log.add(world.sim, "left", "1.0.0")
    world.outside.rules.append("left")
    world.inside.rules.append("left")
    await world.outside.sync()
    key = layout.attestations_key(LEFT, ONE)
    await attest(world)
    path = await world.export("one")
    assert (await world.take_in(path)).exit_code() is ExitCode.COMPLETE
    assert world.inside.storage.objects[key] == b'{"attestations":[]}'


async def test_a_mirror_that_did_not_ask_the_log_before(tmp_path: Path) -> None:
    """Where proofs were not stored, a later bundle without them is incomplete, and says which."""
    world = await make_world(tmp_path)
    await world.publish("left", "1.0.0")
    first = await world.export("first")
    world.asks_log = False
    await world.take_in(first)
    await world.publish("left", "1.1.0")
    second = await world.export("second", since=first)
    world.asks_log = True
    importer = await world.importer(second)
    with pytest.raises(UpstreamProtocolError, match=r"incomplete: the proof of left@1.0.0 is not in it"):
        await importer.verify(SilentProgress())
