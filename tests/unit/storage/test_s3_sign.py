"""Credentials that are exchanged while requests are under way: one look, and nobody puts the old ones back.

Sources of credentials answer from threads; here a test says when, so that every order is tried on purpose.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from botocore.credentials import Credentials, ReadOnlyCredentials

from mirrorwitness.errors import StorageRefusedError
from mirrorwitness.storage import s3_sign
from mirrorwitness.storage.s3_sign import Signer

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = Credentials("AKIAOLD", "s", "t-old")
NEW = Credentials("AKIANEW", "s", "t-new")


@dataclass(slots=True)
class Source:
    """Answers when the test says so.

    Attributes:
        asked: how often somebody looked for credentials.
        answer: lets looks answer.
        freeze: lets the old credentials answer.
        error: raised instead of an answer.
    """

    asked: int = 0
    answer: threading.Event = field(default_factory=threading.Event)
    freeze: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def load(self, _profile: str | None) -> tuple[Credentials, ReadOnlyCredentials]:
        self.asked += 1
        assert self.answer.wait(10)
        if self.error is not None:
            raise self.error
        return NEW, NEW.get_frozen_credentials()

    def freeze_slowly(self, credentials: Credentials) -> ReadOnlyCredentials:
        assert self.freeze.wait(10)
        return credentials.get_frozen_credentials()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    made = Source()
    monkeypatch.setattr(s3_sign, "_load", made.load)
    monkeypatch.setattr(s3_sign, "_freeze", made.freeze_slowly)
    yield made
    made.answer.set()
    made.freeze.set()


def make_signer() -> Signer:
    return Signer(credentials=OLD, region="r", profile=None)


def key_of(signer: Signer) -> str:
    authorization = signer.sign("GET", "http://host/", {}, payload_hash="")["Authorization"]
    return authorization.partition("Credential=")[2].partition("/")[0]


async def test_many_tasks_that_saw_the_same_token_cause_one_look(source: Source) -> None:
    """All wait for it, all go on with the new credentials; whoever comes late with the old number changes nothing."""
    signer = make_signer()
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(signer.reload, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert signer.generation == 0
        source.answer.set()
    await signer.reload(0)
    assert (signer.generation, source.asked, key_of(signer)) == (1, 1, "AKIANEW")
    await signer.reload(1)
    assert (signer.generation, source.asked) == (2, 2)


async def test_a_late_answer_does_not_put_the_old_credentials_back(source: Source) -> None:
    """`freshen` began with the old ones and answers after a `reload` was asked for: the new ones stay."""
    signer = make_signer()
    source.answer.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signer.freshen)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(signer.reload, 0)
        await trio.testing.wait_all_tasks_blocked()
        source.freeze.set()
    assert (signer.generation, key_of(signer)) == (1, "AKIANEW")


async def test_freshen_behind_a_reload_has_nothing_to_do(source: Source) -> None:
    """The other order: who waited for the reload signs with what it brought."""
    signer = make_signer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signer.reload, 0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(signer.freshen)
        await trio.testing.wait_all_tasks_blocked()
        source.answer.set()
    assert key_of(signer) == "AKIANEW"
    assert not source.freeze.is_set()


async def test_signing_goes_on_while_new_credentials_are_looked_for(source: Source) -> None:
    """Until the look has answered, the old ones are used whole: never a key of one and a token of the other."""
    signer = make_signer()
    source.freeze.set()
    await signer.freshen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signer.reload, 0)
        await trio.testing.wait_all_tasks_blocked()
        headers = signer.sign("GET", "http://host/", {}, payload_hash="")
        assert (key_of(signer), headers["X-Amz-Security-Token"]) == ("AKIAOLD", "t-old")
        source.answer.set()
    headers = signer.sign("GET", "http://host/", {}, payload_hash="")
    assert (key_of(signer), headers["X-Amz-Security-Token"]) == ("AKIANEW", "t-new")


async def test_a_look_that_fails_leaves_everything_as_it_was(source: Source) -> None:
    """The error goes to who asked; the next one with the same number tries again."""
    signer = make_signer()
    source.freeze.set()
    source.answer.set()
    await signer.freshen()
    source.error = StorageRefusedError("no answer")
    with pytest.raises(StorageRefusedError, match="no answer"):
        await signer.reload(0)
    assert (signer.generation, key_of(signer)) == (0, "AKIAOLD")
    source.error = None
    await signer.reload(0)
    assert (signer.generation, key_of(signer)) == (1, "AKIANEW")


async def test_a_cancelled_look_leaves_everything_as_it_was(source: Source) -> None:
    """The thread cannot be stopped and answers; nobody else is kept out by it afterwards."""
    signer = make_signer()
    source.freeze.set()
    await signer.freshen()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signer.reload, 0)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            source.answer.set()
    assert (signer.generation, key_of(signer)) in {(0, "AKIAOLD"), (1, "AKIANEW")}
    await signer.reload(signer.generation)
    assert key_of(signer) == "AKIANEW"
