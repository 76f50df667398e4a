"""The state of the registry simulator: what was published, changed, deprecated, unpublished, deleted.

Every change counts as one revision of its package, and `watchers` hear of it; what a method does, it does at once.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.fakes.registry_build import Signer, default_files, file_name, make_dist, make_tarball
from tests.fakes.registry_packages import FIRST_TIME, HOLDER_VERSION, Package, file_of, iso, make_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

__all__ = ["RegistryState"]


class RegistryState:
    """The packages of a simulated registry.

    Attributes:
        keys: the keys that signed something here; None: nothing did.
        watchers: called at each change with name, new revision, and whether the document was deleted.
    """

    def __init__(self, base: str) -> None:
        self.keys: list[dict[str, str | None]] | None = None
        self.watchers: list[Callable[[str, str, bool], None]] = []
        self._base = base
        self._packages: dict[str, Package] = {}
        self._buried: dict[str, Package] = {}
        # Answers that hold until the next change; filled by the simulator.
        self._ready: dict[tuple[str, str | None, str | None], bytes] = {}
        self._now = FIRST_TIME

    @property
    def base(self) -> str:
        """Where it listens; set by `serve`, and part of every ``dist.tarball``."""
        return self._base

    @base.setter
    def base(self, base: str) -> None:
        self._base = base
        self._ready.clear()

    def publish(
        self,
        name: str,
        version: str,
        *,
        files: Mapping[str, bytes] | None = None,
        signer: Signer | None = None,
        tag: str | None = "latest",
        published: str | None = None,
        data: bytes | None = None,
        file: str | None = None,
        dist: Mapping[str, Any] | None = None,
        **manifest: Any,
    ) -> bytes:
        """Publish a version and return its tarball.

        Args:
            name: the package.
            version: the version.
            files: what the tarball holds besides package.json.
            signer: signs ``name@version:integrity``; its key is added to `keys`.
            tag: the dist-tag to move to this version.
            published: the time of publication, ISO 8601.
            data: the tarball itself, instead of `files`.
            file: the tarball's file name; npm's own where None.
            dist: fields to put into ``dist``; a value of None removes the field.
            manifest: more fields of the manifest.
        """
        content = default_files(name, version) if files is None else files
        tarball = make_tarball(content, name=name, version=version) if data is None else data
        file = file or file_name(name, version)
        now = self._tick()
        package = self._package(name)
        package.revive()
        document = package.open(self._now)
        described = self._describe_dist(name, version, tarball, file, signer) | dict(dist or {})
        package.tarballs[file] = tarball
        self._touch(package, now)
        document["versions"][version] = make_manifest(name, version, described, **manifest)
        document["time"][version] = published or iso(now)
        if tag is not None:
            document["dist-tags"][tag] = version
        return tarball

    def unpublish(self, name: str, version: str | None = None) -> None:
        """Remove one version and its tarball, or the whole package, which leaves a stub with ``time.unpublished``."""
        package = self._packages[name]
        package.open(self._now)
        self._touch(package)
        if version is not None:
            package.unpublish_version(version)
        else:
            package.unpublish_all(self._now)

    def replace_bytes(self, name: str, version: str, data: bytes) -> None:
        """Serve other bytes for a version; the packument and its integrity stay (an attack)."""
        package = self._packages[name]
        package.tarballs[file_of(package.open(self._now)["versions"][version])] = data
        self._ready.clear()

    def republish(self, name: str, version: str, files: Mapping[str, bytes], *, signer: Signer | None = None) -> bytes:
        """Give a version other bytes and another integrity (an equivocation)."""
        package = self._packages[name]
        document = package.open(self._now)
        file = file_of(document["versions"][version])
        tarball = make_tarball(files, name=name, version=version)
        self._touch(package)
        package.tarballs[file] = tarball
        document["versions"][version]["dist"] = self._describe_dist(name, version, tarball, file, signer)
        return tarball

    def set_tag(self, name: str, tag: str, version: str) -> None:
        """Move a dist-tag; nothing else changes but the revision."""
        package = self._packages[name]
        self._touch(package)
        package.open(self._now)["dist-tags"][tag] = version

    def edit_packument(self, name: str) -> dict[str, Any]:
        """Count a change and return the live document, for the caller to change .

        In it ``{base}`` stands for the base URL.
        """
        package = self._packages[name]
        self._touch(package)
        return package.open(self._now)

    def set_packument(self, name: str, raw: bytes) -> None:
        """Serve exactly these bytes as the packument, in whatever form was asked for."""
        package = self._package(name)
        self._touch(package)
        package.raw = raw

    def set_tarball(self, name: str, file: str, data: bytes) -> None:
        """Serve a file below ``/<name>/-/``."""
        self._package(name).tarballs[file] = data
        self._ready.clear()

    def remove(self, name: str) -> None:
        """Delete the whole document: packument and tarballs answer 404; published again, its revisions go on."""
        package = self._packages.pop(name)
        package.bury(self._tick())
        self._buried[name] = package
        self._notify(package, is_deleted=True)

    def deprecate(self, name: str, version: str | None = None, message: str = "do not use") -> None:
        """Deprecate one version, or all; an empty message takes it back. Nothing else changes but the revision."""
        document = self.edit_packument(name)
        for each in document["versions"] if version is None else [version]:
            document["versions"][each]["deprecated"] = message

    def replace_by_holder(self, name: str) -> None:
        """Take a package away for security: one empty version in the place of all others (research/B 2.1)."""
        package = self._packages[name]
        tarball = make_tarball({}, name=name, version=HOLDER_VERSION)
        file = file_name(name, HOLDER_VERSION)
        dist = self._describe_dist(name, HOLDER_VERSION, tarball, file, None)
        self._touch(package)
        package.become_holder(self._now, make_manifest(name, HOLDER_VERSION, dist, _npmUser={"name": "npm"}))
        package.tarballs = {file: tarball}

    def packument(self, name: str) -> dict[str, Any]:
        """Return the full packument as it is served now."""
        parsed: dict[str, Any] = json.loads(self._packages[name].render(base=self.base, back=0, short=False))
        return parsed

    def tarball(self, name: str, version: str) -> bytes:
        """Return the bytes that are served for a version."""
        package = self._packages[name]
        return package.tarballs[file_of(package.open(self._now)["versions"][version])]

    @property
    def names(self) -> list[str]:
        """The packages, in order of their first publication."""
        return list(self._packages)

    def revisions(self) -> list[tuple[str, str]]:
        """Return name and revision of everything published, in order of first publication."""
        return [(name, package.rev_text) for name, package in self._packages.items() if package.rev]

    def _package(self, name: str) -> Package:
        if name not in self._packages:
            buried = self._buried.pop(name, None)
            self._packages[name] = Package(name) if buried is None else buried
        return self._packages[name]

    def _tick(self) -> datetime:
        self._ready.clear()
        self._now += timedelta(minutes=1)
        return self._now

    def _touch(self, package: Package, now: datetime | None = None) -> None:
        package.touch(now or self._tick())
        self._notify(package, is_deleted=False)

    def _notify(self, package: Package, *, is_deleted: bool) -> None:
        for watcher in self.watchers:
            watcher(package.name, package.rev_text, is_deleted)

    def _describe_dist(
        self, name: str, version: str, tarball: bytes, file: str, signer: Signer | None
    ) -> dict[str, Any]:
        described = make_dist(tarball, f"{{base}}/{name}/-/{file}")
        if signer is not None:
            described["signatures"] = [signer.sign(name, version, described["integrity"])]
            if self.keys is None:
                self.keys = []
            if signer.key() not in self.keys:
                self.keys.append(signer.key())
        return described
