"""What must hold for the raw objects of a mirror at every instant, also after a kill. Knows nothing of our code.

- every document parses, and names at least one version;
- every version that it names has its tarball under the key that its URL says, and the bytes match its digest (P1, P2);
- every dist-tag resolves, and there is ``latest``;
- every tarball, named or not, holds bytes that upstream published at some time, whole (P1);
- where a log is required, every version that is named has its proof beside the tarball (P1);
- records and notes parse; what a killed check of the storage left is nobody's record, lists of old nodes are no JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["check_invariants"]

_DOCUMENT = re.compile(r"npm/((?:@[^/]+/)?[^/@][^/]*)/(?:packument|install-v1)\.json")
_NOT_JSON = ("state/probe/", "state/summary/replaced/")
_PROOF = ".tlog-proof"
_TARBALL = re.compile(r"npm/(?:@[^/]+/)?[^/@][^/]*/-/[^/]+(?<!\.tlog-proof)")


def check_invariants(
    objects: Mapping[str, bytes],
    *,
    published: Collection[bytes] | None = None,
    damaged: Collection[str] = (),
    proven: bool = False,
) -> None:
    """Check everything that is stored.

    Args:
        objects: all objects by key.
        published: every tarball that upstream ever served in good faith; None: not checked.
        damaged: keys that the test itself damaged or removed: they may be as they are, and named as they are.
        proven: whether a log is required.
    """
    for key, body in objects.items():
        if key in damaged:
            continue
        found = _DOCUMENT.fullmatch(key)
        if found:
            document = json.loads(body)
            _check_document(found[1], key, document, objects, damaged)
            if proven:
                _check_proofs(found[1], document, objects)
        elif key.startswith("state/") and not key.startswith(_NOT_JSON):
            json.loads(body)
        elif published is not None and _TARBALL.fullmatch(key):
            assert body in published, f"{key} holds {len(body)} bytes that nobody published"


def _check_document(
    name: str, key: str, document: dict[str, Any], objects: Mapping[str, bytes], damaged: Collection[str]
) -> None:
    assert document["name"] == name, key
    assert document["versions"], f"{key} names no version"
    assert set(document["dist-tags"].values()) <= set(document["versions"]), f"{key}: a dist-tag points nowhere"
    assert "latest" in document["dist-tags"], key
    for version, manifest in document["versions"].items():
        dist = manifest["dist"]
        file = unquote(dist["tarball"].rpartition("/")[2])
        if f"npm/{name}/-/{file}" in damaged:
            continue
        stored = objects.get(f"npm/{name}/-/{file}")
        assert stored is not None, f"{key} names {version}, and npm/{name}/-/{file} is missing"
        assert _is_match(stored, dist), f"{key} names {version}, and npm/{name}/-/{file} has other bytes"


def _check_proofs(name: str, document: dict[str, Any], objects: Mapping[str, bytes]) -> None:
    for version, manifest in document["versions"].items():
        key = f"npm/{name}/-/{unquote(manifest['dist']['tarball'].rpartition('/')[2])}{_PROOF}"
        assert key in objects, f"{name}@{version} is named, and {key} is missing"
        first, extra, *_ = objects[key].decode().split("\n")
        assert first == "c2sp.org/tlog-proof@v1", key
        record = base64.b64decode(extra.removeprefix("extra ")).decode()
        assert f"\npackage {name}@{version}\n" in record, key
        assert f"\nintegrity {manifest['dist']['integrity']}\n" in record, key


def _is_match(body: bytes, dist: Mapping[str, str]) -> bool:
    if "integrity" not in dist:
        return hashlib.sha1(body, usedforsecurity=False).hexdigest() == dist["shasum"]
    words = [word.partition("-") for word in dist["integrity"].split()]
    for algorithm in ("sha512", "sha384", "sha256", "sha1"):
        digests = [digest for found, _, digest in words if found == algorithm]
        if digests:
            return base64.b64encode(hashlib.new(algorithm, body).digest()).decode() in digests
    return False
