"""All conformance cases, in the order in which they run, and the keys of the logs that they need.

The 44 of research/A 4.2 are among them; what each asks stands in the module of its noun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.witness.cases_answers import ANSWERS, RACES
from mirrorwitness.witness.cases_growth import GROWTH
from mirrorwitness.witness.cases_monitor import MONITOR
from mirrorwitness.witness.cases_requests import HTTP, REQUESTS
from mirrorwitness.witness.cases_signatures import SIGNATURES
from mirrorwitness.witness.cases_subtree import SUBTREE
from mirrorwitness.witness.lab import make_log
from mirrorwitness.witness.trial import SHARED

if TYPE_CHECKING:
    from mirrorwitness.witness.trial import Case

__all__ = ["CASES", "lab_vkeys"]

CASES: Final[tuple[Case, ...]] = (*GROWTH, *REQUESTS, *SIGNATURES, *ANSWERS, *HTTP, *MONITOR, *SUBTREE, *RACES)
"""Ids are unique. Races come last: they are the ones that a witness may not survive."""


def lab_vkeys(seed: bytes) -> tuple[str, ...]:
    """Return the keys of all logs, which the witness has to know before a run; the name of each is the log's origin.

    Two of them have one origin, and one is of type ML-DSA-44.

    Args:
        seed: 32 bytes; the same as those of the run.
    """
    logs = {SHARED: make_log(seed, SHARED)}
    for case in CASES:
        logs.setdefault(case.log_name, make_log(seed, case.log_name, *case.kinds))
    return tuple([str(key.verifier) for log in logs.values() for key in log.keys])
