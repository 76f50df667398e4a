"""What a mirror asks the checksum database, and what each answer means for a version.

    Claim: a version, its promise, its stored bytes  ──vouch──>  Vouched | NotLogged | Contradiction | Silent

Rules:

- The log vouches for a version where its newest record of it names the same content as the registry's promise, and as
  the stored bytes where there are some. Nothing that cannot be compared counts as the same.
- A promise that is weaker than the record, or none at all, is no contradiction where the SHA-1 that stands beside it is
  the recorded one; the bytes then have to match the record. So a registry that drops ``integrity`` gains nothing.
- A record counts for the registry that it names. Another registry's record of the same name and version vouches for
  nothing here, also where the bytes are the same: it does not say that ours published them.
- A record of a conflict vouches for nothing, whatever integrity it repeats. One that says that the version was
  withdrawn still vouches: the mirror has a policy of its own for that (`mirrorwitness.mirror.withdrawal`).
- A proof file is judged offline, from its own bytes, the policy and nothing else (`check_proof`).

What this does not do: ask anybody (`mirrorwitness.mirror.logword`), or decide what is served
(`mirrorwitness.mirror.gate`). This module is pure.

SPEC: C2SP tlog-proof for the file; the record in its extra data is `mirrorwitness.sumdb.records`.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from mirrorwitness.errors import EquivocationError, UpstreamProtocolError
from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.sumdb.records import Event, Record, parse_record
from mirrorwitness.tlog.merkle import leaf_hash
from mirrorwitness.tlog.proof import parse_proof, verify_proof

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.errors import UpstreamError
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.terms import Terms

__all__ = [
    "Answer",
    "CheckedProof",
    "Claim",
    "Contradiction",
    "LogCheck",
    "NotLogged",
    "Silent",
    "Vouched",
    "Voucher",
    "answer_of",
    "check_proof",
    "find_contradiction",
]


class LogCheck(StrEnum):
    """What the log's word means for a mirror."""

    REQUIRE = "require"
    """Only versions that the log vouches for are served."""
    WARN = "warn"
    """Every version is served; one that the log does not vouch for is told."""
    OFF = "off"
    """The log is not asked."""


class Claim(NamedTuple):
    """One version that the log is asked about.

    Attributes:
        version: the version.
        integrity: what the registry promises of it, or None.
        shasum: its SHA-1 in hex as the registry says it, or None.
        sri: the SHA-512 of the bytes that are stored; None where none are.
    """

    version: Version
    integrity: str | None
    shasum: str | None
    sri: str | None = None


@dataclass(frozen=True, slots=True)
class Vouched:
    """The log has this content for the version, proven under a checkpoint that meets the policy.

    Attributes:
        index: the record's leaf.
        size: the size of the tree that it is proven in.
        record: what the log says.
        proof: the proof as a file, the record in it.
    """

    index: int
    size: int
    record: Record
    proof: bytes


@dataclass(frozen=True, slots=True)
class NotLogged:
    """The log does not have the version, or not yet.

    Attributes:
        reason: what it said.
    """

    reason: str

    def __str__(self) -> str:
        """Say so, for people."""
        return f"the log does not have it yet: {self.reason}"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The log says that the version is something else, or that its registry says two things.

    Attributes:
        reason: one sentence with both sides.
        proof: the proof of what the log says, for the evidence.
    """

    reason: str
    proof: bytes


@dataclass(frozen=True, slots=True)
class Silent:
    """The log gave no usable answer.

    Attributes:
        error: what happened.
    """

    error: UpstreamError

    def __str__(self) -> str:
        """Say so, for people."""
        return f"the log could not be asked: {self.error}"


Answer: TypeAlias = "Vouched | NotLogged | Contradiction | Silent"


class Voucher(Protocol):
    """Asks one log. May be used by several tasks at once."""

    async def vouch(self, name: PackageName, claims: Sequence[Claim]) -> Mapping[Version, Answer]:
        """Ask about versions of one package; each has an answer.

        Raises:
            SecurityError: the log contradicts itself: it forked, or a proof of it does not verify. Nothing that it said
                in this run counts any more.
            StorageError: what is remembered of the log cannot be read or written.
        """
        ...

    def check(self, body: bytes, name: PackageName, claim: Claim) -> CheckedProof:
        """Check a stored proof as `check_proof` does, under this log's terms."""
        ...


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """A proof file that verified.

    Attributes:
        record: the record in it.
        index: its leaf.
        size: the size of the tree that it is proven in.
        root: that tree's root.
    """

    record: Record
    index: int
    size: int
    root: bytes


