"""What `check` found, for people, for scripts, and as a bundle for those who are offline."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.npm.times import describe_time
from mirrorwitness.sumdb.proofbundle import format_bundle, group_proofs
from mirrorwitness.sumdb.served import Traffic
from mirrorwitness.sumdb.verdict import Verdict, exit_code_of

if TYPE_CHECKING:
    from mirrorwitness.errors import ExitCode
    from mirrorwitness.run.subjects import Subject
    from mirrorwitness.sumdb.found import Found
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.verdict import Judgement
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.policy import PolicyVerdict

__all__ = ["Believed", "CheckReport", "Checked"]


STALE_SECONDS: Final = 24 * 3600
"""Age of the newest cosignature at which a checkpoint is told to be old: databases have theirs renewed every hour."""


@dataclass(frozen=True, slots=True)
class Believed:
    """A checkpoint under which something was checked.

    Attributes:
        tree: the tree.
        cosigners: name of each witness of the policy that cosigned, and when.
    """

    tree: Checkpoint
    cosigners: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, verdict: PolicyVerdict) -> Believed:
        """Take what a policy accepted."""
        cosigners = {item.key.name: item.timestamp for item in verdict.cosignatures}
        return cls(verdict.opened.checkpoint, tuple(cosigners.items()))

    def signers(self) -> list[tuple[str, str | None]]:
        """Return the cosigners with their times for people; None for no time."""
        return [(name, describe_time(at)) for name, at in self.cosigners]

    def document(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "size": self.tree.size,
            "root": base64.b64encode(self.tree.root).decode(),
            "cosigners": [{"name": name, "time": at} for name, at in self.signers()],
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one subject.

    Attributes:
        subject: what was checked.
        judgement: the verdict, and why.
        found: the record that it was compared with; None where there was none.
    """

    subject: Subject
    judgement: Judgement
    found: Found | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.judgement.verdict

    @property
    def is_fine(self) -> bool:
        """Whether a person need not look at it."""
        return self.verdict is Verdict.VERIFIED and not self.judgement.reason

    def document(self) -> dict[str, object]:
        """Return it as plain data."""
        record = None if self.found is None else self.found.record
        return {
            "source": self.subject.source,
            "subject": self.subject.title,
            "lines": list(self.subject.lines),
            "verdict": str(self.verdict),
            "reason": self.judgement.reason,
            "index": None if self.found is None else self.found.index,
            "registry": None if record is None else record.registry,
            "integrity": None if record is None else record.integrity,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What became of everything.

    Attributes:
        terms: whom was believed.
        believed: the checkpoints under which proofs were checked: one of a log, one or more of proofs at hand.
        checked: one for each subject, in order.
        refuses_withdrawn: whether what a registry took away counts as not verified.
        is_offline: whether proofs at hand were checked and nobody was asked.
        is_first: nothing of this log was verified before, so its checkpoint was compared with none.
        shown: the checkpoint that the log shows, where it is older than what was verified before.
        is_compared: whether that one was compared; the log may not serve what it takes.
        checked_at: when the log was asked, in seconds since 1970; None offline.
        unsaved: why what was verified could not be kept for the next run; empty where it was.
        traffic: what was downloaded.
        remembered: how many versions were answered by what an earlier run verified.
    """

    terms: Terms
    believed: tuple[Believed, ...]
    checked: tuple[Checked, ...]
    refuses_withdrawn: bool = False
    is_offline: bool = False
    is_first: bool = False
    shown: Checkpoint | None = None
    is_compared: bool = True
    checked_at: float | None = None
    unsaved: str = ""
    traffic: Traffic = field(default_factory=Traffic)
    remembered: int = 0

    def counts(self) -> dict[Verdict, int]:
        """Return how many subjects have each verdict, in the order of the verdicts; only those that occur."""
        found = Counter(item.verdict for item in self.checked)
        return {verdict: found[verdict] for verdict in Verdict if found[verdict]}

    def exit_code(self) -> ExitCode:
        """Return what the command exits with (P3)."""
        return exit_code_of(self.counts(), refuses_withdrawn=self.refuses_withdrawn)

    def format_bundle(self) -> bytes:
        """Write the proofs of all that was found in the log, for checks without a network.

        Raises:
            ConfigurationError: they are too many for one file.
        """
        found = [item.found for item in self.checked if item.found is not None]
        return format_bundle(group_proofs((item.note, item.lookup) for item in found))

    def warnings(self) -> list[str]:
        """Return sentences about the log for people."""
        sentences: list[str] = []
        if not self.checked:
            sentences.append("nothing was checked: no entry is in what was given")
        foreign = self.counts().get(Verdict.NOT_FROM_REGISTRY, 0)
        if foreign:
            sentences.append(
                f"{foreign} {'entry was' if foreign == 1 else 'entries were'} not checked: from git, files, links or "
                "other addresses, so no log has them"
            )
        if not self.terms.asks_witnesses:
            sentences.append(
                "no witness was asked (no --policy with a quorum): the log alone says that it shows everybody the same"
            )
        if self.shown is not None:
            sentences.append(
                f"the log shows an older tree, of size {self.shown.size}, than was verified before: it, or a cache "
                "before it, hides what was logged since. Everything was checked in the newest that is known, where the "
                "policy accepts that"
            )
        cosigned = max((at for item in self.believed for _, at in item.cosigners), default=0)
        if self.checked_at is not None and cosigned and self.checked_at - cosigned > STALE_SECONDS:
            sentences.append(
                f"the newest cosignature is of {describe_time(cosigned)}, more than a day ago: the log stands still, "
                "or a cache before it shows an old tree and hides what was logged since"
            )
        if not self.is_compared:
            sentences.append(
                "that older tree could not be compared, because the log does not serve what it takes: it may be of "
                "another history. If that stays, ask the log's operator"
            )
        if self.unsaved:
            sentences.append(f"what was verified is not kept for the next run: {self.unsaved}")
        return sentences

    def document(self) -> dict[str, object]:
        """Return the JSON document ``check/1``, without its exit code."""
        return {
            "origin": self.terms.origin,
            "checkpoints": [item.document() for item in self.believed],
            "asks_witnesses": self.terms.asks_witnesses,
            "is_offline": self.is_offline,
            "is_first": self.is_first,
            "shown_size": None if self.shown is None else self.shown.size,
            "counts": {str(verdict): count for verdict, count in self.counts().items()},
            "entries": [item.document() for item in self.checked],
            "requests": self.traffic.requests,
            "received_bytes": self.traffic.size,
            "remembered": self.remembered,
            "warnings": self.warnings(),
        }
