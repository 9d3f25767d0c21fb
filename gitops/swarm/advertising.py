"""The address by which others reach this node: one that is given, an interface's, or that of the default route."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

from gitops import errors

_SIOCGIFADDR = 0x8915
_NAME_BYTES = 15
"""Of an interface's name, at most."""


def address_of(given: str) -> str:
    """The address that `given` means: an IP address or the name of an interface, with a port or without; "" any.

    Raises:
        errors.Invalid: it is neither.
    """
    text = _without_port(given)
    if not text:
        return _own_address()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        found = _interface_address(text)
        if found:
            return found
        raise errors.Invalid(
            f"invalid advertise address {given!r}: an IP address, or an interface with an IPv4 address, is wanted"
        ) from error


def _without_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    # More colons are an IPv6 address; only in brackets it has a port.
    has_port = port.isdigit() and (host.endswith("]") or ":" not in host) and bool(host)
    return (host if has_port else text).strip("[]")


def _interface_address(name: str) -> str:
    """The first IPv4 address of an interface; "" where there is no such interface, or it has none."""
    if len(name.encode()) > _NAME_BYTES:
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def _own_address() -> str:
    """The source address of the default route; loopback where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing; it only has the kernel choose a route.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
