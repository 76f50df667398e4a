"""Listening for HTTP: the one place that knows the ASGI server.

Rules:

- The address is reported once requests are accepted, with the port that the system chose where 0 was asked for.
- Stopping: new connections are refused at once, requests in work may finish until the grace is over, then they are cut.
- Nothing is written to standard output; the server's own messages go to the logger ``mirrorwitness.run.serve``.

What it does not do: TLS (a proxy in front does), processes (run several), and printing the ready line (`cli` does).
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import hypercorn.trio
import trio
from hypercorn.config import Config

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from hypercorn.typing import Framework

    from mirrorwitness.server.asgi import App

__all__ = ["GRACE_SECONDS", "KEEP_ALIVE_SECONDS", "parse_listen", "serve"]

GRACE_SECONDS: Final = 10.0
"""How long requests in work may take to finish; Kubernetes kills after 30 s, and its routes need some of them."""

KEEP_ALIVE_SECONDS: Final = 60.0
"""How long an idle connection is kept, and how long a client may take to send the head of a request."""

_BACKLOG: Final = 1024
"""Connections that wait to be accepted: an install opens up to 64 at once, and many start together."""

_HEAD_BYTES: Final = 16_384
"""Largest head of a request; `mirrorwitness.server.asgi` has the same limit for what arrives through other servers."""

_KEEP_ALIVE_REQUESTS: Final = 10_000
"""Requests over one connection before it is closed, so that load balancers can move clients."""

_LISTEN: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_MAX_PORT: Final = 65_535
_log = logging.getLogger(__name__)


def parse_listen(text: str) -> tuple[str, int]:
    """Read ``--listen``: ``127.0.0.1:8080``, ``[::1]:80``, ``localhost:0``.

    Args:
        text: host and port.

    Returns:
        The host without brackets, and the port; 0 lets the system choose one.

    Raises:
        ConfigurationError: it is not of that form.
    """
    found = _LISTEN.fullmatch(text)
    if not found or int(found["port"]) > _MAX_PORT or not _is_ipv6(found["ipv6"]):
        raise ConfigurationError(f"--listen {text[:200]!r} is not of the form HOST:PORT, for example 127.0.0.1:8080")
    return found["ipv6"] or found["host"], int(found["port"])


async def serve(
    app: App,
    *,
    host: str,
    port: int,
    shutdown: trio.Event,
    grace: float = GRACE_SECONDS,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until `shutdown` is set and what was in work has finished.

    *Resources*: the listening socket and all connections, closed on return. *Errors*: those of one request stay with
    it. *Cancellation*: cuts all connections at once.

    Args:
        app: the application.
        host: the name or address to listen on.
        port: the port; 0 lets the system choose one.
        shutdown: set it to stop.
        grace: seconds that requests in work may take after that.
        task_status: started with the bound host and port.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    listener = await _bind(host, port)
    bound: tuple[str, int] = listener.getsockname()[:2]
    config = _make_config(listener, grace)
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, app, config, shutdown)
        task_status.started(bound)


async def _serve(
    app: App,
    config: Config,
    shutdown: trio.Event,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    # hypercorn declares its scopes as typed dictionaries; ours is the plain mapping that ASGI speaks of.
    framework = cast("Framework", app)
    await hypercorn.trio.serve(framework, config, shutdown_trigger=shutdown.wait, task_status=task_status, mode="asgi")


async def _bind(host: str, port: int) -> socket.socket:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        listener = socket.create_server(cast("Any", address)[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error
    listener.setblocking(False)
    return listener


def _make_config(listener: socket.socket, grace: float) -> Config:
    config = Config()
    # hypercorn takes over the descriptor, so ours must not close it too.
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = _BACKLOG
    config.graceful_timeout = grace
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = _KEEP_ALIVE_REQUESTS
    config.h11_max_incomplete_size = _HEAD_BYTES
    config.include_server_header = False
    config.alpn_protocols = ["http/1.1"]
    config.errorlog = _log
    return config


def _is_ipv6(text: str | None) -> bool:
    try:
        return text is None or bool(ipaddress.IPv6Address(text))
    except ipaddress.AddressValueError:
        return False
