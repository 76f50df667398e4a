"""Peer: read what somebody else's mirror says of itself, over HTTP, and believe none of it unchecked.

Rules:

- Where the mirror signs, the description is the text of the signed note, so no other copy of it is looked at.
- A node is what its digest says, or an error that names the mirror. Bytes are counted as they come over the wire.
- What a mirror sends is bounded: a description by `MAX_ABOUT_BYTES`, a node by `MAX_NODE_BYTES`, their number by the
  versions that the root claims, at most `MAX_VERSIONS`.
- An answer that is no answer (an error page, a cut body) is tried again; one that contradicts its digest is not.

What this does not do: say whether a key is to be trusted. Without one that the caller knows, a signature only says that
the description is what the owner of the key in it wrote.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from mirrorwitness.errors import (
    ConfigurationError,
    SecurityError,
    SignatureError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
)
from mirrorwitness.fetch import Session, SickAnswerError, make_policy, make_status_error
from mirrorwitness.mirror.about import ABOUT_SCHEMA
from mirrorwitness.mirror.summary import FORMAT, MAX_NODE_BYTES, MAX_VERSIONS, Ref, parse_node
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.note import MAX_NOTE_BYTES, open_note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.fetch import Fetcher, HostGate
    from mirrorwitness.mirror.summary import Node
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["MAX_ABOUT_BYTES", "Description", "NodeGoneError", "Peer"]

MAX_ABOUT_BYTES: Final = MAX_NOTE_BYTES
"""Largest description in bytes; ours have under 50 kB."""

_OK: Final = 200
_NOT_FOUND: Final = frozenset({404, 410})
_ABSENT: Final = _NOT_FOUND | {403}
"""A bucket that must not be listed answers 403 for what it does not have."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FAMILY: Final = re.compile(r"mirrorwitness-about-[0-9]{1,9}")


class NodeGoneError(UpstreamNotFoundError):
    """A node that the mirror's tree names is not there: the tree was replaced meanwhile, or it never was complete."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a mirror says of itself.

    Attributes:
        about: the document.
        root: the root of its summary.
        signed_by: the key whose signature was checked; None where the mirror does not sign.
        is_trusted: whether the caller named that key.
    """

    about: Mapping[str, object]
    root: Ref
    signed_by: VerifierKey | None
    is_trusted: bool


