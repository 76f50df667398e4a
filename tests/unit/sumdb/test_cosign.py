"""Asking witnesses: what is sent, what is believed, and what slow, broken and lying ones can and cannot do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ConfigurationError, ProofError, StorageUnavailableError
from mirrorwitness.fetch import HostGate, open_fetcher
from mirrorwitness.sumdb.cosign import Cosigner, WitnessClient
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.cosignature import Statement, fits_cosignature
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.note import Signature
from mirrorwitness.tlog.witnessing import SIZE_TYPE
from tests.fakes.cosigners import AskFetcher, FakeWitness, sign_as
from tests.fakes.registry_server import Reply
from tests.fakes.serving import serve
from tests.unit.tlog import signing
from tests.unit.witness.log_server import make_lab

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.sumdb.cosign import Gathered
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.witness.protocol import AddCheckpoint
    from tests.fakes.registry_server import RecordedRequest

LAB = make_lab("a", KeyType.ED25519, KeyType.ML_DSA_44)
FORK = LAB.fork(5)
LOG_KEYS = [key.verifier for key in LAB.keys]
TEXT = (("content-type", "text/plain; charset=utf-8"),)


def everybody(keys: Sequence[VerifierKey]) -> bool:
    """Ask for more than there are: nobody is left out."""
    return len(keys) > 99


@dataclass
class Asking:
    """A log that asks some witnesses."""

    witnesses: tuple[FakeWitness, ...]
    deadline: float = 10.0
    grace: float = 1.0
    proofs: list[tuple[int, int]] = field(default_factory=list)
    broken: MirrorWitnessError | None = None

    def __post_init__(self) -> None:
        fetcher, gate = AskFetcher(*self.witnesses), HostGate()
        clients = [
            WitnessClient(
                keys=[key.verifier for key in each.keys], log=LOG_KEYS, url=each.base, fetcher=fetcher, gate=gate
            )
            for each in self.witnesses
        ]
        self.cosigner = Cosigner(witnesses=clients, prove=self.prove, deadline=self.deadline, grace=self.grace)

    async def prove(self, old: int, new: int, root: Hash) -> list[Hash]:
        await trio.lowlevel.checkpoint()
        assert root == LAB.root(new)
        self.proofs.append((old, new))
        if self.broken is not None:
            raise self.broken
        return LAB.proof(old, new)

    async def ask(self, size: int, *, enough: int = 99, is_patient: bool = False) -> Gathered:
        note = LAB.sign(LAB.text(size), *LAB.keys)
        return await self.cosigner.gather(note, is_enough=lambda keys: len(set(keys)) >= enough, is_patient=is_patient)


def make_witness(*keys: SignerKey, name: str = "w") -> FakeWitness:
    return FakeWitness(*keys, log=LOG_KEYS, name=name)


def names(found: Gathered) -> set[str]:
    return {each.key.name for each in found.cosignatures}


async def test_a_first_request_begins_at_0_and_the_next_where_the_witness_is() -> None:
    """The proof comes from the log's own tiles, and every line that comes back is the witness's."""
    witness = make_witness(signing.A)
    asking = Asking((witness,))
    for size in (3, 7, 7, 12):
        (found,) = (await asking.ask(size)).cosignatures
        tree = open_checkpoint(LAB.checkpoint(size), LOG_KEYS, origin=LAB.origin).checkpoint
        statement = Statement(LAB.origin, 0, size, tree.root, tree.text)
        assert fits_cosignature(signing.A.verifier, found.line, statement)
    assert witness.asked == [(0, 3), (3, 7), (7, 7), (7, 12)]
    assert asking.proofs == [(3, 7), (7, 12)]
    assert asking.cosigner.counts == {("witness-a.example", "cosigned"): 4}


async def test_a_new_process_learns_the_size_from_a_409() -> None:
    """It asks from 0, is told 7, and proves from there."""
    witness = make_witness(signing.A)
    await Asking((witness,)).ask(7)
    assert names(await Asking((witness,)).ask(12)) == {signing.A.name}
    assert witness.asked == [(0, 7), (0, 12), (7, 12)]


async def test_the_empty_tree_is_cosigned() -> None:
    """A log without records has a head too."""
    witness = make_witness(signing.A)
    assert names(await Asking((witness,)).ask(0)) == {signing.A.name}


async def test_a_witness_with_two_keys() -> None:
    """Both lines of one answer count."""
    witness = make_witness(signing.A, make_key_of(signing.A))
    found = await Asking((witness,)).ask(5)
    assert [each.key.kind for each in found.cosignatures] == [KeyType.COSIGNATURE, KeyType.ML_DSA_44]


def make_key_of(key: SignerKey) -> SignerKey:
    """Return a post-quantum key of the same name."""
    return make_signer_key(key.name, bytes([9] * 32), KeyType.ML_DSA_44)


async def test_a_witness_that_is_down_fails_alone(autojump_clock: trio.testing.MockClock) -> None:
    """The others are asked at the same time, and their lines are there."""
    down, up = make_witness(signing.A, name="down"), make_witness(signing.B, name="up")
    down.is_down = True
    found = await Asking((down, up)).ask(5)
    assert names(found) == {signing.B.name}
    assert set(found.failures) == {signing.A.name}
    assert "nobody answers" in found.failures[signing.A.name]
    assert trio.current_time() < 1


async def test_a_slow_witness_is_not_waited_for_longer_than_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its place in the answer says so, and the others are there."""
    slow, quick = make_witness(signing.A, name="slow"), make_witness(signing.B, name="quick")
    slow.latency = 1_000
    asking = Asking((slow, quick))
    start = trio.current_time()
    found = await asking.ask(5)
    assert names(found) == {signing.B.name}
    assert found.failures[signing.A.name].startswith("no answer within 10 s")
    assert trio.current_time() - start == pytest.approx(10)
    assert asking.cosigner.counts == {(signing.A.name, "late"): 1, (signing.B.name, "cosigned"): 1}


