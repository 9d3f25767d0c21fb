"""Ports of the host, held for containers by sockets that are bound and never listen.

A bound socket makes any other program's `bind` fail with the error that everybody knows, and lets a connection that
no rule leads anywhere be refused by the kernel. Sockets are made in the calling thread's namespace, and go with the
daemon; `start` takes them again.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from gitops import errors

PROTOCOLS = ("tcp", "udp", "sctp")
_SCTP = 132
ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Claim:
    """A port of the host; `host_ip` is "" for every address, `number` 0 for any port that is free."""

    protocol: str
    number: int
    host_ip: str = ""

    def __str__(self) -> str:
        return f"{self.host_ip or ANY}:{self.number}"


class Taken(Exception):
    """The port belongs to another program, or the address isn't this host's; the text says which."""


class Reservations:
    """The ports that this engine holds."""

    def __init__(self) -> None:
        self._sockets: dict[Claim, socket.socket | None] = {}

    def __contains__(self, claim: Claim) -> bool:
        return claim in self._sockets

    def collides(self, claim: Claim) -> bool:
        """Whether we hold it already, on this address or by way of all addresses."""
        return any(
            held.protocol == claim.protocol
            and held.number == claim.number
            and (held.host_ip == claim.host_ip or not held.host_ip or not claim.host_ip)
            for held in self._sockets
        )

    def take(self, claim: Claim) -> Claim:
        """Hold the port; returns the claim with its real number.

        Raises:
            Taken: somebody else has it.
            errors.Conflict: we hold it already.
        """
        if claim.number and self.collides(claim):
            raise errors.Conflict(f"Bind for {claim} failed: port is already allocated")
        sock = _bind(claim)
        number = claim.number if sock is None else int(sock.getsockname()[1])
        taken = Claim(claim.protocol, number, claim.host_ip)
        self._sockets[taken] = sock
        return taken

    def hold(self, claim: Claim) -> None:
        """Count it as ours although it could not be bound: rules that lead there live on."""
        self._sockets.setdefault(claim, None)

    def release(self, claim: Claim) -> None:
        """Give it back; one that isn't held is no error."""
        sock = self._sockets.pop(claim, None)
        if sock is not None:
            sock.close()

    def close(self) -> None:
        """Give all back."""
        for claim in tuple(self._sockets):
            self.release(claim)


def _bind(claim: Claim) -> socket.socket | None:
    """A bound socket; None where the kernel has no SCTP sockets, so that nobody else can hold the port either."""
    try:
        return _bound(claim, is_reusing=False)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT) and claim.protocol == "sctp":
            if claim.number:
                return None
            raise Taken("the kernel has no SCTP: name a host port, or load the module (modprobe sctp)") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise Taken(f"Bind for {claim} failed: this host has no address {claim.host_ip}") from error
        if error.errno == errno.EADDRINUSE and claim.protocol == "tcp":
            return _rebound(claim)
        raise Taken(f"Bind for {claim} failed: {_reason(error)}") from error


def _rebound(claim: Claim) -> socket.socket:
    """Bind where connections that ended (TIME_WAIT) are all that is left of a former owner.

    To listen for a moment is the kernel's own test of that: `bind` with SO_REUSEADDR alone would also succeed beside
    another bound socket. Afterwards the flag goes, so that nobody can do the same to us.
    """
    try:
        sock = _bound(claim, is_reusing=True)
    except OSError as error:
        raise Taken(f"Bind for {claim} failed: {_reason(error)}") from error
    try:
        sock.listen(1)
        sock.shutdown(socket.SHUT_RDWR)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        sock.close()
        raise Taken(f"Bind for {claim} failed: {_reason(error)}") from error
    return sock


def _bound(claim: Claim, *, is_reusing: bool) -> socket.socket:
    kind = socket.SOCK_DGRAM if claim.protocol == "udp" else socket.SOCK_STREAM
    number = _SCTP if claim.protocol == "sctp" else 0
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
    try:
        if is_reusing:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if claim.protocol == "udp":
            # Datagrams that no rule leads anywhere must not pile up.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind((claim.host_ip or ANY, claim.number))
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "address already in use by another program on this host (see: ss -lntup)"
    return str(error.strerror)
