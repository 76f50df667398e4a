"""Every single-bit change in tarball, record, proof or checkpoint makes `check` fail (issue 5).

A log with one key and a policy that wants both witnesses: then every line of the checkpoint is needed. With more keys
or a looser quorum a changed line may be one that nobody needs; it counts as absent then.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.errors import ExitCode, MirrorWitnessError
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.run.checking import CheckWishes, run_check
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.offline import open_bundle, open_proof
from mirrorwitness.sumdb.proofbundle import format_bundle, group_proofs
from mirrorwitness.sumdb.verdict import Verdict, Wanted, judge
from tests.fakes.registry_build import make_tarball
from tests.fakes.sumdb import LOG_KEY, POLICY, FakeSumdb, filler, make_record
from tests.unit.sumdb.checked_log import TERMS, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.offline import OfflineProofs

TARBALL: Final = make_tarball({"index.js": b"module.exports = 1\n"}, name="left", version="1.0.0")
LEFT: Final = make_record("left", "1.0.0", TARBALL)
SIZE: Final = 9
LOG: Final = FakeSumdb([*filler(4), LEFT, *filler(4)])
PROOF: Final = LOG.proof(4, SIZE)
NOTE: Final = LOG.checkpoint()
WANTED: Final = Wanted(LEFT.name, LEFT.version, LEFT.integrity)
BESIDE: Final = PROOF + NOTE
BUNDLE: Final = format_bundle(group_proofs([(NOTE, parse_lookup(PROOF, has_checkpoint=False))]))


def flip(body: bytes, bit: int) -> bytes:
    """Change one bit."""
    at, place = divmod(bit, 8)
    return body[:at] + bytes([body[at] ^ 1 << place]) + body[at + 1 :]


def bits_of(body: bytes) -> st.SearchStrategy[int]:
    return st.integers(0, 8 * len(body) - 1)


async def check_files(tarball: bytes, proof: bytes) -> ExitCode:
    """Run `check` over a tarball with the proof beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "left-1.0.0.tgz")
        path.write_bytes(tarball)  # noqa: ASYNC240 - small, and nothing else runs
        Path(folder, "left-1.0.0.tgz.tlog-proof").write_bytes(proof)  # noqa: ASYNC240
        wishes = CheckWishes(
            arguments=(str(path),), sumdb=(str(LOG_KEY.verifier),), policy=POLICY, state=Path(folder, "state")
        )
        return (await run_check(wishes, SilentProgress())).exit_code()


async def look_up_online(log: FakeSumdb) -> Verdict:
    """Look `LEFT` up as a first run does, and judge what came."""
    client = Reader(log).client(TERMS)
    await client.update()
    return judge(WANTED, (await client.lookup(LEFT.name, LEFT.version)).record).verdict


def test_what_nobody_changed_passes() -> None:
    """Or the rest would show nothing."""
    assert trio.run(check_files, TARBALL, BESIDE) is ExitCode.COMPLETE
    assert trio.run(look_up_online, LOG) is Verdict.VERIFIED
    assert is_verified(lambda body: open_proof(body, TERMS), BESIDE)
    assert is_verified(lambda body: open_bundle(body, TERMS), BUNDLE)


@given(bits_of(TARBALL))
@example(8 * 4)  # the time in gzip's header, which no reader of the archive looks at
def test_a_bit_of_the_tarball(bit: int) -> None:
    """Also one that every unpacker passes over."""
    assert not passes(flip(TARBALL, bit), BESIDE)


@given(bits_of(BESIDE))
def test_a_bit_of_the_proof_beside_it(bit: int) -> None:
    """Record, index, hashes, checkpoint, signatures, cosignatures."""
    assert not passes(TARBALL, flip(BESIDE, bit))


def passes(tarball: bytes, proof: bytes) -> bool:
    try:
        return trio.run(check_files, tarball, proof) is ExitCode.COMPLETE
    except MirrorWitnessError:
        return False


@given(bits_of(NOTE))
def test_a_bit_of_the_checkpoint_that_a_log_shows(bit: int) -> None:
    """Online: nothing is looked up under it."""
    log = FakeSumdb([*filler(4), LEFT, *filler(4)])
    log.note = flip(NOTE, bit)
    with pytest.raises(MirrorWitnessError):
        trio.run(look_up_online, log)


@given(bits_of(PROOF))
def test_a_bit_of_an_answer(bit: int) -> None:
    """Online: the record is not believed."""
    log = FakeSumdb([*filler(4), LEFT, *filler(4)])
    log.bodies[f"/lookup/left@1.0.0?size={SIZE}"] = flip(PROOF, bit)
    with pytest.raises(MirrorWitnessError):
        trio.run(look_up_online, log)


def is_verified(open_file: Callable[[bytes], OfflineProofs], body: bytes) -> bool:
    """Say whether a file of proofs shows that the wanted version is in the log."""
    names: tuple[PackageName, Version] = LEFT.name, LEFT.version
    try:
        found = open_file(body).lookup(*names)
    except MirrorWitnessError:
        return False
    return judge(WANTED, found.record).verdict is Verdict.VERIFIED


@given(bits_of(BUNDLE))
def test_a_bit_of_a_bundle(bit: int) -> None:
    """The same proofs in one file."""
    assert not is_verified(lambda body: open_bundle(body, TERMS), flip(BUNDLE, bit))


@pytest.mark.slow
def test_every_bit_of_a_file_of_proofs() -> None:
    """All of them, one after another."""
    bits = range(8 * len(BESIDE))
    assert [bit for bit in bits if is_verified(lambda body: open_proof(body, TERMS), flip(BESIDE, bit))] == []
