"""The cursor's position moves only behind what is finished, in the order in which it was read (P2, P8)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.watermark import Watermark
from mirrorwitness.npm.changes import Seq


def test_p8_a_page_that_is_done_waits_for_those_before_it() -> None:
    """The last page being done moves nothing; the first one then moves over all."""
    mark = Watermark(Seq("0"))
    first, second = mark.open(Seq("10")), mark.open(Seq("20"), seen=5.0)
    first.add()
    second.add()
    first.is_complete = second.is_complete = True
    second.finish()
    assert (mark.advance(), mark.position, mark.seen, mark.open_pages) == (False, "0", 0.0, 2)
    first.finish()
    assert (mark.advance(), mark.position, mark.seen, mark.open_pages) == (True, "20", 5.0, 0)
    assert not mark.advance()


def test_a_page_is_not_done_before_all_its_work_was_added() -> None:
    """Work that is quicker than its page is read does not let the position pass it."""
    mark = Watermark(Seq("0"))
    page = mark.open(Seq("10"))
    page.add()
    page.finish()
    assert not mark.advance()
    assert (repr(page), repr(mark)) == ("<Page until 10, 0 left>", "<Watermark at 0, 1 pages open>")
    page.is_complete = True
    assert mark.advance()


@given(st.lists(st.integers(0, 3), max_size=8), st.randoms(use_true_random=False))
def test_p8_the_position_is_always_behind_the_first_unfinished_page(sizes: list[int], chance: object) -> None:
    """Whatever the order in which work ends."""
    mark = Watermark(Seq("start"))
    pages = [mark.open(Seq(str(number))) for number in range(len(sizes))]
    work = [page for page, size in zip(pages, sizes, strict=True) for _ in range(size)]
    for page in work:
        page.add()
    for page in pages:
        page.is_complete = True
    chance.shuffle(work)  # type: ignore[attr-defined]
    for finished in range(len(work) + 1):
        if finished:
            work[finished - 1].finish()
        mark.advance()
        done = next((number for number, each in enumerate(pages) if each.left), len(pages))
        assert mark.position == (str(done - 1) if done else "start")
