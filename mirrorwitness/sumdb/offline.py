"""Offline: look versions up in proofs that are at hand, and believe no more than what they show. Pure.

Rules:

- A checkpoint counts under the `Terms`, the same as one that comes over a network: a bundle that a quorum of witnesses
  did not cosign proves nothing. Each is checked once.
- A record counts where its proof leads to that checkpoint's root. A proof that does not is an error when its version
  is asked for, not before: a bundle may have more in it than somebody needs.
- Of several records of one version the newest counts: that of the highest index. Which version a record is of is read
  before it is proven; that decides only which proof is looked at.

What it does not do: know whether the log has grown, or forked, since. Who is offline cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import UpstreamNotFoundError, UpstreamProtocolError
from mirrorwitness.sumdb.found import Found, check_lookup
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.proofbundle import ProofGroup, parse_bundle
from mirrorwitness.sumdb.records import parse_record

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.forks import Signed
    from mirrorwitness.sumdb.lookups import Lookup
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.tlog.policy import PolicyVerdict

__all__ = ["OfflineProofs", "open_bundle", "open_proof"]


class OfflineProofs:
    """Proofs under checkpoints that were verified.

    Attributes:
        verdicts: the checkpoints, by size, and who signed and cosigned them.
    """

    def __init__(self, groups: tuple[ProofGroup, ...], verdicts: tuple[PolicyVerdict, ...]) -> None:
        self.verdicts = verdicts
        self._notes = tuple([group.note for group in groups])
        self._found: dict[str, tuple[Lookup, bytes, PolicyVerdict]] = {}
        for group, verdict in zip(groups, verdicts, strict=True):
            for lookup in group.lookups:
                self._take(lookup, group.note, verdict)

    def __repr__(self) -> str:
        return f"<OfflineProofs of {len(self._found)} versions under {len(self.verdicts)} checkpoints>"

    def signed(self) -> list[Signed]:
        """Return the checkpoints as they were signed, each with its tree."""
        return [(note, verdict.opened.checkpoint) for note, verdict in zip(self._notes, self.verdicts, strict=True)]

    def lookup(self, name: PackageName, version: Version) -> Found:
        """Find a version, and verify its proof.

        Raises:
            UpstreamNotFoundError: there is no proof of it.
            ProofError: the proof does not lead to its checkpoint's root.
        """
        kept = self._found.get(f"{name}@{version}")
        if kept is None:
            raise UpstreamNotFoundError(f"{name}@{version}: no proof of it is here")
        lookup, note, verdict = kept
        tree = verdict.opened.checkpoint
        return Found(check_lookup(lookup, tree, name=name, version=version), lookup, tree, note)

    def _take(self, lookup: Lookup, note: bytes, verdict: PolicyVerdict) -> None:
        record = parse_record(lookup.record)
        subject = f"{record.name}@{record.version}"
        known = self._found.get(subject)
        if known is None or known[0].index < lookup.index:
            self._found[subject] = lookup, note, verdict


def open_bundle(body: bytes, terms: Terms) -> OfflineProofs:
    """Read a proof bundle and check its checkpoints.

    Raises:
        UpstreamProtocolError: it is no bundle, or has a leaf that is no record, or a checkpoint of another log.
        SignatureError: a checkpoint is not signed by the log, or not cosigned as the policy says.
    """
    groups = parse_bundle(body)
    return OfflineProofs(groups, tuple([terms.check(group.note) for group in groups]))


def open_proof(body: bytes, terms: Terms) -> OfflineProofs:
    """Read one tlog-proof with its record, as it lies beside a tarball, and check its checkpoint.

    Raises:
        UpstreamProtocolError: it is no such proof, or of another log.
        SignatureError: the checkpoint is not signed by the log, or not cosigned as the policy says.
    """
    lookup = parse_lookup(body, has_checkpoint=True)
    if lookup.checkpoint is None:  # pragma: no cover - asked for one
        raise UpstreamProtocolError("tlog-proof: no checkpoint")
    return OfflineProofs((ProofGroup(lookup.checkpoint, (lookup,)),), (terms.check(lookup.checkpoint),))
