"""A mirror whose log is down, forks, lies by silence or is only listened to: what is served then, and what is told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mirrorwitness.errors import ExitCode, ForkError
from mirrorwitness.mirror.audit import FindingKind
from mirrorwitness.mirror.logword import QUIET_SECONDS
from mirrorwitness.mirror.owed import Announced
from mirrorwitness.mirror.receipts import Receipts
from mirrorwitness.mirror.result import Status
from mirrorwitness.mirror.voucher import Claim, LogCheck, Vouched
from mirrorwitness.mirror.vouching import Vouching
from mirrorwitness.mirror.watermark import Page
from mirrorwitness.mirror.withdrawal import WithdrawnPolicy
from mirrorwitness.mirror.workload import Workload
from mirrorwitness.npm.changes import Seq
from mirrorwitness.npm.names import Version
from tests.fakes.registry_build import integrity_of
from tests.fakes.simulated_log import open_simulated_log
from tests.unit.mirror.logged import DOWN, NAME, PROOF, log_of, make_logged


async def test_a_version_that_is_logged_in_the_middle_of_a_run_is_found(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What the tree of the run does not have is looked up once more in a newer one, as on-demand growth needs."""
    assert autojump_clock is not None
    mirror = await make_logged()
    log = log_of(mirror)
    voucher = log.make_voucher(mirror.storage)
    await voucher.start()
    await trio.sleep(2 * QUIET_SECONDS)
    mirror.sims[0].publish("left-pad", "2.0.0")
    await log.add(mirror.sims[0], "left-pad", "2.0.0")
    sri = integrity_of(mirror.sims[0].tarball("left-pad", "2.0.0"))
    answers = await voucher.vouch(NAME, [Claim(Version("2.0.0"), sri, None)])
    answer = answers[Version("2.0.0")]
    assert isinstance(answer, Vouched)
    assert (answer.index, answer.size) == (2, 3)


async def test_a_log_that_is_down_withholds_what_is_new_and_nothing_else() -> None:
    """Exit 3; what was vouched for stays, other changes are taken over, and the log is asked once, not for each."""
    mirror = await make_logged()
    await mirror.sync_well()
    mirror.sims[0].publish("left-pad", "2.0.0")
    mirror.sims[0].publish("left-pad", "2.1.0")
    mirror.sims[0].deprecate("left-pad", "1.0.0", "old")
    log_of(mirror).error = DOWN
    summary = await mirror.sync()
    assert (summary.exit_code(), mirror.served("left-pad")) == (ExitCode.PARTIAL, ["1.0.0", "1.1.0"])
    assert mirror.document("left-pad")["versions"]["1.0.0"]["deprecated"] == "old"
    assert summary.counts["blocked_unvouched"] == 2
    assert "the log could not be asked: log.example: no answer" in summary.problems[0].reason
    assert log_of(mirror).asked[2:] == []
    log_of(mirror).error = None
    await log_of(mirror).add(mirror.sims[0], "left-pad", "2.0.0", "2.1.0")
    await mirror.sync_well()


async def test_attack_the_log_forks_during_a_run() -> None:
    """The head is not on one line with what this mirror saw before: everything stops, with exit 4 and evidence."""
    mirror = await make_logged()
    await mirror.sync_well()
    mirror.rules.append("right-pad")
    mirror.sims[0].publish("right-pad", "1.0.0")
    fork = await open_simulated_log()
    await fork.add(mirror.sims[0], "left-pad", "1.1.0", "1.0.0")
    await fork.add(mirror.sims[0], "right-pad", "1.0.0")
    mirror.log = fork
    before = mirror.storage.objects
    with pytest.raises(ForkError, match="signed two histories"):
        await fork.make_voucher(mirror.storage).start()
    summary = await mirror.sync()
    assert (summary.exit_code(), type(summary.fatal)) == (ExitCode.DIVERGENCE, ForkError)
    assert "evidence" in str(summary.fatal)
    new = mirror.storage.objects.keys() - before.keys()
    assert [key.partition("/")[0] for key in new] == ["evidence"]


async def test_attack_the_log_forks_while_a_feed_is_followed() -> None:
    """The workload takes nothing on any more, and the package that met it is not done: its cursor stays before it."""
    mirror = await make_logged()
    await mirror.sync_well()
    mirror.sims[0].publish("left-pad", "2.0.0")
    mirror.log = await open_simulated_log()
    await log_of(mirror).add(mirror.sims[0], "left-pad", "2.0.0", "1.1.0", "1.0.0")
    attempts = (await mirror.make_run())._attempts
    workload, page = Workload(attempts=attempts, receipts=Receipts(), workers=2), Page(Seq("1"))
    async with trio.open_nursery() as nursery:
        await nursery.start(workload.run)
        await workload.offer(NAME, Announced("9-x"), page)
        await workload.wait_quiet()
        workload.close()
    assert (workload.is_broken, attempts.summary.exit_code()) == (True, ExitCode.DIVERGENCE)
    assert await mirror.note("left-pad") is None
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]


