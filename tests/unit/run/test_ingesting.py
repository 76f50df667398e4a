"""A log that is filled by a feed or by names, over loopback, with its state apart from a mirror's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.config.load import Config
from mirrorwitness.config.options import Feed as FeedSettings
from mirrorwitness.config.options import Registry as RegistrySettings
from mirrorwitness.config.quantities import Seconds
from mirrorwitness.errors import ConfigurationError, ExitCode, UpstreamUnreachableError, leaves_of
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import parse_rule
from mirrorwitness.npm.names import PackageName
from mirrorwitness.run.ingesting import run_ingest
from mirrorwitness.run.mirroring import run_sync
from mirrorwitness.run.publishing import PublishWishes
from mirrorwitness.run.session import Wishes
from mirrorwitness.run.sumdb import open_for_writing
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb.authority import make_authority, registry_of
from mirrorwitness.sumdb.indexes import read_index
from tests.fakes.cosigners import FakeWitness, sign_as
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fakes.registry_build import make_tarball
from tests.fakes.serving import serve
from tests.unit.logmirror.sources import listening
from tests.unit.logmirror.world import OURS
from tests.unit.run.sumdb_site import W1, W2, Site, mirror_of, mirrored, open_site

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.tlog.note import Signature
    from mirrorwitness.witness.protocol import AddCheckpoint


@dataclass
class Ingester:
    """Runs `sumdb ingest` again and again; change any attribute between two runs.

    Attributes:
        site: the log and its registry.
        feed: the registry's feed.
        rules: what is selected; nothing: everything.
        authority: who may name what.
        others: further registries.
        confirm_after: seconds after which a deletion counts.
        witnesses: who has to cosign, as flags.
    """

    site: Site
    feed: FeedSimulator
    rules: Sequence[str] = ()
    authority: Authority | None = None
    others: Sequence[RegistrySimulator] = ()
    confirm_after: float = 0.0
    witnesses: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()

    def wishes(self, *, has_feed: bool = True) -> Wishes:
        """Return what the operator asks for."""
        url = self.feed.base if has_feed else None
        registries = [RegistrySettings(url=sim.base) for sim in (self.site.sim, *self.others)]
        config = Config(
            storage=f"{self.site.storage}?fsync=off",
            registries=tuple(registries),
            feed=FeedSettings(url=url, confirm_deletion=Seconds(self.confirm_after)),
        )
        limits = give_up_soon(config)
        return Wishes(config=limits, rules=tuple([parse_rule(rule, origin="a test") for rule in self.rules]))

    async def run(self, *names: str, has_feed: bool = True) -> RunSummary:
        """Run once: the named packages, or by the feed."""
        wishes = self.wishes(has_feed=has_feed)
        found = [PackageName(name) for name in names] or None
        publishing = PublishWishes(witnesses=self.witnesses, mirrors=self.mirrors)
        sumdb = replace(self.site.wishes(), session=wishes, publishing=publishing)
        async with open_for_writing(sumdb) as opened:
            return await run_ingest(
                wishes, SilentProgress(), opened=opened, is_once=True, names=found, authority=self.authority
            )

    async def events(self, name: str) -> list[str]:
        """Return what the log says of a package."""
        async with open_storage(self.site.storage) as storage:
            index = await read_index(storage, PackageName(name))
        return [f"{line.event} {line.version}" for line in index.lines]

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys of the storage below a prefix."""
        async with open_storage(self.site.storage) as storage:
            return await list_keys(storage, prefix)


def give_up_soon(config: Config) -> Config:
    """Return a configuration that gives up at once."""
    return replace(config, limits=type(config.limits)(retries=type(config.limits.retries)(1)))


async def _with(folder: Path, test: Callable[[Ingester], Awaitable[None]]) -> None:
    """Run a test with a log, a registry and its feed; a failed assertion comes out as it is."""
    failed: Exception | None = None
    async with open_site(folder) as site:
        feed = FeedSimulator(site.sim)
        async with serve(feed):
            try:
                await test(Ingester(site, feed))
            except Exception as error:  # noqa: BLE001 - raised again below, without the nurseries' groups round it
                failed = error
    if failed is not None:
        raise failed


