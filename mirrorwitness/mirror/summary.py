"""The summary of a mirror: a hash tree over every version that it serves, made of small immutable text files.

Two mirrors whose roots are equal serve the same set. Where they are not, only the branches that differ are read, so
three different versions of a million cost some fifty small files.

Format ``mirrorwitness-summary-1``, complete:

- An **entry** is the line ``NAME@VERSION SRI``. NAME and VERSION are percent-encoded (upper case) but for printable
  ASCII other than ``%``, and, in VERSION, ``@``; SRI is ``sha512-`` and the base64 of the SHA-512 of the tarball's
  bytes. An entry longer than `MAX_LINE_BYTES` is left out.
- Its **position** is 64 hex digits: the first 8 of SHA-256(NAME), then the first 56 of SHA-256(``NAME@VERSION``). So
  the versions of one package are neighbours, and packages are spread evenly.
- A **range** is all positions that begin with a prefix of 0 to 64 hex digits. The node of a range with at most
  `LEAF_MAX` entries is a leaf, of any other an inner node; the form follows from the set alone, so equal sets have
  equal bytes.
- A **leaf** is the line ``mirrorwitness-summary-1 leaf PREFIX`` (``-`` for no prefix) and its entries, ascending by
  bytes.
- An **inner node** is ``mirrorwitness-summary-1 inner PREFIX`` and for each next digit whose range is not empty,
  ascending, the line ``DIGIT COUNT SHA256``: how many entries are there, and the digest of the node of that range.
- Every line ends in a newline. The digest of a node is the SHA-256 of its bytes. The **root** is the node of no prefix.

Why it cannot be bent: whoever wants one digest for two sets needs a collision of SHA-256. A sum of hashes over each
range (XOR, or addition, as protocols among friends use it) is cheaper to update and no use here: a mirror chooses its
own entries, and finds some hundred whose hashes XOR to any wanted value by solving linear equations, or that add up to
it by Wagner's generalised birthday search. Each node states its own prefix, so none can stand in two places, and no
small set of files unfolds to an endless tree.

What a summary does not prove: that the tarballs are what it says. It is what the mirror claims, in a form that can be
compared, and held against it. This module is pure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from mirrorwitness.errors import IntegrityMismatchError, SecurityError, UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "DIGITS",
    "FORMAT",
    "LEAF_MAX",
    "MAX_LINE_BYTES",
    "MAX_NODE_BYTES",
    "MAX_VERSIONS",
    "NAME_DIGITS",
    "POSITION_DIGITS",
    "Entry",
    "Inner",
    "Leaf",
    "Node",
    "Ref",
    "format_inner",
    "format_leaf",
    "make_entry",
    "package_prefix",
    "parse_node",
]

FORMAT: Final = "mirrorwitness-summary-1"

LEAF_MAX: Final = 128
"""Most entries of a leaf: some 14 kB, for which one request is about as long as its round trip."""

MAX_LINE_BYTES: Final = 2000
"""Longest entry with its newline. A version of the registry's own has at most 256 characters; older ones fit too."""

MAX_NODE_BYTES: Final = 100 + LEAF_MAX * MAX_LINE_BYTES
"""Largest node in bytes; a larger answer is not read."""

MAX_VERSIONS: Final = 1_000_000_000
"""Most entries that a root may claim: twenty times the public registry's, so that a comparison has an end."""

DIGITS: Final = "0123456789abcdef"
POSITION_DIGITS: Final = 64
NAME_DIGITS: Final = 8
"""Digits of a position that come from the package's name alone: enough to tell 4 million packages apart mostly."""

_SAFE_IN_VERSION: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%@")
_SAFE_IN_NAME: Final = f"{_SAFE_IN_VERSION}@"
_PLAIN: Final = re.compile(r"[A-Za-z0-9./_~+@-]*")
"""What most names are made of: quoting them would change nothing."""

# 64 bytes leave four bits of the last digit without meaning: where they are not zero, it is a second spelling.
_ENTRY: Final = re.compile(
    r"((?:[!-$&-~]|%[0-9A-F]{2})+)@((?:[!-$&-?A-~]|%[0-9A-F]{2})*) (sha512-[A-Za-z0-9+/]{85}[AQgw]==)"
)
_CHILD: Final = re.compile(r"([0-9a-f]) ([1-9][0-9]{0,9}) ([0-9a-f]{64})")
_HEAD: Final = re.compile(r"(mirrorwitness-summary-[0-9]{1,9}) (leaf|inner) (-|[0-9a-f]{1,64})")
_SHOWN: Final = 120


class Entry(NamedTuple):
    """One version that is served.

    Attributes:
        name: the package, as it stands in the line.
        version: the version, as it stands in the line.
        sri: SHA-512 of the tarball's bytes.
        position: where it is in the tree.
    """

    name: str
    version: str
    sri: str
    position: str

    @property
    def line(self) -> str:
        """The entry's line, without the newline."""
        return f"{self.name}@{self.version} {self.sri}"


