"""The table of verdicts is total, and says something wherever it is not ``ok`` (DESIGN 4)."""

from __future__ import annotations

import pytest

from mirrorwitness.storage.probe_verdict import (
    RULES,
    TRIED,
    Capability,
    Observation,
    Outcome,
    Role,
    Verdict,
    judge,
    worst,
)


@pytest.mark.parametrize("capability", list(Capability))
def test_every_capability_can_hold_break_and_fail(capability: Capability) -> None:
    """No probe can end without a verdict: what fails is judged like what is broken, and nothing better."""
    holds = judge(Observation(capability, Outcome.HOLDS, "seen"))
    assert (holds.verdict, holds.tried, holds.seen) == (Verdict.OK, TRIED[capability], "seen")
    failed = judge(Observation(capability, Outcome.FAILED, "no answer"))
    broken = [
        judge(Observation(capability, outcome, "")).verdicts for outcome in Outcome if (capability, outcome) in RULES
    ]
    assert failed.verdicts in broken
    assert failed.meaning.startswith("could not be tried; if it does not hold: ")


@pytest.mark.parametrize("pair", list(RULES))
def test_every_rule_says_why(pair: tuple[Capability, Outcome]) -> None:
    """A verdict comes with a sentence."""
    finding = judge(Observation(*pair, "seen"))
    assert len(finding.meaning) > 15
    assert finding.verdict is worst(finding.verdicts.values())


def test_a_rule_that_is_missing_is_a_mistake() -> None:
    """An outcome that the table does not know is a bug of a probe, never a verdict."""
    with pytest.raises(LookupError):
        judge(Observation(Capability.CLOCK, Outcome.UNSUPPORTED, ""))


def test_only_conditions_keep_a_log_away_and_let_a_mirror_in() -> None:
    """A witness and a log refuse every storage without compare-and-swap; a mirror runs with one writer (P7, P8)."""
    conditions = {each for each in Capability if each.startswith("put-if-")} | {Capability.OVERWRITE}
    milder = {
        capability
        for (capability, _), rule in RULES.items()
        if rule.witness is Verdict.REFUSED and rule.mirror is not Verdict.REFUSED
    }
    assert milder == conditions
    for (capability, outcome), rule in RULES.items():
        if capability.startswith("put-if-"):
            assert (rule.mirror, rule.witness, rule.sumdb) == (
                Verdict.DEGRADED,
                Verdict.REFUSED,
                Verdict.REFUSED,
            ), outcome


def test_worst_of_verdicts() -> None:
    """Refused is worse than degraded, degraded than ok; nothing found is ok."""
    assert worst([]) is Verdict.OK
    assert worst([Verdict.OK, Verdict.DEGRADED]) is Verdict.DEGRADED
    assert worst([Verdict.REFUSED, Verdict.DEGRADED]) is Verdict.REFUSED


def test_names_are_stable() -> None:
    """Reports of earlier versions stay readable: names of roles and verdicts never change."""
    assert [role.value for role in Role] == ["mirror", "witness", "sumdb"]
    assert [verdict.value for verdict in Verdict] == ["ok", "degraded", "refused"]
    assert set(TRIED) == set(Capability)