async def test_once_there_are_enough_the_others_have_a_short_grace(autojump_clock: trio.testing.MockClock) -> None:
    """One that answers within it counts, one that does not holds nobody up."""
    quick, soon, slow = (make_witness(key, name=key.name[:9]) for key in (signing.A, signing.B, signing.C))
    soon.latency, slow.latency = 0.5, 5
    start = trio.current_time()
    found = await Asking((quick, soon, slow)).ask(5, enough=1)
    assert names(found) == {signing.A.name, signing.B.name}
    assert trio.current_time() - start == pytest.approx(1)


def other_tree(asked: AddCheckpoint) -> list[Signature]:
    """Cosign another tree than was asked for."""
    tree = replace(asked.checkpoint, root=FORK.root(asked.checkpoint.size))
    return [sign_as(signing.A, replace(asked, checkpoint=tree, note=replace(asked.note, text=tree.text)))]


def broken_line(asked: AddCheckpoint) -> list[Signature]:
    """Change one bit of a good line."""
    line = sign_as(signing.A, asked)
    return [Signature(line.name, line.key_id, line.value[:-1] + bytes([line.value[-1] ^ 1]))]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (other_tree, "does not verify"),
        (broken_line, "does not verify"),
        (lambda asked: [sign_as(signing.A, asked), *broken_line(asked)], "does not verify"),
        (lambda asked: [sign_as(signing.STRANGER, asked)], "of none of its keys"),
        (lambda asked: [sign_as(signing.A, asked, timestamp=0)], "with no time"),
    ],
)
async def test_a_lying_witness_is_passed_over(
    lines: Callable[[AddCheckpoint], Sequence[Signature]], reason: str
) -> None:
    """Another tree, a broken line, a good one beside a broken one, a stranger's, none with a time: nothing counts."""
    liar, honest = make_witness(signing.A, name="liar"), make_witness(signing.B, name="honest")
    liar.lines = lines
    asking = Asking((liar, honest))
    found = await asking.ask(7)
    assert names(found) == {signing.B.name}
    assert reason in found.failures[signing.A.name]
    assert asking.cosigner.counts[signing.A.name, "wrong"] == 1
    liar.lines = lambda asked: [sign_as(signing.A, asked)]
    assert names(await asking.ask(9)) == {signing.A.name, signing.B.name}, "it is asked again"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(200, TEXT, b"hello\n"), "is not a signature line"),
        (Reply(200, TEXT, b"x" * 1_000_000), "body of at most 262144 bytes"),
        (Reply(302, (("location", "http://elsewhere.example/"),)), "status 302"),
        (Reply(400, TEXT, b"\x1b[31mred"), r"status 400 (text/plain; charset=utf-8): '\x1b[31mred'"),
        (Reply(403, TEXT, b"not signed\n"), "status 403"),
        (Reply(404, TEXT, b"unknown log\n"), "unknown log"),
        (Reply(500, TEXT), "status 500"),
        (Reply(503, TEXT), "status 503"),
        (Reply(409, TEXT, b"7\n"), "status 409"),
        (Reply(409, (("content-type", SIZE_TYPE),), b"seven\n"), "expected a decimal"),
        (Reply(409, (("content-type", SIZE_TYPE),), b"0\n"), "its size is not 0, it says, and that it is 0"),
    ],
)
async def test_a_witness_that_says_something_else(reply: Reply, reason: str) -> None:
    """The reason is kept for people, and the others go on."""
    broken, honest = make_witness(signing.A, name="broken"), make_witness(signing.B, name="honest")
    broken.reply = reply
    found = await Asking((broken, honest)).ask(5)
    assert names(found) == {signing.B.name}
    assert reason in found.failures[signing.A.name]


