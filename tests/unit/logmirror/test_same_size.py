"""Several checkpoints of one tree: other extension lines, or other keys of the log. Whoever brought one gets that."""

from __future__ import annotations

import trio

from mirrorwitness.logmirror.decision import Admitted, Conflict, Known, Pending, admit
from mirrorwitness.logmirror.protocol import UploadHead
from mirrorwitness.tlog.cosignature import check_cosignatures
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.note import parse_lines
from mirrorwitness.tlog.witnessing import format_add_checkpoint
from mirrorwitness.witness.lab import statement_of
from mirrorwitness.witness.logs import WitnessedLog
from tests.unit.logmirror.world import LAB, OURS, MirrorWorld, body_of, fill, lines_of, post
from tests.unit.witness.log_server import make_lab

TWO_KEYS = make_lab("mirrored", KeyType.ED25519, KeyType.ED25519)


async def test_other_extension_lines_are_cosigned() -> None:
    """SPEC: "update the mirror checkpoint to the pending checkpoint": the cosignature is on what was submitted."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    given = await mirror.add_checkpoint(format_add_checkpoint(300, [], LAB.checkpoint(300, "day 2")))
    assert given.status == 200
    lines = parse_lines((await post(mirror, body_of(300, 300))).body)
    assert len(check_cosignatures(lines, [OURS.verifier], statement_of(LAB.text(300, "day 2")))) == 1
    opened = world.published()
    assert opened is not None
    assert opened.note.text == LAB.text(300, "day 2")


async def test_a_log_that_changed_its_key_gets_a_fresh_cosignature() -> None:
    """Of the tree that it signed again; what the old key signed is not cosigned, and says so with a 409."""
    lab = TWO_KEYS
    logs = [WitnessedLog(lab.origin, (key.verifier,)) for key in lab.keys]
    world = MirrorWorld(labs=(lab,), known=(logs[0],))
    await fill(await world.start(), 300, lab=lab)
    world.known = (logs[1],)
    mirror = await world.start()
    assert (await post(mirror, body_of(300, 300, lab=lab))).status == 409
    note = lab.sign(lab.text(300), lab.keys[1])
    assert (await mirror.add_checkpoint(format_add_checkpoint(300, [], note))).status == 200
    lines_of(await post(mirror, body_of(300, 300, lab=lab)), 300, lab=lab)


async def test_which_of_several_is_taken() -> None:
    """The newest pending one that the log's keys signed, then what was cosigned, then the ticket's."""
    await trio.lowlevel.checkpoint()
    root = LAB.root(7)
    pending, mirror, ticket = [Pending(7, root, note) for note in (b"pending", b"mirror", b"ticket")]
    known = Known((pending,), mirror, 7)
    head = UploadHead(b"", 7, 7)
    for good in ((pending, mirror, ticket), (mirror, ticket), (ticket,)):
        assert admit(head, known, ticket, is_signed=good.__contains__) == Admitted(good[0])
    refused = admit(head, known, ticket, is_signed=lambda _: False)
    assert refused == Conflict(pending, "no pending checkpoint that the log's keys signed has the size 7")
