"""`check` against the real checksum database: it logs what it is asked for, and two witnesses cosign."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.run.checking import CheckWishes, run_check
from mirrorwitness.sumdb.verdict import Verdict
from mirrorwitness.tlog.policy import format_policy
from tests.unit.run.sumdb_site import W1, W2, Site, Watcher, open_site

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.run.check_report import CheckReport

pytestmark = [pytest.mark.timeout(60), pytest.mark.slow]


def write_lock(site: Site, path: Path, *names: str) -> None:
    entries = {f"node_modules/{name}": {"version": "1.0.0", "integrity": integrity(site, name)} for name in names}
    lock = {"lockfileVersion": 3, "packages": {"": {"name": "app"}, **entries}}
    path.write_text(json.dumps(lock, indent=2), encoding="utf-8")


def integrity(site: Site, name: str) -> str:
    found: str = site.sim.packument(name)["versions"]["1.0.0"]["dist"]["integrity"]
    return found


def verdicts(report: CheckReport) -> dict[str, Verdict]:
    return {item.subject.title: item.verdict for item in report.checked}


async def test_a_lockfile_of_versions_that_nobody_had_asked_for(tmp_path: Path) -> None:
    """They are logged, cosigned by both, and verified in one run; the next one asks for nothing; the bundle holds."""
    async with open_site(tmp_path) as site:
        watchers = Watcher(W1, site.log), Watcher(W2, site.log)
        async with watchers[0].running(), watchers[1].running(), site.serving(site.wishes(*watchers)):
            for name in ("left", "@s/right"):
                site.publish(name, "1.0.0")
            lock = tmp_path / "package-lock.json"
            write_lock(site, lock, "left", "@s/right")
            vkeys = ",".join(map(str, site.keys))
            policy = format_policy(site.policy(*watchers))
            state = tmp_path / "state"
            wishes = CheckWishes(arguments=(str(lock),), sumdb=(f"{vkeys}={site.url}",), policy=policy, state=state)
            report = await run_check(wishes, SilentProgress())
            assert verdicts(report) == dict.fromkeys(("left@1.0.0", "@s/right@1.0.0"), Verdict.VERIFIED)
            assert {name for name, _ in report.believed[-1].cosigners} == {W1.name, W2.name}
            again = await run_check(wishes, SilentProgress())
            assert (again.exit_code(), again.remembered, again.is_first) == (ExitCode.COMPLETE, 2, False)
        offline = CheckWishes(
            arguments=(str(lock),), sumdb=(vkeys,), policy=policy, bundle=again.format_bundle(), state=state
        )
        assert (await run_check(offline, SilentProgress())).exit_code() is ExitCode.COMPLETE


async def test_a_registry_that_shows_other_bytes_than_were_logged(tmp_path: Path) -> None:
    """A lockfile made from what it shows now does not agree with the log; what it never had is not logged."""
    async with open_site(tmp_path) as site:
        watcher = Watcher(W1, site.log)
        async with watcher.running(), site.serving(site.wishes(watcher)):
            site.publish("left", "1.0.0")
            policy = format_policy(site.policy(watcher))
            flag = f"{','.join(map(str, site.keys))}={site.url}"
            lock = tmp_path / "package-lock.json"
            write_lock(site, lock, "left")
            wishes = CheckWishes(
                arguments=(str(lock), "none@1.0.0"), sumdb=(flag,), policy=policy, state=tmp_path / "state"
            )
            first = await run_check(wishes, SilentProgress())
            assert verdicts(first) == {"left@1.0.0": Verdict.VERIFIED, "none@1.0.0": Verdict.NOT_LOGGED}
            site.sim.publish("left", "1.0.0", files={"index.js": b"other"}, signer=site.signer)
            write_lock(site, lock, "left")
            second = await run_check(wishes, SilentProgress())
            assert verdicts(second)["left@1.0.0"] is Verdict.OTHER_INTEGRITY
            assert second.exit_code() is ExitCode.DIVERGENCE
