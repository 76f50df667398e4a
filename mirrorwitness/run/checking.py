"""Check lockfiles, tarballs and versions against a checksum database, or against proofs that are at hand.

    arguments -> subjects -> each version looked up once, under one verified checkpoint -> a verdict for each

Rules:

- Online: one checkpoint is read, verified and compared with the newest that was verified before; all look-ups are in
  its tree. A fork, a bad signature or a missed quorum ends everything; what is wrong with one version is its own.
- Offline: proofs come from a bundle, or lie beside the tarballs. Their checkpoints are held to the same terms.
  Two checkpoints of one size and two roots, among them or beside the one that was verified last, are a fork here too.
- A version that stands in several lockfiles is looked up once; what is new in the log, in the tree that has it.
- What was verified and cannot be kept for the next run is told, and no failure.
- What was found can be written as a bundle, which checks the same things offline.

What it does not do: install, download packages, or say that something is safe.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    ForkError,
    MirrorWitnessError,
    SecurityError,
    SignatureError,
    StorageError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, Patience, make_user_agent, open_fetcher
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.run.check_report import Believed, Checked, CheckReport
from mirrorwitness.run.inspecting import reading_given
from mirrorwitness.run.subjects import Subject, read_subjects
from mirrorwitness.storage.local import open_local
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.authority import registry_of
from mirrorwitness.sumdb.client import LOOKUPS_AT_ONCE, MAX_AGE, SumdbClient
from mirrorwitness.sumdb.forks import check_known_forks, find_fork_of_one_size, make_fork_error
from mirrorwitness.sumdb.found import Found
from mirrorwitness.sumdb.logclient import TILES_AT_ONCE, LogClient
from mirrorwitness.sumdb.lookupclient import LookupClient
from mirrorwitness.sumdb.offline import OfflineProofs, open_bundle, open_proof
from mirrorwitness.sumdb.served import TRIES, Traffic
from mirrorwitness.sumdb.terms import Terms, make_terms, parse_keys
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.sumdb.verdict import Judgement, Verdict, judge
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.sumdb.forks import Signed

__all__ = ["CheckWishes", "run_check"]

SECONDS: Final = 1.0

PATIENCE: Final = Patience(connect=10 * SECONDS, head=30 * SECONDS, grace=15 * SECONDS)
"""A look-up may make the log fetch and check a version that it does not have yet."""

GIVE_UP: Final = 2 * LOOKUPS_AT_ONCE
"""Look-ups in a row without an answer after which no more are sent: a log that hangs costs minutes, and not hours."""

LONGEST_PAUSE: Final = 20 * SECONDS
"""How long a log can make us wait with 429 or 503, whatever it asks for: somebody sits before this, or pays for a job.
One that asks for more is not reached in this run."""

_FLAG: Final = re.compile(r"(?P<vkeys>\S+?)(?:=(?P<url>https?://\S+))?")
_ADDRESS: Final = re.compile(r"https?://\S+: ")
_SHOWN: Final = 300

_Answer: TypeAlias = Found | MirrorWitnessError
_Lookup: TypeAlias = Callable[[Subject, PackageName, Version], Awaitable[Found]]


class _Key(NamedTuple):
    """One look-up. A proof beside a tarball is that tarball's alone: the same version elsewhere has another answer.

    Attributes:
        name: the package.
        version: the version.
        beside: the tarball, where a proof lies beside it.
    """

    name: PackageName
    version: Version
    beside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckWishes:
    """What is checked, and whom to believe.

    Attributes:
        arguments: lockfiles, tarballs, NAME@VERSION.
        sumdb: keys of the log and where it is: ``VKEY[,VKEY][=URL]``; several are several keys of one log.
        policy: who has to have cosigned; None where the log's own signature is enough.
        bundle: proofs to check against, instead of asking.
        state: the directory in which is kept what was verified.
        registry: whose names these have to be, as a URL; None for any.
        refuses_withdrawn: whether what a registry took away counts as not verified.
        max_age: how old an answer of an earlier run may be.
        tries: repetition of requests.
    """

    arguments: tuple[str, ...]
    sumdb: tuple[str, ...]
    policy: bytes | None = None
    bundle: bytes | None = None
    state: Path
    registry: str | None = None
    refuses_withdrawn: bool = False
    max_age: timedelta = MAX_AGE
    tries: Backoff = TRIES


async def run_check(wishes: CheckWishes, progress: Progress) -> CheckReport:
    """Check everything, and say what became of each.

    Raises:
        ConfigurationError: an argument, a key, the policy, a proof or what is kept cannot be read.
        ForkError: the log signed two histories; the message says where the evidence is.
        SecurityError: a checkpoint is not signed, or not cosigned as the policy says.
        UpstreamError: the log cannot be read.
        StorageError: the directory of what was verified failed.
    """
    terms, url = _read_terms(wishes)
    registry = None if wishes.registry is None else _read_registry(wishes.registry)
    subjects = await read_subjects(wishes.arguments, registry=registry)
    if wishes.bundle is None and url is not None:
        return await _check_online(wishes, terms, url, subjects, progress)
    return await _check_offline(wishes, terms, subjects, progress)


async def _check_online(
    wishes: CheckWishes, terms: Terms, url: str, subjects: Sequence[Subject], progress: Progress
) -> CheckReport:
    async with _open_client(wishes, terms, url) as (client, traffic):
        head = await client.update()

        async def look_up(_: Subject, name: PackageName, version: Version) -> Found:
            return await client.lookup(name, version)

        answers = await _look_up_all(subjects, look_up, progress)
        unsaved = await _save(client)
        heads = dict.fromkeys([head, client.head or head])  # look-ups of what is new went on in a newer tree
        return CheckReport(
            terms=terms,
            believed=tuple(dict.fromkeys(Believed.of(item.verdict) for item in heads)),
            checked=tuple([_judge(subject, answers) for subject in subjects]),
            refuses_withdrawn=wishes.refuses_withdrawn,
            is_first=head.is_first,
            shown=next((item.shown for item in heads if item.shown is not None), None),
            is_compared=all(item.is_compared for item in heads),
            checked_at=datetime.now(UTC).timestamp(),
            unsaved=unsaved,
            traffic=traffic(),
            remembered=client.remembered,
        )


async def _save(client: SumdbClient) -> str:
    """Keep what was verified; return why that failed, and nothing where it did not."""
    try:
        await client.save()
    except StorageError as error:
        return str(error)
    return ""


async def _check_offline(
    wishes: CheckWishes, terms: Terms, subjects: Sequence[Subject], progress: Progress
) -> CheckReport:
    with reading_given():
        bundle = None if wishes.bundle is None else open_bundle(wishes.bundle, terms)
    proofs = {subject.source: _open_beside(subject, terms) for subject in subjects if subject.proof is not None}
    bare = next((item for item in subjects if item.wanted is not None and item.proof is None), None)
    if bundle is None and bare is not None:
        raise ConfigurationError(
            f"{bare.title}: nothing to check it against. Give the log's address (--sumdb VKEY=URL), or proofs that are "
            "at hand: --bundle FILE, or FILE.tlog-proof beside a tarball"
        )

    async def look_up(subject: Subject, name: PackageName, version: Version) -> Found:
        await trio.lowlevel.checkpoint()
        at_hand = proofs.get(subject.source, bundle)
        if at_hand is None:  # pragma: no cover - refused above
            raise UpstreamNotFoundError(f"{name}@{version}: no proof of it is here")
        return at_hand.lookup(name, version)

    used = [*([] if bundle is None else [bundle]), *proofs.values()]
    await _check_one_history(wishes.state, terms, [signed for item in used for signed in item.signed()])
    answers = await _look_up_all(subjects, look_up, progress)
    believed = dict.fromkeys(Believed.of(verdict) for item in used for verdict in item.verdicts)
    return CheckReport(
        terms=terms,
        believed=tuple(sorted(believed, key=lambda item: item.tree.size)),
        checked=tuple([_judge(subject, answers) for subject in subjects]),
        refuses_withdrawn=wishes.refuses_withdrawn,
        is_offline=True,
    )


async def _check_one_history(state: Path, terms: Terms, signed: Sequence[Signed]) -> None:
    """Check that checkpoints of one size do not contradict each other, or the one that was verified here last.

    Raises:
        ForkError: they do; the evidence is kept.
    """
    if find_fork_of_one_size(signed) is None and not await trio.Path(state).exists():
        return  # nothing was verified here, and nothing has to be kept
    async with open_local(state) as storage:
        trust = TrustStore(storage, place=str(state))
        await check_known_forks(trust, terms)
        known = await trust.read_head(terms)
        fork = find_fork_of_one_size([*([] if known is None else [(known.note, known.tree)]), *signed])
        if fork is not None:
            raise await make_fork_error(trust, terms, *fork, proof=(), now=datetime.now(UTC))


def _open_beside(subject: Subject, terms: Terms) -> OfflineProofs:
    with reading_given():
        return open_proof(subject.proof or b"", terms)


async def _look_up_all(subjects: Sequence[Subject], look_up: _Lookup, progress: Progress) -> dict[_Key, _Answer]:
    """Look each version up once."""
    answers: dict[_Key, _Answer] = {}
    wanted = {_key_of(subject): subject for subject in subjects if subject.wanted is not None}
    silent = 0  # look-ups in a row that got no answer
    progress.started(len(wanted))

    async def ask(key: _Key, subject: Subject) -> _Answer:
        nonlocal silent
        if silent >= GIVE_UP:
            return UpstreamUnreachableError(f"not asked: {silent} look-ups in a row got no answer")
        try:
            found: _Answer = await look_up(subject, key.name, key.version)
        except (ForkError, SignatureError):
            raise  # found while the head was read again: nothing of this log can be believed
        except (UpstreamError, SecurityError) as error:
            found = error
        is_silent = isinstance(found, UpstreamError) and not isinstance(found, UpstreamNotFoundError)
        silent = silent + 1 if is_silent else 0
        return found

    async def work(item: tuple[_Key, Subject]) -> None:
        key, subject = item
        answers[key] = await ask(key, subject)
        progress.package_finished(key.name, problem=None)  # the report has them all

    await for_each(wanted.items(), work, at_once=2 * LOOKUPS_AT_ONCE)
    return answers


def _key_of(subject: Subject) -> _Key:
    wanted = subject.wanted
    if wanted is None:  # pragma: no cover - asked only of what is wanted
        raise ConfigurationError(f"{subject.title}: nothing to look up")
    return _Key(wanted.name, wanted.version, subject.source if subject.proof is not None else "")


def _judge(subject: Subject, answers: Mapping[_Key, _Answer]) -> Checked:
    if subject.wanted is None:
        return Checked(subject, Judgement(subject.fault or Verdict.NOT_FROM_REGISTRY, subject.skipped))
    found = answers[_key_of(subject)]
    if isinstance(found, Found):
        judgement = judge(subject.wanted, found.record)
        if subject.fault is not None and judgement.verdict.is_confirmed:
            return Checked(subject, Judgement(subject.fault, subject.note), found)
        return Checked(subject, Judgement(judgement.verdict, judgement.reason or subject.note), found)
    reason = _shorten(str(found), subject.title)
    if isinstance(found, UpstreamNotFoundError):
        return Checked(subject, Judgement(Verdict.NOT_LOGGED, reason))
    verdict = Verdict.UNPROVEN if isinstance(found, SecurityError) else Verdict.UNREACHABLE
    return Checked(subject, Judgement(verdict, reason))


def _shorten(reason: str, title: str) -> str:
    """Take from a reason what stands beside it in the report: the version, and the log's address."""
    return _ADDRESS.sub("", reason, count=1).removeprefix(f"{title}: ").removeprefix(f"{title} is not logged: ")


