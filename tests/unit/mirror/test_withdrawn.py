"""What upstream withdraws, under each policy: unpublished, deleted, taken away for security, listed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mirrorwitness.errors import ExitCode, StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.result import Status
from mirrorwitness.mirror.rules import make_deny_rule
from mirrorwitness.mirror.withdrawal import Place, WithdrawnPolicy
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import SignaturePolicy
from tests.fakes.registry import RegistrySimulator, Signer
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import STAMP, make_mirror

if TYPE_CHECKING:
    from tests.unit.mirror.builder import Mirror

PAD = PackageName("left-pad")
ALL = tuple(WithdrawnPolicy)
FINAL = (WithdrawnPolicy.HIDE, WithdrawnPolicy.PURGE)
FOLLOW, HOLD, HIDE, PURGE = ALL


async def make_case(policy: WithdrawnPolicy, **wishes: Any) -> tuple[RegistrySimulator, Mirror]:
    """Return a registry with two versions of left-pad, the newer signed, and a mirror that holds both."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0", readme="old")
    sim.publish("left-pad", "1.1.0", signer=Signer(), readme="new")
    mirror = make_mirror(sim, rules=["left-pad"], withdrawn=policy, **wishes)
    await mirror.sync_well()
    return sim, mirror


class Relist:
    """Takes a version away and gives it back later, the same or another."""

    def __init__(self, sim: RegistrySimulator, version: str = "1.1.0") -> None:
        self._sim = sim
        self._version = version
        self._manifest = sim.packument("left-pad")["versions"][version]
        self._data = sim.tarball("left-pad", version)
        self._dist = self._manifest["dist"]

    def take(self) -> None:
        self._sim.unpublish("left-pad", self._version)

    def give(self) -> None:
        document = self._sim.edit_packument("left-pad")
        document.setdefault("versions", {})[self._version] = self._manifest
        document.setdefault("dist-tags", {"latest": self._version})
        self._sim.set_tarball("left-pad", f"left-pad-{self._version}.tgz", self._data)

    def give_other(self) -> None:
        self.give()
        self._sim.republish("left-pad", self._version, {"index.js": b"evil"})


async def release(mirror: Mirror, *versions: str) -> None:
    """Do what `mirrorwitness release` does before it brings the package up to date."""
    record = await mirror.record("left-pad")
    for version in versions:
        stone = record.versions[Version(version)].withdrawn
        await mirror.catalogue.add_release(PAD, Version(version), stone, seen=STAMP, reason="looked at it")


def doors(mirror: Mirror) -> tuple[list[str], list[str], list[str]]:
    """Return what is served, the tarballs in the public part, and those in quarantine."""
    names = [key.rpartition("left-pad-")[2].removesuffix(".tgz") for key in mirror.keys("npm/left-pad/-/")]
    aside = [key.rpartition("left-pad-")[2].removesuffix(".tgz") for key in mirror.keys("quarantine/")]
    return sorted(mirror.served("left-pad")), names, aside


