"""What is fuzzed: each parser of bytes or text of others, and what has to hold whatever they are.

A target takes any bytes. It raises where a parser fails otherwise than by the errors that its docstring names, or where
writing what was read does not give it back; it returns whether anything was accepted. No target needs more than the
package itself, so that they run in the fuzzer's own environment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from mirrorwitness.errors import (
    ConfigurationError,
    MirrorWitnessError,
    ProofError,
    RolledBackError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.tlog.checkpoint import open_checkpoint, parse_checkpoint
from mirrorwitness.tlog.entries import format_entries, format_records, parse_entries, parse_records
from mirrorwitness.tlog.evidence import check_evidence, evidence_key, make_evidence, parse_evidence
from mirrorwitness.tlog.keys import (
    KeyType,
    format_signer_key,
    make_signer_key,
    parse_signer_key,
    parse_verifier_key,
)
from mirrorwitness.tlog.note import format_lines, format_note, open_note, parse_lines, parse_note
from mirrorwitness.tlog.pem import make_pem, open_pem, parse_pem, parse_public_der
from mirrorwitness.tlog.policy import check_policy, format_policy, parse_policy
from mirrorwitness.tlog.proof import TlogProof, format_proof, parse_proof, verify_proof
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, Tile, entries_path, parse_tile_path, tile_path
from mirrorwitness.witness.lab import LabLog, sign_line
from mirrorwitness.witness.loglist import format_log_list, parse_log_list
from mirrorwitness.witness.protocol import (
    format_add_checkpoint,
    format_sign_subtree,
    parse_add_checkpoint,
    parse_sign_subtree,
)
from mirrorwitness.witness.records import format_cosigned, make_record, open_published, parse_record
from tests.fuzz.sumdb_targets import SUMDB_TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TARGETS", "Target"]

Read = TypeVar("Read")

LOG: Final = make_signer_key("log.example/a", bytes([1] * 32))
LOG_PQ: Final = make_signer_key("log.example/a", bytes([2] * 32), KeyType.ML_DSA_44)
OURS: Final = make_signer_key("witness.example", bytes([3] * 32), KeyType.COSIGNATURE)
OURS_PQ: Final = make_signer_key("witness.example", bytes([4] * 32), KeyType.ML_DSA_44)
LAB: Final = LabLog(LOG.name, [LOG, LOG_PQ])
KEYS: Final = tuple([key.verifier for key in LAB.keys])
OWN: Final = (OURS.verifier, OURS_PQ.verifier)
TEXT: Final = LAB.text(7, "an extension")
NOTE: Final = LAB.sign(TEXT, LOG)
COSIGNED: Final = LAB.sign(TEXT, LOG, LOG_PQ, OURS, OURS_PQ, timestamp=1_700_000_000)
POLICY_TEXT: Final = (
    f"# whom to trust\nlog {LOG.verifier} https://log.example\nlog {LOG_PQ.verifier}\n"
    f"witness A {OURS.verifier}\nwitness B {OURS_PQ.verifier} https://witness.example\n"
    "group G 1 A B\nquorum G\n"
).encode()
POLICY: Final = parse_policy(POLICY_TEXT)


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fuzz.

    Attributes:
        run: takes any bytes, raises where they show a fault, and returns whether anything was accepted.
        seeds: bytes that are accepted, to begin with.
    """

    run: Callable[[bytes], bool]
    seeds: tuple[bytes, ...]


def _try(work: Callable[[], Read], *refusals: type[MirrorWitnessError]) -> Read | None:
    """Return what was read, or None where it was refused as it may be."""
    try:
        return work()
    except refusals:
        return None


def _note(body: bytes) -> bool:
    note = _try(lambda: parse_note(body), UpstreamProtocolError)
    if _try(lambda: open_note(body, [LOG.verifier]), UpstreamProtocolError, SignatureError):
        assert note
    assert note is None or format_note(note) == body
    return note is not None


def _lines(body: bytes) -> bool:
    lines = _try(lambda: parse_lines(body), UpstreamProtocolError)
    assert lines is None or format_lines(lines) == body
    return lines is not None


def _checkpoint(body: bytes) -> bool:
    checkpoint = _try(lambda: parse_checkpoint(body), UpstreamProtocolError)
    assert checkpoint is None or checkpoint.text == body
    return checkpoint is not None


