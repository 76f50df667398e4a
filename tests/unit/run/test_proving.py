"""Proofs out of the tiles of a log: what is read for them, what they say, and what is never proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    ProofError,
    SignatureError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import Backoff
from mirrorwitness.run.proving import ProveWishes, prove_entry, prove_growth, prove_index
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.proof import parse_proof, verify_proof
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.lab import LabLog, add_lines, sign_line
from mirrorwitness.witness.protocol import format_add_checkpoint
from tests.fakes.serving import serve
from tests.unit.witness.feeding import LAB, scene
from tests.unit.witness.log_server import LogServer, make_lab
from tests.unit.witness.world import NEXT, OURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.keys import SignerKey

DIALECTS = pytest.mark.parametrize("dialect", list(Dialect))
PREFIX = {Dialect.TILES: "/tile", Dialect.SUMDB: "/tile/8"}


def wishes(server: LogServer, **more: Any) -> ProveWishes:
    """Return what somebody asks of a log that is served."""
    return ProveWishes(log=server.flag, tries=Backoff(attempts=1), **more)


def policy(quorum: str) -> bytes:
    """Return a policy of the log and two witnesses."""
    witnesses = f"witness ours {OURS.verifier}\nwitness next {NEXT.verifier}\n"
    return f"log {LAB.keys[0].verifier}\n{witnesses}quorum {quorum}\n".encode()


class CosignedLog(LogServer):
    """Serves checkpoints that witnesses cosigned."""

    def __init__(self, size: int, *cosigners: SignerKey) -> None:
        super().__init__(LAB, size)
        text = LAB.text(size)
        self.note = LAB.sign(text, LAB.keys[0], *cosigners, timestamp=7)
        self.bodies[self.head_path] = self.note


@DIALECTS
async def test_entry_at_an_index(dialect: Dialect) -> None:
    """The proof, and the checkpoint as it was served; the right edge is read, and the entry's own tile."""
    server = LogServer(LAB, 1000, dialect=dialect)
    async with serve(server):
        proven = await prove_index(wishes(server, dialect=dialect), 300)
    found = parse_proof(proven.body)
    assert (found.index, list(found.proof)) == (300, LAB.inclusion_proof(300, 1000))
    assert found.checkpoint == LAB.checkpoint(1000)
    tiles = [f"{PREFIX[dialect]}/{tile}" for tile in ("0/001", "0/003.p/232", "1/000.p/3")]
    assert server.asked[0] == server.head_path
    assert sorted(server.asked[1:]) == sorted(tiles)
    assert proven.tiles == tuple([tile[1:] for tile in tiles])
    assert (proven.index, proven.leaf, proven.old, proven.old_root) == (300, LAB.leaf(300), None, None)
    verify_proof(found, leaf=LAB.leaf(300), policy=parse_policy(policy("none")))


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (255, 256), (256, 257), (2999, 3000), (256, 512)])
async def test_proofs_at_the_borders_of_tiles(index: int, size: int) -> None:
    """Of trees with one entry, with one tile, and with full ones alone."""
    server = LogServer(LAB, size)
    async with serve(server):
        proven = await prove_index(wishes(server), index)
    assert list(proven.proof) == LAB.inclusion_proof(index, size)


@pytest.mark.slow
async def test_tree_of_three_levels() -> None:
    """Whose right edge has a tile of each."""
    server = LogServer(LAB, 70_000)
    async with serve(server):
        proven = await prove_index(wishes(server), 65_535)
    assert list(proven.proof) == LAB.inclusion_proof(65_535, 70_000)
    assert set(proven.tiles) == {"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/1/000", "tile/0/255"}


@pytest.mark.parametrize(("index", "size"), [(0, 0), (10, 10), (300, 10)])
async def test_entry_that_the_log_does_not_have(index: int, size: int) -> None:
    """No tile is read for it."""
    server = LogServer(LAB, size)
    async with serve(server):
        with pytest.raises(ConfigurationError, match=f"entry {index} of a tree of size {size}"):
            await prove_index(wishes(server), index)
    assert server.asked == ["/checkpoint"]


@DIALECTS
async def test_entry_by_its_bytes(dialect: Dialect) -> None:
    """It is looked for in the newest tiles first, and each tile is read once."""
    server = LogServer(LAB, 4000, dialect=dialect)
    async with serve(server):
        proven = await prove_entry(wishes(server, dialect=dialect), LAB.entry(3000))
    assert (proven.index, proven.leaf) == (3000, LAB.leaf(3000))
    assert list(proven.proof) == LAB.inclusion_proof(3000, 4000)
    assert len(set(server.asked)) == len(server.asked)
    newest = {f"{PREFIX[dialect]}/0/{number:03}" for number in range(8, 15)}
    edge = {f"{PREFIX[dialect]}/{tile}" for tile in ("0/015.p/160", "1/000.p/15")}
    assert set(server.asked) == {server.head_path, *newest, *edge}


