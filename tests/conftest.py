"""What holds for every test: loopback only, no settings of the person who runs them, Hypothesis profiles.

Profiles: ``dev`` (default), ``ci`` (the environment's CI is set: the same examples each time, and the first that fails
is shown as it is, because shrinking takes minutes; ``CI=1 HYPOTHESIS_PROFILE=shrink`` shrinks the same one),
``nightly`` (``make fuzz``), ``mutate`` (``make mutate``).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.fakes.thread import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.thread import ThreadedRegistry

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", max_examples=60, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("shrink", max_examples=100, deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile(
    "ci",
    settings.get_profile("shrink"),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
settings.register_profile(
    "nightly",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES") or 5000),
    deadline=None,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "mutate",  # the same examples for every mutant, in a process that runs each test many times over
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[*_SLOW, HealthCheck.differing_executors],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

for _name in list(os.environ):  # the settings of the person who runs the tests are not the tests'
    if _name.lower().startswith(("mirrorwitness_", "npm_config_", "aws_")) or _name.lower().endswith("_proxy"):
        del os.environ[_name]

_connect = socket.socket.connect


def _guarded(self: socket.socket, address: Any, /) -> None:
    if self.family in {socket.AF_INET, socket.AF_INET6}:
        host = str(address[0])
        try:
            is_local = host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
        except ValueError:
            is_local = False
        if not is_local:
            raise OSError(f"a test tried to reach {host}: tests are loopback only")
    _connect(self, address)


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Refuse connections to the outside."""
    if "real" not in request.keywords:
        monkeypatch.setattr(socket.socket, "connect", _guarded)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Take back what a command that ran in this process said about logs: other tests measure memory."""
    logger = logging.getLogger("mirrorwitness")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def registry() -> Iterator[ThreadedRegistry]:
    """Run a registry simulator in a thread of its own, for tests of commands that have their own event loop."""
    with serve_in_thread() as running:
        yield running