class Ref(NamedTuple):
    """What a parent, or the mirror's description, says of a node.

    Attributes:
        versions: how many entries its range has.
        digest: hex SHA-256 of its bytes.
    """

    versions: int
    digest: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """A range with few entries: all of them."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    """A range with many entries: its parts, by next digit."""

    children: Mapping[str, Ref]


Node: TypeAlias = Leaf | Inner


def make_entry(name: str, version: str, sri: str) -> Entry | None:
    """Make the entry of a version, None where it is too long to have one.

    Args:
        name: the package.
        version: any text.
        sri: SHA-512 of the tarball's bytes as Subresource-Integrity text.
    """
    name = _escape(name, _SAFE_IN_NAME)
    version = _escape(version, _SAFE_IN_VERSION)
    entry = Entry(name, version, sri, _position(name, version))
    return entry if len(entry.line) < MAX_LINE_BYTES else None


def package_prefix(name: str) -> str:
    """Return the prefix that the positions of all versions of a package have."""
    return _name_digits(_escape(name, _SAFE_IN_NAME))


def format_leaf(prefix: str, entries: Iterable[Entry]) -> bytes:
    """Write a leaf; the entries may come in any order."""
    lines = sorted([entry.line for entry in entries])
    return "\n".join([f"{FORMAT} leaf {prefix or '-'}", *lines, ""]).encode("ascii")


def format_inner(prefix: str, children: Mapping[str, Ref]) -> bytes:
    """Write an inner node; the children may come in any order, none of them empty."""
    lines = [f"{digit} {child.versions} {child.digest}" for digit, child in sorted(children.items())]
    return "\n".join([f"{FORMAT} inner {prefix or '-'}", *lines, ""]).encode("ascii")


def parse_node(body: bytes, prefix: str, ref: Ref) -> Node:
    """Read a node and check that it is the one that was promised, and as the format wants it.

    Args:
        body: its bytes, at most `MAX_NODE_BYTES`.
        prefix: its range.
        ref: what its parent says of it.

    Returns:
        The node; formatting it gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is no node of this format; nothing is said about digests.
        IntegrityMismatchError: its digest is not the promised one.
        SecurityError: its digest is right and it contradicts its parent or the format: whoever made the parent lied.
    """
    text = body.decode("latin-1")
    head, _, rest = text.partition("\n")
    found = _HEAD.fullmatch(head)
    if found is None:
        raise UpstreamProtocolError(f"expected a node of a summary, found text that begins with {head[:_SHOWN]!a}")
    if found[1] != FORMAT:
        raise UpstreamProtocolError(f"the summary has the format {found[1]}, this program reads {FORMAT}")
    digest = hashlib.sha256(body).hexdigest()
    if digest != ref.digest:
        raise IntegrityMismatchError(f"node of range {_show(prefix)}: expected sha256 {ref.digest}, found {digest}")
    if found[3] != (prefix or "-"):
        raise _contradiction(prefix, f"it says that it is the node of range {found[3]}")
    if rest and not rest.endswith("\n"):
        raise _contradiction(prefix, "its last line does not end")
    lines = rest.split("\n")[:-1]
    node = _parse_leaf(prefix, lines) if found[2] == "leaf" else _parse_inner(prefix, lines)
    if (ref.versions <= LEAF_MAX) != isinstance(node, Leaf):
        raise _contradiction(prefix, f"a range of {ref.versions} entries is not written as {found[2]}")
    count = len(node.entries) if isinstance(node, Leaf) else sum(child.versions for child in node.children.values())
    if count != ref.versions:
        raise _contradiction(prefix, f"it has {count} entries, its parent says {ref.versions}")
    return node


def _parse_leaf(prefix: str, lines: list[str]) -> Leaf:
    entries: list[Entry] = []
    before = ""
    for line in lines:
        found = _ENTRY.fullmatch(line)
        if found is None or len(line) >= MAX_LINE_BYTES or not _is_canonical(found[1], found[2]):
            raise _contradiction(prefix, f"{line[:_SHOWN]!a} is not an entry")
        entry = Entry(found[1], found[2], found[3], _position(found[1], found[2]))
        if not entry.position.startswith(prefix):
            raise _contradiction(prefix, f"{entry.name}@{entry.version} does not belong there")
        if line <= before:
            raise _contradiction(prefix, f"{line[:_SHOWN]!a} is not in order")
        if entries and entries[-1][:2] == entry[:2]:
            raise _contradiction(prefix, f"{entry.name}@{entry.version} is there twice")
        entries.append(entry)
        before = line
    return Leaf(tuple(entries))


def _parse_inner(prefix: str, lines: list[str]) -> Inner:
    children: dict[str, Ref] = {}
    if len(prefix) >= POSITION_DIGITS:
        raise _contradiction(prefix, "it goes on behind the last digit")
    for line in lines:
        found = _CHILD.fullmatch(line)
        if found is None:
            raise _contradiction(prefix, f"{line[:_SHOWN]!a} is not a child")
        if children and found[1] <= max(children):
            raise _contradiction(prefix, f"its child {found[1]} is not in order")
        children[found[1]] = Ref(int(found[2]), found[3])
    return Inner(children)


def _position(name: str, version: str) -> str:
    whole = hashlib.sha256(f"{name}@{version}".encode("ascii")).hexdigest()
    return _name_digits(name) + whole[: POSITION_DIGITS - NAME_DIGITS]


@lru_cache(maxsize=1024)
def _name_digits(name: str) -> str:
    return hashlib.sha256(name.encode("ascii")).hexdigest()[:NAME_DIGITS]


def _escape(text: str, safe: str) -> str:
    if _PLAIN.fullmatch(text) and (safe is _SAFE_IN_NAME or "@" not in text):
        return text
    return quote(text, safe=safe, errors="surrogatepass")


def _is_canonical(name: str, version: str) -> bool:
    """Return whether nothing is escaped that need not be: a version has one spelling."""
    if "%" not in f"{name}{version}":
        return True
    return quote(unquote_to_bytes(name), safe=_SAFE_IN_NAME) == name and (
        quote(unquote_to_bytes(version), safe=_SAFE_IN_VERSION) == version
    )


def _contradiction(prefix: str, reason: str) -> SecurityError:
    return SecurityError(f"the summary contradicts itself at range {_show(prefix)}: {reason}")


def _show(prefix: str) -> str:
    return prefix or "- (the root)"