def _signed_checkpoint(body: bytes) -> bool:
    opened = _try(lambda: open_checkpoint(body, KEYS, origin=LOG.name), UpstreamProtocolError, SignatureError)
    if opened is None:
        return False
    assert format_note(opened.note) == body
    assert parse_checkpoint(opened.note.text) == opened.checkpoint
    # What an Ed25519 key signed is the text as it is; an ML-DSA key does not sign extension lines.
    assert replace(opened.checkpoint, extension=()) == parse_checkpoint(LAB.text(7))
    assert open_checkpoint(opened.format(), KEYS, origin=LOG.name).checkpoint == opened.checkpoint
    return True


def _verifier_key(body: bytes) -> bool:
    text = body.decode(errors="surrogateescape")
    key = _try(lambda: parse_verifier_key(text, *KeyType), ConfigurationError)
    assert key is None or str(key) == text
    return key is not None


def _signer_key(body: bytes) -> bool:
    text = body.decode(errors="surrogateescape")
    key = _try(lambda: parse_signer_key(text, *KeyType), ConfigurationError)
    assert key is None or format_signer_key(key) == text
    return key is not None


def _proof(body: bytes) -> bool:
    proof = _try(lambda: parse_proof(body), UpstreamProtocolError)
    if proof is None:
        return False
    assert format_proof(proof) == body
    leaf = LAB.leaf(5)
    _try(lambda: verify_proof(proof, leaf=leaf, policy=POLICY), UpstreamProtocolError, SignatureError, ProofError)
    return True


def _policy(body: bytes) -> bool:
    policy = _try(lambda: parse_policy(body), ConfigurationError)
    if policy is None:
        return False
    text = format_policy(policy)
    assert parse_policy(text) == policy
    assert format_policy(parse_policy(text)) == text
    _try(lambda: check_policy(COSIGNED, policy), UpstreamProtocolError, SignatureError, ConfigurationError)
    return True


def _entries(body: bytes) -> bool:
    """The first byte says how many there are."""
    tile = EntriesTile(0, (body[0] if body else 0) + 1)
    entries = _try(lambda: parse_entries(body[1:], tile), UpstreamProtocolError)
    assert entries is None or (format_entries(entries), len(entries)) == (body[1:], tile.width)
    return entries is not None


def _records(body: bytes) -> bool:
    """The first byte says how many there are."""
    tile = EntriesTile(0, (body[0] if body else 0) + 1)
    records = _try(lambda: parse_records(body[1:], tile), UpstreamProtocolError)
    if records is None:
        return False
    assert format_records(records) in {body[1:], body[1:-1]}  # an empty line behind the last one may be there
    assert parse_records(format_records(records), tile) == records
    return True


def _pem(body: bytes) -> bool:
    text = body.decode(errors="surrogateescape")
    pem = _try(lambda: parse_pem(text), ConfigurationError)
    if pem is None:
        return False
    assert parse_pem(pem.format()) == pem
    if not pem.is_encrypted:  # how much work an encrypted one is, it says itself
        key = _try(lambda: open_pem(pem), ConfigurationError)
        assert key is None or open_pem(parse_pem(make_pem(key).format())) == key
    return True


def _der(body: bytes) -> bool:
    key = _try(lambda: parse_public_der(body, name="witness.example"), ConfigurationError)
    assert key is None or parse_verifier_key(str(key), *KeyType) == key
    return key is not None


def _add_checkpoint(body: bytes) -> bool:
    found = _try(lambda: parse_add_checkpoint(body), UpstreamProtocolError)
    assert found is None or format_add_checkpoint(found.old, found.proof, format_note(found.note)) == body
    return found is not None


def _sign_subtree(body: bytes) -> bool:
    found = _try(lambda: parse_sign_subtree(body), UpstreamProtocolError)
    if found is not None:
        note = format_note(found.note)
        assert format_sign_subtree(found.start, found.end, found.subtree, found.proof, note) == body
    return found is not None


def _log_list(body: bytes) -> bool:
    logs = _try(lambda: parse_log_list(body, name="list"), ConfigurationError)
    assert logs is None or parse_log_list(format_log_list(logs), name="list") == logs
    return logs is not None


def _evidence(body: bytes) -> bool:
    file = _try(lambda: parse_evidence(body), UpstreamProtocolError)
    if file is None:
        return False
    assert parse_evidence(msgspec.json.encode(file)) == file
    _try(lambda: check_evidence(file), ConfigurationError, UpstreamProtocolError, SignatureError, ProofError)
    _try(lambda: evidence_key(LOG.name, body), UpstreamProtocolError)
    return True


def _record(body: bytes) -> bool:
    record = _try(lambda: parse_record(body, origin=LOG.name), RolledBackError)
    assert record is None or parse_record(msgspec.json.encode(record), origin=LOG.name) == record
    return record is not None


