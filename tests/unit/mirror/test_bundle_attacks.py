"""What a bundle can be made to say, and what an import does about it. Each test is named after the attack."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    EquivocationError,
    ExitCode,
    ForkError,
    IntegrityMismatchError,
    MirrorWitnessError,
    ProofError,
    SignatureError,
    UpstreamProtocolError,
    UpstreamStaleError,
    UpstreamUnreachableError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.bundle import Manifest, format_manifest, format_sum, id_of
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.signatures import KeyRing
from mirrorwitness.tlog.evidence import check_evidence, parse_evidence
from tests.fakes.registry_build import Signer
from tests.fakes.simulated_log import open_simulated_log
from tests.fakes.sumdb import integrity_of
from tests.unit.mirror.bundling import World, make_world, read_manifest, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.mirror.builder import Mirror


async def filled(folder: Path) -> World:
    world = await make_world(folder)
    await world.publish("left", "1.0.0")
    await world.publish("left", "1.1.0")
    return world


async def refuse(world: World, path: Path, error: type[MirrorWitnessError], words: str) -> None:
    """Check that a bundle is refused, and that nothing visible changed."""
    before = visible(world.inside.storage)
    with pytest.raises(error, match=words):
        await world.take_in(path)
    assert visible(world.inside.storage) == before


def rewrite(path: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Write another manifest into a bundle that is a directory, with the digest that fits it."""
    body = format_manifest(change(read_manifest(path)[1]))
    (path / "manifest.json").write_bytes(body)
    (path / "manifest.json.sha256").write_bytes(format_sum(id_of(body)))


