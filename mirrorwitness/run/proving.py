"""Prove what a log has, out of the tiles that it serves: for somebody who has neither a copy of it nor its software.

    the log's checkpoint -> the tiles that a proof needs -> their root -> the proof -> the same proof, checked

Rules:

- Only the checkpoint's signature is trusted. Every hash that goes into a proof, or that an entry is looked for in, is
  one of the tree with the signed root (`TileHashes.check_root`): tiles of another tree are an error, never a proof.
- No more tiles are read than a proof needs, and none twice. Looking for an entry reads the hashes of entries, newest
  first, 8 kB for 256 of them, and not the entries: their sizes, and what a log keeps beside them, do not matter then.
- A proof is read back and checked before it is given out.
- The checkpoint is passed on as the log serves it, with lines that nobody checked here: who reads the proof has a
  policy of their own, and needs the cosignatures. `Proven.verdict` says what was checked.

What it does not do: write files, hash entries otherwise than RFC 6962 does, or send anything to a witness.

SPEC: C2SP tlog-tiles, tlog-proof; tlog-witness for the body of an add-checkpoint.
"""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, ProofError, SecurityError
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, make_user_agent, open_fetcher
from mirrorwitness.run.inspecting import Verdict, verify_checkpoint
from mirrorwitness.run.polling import PATIENCE, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND
from mirrorwitness.sumdb.logclient import TILES_AT_ONCE, TRIES, LogClient, dialect_of
from mirrorwitness.tlog.merkle import (
    HASH_BYTES,
    Range,
    check_consistency,
    check_inclusion,
    leaf_hash,
    make_proof,
    nodes_needed,
    plan_inclusion,
    subtree_hash,
)
from mirrorwitness.tlog.note import format_note
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.proof import TlogProof, format_proof, parse_proof
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import TILE_WIDTH, Dialect, Tile, tile_path, tiles_to_trust, width_of
from mirrorwitness.witness.feeder import plan_proof
from mirrorwitness.witness.logs import parse_log_flag
from mirrorwitness.witness.protocol import format_add_checkpoint, parse_add_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["MAX_SEARCH_TILES", "SEARCH_TILES", "ProveWishes", "Proven", "prove_entry", "prove_growth", "prove_index"]

SEARCH_TILES: Final = 64
"""Tiles in which an entry is looked for: the newest 16,384 entries, half a megabyte."""

MAX_SEARCH_TILES: Final = 4096
"""Most of them: a million entries, and 32 MB that are kept until the command ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveWishes:
    """Of which log something is proven, and who has to have cosigned it.

    Attributes:
        log: its vkey and URL.
        dialect: how it names what it serves; Go's own has its own dialect in any case.
        policy: the policy under which the checkpoint has to be valid; None where the log's signature is enough.
        tries: repetition of requests.
    """

    log: str
    dialect: Dialect = Dialect.TILES
    policy: bytes | None = None
    tries: Backoff = TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A proof that was made and checked.

    Attributes:
        body: the file: a tlog-proof, or the body of an add-checkpoint.
        verdict: the checkpoint, and what was checked of it.
        has_policy: whether cosignatures were looked at.
        proof: its hashes.
        index: of the entry; None where it is a proof of growth.
        leaf: hash of the entry; the same.
        old: the size that the tree grew from; None where it is a proof of an entry.
        old_root: the root that the log's tree has at that size; the same.
        tiles: paths of the tiles that were read, by level and index.
    """

    body: bytes
    verdict: Verdict
    has_policy: bool
    proof: tuple[Hash, ...]
    index: int | None = None
    leaf: Hash | None = None
    old: int | None = None
    old_root: Hash | None = None
    tiles: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """Return the JSON document ``witness-prove/1``, without its exit code and where the file is."""
        known = self.verdict.document()
        return {
            "checkpoint": known["checkpoint"],
            "log_keys": known["log_keys"],
            "cosigners": known["cosigners"] if self.has_policy else None,
            "index": self.index,
            "leaf": _encode(self.leaf),
            "from": self.old,
            "from_root": _encode(self.old_root),
            "proof": [_encode(value) for value in self.proof],
            "tiles": list(self.tiles),
            "body": self.body.decode(),
        }

    def facts(self) -> list[tuple[str, str]]:
        """Return it as pairs for a person."""
        facts = [fact for fact in self.verdict.facts() if self.has_policy or fact[0] != "cosigned by"]
        if self.leaf is not None:
            facts += [("entry", str(self.index)), ("hash of the entry", str(_encode(self.leaf)))]
        else:
            facts += [("grown from", str(self.old)), ("root at that size", str(_encode(self.old_root)))]
        return [*facts, ("hashes", str(len(self.proof))), ("tiles read", str(len(self.tiles)))]