def _published(body: bytes) -> bool:
    found = _try(lambda: open_published(body, origin=LOG.name, where="here", own=OWN), RolledBackError)
    assert found is None or (found.body, found.checkpoint.origin) == (body, LOG.name)
    return found is not None


def _tile_path(body: bytes) -> bool:
    path = body.decode(errors="surrogateescape")
    found = False
    for dialect in Dialect:
        tile = _try(partial(parse_tile_path, path, dialect), UpstreamProtocolError)
        if tile is not None:
            assert (tile_path(tile, dialect) if isinstance(tile, Tile) else entries_path(tile, dialect)) == path
            found = True
    return found


def _make_seeds() -> dict[str, tuple[bytes, ...]]:
    """Return something good for each target."""
    fork = LAB.fork(4)
    lines = [sign_line(key, TEXT, 1_700_000_000) for key in (OURS, OURS_PQ)]
    opened = open_checkpoint(NOTE, KEYS, origin=LOG.name)
    kept = format_cosigned(opened, lines)
    record = make_record(opened.checkpoint, timestamp=1_700_000_000, note=kept, before=(5, 1_600_000_000))
    evidence = [
        make_evidence(
            log_keys=KEYS,
            witness_keys=OWN,
            origin=LOG.name,
            ours=COSIGNED,
            theirs=fork.checkpoint(size),
            proof=proof,
            seen="2026-11-26T00:00:00Z",
        )
        for size, proof in ((7, []), (9, [fork.root(7), *fork.proof(7, 9)]))
    ]
    vkeys = tuple([str(key).encode() for key in (*KEYS, *OWN)])
    listed = f"logs/v0\n\n# one\nvkey {LOG.verifier}\norigin other\nqpd 24\ncontact somebody\nvkey {LOG_PQ.verifier}\n"
    proof = TlogProof(5, tuple(LAB.inclusion_proof(5, 7)), COSIGNED, b"extra")
    paths = ("tile/0/000", "tile/1/x001/234.p/7", "tile/entries/255.p/255", "tile/8/3/001", "tile/8/data/x001/000")
    public = bytes.fromhex("302a300506032b6570032100") + OURS.verifier.public
    return {
        "note": (NOTE, COSIGNED),
        "lines": (format_lines(lines[:1]), format_lines(lines)),
        "checkpoint": (TEXT, LAB.text(0)),
        "signed-checkpoint": (NOTE, COSIGNED, LAB.sign(TEXT, LOG_PQ)),
        "verifier-key": vkeys,
        "signer-key": tuple([format_signer_key(key).encode() for key in (LOG, LOG_PQ, OURS)]),
        "proof": (format_proof(proof), format_proof(replace(proof, extra=None, checkpoint=NOTE))),
        "policy": (POLICY_TEXT, b"quorum none\n"),
        "entries": (b"\x01" + format_entries([b"one", b""]), b"\xff" + format_entries([b"x"] * 256)),
        "records": (b"\x01" + format_records([b"a v1 h1:x\n", b"b v1\nc\n"]), b"\x00a\n\n"),
        "pem": tuple([make_pem(key).format().encode() for key in (OURS, OURS_PQ)]),
        "der": (public,),
        "add-checkpoint": (
            format_add_checkpoint(3, LAB.proof(3, 7), COSIGNED),
            format_add_checkpoint(0, [], NOTE),
        ),
        "sign-subtree": (format_sign_subtree(4, 6, LAB.subtree(4, 6), LAB.subtree_proof(4, 6, 7), COSIGNED),),
        "log-list": (listed.encode(), b"logs/v0\n"),
        "evidence": tuple(evidence),
        "record": (msgspec.json.encode(record), msgspec.json.encode(msgspec.structs.replace(record, halted="a fork"))),
        "published": (kept,),
        "tile-path": tuple([path.encode() for path in paths]),
    }


_RUN: Final = {
    "note": _note,
    "lines": _lines,
    "checkpoint": _checkpoint,
    "signed-checkpoint": _signed_checkpoint,
    "verifier-key": _verifier_key,
    "signer-key": _signer_key,
    "proof": _proof,
    "policy": _policy,
    "entries": _entries,
    "records": _records,
    "pem": _pem,
    "der": _der,
    "add-checkpoint": _add_checkpoint,
    "sign-subtree": _sign_subtree,
    "log-list": _log_list,
    "evidence": _evidence,
    "record": _record,
    "published": _published,
    "tile-path": _tile_path,
}

TARGETS: Final = {name: Target(_RUN[name], seeds) for name, seeds in _make_seeds().items()} | {
    name: Target(run, seeds) for name, (run, seeds) in SUMDB_TARGETS.items()
}
"""All of them, by name."""
