"""LogVoucher: one batch of questions, what each answer is, and a log that fails, forks or stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ForkError, ProofError, SignatureError, UpstreamUnreachableError
from mirrorwitness.mirror.logword import QUIET_SECONDS, LogVoucher
from mirrorwitness.mirror.voucher import Claim, Contradiction, NotLogged, Silent, Vouched
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.registry import RegistrySimulator
from tests.fakes.registry_build import integrity_of
from tests.fakes.simulated_log import SimulatedLog, open_simulated_log
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    import trio.testing

NAME = PackageName("left")
DOWN = UpstreamUnreachableError("log.example: no answer")


async def make_log(*versions: str, has_witness: bool = True) -> tuple[SimulatedLog, list[Claim]]:
    """Return a log of some versions, and what a mirror claims of them."""
    sim = RegistrySimulator()
    for version in versions:
        sim.publish("left", version)
    log = await open_simulated_log(has_witness=has_witness)
    await log.add(sim, "left", *versions)
    return log, [Claim(Version(v), integrity_of(sim.tarball("left", v)), None) for v in versions]


async def test_a_batch_has_an_answer_for_each_claim() -> None:
    """All in one tree; each proof stands for itself."""
    versions = [f"1.0.{number}" for number in range(40)]
    log, claims = await make_log(*versions)
    voucher = log.make_voucher(MemoryStorage())
    assert repr(voucher) == "<LogVoucher of 'sumdb.example/test', not read>"
    assert await voucher.start() == []
    answers = await voucher.vouch(NAME, [*claims, Claim(Version("9.9.9"), integrity_of(b""), None)])
    assert isinstance(answers.pop(Version("9.9.9")), NotLogged)
    assert {(v, a.index, a.size) for v, a in answers.items() if isinstance(a, Vouched)} == {
        (version, index, 40) for index, version in enumerate(versions)
    }
    for claim in claims:
        answer = answers[claim.version]
        assert isinstance(answer, Vouched)
        assert voucher.check(answer.proof, NAME, claim).index == answer.index
    assert repr(voucher) == "<LogVoucher of 'sumdb.example/test', at 40>"
    assert voucher.origin == "sumdb.example/test"


async def test_a_log_without_witnesses_is_told() -> None:
    """Its own signature is enough where no policy says otherwise; the operator hears what that means."""
    log, _ = await make_log("1.0.0", has_witness=False)
    (said,) = await log.make_voucher(MemoryStorage()).start()
    assert "no witness vouches for the log 'sumdb.example/test'" in said


async def test_attack_a_log_that_shows_an_older_tree_is_told() -> None:
    """The newest tree that was verified counts; what the log shows now is named."""
    log, _ = await make_log("1.0.0", "2.0.0")
    trust = MemoryStorage()
    old = log.cosign(log.log.head)
    await log.append()
    sim = RegistrySimulator()
    sim.publish("left", "3.0.0")
    await log.add(sim, "left", "3.0.0")
    await log.make_voucher(trust).start()
    log.shown = old
    (said,) = await log.make_voucher(trust).start()
    assert "shows an older checkpoint than it did" in said


async def test_a_log_that_is_down_costs_one_wait(autojump_clock: trio.testing.MockClock) -> None:
    """After a failure every claim is silent at once; after a while the log is asked again."""
    log, claims = await make_log("1.0.0", "2.0.0")
    voucher = log.make_voucher(MemoryStorage())
    log.error = DOWN
    (said,) = await voucher.start()
    assert "cannot be read" in said
    for _ in range(3):
        answers = await voucher.vouch(NAME, claims)
        assert all(isinstance(answer, Silent) for answer in answers.values())
    assert log.asked == []
    log.error = None
    autojump_clock.jump(2 * QUIET_SECONDS)
    assert all(isinstance(answer, Vouched) for answer in (await voucher.vouch(NAME, claims)).values())


async def test_look_ups_that_fail_are_silent_and_end_the_batch(autojump_clock: trio.testing.MockClock) -> None:
    """The tree was read and the look-ups fail: what is on the wire is told, nothing more is sent."""
    versions = [f"1.0.{number}" for number in range(60)]
    log, claims = await make_log(*versions)
    voucher = log.make_voucher(MemoryStorage())
    await voucher.start()
    log.error = DOWN
    answers = await voucher.vouch(NAME, claims)
    assert all(isinstance(answer, Silent) for answer in answers.values())
    assert len(log.asked) < len(claims)
    log.error = None
    autojump_clock.jump(2 * QUIET_SECONDS)
    assert all(isinstance(answer, Vouched) for answer in (await voucher.vouch(NAME, claims)).values())


@pytest.mark.usefixtures("autojump_clock")
async def test_a_newer_tree_that_cannot_be_read_leaves_what_is_known() -> None:
    """What was found stays found; what was absent is absent."""
    log, claims = await make_log("1.0.0")
    voucher = log.make_voucher(MemoryStorage())
    await voucher.start()

    class Deaf:
        async def advance(self) -> None:
            raise DOWN

    voucher._ratchet = Deaf()  # type: ignore[assignment]
    answers = await voucher.vouch(NAME, [*claims, Claim(Version("2.0.0"), integrity_of(b""), None)])
    assert [type(answers[Version(version)]) for version in ("1.0.0", "2.0.0")] == [Vouched, NotLogged]


async def test_a_conflict_that_was_logged_since_the_head_was_read(autojump_clock: trio.testing.MockClock) -> None:
    """A follower runs for days: what it is asked later is asked in a tree of later."""
    log, claims = await make_log("1.0.0")
    voucher = log.make_voucher(MemoryStorage())
    assert isinstance((await voucher.vouch(NAME, claims))[Version("1.0.0")], Vouched)
    sim = RegistrySimulator()
    sim.publish(NAME, "1.0.0", files={"index.js": b"other"})
    await log.add(sim, NAME, "1.0.0")
    autojump_clock.jump(2 * QUIET_SECONDS)
    assert isinstance((await voucher.vouch(NAME, claims))[Version("1.0.0")], Contradiction)


async def test_attack_another_registrys_record() -> None:
    """A log of several registries: a record of ours vouches, one of another registry does not, whatever its bytes."""
    log, claims = await make_log("1.0.0")
    for registry, kind in (("registry.example", Vouched), ("other.example", Contradiction)):
        answer = (await log.make_voucher(MemoryStorage(), registry=registry).vouch(NAME, claims))[Version("1.0.0")]
        assert isinstance(answer, kind)
        if isinstance(answer, Contradiction):
            assert "is of registry.example, expected one of other.example" in answer.reason
            assert "sumdb.registry" in answer.reason


async def test_attack_an_answer_that_is_not_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up record is no answer but an error that ends the package, whatever it says."""
    log, claims = await make_log("1.0.0", "2.0.0")
    honest = log.read_lookup

    async def lie(name: PackageName, version: Version, *, size: int) -> bytes:
        lines = (await honest(name, Version("1.0.0"), size=size)).split(b"\n")
        return b"\n".join([*lines[:2], b"index 1", *lines[3:]])

    monkeypatch.setattr(log, "read_lookup", lie)
    with pytest.raises(ProofError, match=r"left@2\.0\.0: the answer is not in the log"):
        await log.make_voucher(MemoryStorage()).vouch(NAME, claims[1:])


