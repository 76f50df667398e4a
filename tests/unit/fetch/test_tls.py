"""TLS: certificates are checked against the system's, or SSL_CERT_FILE's, authorities."""

from __future__ import annotations

import functools
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mirrorwitness.errors import UpstreamUnreachableError
from mirrorwitness.fetch import open_fetcher
from mirrorwitness.fetch.connection import open_connection
from mirrorwitness.fetch.transport import make_context
from tests.unit.fetch.scripted import read_request, reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


def make_certificate(directory: Path, address: str) -> Path:
    """Write a self-signed certificate with its key, for an IP address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry.example")])
    now = datetime.now(UTC)
    certificate = (
        x509
        .CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{address}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@asynccontextmanager
async def listening_tls(certificate: Path, body: bytes) -> AsyncGenerator[str, None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            while await read_request(stream):
                await stream.send_all(reply(body))
        except (trio.BrokenResourceError, ssl.SSLError):
            pass

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_listeners, serve, listeners))
        port = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        yield f"https://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def test_trusted_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE names the authorities; the connection is reused."""
    certificate = make_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with listening_tls(certificate, b"x" * 300_000) as base, open_fetcher() as fetcher:
        for _ in range(3):
            async with fetcher.request("GET", base) as response:
                assert await response.read(300_000) == b"x" * 300_000
        now = fetcher.statistics()
        assert (now.opened, now.reused, now.idle) == (1, 2, 1)


async def test_attack_untrusted_certificate(tmp_path: Path) -> None:
    """Attack: a certificate that nobody vouches for ends the connection before anything is sent."""
    async with listening_tls(make_certificate(tmp_path, "127.0.0.1"), b"x") as base, open_fetcher() as fetcher:
        with pytest.raises(UpstreamUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            async with fetcher.request("GET", base):
                pass
        assert fetcher.statistics().in_use == 0


async def test_attack_certificate_of_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: a trusted certificate for another host is worth nothing."""
    certificate = make_certificate(tmp_path, "127.0.0.2")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with listening_tls(certificate, b"x") as base, open_fetcher() as fetcher:
        with pytest.raises(UpstreamUnreachableError, match="IP address mismatch"):
            async with fetcher.request("GET", base):
                pass


async def test_connection_says_that_it_is_secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repr tells TLS from plain text."""
    certificate = make_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with listening_tls(certificate, b"x") as base:
        connection = await open_connection("127.0.0.1", int(base.rpartition(":")[2]), make_context())
        connection.close()
        connection.close()
    assert repr(connection) == "<Connection to 127.0.0.1, TLS, closed, 0 exchanges>"
