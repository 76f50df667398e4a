"""Checks against proofs that are at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ProofError, SignatureError, UpstreamNotFoundError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.offline import open_bundle, open_proof
from mirrorwitness.sumdb.proofbundle import format_bundle, group_proofs
from mirrorwitness.sumdb.records import Event, format_record
from tests.fakes.sumdb import LOG_KEY, W1, FakeSumdb, filler, make_record
from tests.unit.sumdb.checked_log import LEFT, TERMS, UNWITNESSED, make_log

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey

ONE = Version("1.0.0")


def bundle_of(log: FakeSumdb, *places: tuple[int, int]) -> bytes:
    """Return a bundle of the entries at (size, index)."""
    return format_bundle(
        group_proofs(
            (log.checkpoint(size), parse_lookup(log.proof(index, size), has_checkpoint=False)) for size, index in places
        )
    )


def test_what_a_bundle_has_is_found() -> None:
    """Each version under the checkpoint that it stands below."""
    log = make_log(20)
    proofs = open_bundle(bundle_of(log, (20, 5), (10, 7)), TERMS)
    assert [verdict.opened.checkpoint.size for verdict in proofs.verdicts] == [10, 20]
    found = proofs.lookup(LEFT.name, ONE)
    assert (found.record, found.index, found.tree) == (LEFT, 5, log.tree(20))
    assert proofs.lookup(PackageName("filler-7"), ONE).tree.size == 10
    assert repr(proofs) == "<OfflineProofs of 2 versions under 2 checkpoints>"


def test_what_a_bundle_does_not_have() -> None:
    """Nobody can be asked."""
    with pytest.raises(UpstreamNotFoundError, match=r"left@1\.0\.0: no proof of it is here"):
        open_bundle(bundle_of(make_log(20), (20, 7)), TERMS).lookup(LEFT.name, ONE)


def test_the_newest_record_of_a_version_counts() -> None:
    """In whatever checkpoint it is."""
    log = make_log(20)
    log.append(make_record("left", data=b"left", event=Event.UNPUBLISH), *filler(5))
    for places in ([(20, 5), (25, 20)], [(25, 5), (25, 20)], [(22, 20), (25, 5)]):
        assert open_bundle(bundle_of(log, *places), TERMS).lookup(LEFT.name, ONE).record.event is Event.UNPUBLISH


def test_replaced_record_in_a_bundle() -> None:
    """Its proof does not lead to the root; other versions are not touched by it."""
    log, evil = make_log(20), make_log(20)
    evil.entries[5] = format_record(make_record("left", "1.0.0", b"evil"))
    body = bundle_of(log, (20, 5), (20, 7)).replace(log.proof(5, 20).split(b"\n")[1], evil.proof(5, 20).split(b"\n")[1])
    proofs = open_bundle(body, TERMS)
    with pytest.raises(ProofError, match="is not in the log"):
        proofs.lookup(LEFT.name, ONE)
    assert proofs.lookup(PackageName("filler-7"), ONE).index == 7


@pytest.mark.parametrize("signers", [(LOG_KEY,), (LOG_KEY, W1)])
def test_a_bundle_without_the_quorum(signers: tuple[SignerKey, ...]) -> None:
    """Stripped cosignatures; without a policy the log's own signature is enough."""
    log = make_log(20)
    body = group_proofs([(log.checkpoint(20, *signers), parse_lookup(log.proof(5, 20), has_checkpoint=False))])
    with pytest.raises(SignatureError, match="do not meet the quorum"):
        open_bundle(format_bundle(body), TERMS)
    assert open_bundle(format_bundle(body), UNWITNESSED).lookup(LEFT.name, ONE).record == LEFT


def test_one_proof_beside_a_tarball() -> None:
    """It is a bundle of one."""
    log = make_log(20)
    proofs = open_proof(log.proof(5, 20) + log.checkpoint(20), TERMS)
    assert proofs.lookup(LEFT.name, ONE).record == LEFT
    with pytest.raises(UpstreamProtocolError):
        open_proof(log.proof(5, 20), TERMS)


def test_a_leaf_that_is_no_record() -> None:
    """A bundle of another kind of log."""
    log = make_log(20)
    log.entries[5] = b"something\n"
    with pytest.raises(UpstreamProtocolError, match="sumdb record"):
        open_proof(log.proof(5, 20) + log.checkpoint(20), TERMS)
