"""One package of the registry simulator: its document, its revisions, its tarballs."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.fakes.registry_build import abbreviate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIRST_TIME", "Package", "file_of", "iso"]

FIRST_TIME: Final = datetime(2024, 1, 1, tzinfo=UTC)
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

    def touch(self, now: datetime) -> None:
        """Count a change, and keep the document as it was before."""
        if self.document is not None and self.rev:
            self.history = [*self.history, json.dumps(self.document)][-_MAX_HISTORY:]
        self.rev += 1
        self.raw = None
        self.modified = now
        if self.document is not None:
            self.document["_rev"] = f"{self.rev}-{hashlib.md5(f'{self.name}{self.rev}'.encode()).hexdigest()}"  # noqa: S324
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

    def render(self, *, base: str, back: int, short: bool) -> bytes:
        """Return the packument as it was `back` changes ago, in full or in the abbreviated form."""
        if self.raw is not None:
            return self.raw
        text = json.dumps(self.document)
        if back and self.history:
            text = self.history[-min(back, len(self.history))]
        text = text.replace("{base}", base)
        return json.dumps(abbreviate(json.loads(text))).encode() if short else text.encode()


def file_of(manifest: Mapping[str, Any]) -> str:
    tarball: str = manifest["dist"]["tarball"]
    return tarball.rpartition("/")[2]


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
