"""The one decision about every version of a package: may it be installed from this mirror, and with which bytes.

Metadata and tarballs pass through the same decision, so the set of installable versions is the set of downloadable
tarballs (P2, the "two-door gate"): `decide` says which versions are wanted, `admit` which of those the log vouches for,
`visible` which of those may stand in the stored packument once it is known whose bytes are stored.
`mirrorwitness.mirror.plan` prints the same decision.

A version passes, in this order; the first refusal wins and says why:

1. it is selected (`mirrorwitness.mirror.select`);
2. its manifest is coherent: own version and name, a ``dist`` with a tarball URL;
3. it is the version we know: the integrity is not another one than that of the bytes we hold (P5);
4. it has a digest to check the bytes against; a SHA-1 alone is accepted and marked weak;
5. the registry's signature is accepted under the policy;
6. its tarball did not say something else than its document, where that is refused (`mirrorwitness.mirror.confusion`);
7. it was never withdrawn, or may be served again (`mirrorwitness.mirror.withdrawal`);
8. the log vouches for it, where one is required (`mirrorwitness.mirror.voucher`): nothing is downloaded before.

A version that is refused for a security reason while we hold it stays as it was: its stored manifest is carried over
(``kept``), because first bytes win and a refusal must not become a way to remove things. Only the log can take away
what we hold: what it says of a version is public, proven, and the same for everybody.

Stored bytes are taken without reading them only where the promise is the one they were checked against, or can be
compared with their SHA-512. Any other new promise makes the version ``missing``: its bytes are read and checked again.

This module is pure. It follows research/B 7, rows 5, 6, 8 to 12 and 23.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from mirrorwitness.mirror import layout
from mirrorwitness.mirror.confusion import ConfusionPolicy
from mirrorwitness.mirror.voucher import Contradiction, Vouched
from mirrorwitness.npm.integrity import is_same_content, make_expectation
from mirrorwitness.npm.signatures import (
    KeyRing,
    SignatureOutcome,
    SignaturePolicy,
    check_manifest,
    is_accepted,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mirrorwitness.mirror.catalogue import HeldVersion
    from mirrorwitness.mirror.select import Choice
    from mirrorwitness.mirror.voucher import Answer
    from mirrorwitness.npm.integrity import Expectation
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Manifest, Packument

_FORGED = frozenset({SignatureOutcome.BAD, SignatureOutcome.EXPIRED_KEY})

_OUTCOME_TEXT = {
    SignatureOutcome.BAD: "the registry's signature does not verify over name, version and integrity",
    SignatureOutcome.EXPIRED_KEY: "signed with a key that had expired when the version was published",
    SignatureOutcome.UNKNOWN_KEY: "signed with a key that the registry does not publish",
    SignatureOutcome.NO_KEYS: "signed, but the registry publishes no keys",
    SignatureOutcome.UNSIGNED: "not signed",
}

__all__ = [
    "Block",
    "BlockKind",
    "Decision",
    "Wanted",
    "admit",
    "changed_promise",
    "decide",
    "exclude",
    "make_confused",
    "visible",
]


class BlockKind(StrEnum):
    """Why a version is not served; each kind has its consequence for the exit code (P3)."""

    POLICY = "policy"
    """The operator does not want it. Complete."""
    MALFORMED = "malformed"
    """Upstream's manifest contradicts itself. Complete: it will never get better."""
    NO_DIGEST = "no-digest"
    """Upstream gives nothing to check the bytes against. Complete."""
    UNSIGNED = "unsigned"
    """The policy requires a signature and there is no verified one. Complete."""
    WITHDRAWN = "withdrawn"
    """Upstream withdrew it once, and the operator has not let it in again. Complete."""
    CONFUSED = "confused"
    """Its tarball says something else than its document, and the operator refuses that. Complete."""
    MISSING = "missing"
    """Asked for by name and not there. Partial: it may appear."""
    UNVOUCHED = "unvouched"
    """The log does not have it yet, or could not be asked. Partial: it is asked again."""
    SIGNATURE = "signature"
    """A signature that is there and is bad, or made by an expired key. Divergence."""
    EQUIVOCATION = "equivocation"
    """Another integrity than the bytes that we hold, or than a lockfile pins. Divergence."""
    CONTRADICTED = "contradicted"
    """The log has another integrity, or a conflict. Divergence."""

    @property
    def is_divergence(self) -> bool:
        """Whether evidence has to be kept and the run exits with 4."""
        return self in {BlockKind.SIGNATURE, BlockKind.EQUIVOCATION, BlockKind.CONTRADICTED}

    @property
    def is_unfinished(self) -> bool:
        """Whether the package has to be tried again."""
        return self in {BlockKind.MISSING, BlockKind.UNVOUCHED}


