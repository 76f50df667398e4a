"""Every single-bit change of a bundle, and every cut, is refused, and nothing visible changes (issue 5, air gap)."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.errors import ExitCode, MirrorWitnessError
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.bundling import World, make_world, visible

if TYPE_CHECKING:
    from collections.abc import Callable


@cache
def made() -> tuple[World, bytes]:
    """Return two mirrors, one of which has a package, and a signed bundle of it."""

    async def make(folder: Path) -> tuple[World, bytes]:
        world = await make_world(folder)
        await world.publish("left", "1.0.0")
        return world, (await world.export("one.tar", key=world.log.key)).read_bytes()

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(make, Path(folder))


def is_taken(change: Callable[[bytes], bytes]) -> bool:
    """Import a changed bundle into an empty mirror; where it is refused, the mirror must be as empty as before."""
    world, body = made()
    world.inside.storage = MemoryStorage()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.tar")
        path.write_bytes(change(body))
        try:
            summary = trio.run(world.take_in, path)
        except MirrorWitnessError:
            assert visible(world.inside.storage) == {}
            return False
    return summary.exit_code() is ExitCode.COMPLETE


def test_what_nobody_changed_is_taken() -> None:
    """Or the rest would show nothing."""
    assert is_taken(lambda body: body)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
@example(0.0, 0)
@example(0.999999, 7)
def test_a_bit(where: float, place: int) -> None:
    """In a header, between two files, in a tarball, a proof, the manifest, its digest or its signature, in the end."""

    def flip(body: bytes) -> bytes:
        at = int(where * len(body))
        return body[:at] + bytes([body[at] ^ 1 << place]) + body[at + 1 :]

    assert not is_taken(flip)


@given(st.floats(0, 1, exclude_max=True))
def test_a_cut(where: float) -> None:
    """Wherever it ends."""
    assert not is_taken(lambda body: body[: int(where * len(body))])


@pytest.mark.parametrize("more", [b"\0", bytes(512), bytes(10_240), b"more"])
def test_something_behind_the_end(more: bytes) -> None:
    """Also where other programs fill a tar with zeros."""
    assert not is_taken(lambda body: body + more)