def add_object(path: Path, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()
    (path / "objects" / digest).write_bytes(body)
    return digest


def swap_object(path: Path, old: str, body: bytes, **changes: Any) -> None:
    """Replace one object of a bundle everywhere, digests included: what somebody does who makes bundles."""
    new = add_object(path, body)
    (path / "objects" / old).unlink()

    def change(manifest: Manifest) -> Manifest:
        text = format_manifest(manifest).replace(old.encode(), new.encode())
        document = json.loads(text)
        document["objects"][new] = len(body)
        for package in document["packages"]:
            for file in package["files"]:
                if file["sha256"] == new:
                    file.update(changes)
        return msgspec.json.decode(json.dumps(document), type=Manifest)

    rewrite(path, change)


async def test_gap(tmp_path: Path) -> None:
    """A bundle whose predecessor was never imported is refused, and names it."""
    world = await filled(tmp_path)
    first = await world.export("first.tar")
    await world.publish("left", "1.2.0")
    second = await world.export("second.tar", since=first)
    await world.publish("left", "1.3.0")
    third = await world.export("third", since=second)
    missing = read_manifest(third)[1].previous
    assert missing is not None
    await refuse(world, third, ConfigurationError, f"goes on from {missing}, which was never imported")
    await world.take_in(first)
    await refuse(world, third, ConfigurationError, f"goes on from {missing}, which was never imported")
    await world.take_in(second)
    assert (await world.take_in(third)).exit_code() is ExitCode.COMPLETE


async def test_replay_of_an_older_bundle(tmp_path: Path) -> None:
    """One that was imported before others, also the first one, which stands alone."""
    world = await filled(tmp_path)
    first = await world.export("first.tar")
    await world.publish("left", "1.2.0")
    second = await world.export("second.tar", since=first)
    await world.take_in(first)
    await world.take_in(second)
    await refuse(world, first, ConfigurationError, "was imported before, and others after it")


async def test_rollback_by_an_older_bundle_that_was_never_imported(tmp_path: Path) -> None:
    """Its checkpoint is older than what was verified here; without a log, its documents are."""
    world = await filled(tmp_path)
    old = await world.export("old.tar")
    await world.publish("left", "1.2.0")
    await world.take_in(await world.export("new.tar"))
    await refuse(world, old, UpstreamStaleError, "it is older, and nothing is taken from it")
    world.asks_log = False
    await refuse(world, old, UpstreamStaleError, "older than")


async def fork(world: World, folder: Path) -> World:
    """Return another outer mirror, whose log has the same keys and another history."""
    other = await make_world(folder)
    await other.publish("other", "9.0.0")
    await other.publish("left", "1.0.0")
    other.inside = world.inside
    return other


async def test_fork_at_the_same_size(tmp_path: Path) -> None:
    """Two trees of one size: refused, and the evidence convinces somebody who has nothing but it."""
    world = await filled(tmp_path)
    await world.take_in(await world.export("ours.tar"))
    (tmp_path / "b").mkdir()
    other = await fork(world, tmp_path / "b")
    await refuse(other, await other.export("theirs.tar"), ForkError, "signed two histories")
    assert_fork(world.inside)


async def test_fork_at_a_larger_size(tmp_path: Path) -> None:
    """The step of the bundle is proven, and does not start from what was verified here."""
    world = await filled(tmp_path)
    ours = await world.export("ours")
    await world.take_in(ours)
    (tmp_path / "b").mkdir()
    other = await fork(world, tmp_path / "b")
    theirs = await other.export("theirs")
    await other.publish("left", "1.1.0")
    path = await other.export("more", since=theirs)
    rewrite(path, lambda manifest: msgspec.structs.replace(manifest, previous=read_manifest(ours)[0]))
    await refuse(other, path, ForkError, "signed two histories")
    assert_fork(world.inside)


def assert_fork(mirror: Mirror) -> None:
    """Check that a mirror has one piece of evidence, and that it convinces somebody who has nothing but it."""
    (body,) = [body for key, body in mirror.storage.objects.items() if key.startswith("evidence/")]
    assert mirror.log is not None
    assert check_evidence(parse_evidence(body)).log_keys == tuple(mirror.log.terms.keys)


async def test_step_that_starts_elsewhere(tmp_path: Path) -> None:
    """A larger tree without a proof from ours is not believed, whoever signed it."""
    world = await filled(tmp_path)
    await world.take_in(await world.export("first.tar"))
    await world.publish("left", "1.2.0")
    await refuse(world, await world.export("alone.tar"), ConfigurationError, "proves no step to 3: export with --since")


async def test_forged_step(tmp_path: Path) -> None:
    """Hashes that prove nothing accuse nobody."""
    world = await filled(tmp_path)
    first = await world.export("first")
    await world.take_in(first)
    await world.publish("left", "1.2.0")
    path = await world.export("second", since=first)

    def change(manifest: Manifest) -> Manifest:
        assert manifest.log is not None
        assert manifest.log.since is not None
        step = msgspec.structs.replace(manifest.log.since, hashes=())
        return msgspec.structs.replace(manifest, log=msgspec.structs.replace(manifest.log, since=step))

    rewrite(path, change)
    await refuse(world, path, ProofError, "consistency")
    assert not world.inside.keys("evidence/")


async def test_exporter_meets_the_fork_itself(tmp_path: Path) -> None:
    """A log that shows the exporting mirror another history than the bundle before has: nothing is written."""
    world = await filled(tmp_path)
    first = await world.export("first")
    (tmp_path / "b").mkdir()
    other = await fork(world, tmp_path / "b")
    with pytest.raises(ForkError, match="signed two histories"):
        await other.export("second", since=first)
    assert_fork(other.outside)
    (tmp_path / "c").mkdir()
    other = await fork(world, tmp_path / "c")
    await other.publish("left", "1.1.0")
    with pytest.raises(ForkError, match="signed two histories"):
        await other.export("second", since=first)
    assert_fork(other.outside)
    assert not (tmp_path / "c" / "second").exists()


async def test_replaced_bytes(tmp_path: Path) -> None:
    """Other bytes under the right digests of the bundle: the document's integrity decides."""
    world = await filled(tmp_path)
    path = await world.export("one")
    file = read_manifest(path)[1].packages[0].files[0]
    body = b"evil" * (file.size // 4) + b"." * (file.size % 4)
    integrity = integrity_of(body)
    swap_object(path, file.sha256, body, integrity=integrity)
    await refuse(world, path, IntegrityMismatchError, "left@1.0.0: expected sha512-")


async def test_replaced_bytes_and_document(tmp_path: Path) -> None:
    """Bytes and document fit each other: the registry's signature does not."""
    world = await filled(tmp_path)
    path = await world.export("one")
    package = read_manifest(path)[1].packages[0]
    body = b"evil"
    integrity = integrity_of(body)
    document = json.loads((path / "objects" / package.packument).read_bytes())
    document["versions"]["1.0.0"]["dist"]["integrity"] = integrity
    swap_object(path, package.files[0].sha256, body, integrity=integrity, size=4)
    swap_object(path, package.packument, json.dumps(document).encode())
    await refuse(world, path, SignatureError, "left@1.0.0: the registry's signature is bad")


async def test_unsigned_replacement_meets_the_log(tmp_path: Path) -> None:
    """Where signatures were stripped as well, the log has other bytes."""
    world = await filled(tmp_path)
    path = await world.export("one")
    package = read_manifest(path)[1].packages[0]
    body = b"evil"
    integrity = integrity_of(body)
    document = json.loads((path / "objects" / package.packument).read_bytes())
    document["versions"]["1.0.0"]["dist"] |= {"integrity": integrity, "signatures": []}
    swap_object(path, package.files[0].sha256, body, integrity=integrity, size=4)
    swap_object(path, package.packument, json.dumps(document).encode())
    await refuse(world, path, EquivocationError, "the log has sha512-")


async def test_equivocation_against_held_bytes(tmp_path: Path) -> None:
    """Another bundle with other bytes for a version that is held: refused, with evidence (P5)."""
    world = await make_world(tmp_path, has_log=False)
    await world.publish("left", "1.0.0")
    await world.take_in(await world.export("ours"))
    (tmp_path / "b").mkdir()
    other = await make_world(tmp_path / "b", has_log=False)
    other.sim.publish("left", "1.0.0", data=b"other bytes")
    other.outside.rules.append("left")
    await other.outside.sync()
    other.inside = world.inside
    await refuse(other, await other.export("theirs"), EquivocationError, "is held, the bundle has")
    assert [item["kind"] for item in world.inside.evidence()] == ["stored-bytes"]


async def test_keys_that_only_the_bundle_has(tmp_path: Path) -> None:
    """An attacker's key comes with an attacker's bundle: under `require` nothing of it counts."""
    world = await filled(tmp_path)
    path = await world.export("one")
    importer = await world.importer(path)
    terms = importer._terms
    importer._terms = type(terms)(keys=KeyRing(), policy=type(terms.policy).REQUIRE, log=terms.log, signer=None)

    with pytest.raises(SignatureError, match="Keys that only the bundle has do not count"):
        await importer.verify(SilentProgress())
    assert visible(world.inside.storage) == {}


async def test_incomplete(tmp_path: Path) -> None:
    """A document that names what is neither in the bundle nor here is refused (P2)."""
    world = await filled(tmp_path)
    first = await world.export("first")
    await world.take_in(first)
    file = read_manifest(first)[1].packages[0].files[0]
    await world.publish("left", "1.2.0")
    second = await world.export("second", since=first)
    await world.inside.storage.delete(world.inside.tarball_key("left", "1.0.0"))
    await refuse(world, second, UpstreamProtocolError, "incomplete: left@1.0.0 is not in it, and not here either")
    assert file.version == "1.0.0"


async def test_object_that_belongs_to_nothing(tmp_path: Path) -> None:
    """Nothing rides along."""
    world = await filled(tmp_path)
    path = await world.export("one")
    add_object(path, b"rider")
    await refuse(world, path, UpstreamProtocolError, "the manifest says nothing")


async def test_missing_object(tmp_path: Path) -> None:
    """What the manifest says is in the bundle has to be there."""
    world = await filled(tmp_path)
    path = await world.export("one")
    next((path / "objects").iterdir()).unlink()
    await refuse(world, path, UpstreamProtocolError, "has nothing, the manifest says")


async def test_unlisted_version(tmp_path: Path) -> None:
    """A document that names a version which the manifest does not list is refused."""
    world = await filled(tmp_path)
    path = await world.export("one")
    package = read_manifest(path)[1].packages[0]
    document = json.loads((path / "objects" / package.packument).read_bytes())
    document["versions"]["9.9.9"] = document["versions"]["1.0.0"] | {"version": "9.9.9"}
    swap_object(path, package.packument, json.dumps(document).encode())
    await refuse(world, path, UpstreamProtocolError, "9.9.9 is in its document alone")


@pytest.mark.parametrize("is_named", [False, True])
async def test_stripped_proof(tmp_path: Path, is_named: bool) -> None:  # noqa: FBT001
    """Where the log is asked, every version needs its proof; one of another version is none."""
    world = await filled(tmp_path)
    path = await world.export("one")
    files = read_manifest(path)[1].packages[0].files
    stripped = files[0].proof
    assert stripped is not None
    (path / "objects" / stripped).unlink()

    def change(manifest: Manifest) -> Manifest:
        (package,) = manifest.packages
        file = msgspec.structs.replace(package.files[0], proof=package.files[1].proof if is_named else None)
        package = msgspec.structs.replace(package, files=(file, package.files[1]))
        objects = {digest: size for digest, size in manifest.objects.items() if digest != stripped}
        return msgspec.structs.replace(manifest, packages=(package,), objects=objects)

    rewrite(path, change)
    error, words = (UpstreamProtocolError, "the proof is of left@1.1.0") if is_named else (ProofError, "has no proof")
    await refuse(world, path, error, words)


async def test_record_of_another_registry(tmp_path: Path) -> None:
    """Whose names these are is for the importer to say: another registry's record vouches for nothing."""
    world = await filled(tmp_path)
    path = await world.export("one")
    importer = await world.importer(path, registry="npm.acme.example")
    with pytest.raises(EquivocationError, match=r"expected one of npm.acme.example"):
        await importer.verify(SilentProgress())
    assert visible(world.inside.storage) == {}


async def test_fork_that_hides_in_a_proof(tmp_path: Path) -> None:
    """A proof under a tree of the checkpoint's size and with another root: the log signed both."""
    world = await filled(tmp_path)
    path = await world.export("one")
    (tmp_path / "b").mkdir()
    other = await fork(world, tmp_path / "b")
    theirs = await other.export("theirs")
    left = next(package for package in read_manifest(theirs)[1].packages if package.name == "left")
    proof, ours = left.files[0].proof, read_manifest(path)[1].packages[0].files[0].proof
    assert proof is not None
    assert ours is not None
    swap_object(path, ours, (theirs / "objects" / proof).read_bytes())
    await refuse(world, path, ForkError, "signed two histories")
    assert_fork(world.inside)


async def test_proof_from_a_newer_tree(tmp_path: Path) -> None:
    """A proof that is newer than the newest checkpoint is in a tree that nobody compared."""
    world = await filled(tmp_path)
    path = await world.export("one")
    ours = read_manifest(path)[1].packages[0].files[0].proof
    await world.publish("later", "1.0.0")
    await world.outside.storage.delete(layout.record_key(PackageName("left")))
    await world.outside.storage.delete("npm/left/-/left-1.0.0.tgz.tlog-proof")
    await world.outside.sync()
    assert ours is not None
    swap_object(path, ours, world.outside.storage.objects["npm/left/-/left-1.0.0.tgz.tlog-proof"])
    await refuse(world, path, ProofError, "its proof is in a tree of 3, larger than the bundle's 2")


async def test_proof_with_a_changed_hash(tmp_path: Path) -> None:
    """A proof that leads nowhere."""
    world = await filled(tmp_path)
    path = await world.export("one")
    ours = read_manifest(path)[1].packages[0].files[1].proof
    assert ours is not None
    body = (path / "objects" / ours).read_bytes()
    swap_object(path, ours, body.replace(b"index 1\n", b"index 0\n"))
    await refuse(world, path, ProofError, r"left@1.1.0: ")


async def test_document_that_names_another_file(tmp_path: Path) -> None:
    """The manifest's file names are those of the document: what a client asks for."""
    world = await filled(tmp_path)
    path = await world.export("one")

    def change(manifest: Manifest) -> Manifest:
        (package,) = manifest.packages
        files = (msgspec.structs.replace(package.files[0], file="other.tgz"), package.files[1])
        return msgspec.structs.replace(manifest, packages=(msgspec.structs.replace(package, files=files),))

    rewrite(path, change)
    await refuse(world, path, UpstreamProtocolError, r"left@1.0.0: the document names another file than other.tgz")


async def test_a_fork_is_not_forgotten(tmp_path: Path) -> None:
    """While its evidence lies in the storage, no bundle is taken, also the honest one that came before."""
    world = await filled(tmp_path)
    ours = await world.export("ours.tar")
    await world.take_in(ours)
    (tmp_path / "b").mkdir()
    other = await fork(world, tmp_path / "b")
    await refuse(other, await other.export("theirs.tar"), ForkError, "signed two histories")
    await refuse(world, ours, ForkError, "signed two histories, as .* shows")


async def test_log_of_somebody_else(tmp_path: Path) -> None:
    """A bundle without a checkpoint of the log that is asked is refused."""
    world = await make_world(tmp_path, has_log=False)
    await world.publish("left", "1.0.0")
    path = await world.export("one")
    world.outside.log = await open_simulated_log()
    world.asks_log = True
    await refuse(world, path, UpstreamProtocolError, "it has no checkpoint of")


async def test_checkpoint_without_its_quorum(tmp_path: Path) -> None:
    """A checkpoint that the witness did not cosign is none."""
    world = await filled(tmp_path)
    path = await world.export("one")

    def change(manifest: Manifest) -> Manifest:
        assert manifest.log is not None
        note = "".join(line for line in manifest.log.checkpoint.splitlines(keepends=True) if "witness" not in line)
        return msgspec.structs.replace(manifest, log=msgspec.structs.replace(manifest.log, checkpoint=note))

    rewrite(path, change)
    await refuse(world, path, SignatureError, "do not meet the quorum")


async def test_wrong_signer(tmp_path: Path) -> None:
    """A bundle that nobody signed, or somebody else did, is refused where a signer is named."""
    world = await filled(tmp_path)
    signed = await world.export("signed", key=world.log.key)
    world.signer = world.log.key.verifier
    await refuse(world, await world.export("bare"), SignatureError, "signed by nobody, expected")
    note = (signed / "manifest.json.note").read_bytes()
    await world.publish("left", "1.2.0")
    other = await world.export("other", key=world.log.key)
    (other / "manifest.json.note").write_bytes(note)
    await refuse(world, other, SignatureError, "expected b'mirrorwitness-bundle/1")
    (other / "manifest.json.note").unlink()
    await refuse(world, other, SignatureError, "says otherwise")
    assert (await world.take_in(signed)).exit_code() is ExitCode.COMPLETE


async def test_digest_of_another_manifest(tmp_path: Path) -> None:
    """The digest beside the manifest is its id."""
    world = await filled(tmp_path)
    path = await world.export("one")
    (path / "manifest.json.sha256").write_bytes(format_sum("0" * 64))
    await refuse(world, path, IntegrityMismatchError, "says another")


def name_header(header: bytes, name: str) -> bytes:
    """Return a header of a tar with another name and a sum that fits."""
    body = bytearray(name.encode().ljust(100, b"\0") + header[100:])
    body[148:156] = b" " * 8
    body[148:156] = b"%06o\0 " % sum(body)
    return bytes(body)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "objects/../../evil", "objects/" + "0" * 63, "manifest.json/x"]
)
async def test_path_traversal(tmp_path: Path, name: str) -> None:
    """A name that is none of a bundle's is refused; nothing is ever unpacked."""
    world = await filled(tmp_path)
    path = await world.export("one.tar")
    body = path.read_bytes()
    size = int(body[124:135], 8)
    first = body[: 512 + size + -size % 512]
    path.write_bytes(name_header(first[:512], name) + first[512:] + body)
    await refuse(world, path, UpstreamProtocolError, "has no place in a bundle")


