"""Our own checksum database, pushed to a log mirror and attested: the three components as they are run."""

from __future__ import annotations

import pytest
import trio

from mirrorwitness.logmirror.attest import Attester
from mirrorwitness.logmirror.cosigner import Cosigner
from mirrorwitness.logmirror.roles import ARTIFACTS, RoleView
from mirrorwitness.logmirror.shelf import Shelf
from mirrorwitness.logmirror.upload import Uploader
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.sumdb.fates import Proposal
from mirrorwitness.sumdb.log import create_log, open_log
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.witness.logs import LogSet, WitnessedLog
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import open_identity
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage
from tests.unit.logmirror.sources import fetching, listening
from tests.unit.logmirror.tarballs import hold, publish
from tests.unit.logmirror.test_attest import KEY as ARTIFACT_KEY
from tests.unit.logmirror.world import OURS, MirrorWorld
from tests.unit.witness.world import Clock

ORIGIN = "sum.example.org"
KEYS = tuple(make_signer_key(ORIGIN, bytes([60 + kind]) * 32, kind) for kind in (KeyType.ED25519, KeyType.ML_DSA_44))
LOG = WitnessedLog(ORIGIN, tuple([key.verifier for key in KEYS]))


@pytest.mark.slow
async def test_our_log_is_mirrored_and_its_tarballs_attested() -> None:
    """A log of two keys grows, is pushed to a mirror from its storage, and read there by the artifact statement."""
    mine, clock = MemoryStorage(), Clock()
    await create_log(mine, origin=ORIGIN, keys=KEYS, now=clock())
    log = await open_log(mine, origin=ORIGIN, keys=KEYS, now=clock)
    world = MirrorWorld(labs=())
    mirror = await world.start()
    mirror.logs.add(LOG)
    app = LogMirrorApp(mirror=mirror, storage=world.storage)
    with trio.fail_after(30):
        async with listening(app) as url, fetching() as (fetcher, gate):
            source = StoredLog(mine)
            sender = Uploader(source=source, url=url, keys=[OURS.verifier], fetcher=fetcher, gate=gate)
            for first, count in ((0, 3), (3, 300)):
                versions = [f"1.0.{at}" for at in range(first, first + count)]
                await log.append([Proposal(publish(version)) for version in versions])
                await log.publish(log.head)
                await sender.push(open_checkpoint(await source.read_head(), LOG.keys, origin=ORIGIN))
                for version in versions:
                    hold(world.storage, version)
    copy = StoredLog(world.storage, f"logmirror/{origin_hash(ORIGIN)}/")
    view = RoleView(world.storage, ARTIFACTS, [origin_hash(ORIGIN)])
    own = await open_identity(view, None, [ARTIFACT_KEY.verifier])
    LogSet([LOG], cosigners=own)
    state = WitnessState(storage=view, anchor=None, own=own)
    attester = Attester(
        log=LOG,
        source=copy,
        storage=world.storage,
        shelf=Shelf(storage=world.storage, catalogue=Catalogue(world.storage)),
        cosigner=Cosigner(state=state, signers=[LocalSigner(ARTIFACT_KEY)], own=own, now=clock),
        on_fork=world.keep,
    )
    found = await attester.run()
    assert (found.head, found.signed, found.gaps) == (303, 303, ())
    assert f"artifacts/{origin_hash(ORIGIN)}/checkpoint" in world.storage.objects
