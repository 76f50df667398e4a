"""Listening for HTTP: accept connections, and stop without breaking answers.

Rules:

- The address is reported once requests are accepted, with the port that the system chose where 0 was asked for.
- At most `MAX_CONNECTIONS` at a time; the next ones are closed at once, so that the process never runs out of files.
- Stopping: no new connections, idle ones closed at once, requests in work may finish until the grace is over, then
  they are cut. A client that does not read cannot delay that.
- Nothing is written to standard output.

What it does not do: HTTP (`mirrorwitness.run.connection`), TLS (a proxy in front does), more processes than one (run
several), and printing the ready line (`cli` does).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.connection import Connections, answer_connection

if TYPE_CHECKING:
    from mirrorwitness.run.connection import AsgiApp

__all__ = ["GRACE_SECONDS", "MAX_CONNECTIONS", "format_address", "parse_listen", "serve"]

GRACE_SECONDS: Final = 10.0
"""How long requests in work may take to finish; Kubernetes kills after 30 s, and its routes need some of them."""

MAX_CONNECTIONS: Final = 900
"""Most connections at a time: systems commonly allow a process 1,024 files, and the storage needs some of them."""

_BACKLOG: Final = 1024
"""Connections that wait to be accepted: an install opens up to 64 at once, and many start together."""

_LISTEN: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_MAX_PORT: Final = 65_535


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


def format_address(bound: tuple[str, int]) -> str:
    """Return the address that clients use, of the host and port that `serve` was started with."""
    host, port = bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(
    app: AsgiApp,
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
    bound: tuple[str, int] = listener.socket.getsockname()[:2]
    connections = Connections()
    async with trio.open_nursery() as answers:
        async with trio.open_nursery() as intake:
            accept = partial(trio.serve_listeners, partial(_answer, app, connections), [listener])
            await intake.start(partial(accept, handler_nursery=answers))
            task_status.started(bound)
            await shutdown.wait()
            intake.cancel_scope.cancel()
        connections.drain()
        answers.cancel_scope.deadline = trio.current_time() + grace


async def _answer(app: AsgiApp, connections: Connections, stream: trio.SocketStream) -> None:
    if connections.open >= MAX_CONNECTIONS:
        await trio.aclose_forcefully(stream)
        return
    await answer_connection(app, stream, connections)


async def _bind(host: str, port: int) -> trio.SocketListener:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error
    return trio.SocketListener(listener)


def _is_ipv6(text: str | None) -> bool:
    try:
        return text is None or bool(ipaddress.IPv6Address(text))
    except ipaddress.AddressValueError:
        return False