async def test_the_feed_fills_the_log_and_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    """First everything, then what changed; what did not change is not asked for again."""

    async def work(ingester: Ingester) -> None:
        site = ingester.site
        site.publish("left", "1.0.0")
        site.publish("@scope/right", "1.0.0")
        summary = await ingester.run()
        assert (summary.exit_code(), summary.counts["log_records"]) == (ExitCode.COMPLETE, 2)
        site.publish("left", "2.0.0")
        site.sim.requests.clear()
        summary = await ingester.run()
        assert (summary.exit_code(), summary.counts["log_records"]) == (ExitCode.COMPLETE, 1)
        assert [request.target for request in site.sim.requests] == ["/left", "/left/-/left-2.0.0.tgz"]
        assert await ingester.events("left") == ["publish 1.0.0", "publish 2.0.0"]
        site.sim.requests.clear()
        summary = await ingester.run()
        assert (summary.exit_code(), summary.counts["log_records"], site.sim.requests) == (ExitCode.COMPLETE, 0, [])

    await _with(tmp_path, work)


async def test_a_follower_for_the_log_and_a_mirror_share_a_storage(tmp_path: Path) -> None:
    """Each has its own cursor, records and notes; neither knows of the other."""

    async def work(ingester: Ingester) -> None:
        ingester.site.publish("left", "1.0.0")
        ingester.rules = ["*"]
        await ingester.run()
        assert await ingester.keys("state/cursor/") == await ingester.keys("state/package/") == []
        assert await ingester.keys("state/sumdb/follow/") == [
            "state/sumdb/follow/state/cursor/1-of-1.json",
            "state/sumdb/follow/state/package/left.json",
        ]
        ingester.rules = ["left"]
        summary = await run_sync(ingester.wishes(), SilentProgress())
        assert (summary.exit_code(), summary.counts["packages_updated"]) == (ExitCode.COMPLETE, 1)
        assert await ingester.keys("state/package/") == ["state/package/left.json"]

    await _with(tmp_path, work)


async def test_a_changed_integrity_is_exit_4_once_and_the_evidence_is_kept(tmp_path: Path) -> None:
    """The conflict is logged and told; the run after that has nothing new to tell."""

    async def work(ingester: Ingester) -> None:
        site = ingester.site
        site.publish("left", "1.0.0")
        await ingester.run()
        site.sim.republish("left", "1.0.0", {"index.js": b"evil"}, signer=site.signer)
        summary = await ingester.run()
        assert (summary.exit_code(), summary.counts["log_conflicts"]) == (ExitCode.DIVERGENCE, 1)
        assert summary.evidence == ["evidence/sumdb/left/1.0.0/"]
        assert len(await ingester.keys("evidence/sumdb/left/1.0.0/")) == 1
        assert "left@1.0.0: " in summary.alarms[-1]
        assert await ingester.events("left") == ["publish 1.0.0", "conflict 1.0.0"]
        assert (await ingester.run()).exit_code() is ExitCode.COMPLETE
        assert (await ingester.run("left")).exit_code() is ExitCode.COMPLETE

    await _with(tmp_path, work)


async def test_refusals_are_counted_by_their_reason(tmp_path: Path) -> None:
    """What can never be logged is complete; bytes and signatures that disagree are a divergence, each time."""

    async def work(ingester: Ingester) -> None:
        site = ingester.site
        site.publish("good", "1.0.0")
        site.sim.publish("weak", "1.0.0", dist={"integrity": None})
        summary = await ingester.run()
        assert summary.exit_code() is ExitCode.COMPLETE
        assert (summary.counts["log_refused_no-sha512"], summary.counts["blocked_no-digest"]) == (1, 1)
        site.publish("forged", "1.0.0")
        dist = site.sim.edit_packument("forged")["versions"]["1.0.0"]["dist"]
        dist["signatures"] = [site.signer.sign("forged", "2.0.0", dist["integrity"])]
        site.publish("swapped", "1.0.0")
        site.sim.replace_bytes("swapped", "1.0.0", make_tarball({"x": b"evil"}, name="swapped", version="1.0.0"))
        summary = await ingester.run()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert (summary.counts["log_refused_signature"], summary.counts["log_refused_bytes"]) == (1, 1)
        assert {problem.name for problem in summary.problems} == {"forged", "swapped"}
        assert await ingester.events("forged") == await ingester.events("swapped") == []
        assert await ingester.keys("state/sumdb/refused/") == [
            "state/sumdb/refused/forged.json",
            "state/sumdb/refused/swapped.json",
            "state/sumdb/refused/weak.json",
        ]

    await _with(tmp_path, work)