class Peer:
    """One mirror, asked through its public URL. May be used by many tasks at once.

    Args:
        base: the mirror's URL, without a trailing slash.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        keys: keys that the caller trusts; empty to believe the key that the description names.

    Attributes:
        requests: answers read so far.
        received: bytes of their bodies.

    Raises:
        ConfigurationError: the base is no http or https URL.
    """

    def __init__(self, *, base: str, fetcher: Fetcher, gate: HostGate, keys: Sequence[VerifierKey] = ()) -> None:
        self.base = base
        self.requests = 0
        self.received = 0
        self._keys = tuple(keys)
        try:
            policy = make_policy(base)
        except ConfigurationError as error:
            raise ConfigurationError(f"mirror {base!r}: expected an http or https address") from error
        self._session = Session(fetcher=fetcher, gate=gate, policy=policy, home=base)

    def __repr__(self) -> str:
        return f"<Peer {self.base}, {self.requests} requests, {self.received} bytes>"

    async def read_description(self) -> Description:
        """Read what the mirror says of itself, and check who signed it.

        Raises:
            SignatureError: a signature is there and does not verify, or none of the trusted keys signed.
            SecurityError: a trusted signer's description contradicts itself.
            UpstreamProtocolError: it is no mirror of this kind, or it has no summary.
            UpstreamError: the mirror cannot be reached.
        """
        note = await self._get("/-/about.json.note", MAX_NOTE_BYTES)
        if note is not None:
            text, signed_by = self._open(note)
        elif self._keys:
            raise SignatureError(f"{self.base}: the mirror does not sign what it says of itself")
        else:
            found = await self._get("/-/about.json", MAX_ABOUT_BYTES, absent=_NOT_FOUND)
            if found is None:
                raise UpstreamProtocolError(
                    f"{self.base}: no mirrorwitness mirror: it has neither /-/about.json nor /-/about.json.note"
                )
            text, signed_by = found, None
        about = self._parse(text)
        return Description(about, self._find_root(about), signed_by, is_trusted=signed_by in self._keys)

    async def read_node(self, prefix: str, ref: Ref) -> Node:
        """Read a node of the summary and check it.

        Raises:
            NodeGoneError: the mirror does not have it.
            SecurityError: it is not what the mirror's root says; the message names the mirror.
            UpstreamError: the mirror cannot be reached, or answers something else.
        """
        path = f"/-/summary/{ref.digest[:2]}/{ref.digest}"
        body = await self._get(path, MAX_NODE_BYTES)
        if body is None:
            raise NodeGoneError(f"{self.base}: node {ref.digest} of range {prefix or '-'} is not there")
        try:
            return parse_node(body, prefix, ref)
        except SecurityError as error:
            raise type(error)(f"{self.base}: {error}") from error
        except UpstreamProtocolError as error:
            raise UpstreamProtocolError(f"{self.base}: {error}") from error

    async def _get(self, path: str, limit: int, *, absent: frozenset[int] = _ABSENT) -> bytes | None:
        """Return a body; None where the mirror has none."""
        url = f"{self.base}{path}"

        async def once() -> bytes | None:
            async with self._session.request("GET", url, headers={"accept-encoding": "identity"}) as response:
                self.requests += 1
                if response.status in absent:
                    return None
                if response.status != _OK:
                    raise make_status_error(response.status, f"{url}: status {response.status}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise SickAnswerError(f"{url}: Content-Encoding that was not asked for")
                body = await response.read(limit)
                self.received += len(body)
                return body

        return await self._session.repeat(once)

    def _open(self, note: bytes) -> tuple[bytes, VerifierKey]:
        """Return the text of a note and the key that signed it."""
        keys = self._keys
        try:
            if not keys:
                named = self._parse(note.rpartition(b"\n\n")[0]).get("mirror_key")
                keys = (parse_verifier_key(named if isinstance(named, str) else ""),)
            found, signed = open_note(note, keys)
        except SignatureError as error:
            raise SignatureError(f"{self.base}: {error}") from error
        except ConfigurationError as error:
            raise SignatureError(f"{self.base}: the key that its description names is none: {error}") from error
        except UpstreamProtocolError as error:
            raise UpstreamProtocolError(f"{self.base}: {error}") from error
        return found.text, signed[0]

    def _parse(self, text: bytes) -> dict[str, object]:
        try:
            found: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UpstreamProtocolError(f"{self.base}: no mirrorwitness mirror: its description is not JSON") from error
        about = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        schema = about.get("schema")
        if schema == ABOUT_SCHEMA:
            return about
        if isinstance(schema, str) and _FAMILY.fullmatch(schema):
            raise UpstreamProtocolError(f"{self.base}: its description is {schema}, this program reads {ABOUT_SCHEMA}")
        raise UpstreamProtocolError(
            f"{self.base}: no mirrorwitness mirror: its /-/about.json has the schema {ascii(schema)[:60]}"
        )

    def _find_root(self, about: Mapping[str, object]) -> Ref:
        summary = about.get("summary")
        if not isinstance(summary, dict):
            raise UpstreamProtocolError(
                f"{self.base}: the mirror has no summary of its versions; its next run, or `mirrorwitness summarize`, "
                "makes one"
            )
        members = cast("dict[str, object]", summary)
        if members.get("format") != FORMAT:
            shown = ascii(members.get("format"))[:60]
            raise UpstreamProtocolError(f"{self.base}: its summary has the format {shown}, this program reads {FORMAT}")
        root, versions = members.get("root"), members.get("versions")
        is_root = isinstance(root, str) and _DIGEST.fullmatch(root) is not None
        if not is_root or type(versions) is not int or not 0 <= versions <= MAX_VERSIONS:
            raise UpstreamProtocolError(
                f"{self.base}: its summary names the root {ascii(root)[:80]} of {ascii(versions)[:30]} versions"
            )
        return Ref(versions, cast("str", root))
