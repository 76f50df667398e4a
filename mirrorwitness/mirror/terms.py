"""What a run wants of every package, and the fingerprint by which a later run tells that nothing of it changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.mirror import layout
from mirrorwitness.mirror.confusion import ConfusionPolicy
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.mirror.withdrawal import WithdrawnPolicy
from mirrorwitness.npm.signatures import SignaturePolicy

if TYPE_CHECKING:
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.signatures import KeyRing

__all__ = ["PackageTerms"]

RENDER_VERSION: Final = "1"
"""Part of every fingerprint: raised when stored documents would be rendered differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTerms:
    """What a run wants of every package.

    Attributes:
        selection: names and versions.
        keys: the registry's signing keys.
        policy: what a signature must be.
        public_base: base of tarball URLs in stored documents, without a trailing slash.
        withdrawn: what becomes of versions that upstream withdrew.
        check: what the log's word means; `LogCheck.OFF` where none is asked.
        log: what tells the log and the policy from others; empty where none is asked.
        confusion: what becomes of versions whose tarball says something else than their document.
    """

    selection: Selection
    keys: KeyRing
    policy: SignaturePolicy
    public_base: str = layout.STORED_BASE
    withdrawn: WithdrawnPolicy = WithdrawnPolicy.FOLLOW
    check: LogCheck = LogCheck.OFF
    log: str = ""
    confusion: ConfusionPolicy = ConfusionPolicy.OFF

    def fingerprint(self, name: PackageName) -> str:
        """Return a digest of everything that makes the same upstream document mean other stored documents."""
        keys = ""
        if self.policy is not SignaturePolicy.OFF:
            keys = ",".join(sorted(f"{key.keyid} until {key.expires}" for key in self.keys.keys))
        parts = [RENDER_VERSION, self.selection.fingerprint(name), self.policy, self.public_base, keys, self.withdrawn]
        if self.check is not LogCheck.OFF:  # what has no log keeps the fingerprints that it always had
            parts.append(f"{self.check} {self.log}")
        if self.confusion is ConfusionPolicy.REFUSE:
            parts.append(f"confusion {self.confusion}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