def find_contradiction(record: Record, claim: Claim, *, registry: str | None = None) -> str | None:
    """Say how a record contradicts a claim; None where it vouches for it.

    Args:
        record: what the log says.
        claim: what the document and the stored bytes say.
        registry: whose names these are, as records write it; None for any registry's.
    """
    if record.event is Event.CONFLICT:
        return f"the log has a conflict: its registry promised {record.integrity} and {record.other_integrity}"
    if registry is not None and record.registry != registry:
        return (
            f"the log's record is of {record.registry}, expected one of {registry}: where this mirror's registry "
            "repeats another one's names, say whose with sumdb.registry"
        )
    if claim.sri is not None and is_same_content(record.integrity, claim.sri) is not True:
        return f"the log has {record.integrity}, the stored bytes are {claim.sri}"
    if claim.integrity is not None:
        same = is_same_content(record.integrity, claim.integrity)
        if same is None and record.shasum is not None:
            # Nothing in common but SHA-1. It must not be another one; the bytes have to be the record's in any case.
            same = is_same_content(f"sha1-{b64encode(bytes.fromhex(record.shasum)).decode()}", claim.integrity)
        return None if same else f"the log has {record.integrity}, the registry promises {claim.integrity}"
    if claim.shasum is not None:
        # The registry gives no integrity any more; what it still gives must not be something else.
        same = record.shasum == claim.shasum.lower()
        return None if same else f"the log has shasum {record.shasum}, the registry promises {claim.shasum}"
    return None if claim.sri is not None else f"the log has {record.integrity}, the registry promises nothing"


def answer_of(
    record: Record, claim: Claim, *, index: int, size: int, proof: bytes, registry: str | None = None
) -> Vouched | Contradiction:
    """Return what a record that was proven means for a claim; `registry` as for `find_contradiction`."""
    reason = find_contradiction(record, claim, registry=registry)
    if reason is not None:
        return Contradiction(f"{record.name}@{claim.version}: {reason} (leaf {index})", proof)
    return Vouched(index, size, record, proof)


def check_proof(
    body: bytes, *, name: PackageName, claim: Claim, terms: Terms, registry: str | None = None
) -> CheckedProof:
    """Check the proof file that lies beside a tarball.

    Args:
        body: the file.
        name: the package.
        claim: what the document and the stored bytes say.
        terms: whom to believe about the log.
        registry: whose names these are, as records write it; None for any registry's.

    Raises:
        UpstreamProtocolError: it is no proof with a record of this version.
        SignatureError: its checkpoint does not meet the policy.
        ProofError: its tree does not have the record.
        EquivocationError: the record is about other content, or another registry's.
    """
    proof = parse_proof(body)
    if proof.extra is None:
        raise UpstreamProtocolError("the proof holds no record, expected one as its extra data")
    record = parse_record(proof.extra)
    if (record.name, record.version) != (name, claim.version):
        raise UpstreamProtocolError(f"the proof is of {record.name}@{record.version}, expected {name}@{claim.version}")
    verdict = verify_proof(proof, leaf=leaf_hash(proof.extra), policy=terms.policy, origin=terms.origin)
    reason = find_contradiction(record, claim, registry=registry)
    if reason is not None:
        raise EquivocationError(f"{name}@{claim.version}: {reason} (leaf {proof.index})")
    tree = verdict.opened.checkpoint
    return CheckedProof(record, proof.index, tree.size, tree.root)