async def test_what_upstream_withdrew_and_we_hold_needs_its_word_too() -> None:
    """`hold` serves on what was vouched for, also where the whole package was deleted and the log is down."""
    mirror = await make_logged()
    mirror.withdrawn = WithdrawnPolicy.HOLD
    await mirror.sync_well()
    mirror.sims[0].remove("left-pad")
    log_of(mirror).error = DOWN
    result = await mirror.confirm_deleted("left-pad")
    assert (result.status, mirror.served("left-pad")) == (Status.UPDATED, ["1.0.0", "1.1.0"])
    assert await mirror.audit() == []


async def test_attack_a_log_without_its_quorum_vouches_for_nothing() -> None:
    """A checkpoint that no witness cosigned is refused, and nothing new is visible."""
    mirror = await make_logged()
    log_of(mirror).shown = log_of(mirror).log.head
    summary = await mirror.sync()
    assert (summary.exit_code(), mirror.served("left-pad")) == (ExitCode.DIVERGENCE, [])
    assert "do not meet the quorum" in summary.problems[0].reason


async def test_attack_the_log_hides_a_version_from_us() -> None:
    """A log that says that it does not have a version only withholds it; nothing unproven takes its place."""
    mirror = await make_logged()
    log_of(mirror).absent.add("left-pad@1.1.0")
    assert (await mirror.sync()).exit_code() is ExitCode.PARTIAL
    assert mirror.served("left-pad") == ["1.0.0"]


@pytest.mark.parametrize("trouble", ["not logged", "other integrity", "down"])
async def test_warn_serves_and_tells(trouble: str) -> None:
    """`warn` takes nothing away; what the log does not vouch for is told and counted, a contradiction is exit 4."""
    mirror = await make_logged(check=LogCheck.WARN)
    log, sim = log_of(mirror), mirror.sims[0]
    if trouble == "down":
        log.error = DOWN
    elif trouble == "not logged":
        sim.publish("left-pad", "2.0.0")
    else:
        sim.republish("left-pad", "1.1.0", {"index.js": b"2"})
    summary = await mirror.sync()
    served, code, count, said = {
        "down": (["1.0.0", "1.1.0"], ExitCode.COMPLETE, 2, "could not be asked"),
        "not logged": (["1.0.0", "1.1.0", "2.0.0"], ExitCode.COMPLETE, 1, "does not have it yet"),
        "other integrity": (["1.0.0", "1.1.0"], ExitCode.DIVERGENCE, 1, "the registry promises"),
    }[trouble]
    assert (mirror.served("left-pad"), summary.exit_code(), summary.counts["unvouched"]) == (served, code, count)
    assert [alarm for alarm in summary.alarms if said in alarm] != []
    assert len(mirror.evidence()) == (trouble == "other integrity")
    assert len(mirror.keys("npm/left-pad/-/")) == len(served) + summary.counts["logged"]


async def test_another_policy_makes_the_proofs_anew() -> None:
    """What was proven under other terms is asked again, and a proof that the new ones refuse is replaced."""
    mirror = await make_logged()
    log = log_of(mirror)
    log.has_witness = False
    lonely = await open_simulated_log(has_witness=False)
    await lonely.add(mirror.sims[0], "left-pad", "1.0.0", "1.1.0")
    mirror.log = lonely
    await mirror.sync_well()
    before = mirror.storage.objects[PROOF]
    mirror.log = log
    log.has_witness = True
    assert {finding.kind for finding in await mirror.audit()} == {FindingKind.WRONG_PROOF}
    await mirror.sync_well()
    assert mirror.storage.objects[PROOF] != before


def test_vouching_shows_its_state() -> None:
    """The representation names the log."""
    vouching = Vouching(storage=None, voucher=None, check=LogCheck.REQUIRE, log="sumdb.example 1f")
    assert repr(vouching) == "<Vouching off 'sumdb.example 1f'>"


async def test_the_plan_says_what_the_log_does_not_vouch_for() -> None:
    """It prints the decision that sync takes."""
    mirror = await make_logged()
    mirror.sims[0].publish("left-pad", "2.0.0")
    plan = await mirror.plan()
    assert [(block.subject, str(block.kind)) for block in plan.packages[0].blocks] == [("2.0.0", "unvouched")]
    assert list(plan.packages[0].fetch) == ["1.0.0", "1.1.0"]