class Repeating(LabLog):
    """A log in which each entry comes again after a hundred others."""

    def entry(self, index: int) -> bytes:
        return super().entry(index % 100)


async def test_newest_of_equal_entries_is_proven() -> None:
    """Within a tile too."""
    server = LogServer(Repeating(LAB.origin, LAB.keys), 700)
    async with serve(server):
        proven = await prove_entry(wishes(server), LAB.entry(7))
    assert proven.index == 607


@pytest.mark.parametrize(
    ("size", "search", "tiles", "message"),
    [
        (3000, 1, 1, r"among the newest 184 of 3000, from 2816 on \(1 tiles\); a larger --search looks further back"),
        (3000, 10, 10, r"among the newest 2488 of 3000, from 512 on \(10 tiles\)"),
        (3000, 12, 12, "all 3000 of its checkpoint were searched"),
        (3000, 64, 12, "all 3000 of its checkpoint were searched"),
        (0, 64, 0, "all 0 of its checkpoint were searched"),
    ],
)
async def test_entry_that_is_not_found(size: int, search: int, tiles: int, message: str) -> None:
    """The error says how far was searched, and no more was."""
    server = LogServer(LAB, size)
    async with serve(server):
        with pytest.raises(ConfigurationError, match=message):
            await prove_entry(wishes(server), b"never logged", search=search)
    assert len([path for path in server.asked if path.startswith("/tile/0/")]) == tiles


@pytest.mark.slow
async def test_oldest_entry_in_reach_is_found() -> None:
    """The last tile that may be searched is searched to its first entry."""
    server = LogServer(LAB, 3000)
    async with serve(server):
        assert (await prove_entry(wishes(server), LAB.entry(512), search=10)).index == 512
        with pytest.raises(ConfigurationError, match="larger --search"):
            await prove_entry(wishes(server), LAB.entry(511), search=10)


@DIALECTS
@pytest.mark.parametrize(
    ("old", "new"), [(0, 0), (0, 300), (300, 300), (1, 2), (100, 1000), (256, 512), (65_000, 66_000)]
)
async def test_growth(dialect: Dialect, old: int, new: int) -> None:
    """The body of an add-checkpoint, as the log itself would make it."""
    server = LogServer(LAB, new, dialect=dialect)
    async with serve(server):
        proven = await prove_growth(wishes(server, dialect=dialect), old)
    assert proven.body == format_add_checkpoint(old, LAB.proof(old, new), LAB.checkpoint(new))
    assert (proven.old, proven.old_root) == (old, LAB.root(old) if old else EMPTY_ROOT)
    assert (proven.index, proven.leaf) == (None, None)
    assert bool(proven.tiles) == (0 < old < new)


async def test_a_witness_takes_the_body() -> None:
    """Posted by hand to one that knows the log at the older size."""
    async with scene(300) as found:
        found.server.grow(1000)
        proven = await prove_growth(wishes(found.server), 300)
        assert (await found.witness.add_checkpoint(proven.body)).status == 200
        assert found.published_size() == 1000


async def test_growth_from_more_than_there_is() -> None:
    """A log that shows less than somebody knows has not grown."""
    server = LogServer(LAB, 100)
    async with serve(server):
        with pytest.raises(ConfigurationError, match="size 100: it did not grow from 300"):
            await prove_growth(wishes(server), 300)


async def test_full_tile_stands_in_for_a_partial_one() -> None:
    """Where the partial one is gone; the proof is the same, and what was read is what is told."""
    server = LogServer(LAB, 1000)
    async with serve(server):
        server.gone.add("/tile/0/003.p/232")
        server._sizes.add(1024)
        proven = await prove_entry(wishes(server), LAB.entry(900))
    assert list(proven.proof) == LAB.inclusion_proof(900, 1000)
    assert "tile/0/003" in proven.tiles
    assert len(set(server.asked)) == len(server.asked)


@pytest.mark.parametrize("path", ["/tile/0/003.p/232", "/tile/1/000.p/3", "/tile/0/001"])
async def test_replaced_bytes_of_any_tile_prove_nothing(path: str) -> None:
    """Of the right edge, of a parent, and of the tile with the entry."""
    server = LogServer(LAB, 1000)
    async with serve(server):
        width = {"/tile/0/001": 256}.get(path) or int(path.rpartition("/")[2])
        server.bodies[path] = bytes(32 * width)
        for work in (prove_index(wishes(server), 300), prove_growth(wishes(server), 300)):
            with pytest.raises(ProofError, match="tiles do not match its checkpoint of size 1000"):
                await work
        with pytest.raises(ProofError, match="tiles do not match its checkpoint of size 1000"):
            await prove_entry(wishes(server), LAB.entry(300))


