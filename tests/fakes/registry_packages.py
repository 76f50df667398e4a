"""One package of the registry simulator: its document, its revisions, its tarballs.

A revision's number only rises, also over a deletion, as in CouchDB; its hash depends on name and number.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.fakes.registry_build import abbreviate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIRST_TIME", "HOLDER_VERSION", "Hold", "Package", "file_of", "iso", "make_manifest"]

FIRST_TIME: Final = datetime(2024, 1, 1, tzinfo=UTC)
HOLDER_VERSION: Final = "0.0.1-security"
"""The one version of a package that the registry took away for security (research/B 2.1)."""
_MAX_HISTORY: Final = 20


class Package:
    """One package: its document without base URL, older documents, and its tarballs by file name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document: dict[str, Any] | None = None
        self.raw: bytes | None = None
        self.history: list[str] = []
        self.tarballs: dict[str, bytes] = {}
        self.rev = 0
        self.modified = FIRST_TIME

    @property
    def rev_text(self) -> str:
        """The revision as feed and packument name it: ``N-`` and 32 hex digits."""
        return f"{self.rev}-{hashlib.md5(f'{self.name}{self.rev}'.encode()).hexdigest()}"  # noqa: S324

    def touch(self, now: datetime) -> None:
        """Count a change, and keep the document as it was before."""
        if self.document is not None and self.rev:
            self.history = [*self.history, json.dumps(self.document)][-_MAX_HISTORY:]
        self.rev += 1
        self.raw = None
        self.modified = now
        if self.document is not None:
            self.document["_rev"] = self.rev_text
            self.document["time"]["modified"] = iso(now)

    def open(self, now: datetime) -> dict[str, Any]:
        """Return the live document, a new one where there is none."""
        if self.document is None:
            self.document = {
                "_id": self.name,
                "_rev": "",
                "name": self.name,
                "dist-tags": {},
                "versions": {},
                "time": {"created": iso(now), "modified": iso(now)},
                "maintainers": [{"name": "tester", "email": "tester@registry.example"}],
                "description": f"test package {self.name}",
                "license": "MIT",
                "readme": f"# {self.name}\n",
                "readmeFilename": "README.md",
            }
        return self.document

    def revive(self) -> None:
        """Make a document that is an unpublished package's stub able to hold versions again."""
        if self.document is not None and "versions" not in self.document:
            del self.document["time"]["unpublished"]
            self.document |= {"dist-tags": {}, "versions": {}}

    def unpublish_version(self, version: str) -> None:
        """Remove a version, its tarball and the dist-tags that point to it; its time stays."""
        document = self.document or {}
        self.tarballs.pop(file_of(document["versions"].pop(version)), None)
        tags = document["dist-tags"]
        for tag in [tag for tag, target in tags.items() if target == version]:
            del tags[tag]
        if document["versions"] and "latest" not in tags:
            tags["latest"] = list(document["versions"])[-1]

    def unpublish_all(self, now: datetime) -> None:
        """Leave a stub with ``time.unpublished`` and no tarball."""
        document = self.document or {}
        gone = {"name": self.name, "time": iso(now), "versions": list(document["versions"])}
        for key in ("versions", "dist-tags"):
            del document[key]
        document["time"]["unpublished"] = gone
        self.tarballs.clear()

    def become_holder(self, now: datetime, manifest: dict[str, Any]) -> None:
        """Replace the document by a security holder's: `manifest` alone, ``created`` anew, older times as they were."""
        old = (self.document or {}).get("time", {})
        kept = {key: value for key, value in old.items() if key not in {"created", "modified", "unpublished"}}
        self.document = {
            "_id": self.name,
            "_rev": self.rev_text,
            "name": self.name,
            "dist-tags": {"latest": HOLDER_VERSION},
            "versions": {HOLDER_VERSION: manifest},
            "time": {"created": iso(now), "modified": iso(now), **kept, HOLDER_VERSION: iso(now)},
            "description": "security holding package",
            "repository": "npm/security-holder",
        }

    def bury(self, now: datetime) -> None:
        """Delete the document and the tarballs; history and revision stay."""
        self.touch(now)
        self.document = None
        self.tarballs.clear()

    def copy(self) -> Package:
        """Return the package as it is now, untouched by what happens to this one."""
        return copy.deepcopy(self)

    def render(self, *, base: str, back: int, short: bool) -> bytes:
        """Return the packument as it was `back` changes ago, in full or in the abbreviated form."""
        if self.raw is not None:
            return self.raw
        text = json.dumps(self.document)
        if back and self.history:
            text = self.history[-min(back, len(self.history))]
        text = text.replace("{base}", base)
        return json.dumps(abbreviate(json.loads(text))).encode() if short else text.encode()


@dataclass(slots=True)
class Hold:
    """A packument that an edge goes on serving.

    Attributes:
        package: as it was when the edge stopped following; None: it was not there yet.
        answers: how often it is still served; None: without counting.
        until: the time, by trio's clock, from which on the edge follows again; None: never by itself.
    """

    package: Package | None
    answers: int | None
    until: float | None


def make_manifest(name: str, version: str, dist: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a version's manifest; what is None in `dist` is left out."""
    return {
        "name": name,
        "version": version,
        "description": f"test package {name}",
        "main": "index.js",
        "license": "MIT",
        "_id": f"{name}@{version}",
        **fields,
        "dist": {key: value for key, value in dist.items() if value is not None},
    }


def file_of(manifest: Mapping[str, Any]) -> str:
    tarball: str = manifest["dist"]["tarball"]
    return tarball.rpartition("/")[2]


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