async def test_the_same_file_twice(tmp_path: Path) -> None:
    """Two files of one name: which one would be read is not a question."""
    world = await filled(tmp_path)
    path = await world.export("one.tar")
    body = path.read_bytes()
    size = int(body[124:135], 8)
    path.write_bytes(body[: 512 + size + -size % 512] + body)
    await refuse(world, path, UpstreamProtocolError, "is there twice")


async def test_tar_of_another_program(tmp_path: Path) -> None:
    """Its headers have owners and times, in which something could hide."""
    world = await filled(tmp_path)
    folder, path = await world.export("one"), tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, "")
    await refuse(world, path, UpstreamProtocolError, "no header as an export writes it")


async def test_symbolic_link(tmp_path: Path) -> None:
    """A directory with a link in the place of an object is refused."""
    world = await filled(tmp_path)
    path = await world.export("one")
    file = next((path / "objects").iterdir())
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    await refuse(world, path, UpstreamProtocolError, "all of them plain files")


async def test_oversized(tmp_path: Path) -> None:
    """A tarball that is larger than the mirror takes is refused before it is read."""
    world = await filled(tmp_path)
    path = await world.export("one")
    world.options = type(world.options)(concurrency=2, size_limit=100)
    await refuse(world, path, UpstreamProtocolError, "bytes, more than 100")


