"""Carry a mirror over an air gap: write a bundle of it, take one in.

Rules:

- An import opens no connection: it has no fetcher, and reads the bundle, the storage and the files that it is given.
- An export asks the log alone, for its newest checkpoint and the tiles of one proof. Where it does not answer, the
  newest checkpoint that the mirror verified is exported, if no tiles are needed for that.
- A manifest is kept in the mirror's storage, so that the next export can go on from it by its id.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, ObjectMissingError, UpstreamError
from mirrorwitness.fetch import FetchOptions, HostGate, make_user_agent, open_fetcher
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.about import make_about
from mirrorwitness.mirror.bundle import (
    MAX_MANIFEST_BYTES,
    BundledLog,
    exported_key,
    format_manifest,
    id_of,
    is_id,
    parse_manifest,
)
from mirrorwitness.mirror.bundlecheck import BundleTerms
from mirrorwitness.mirror.bundleexport import Exporter, Previous
from mirrorwitness.mirror.bundlefile import open_bundle_file, open_writer
from mirrorwitness.mirror.bundleimport import Importer
from mirrorwitness.mirror.bundlereading import open_manifest
from mirrorwitness.mirror.bundlestep import prove_step
from mirrorwitness.mirror.catalogue import Catalogue, RunRecord
from mirrorwitness.mirror.coverage import CoverageStore
from mirrorwitness.mirror.keeper import SummaryKeeper
from mirrorwitness.mirror.select import make_selection, parse_rule
from mirrorwitness.mirror.tarballs import TarballOptions
from mirrorwitness.mirror.terms import PackageTerms
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.npm.signatures import MAX_KEYS_BYTES, KeyRing, parse_keys
from mirrorwitness.npm.times import format_time
from mirrorwitness.run.describe import make_summarizer, publish_about, read_mirror_key
from mirrorwitness.run.files import read_file
from mirrorwitness.run.session import now, open_mirror
from mirrorwitness.run.voucher import name_terms, read_log_registry, read_log_terms
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.sumdb.ratchet import Ratchet
from mirrorwitness.sumdb.terms import make_terms
from mirrorwitness.sumdb.terms import parse_keys as parse_log_keys
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.policy_text import MAX_POLICY_BYTES
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mirrorwitness.config import Config
    from mirrorwitness.mirror.bundlecheck import Verified
    from mirrorwitness.mirror.nodes import Head
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.run.session import Wishes
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["ExportReport", "ImportReport", "ImportWishes", "export_bundle", "import_bundle"]

PLACE: Final = "the mirror's storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        bundle: its id.
        previous: the id of the bundle that it goes on from.
        counts: packages, versions, objects, tarballs, bytes.
        size: the log's tree, None without a log.
        signer: the key that signed it.
        alarms: sentences for the operator.
    """

    bundle: str
    previous: str | None
    counts: dict[str, int]
    size: int | None
    signer: str | None
    alarms: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWishes:
    """What an import believes beside the configuration.

    Attributes:
        path: the bundle.
        sumdb: keys of the log: ``VKEY[,VKEY][=URL]``; an address is not used. Empty for the configuration's.
        policy: file that says who has to have cosigned.
        keys: file with signing keys of the registry that came another way.
        signer: who has to have signed the bundle.
        is_dry: verify, and change nothing.
    """

    path: Path
    sumdb: str | None = None
    policy: Path | None = None
    keys: Path | None = None
    signer: VerifierKey | None = None
    is_dry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was verified, and what became of it.

    Attributes:
        verified: the bundle.
        summary: what was done; None for a dry run.
        alarms: sentences for the operator.
    """

    verified: Verified
    summary: RunSummary | None
    alarms: list[str]


async def export_bundle(
    wishes: Wishes, progress: Progress, *, out: Path, since: str | None, is_selected: bool
) -> ExportReport:
    """Write a bundle of what a mirror serves.

    Args:
        wishes: the mirror, its log, and the packages.
        progress: told of every package and tarball.
        out: where; ``.tar`` makes a tar, any other name a directory.
        since: the bundle that it goes on from: its id, or a path; None for one that stands alone.
        is_selected: only the packages of the selection, not all that the mirror has.

    Raises:
        ConfigurationError: something is there already, or the bundle before cannot be had.
        IntegrityMismatchError: stored bytes are not the recorded ones.
        ForkError: the log signed two histories.
        UpstreamError: the log cannot be read, and without it no step can be proven.
        StorageError: the storage failed, or something is missing.
    """
    config = wishes.config
    terms, key = read_log_terms(config.log), read_mirror_key(config)
    async with open_mirror(config) as storage:
        catalogue = Catalogue(storage)
        previous = None if since is None else await _read_previous(storage, since)
        names = await _stored_names(catalogue)
        if is_selected:
            selection = wishes.selection()
            names = [*selection.names(), *filter(selection.matches, names)]
        alarms: list[str] = []
        log = None if terms is None else await _read_log(config, terms, storage, previous, alarms)
        progress.started(len(set(names)))
        async with open_writer(out) as writer:
            exporter = Exporter(
                storage=storage,
                catalogue=catalogue,
                writer=writer,
                previous=previous,
                progress=progress,
                memory=config.limits.spool_memory,
                size_limit=config.limits.tarball_max,
                directory=config.spool_directory,
            )
            bundle, manifest = await exporter.run(names, log=None if log is None else log[0], key=key)
        await storage.put(exported_key(bundle), format_manifest(manifest), content_type="application/json")
    return ExportReport(
        bundle=bundle,
        previous=manifest.previous,
        counts=dict(exporter.counts),
        size=None if log is None else log[1],
        signer=manifest.signer,
        alarms=alarms,
    )


async def import_bundle(
    config: Config, wishes: ImportWishes, show: Callable[[str], AbstractContextManager[Progress]]
) -> ImportReport:
    """Verify a bundle, and take it in.

    Args:
        config: the mirror.
        wishes: the bundle, and whom to believe.
        show: opens what is told of one part of the work, by its name: what is verified, then what is taken in.

    Raises:
        ConfigurationError: the bundle has a gap before it, or is older than what was imported.
        SecurityError: something is not what it is said to be; nothing was imported.
        UpstreamError: the bundle is damaged or incomplete; nothing was imported.
        StorageError: the storage failed.
    """
    log = _read_terms(config, wishes)
    file = await open_bundle_file(wishes.path)
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_mirror(config))
        keys = await _read_keys(storage, wishes.keys)
        keeper = stack.enter_context(
            SummaryKeeper(summarizer=make_summarizer(storage), directory=config.spool_directory)
        )
        selection = make_selection([parse_rule("*", origin="the bundle")], config.denied)
        terms = _package_terms(config, selection, keys, log)
        importer = Importer(
            storage=storage,
            file=file,
            terms=BundleTerms(
                keys=keys,
                policy=config.signatures,
                log=log,
                registry=read_log_registry(config),
                signer=wishes.signer,
                size_limit=config.limits.tarball_max,
            ),
            packages=terms,
            tarballs=_tarball_options(config),
            trust=TrustStore(storage, place=PLACE),
            workers=config.limits.packages,
            now=now,
            noted=keeper.note,
        )
        with show("verifying") as progress:
            verified = await importer.verify(progress)
        alarms = _tell(log, has_signer=wishes.signer is not None)
        if wishes.is_dry:
            return ImportReport(verified=verified, summary=None, alarms=alarms)
        started = format_time(now())
        with show("importing") as progress:
            summary = await importer.apply(verified, progress)
        head = await keeper.update()
        run = await _record(storage, summary, started)
        await _describe(config, storage, terms, run, head, source=f"bundle:{verified.bundle}")
    return ImportReport(verified=verified, summary=summary, alarms=alarms)


async def _read_previous(storage: Storage, since: str) -> Previous:
    """Return the bundle that another goes on from, by its id or out of a file."""
    if is_id(since):
        try:
            body, _ = await storage.read(exported_key(since), limit=MAX_MANIFEST_BYTES)
        except ObjectMissingError as error:
            raise ConfigurationError(
                f"--since {since}: this mirror wrote no such bundle; give the bundle itself, as a path"
            ) from error
    elif since.endswith(".json"):
        body = read_file(Path(since), limit=MAX_MANIFEST_BYTES)
    else:
        return Previous(*await open_manifest(await open_bundle_file(Path(since))))
    return Previous(id_of(body), parse_manifest(body))


async def _stored_names(catalogue: Catalogue) -> list[PackageName]:
    """Return every package of which something is served."""
    names: list[PackageName] = []
    after: str | None = ""
    while after is not None:
        page, after = await catalogue.record_page(after=after)
        for key in page:
            record = await catalogue.read_record_key(key)
            if record is not None and record.packument_sha256 is not None:
                names.append(record.name)
    return names


async def _read_log(
    config: Config, terms: Terms, storage: Storage, previous: Previous | None, alarms: list[str]
) -> tuple[BundledLog, int]:
    """Return the log's newest checkpoint with its proof, and the size of its tree."""
    trust = TrustStore(storage, place=PLACE)
    options = FetchOptions(user_agent=make_user_agent(config.contact))
    assert config.log.url is not None  # noqa: S101 - a log that has keys has an address (`read_log_terms`)
    async with open_fetcher(options) as fetcher:
        source = LogClient(log=terms, url=config.log.url, dialect=Dialect.TILES, fetcher=fetcher, gate=HostGate())
        note, tree = await _find_head(terms, source, trust, alarms)
        old = None if previous is None else previous.checkpoint
        step = None
        if old is not None:
            step = await prove_step(old, note, terms=terms, source=source, trust=trust, now=now)
    return BundledLog(checkpoint=note.decode(), since=step), tree.size