@dataclass(frozen=True, slots=True)
class Block:
    """One version (or requested range or tag) that is not served, and why."""

    subject: str
    kind: BlockKind
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One version that may be served as soon as its bytes are stored.

    Attributes:
        version: the version.
        file: the tarball's file name in the mirror.
        url: where upstream has it.
        expectation: what the bytes must match.
        integrity: the promise that the expectation was made of, for the record.
        shasum: the same.
        signature: what the check of the registry's signature gave.
        held: the tarball, where it is stored already.
        attested: upstream says that it has attestations.
        size_hint: upstream's unpacked size in bytes, or None.
    """

    version: Version
    file: str
    url: str
    expectation: Expectation
    integrity: str | None
    shasum: str | None
    signature: SignatureOutcome
    held: HeldVersion | None
    attested: bool
    size_hint: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one package.

    Attributes:
        wanted: versions to serve, in document order.
        kept: versions whose stored manifest is carried over unchanged, because the new one is refused.
        blocks: what is not served, and why.
    """

    wanted: tuple[Wanted, ...]
    kept: tuple[Version, ...]
    blocks: tuple[Block, ...]

    @property
    def missing(self) -> tuple[Wanted, ...]:
        """The wanted versions whose bytes are not stored yet."""
        return tuple(item for item in self.wanted if item.held is None)


def decide(
    packument: Packument,
    choice: Choice,
    *,
    held: Mapping[Version, HeldVersion],
    keys: KeyRing,
    policy: SignaturePolicy,
    wrong: Collection[Version] = frozenset(),
    barred: Mapping[Version, str] = MappingProxyType({}),
    confusion: ConfusionPolicy = ConfusionPolicy.OFF,
) -> Decision:
    """Decide about every version of a package.

    Args:
        packument: upstream's document.
        choice: what the selection wants of it.
        held: the tarballs that are stored, also those not served now.
        keys: the registry's signing keys.
        policy: what a signature must be.
        wrong: versions of `held` whose stored bytes are damaged or gone: the promise counts, the bytes do not.
        barred: versions that were withdrawn and must not be served, and why.
        confusion: what becomes of versions whose tarball says something else than their document.

    Returns:
        The decision; nothing is done yet.
    """
    files = layout.assign_files(
        packument.name,
        {version: manifest.tarball for version, manifest in packument.versions.items()},
        held={version: item.file for version, item in held.items()},
    )
    wanted: list[Wanted] = []
    blocks = [Block(b.subject, BlockKind(b.kind), b.reason) for b in choice.blocked]
    diverged = {b.subject for b in blocks if b.kind.is_divergence}
    for version, manifest in packument.versions.items():
        if version not in choice.wanted or version in diverged:
            continue
        mine = held.get(version)
        outcome = _signature(packument, manifest, keys, policy)
        block = _refusal(packument.name, manifest, mine, outcome, policy)
        if block is not None:
            blocks.append(block)
            if block.kind.is_divergence:
                diverged.add(version)
            continue
        if version in barred:
            blocks.append(Block(version, BlockKind.WITHDRAWN, barred[version]))
            continue
        if mine is not None and mine.confused and confusion is ConfusionPolicy.REFUSE:
            blocks.append(make_confused(version, mine.confused))
            continue
        is_sound = mine is not None and version not in wrong and _is_checked(manifest, mine)
        wanted.append(_want(manifest, mine if is_sound else None, outcome, files[version]))
    kept = tuple(v for v in packument.versions if v in diverged and v in held and held[v].served and v not in barred)
    return Decision(tuple(wanted), kept, tuple(blocks))


def admit(decision: Decision, answers: Mapping[Version, Answer], *, before: Collection[Version]) -> Decision:
    """Take from a decision what a log that is required does not vouch for.

    Args:
        decision: what would be served otherwise.
        answers: what the log says.
        before: versions whose stored bytes it vouched for in an earlier run.

    Returns:
        The decision; what is still to be downloaded has to match the log's record, which is never weaker than the
        registry's promise.
    """
    wanted: list[Wanted] = []
    blocks: list[Block] = []
    for item in decision.wanted:
        answer = answers.get(item.version)
        if isinstance(answer, Vouched):
            wanted.append(replace(item, expectation=make_expectation(answer.record.integrity, None)))
        elif item.version in before:
            wanted.append(item)
        else:
            blocks.append(_unvouched(item.version, answer))
    kept = [version for version in decision.kept if version in before or isinstance(answers.get(version), Vouched)]
    blocks += [_unvouched(version, answers.get(version)) for version in decision.kept if version not in kept]
    return Decision(tuple(wanted), tuple(kept), (*decision.blocks, *blocks))