@pytest.mark.parametrize(
    ("policy", "served", "stored"),
    [
        (FOLLOW, ["1.0.0"], ["1.0.0", "1.1.0"]),
        (HOLD, ["1.0.0", "1.1.0"], ["1.0.0", "1.1.0"]),
        (HIDE, ["1.0.0"], ["1.0.0", "1.1.0"]),
        (PURGE, ["1.0.0"], ["1.0.0"]),
    ],
)
class TestUnpublished:
    async def test_row_01_a_version(self, policy: WithdrawnPolicy, served: list[str], stored: list[str]) -> None:
        """Both doors say the same; the tombstone tells what, when, under which policy, with the digests; exit 0."""
        sim, mirror = await make_case(policy)
        before = (await mirror.record("left-pad")).versions[Version("1.1.0")]
        manifest = mirror.document("left-pad")["versions"]["1.1.0"]
        sim.unpublish("left-pad", "1.1.0")
        summary = await mirror.sync_well()
        assert doors(mirror) == (served, stored, [])
        (stone,) = mirror.tombstones()
        assert (stone["event"], stone["version"], stone["seen"], stone["policy"]) == (
            "unpublished", "1.1.0", STAMP, policy,
        )  # fmt: skip
        assert (stone["held"]["sri"], stone["held"]["size"]) == (before.sri, before.size)
        assert (stone["manifest"], stone["upstream"]["dist-tags"]) == (manifest, {"latest": "1.0.0"})
        assert len(summary.alarms) == 1
        held = (await mirror.record("left-pad")).versions[Version("1.1.0")]
        assert (held.sri, held.served) == (before.sri, policy is HOLD)
        assert (await mirror.sync_well()).counts["packages_unchanged"] == 1

    async def test_row_02_the_whole_package(
        self, policy: WithdrawnPolicy, served: list[str], stored: list[str]
    ) -> None:
        """The stub means the same for every version; under hold nothing changes for those who install."""
        sim, mirror = await make_case(policy)
        before = mirror.document("left-pad")
        sim.unpublish("left-pad")
        await mirror.sync_well()
        is_held = policy is HOLD
        assert doors(mirror) == (served if is_held else [], [] if policy is PURGE else ["1.0.0", "1.1.0"], [])
        assert [stone["event"] for stone in mirror.tombstones()] == ["unpublished"] * 2
        assert "versions" in mirror.tombstones()[0]["upstream"]["time.unpublished"]
        if is_held:
            document = mirror.document("left-pad")
            assert document == before
            assert "unpublished" not in document["time"]
        assert (await mirror.sync_well()).counts["packages_unchanged"] == 1
        assert stored

    async def test_row_03_a_confirmed_deletion(
        self, policy: WithdrawnPolicy, served: list[str], stored: list[str]
    ) -> None:
        """The same again, and the next 404 is what is known already: complete."""
        sim, mirror = await make_case(policy)
        before = mirror.document("left-pad")
        sim.remove("left-pad")
        result = await mirror.confirm_deleted("left-pad")
        assert result.status is Status.UPDATED
        assert doors(mirror)[0] == (served if policy is HOLD else [])
        assert [stone["event"] for stone in mirror.tombstones()] == ["deleted"] * 2
        assert mirror.tombstones()[0]["upstream"] == {"status": "404, confirmed"}
        if policy is HOLD:
            assert mirror.document("left-pad") == before
        assert (await mirror.sync_well()).counts["packages_unchanged"] == 1
        assert stored


@pytest.mark.parametrize("policy", ALL)
class TestSecurity:
    async def test_row_04_a_security_holder(self, policy: WithdrawnPolicy) -> None:
        """Under every policy no door leads to the old versions, an alarm says so, and purge deletes them."""
        sim, mirror = await make_case(policy)
        sim.replace_by_holder("left-pad")
        summary = await mirror.sync_well()
        aside = [] if policy is PURGE else ["1.0.0", "1.1.0"]
        assert doors(mirror) == (["0.0.1-security"], ["0.0.1-security"], aside)
        assert [stone["event"] for stone in mirror.tombstones()] == ["security-holder"] * 2
        assert mirror.tombstones()[0]["upstream"]["description"] == "security holding package"
        assert ("purged" if policy is PURGE else "quarantined") in summary.alarms[0]

    async def test_row_04_what_was_held_before_is_quarantined(self, policy: WithdrawnPolicy) -> None:
        """Unpublished first, taken away for security later: the second event has the last word, both are told."""
        sim, mirror = await make_case(policy)
        sim.unpublish("left-pad", "1.0.0")
        await mirror.sync_well()
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        assert doors(mirror)[0] == ["0.0.1-security"]
        assert doors(mirror)[2] == ([] if policy is PURGE else ["1.0.0", "1.1.0"])
        events = [stone["event"] for stone in mirror.tombstones() if stone["version"] == "1.0.0"]
        assert events == ["security-holder", "unpublished"]

    async def test_row_04_listed_again_it_stays_in_quarantine_until_released(self, policy: WithdrawnPolicy) -> None:
        """Upstream's second thoughts do not open the door; a person does. Then the very same bytes are served."""
        sim, mirror = await make_case(policy)
        relist = Relist(sim)
        data = mirror.tarball("left-pad", "1.1.0")
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        sim.unpublish("left-pad", "0.0.1-security")
        relist.give()
        summary = await mirror.sync_well()
        assert "1.1.0" not in mirror.served("left-pad")
        assert summary.counts["blocked_withdrawn"] == 1
        await release(mirror, "1.1.0")
        await mirror.sync_well()
        assert "1.1.0" in mirror.served("left-pad")
        assert mirror.tarball("left-pad", "1.1.0") == data
        assert (await mirror.record("left-pad")).versions[Version("1.1.0")].withdrawn == ""

    async def test_row_04_a_release_ends_with_the_next_event(self, policy: WithdrawnPolicy) -> None:
        """Attack: what a person let out once is no way round a later takedown."""
        sim, mirror = await make_case(policy)
        relist = Relist(sim)
        relist.take()
        await mirror.sync_well()
        if policy is not HOLD:
            await release(mirror, "1.1.0")
        relist.give()
        await mirror.sync_well()
        assert "1.1.0" in mirror.served("left-pad")
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        assert doors(mirror)[0] == ["0.0.1-security"]

    async def test_p5_other_bytes_later_are_a_divergence(self, policy: WithdrawnPolicy) -> None:
        """Quarantined or purged, the digest is remembered: other bytes are evidence, and are not stored."""
        sim, mirror = await make_case(policy)
        relist = Relist(sim)
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        relist.give_other()
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == ["0.0.1-security"]
        assert mirror.evidence()[0]["kind"] == "equivocation"
        check_invariants(mirror.storage.objects)


