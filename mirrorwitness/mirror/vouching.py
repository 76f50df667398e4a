"""Carry out what a log is asked for: the questions about one package, the evidence, and the proofs beside its tarballs.

Order, and why a kill anywhere leaves no lie behind (P1, P2); `mirrorwitness.mirror.package` calls in this order:

1. `ask`, before anything is downloaded: all versions that would be served and that the log has not vouched for yet, in
   one batch; then the gate (`mirrorwitness.mirror.gate.admit`), where the log is required;
2. tarballs, each of which has to match what the log has of it;
3. `store`: the proof of each version that is shown. The documents come after it, and the record that remembers the leaf
   comes last; so no document names a version without its proof where one is required, and a run that died in between is
   followed by one that asks again.

A proof that is stored and sound stays as it is, also under a newer checkpoint; one that is damaged is replaced. It
stays where its tarball went to quarantine or away: it says what the log says, and no door leads to it.

*Resources*: 2 to 3 kB for each version that is asked about, from the answer until the proofs are stored.

What this does not do: ask over a network (`mirrorwitness.mirror.logword`), or judge (`mirrorwitness.mirror.voucher`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import PreconditionFailedError, SecurityError, UnsupportedConditionError, UpstreamError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.gate import Block, BlockKind, Decision, admit
from mirrorwitness.mirror.voucher import Claim, Contradiction, LogCheck, Vouched
from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.npm.names import Version
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.tlog.proof import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mirrorwitness.mirror.catalogue import HeldVersion, PackageRecord
    from mirrorwitness.mirror.voucher import Answer, Voucher
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage

__all__ = ["Vouching", "Word"]

AT_ONCE: Final = 8
"""Proofs of one package written at once: a package may have 37,000 versions, and other packages are at work."""

_PROOF_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Word:
    """What the log says of one package's versions.

    Attributes:
        name: the package.
        answers: what it said now.
        before: versions that it vouched for in an earlier run, with the integrity of the stored bytes.
        check: what its word means.
    """

    name: PackageName
    answers: Mapping[Version, Answer] = field(default_factory=dict[Version, "Answer"])
    before: Mapping[Version, str] = field(default_factory=dict[Version, str])
    check: LogCheck = LogCheck.OFF

    @property
    def vouched(self) -> dict[Version, str] | None:
        """The integrity that the log has of each version that it vouches for; None where it is not required."""
        if self.check is not LogCheck.REQUIRE:
            return None
        now = {v: a.record.integrity for v, a in self.answers.items() if isinstance(a, Vouched)}
        return {**self.before, **now}

    def admit(self, decision: Decision) -> Decision:
        """Take from a decision what the log does not vouch for, where it is required."""
        if self.check is not LogCheck.REQUIRE:
            return decision
        return admit(decision, self.answers, before=self.before)

    def contradictions(self) -> list[Block]:
        """Return what has to be kept as evidence, whether the log is required or not."""
        return [
            Block(version, BlockKind.CONTRADICTED, answer.reason)
            for version, answer in self.answers.items()
            if isinstance(answer, Contradiction)
        ]

    def describe(self, version: Version) -> dict[str, str] | None:
        """Return what the log says of a version, for evidence."""
        answer = self.answers.get(version)
        return {"log": answer.proof.decode()} if isinstance(answer, Contradiction) else None

    def count_unvouched(self, shown: Collection[Version]) -> int:
        """Return how many of the versions that are served the log does not vouch for."""
        unvouched = [v for v, answer in self.answers.items() if not isinstance(answer, Vouched) and v in shown]
        return len(unvouched)

    def alarms(self, shown: Collection[Version]) -> list[str]:
        """Say what is served although the log does not vouch for it: one sentence of each kind, with an example."""
        found = {v: a for v, a in self.answers.items() if not isinstance(a, Vouched) and v in shown}
        counts = Counter(type(answer) for answer in found.values())
        told: list[str] = []
        for kind, count in counts.items():
            version, answer = next(item for item in found.items() if isinstance(item[1], kind))
            said = answer.reason if isinstance(answer, Contradiction) else str(answer)
            told.append(
                f"{self.name}: {count} versions are served without the log's word, {version} for example: {said}"
            )
        return told


class Vouching:
    """Asks one log about packages and stores its proofs; does nothing where there is none.

    Args:
        storage: the mirror; None where nothing is to be stored.
        voucher: asks the log; None where none is configured.
        check: what its word means.
        log: the log and the policy, as records name them.
    """

    def __init__(self, *, storage: Storage | None, voucher: Voucher | None, check: LogCheck, log: str) -> None:
        self._storage = storage
        self._voucher = voucher
        self._log = log
        self._check = LogCheck.OFF if voucher is None else check

    def __repr__(self) -> str:
        return f"<Vouching {self._check} {self._log!r}>"

    async def ask(self, decision: Decision, record: PackageRecord, *, again: Collection[Version] = frozenset()) -> Word:
        """Ask about everything that would be served and that the log has not vouched for.

        Args:
            decision: what would be served.
            record: what is stored.
            again: versions whose stored proof an audit found missing or wrong.

        Raises:
            SecurityError: the log contradicts itself.
            StorageError: what is remembered of the log cannot be read or written.
        """
        if self._voucher is None or self._check is LogCheck.OFF:
            return Word(record.name)
        before = {
            version: item.sri
            for version, item in record.versions.items()
            if item.leaf is not None and record.log == self._log and version not in again
        }
        # A version whose bytes are to be fetched again was vouched for all the same: the record keeps their digest.
        claims = [
            Claim(item.version, item.integrity, item.shasum, None if item.held is None else item.held.sri)
            for item in decision.wanted
            if item.version not in before
        ]
        claims += [Claim(v, None, None, record.versions[v].sri) for v in decision.kept if v not in before]
        if not claims:
            return Word(record.name, before=before, check=self._check)
        return Word(record.name, await self._voucher.vouch(record.name, claims), before, self._check)

    async def store(
        self, word: Word, shown: Sequence[Version], known: Mapping[Version, HeldVersion]
    ) -> dict[Version, HeldVersion]:
        """Store the proof of each shown version that the log vouched for now; return what is known of all versions.

        Raises:
            StorageError: the storage failed; some are written, which harms nobody.
        """
        known = dict(known)
        if self._check is LogCheck.OFF:
            return known
        for version, item in known.items():  # leaves of another log, and of a word that was taken back, say nothing
            if item.leaf is not None and version not in word.before:
                known[version] = msgspec.structs.replace(item, leaf=None, tree=0)

        async def put(version: Version) -> None:
            answer, item = word.answers[version], known[version]
            # Also where the log only warns: a proof never lies beside bytes that it is not about.
            if isinstance(answer, Vouched) and is_same_content(answer.record.integrity, item.sri):
                await self._put(word.name, version, item, answer.proof)
                known[version] = msgspec.structs.replace(item, leaf=answer.index, tree=answer.size)

        asked = [version for version in shown if version in word.answers]
        await for_each(asked, put, at_once=min(AT_ONCE, len(asked)))
        return known

    async def _put(self, name: PackageName, version: Version, item: HeldVersion, proof: bytes) -> None:
        assert self._storage is not None  # noqa: S101 - who stores proofs has one
        key = layout.proof_key(name, item.file)
        try:
            await self._storage.put(key, proof, if_absent=True, content_type=_PROOF_TYPE)
        except PreconditionFailedError:
            is_sound = await self._is_sound(
                self._storage, key, name, Claim(version, item.integrity, item.shasum, item.sri)
            )
        except UnsupportedConditionError:
            is_sound = False  # two workers may both write a proof here, and each of them is one
        else:
            return
        if not is_sound:
            await self._storage.put(key, proof, content_type=_PROOF_TYPE)

    async def _is_sound(self, storage: Storage, key: str, name: PackageName, claim: Claim) -> bool:
        assert self._voucher is not None  # noqa: S101 - it gave the proof
        info = await storage.stat(key)
        if info is None or info.size > MAX_FILE_BYTES:
            return False
        body, _ = await storage.read(key, limit=MAX_FILE_BYTES)
        try:
            self._voucher.check(body, name, claim)
        except (SecurityError, UpstreamError):
            return False
        return True
