"""Addresses: whether an IP address is on the public Internet. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["is_public_address"]

_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public_address(text: str | None) -> bool:
    """Whether a text is a public IP address: not loopback, private, link-local, multicast or reserved.

    An IPv4 address in disguise (mapped, 6to4, NAT64) is judged as what it is.
    """
    try:
        address = ip_address((text or "").partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _nat64(address) or address
    return address.is_global and not address.is_multicast


def _nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