async def test_a_witness_whose_size_never_stands_still() -> None:
    """Others feed it, or it mocks us: after three times it has failed."""
    sizes = iter(range(1, 100))

    class Moving(FakeWitness):
        def answer(self, request: RecordedRequest) -> Reply:
            assert request.method == "POST"
            return Reply(409, (("content-type", SIZE_TYPE),), b"%d\n" % next(sizes))

    asking = Asking((Moving(signing.A, log=LOG_KEYS),))
    found = await asking.ask(50)
    assert "moved to another size 3 times" in found.failures[signing.A.name]
    assert asking.proofs == [(1, 50), (2, 50)]


async def test_at_the_beginning_everybody_is_heard(autojump_clock: trio.testing.MockClock) -> None:
    """A slow witness may be the only one that knows better: the deadline counts, not the grace."""
    quick, slow = make_witness(signing.A, name="quick"), make_witness(signing.B, name="slow")
    slow.latency = 5
    assert names(await Asking((quick, slow)).ask(5, enough=1, is_patient=True)) == {signing.A.name, signing.B.name}


async def test_attack_a_witness_answers_with_many_good_lines() -> None:
    """Of one key the newest counts: 60 of each of two witnesses would make a checkpoint that no client reads."""
    flooding = make_witness(signing.A)
    flooding.lines = lambda asked: [sign_as(signing.A, asked, timestamp=1 + number % 60) for number in range(7, 67)]
    (found,) = (await Asking((flooding,)).ask(5)).cosignatures
    assert found.timestamp == 60


def against(found: Gathered) -> list[tuple[str, str, bytes | None]]:
    return [(each.witness, each.what, each.shown) for each in found.contradictions]


@pytest.mark.parametrize(
    ("size", "root", "what"),
    [
        (12, LAB.root(12), "has cosigned a tree of size 12"),
        (7, FORK.root(7), "does not find it consistent with its size 7: "),
        (6, FORK.root(6), "does not find it consistent with its size 6: "),
    ],
)
@pytest.mark.parametrize("is_shown", [False, True])
async def test_rollback_or_fork_of_our_own_log_is_told(size: int, root: Hash, what: str, is_shown: bool) -> None:  # noqa: FBT001
    """A larger tree, another of our size, another earlier one: proven where the witness shows what it cosigned."""
    witness, other = make_witness(signing.A, name="ahead"), make_witness(signing.B, name="behind")
    witness.size, witness.root = size, root
    note = (LAB if size == 12 else FORK).checkpoint(size)
    witness.shown = note if is_shown else None
    asking = Asking((witness, other))
    found = await asking.ask(7)
    ((name, said, shown),) = against(found)
    assert (name, said.startswith(what), shown) == (signing.A.name, True, note if is_shown else None)
    assert asking.cosigner.counts[signing.A.name, "contradicts"] == 1
    assert found.failures[signing.A.name] == said


async def test_fork_at_our_own_size_said_with_a_409() -> None:
    """A witness of version 1.0.0 answers another root of our size so: a copy of the log that grew beside it."""
    witness = make_witness(signing.A)
    witness.reply = Reply(409, (("content-type", SIZE_TYPE),), b"7\n")
    witness.shown = FORK.checkpoint(7)
    assert against(await Asking((witness,)).ask(7)) == [
        (signing.A.name, "has cosigned another tree of this size", witness.shown)
    ]


async def test_proof_in_the_answer_itself() -> None:
    """A witness may say what it cosigned in its 422; it needs no address that shows it."""
    witness = make_witness(signing.A)
    asking = Asking((witness,))
    await asking.ask(7)
    witness.reply = Reply(422, TEXT, FORK.checkpoint(7))
    assert [shown for _, _, shown in against(await asking.ask(9))] == [FORK.checkpoint(7)]