async def prove_index(wishes: ProveWishes, index: int) -> Proven:
    """Make a tlog-proof of the entry at an index.

    Raises:
        ConfigurationError: the log or the policy cannot be read, or the log has no such entry.
        SecurityError: the checkpoint, or the tiles, do not verify.
        UpstreamError: the log cannot be read.
    """
    async with _open_tree(wishes) as tree:
        return await _prove_inclusion(tree, index)


async def prove_entry(wishes: ProveWishes, entry: bytes, *, search: int = SEARCH_TILES) -> Proven:
    """Make a tlog-proof of an entry, of which the log may have several: of the newest one.

    Args:
        wishes: which log.
        entry: the entry's bytes.
        search: how many tiles are looked through, 256 entries each.

    Raises:
        ConfigurationError: the log or the policy cannot be read, or the entry was not found.
        SecurityError: the checkpoint, or the tiles, do not verify.
        UpstreamError: the log cannot be read.
    """
    async with _open_tree(wishes) as tree:
        return await _prove_inclusion(tree, await _find(tree, leaf_hash(entry), search))


async def prove_growth(wishes: ProveWishes, old: int) -> Proven:
    """Make the body of an add-checkpoint: that the log grew from an older size to that of its checkpoint.

    Raises:
        ConfigurationError: the log or the policy cannot be read, or the log is smaller than that.
        SecurityError: the checkpoint, or the tiles, do not verify.
        UpstreamError: the log cannot be read.
    """
    async with _open_tree(wishes) as tree:
        if old > tree.size:
            raise ConfigurationError(f"the log's checkpoint has size {tree.size}: it did not grow from {old} to that")
        plan = plan_proof(old, tree.size)
        hashes = await tree.read(plan.tiles)
        old_root = tree.root if old == tree.size else subtree_hash(Range(0, old), hashes.hash_of)
        proof = make_proof(plan.spans, hashes.hash_of)
        body = format_add_checkpoint(old, proof, tree.note)
        found = parse_add_checkpoint(body)
        check_consistency(
            found.proof,
            old_size=found.old,
            old_root=old_root,
            new_size=found.checkpoint.size,
            new_root=found.checkpoint.root,
        )
        return tree.proven(body, proof, old=old, old_root=old_root)


class _Tree:
    """The tree of one checkpoint, read tile by tile; each tile once.

    Args:
        client: reads the log.
        dialect: how it names tiles.
        head: its checkpoint.
        policy: the text of a policy that it has to be valid under, or None.
    """

    def __init__(self, client: LogClient, dialect: Dialect, head: OpenedCheckpoint, policy: bytes | None) -> None:
        self.note = format_note(head.note)
        self.size = head.checkpoint.size
        self.root = head.checkpoint.root
        self._client = client
        self._dialect = dialect
        self._policy = policy
        self._verdict = _judge(head, self.note, policy, client)
        self._known: dict[Tile, bytes] = {}

    async def read(self, tiles: Iterable[Tile]) -> TileHashes:
        """Return the hashes of tiles, believed: a list of `tiles_to_trust`, or none.

        Raises:
            ProofError: they are not those of the checkpoint.
            UpstreamError: one of them cannot be read.
        """
        wanted = list(tiles)
        missing = [tile for tile in wanted if not {tile, tile.full()} & self._known.keys()]
        self._known |= await self._client.read_tiles(missing)
        given = [tile if tile in self._known else tile.full() for tile in wanted]
        hashes = TileHashes(self.size, {tile: self._known[tile] for tile in given})
        if given:
            try:
                hashes.check_root(self.root)
            except SecurityError as error:
                raise ProofError(f"the log's tiles do not match its checkpoint of size {self.size}: {error}") from error
        return hashes

    def proven(
        self,
        body: bytes,
        proof: Iterable[Hash],
        *,
        index: int | None = None,
        leaf: Hash | None = None,
        old: int | None = None,
        old_root: Hash | None = None,
    ) -> Proven:
        """Return a proof that was checked, with what was read for it."""
        return Proven(
            body=body,
            verdict=self._verdict,
            has_policy=self._policy is not None,
            proof=tuple(proof),
            index=index,
            leaf=leaf,
            old=old,
            old_root=old_root,
            tiles=tuple([tile_path(tile, self._dialect) for tile in sorted(self._known, key=_place)]),
        )


