"""A log of aics-tlog that has aics-witness's client ask a witness. Run by the Python in ``.cache/real/witness/python``.

    aics_client.py vkey                            print the log's verifier key
    aics_client.py grow URL VKEY DIRECTORY SIZE…   have the log cosigned at each size; DIRECTORY keeps what the client
                                                   remembers, and checkpoint.txt as the witness publishes it
    aics_client.py fork URL VKEY DIRECTORY SIZE    offer another history at that size, which the witness must refuse
    aics_client.py stale URL VKEY DIRECTORY SIZE   offer a size from before; prints the size that the witness names

Nothing in it is mirrorwitness's own: the client checks each line that comes back, and its age.
"""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from pathlib import Path

from aics_tlog import (
    Checkpoint,
    MerkleTree,
    format_vkey,
    parse_note,
    sign_checkpoint,
    verify_checkpoint,
    vkey_from_ed25519,
)
from aics_witness.feeder import WitnessAhead, WitnessClient, WitnessRejected, merge_cosignatures
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "log.example/aics"
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"for tests only").digest())
VKEY = vkey_from_ed25519(ORIGIN, KEY.public_key())


def make_tree(size: int, history: str = "entry") -> MerkleTree:
    """Make the log's tree of a size, or that of another history."""
    return MerkleTree(f"{history} {number}".encode() for number in range(size))


def sign(tree: MerkleTree) -> bytes:
    """Sign a tree's checkpoint."""
    checkpoint = Checkpoint(ORIGIN, tree.size, tree.root(), ())
    return sign_checkpoint(checkpoint, KEY, ORIGIN).to_bytes()


def grow(client: WitnessClient, url: str, directory: Path, sizes: list[int]) -> None:
    """Have the log cosigned at each size, and check what the witness publishes."""
    for size in sizes:
        tree = make_tree(size)
        note = sign(tree)
        cosigned = merge_cosignatures(note, client.submit(note, tree.consistency_proof))
        published = read_published(url)
        (directory / "checkpoint.txt").write_bytes(published)
        for name, found in (("answered", cosigned), ("published", published)):
            result = verify_checkpoint(
                parse_note(found), VKEY, [client.witness_vkey], 1, expected_origin=ORIGIN, max_age_seconds=60
            )
            if not result.ok or result.size != size or result.root != tree.root():
                raise SystemExit(f"size {size}, {name}: {result}")
        print(f"size {size}: cosigned and published")


def read_published(url: str) -> bytes:
    """Read what monitors see."""
    with urllib.request.urlopen(f"{url}/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint") as answer:  # noqa: S310 - loopback
        return answer.read()


def main() -> None:
    """Do what the arguments say."""
    command, *rest = sys.argv[1:]
    if command == "vkey":
        print(format_vkey(VKEY))
        return
    url, vkey, directory, *sizes = rest
    tree = make_tree(int(sizes[0]), "other" if command == "fork" else "entry")
    with WitnessClient(url, vkey, state_path=Path(directory) / "client.json") as client:
        try:
            if command == "grow":
                grow(client, url, Path(directory), [int(size) for size in sizes])
            else:
                client.submit(sign(tree), tree.consistency_proof)
                print("cosigned")
        except WitnessRejected as error:
            print(f"refused with {error.status}")
        except WitnessAhead as error:
            print(f"ahead at {error.known_size}")


main()
