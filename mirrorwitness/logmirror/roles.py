"""Roles: the same cosigner's state for three kinds of statement, each with keys and places of its own.

    witness      witness/…      state/witness/…       the log only grew                     (`mirrorwitness.witness`)
    log mirror   logmirror/…    state/logmirror/…     and all its entries are held here     (`mirrorwitness.logmirror`)
    artifacts    artifacts/…    state/artifacts/…     and so are the tarballs that they speak of

Rules:

- What a cosigner must never do is the same in each role, and so is the code that keeps it from that:
  `mirrorwitness.witness.state.WitnessState` with its anchor, its guards against restored state, `adopt` and `retire`.
  It sees the storage through a `RoleView`, which gives its keys other prefixes.
- No name and no key has two roles, whether in one storage or in what an operator gives together. SPEC: C2SP
  tlog-mirror, "add-checkpoint"; tlog-cosignature, "Ed25519 signed message".

What it does not do: keep entries, or sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, ConfigurationError, ObjectMissingError
from mirrorwitness.logmirror import paths
from mirrorwitness.storage import Listing, ObjectInfo
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.witness.records import IDENTITY_KEY, PUBLIC_PREFIX, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from mirrorwitness.storage import Body, ObjectReader, Put, Storage
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["ARTIFACTS", "LOG_MIRROR", "WITNESS", "Role", "RoleView", "check_retirable", "check_roles", "in_role"]

_STATE_PREFIX: Final = "state/witness/"
_IDENTITY_LIMIT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of statement.

    Attributes:
        title: for messages.
        command: the group of commands that serves it.
        public: prefix of what everybody may read.
        state: prefix of its state.
    """

    title: str
    command: str
    public: str
    state: str


WITNESS: Final = Role("witness", "witness", PUBLIC_PREFIX, _STATE_PREFIX)
LOG_MIRROR: Final = Role("log mirror", "logmirror", paths.PUBLIC_PREFIX, paths.STATE_PREFIX)
ARTIFACTS: Final = Role("artifact statement", "logmirror", "artifacts/", "state/artifacts/")

_ROLES: Final = (WITNESS, LOG_MIRROR, ARTIFACTS)


class RoleView:
    """A storage as the cosigner of a role sees it: what it calls ``witness/…`` lies under the prefixes of the role.

    Listing what is public gives the checkpoints alone, and of the logs that are named: beside them lie millions of
    tiles.

    Args:
        storage: the storage.
        role: whose view it is.
        digests: `origin_hash` of the logs that are known.
    """

    def __init__(self, storage: Storage, role: Role, digests: Iterable[str]) -> None:
        self._storage = storage
        self._role = role
        self._digests = sorted(digests)

    def __repr__(self) -> str:
        return f"<RoleView of the {self._role.title}, {self._storage!r}>"

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object."""
        return await self._storage.read(self._inner(key), limit=limit)

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object for streaming."""
        return self._storage.open(self._inner(key), start=start, length=length)

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info, or None where there is no object."""
        return await self._storage.stat(self._inner(key))

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object."""
        return await self._storage.put(
            self._inner(key), body, if_absent=if_absent, if_match=if_match, content_type=content_type
        )

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write two small objects."""
        inner = [replace(put, key=self._inner(put.key)) for put in (first, then)]
        return await self._storage.put_pair(*inner)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List what is below a prefix, by the names that the cosigner knows."""
        if prefix == PUBLIC_PREFIX:
            keys = [f"{PUBLIC_PREFIX}{digest}/checkpoint" for digest in self._digests]
            found = [(key, await self.stat(key)) for key in keys]
            return Listing(tuple([ObjectInfo(key, info.size, info.etag) for key, info in found if info]), None)
        page = await self._storage.list(self._inner(prefix), after=after and self._inner(after), limit=limit)
        objects = [ObjectInfo(self._outer(info.key), info.size, info.etag) for info in page.objects]
        return Listing(tuple(objects), page.more_after and self._outer(page.more_after))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._storage.delete(self._inner(key))

    def _inner(self, key: str) -> str:
        for outer, inner in ((_STATE_PREFIX, self._role.state), (PUBLIC_PREFIX, self._role.public)):
            if key.startswith(outer):
                return inner + key.removeprefix(outer)
        raise ConfigurationError(f"{key!r} is no key of a cosigner")

    def _outer(self, key: str) -> str:
        return _STATE_PREFIX + key.removeprefix(self._role.state)


async def check_roles(storage: Storage, role: Role, keys: Sequence[VerifierKey]) -> None:
    """Check that no key, and no name of one, has another role in this storage.

    Raises:
        ConfigurationError: one has.
        StorageError: the storage failed.
    """
    for other in _ROLES:
        if other == role:
            continue
        for taken in await _read_keys(storage, other):
            for key in keys:
                if key.public == taken.public or key.name == taken.name:
                    what = "key" if key.public == taken.public else "name"
                    raise ConfigurationError(
                        f"the {what} of {key.name} is that of the {other.title} of this storage; the {role.title} "
                        "needs a name and a key of its own: make one with `mirrorwitness witness keygen`"
                    )


async def check_retirable(storage: Storage, role: Role, keys: Sequence[VerifierKey]) -> None:
    """Check that no key is given up in a role that it never had: it would go on in its own one.

    Raises:
        ConfigurationError: one has another role.
        StorageError: the storage failed.
    """
    own = {key.public for key in await _read_keys(storage, role)}
    for other in _ROLES:
        theirs = {key.public for key in await _read_keys(storage, other)} - own
        for key in keys:
            if key.public in theirs:
                flag = " --statement artifacts" if other is ARTIFACTS else ""
                raise ConfigurationError(
                    f"the key of {key.name} is that of the {other.title} of this storage, and never was one of its "
                    f"{role.title}; give it up with `mirrorwitness {other.command} retire{flag}`"
                )


def in_role(text: str, role: Role) -> str:
    """Return a message of the cosigner with the commands of its role."""
    return text.replace("`mirrorwitness witness ", f"`mirrorwitness {role.command} ")


async def _read_keys(storage: Storage, role: Role) -> list[VerifierKey]:
    key = role.state + IDENTITY_KEY.removeprefix(_STATE_PREFIX)
    try:
        body, _ = await storage.read(key, limit=_IDENTITY_LIMIT)
    except ObjectMissingError:
        return []
    try:
        identity = msgspec.json.decode(body, type=Identity)
    except UNREADABLE_JSON as error:
        raise ConfigurationError(f"{key} is damaged: {error}; restore it from a copy") from error
    return [parse_verifier_key(text, *COSIGNER_KEYS) for text in identity.keys]
