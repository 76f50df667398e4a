"""Proofs of logging: a file that shows, offline, that a log has an entry and that witnesses have seen it.

    c2sp.org/tlog-proof@v1
    extra <base64>                    may be absent
    index <index of the entry>
    <base64 of a hash>                none to 63 lines, from the leaf's sibling to the root's child
    <an empty line>
    <the checkpoint, as it was signed and cosigned>

Rules:

- Parsing is strict: canonical decimals and base64, nothing between the parts or behind them. `format_proof` gives back
  the same bytes.
- The extra data is nobody's word: no signature covers it. It is there or its line is not; it is never empty.
- A proof is verified under a policy: first the checkpoint (`mirrorwitness.tlog.policy`), then that its tree has the
  leaf at the index. Before that nothing in the file is believed, the index neither.

What it does not do: hash the entry, which is the application's, judge the timestamps of the cosignatures, or look into
the checkpoint before it is verified.

SPEC: C2SP tlog-proof (no version yet).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import parse_hash, parse_size
from mirrorwitness.tlog.keys import decode_base64
from mirrorwitness.tlog.merkle import MAX_PROOF_HASHES, Hash, check_inclusion
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.policy import PolicyVerdict, check_policy

if TYPE_CHECKING:
    from mirrorwitness.tlog.policy import Policy

__all__ = ["MAX_EXTRA_BYTES", "MAX_FILE_BYTES", "TlogProof", "format_proof", "parse_proof", "verify_proof"]

MAX_EXTRA_BYTES: Final = 65_536
"""Most extra data in bytes: a whole entry of a tiled log, which has at most 65,535, fits."""

MAX_FILE_BYTES: Final = MAX_NOTE_BYTES + 100_000
"""Largest file in bytes: a note, and room for the other lines; those are 90 kB at their limits."""

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
_INDEX: Final = "index "
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof as it was read; nothing of it is trusted.

    Attributes:
        index: where the entry is said to be.
        proof: the inclusion proof.
        checkpoint: the signed checkpoint.
        extra: what the application put beside it; nobody signed it.
    """

    index: int
    proof: tuple[Hash, ...]
    checkpoint: bytes
    extra: bytes | None = None


def parse_proof(body: bytes) -> TlogProof:
    """Read a proof; `format_proof` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not a proof; the message says what is wrong.
    """
    if len(body) > MAX_FILE_BYTES:
        raise _malformed(f"has {len(body)} bytes, more than {MAX_FILE_BYTES}")
    head, _, checkpoint = body.partition(b"\n\n")  # nothing above the checkpoint is an empty line
    try:
        header, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not ASCII") from error
    if header != _HEADER:
        raise _malformed(f"the first line is {header[:_SHOWN]!r}, expected {_HEADER!r}")
    extra = _parse_extra(lines.pop(0)) if lines and lines[0].startswith(_EXTRA) else None
    if not lines or not lines[0].startswith(_INDEX):
        raise _malformed(f"{lines[0][:_SHOWN] if lines else ''!r}: expected index <number>")
    index = parse_size(lines.pop(0).removeprefix(_INDEX), "tlog-proof: index")
    if len(lines) > MAX_PROOF_HASHES:
        raise _malformed(f"has {len(lines)} hashes, more than {MAX_PROOF_HASHES}")
    proof = tuple([parse_hash(line, f"tlog-proof: hash {number}") for number, line in enumerate(lines, 1)])
    if not 0 < len(checkpoint) <= MAX_NOTE_BYTES:
        raise _malformed(
            f"the checkpoint has {len(checkpoint)} bytes, expected an empty line and 1 to {MAX_NOTE_BYTES}"
        )
    return TlogProof(index, proof, checkpoint, extra)


def format_proof(proof: TlogProof) -> bytes:
    """Write a proof.

    Raises:
        ConfigurationError: it could not be read again: a number, a length or the extra data is out of bounds.
    """
    lines = [_HEADER]
    if proof.extra is not None:
        lines.append(_EXTRA + base64.b64encode(proof.extra).decode())
    lines.append(f"{_INDEX}{proof.index}")
    lines += [base64.b64encode(value).decode() for value in proof.proof]
    body = "\n".join(lines).encode() + b"\n\n" + proof.checkpoint
    try:
        parse_proof(body)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"this proof cannot be written: {error}") from error
    return body


def verify_proof(proof: TlogProof, *, leaf: Hash, policy: Policy, origin: str | None = None) -> PolicyVerdict:
    """Check that a log has an entry, as far as a policy asks.

    Args:
        proof: what was found with the entry.
        leaf: the entry's hash, worked out from the entry itself.
        policy: whom to trust.
        origin: as for `check_policy`.

    Returns:
        The checkpoint that has the entry, with the signatures and cosignatures that verified.

    Raises:
        UpstreamProtocolError: the checkpoint is none, or one of another origin.
        SignatureError: a line of a trusted key does not verify, the log's is missing, or the quorum is not met.
        ProofError: the checkpoint's tree does not have this entry at this index.
        ConfigurationError: the policy has no logs, or two keys with one name and one ID.
    """
    verdict = check_policy(proof.checkpoint, policy, origin=origin)
    tree = verdict.opened.checkpoint
    if not 0 <= proof.index < tree.size:
        raise ProofError(f"tlog-proof: the index is {proof.index}, expected one below the tree size {tree.size}")
    check_inclusion(proof.proof, index=proof.index, size=tree.size, leaf=leaf, root=tree.root)
    return verdict


def _parse_extra(line: str) -> bytes:
    value = decode_base64(line.removeprefix(_EXTRA))
    if not value:
        raise _malformed(f"{line[:_SHOWN]!r}: expected extra <base64>, or no such line where there is nothing to say")
    if len(value) > MAX_EXTRA_BYTES:
        raise _malformed(f"has {len(value)} bytes of extra data, more than {MAX_EXTRA_BYTES}")
    return value


def _malformed(reason: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"tlog-proof: {reason}")