class TestRelisted:
    @pytest.mark.parametrize("policy", ALL)
    async def test_the_same_bytes(self, policy: WithdrawnPolicy) -> None:
        """Follow and hold serve it; hide and purge wait for a person, and purge then fetches and verifies it again."""
        sim, mirror = await make_case(policy)
        relist = Relist(sim)
        data = mirror.tarball("left-pad", "1.1.0")
        relist.take()
        await mirror.sync_well()
        relist.give()
        summary = await mirror.sync_well()
        if policy in FINAL:
            assert mirror.served("left-pad") == ["1.0.0"]
            assert summary.counts["blocked_withdrawn"] == 1
            await release(mirror, "1.1.0")
            summary = await mirror.sync_well()
            assert summary.counts["tarballs_downloaded"] == (1 if policy is PURGE else 0)
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        assert mirror.tarball("left-pad", "1.1.0") == data
        held = (await mirror.record("left-pad")).versions[Version("1.1.0")]
        assert (held.withdrawn, held.released, held.place) == ("", False, Place.PUBLIC)
        assert [stone["event"] for stone in mirror.tombstones()] == ["relisted", "unpublished"]
        assert "lists 1 versions again" in summary.alarms[0]

    @pytest.mark.parametrize("policy", ALL)
    async def test_p5_other_bytes(self, policy: WithdrawnPolicy) -> None:
        """An equivocation under every policy; hold goes on serving the first bytes, nobody serves the others."""
        sim, mirror = await make_case(policy)
        relist = Relist(sim)
        data = mirror.tarball("left-pad", "1.1.0")
        relist.take()
        await mirror.sync_well()
        relist.give_other()
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == (["1.0.0", "1.1.0"] if policy is HOLD else ["1.0.0"])
        assert mirror.tarball("left-pad", "1.1.0") == (None if policy is PURGE else data)
        assert mirror.evidence()[0]["held"]["sri"]
        check_invariants(mirror.storage.objects)

    @pytest.mark.parametrize("policy", ALL)
    async def test_a_deleted_package_that_is_published_anew(self, policy: WithdrawnPolicy) -> None:
        """New versions are served; the old ones stay as the policy has them."""
        sim, mirror = await make_case(policy)
        sim.remove("left-pad")
        await mirror.confirm_deleted("left-pad")
        sim.publish("left-pad", "2.0.0")
        await mirror.sync_well()
        assert sorted(mirror.served("left-pad")) == (["1.0.0", "1.1.0", "2.0.0"] if policy is HOLD else ["2.0.0"])
        assert mirror.document("left-pad")["dist-tags"]["latest"] == "2.0.0"
        assert (await mirror.record("left-pad")).deleted == ""