async def test_oversized_document_of_keys(tmp_path: Path) -> None:
    """Every kind of object has its limit; none is read into memory because a manifest says so."""
    world = await filled(tmp_path)
    path = await world.export("one")
    keys = read_manifest(path)[1].keys
    assert keys is not None
    swap_object(path, keys, b" " * (1 << 21))
    await refuse(world, path, UpstreamProtocolError, "the keys document has 2,097,152 bytes, more than 1,048,576")


async def test_another_key_under_a_known_keyid(tmp_path: Path) -> None:
    """A keyid is a label; who puts another key under it is an attacker."""
    world = await filled(tmp_path)
    path = await world.export("one")
    keys = read_manifest(path)[1].keys
    assert keys is not None
    document = json.loads((path / "objects" / keys).read_bytes())
    document["keys"][0]["key"] = Signer(2).public
    swap_object(path, keys, json.dumps(document).encode())
    await refuse(world, path, SignatureError, "was the key .* and is now the key")


async def test_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    """Eight gigabytes in a header of a small file: refused by its size, and nothing is allocated."""
    world = await filled(tmp_path)
    path = await world.export("one.tar")
    body = bytearray(path.read_bytes())
    body[124:135] = b"77777777777"
    total = sum(body[:148]) + 8 * 32 + sum(body[156:512])
    body[148:156] = b"%06o\0 " % total
    path.write_bytes(body)
    await refuse(world, path, UpstreamUnreachableError, "cut off at byte")


async def test_manifest_too_large(tmp_path: Path) -> None:
    """A manifest beyond the limit is refused by its size."""
    world = await filled(tmp_path)
    path = await world.export("one")
    with (path / "manifest.json").open("r+b") as file:
        file.truncate(65 * 1024 * 1024)
    await refuse(world, path, UpstreamProtocolError, "expected at most 67,108,864")


async def test_changed_while_it_is_imported(tmp_path: Path) -> None:
    """What was verified and is another when it is taken in: no byte of it is visible."""
    world = await filled(tmp_path)
    path = await world.export("one")
    importer = await world.importer(path)
    verified = await importer.verify(SilentProgress())
    file = verified.manifest.packages[0].files[0]
    (path / "objects" / file.sha256).write_bytes(b"x" * file.size)
    summary = await importer.apply(verified, SilentProgress())
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert world.inside.served("left") == ["1.1.0"]
    assert "state/bundle/imported.json" not in world.inside.storage.objects
