"""An upstream that changes from day to day, at random and by a seed: what the runs of the kill suite follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.registry_build import Signer, filler

if TYPE_CHECKING:
    import random

    from tests.fakes.registry import RegistrySimulator

__all__ = ["NAMES", "History"]

NAMES = ["left", "right", "@scope/middle", "Upper"]

_BIG_BYTES = 300_000
"""One tarball is larger than the buffers of sockets and pipes, so that a kill meets it half-way."""

_VERSIONS_KEPT = 4
"""From here on a day takes a version away for each that it brings, so that days do not grow longer."""


class History:
    """Publishes, and changes what was published.

    Attributes:
        published: every tarball that was ever there.
    """

    def __init__(self, sim: RegistrySimulator, chance: random.Random, *, names: list[str], versions: int) -> None:
        self._sim = sim
        self._chance = chance
        self._signer = Signer()
        self._minor = dict.fromkeys(names, 0)
        self.published: set[bytes] = set()
        for name in names:
            for _ in range(versions):
                self._publish(name)

    def pass_day(self) -> None:
        """Let each package change in one or two ways: whatever a registry may do between two runs."""
        for name in self._minor:
            for _ in range(self._chance.randint(1, 2)):
                change = self._chance.choice([
                    self._publish,
                    self._publish,
                    self._deprecate,
                    self._move_tag,
                    self._strip_integrity,
                    self._equivocate,
                ])
                change(name)
            while len(self._live(name)) > _VERSIONS_KEPT:
                self._sim.unpublish(name, self._chance.choice(self._live(name)))

    def _live(self, name: str) -> list[str]:
        return list(self._sim.packument(name)["versions"])

    def _publish(self, name: str) -> None:
        number = self._minor[name]
        self._minor[name] += 1
        files = {"data": filler(f"{name} {number}", _BIG_BYTES if (name, number) == ("left", 1) else 2_000)}
        signer = self._signer if name == "left" else None
        self.published.add(self._sim.publish(name, f"1.{number}.0", files=files, signer=signer))

    def _deprecate(self, name: str) -> None:
        version = self._chance.choice(self._live(name))
        self._sim.edit_packument(name)["versions"][version]["deprecated"] = f"{self._chance.random()}"

    def _move_tag(self, name: str) -> None:
        self._sim.set_tag(name, self._chance.choice(["latest", "next"]), self._chance.choice(self._live(name)))

    def _strip_integrity(self, name: str) -> None:
        version = self._chance.choice(self._live(name))
        self._sim.edit_packument(name)["versions"][version]["dist"].pop("integrity", None)

    def _equivocate(self, name: str) -> None:
        version = self._chance.choice(self._live(name))
        files = {"data": filler(f"{name} {version} {self._chance.random()}", 2_000)}
        signer = self._signer if name == "left" else None
        self.published.add(self._sim.republish(name, version, files, signer=signer))