async def _find_head(terms: Terms, source: LogClient, trust: TrustStore, alarms: list[str]) -> tuple[bytes, Checkpoint]:
    """Return the log's newest checkpoint, or where it cannot be read the newest that the mirror verified."""
    try:
        head = await Ratchet(terms=terms, source=source, trust=trust, now=now).advance()
    except UpstreamError as error:
        silent = error
    else:
        return head.note, head.tree
    known = await trust.read_head(terms)
    if known is None:
        raise silent
    alarms.append(f"the log {terms.origin!r} cannot be read, its newest known tree is {known.tree.size}: {silent}")
    return known.note, known.tree


def _read_terms(config: Config, wishes: ImportWishes) -> Terms | None:
    """Read whom to believe about the log; None where its word is not asked."""
    path = wishes.policy or config.log.policy
    policy = None if path is None else parse_policy(read_file(path, limit=MAX_POLICY_BYTES))
    if wishes.sumdb is not None:
        vkeys = wishes.sumdb.partition("=http")[0].split(",")
        return make_terms(parse_log_keys(vkeys), policy)
    if config.log.keys and config.log.check is not LogCheck.OFF:
        return make_terms(config.log.keys, policy)
    if policy is not None:
        raise ConfigurationError(f"{path}: a policy, and no checksum database: give --sumdb VKEY")
    return None


