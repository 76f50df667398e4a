"""What the tests of the conformance suite share: one way to run it, and a witness that is odd in one respect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.witness.conformance import CASES, ConformanceOptions, Outcome, Result, lab_vkeys, run_conformance
from tests.unit.witness.reference import WITNESS_KEYS, ReferenceWitness, Reply
from tests.unit.witness.reference_server import serve_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["IDS", "SEED", "VKEYS", "OddWitness", "results", "run"]

SEED: Final = bytes(range(32))
VKEYS: Final = lab_vkeys(SEED)
IDS: Final = [case.id for case in CASES]


class OddWitness(ReferenceWitness):
    """A reference that answers some requests in another way: what a function of path and body returns."""

    def __init__(self, vkeys: Collection[str], other: Callable[[str, bytes], Reply | None]) -> None:
        super().__init__(vkeys)
        self._other = other

    async def answer(self, method: str, path: str, fields: dict[str, str], body: bytes) -> Reply:
        return self._other(path, body) or await super().answer(method, path, fields, body)


async def run(
    witness: ReferenceWitness | str,
    *only: str,
    keys: Collection[KeyType] = (KeyType.COSIGNATURE, KeyType.ML_DSA_44),
    told: Callable[[Outcome], None] = lambda _: None,
    is_monitored: bool = True,
    **options: Any,
) -> list[Outcome]:
    """Run cases against a reference witness, or against whatever listens at a URL."""
    if isinstance(witness, str):
        chosen = [key for key in WITNESS_KEYS if key.kind in keys]
        monitoring = witness if is_monitored else None
        settings = ConformanceOptions(
            url=witness, witness_keys=chosen, seed=SEED, monitoring_url=monitoring, only=only, **options
        )
        return await run_conformance(settings, told=told)
    async with serve_reference(witness) as url:
        return await run(url, *only, keys=keys, told=told, is_monitored=is_monitored, **options)


def results(outcomes: list[Outcome], *wanted: Result) -> list[str]:
    """Return the ids of the cases that ended in one of these ways."""
    return [each.case.id for each in outcomes if each.result in wanted]
