"""Look again at tarballs that come back into view after a time in which nobody looked at them.

- A version that is stored and not served is in no document, so no audit reads its bytes (`mirrorwitness.mirror.audit`).
  Before a document names it again, they are read and compared with the SHA-512 that the record has of them (P1, P2).
- Bytes that are not those of the record, or gone, are damage, whatever upstream says: nobody overwrites a tarball (P5).
  So they may be fetched again, like those that an audit found wrong.

What this does not do: fetch or decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import IntegrityMismatchError, ObjectMissingError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.tarballs import check_stored
from mirrorwitness.npm.integrity import Verifier, make_expectation

if TYPE_CHECKING:
    from mirrorwitness.mirror.gate import Decision
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.storage import Storage

__all__ = ["find_rotten"]


async def find_rotten(storage: Storage, name: PackageName, decision: Decision) -> frozenset[Version]:
    """Return the versions that are to be served again and whose stored bytes are not what the record says.

    Raises:
        StorageError: the storage failed.
    """
    rotten: set[Version] = set()
    # One after another: wishes change rarely, and other packages are at work meanwhile.
    for item in decision.wanted:
        if item.held is None or item.held.served:
            continue
        try:
            key = layout.tarball_key(name, item.held.file)
            await check_stored(storage, key, Verifier(make_expectation(item.held.sri, None)))
        except (IntegrityMismatchError, ObjectMissingError):
            rotten.add(item.version)
    return frozenset(rotten)
