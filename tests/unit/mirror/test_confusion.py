"""Manifest confusion: what a person was shown and what would be installed, compared when a tarball comes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.confusion import ConfusionPolicy, find_confusion, sum_up
from mirrorwitness.mirror.examiner import IN_THREAD
from mirrorwitness.mirror.tarballs import TarballOptions
from mirrorwitness.npm.names import Version
from mirrorwitness.npm.tarball import TarballManifest
from tests.fakes.registry import RegistrySimulator
from tests.fakes.registry_build import filler, make_tarball
from tests.fakes.simulated_log import make_registry_record, open_simulated_log
from tests.unit.mirror.builder import Mirror, make_mirror

REPORT, REFUSE = ConfusionPolicy.REPORT, ConfusionPolicy.REFUSE


def make_confused(policy: ConfusionPolicy = REPORT, **wishes: Any) -> Mirror:
    """Return a mirror of an honest version and one whose tarball runs a script that its document hides."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    hidden = {"name": "left-pad", "version": "1.1.0", "scripts": {"postinstall": "node steal.js"}}
    sim.publish("left-pad", "1.1.0", files={"package.json": json.dumps(hidden).encode()})
    return make_mirror(sim, rules=["left-pad"], confusion=policy, **wishes)


async def test_attack_a_hidden_script_is_told_with_evidence_and_served() -> None:
    """`report` changes nothing of what is served, and is no failure; the evidence has both sides."""
    mirror = make_confused()
    summary = await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]
    assert summary.counts["confused"] == 1
    (alarm,) = summary.alarms
    assert alarm.startswith(
        "left-pad: tarballs say something else than the registry's document, and are served: 1.1.0 (scripts); "
        "the evidence is evidence/left-pad/1.1.0/"
    )
    (evidence,) = mirror.evidence()
    assert evidence["kind"] == "manifest-confusion"
    (difference,) = evidence["differences"]
    assert (difference["field"], "steal.js" in difference["tarball"]) == ("scripts", True)
    assert (await mirror.record("left-pad")).versions[Version("1.1.0")].confused == ("scripts",)
    mirror.sims[0].deprecate("left-pad")
    assert (await mirror.sync_well()).alarms == []


async def test_attack_a_hidden_script_is_refused() -> None:
    """`refuse` serves neither document nor tarball of it, and the run is complete: it is the operator's policy."""
    mirror = make_confused(REFUSE)
    summary = await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0"]
    assert summary.counts["blocked_confused"] == 1
    assert (await mirror.record("left-pad")).blocked == {
        "1.1.0": "confused: its tarball's package.json has another scripts"
    }
    downloads = [request for request in mirror.sims[0].requests if request.target.endswith("1.1.0.tgz")]
    mirror.sims[0].deprecate("left-pad")
    await mirror.sync_well()
    assert mirror.served("left-pad") == ["1.0.0"]
    assert [request for request in mirror.sims[0].requests if request.target.endswith("1.1.0.tgz")] == downloads


async def test_a_changed_policy_needs_no_download() -> None:
    """What was found is remembered with the tarball: from report to refuse and back."""
    mirror = make_confused()
    await mirror.sync_well()
    mirror.confusion = REFUSE
    assert (await mirror.sync_well()).counts["tarballs_downloaded"] == 0
    assert mirror.served("left-pad") == ["1.0.0"]
    mirror.confusion = REPORT
    assert (await mirror.sync_well()).counts["tarballs_downloaded"] == 0
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]


async def test_a_tarball_that_is_adopted_is_looked_into() -> None:
    """A run died between tarball and record: the next one looks at the stored bytes."""
    mirror = make_confused(REFUSE, options=TarballOptions(concurrency=1))
    body = mirror.sims[0].tarball("left-pad", "1.1.0")
    mirror.storage.set_bytes(mirror.tarball_key("left-pad", "1.1.0"), body)
    summary = await mirror.sync_well()
    assert (mirror.served("left-pad"), summary.counts["tarballs_downloaded"]) == (["1.0.0"], 1)


async def test_large_tarballs_are_read_in_a_thread() -> None:
    """What would stall other packages leaves the event loop; the finding is the same."""
    mirror = make_confused()
    hidden = json.dumps({"name": "left-pad", "version": "2.0.0", "dependencies": {"evil": "*"}}).encode()
    files = {"package.json": hidden, "x.bin": filler("x", 2 * IN_THREAD)}
    mirror.sims[0].publish("left-pad", "2.0.0", files=files)
    await mirror.sync_well()
    assert (await mirror.record("left-pad")).versions[Version("2.0.0")].confused == ("dependencies",)


@pytest.mark.parametrize("data", [b"no archive", make_tarball({}, name="x", version="1")[:50]])
async def test_attack_an_archive_that_nobody_can_read_is_confusion(data: bytes) -> None:
    """Hostile bytes are no error: they are told like any other difference."""
    mirror = make_confused()
    mirror.sims[0].publish("left-pad", "3.0.0", data=data)
    await mirror.sync_well()
    assert (await mirror.record("left-pad")).versions[Version("3.0.0")].confused == ("archive",)


async def test_off_looks_at_nothing() -> None:
    """No alarm, no evidence, nothing remembered."""
    mirror = make_confused(ConfusionPolicy.OFF)
    assert (await mirror.sync_well()).alarms == []
    assert (mirror.evidence(), (await mirror.record("left-pad")).versions[Version("1.1.0")].confused) == ([], ())


async def test_attack_the_registry_changed_a_document_after_it_was_logged() -> None:
    """The log remembers what the document was: another one now is told, although document and tarball are new to us."""
    mirror = make_confused()
    log = await open_simulated_log()
    await log.add(mirror.sims[0], "left-pad", "1.0.0")
    mirror.log = log
    mirror.sims[0].edit_packument("left-pad")["versions"]["1.0.0"]["homepage"] = "https://elsewhere.example"
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.PARTIAL  # 1.1.0 is not logged
    assert (await mirror.record("left-pad")).versions[Version("1.0.0")].confused == ("manifest",)


def test_several_package_json_are_told() -> None:
    """Who reads the first one sees something else than npm, which takes the last."""
    text = b'{"name": "n", "version": "1.0.0"}'
    found = find_confusion(text, TarballManifest(text, 2, 3), None)
    assert (sum_up(found), "2 files" in found[0].tarball) == (("archive",), True)
    assert sum_up(find_confusion(text, TarballManifest(None, 0, 1), None)) == ("archive",)
    assert find_confusion(text, TarballManifest(text, 1, 1), None) == ()


def test_the_logs_hashes_count_where_it_has_them() -> None:
    """A record without hashes says nothing; one with another hash is told."""
    sim = RegistrySimulator()
    sim.publish("n", "1.0.0")
    text = b'{"name":"n","version":"1.0.0"}'
    right = hashlib.sha256(text).digest()
    for logged, fields in ((None, ()), (right, ()), (bytes(32), ("package.json",))):
        record = make_registry_record(sim, "n", "1.0.0", manifest=None, tarball_manifest=logged)
        assert sum_up(find_confusion(text, TarballManifest(text, 1, 1), record)) == fields
