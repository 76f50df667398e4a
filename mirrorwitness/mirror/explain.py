"""Why a package or a version is served or is not, in sentences for a person: from what is stored, never from upstream.

Rules:

- The state is one word, and the sentences say what it rests on: rules of the selection, what the last run blocked and
  why, what it still owes, withdrawals with their times, releases, evidence.
- Each state that somebody may want to change has advice: what to do next.
- What is not known is said to be not known. A record is as old as the last run; the sentences say when that was.

What this does not do: read anything (`mirrorwitness.run.why`). This module is pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.gate import BlockKind
from mirrorwitness.mirror.select import choose
from mirrorwitness.mirror.withdrawal import Event, Place, event_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.mirror.catalogue import HeldVersion, PackageRecord, ReleaseNote, Tombstone, Unfinished
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Packument

__all__ = ["Explanation", "Facts", "State", "explain"]

SHOWN: Final = 10
"""Versions, events or pieces of evidence told of one kind; each sentence says how many there are."""

_TOLD = {
    Event.UNPUBLISHED: "upstream no longer lists it",
    Event.SECURITY_HOLDER: "upstream replaced the package by its placeholder for malicious ones",
    Event.DELETED: "upstream deleted the whole package, which two answers confirmed",
    Event.RELISTED: "upstream lists it again",
    Event.RELEASED: "the operator let it in again",
}


class State(StrEnum):
    """What is the matter with a version or package."""

    SERVED = "served"
    HELD = "held"
    HIDDEN = "hidden"
    QUARANTINED = "quarantined"
    PURGED = "purged"
    BLOCKED = "blocked"
    WITHHELD = "withheld"
    DAMAGED = "damaged"
    UNSELECTED = "unselected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the storage and the configuration say.

    Attributes:
        name: the package.
        version: the version asked about; None for the whole package.
        record: the package's record.
        note: its note of unfinished work.
        tombstones: its tombstones (of the version, where one is asked about) with their keys, the oldest first.
        releases: what the operator lifted.
        evidence: keys of evidence.
        selection: what is selected; None where nothing is configured.
        stored: the stored document.
    """

    name: PackageName
    version: Version | None = None
    record: PackageRecord | None = None
    note: Unfinished | None = None
    tombstones: Sequence[tuple[str, Tombstone]] = ()
    releases: Sequence[ReleaseNote] = ()
    evidence: Sequence[str] = ()
    selection: Selection | None = None
    stored: Packument | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer.

    Attributes:
        subject: ``name`` or ``name@version``.
        state: one word.
        rules: rules that select it, for people.
        sentences: why.
        advice: what to do next; empty where nothing is.
        code: what the command exits with.
    """

    subject: str
    state: State
    rules: tuple[str, ...]
    sentences: tuple[str, ...]
    advice: tuple[str, ...]
    code: ExitCode


def explain(facts: Facts) -> Explanation:
    """Explain a version, or a whole package."""
    state = _state_of_package(facts) if facts.version is None else _state_of_version(facts, facts.version)
    rules = _find_rules(facts)
    about = _tell_package(facts, state) if facts.version is None else _tell_version(facts, facts.version, state)
    return Explanation(
        subject=facts.name if facts.version is None else f"{facts.name}@{facts.version}",
        state=state,
        rules=rules,
        sentences=(
            *_tell_selection(facts, rules),
            *about,
            *_tell_note(facts),
            *_tell_events(facts),
            *_tell_rest(facts),
        ),
        advice=tuple(_advise(facts, state)),
        code=_find_code(facts, state),
    )


def _state_of_version(facts: Facts, version: Version) -> State:  # noqa: PLR0911 - one state after another
    item = None if facts.record is None else facts.record.versions.get(version)
    if item is not None:
        event = event_of(item.withdrawn)
        if item.served:
            return State.SERVED if event is None else State.HELD
        if event is not None:
            if item.place is Place.PURGED:
                return State.PURGED
            return State.QUARANTINED if event is Event.SECURITY_HOLDER else State.HIDDEN
    if facts.note is not None and version in facts.note.versions:
        return State.WITHHELD
    if _block(facts, version) is not None:
        return State.BLOCKED
    if item is not None:
        return State.DAMAGED if item.damaged else State.UNSELECTED
    is_published = facts.stored is not None and version in facts.stored.time
    return State.UNSELECTED if is_published else State.UNKNOWN


def _state_of_package(facts: Facts) -> State:
    items = [] if facts.record is None else list(facts.record.versions.values())
    served = [item for item in items if item.served]
    withdrawn = [item for item in items if item.withdrawn]
    if served:
        return State.HELD if all(item.withdrawn for item in served) else State.SERVED
    if withdrawn:
        is_security = any(event_of(item.withdrawn) is Event.SECURITY_HOLDER for item in withdrawn)
        is_purged = all(item.place is Place.PURGED for item in withdrawn)
        return State.PURGED if is_purged else State.QUARANTINED if is_security else State.HIDDEN
    if facts.note is not None:
        return State.WITHHELD
    if facts.record is None:
        return State.UNKNOWN
    return State.BLOCKED if facts.record.blocked else State.UNSELECTED


def _find_rules(facts: Facts) -> tuple[str, ...]:
    """Return the rules that select the package, or the version as far as that can be said without upstream."""
    if facts.selection is None:
        return ()
    rules = facts.selection.rules_for(facts.name)
    version = facts.version
    if version is None:
        return tuple(str(rule) for rule in rules)
    if facts.stored is not None and version in facts.stored.versions:
        reason = choose(facts.selection, facts.stored).wanted.get(version)
        return () if reason is None else (reason,)
    return tuple(
        str(rule)
        for rule in rules
        if (version in rule.pins or not rule.pins) and (rule.versions is None or rule.versions.includes(version))
    )


def _tell_selection(facts: Facts, rules: tuple[str, ...]) -> list[str]:
    if facts.selection is None:
        return ["Nothing is selected by the configuration that was read, so which rule wants it is not known."]
    denials = [
        rule
        for rule in facts.selection.denials_for(facts.name)
        if rule.versions is None or facts.version is None or rule.versions.includes(facts.version)
    ]
    told = [f"It is denied: {rule.reason} ({rule.origin})." for rule in denials[:SHOWN]]
    if rules:
        return [f"It is selected by {'; '.join(rules[:SHOWN])}.", *told]
    return ["No rule of the selection wants it.", *told]


def _tell_version(facts: Facts, version: Version, state: State) -> list[str]:
    record = facts.record
    if record is None:
        return ["Nothing of this package was ever stored here."]
    told: list[str] = []
    item = record.versions.get(version)
    if item is not None:
        told.append(_tell_held(facts, item, state))
    elif facts.stored is not None and version in facts.stored.time:
        told.append(f"Upstream published it on {facts.stored.time[version]}; its tarball was never stored here.")
    else:
        told.append("It was never stored here, and what is stored of upstream's document does not know it.")
    block = _block(facts, version)
    if block is not None:
        told.append(f"The last run ({record.checked}) did not take it: {block}.")
    reason = None if facts.note is None else facts.note.versions.get(version)
    if reason is not None:
        told.append(f"Its bytes could not be had: {reason}.")
    return told


def _tell_held(facts: Facts, item: HeldVersion, state: State) -> str:
    what = f"{item.file}, {item.size} bytes, {item.sri}"
    if item.leaf is not None and facts.record is not None:
        what += f", leaf {item.leaf} of the log {facts.record.log.partition(' ')[0]}"
    served = {
        State.SERVED: f"It is served: {what}, signature {item.signature}.",
        State.HELD: f"It is served although upstream withdrew it: {what}.",
        State.QUARANTINED: f"It is in quarantine, at no address, until it is released: {what}.",
        State.PURGED: f"Its bytes were deleted; what is remembered of them: {what}.",
        State.DAMAGED: f"It is not served: its stored bytes are damaged or gone, and were not to be had again: {what}.",
    }
    checked = facts.record.checked if facts.record is not None else ""
    return served.get(state, f"It is stored and not served, as of {checked}: {what}.")


def _tell_package(facts: Facts, state: State) -> list[str]:
    record = facts.record
    if record is None:
        return ["Nothing of it was ever stored here."]
    versions = record.versions
    served = sum(item.served for item in versions.values())
    told = [
        f"{served} of the {len(versions)} versions ever stored are served, as of {record.checked or 'an older run'}."
    ]
    if record.deleted:
        told.append("Upstream deleted the package.")
    events = Counter(event_of(item.withdrawn) for item in versions.values() if item.withdrawn)
    told += [f"{count} are withdrawn ({event})." for event, count in events.items()]
    places = Counter(item.place for item in versions.values() if item.place is not Place.PUBLIC)
    told += [f"The bytes of {count} are in quarantine." for count in [places[Place.QUARANTINE]] if count]
    told += [f"The bytes of {count} were deleted." for count in [places[Place.PURGED]] if count]
    kinds = Counter(text.partition(":")[0] for text in record.blocked.values())
    for kind, count in kinds.items():
        few = [f"{subject}: {text}" for subject, text in record.blocked.items() if text.startswith(f"{kind}:")]
        told.append(f"{count} were not taken ({kind}): {'; '.join(few[:SHOWN])}{' …' if count > SHOWN else ''}.")
    if state is State.UNSELECTED and not versions:
        told.append("Nothing of it fits the selection.")
    return told


def _tell_note(facts: Facts) -> list[str]:
    note = facts.note
    if note is None:
        return []
    tries = f"after {note.attempts} tries, the last on {note.last}"
    told = [f"The package is unfinished since {note.first or note.last}, {tries}: {note.reason}."]
    if note.expected is not None:
        known = None if facts.record is None else facts.record.rev
        told.append(f"The feed announced revision {note.expected}; revision {known} is stored.")
    if note.next_try:
        told.append(f"A follower tries again at {note.next_try}, a scheduled run whenever it runs.")
    return told


def _tell_events(facts: Facts) -> list[str]:
    events = [
        (stone.seen, f"{stone.seen}: {stone.version}: {_TOLD[stone.event]}; policy {stone.policy} ({key}).")
        for key, stone in facts.tombstones
    ]
    events += [
        (note.seen, f"{note.seen}: {note.version}: {_TOLD[Event.RELEASED]}, lifting {note.stone}: {note.reason}.")
        for note in facts.releases
        if facts.version in {None, note.version}
    ]
    told = [text for _, text in sorted(events, key=lambda event: event[0])]
    more = [f"… and {len(told) - SHOWN} older events under state/tombstones/."] if len(told) > SHOWN else []
    return [*more, *told[-SHOWN:]]


def _tell_rest(facts: Facts) -> list[str]:
    more = f" and {len(facts.evidence) - SHOWN} more" if len(facts.evidence) > SHOWN else ""
    return [f"Evidence is kept: {', '.join(facts.evidence[:SHOWN])}{more}."] if facts.evidence else []


_ADVICE: Final = {
    State.QUARANTINED: "Upstream calls this malicious. Only if you know better: mirrorwitness release {} --reason TEXT",
    State.HIDDEN: (
        "To serve it again: mirrorwitness release {} --reason TEXT; to serve everything that was withdrawn, but for"
        ' security: withdrawn = "hold"'
    ),
    State.PURGED: "Its bytes come back only where upstream lists it, after: mirrorwitness release {} --reason TEXT",
    State.UNSELECTED: "To mirror it, select it: mirrorwitness sync --once {}, or a [[select]] rule.",
    State.WITHHELD: "The next `mirrorwitness sync --once` tries again.",
    State.DAMAGED: "The next `mirrorwitness sync --once` tries again.",
    State.UNKNOWN: "Ask upstream: mirrorwitness plan {}",
}


def _advise(facts: Facts, state: State) -> list[str]:
    subject = facts.name if facts.version is None else f"{facts.name}@{facts.version}"
    told = [_ADVICE[state].format(subject)] if state in _ADVICE else []
    if _find_code(facts, state) is ExitCode.DIVERGENCE:
        told.append("Compare both sides in the evidence before you change anything.")
    return told


def _find_code(facts: Facts, state: State) -> ExitCode:
    subjects = [] if facts.record is None else list(facts.record.blocked)
    blocked = [_block(facts, subject) for subject in subjects if facts.version in {None, subject}]
    kinds = {BlockKind(text.partition(":")[0]) for text in blocked if text is not None}
    if any(kind.is_divergence for kind in kinds) or (facts.version is None and _is_diverged(facts.note)):
        return ExitCode.DIVERGENCE
    is_open = state in {State.WITHHELD, State.DAMAGED, State.UNKNOWN} or any(kind.is_unfinished for kind in kinds)
    if is_open or (facts.version is None and facts.note is not None):
        return ExitCode.PARTIAL
    return ExitCode.COMPLETE


def _is_diverged(note: Unfinished | None) -> bool:
    return note is not None and note.kind == "diverged"


def _block(facts: Facts, subject: str) -> str | None:
    return None if facts.record is None else facts.record.blocked.get(subject)
