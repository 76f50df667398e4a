"""What an observed behaviour of a storage means for each role: the table behind `mirrorwitness store-check`.

Rules:

- A *capability* is one promise of `mirrorwitness.storage` (or of the S3 protocol below it), an *outcome* is what a
  probe saw of it; the table maps every pair to one verdict for each role and to one sentence that says why.
- ``refused``: the role must not run on this storage. ``degraded``: it runs, and the sentence says what is lost or who
  has to take care. ``ok``: nothing to say.
- A probe that failed is judged like a promise that was broken: a storage that cannot be asked has promised nothing.
- A race shows that a promise is broken, never that it holds: a service that loses one race in a thousand passes
  (research/E 1.3: one in-process server let two writers win on 1 key of 120). This is why a witness does not rest on
  the storage alone.

Pure: observations in, findings out. What it does not do: ask (`mirrorwitness.storage.probe`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

__all__ = [
    "RULES",
    "TRIED",
    "Capability",
    "Finding",
    "Observation",
    "Outcome",
    "Role",
    "Rule",
    "Verdict",
    "judge",
    "worst",
]


class Verdict(StrEnum):
    """What a finding says about a role, from good to bad."""

    OK = "ok"
    DEGRADED = "degraded"
    REFUSED = "refused"


class Role(StrEnum):
    """Who wants to keep its state in the storage."""

    MIRROR = "mirror"
    WITNESS = "witness"
    SUMDB = "sumdb"


class Outcome(StrEnum):
    """What a probe saw of a capability."""

    HOLDS = "holds"
    BROKEN = "broken"
    """It did something else than it promised."""
    IGNORED = "ignored"
    """It accepted the request and paid no attention to what was asked."""
    UNSUPPORTED = "unsupported"
    """It said that it does not do this."""
    MISSING = "missing"
    """What should be in the answer is not there."""
    FAILED = "failed"
    """It could not be tried: an error or no answer in time."""


class Capability(StrEnum):
    """What is looked at; the values are the stable names in reports."""

    ROUND_TRIP = "round-trip"
    READ_AFTER_WRITE = "read-after-write"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    PUT_IF_ABSENT = "put-if-absent"
    PUT_IF_ABSENT_RACED = "put-if-absent-raced"
    PUT_IF_MATCH = "put-if-match"
    PUT_IF_MATCH_RACED = "put-if-match-raced"
    LIST_ORDER = "list-order"
    LIST_PAGING = "list-paging"
    LIST_PREFIX = "list-prefix"
    RANGE_READ = "range-read"
    BIG_OBJECT = "big-object"
    KEY_SCOPED = "key-scoped"
    KEY_CASE = "key-case"
    KEY_LONG = "key-long"
    KEY_PUNCTUATION = "key-punctuation"
    KEY_SPACE = "key-space"
    KEY_UNICODE = "key-unicode"
    KEY_NESTED = "key-nested"
    CHECKSUM_CHECKED = "checksum-checked"
    CHECKSUM_ECHOED = "checksum-echoed"
    PAYLOAD_HASH_CHECKED = "payload-hash-checked"
    DELETE_IF_MATCH = "delete-if-match"
    CONTENT_TYPE = "content-type"
    METADATA = "metadata"
    ANONYMOUS_READ = "anonymous-read"
    ANONYMOUS_WRITE = "anonymous-write"
    SECRET_CHECKED = "secret-checked"  # noqa: S105 - a name, not a secret
    CLOCK = "clock"
    CLEAN_UP = "clean-up"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one probe saw; `seen` says it in a few words for people."""

    capability: Capability
    outcome: Outcome
    seen: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The verdict of one outcome for each role, and why."""

    mirror: Verdict
    witness: Verdict
    sumdb: Verdict
    meaning: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged observation.

    Attributes:
        capability: what was looked at.
        outcome: what it came to.
        tried: what was done, in one sentence.
        seen: what was seen, in a few words.
        verdicts: the verdict for each role.
        meaning: what it means for the roles that are not ``ok``; what is good about it otherwise.
    """

    capability: Capability
    outcome: Outcome
    tried: str
    seen: str
    verdicts: Mapping[Role, Verdict]
    meaning: str

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of any role."""
        return worst(self.verdicts.values())


_Rules: TypeAlias = Mapping[tuple[Capability, Outcome], Rule]

_C = Capability
_OK, _DEGRADED, _REFUSED = Verdict.OK, Verdict.DEGRADED, Verdict.REFUSED


def _all(verdict: Verdict, meaning: str) -> Rule:
    return Rule(verdict, verdict, verdict, meaning)


def _not_for_logs(meaning: str) -> Rule:
    return Rule(_DEGRADED, _REFUSED, _REFUSED, meaning)


def _mirror_only(verdict: Verdict, meaning: str) -> Rule:
    return Rule(verdict, _OK, _OK, meaning)


TRIED: Final[Mapping[Capability, str]] = MappingProxyType({
    _C.ROUND_TRIP: "put bytes of every value, read them back and compare",
    _C.READ_AFTER_WRITE: "stat, read and list right after a put",
    _C.OVERWRITE: "put other bytes under the same key, read them, compare the etags",
    _C.DELETE: "delete, then stat; delete again",
    _C.PUT_IF_ABSENT: "put with if-absent where there is an object",
    _C.PUT_IF_ABSENT_RACED: "several writers put one key with if-absent at the same moment",
    _C.PUT_IF_MATCH: "put with the right etag, with an old one, and where there is no object",
    _C.PUT_IF_MATCH_RACED: "several writers count up one number by compare-and-swap",
    _C.LIST_ORDER: "list keys whose order differs between bytes, case and length",
    _C.LIST_PAGING: "list in pages of three and compare with what was put",
    _C.LIST_PREFIX: "list by a prefix that ends inside a component",
    _C.RANGE_READ: "read the middle and the end of an object",
    _C.BIG_OBJECT: "put an object of 12 MiB from a file and stream it back",
    _C.KEY_SCOPED: "keys as @scope/name/packument.json and @scope/name/-/name-1.0.0.tgz",
    _C.KEY_CASE: "two keys that differ in upper and lower case only",
    _C.KEY_LONG: "a component of 255 bytes",
    _C.KEY_PUNCTUATION: "keys with + ~ ! ( ) * ' = _ and %25",
    _C.KEY_SPACE: "a key with a space",
    _C.KEY_UNICODE: "a key with letters beyond ASCII",
    _C.KEY_NESTED: "an object whose key is the directory of another's",
    _C.CHECKSUM_CHECKED: "upload with a wrong SHA-256 checksum",
    _C.CHECKSUM_ECHOED: "upload with the right SHA-256 checksum, look for it in the answer",
    _C.PAYLOAD_HASH_CHECKED: "upload bytes that are not those of the signed payload hash",
    _C.DELETE_IF_MATCH: "delete with an old etag",
    _C.CONTENT_TYPE: "put with a content type, look for it in the answer",
    _C.METADATA: "put with user metadata, look for it in the answer",
    _C.ANONYMOUS_READ: "read without credentials",
    _C.ANONYMOUS_WRITE: "write without credentials",
    _C.SECRET_CHECKED: "write with the right access key and a wrong secret",
    _C.CLOCK: "compare the answer's date with our clock",
    _C.CLEAN_UP: "remove everything the check wrote",
})  # fmt: skip

_MEANS_OK: Final[Mapping[Capability, str]] = MappingProxyType({
    _C.PUT_IF_ABSENT_RACED: "no writer lost silently; a race cannot prove that it never happens",
    _C.PUT_IF_MATCH_RACED: "no update was lost; a race cannot prove that it never happens",
    _C.CHECKSUM_ECHOED: "an upload is known to be right without reading it back",
})  # fmt: skip
"""What a promise that holds is good for, where its name does not say it."""

RULES: Final[_Rules] = MappingProxyType({
    (_C.ROUND_TRIP, Outcome.BROKEN): _all(
        _REFUSED, "bytes come back changed; nothing can be kept here (some servers store the framing of an upload)"
    ),
    (_C.READ_AFTER_WRITE, Outcome.BROKEN): _all(
        _REFUSED, "a finished put is not visible at once, so no order of writes means anything"
    ),
    (_C.OVERWRITE, Outcome.BROKEN): _all(_REFUSED, "the old bytes are served after a put; documents never change"),
    (_C.OVERWRITE, Outcome.IGNORED): _not_for_logs(
        "the etag stays while the bytes change, so nobody notices a change in between; run one writer at a time"
    ),
    (_C.DELETE, Outcome.BROKEN): _mirror_only(_DEGRADED, "deleted objects stay visible; audit cannot repair here"),
    (_C.PUT_IF_ABSENT, Outcome.IGNORED): _not_for_logs(
        "a conditional put overwrites: run only one writing process at a time; no witness or log may live here"
    ),
    (_C.PUT_IF_ABSENT, Outcome.UNSUPPORTED): _not_for_logs(
        "no conditional puts: run only one writing process at a time; no witness or log may live here"
    ),
    (_C.PUT_IF_ABSENT, Outcome.BROKEN): _not_for_logs(
        "conditional puts do not do what they say: run only one writing process at a time"
    ),
    (_C.PUT_IF_ABSENT_RACED, Outcome.BROKEN): _not_for_logs(
        "several racing writers were all told that they had won: run only one writing process at a time"
    ),
    (_C.PUT_IF_MATCH, Outcome.IGNORED): _not_for_logs(
        "compare-and-swap is accepted and not done: run only one writing process at a time"
    ),
    (_C.PUT_IF_MATCH, Outcome.UNSUPPORTED): _not_for_logs(
        "no compare-and-swap: run only one writing process at a time; no witness or log may live here"
    ),
    (_C.PUT_IF_MATCH, Outcome.BROKEN): _not_for_logs(
        "compare-and-swap does not do what it says: run only one writing process at a time"
    ),
    (_C.PUT_IF_MATCH_RACED, Outcome.BROKEN): _not_for_logs(
        "updates that were acknowledged are lost under concurrency: run only one writing process at a time"
    ),
    (_C.LIST_ORDER, Outcome.BROKEN): _all(
        _OK, "not needed: nothing of ours rests on the order, only on pages that lead through every key (list-paging)"
    ),
    (_C.LIST_PAGING, Outcome.BROKEN): Rule(
        _REFUSED, _OK, _REFUSED, "listings are incomplete: audit and status would not see every object"
    ),
    (_C.LIST_PREFIX, Outcome.BROKEN): Rule(
        _REFUSED, _OK, _REFUSED, "a prefix selects the wrong keys: audit and status would look at the wrong objects"
    ),
    (_C.RANGE_READ, Outcome.BROKEN): Rule(
        _DEGRADED, _OK, _DEGRADED, "ranges come back wrong: clients cannot resume downloads"
    ),
    (_C.RANGE_READ, Outcome.IGNORED): Rule(
        _DEGRADED, _OK, _DEGRADED, "the whole object comes back for a range: clients cannot resume downloads"
    ),
    (_C.BIG_OBJECT, Outcome.BROKEN): _mirror_only(_REFUSED, "large objects come back changed or not at all"),
    (_C.KEY_SCOPED, Outcome.BROKEN): _mirror_only(_REFUSED, "scoped packages cannot be kept"),
    (_C.KEY_CASE, Outcome.BROKEN): _mirror_only(
        _REFUSED, "keys that differ in case only are one object here: old packages would overwrite each other"
    ),
    (_C.KEY_LONG, Outcome.BROKEN): _mirror_only(_DEGRADED, "packages with very long file names stay unfinished"),
    (_C.KEY_PUNCTUATION, Outcome.BROKEN): _mirror_only(_DEGRADED, "packages with such old names stay unfinished"),
    (_C.KEY_SPACE, Outcome.BROKEN): _all(_OK, "not needed: no key of ours has a space"),
    (_C.KEY_UNICODE, Outcome.BROKEN): _all(_OK, "not needed: every key of ours is ASCII"),
    (_C.KEY_NESTED, Outcome.BROKEN): _all(_OK, "not needed: no key of ours is the directory of another"),
    (_C.CHECKSUM_CHECKED, Outcome.IGNORED): _all(
        _DEGRADED, "a damaged upload is stored and acknowledged; our client compares every put afterwards"
    ),
    (_C.CHECKSUM_ECHOED, Outcome.MISSING): _all(
        _DEGRADED, "the service does not say what it stored: every put is compared by its ETag, or read back"
    ),
    (_C.CHECKSUM_ECHOED, Outcome.BROKEN): _all(
        _DEGRADED, "the service answers with another checksum than the bytes have: every put is read back"
    ),
    (_C.PAYLOAD_HASH_CHECKED, Outcome.IGNORED): _all(
        _DEGRADED, "the signature does not protect an upload on its way: use TLS, or a network that you trust"
    ),
    (_C.DELETE_IF_MATCH, Outcome.IGNORED): _all(_OK, "not needed: nothing of ours deletes under a condition"),
    (_C.DELETE_IF_MATCH, Outcome.UNSUPPORTED): _all(_OK, "not needed: nothing of ours deletes under a condition"),
    (_C.CONTENT_TYPE, Outcome.MISSING): _mirror_only(
        _DEGRADED, "content types are lost: fine behind `mirrorwitness serve`, wrong for a bucket served by itself"
    ),
    (_C.METADATA, Outcome.MISSING): _all(_OK, "not needed: nothing of ours rests on user metadata"),
    (_C.ANONYMOUS_READ, Outcome.BROKEN): _all(
        _OK, "anyone can read state/ as well; nothing in it is secret, yet only npm/ and about/ need to be public"
    ),
    (_C.ANONYMOUS_WRITE, Outcome.BROKEN): _all(
        _REFUSED, "ANYONE CAN WRITE TO THIS STORAGE without credentials; close it before anything is kept in it"
    ),
    (_C.SECRET_CHECKED, Outcome.IGNORED): _all(
        _REFUSED, "THE SECRET IS NOT CHECKED: anyone who can reach the service can write; do not use it beyond a test"
    ),
    (_C.CLOCK, Outcome.BROKEN): _all(
        _DEGRADED, "the clocks differ: signed requests are refused once it is 15 minutes; check time synchronisation"
    ),
    (_C.CLOCK, Outcome.MISSING): _all(_OK, "the service does not tell its time"),
    (_C.CLEAN_UP, Outcome.BROKEN): _all(_DEGRADED, "objects of the check are left under state/probe/; remove them"),
})  # fmt: skip
"""Every outcome that a probe reports, `HOLDS` and `FAILED` excepted (`judge` says how these are read)."""

_WORST_FIRST: Final = (Outcome.BROKEN, Outcome.IGNORED, Outcome.MISSING, Outcome.UNSUPPORTED)


def judge(observation: Observation) -> Finding:
    """Return what an observation means.

    Raises:
        LookupError: the table has no rule for this outcome of this capability (a mistake in a probe).
    """
    capability, outcome = observation.capability, observation.outcome
    if outcome is Outcome.HOLDS:
        rule = _all(_OK, _MEANS_OK.get(capability, ""))
    elif outcome is Outcome.FAILED:
        broken = next(RULES[capability, each] for each in _WORST_FIRST if (capability, each) in RULES)
        rule = Rule(
            broken.mirror, broken.witness, broken.sumdb, f"could not be tried; if it does not hold: {broken.meaning}"
        )
    else:
        rule = RULES[capability, outcome]
    return Finding(
        capability=capability,
        outcome=outcome,
        tried=TRIED[capability],
        seen=observation.seen,
        verdicts=MappingProxyType({Role.MIRROR: rule.mirror, Role.WITNESS: rule.witness, Role.SUMDB: rule.sumdb}),
        meaning=rule.meaning,
    )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; ``ok`` where there is none."""
    order = tuple(Verdict)
    return max(verdicts, key=order.index, default=Verdict.OK)
