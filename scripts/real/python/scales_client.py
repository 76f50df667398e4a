"""tlog-scales on the lines of a witness, those of ML-DSA-44 first. Run by the Python in ``.cache/real/witness/python``.

    scales_client.py verify NOTE VKEY…   check that every key signed a checkpoint, and signed no other size of it
    scales_client.py vkey                print the verifier key of a log that signs with ML-DSA-44
    scales_client.py ask URL VKEY…       have that log cosigned, and check the lines as above

Nothing in it is mirrorwitness's own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import urllib.request
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from tlog_scales.signing import MLDSA44CosignatureSigner, NoteSignature, Vkey
from tlog_scales.tlog import Checkpoint

ORIGIN = "log.example/scales"
SIGNER = MLDSA44CosignatureSigner(ORIGIN, hashlib.sha256(b"for tests only").digest())


def check(checkpoint: Checkpoint, vkeys: list[str]) -> None:
    """Check the lines of all keys, and that they are about this very tree."""
    for vkey in map(Vkey.from_string, vkeys):
        checkpoint.verify(vkey)
        try:
            dataclasses.replace(checkpoint, size=checkpoint.size + 1).verify(vkey)
        except InvalidSignature:
            print(f"verified: {vkey.name}+{vkey.key_id:08x}, type {vkey.sig_type}")
        else:
            raise SystemExit(f"{vkey.name}+{vkey.key_id:08x}: verifies for another size too")


def ask(url: str) -> Checkpoint:
    """Have a log of one entry cosigned."""
    checkpoint = Checkpoint.make_signed(ORIGIN, 1, hashlib.sha256(b"\0entry").digest(), [SIGNER])
    body = f"old 0\n\n{checkpoint.serialize()}".encode()
    request = urllib.request.Request(f"{url}/add-checkpoint", data=body)  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        lines = answer.read().decode().splitlines()
    return dataclasses.replace(checkpoint, signatures=[NoteSignature.from_line(line) for line in lines])


def main() -> None:
    """Do what the arguments say."""
    command, *rest = sys.argv[1:]
    if command == "vkey":
        print(SIGNER.vkey.serialize())
        return
    found = ask(rest[0]) if command == "ask" else Checkpoint.from_text(Path(rest[0]).read_text())
    check(found, rest[1:])


main()