class TestHold:
    async def test_p4_a_held_manifest_keeps_every_field_and_its_time(self) -> None:
        """Upstream's document with our manifest in it: readme, signature and time of publication are as they were."""
        sim, mirror = await make_case(HOLD)
        before = mirror.document("left-pad")
        sim.unpublish("left-pad", "1.1.0")
        del sim.edit_packument("left-pad")["time"]["1.1.0"]
        await mirror.sync_well()
        document = mirror.document("left-pad")
        assert document["versions"]["1.1.0"] == before["versions"]["1.1.0"]
        assert document["time"]["1.1.0"] == before["time"]["1.1.0"]
        assert document["dist-tags"] == {"latest": "1.0.0"}

    async def test_p2_a_denied_version_is_not_held(self) -> None:
        """The held version goes through the gate like any other: deny rules and signatures count."""
        sim, mirror = await make_case(
            HOLD, denied=[make_deny_rule("left-pad", versions="1.0.0", reason="no", origin="t")]
        )
        sim.unpublish("left-pad")
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.1.0"]
        mirror.denied = []
        mirror.policy = SignaturePolicy.REQUIRE
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.1.0"]

    async def test_p2_what_was_hidden_comes_back_from_its_tombstone(self) -> None:
        """A changed policy is picked up by the next run: hide, then hold, then hide, then purge."""
        sim, mirror = await make_case(HIDE)
        before = mirror.document("left-pad")
        sim.unpublish("left-pad")
        await mirror.sync_well()
        mirror.withdrawn = HOLD
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
        assert mirror.document("left-pad")["versions"] == before["versions"]
        mirror.withdrawn = HIDE
        await mirror.sync_well()
        assert doors(mirror) == ([], ["1.0.0", "1.1.0"], [])
        mirror.withdrawn = PURGE
        await mirror.sync_well()
        assert doors(mirror) == ([], [], [])
        mirror.withdrawn = HOLD
        await mirror.sync_well()
        assert doors(mirror) == ([], [], [])
        assert len(mirror.tombstones()) == 2

    async def test_p2_a_changed_policy_reaches_a_deleted_package(self) -> None:
        """Deleted under follow, held later: the 404 is asked once more, and the package comes back."""
        sim, mirror = await make_case(FOLLOW)
        sim.remove("left-pad")
        await mirror.confirm_deleted("left-pad")
        assert mirror.served("left-pad") == []
        mirror.withdrawn = HOLD
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]

    @pytest.mark.parametrize("damage", ["tampered", "rotten"])
    async def test_p1_only_what_is_sound_is_held(self, damage: str) -> None:
        """A manifest that somebody altered, or bytes that rotted while hidden, are not served by a change of policy."""
        sim, mirror = await make_case(HIDE)
        sim.unpublish("left-pad", "1.1.0")
        await mirror.sync_well()
        if damage == "rotten":
            mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.1.0"), b"rotten")
        else:
            (key,) = mirror.keys("state/tombstones/")
            mine = (await mirror.record("left-pad")).versions[Version("1.1.0")].sri
            other = f"sha512-{'A' * 86}=="
            mirror.storage.set_bytes(key, mirror.storage.objects[key].replace(mine.encode(), other.encode()))
        mirror.withdrawn = HOLD
        await mirror.sync()
        assert mirror.served("left-pad") == ["1.0.0"]
        check_invariants(mirror.storage.objects)

    async def test_a_manifest_too_large_for_a_tombstone_is_held_while_the_document_has_it(self) -> None:
        """P10: tombstones are bounded; what they cannot keep is served from the stored document, and not after it."""
        sim = RegistrySimulator()
        sim.publish("left-pad", "1.0.0")
        sim.publish("left-pad", "1.1.0", readme="x" * 300_000)
        mirror = make_mirror(sim, rules=["left-pad"], withdrawn=HOLD)
        await mirror.sync_well()
        sim.unpublish("left-pad", "1.1.0")
        await mirror.sync_well()
        assert sorted(mirror.served("left-pad")) == ["1.0.0", "1.1.0"]
        assert "manifest" not in mirror.tombstones()[0]
        for policy, served in ((HIDE, ["1.0.0"]), (HOLD, ["1.0.0"])):
            mirror.withdrawn = policy
            await mirror.sync_well()
            assert mirror.served("left-pad") == served