async def test_entry_hidden_by_a_replaced_tile() -> None:
    """That an entry is not there is said of hashes that the signed root has, and of no others."""
    server = LogServer(LAB, 1000)
    async with serve(server):
        server.bodies["/tile/0/000"] = bytes(32 * 256)
        with pytest.raises(ProofError, match="tile/0/000 has the hash"):
            await prove_entry(wishes(server), b"never logged")


async def test_tiles_of_a_fork() -> None:
    """The checkpoint of one history, and the tiles of another."""
    server = LogServer(LAB.fork(9), 1000)
    async with serve(server):
        server.bodies["/checkpoint"] = LAB.checkpoint(1000)
        with pytest.raises(ProofError, match="have the root"):
            await prove_index(wishes(server), 3)


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/checkpoint", make_lab("other").sign(LAB.text(1000)), SignatureError),
        ("/checkpoint", make_lab("other").checkpoint(1000), UpstreamProtocolError),
        ("/checkpoint", b"nonsense", UpstreamProtocolError),
        ("/tile/0/001", b"short", UpstreamProtocolError),
    ],
    ids=["stranger", "origin", "nonsense", "short"],
)
async def test_answers_that_are_none(path: str, body: bytes, error: type[Exception]) -> None:
    """A checkpoint that the log did not sign, one of another log, none at all, and half a tile."""
    server = LogServer(LAB, 1000)
    async with serve(server):
        server.bodies[path] = body
        with pytest.raises(error):
            await prove_index(wishes(server), 300)


async def test_log_that_cannot_be_read() -> None:
    """A missing tile, and nobody there."""
    server = LogServer(LAB, 1000)
    async with serve(server):
        server.gone.add("/tile/0/001")
        with pytest.raises(UpstreamNotFoundError):
            await prove_index(wishes(server), 300)
    with pytest.raises(UpstreamUnreachableError):
        await prove_index(wishes(server), 300)


@pytest.mark.parametrize(
    ("log", "text", "message"),
    [
        (str(LAB.keys[0].verifier), None, "expected VKEY=URL"),
        ("nonsense=http://127.0.0.1:1", None, "verifier key"),
        (f"{LAB.keys[0].verifier}=http://127.0.0.1:1/?a", None, "expected no query"),
        (f"{LAB.keys[0].verifier}=http://127.0.0.1:1", b"nonsense\n", "policy: "),
    ],
    ids=["url", "key", "query", "policy"],
)
async def test_what_cannot_be_asked(log: str, text: bytes | None, message: str) -> None:
    """Nothing is read then."""
    with pytest.raises(ConfigurationError, match=message):
        await prove_index(ProveWishes(log=log, policy=text), 0)


@pytest.mark.parametrize(
    ("cosigners", "quorum", "fits"),
    [
        ([OURS], "ours", True),
        ([OURS, NEXT], "next", True),
        ([OURS], "next", False),
        ([], "none", True),
        ([], "ours", False),
    ],
)
async def test_policy(cosigners: Sequence[SignerKey], quorum: str, fits: bool) -> None:  # noqa: FBT001 - a parameter
    """The checkpoint is held to it before any tile is read; who cosigned is told."""
    server = CosignedLog(1000, *cosigners)
    async with serve(server):
        if not fits:
            with pytest.raises(SignatureError, match="do not meet the quorum"):
                await prove_index(wishes(server, policy=policy(quorum)), 300)
            assert server.asked == ["/checkpoint"]
            return
        proven = await prove_index(wishes(server, policy=policy(quorum)), 300)
    assert proven.document()["cosigners"] == [{"name": key.name, "time": "1970-01-01T00:00:07Z"} for key in cosigners]
    verify_proof(parse_proof(proven.body), leaf=LAB.leaf(300), policy=parse_policy(policy(quorum)))


async def test_log_with_a_key_of_ml_dsa() -> None:
    """Any key that a log can have."""
    lab = make_lab("pq", KeyType.ML_DSA_44)
    server = LogServer(lab, 300)
    async with serve(server):
        proven = await prove_growth(wishes(server), 100)
    assert proven.verdict.log_keys == (str(lab.keys[0].verifier),)


async def test_cosignatures_are_passed_on_unchecked() -> None:
    """Without a policy nobody looks at them, and nothing is said of them; a reader of the proof has one."""
    server = CosignedLog(1000, OURS)
    note = add_lines(server.note, sign_line(NEXT, LAB.text(999), 7))
    server.bodies[server.head_path] = note
    async with serve(server):
        proven = await prove_index(wishes(server), 3)
    assert parse_proof(proven.body).checkpoint == note
    assert proven.document()["cosigners"] is None
    assert "cosigned by" not in dict(proven.facts())
