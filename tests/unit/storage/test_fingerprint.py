"""Whether two listings said the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorwitness.storage import ObjectInfo
from mirrorwitness.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    from random import Random

KEYS = st.text("abc/", min_size=1, max_size=6)
LISTINGS = st.dictionaries(KEYS, st.tuples(st.integers(0, 3), st.text("ef", max_size=2)), max_size=6)


def fingerprint(listing: dict[str, tuple[int, str]]) -> Fingerprint:
    made = Fingerprint()
    for key, (size, etag) in listing.items():
        made.add(ObjectInfo(key, size, etag))
    return made


@settings(max_examples=25)  # each makes two times a megabyte of sums
@given(LISTINGS, LISTINGS, st.randoms(use_true_random=False))
def test_it_differs_where_the_listings_do(
    one: dict[str, tuple[int, str]], two: dict[str, tuple[int, str]], order: Random
) -> None:
    """In the buckets of keys that were added, removed or written, whatever the order, and in no other."""
    items = list(two.items())
    order.shuffle(items)
    first, second = fingerprint(one), fingerprint(dict(items))
    changed = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    assert first.differing(second) == second.differing(first) == {first.bucket(key) for key in changed}
