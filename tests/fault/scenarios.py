"""Runs that are long enough to break in many places, and short enough to break thousands of times."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from mirrorwitness.mirror.tarballs import TarballOptions
from tests.fakes.registry import Fault, RegistrySimulator, Signer
from tests.unit.mirror.builder import make_mirror

if TYPE_CHECKING:
    from tests.unit.mirror.builder import Mirror

__all__ = ["NAMES", "change_upstream", "first_run", "make_upstream", "public_part", "tarballs_of", "update_run"]

NAMES = ["left", "@scope/right", "Upper"]


class RepeatableSigner(Signer):
    """Gives the same signature for the same text, so that two runs of a scenario agree on every byte."""

    def sign(self, name: str, version: str, integrity: str) -> dict[str, str]:
        """Return an entry for ``dist.signatures``."""
        return dict(_sign_once(name, version, integrity))


@functools.cache
def _sign_once(name: str, version: str, integrity: str) -> tuple[tuple[str, str], ...]:
    return tuple(Signer().sign(name, version, integrity).items())


def make_upstream() -> RegistrySimulator:
    """Return a registry with three packages, signed and not, one attested, one without an integrity."""
    sim, signer = RegistrySimulator(), RepeatableSigner()
    sim.publish("left", "1.0.0", signer=signer)
    sim.publish("left", "1.1.0", signer=signer, dist={"attestations": {"url": "x", "provenance": {}}})
    sim.attestations["left@1.1.0"] = b'{"attestations":[]}'
    sim.publish("@scope/right", "1.0.0", files={"data.bin": bytes(range(256)) * 64})
    sim.publish("@scope/right", "2.0.0-rc.1", tag="next")
    sim.publish("Upper", "1.0.0", dist={"integrity": None})
    return sim


def change_upstream(sim: RegistrySimulator) -> None:
    """Let a day pass: a new version, an unpublished one, a moved tag, a deprecation, a package gone altogether."""
    sim.publish("left", "1.2.0", signer=RepeatableSigner())
    sim.unpublish("left", "1.0.0")
    sim.set_tag("@scope/right", "latest", "2.0.0-rc.1")
    sim.edit_packument("@scope/right")["versions"]["1.0.0"]["deprecated"] = "old"
    sim.unpublish("Upper")


def tarballs_of(sim: RegistrySimulator) -> set[bytes]:
    """Return every tarball that is published now."""
    return {sim.tarball(name, version) for name in sim.names for version in sim.packument(name).get("versions", {})}


async def first_run() -> tuple[Mirror, set[bytes]]:
    """Return an empty mirror before its first run, and what may be stored."""
    sim = make_upstream()
    mirror = make_mirror(sim, rules=NAMES, options=TarballOptions(concurrency=3))
    return mirror, tarballs_of(sim)


async def update_run() -> tuple[Mirror, set[bytes]]:
    """Return a mirror one day old with a note of unfinished work, and what may be stored."""
    mirror, published = await first_run()
    sim = mirror.sims[0]
    await mirror.sync_well()
    sim.edit_packument("left")["x"] = 1
    sim.fail("left", Fault.status(404))
    await mirror.sync()
    change_upstream(sim)
    return mirror, published | tarballs_of(sim)


def public_part(mirror: Mirror) -> dict[str, bytes]:
    """Return everything that a client can see."""
    return {key: body for key, body in mirror.storage.objects.items() if key.startswith(("npm/", "about/"))}