def exclude(decision: Decision, blocks: Collection[Block]) -> Decision:
    """Take from a decision the versions that these blocks are about."""
    out = {block.subject for block in blocks}
    return Decision(
        tuple([item for item in decision.wanted if item.version not in out]),
        tuple([version for version in decision.kept if version not in out]),
        (*decision.blocks, *blocks),
    )


def visible(
    decision: Decision,
    *,
    stored: Mapping[Version, HeldVersion],
    kept: Mapping[Version, HeldVersion],
    vouched: Mapping[Version, str] | None = None,
) -> tuple[Version, ...]:
    """Return the versions that the stored packument may name.

    Args:
        decision: the decision.
        stored: which of the missing ones are stored and verified by now.
        kept: whose stored manifest is carried over.
        vouched: the integrity that the log has of each version that it vouches for; None where none is required.
    """
    sound = {item.version: item.held or stored.get(item.version) for item in decision.wanted} | dict(kept)
    shown = {version: item for version, item in sound.items() if item is not None}
    if vouched is None:
        return tuple(shown)
    # Whatever came before: these very bytes are the log's.
    return tuple([version for version, item in shown.items() if is_same_content(vouched.get(version), item.sri)])


def make_confused(version: Version, fields: Collection[str]) -> Block:
    """Return the block of a version whose tarball says something else than its document."""
    return Block(version, BlockKind.CONFUSED, f"its tarball's package.json has another {', '.join(fields)}")


def _unvouched(version: Version, answer: Answer | None) -> Block:
    if isinstance(answer, Contradiction):
        return Block(version, BlockKind.CONTRADICTED, answer.reason)
    return Block(version, BlockKind.UNVOUCHED, "the log was not asked" if answer is None else str(answer))


def _want(manifest: Manifest, mine: HeldVersion | None, outcome: SignatureOutcome, file: str) -> Wanted:
    return Wanted(
        version=manifest.version,
        file=file,
        url=manifest.tarball,
        expectation=make_expectation(manifest.integrity, manifest.shasum),
        integrity=manifest.integrity,
        shasum=manifest.shasum,
        signature=outcome,
        held=mine,
        attested=manifest.has_attestations,
        size_hint=manifest.unpacked_size,
    )


def _signature(packument: Packument, manifest: Manifest, keys: KeyRing, policy: SignaturePolicy) -> SignatureOutcome:
    if policy is SignaturePolicy.OFF or manifest.refused is not None:
        return SignatureOutcome.UNSIGNED
    published = packument.time.get(manifest.version)
    return check_manifest(manifest, name=packument.name, published=published, keys=keys)


def _refusal(
    name: PackageName,
    manifest: Manifest,
    mine: HeldVersion | None,
    outcome: SignatureOutcome,
    policy: SignaturePolicy,
) -> Block | None:
    version = manifest.version
    if manifest.refused is not None:
        return Block(version, BlockKind.MALFORMED, manifest.refused)
    if mine is not None:
        change = changed_promise(manifest, mine)
        if change is not None:
            return Block(version, BlockKind.EQUIVOCATION, f"{name}@{version}: {change}")
    if make_expectation(manifest.integrity, manifest.shasum).strength == "none":
        return Block(
            version, BlockKind.NO_DIGEST, "upstream gives neither integrity nor shasum to check the bytes against"
        )
    if is_accepted(outcome, policy):
        return None
    kind = BlockKind.SIGNATURE if outcome in _FORGED else BlockKind.UNSIGNED
    return Block(version, kind, f"{_OUTCOME_TEXT[outcome]} (policy: {policy})")


def changed_promise(manifest: Manifest, mine: HeldVersion) -> str | None:
    """Say how a manifest's promise contradicts the bytes that we hold; None where it does not."""
    if manifest.integrity and manifest.integrity == mine.integrity:
        # The very promise that the bytes were checked against, which may have had several digests (row 11).
        return None
    same = is_same_content(manifest.integrity, mine.sri)
    if same is None and manifest.integrity is not None:
        same = is_same_content(manifest.integrity, mine.integrity)
    if same is False:
        return f"upstream now promises {manifest.integrity}, the bytes stored first are {mine.sri}"
    if manifest.integrity:
        return None
    if mine.integrity:
        # Without this, taking the integrity away would bring every client down to SHA-1.
        return f"upstream no longer promises any integrity, the bytes stored first were promised as {mine.integrity}"
    if (manifest.shasum or "").lower() != (mine.shasum or "").lower():
        return f"upstream now promises shasum {manifest.shasum}, the bytes stored first have {mine.shasum}"
    return None


def _is_checked(manifest: Manifest, mine: HeldVersion) -> bool:
    """Whether the stored bytes are known to match a promise that does not contradict them."""
    if not manifest.integrity or manifest.integrity == mine.integrity:
        return True
    return is_same_content(manifest.integrity, mine.sri) is True