class TestRelease:
    @pytest.mark.parametrize("policy", [FOLLOW, HOLD, HIDE])
    async def test_a_quarantined_version_is_served_from_its_tombstone(self, policy: WithdrawnPolicy) -> None:
        """Upstream has the placeholder only; one version is let out, with its bytes verified, the other stays."""
        sim, mirror = await make_case(policy)
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        await release(mirror, "1.1.0")
        await mirror.sync_well()
        assert doors(mirror) == (["0.0.1-security", "1.1.0"], ["0.0.1-security", "1.1.0"], ["1.0.0"])
        assert (await mirror.sync_well()).counts["packages_unchanged"] == 1

    async def test_p1_bytes_that_rotted_in_quarantine_are_not_let_out(self) -> None:
        """They are verified on their way; the version stays out, and the rest of the package is served."""
        sim, mirror = await make_case(FOLLOW)
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        mirror.storage.set_bytes(layout.quarantine_key(PAD, "left-pad-1.1.0.tgz"), b"rotten")
        await release(mirror, "1.1.0")
        await mirror.sync()
        assert mirror.served("left-pad") == ["0.0.1-security"]
        check_invariants(mirror.storage.objects)

    async def test_a_purged_version_cannot_be_released_into_nothing(self) -> None:
        """P2: bytes that are gone are named by no document, whoever releases them."""
        sim, mirror = await make_case(PURGE)
        sim.unpublish("left-pad", "1.1.0")
        await mirror.sync_well()
        await release(mirror, "1.1.0")
        await mirror.sync_well()
        assert mirror.served("left-pad") == ["1.0.0"]

    async def test_a_release_is_read_only_where_something_is_withdrawn(self) -> None:
        """P9: a package without withdrawals costs no listing."""
        _, mirror = await make_case(FOLLOW)
        mirror.storage.operations.clear()
        await mirror.sync_well()
        assert mirror.storage.keys_of("list") == [] or all(
            not key.startswith("state/releases/") for key in mirror.storage.keys_of("list")
        )