def _read_terms(wishes: CheckWishes) -> tuple[Terms, str | None]:
    """Return whom to believe, and where the log is, where that was said."""
    vkeys: list[str] = []
    urls: list[str] = []
    for text in wishes.sumdb:
        found = _FLAG.fullmatch(text)
        if found is None:
            raise ConfigurationError(f"--sumdb {text[:_SHOWN]!r}: expected VKEY=URL, or VKEY where proofs are at hand")
        vkeys += found["vkeys"].split(",")
        urls += [found["url"]] if found["url"] else []
    if len({url.rstrip("/") for url in urls}) > 1:
        raise ConfigurationError(
            f"--sumdb: {len(urls)} addresses, expected those of one log: {', '.join(urls)[:_SHOWN]}"
        )
    policy = None if wishes.policy is None else parse_policy(wishes.policy)
    return make_terms(parse_keys(vkeys), policy), urls[0] if urls else None


def _read_registry(text: str) -> str:
    return registry_of(text if "://" in text else f"https://{text}")


@asynccontextmanager
async def _open_client(
    wishes: CheckWishes, terms: Terms, url: str
) -> AsyncGenerator[tuple[SumdbClient, Callable[[], Traffic]], None]:
    """Open a client for the length of a block, and what says how much it has read."""
    options = FetchOptions(patience=PATIENCE, user_agent=make_user_agent(None))
    gate = HostGate(max_in_flight=max(LOOKUPS_AT_ONCE, TILES_AT_ONCE))
    async with open_fetcher(options) as fetcher, open_local(wishes.state) as storage:
        log = LogClient(
            log=terms,
            url=url,
            dialect=Dialect.TILES,
            fetcher=fetcher,
            gate=gate,
            tries=wishes.tries,
            max_pause=LONGEST_PAUSE,
        )
        lookups = LookupClient(url=url, fetcher=fetcher, gate=gate, tries=wishes.tries, max_pause=LONGEST_PAUSE)
        client = SumdbClient(
            terms=terms,
            source=log,
            lookups=lookups,
            trust=TrustStore(storage, place=str(wishes.state)),
            now=lambda: datetime.now(UTC),
            max_age=wishes.max_age,
        )
        yield client, lambda: log.traffic + lookups.traffic