async def _read_keys(storage: Storage, path: Path | None) -> KeyRing:
    stored = await Catalogue(storage).read_keys()
    return stored if path is None else stored.merge(parse_keys(read_file(path, limit=MAX_KEYS_BYTES)))


def _package_terms(config: Config, selection: Selection, keys: KeyRing, log: Terms | None) -> PackageTerms:
    return PackageTerms(
        selection=selection,
        keys=keys,
        policy=config.signatures,
        withdrawn=config.withdrawn,
        check=LogCheck.OFF if log is None else LogCheck.REQUIRE,
        log=name_terms(log),
        confusion=config.log.confusion,
        public_base=config.public_url or layout.STORED_BASE,
    )


def _tarball_options(config: Config) -> TarballOptions:
    limits = config.limits
    return TarballOptions(
        concurrency=limits.concurrency,
        size_limit=limits.tarball_max,
        memory=limits.spool_memory,
        spool_directory=config.spool_directory,
    )


def _tell(log: Terms | None, *, has_signer: bool) -> list[str]:
    """Return what an operator should know although everything verified."""
    told: list[str] = []
    if log is None:
        told.append("no checksum database was asked (--sumdb VKEY): registry signatures alone vouch for the bytes")
    elif not log.asks_witnesses:
        told.append(f"no witness vouches for the log {log.origin!r}: it could show others another one (--policy)")
    if not has_signer:
        told.append("nobody in particular had to have signed the bundle (--signer VKEY)")
    return told


async def _record(storage: Storage, summary: RunSummary, started: str) -> RunRecord:
    """Write down what the import did."""
    catalogue = Catalogue(storage)
    before = await catalogue.read_run()
    code, finished = summary.exit_code(), format_time(now())
    run = RunRecord(
        started=started,
        finished=finished,
        exit_code=int(code),
        last_complete=finished if not code else None if before is None else before.last_complete,
        counts=dict(summary.counts),
        storage_check=None if before is None else before.storage_check,
    )
    await catalogue.write_run(run)
    return run


async def _describe(
    config: Config, storage: Storage, terms: PackageTerms, run: RunRecord, head: Head, *, source: str
) -> None:
    """Publish what the mirror is now."""
    key = read_mirror_key(config)
    about = make_about(
        software=make_user_agent(None),
        sources=[source],
        contact=config.contact,
        policy=terms.policy,
        keys=terms.keys,
        run=run,
        selection=terms.selection,
        coverage=await CoverageStore(storage).read(),
        summary=head,
        mirror_key=None if key is None else str(key.verifier),
    )
    await publish_about(storage, about, key)