async def test_an_answer_that_cannot_be_read_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in another language has said nothing about the version."""
    log, claims = await make_log("1.0.0")

    async def mumble(name: PackageName, version: Version, *, size: int) -> bytes:
        return b"<html>"

    monkeypatch.setattr(log, "read_lookup", mumble)
    answers = await log.make_voucher(MemoryStorage()).vouch(NAME, claims)
    assert isinstance(answers[Version("1.0.0")], Silent)


async def test_attack_a_fork_is_final(autojump_clock: trio.testing.MockClock) -> None:
    """Every further question raises it again, however long one waits."""
    log, claims = await make_log("1.0.0")
    other, _ = await make_log("2.0.0")
    trust = MemoryStorage()
    await log.make_voucher(trust).start()
    voucher: LogVoucher = other.make_voucher(trust)
    with pytest.raises(ForkError):
        await voucher.start()
    autojump_clock.jump(1000)
    other.shown = None
    for _ in range(2):
        with pytest.raises(ForkError, match="signed two histories"):
            await voucher.vouch(NAME, claims)


async def test_attack_a_fork_in_the_middle_of_a_run(autojump_clock: trio.testing.MockClock) -> None:
    """The tree of the run is good, the next one is of another history: questions in work are told too."""
    log, claims = await make_log("1.0.0")
    other, _ = await make_log("2.0.0", "3.0.0")
    voucher = log.make_voucher(MemoryStorage())
    await voucher.start()
    log.shown = other.cosign(other.log.head)
    log.storage = other.storage
    autojump_clock.jump(2 * QUIET_SECONDS)
    with pytest.raises(ForkError):
        await voucher.vouch(NAME, [Claim(Version("9.0.0"), integrity_of(b""), None)])
    with pytest.raises(ForkError):
        await voucher.vouch(NAME, claims)


async def test_attack_a_checkpoint_without_its_quorum(autojump_clock: trio.testing.MockClock) -> None:
    """It is refused each time, and accepted once the witness cosigned."""
    log, claims = await make_log("1.0.0")
    log.shown = log.log.head
    voucher = log.make_voucher(MemoryStorage())
    for _ in range(2):
        with pytest.raises(SignatureError, match="quorum"):
            await voucher.vouch(NAME, claims)
    log.shown = None
    autojump_clock.jump(2 * QUIET_SECONDS)
    assert isinstance((await voucher.vouch(NAME, claims))[Version("1.0.0")], Vouched)