@pytest.mark.parametrize("policy", ALL)
@pytest.mark.parametrize("event", ["version", "package", "holder"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_row_36_a_run_that_dies_at_any_write_is_finished_by_the_next(
    policy: WithdrawnPolicy, event: str, when: str
) -> None:
    """P2: whichever put or delete fails, before or after it took effect, no document names what is not there."""
    for number in range(40):
        sim, mirror = await make_case(policy)
        if event == "holder":
            sim.replace_by_holder("left-pad")
        else:
            sim.unpublish("left-pad", "1.1.0" if event == "version" else None)
        storage = mirror.storage
        storage.operations.clear()
        done = await _fail_write(mirror, number, when)
        check_invariants(storage.objects)
        storage.heal()
        await mirror.sync_well()
        expected = await _settled(policy, event)
        assert doors(mirror) == expected
        stones = [(stone["version"], stone["event"]) for stone in mirror.tombstones()]
        assert len(stones) == len(set(stones))
        if done:
            return
    raise AssertionError("a run of 40 writes: raise the number")


async def _fail_write(mirror: Mirror, number: int, when: str) -> bool:
    """Sync with the write of that number failing; return whether there was none."""
    storage = mirror.storage
    count = 0
    begin, fail = storage._begin, storage._fail

    def check(operation: Any, key: str, *, after: bool) -> None:
        nonlocal count
        if operation in {"put", "delete"} and after == (when == "after"):
            count += 1
            if count == number + 1:
                raise StorageUnavailableError("lost")
        fail(operation, key, after=after)

    storage._fail = check  # type: ignore[method-assign]
    await mirror.sync()
    storage._fail = fail  # type: ignore[method-assign]
    assert begin is not None
    return count <= number


async def _settled(policy: WithdrawnPolicy, event: str) -> tuple[list[str], list[str], list[str]]:
    sim, mirror = await make_case(policy)
    if event == "holder":
        sim.replace_by_holder("left-pad")
    else:
        sim.unpublish("left-pad", "1.1.0" if event == "version" else None)
    await mirror.sync_well()
    return doors(mirror)


async def test_tombstones_are_read_in_order_and_a_damaged_one_is_left_out() -> None:
    """Oldest first, of all versions or of one; what cannot be read hides none of the others."""
    sim, mirror = await make_case(FOLLOW)
    sim.unpublish("left-pad")
    await mirror.sync_well()
    catalogue = Catalogue(mirror.storage)
    found = await catalogue.read_tombstones(PAD)
    assert [stone.version for _, stone in found] == ["1.0.0", "1.1.0"]
    assert [stone.version for _, stone in await catalogue.read_tombstones(PAD, Version("1.1.0"))] == ["1.1.0"]
    mirror.storage.set_bytes(found[0][0], b"{")
    assert [stone.version for _, stone in await catalogue.read_tombstones(PAD)] == ["1.1.0"]


class TestOdd:
    async def test_p1_rotten_bytes_are_not_quarantined_and_do_not_stay(self) -> None:
        """What is not what was published proves nothing; it leaves the public part all the same."""
        sim, mirror = await make_case(FOLLOW)
        mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.1.0"), b"rotten")
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        assert doors(mirror)[1:] == (["0.0.1-security"], ["1.0.0"])

    async def test_row_36_a_release_that_died_half_way_is_finished(self) -> None:
        """The bytes are back already and gone from quarantine, the record does not say so yet."""
        sim, mirror = await make_case(FOLLOW)
        data = mirror.tarball("left-pad", "1.1.0")
        assert data is not None
        sim.replace_by_holder("left-pad")
        await mirror.sync_well()
        await release(mirror, "1.1.0")
        mirror.storage.remove(layout.quarantine_key(PAD, "left-pad-1.1.0.tgz"))
        mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.1.0"), data)
        await mirror.sync_well()
        assert "1.1.0" in mirror.served("left-pad")

    async def test_p10_what_upstream_said_is_cut(self) -> None:
        """A stub with thousands of versions, and one with half a character: bounded, and readable again."""
        sim, mirror = await make_case(FOLLOW)
        sim.unpublish("left-pad")
        sim.edit_packument("left-pad")["time"]["unpublished"]["versions"] = [f"{n}.0.0" for n in range(5000)]
        await mirror.sync_well()
        (_, stone), _ = await mirror.catalogue.read_tombstones(PAD)
        assert len(bytes(stone.upstream["time.unpublished"])) < 5000
        assert mirror.tombstones()[0]["upstream"]["time.unpublished"].endswith("…")

    async def test_row_25_a_manifest_with_half_a_character_is_held_from_the_document(self) -> None:
        """A lone surrogate in a readme: not in the tombstone, which stays readable, and held as it was."""
        sim = RegistrySimulator()
        sim.publish("left-pad", "1.0.0")
        sim.publish("left-pad", "1.1.0", readme="cut \ud83d")
        mirror = make_mirror(sim, rules=["left-pad"], withdrawn=HOLD)
        await mirror.sync_well()
        sim.unpublish("left-pad", "1.1.0")
        await mirror.sync_well()
        assert sorted(mirror.served("left-pad")) == ["1.0.0", "1.1.0"]
        (_, stone), *_ = await mirror.catalogue.read_tombstones(PAD)
        assert stone.manifest is msgspec.UNSET

    async def test_a_repr_names_the_policy(self) -> None:
        """One line for whoever debugs (STYLE 42)."""
        _, mirror = await make_case(PURGE)
        assert repr((await mirror.packages())._withdrawals) == "<Withdrawals purge>"

    async def test_plan_counts_what_is_held_and_names_what_is_barred(self) -> None:
        """The plan is the decision that sync takes: held versions are there, barred ones blocked with the reason."""
        sim, mirror = await make_case(HOLD)
        relist = Relist(sim)
        relist.take()
        await mirror.sync_well()
        (package,) = (await mirror.plan()).packages
        assert sorted(package.versions) == ["1.0.0", "1.1.0"]
        assert (package.held, dict(package.fetch)) == (2, {})
        mirror.withdrawn = PURGE
        await mirror.sync_well()
        relist.give()
        (package,) = (await mirror.plan()).packages
        assert package.versions == ("1.0.0",)
        assert [(block.subject, block.kind) for block in package.blocks] == [("1.1.0", "withdrawn")]
        await release(mirror, "1.1.0")
        (package,) = (await mirror.plan()).packages
        assert list(package.fetch) == ["1.1.0"]
