"""Two mirrors and the air between them: what one exports, the other imports, and nobody is asked anything.

world = await make_world(tmp_path)
path = await world.export("one.tar")
summary = await world.take_in(path)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.mirror.bundle import BundledLog, LogStep, Manifest, id_of, parse_manifest
from mirrorwitness.mirror.bundlecheck import BundleTerms
from mirrorwitness.mirror.bundleexport import Exporter, Previous
from mirrorwitness.mirror.bundlefile import open_bundle_file, open_writer
from mirrorwitness.mirror.bundleimport import Importer
from mirrorwitness.mirror.bundlereading import open_manifest
from mirrorwitness.mirror.bundlestep import prove_step
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import make_selection, parse_rule
from mirrorwitness.mirror.tarballs import TarballOptions
from mirrorwitness.mirror.terms import PackageTerms
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.npm.signatures import SignaturePolicy
from mirrorwitness.run.voucher import name_terms
from mirrorwitness.sumdb.trust import TrustStore
from tests.fakes.registry import RegistrySimulator
from tests.fakes.registry_build import Signer
from tests.fakes.simulated_log import open_simulated_log
from tests.unit.mirror.builder import NOW, Mirror, make_mirror

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.mirror.bundlecheck import Verified
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey
    from tests.fakes.simulated_log import SimulatedLog
    from tests.fakes.storage import MemoryStorage

__all__ = ["World", "make_world", "read_manifest", "visible"]


@dataclass
class World:
    """A mirror that a network reaches, and one that none does.

    Attributes:
        sim: the registry.
        outside: the mirror that exports.
        inside: the mirror that imports; nobody ever syncs it.
        folder: where bundles are.
        signer: who has to have signed a bundle.
        asks_log: whether the importing mirror asks for the log's word.
    """

    sim: RegistrySimulator
    outside: Mirror
    inside: Mirror
    folder: Path
    signer: VerifierKey | None = None
    asks_log: bool = True
    options: TarballOptions = field(default_factory=lambda: TarballOptions(concurrency=4))

    @property
    def log(self) -> SimulatedLog:
        assert self.outside.log is not None
        return self.outside.log

    async def publish(self, name: str, version: str) -> None:
        """Let the registry publish a version, the log have it, and the outer mirror sync."""
        self.sim.publish(name, version, signer=Signer())
        if self.outside.log is not None:
            await self.log.add(self.sim, name, version)
        if name not in self.outside.rules:
            self.outside.rules.append(name)
            self.inside.rules.append(name)
        await self.outside.sync_well()

    async def export(
        self, file: str, *, since: Path | None = None, key: SignerKey | None = None, names: tuple[str, ...] = ()
    ) -> Path:
        """Write a bundle of everything."""
        previous = None if since is None else Previous(*await open_manifest(await open_bundle_file(since)))
        log = None
        if self.outside.log is not None:
            note = await self.log.read_head()
            old = None if previous is None else previous.checkpoint
            step = None if old is None else await self.prove(old, note)
            log = BundledLog(checkpoint=note.decode(), since=step)
        path = self.folder / file
        async with open_writer(path) as writer:
            exporter = Exporter(
                storage=self.outside.storage,
                catalogue=self.outside.catalogue,
                writer=writer,
                previous=previous,
                progress=SilentProgress(),
                memory=1 << 20,
                size_limit=1 << 30,
            )
            chosen = [name for name in self.outside.selection().names() if not names or name in names]
            await exporter.run(chosen, log=log, key=key)
        return path

    async def prove(self, old: bytes, new: bytes) -> LogStep:
        """Prove that the log has grown from one checkpoint to another, as an export does."""
        trust = TrustStore(self.outside.storage, place="outside")
        return await prove_step(old, new, terms=self.log.terms, source=self.log, trust=trust, now=lambda: NOW)

    async def importer(self, path: Path, storage: Storage | None = None, registry: str | None = None) -> Importer:
        storage = self.inside.storage if storage is None else storage
        keys = await self.outside.catalogue.read_keys()
        log = self.log.terms if self.asks_log else None
        return Importer(
            storage=storage,
            file=await open_bundle_file(path),
            terms=BundleTerms(
                keys=keys,
                policy=SignaturePolicy.VERIFY,
                log=log,
                registry=registry,
                signer=self.signer,
                size_limit=self.options.size_limit,
            ),
            packages=PackageTerms(
                selection=make_selection([parse_rule("*", origin="a test")], []),
                keys=keys,
                policy=SignaturePolicy.VERIFY,
                check=LogCheck.OFF if log is None else LogCheck.REQUIRE,
                log=name_terms(log),
            ),
            tarballs=self.options,
            trust=TrustStore(storage, place="a test"),
            workers=2,
            now=lambda: NOW,
        )

    async def verify(self, path: Path) -> Verified:
        """Verify a bundle, and change nothing."""
        return await (await self.importer(path)).verify(SilentProgress())

    async def take_in(self, path: Path, storage: Storage | None = None) -> RunSummary:
        """Import a bundle."""
        importer = await self.importer(path, storage)
        return await importer.apply(await importer.verify(SilentProgress()), SilentProgress())


async def make_world(folder: Path, *, has_log: bool = True) -> World:
    """Return two mirrors of nothing."""
    sim = RegistrySimulator()
    log = await open_simulated_log() if has_log else None
    outside = make_mirror(sim, rules=[], log=log)
    inside = make_mirror(sim, rules=[], log=log)
    return World(sim, outside, inside, folder, asks_log=has_log)


def visible(storage: MemoryStorage) -> dict[str, bytes]:
    """Return everything that is stored but evidence."""
    return {key: body for key, body in storage.objects.items() if not key.startswith("evidence/")}


def read_manifest(path: Path) -> tuple[str, Manifest]:
    """Return the id and the manifest of a bundle that is a directory."""
    body = (path / "manifest.json").read_bytes()
    return id_of(body), parse_manifest(body)