async def test_withdrawals_come_by_the_feed(tmp_path: Path) -> None:
    """Unpublished, held for security, and deleted: the last one counts when a second look confirms it."""

    async def work(ingester: Ingester) -> None:
        sim = ingester.site.sim
        for name in ("unpublished", "held", "deleted"):
            ingester.site.publish(name, "1.0.0")
        await ingester.run()
        sim.unpublish("unpublished", "1.0.0")
        sim.replace_by_holder("held")
        sim.remove("deleted")
        ingester.confirm_after = 3600
        summary = await ingester.run()
        assert (summary.exit_code(), summary.counts["packages_unfinished"]) == (ExitCode.PARTIAL, 1)
        assert await ingester.events("deleted") == ["publish 1.0.0"]
        ingester.confirm_after = 0
        summary = await ingester.run()
        assert (summary.exit_code(), summary.counts["log_withdrawals"]) == (ExitCode.COMPLETE, 1)
        assert await ingester.events("unpublished") == ["publish 1.0.0", "unpublish 1.0.0"]
        assert await ingester.events("deleted") == ["publish 1.0.0", "unpublish 1.0.0"]
        assert await ingester.events("held") == ["publish 1.0.0", "publish 0.0.1-security", "security-hold 1.0.0"]
        assert (await ingester.run("deleted")).counts["log_withdrawals"] == 0
        ingester.site.publish("deleted", "2.0.0")
        await ingester.run()
        assert (await ingester.events("deleted"))[2:] == ["publish 2.0.0"]

    await _with(tmp_path, work)


async def test_named_packages_need_no_feed(tmp_path: Path) -> None:
    """Only these are asked for; one that the registry does not have is told."""

    async def work(ingester: Ingester) -> None:
        ingester.site.publish("left", "1.0.0")
        ingester.site.publish("right", "1.0.0")
        ingester.rules = ["left", "none"]
        summary = await ingester.run("left", "none", has_feed=False)
        assert (summary.exit_code(), summary.counts["log_records"]) == (ExitCode.PARTIAL, 1)
        assert [problem.name for problem in summary.problems] == ["none"]
        assert await ingester.events("right") == []

    await _with(tmp_path, work)


async def test_only_selected_versions_are_logged(tmp_path: Path) -> None:
    """A wish for more, later, is found although no document changed; a version that does not exist is told."""

    async def work(ingester: Ingester) -> None:
        for version in ("1.0.0", "1.1.0", "2.0.0"):
            ingester.site.publish("left", version)
        ingester.rules = ["left@^1", "left@9.9.9"]
        summary = await ingester.run("left", has_feed=False)
        assert (summary.exit_code(), summary.counts["blocked_missing"]) == (ExitCode.PARTIAL, 1)
        assert await ingester.events("left") == ["publish 1.0.0", "publish 1.1.0"]
        ingester.rules = ["left"]
        assert (await ingester.run("left", has_feed=False)).exit_code() is ExitCode.COMPLETE
        assert (await ingester.events("left"))[2:] == ["publish 2.0.0"]

    await _with(tmp_path, work)


async def test_attack_a_registry_cannot_log_names_that_are_not_its_own(tmp_path: Path) -> None:
    """Its feed may say what it likes; a name that somebody asks for by hand is an error before anything is asked."""

    async def work(ingester: Ingester) -> None:
        other = RegistrySimulator()
        async with serve(other):
            ours, theirs = registry_of(ingester.site.sim.base), registry_of(other.base)
            ingester.authority = make_authority([("@acme", theirs)], default=ours)
            ingester.site.publish("@acme/tool", "1.0.0")
            ingester.site.publish("left", "1.0.0")
            with pytest.raises(ConfigurationError, match="is to be asked, and is none of the registries"):
                await ingester.run()
            ingester.others = [other]
            assert (await ingester.run()).exit_code() is ExitCode.COMPLETE
            assert (await ingester.events("@acme/tool"), await ingester.events("left")) == ([], ["publish 1.0.0"])
            other.publish("@acme/tool", "2.0.0")
            await ingester.run("@acme/tool")
            assert await ingester.events("@acme/tool") == ["publish 2.0.0"]
            ingester.authority, ingester.others = make_authority([("left", ours)]), []
            with pytest.raises(ConfigurationError, match="right is not logged here: it belongs to no registry"):
                await ingester.run("left", "right")

    await _with(tmp_path, work)


async def test_without_feed_or_names_there_is_nothing_to_do(tmp_path: Path) -> None:
    """And the message says what to write."""

    async def work(ingester: Ingester) -> None:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group round it, or not
            await ingester.run(has_feed=False)
        (error,) = leaves_of(caught.value)
        assert isinstance(error, ConfigurationError)
        assert "no feed to follow" in str(error)

    await _with(tmp_path, work)


async def test_what_could_not_be_had_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    """One tarball is missing: the others are logged, the package is noted, and then completed."""

    async def work(ingester: Ingester) -> None:
        ingester.site.publish("left", "1.0.0")
        ingester.site.publish("left", "2.0.0")
        ingester.site.sim.fail("/left/-/left-1.0.0.tgz", Fault.status(404), times=None)
        summary = await ingester.run()
        assert (summary.exit_code(), await ingester.events("left")) == (ExitCode.PARTIAL, ["publish 2.0.0"])
        ingester.site.sim.heal()
        assert (await ingester.run()).exit_code() is ExitCode.COMPLETE
        assert await ingester.events("left") == ["publish 2.0.0", "publish 1.0.0"]
        assert await ingester.keys("state/sumdb/follow/state/unfinished/") == []

    await _with(tmp_path, work)