@asynccontextmanager
async def _open_tree(wishes: ProveWishes) -> AsyncGenerator[_Tree, None]:
    """Read a log's checkpoint, and give its tree for the length of a block."""
    log = parse_log_flag(wishes.log)
    if log.url is None:
        raise ConfigurationError("--log: expected VKEY=URL, the URL being what comes before /checkpoint")
    if wishes.policy is not None:
        parse_policy(wishes.policy)  # says what is wrong with it before anything is asked
    options = FetchOptions(patience=PATIENCE, user_agent=make_user_agent(None))
    gate = HostGate(max_in_flight=REQUESTS_AT_ONCE, max_rate=REQUESTS_PER_SECOND)
    dialect = dialect_of(log.origin, wishes.dialect)
    async with open_fetcher(options) as fetcher:
        client = LogClient(log=log, url=log.url, dialect=dialect, fetcher=fetcher, gate=gate, tries=wishes.tries)
        yield _Tree(client, dialect, await client.open_head(), wishes.policy)


async def _prove_inclusion(tree: _Tree, index: int) -> Proven:
    plan = plan_inclusion(index, tree.size)
    entry = Range(index, index + 1)
    hashes = await tree.read(tiles_to_trust([entry, *nodes_needed(plan)], tree.size))
    leaf = hashes.hash_of(entry)
    body = format_proof(TlogProof(index, tuple(make_proof(plan, hashes.hash_of)), tree.note))
    found = parse_proof(body)
    check_inclusion(found.proof, index=found.index, size=tree.size, leaf=leaf, root=tree.root)
    return tree.proven(body, found.proof, index=index, leaf=leaf)


async def _find(tree: _Tree, leaf: Hash, search: int) -> int:
    """Return the index of the newest entry with a hash.

    Raises:
        ConfigurationError: there is none, as far as was searched.
    """
    ending = -(-tree.size // TILE_WIDTH)
    first = max(0, ending - search)
    for end in range(ending, first, -TILES_AT_ONCE):
        tiles = [
            Tile(0, at, width_of(0, at, tree.size)) for at in range(end - 1, max(first, end - TILES_AT_ONCE) - 1, -1)
        ]
        nodes = [Range(tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + 1) for tile in tiles]
        hashes = await tree.read(tiles_to_trust(nodes, tree.size))
        for tile in tiles:
            body = hashes.bytes_of(tile)
            for at in reversed(range(tile.width)):
                if body[at * HASH_BYTES : (at + 1) * HASH_BYTES] == leaf:
                    return tile.index * TILE_WIDTH + at
    known = f"the log has no entry with the hash {_encode(leaf)}"
    if not first:
        raise ConfigurationError(f"{known}: all {tree.size} of its checkpoint were searched")
    oldest = first * TILE_WIDTH
    raise ConfigurationError(
        f"{known} among the newest {tree.size - oldest} of {tree.size}, from {oldest} on ({ending - first} tiles); a "
        "larger --search looks further back"
    )


def _judge(head: OpenedCheckpoint, note: bytes, policy: bytes | None, client: LogClient) -> Verdict:
    """Return what is known of a checkpoint that the log signed.

    Raises:
        SignatureError: the policy does not accept it.
    """
    if policy is None:
        return Verdict(head.checkpoint, tuple(dict.fromkeys(str(key) for key, _ in head.signed)), (), ())
    origin = client.log.origin
    is_named = all(key.name == origin for key in client.log.keys)  # all but Go's own
    return verify_checkpoint(note, policy, origin=None if is_named else origin)


def _place(tile: Tile) -> tuple[int, int]:
    return tile.level, tile.index


def _encode(value: Hash | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