@pytest.mark.parametrize(
    "shown",
    [
        b"hello\n",
        LAB.checkpoint(7),
        LAB.checkpoint(3),
        LAB.checkpoint(0),
        LAB.checkpoint(12).replace(b"12", b"13"),
        make_lab("b", KeyType.ED25519).checkpoint(12),
        b"x" * 2_000_000,
    ],
)
async def test_attack_a_witness_shows_what_proves_nothing(shown: bytes) -> None:
    """No note, our own trees, a broken signature, another log's checkpoint, too much: its word alone is left."""
    liar = make_witness(signing.A)
    liar.reply, liar.shown = Reply(409, (("content-type", SIZE_TYPE),), b"12\n"), shown
    assert against(await Asking((liar,)).ask(7)) == [(signing.A.name, "has cosigned a tree of size 12", None)]


async def test_what_a_witness_said_is_not_lost_where_its_proof_is_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It shows nothing within the deadline, and others made the quorum: that it contradicted is known all the same."""
    witness, other = make_witness(signing.A, name="ahead"), make_witness(signing.B, name="behind")
    witness.size, witness.root, witness.show_latency = 12, LAB.root(12), 1_000
    found = await Asking((witness, other)).ask(7, enough=1)
    assert (names(found), [shown for _, _, shown in against(found)]) == ({signing.B.name}, [None])
    assert trio.current_time() < 2


async def test_a_witness_that_agrees_again_counts_again() -> None:
    """It is asked anew each time, from the beginning; what it once said is not held against it."""
    witness = make_witness(signing.A)
    asking = Asking((witness,))
    witness.reply = Reply(409, (("content-type", SIZE_TYPE),), b"99999\n")
    assert len((await asking.ask(5)).contradictions) == 1
    witness.reply = None
    assert names(await asking.ask(7)) == {signing.A.name}
    assert witness.asked == [(0, 5), (0, 7)]


async def test_rollback_within_one_process_is_told() -> None:
    """A head that is smaller than what the witness cosigned for us: it is asked from the beginning, and says so."""
    witness = make_witness(signing.A)
    asking = Asking((witness,))
    await asking.ask(12)
    assert [what for _, what, _ in against(await asking.ask(7))] == ["has cosigned a tree of size 12"]
    assert witness.asked == [(0, 12), (0, 7)]


async def test_a_422_to_a_first_request_is_a_broken_witness() -> None:
    """From 0 there is nothing to contradict."""
    witness = make_witness(signing.A)
    witness.reply = Reply(422, TEXT, b"no\n")
    found = await Asking((witness,)).ask(7)
    assert (found.contradictions, "status 422" in found.failures[signing.A.name]) == ((), True)


@pytest.mark.parametrize("broken", [StorageUnavailableError("no tiles"), ProofError("other tiles")])
async def test_tiles_of_our_own_that_cannot_be_read_are_no_witness_s_fault(broken: MirrorWitnessError) -> None:
    """The error goes up as it is."""
    witness = make_witness(signing.A)
    witness.size, witness.root = 7, LAB.root(7)
    asking = Asking((witness,), broken=broken)
    with pytest.raises(type(broken), match="tiles"):
        await asking.ask(12)


async def test_rollback_weighs_more_than_a_storage_that_failed() -> None:
    """Of two things that end a round, the one that cannot be taken back is told."""
    ahead, behind = make_witness(signing.A, name="ahead"), make_witness(signing.B, name="behind")
    ahead.size, ahead.root = 12, LAB.root(12)
    behind.size, behind.root = 3, LAB.root(3)
    asking = Asking((behind, ahead), broken=StorageUnavailableError("no tiles"))
    behind.latency = 0.01
    assert len((await asking.ask(7)).contradictions) == 1


async def test_over_loopback() -> None:
    """The request as the real client sends it."""
    witness = make_witness(signing.A)
    async with serve(witness), open_fetcher() as fetcher:
        client = WitnessClient(
            keys=[signing.A.verifier], log=LOG_KEYS, url=f"{witness.base}/", fetcher=fetcher, gate=HostGate()
        )
        cosigner = Cosigner(witnesses=[client], prove=Asking((witness,)).prove)
        for size in (3, 7):
            note = LAB.sign(LAB.text(size), *LAB.keys)
            assert names(await cosigner.gather(note, is_enough=everybody)) == {signing.A.name}
    assert witness.asked == [(0, 3), (3, 7)]
    assert "size 7" in repr(client)
    assert "1 witnesses" in repr(cosigner)


def test_two_urls_of_one_witness_are_refused() -> None:
    """Its name stands for it everywhere."""
    with pytest.raises(ConfigurationError, match="two URLs"):
        Asking((make_witness(signing.A, name="one"), make_witness(signing.A, name="two")))