async def test_a_version_that_is_missing_for_a_moment_is_owed(tmp_path: Path) -> None:
    """A lagging edge's document is no withdrawal: the package is noted until it shows again."""

    async def work(ingester: Ingester) -> None:
        ingester.site.publish("left", "1.0.0")
        ingester.site.publish("left", "2.0.0")
        await ingester.run()
        document = ingester.site.sim.edit_packument("left")
        taken = {part: document[part].pop("2.0.0") for part in ("versions", "time")}
        ingester.confirm_after = 3600
        summary = await ingester.run()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert "does not list 1 logged versions" in summary.problems[0].reason
        document = ingester.site.sim.edit_packument("left")
        for part, value in taken.items():
            document[part]["2.0.0"] = value
        assert (await ingester.run()).exit_code() is ExitCode.COMPLETE
        assert await ingester.events("left") == ["publish 1.0.0", "publish 2.0.0"]

    await _with(tmp_path, work)


async def test_before_the_witnesses_agree_to_what_there_is_nothing_is_added(tmp_path: Path) -> None:
    """The log may be an older copy, and nobody says so: the job ends without a record, and is not complete."""

    async def work(ingester: Ingester) -> None:
        ingester.site.publish("left", "1.0.0")
        ingester.witnesses = (f"{W1.verifier}=http://127.0.0.1:1",)
        for names in (["left"], []):
            summary = await ingester.run(*names, has_feed=not names)
            assert (summary.exit_code(), await ingester.events("left")) == (ExitCode.PARTIAL, [])
            assert summary.alarms[-1].startswith(
                "nothing was added: what is logged already is not published yet: the quorum is not met"
            )
        ingester.witnesses = ()
        assert (await ingester.run("left", has_feed=False)).exit_code() is ExitCode.COMPLETE

    await _with(tmp_path, work)


async def test_what_no_witness_cosigned_is_logged_and_not_complete(tmp_path: Path) -> None:
    """The record is durable, the published checkpoint is the older one, and the exit code says that there is more."""

    async def work(ingester: Ingester) -> None:
        ingester.site.publish("left", "1.0.0")
        witness = FakeWitness(W1, log=ingester.site.keys)
        cosigned = list[int]()

        def once(asked: AddCheckpoint) -> list[Signature]:
            cosigned.append(asked.checkpoint.size)
            return [sign_as(W1 if len(cosigned) == 1 else W2, asked)]

        witness.lines = once
        async with serve(witness):
            ingester.witnesses = tuple(witness.flags)
            summary = await ingester.run("left", has_feed=False)
        assert (summary.exit_code(), await ingester.events("left")) == (ExitCode.PARTIAL, ["publish 1.0.0"])
        assert summary.alarms[-1].startswith("what is logged now is not published yet: the quorum is not met")

    await _with(tmp_path, work)


async def test_a_job_brings_what_it_published_to_log_mirrors(tmp_path: Path) -> None:
    """Before it ends; one that is down is told, and makes nothing incomplete that the log promised."""

    async def work(ingester: Ingester) -> None:
        site = ingester.site
        world = mirror_of(site)
        app = LogMirrorApp(mirror=await world.start(), storage=world.storage)
        site.publish("left", "1.0.0")
        async with listening(app) as url:
            ingester.mirrors = (f"{OURS.verifier}={url}",)
            summary = await ingester.run("left", has_feed=False)
            assert (summary.exit_code(), mirrored(site, world)) == (ExitCode.COMPLETE, 1)
        site.publish("left", "1.1.0")
        summary = await ingester.run("left", has_feed=False)
        assert (summary.exit_code(), mirrored(site, world)) == (ExitCode.COMPLETE, 1)
        assert "log mirror mirror.example/m1: was not brought all that is published" in summary.alarms[-1]

    await _with(tmp_path, work)


async def test_a_feed_that_cannot_be_read_ends_a_run_that_is_made_once(tmp_path: Path) -> None:
    """As for a mirror: the error goes up, and nothing was changed."""

    async def work(ingester: Ingester) -> None:
        ingester.feed.fail("/", Fault.status(503, retry_after="0"), times=None)
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group round it, or not
            await ingester.run()
        assert isinstance(leaves_of(caught.value)[0], UpstreamUnreachableError)

    await _with(tmp_path, work)
