"""Comparing summaries: exact differences, little read."""

from __future__ import annotations

import base64
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.reconcile import Comparison, Difference, Task
from mirrorwitness.mirror.subtree import Subtree, join, make_subtree, split
from mirrorwitness.mirror.summary import Entry, Leaf, Ref, make_entry, package_prefix
from tests.unit.mirror.summaries import MemorySummary, compare, entry, sri

VERSIONS = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "@s/c", "big"]), st.integers(0, 400).map(lambda n: f"{n}.0.0")),
    st.sampled_from(["one", "two", "three"]),
    max_size=40,
)


def summary_of(versions: dict[tuple[str, str], str]) -> MemorySummary:
    return MemorySummary.of([entry(name, version, content) for (name, version), content in versions.items()])


@given(base=st.integers(0, 600), a=VERSIONS, b=VERSIONS)
def test_the_differences_found_are_exactly_those_of_the_sets(
    base: int, a: dict[tuple[str, str], str], b: dict[tuple[str, str], str]
) -> None:
    """For any two sets, over a common base of any size: counts, names and digests."""
    common = {(f"p{number % 50}", f"{number}.0.0"): "one" for number in range(base)}
    left, right = common | a, common | b
    found = compare(summary_of(left), summary_of(right))
    both = left.keys() & right.keys()
    differing = {key for key in both if left[key] != right[key]}
    assert (found.same, found.only_a, found.only_b, found.differing) == (
        len(both) - len(differing),
        len(left.keys() - both),
        len(right.keys() - both),
        len(differing),
    )
    expected = {Difference(*key, sri(left[key]), sri(right[key])) for key in differing}
    assert (set(found.differences), len(found.differences)) == (expected, len(expected))


@given(versions=VERSIONS, base=st.integers(0, 300))
def test_equal_sets_have_equal_bytes(versions: dict[tuple[str, str], str], base: int) -> None:
    """The order of entries leaves no trace, and a comparison of equal sets reads nothing."""
    whole = versions | {("base", str(number)): "one" for number in range(base)}
    one, two = summary_of(whole), summary_of(dict(reversed(whole.items())))
    assert one == two
    assert compare(one, two).same == len(whole)
    assert (one.requests, two.requests) == (0, 0)


def test_a_small_mirror_beside_a_large_one_reads_little_of_it() -> None:
    """One package of a thousand: what only the large one has is counted, not read."""
    large = summary_of({(f"p{number}", "1.0.0"): "one" for number in range(5000)})
    small = summary_of({("p7", "1.0.0"): "two", ("p8", "1.0.0"): "one"})
    found = compare(small, large)
    assert (found.same, found.only_a, found.only_b, found.differing) == (1, 0, 4998, 1)
    assert (small.requests, large.requests <= 7) == (1, True)


def test_an_empty_mirror_reads_nothing() -> None:
    """Of the other one neither."""
    full, empty = summary_of({("a", "1"): "one"}), summary_of({})
    found = compare(empty, full)
    assert (found.same, found.only_a, found.only_b, found.differing) == (0, 0, 1, 0)
    assert (full.requests, empty.requests) == (0, 0)


def test_only_so_many_differences_are_kept() -> None:
    """All are counted."""
    one = summary_of({("a", str(number)): "one" for number in range(300)})
    two = summary_of({("a", str(number)): "two" for number in range(300)})
    found = compare(one, two, keep=10)
    assert (found.differing, len(found.differences)) == (300, 10)
    assert "300 differing, 0 ranges waiting" in repr(found)


def test_a_package_of_many_versions_is_divided() -> None:
    """No node grows with the number of versions of one package; one new version costs a few nodes."""
    old = {("canary", f"0.0.0-{number}"): "one" for number in range(10_000)}
    one, two = summary_of(old), summary_of(old | {("canary", "1.0.0"): "one"})
    assert max(map(len, one.nodes.values())) < 20_000
    assert compare(one, two).only_b == 1
    assert two.requests < 14


def test_tasks_may_be_settled_in_any_order() -> None:
    """Several workers take tasks while others are in work."""
    one = summary_of({("a", str(number)): "one" for number in range(500)})
    two = summary_of({("a", str(number)): "two" for number in range(0, 1000, 2)})
    comparison = Comparison(one.root, two.root, keep=1000)
    taken: list[Task] = []
    while True:
        while (task := comparison.take()) is not None:
            taken.append(task)
        if not taken:
            break
        task = taken.pop(0)
        comparison.settle(task, one.read(task.prefix, task.a), two.read(task.prefix, task.b))
    assert (comparison.same, comparison.only_a, comparison.only_b, comparison.differing) == (0, 250, 250, 250)


def changed(summary: MemorySummary, prefix: str, ref: Ref, name: str, version: str) -> Ref:
    """Give one version of a summary other bytes; return the new node of the range."""
    node = summary.read(prefix, ref)
    if isinstance(node, Leaf):
        kept = [found for found in node.entries if (found.name, found.version) != (name, version)]
        made = make_subtree(prefix, [*kept, entry(name, version, "other bytes")], summary.nodes.__setitem__)
    else:
        digit = entry(name, version).position[len(prefix)]
        children = {key: Subtree(child) for key, child in node.children.items()}
        children[digit] = Subtree(changed(summary, prefix + digit, node.children[digit], name, version))
        made = join(prefix, children, summary.nodes.__setitem__)
    assert made.body is not None
    summary.nodes[made.ref.digest] = made.body
    return made.ref


@pytest.mark.slow
def test_three_differences_of_a_million_cost_under_200_kb() -> None:
    """1,000,000 versions in two mirrors, three with other bytes: found with under 200 kB read of both together.

    Of the sixteen parts of the tree only those with a difference are made; the others are the same in both, so nobody
    looks behind their digest, and any will do.
    """
    wrong = [("package-0", "5.0.0"), ("package-50000", "0.0.0"), ("package-99999", "9.0.0")]
    wanted = {package_prefix(name)[0] for name, _ in wrong}
    same = f"sha512-{base64.b64encode(bytes(64)).decode()}"
    entries: list[Entry] = []
    others: Counter[str] = Counter()
    for number in range(100_000):
        name = f"package-{number}"
        digit = package_prefix(name)[0]
        if digit not in wanted:
            others[digit] += 10
            continue
        made = [make_entry(name, f"{version}.0.0", same) for version in range(10)]
        entries.extend(found for found in made if found is not None)
    nodes: dict[str, bytes] = {}
    children = {digit: Subtree(Ref(count, f"{count:064}")) for digit, count in others.items()}
    children |= {digit: make_subtree(digit, part, nodes.__setitem__) for digit, part in split(0, entries).items()}
    top = join("", children, nodes.__setitem__)
    assert top.ref.versions == 1_000_000
    nodes[top.ref.digest] = top.body or b""
    one = MemorySummary(top.ref, nodes)
    root = one.root
    for name, version in wrong:
        root = changed(one, "", root, name, version)
    two = MemorySummary(root, nodes)
    one.requests = one.size = 0
    found = compare(one, two)
    assert (found.same, found.only_a, found.only_b, found.differing) == (999_997, 0, 0, 3)
    assert {(item.name, item.version) for item in found.differences} == set(wrong)
    assert one.size + two.size < 200_000
    assert one.requests + two.requests < 40
