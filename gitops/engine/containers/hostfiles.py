"""The texts of a container's /etc/hosts, /etc/hostname and /etc/resolv.conf. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from gitops import errors

_HEADER = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


def hosts(hostname: str, domain: str, addresses: Iterable[str], extra: Sequence[str], gateway: str = "") -> str:
    """/etc/hosts; `extra` in both of Docker's ways, `name:address` and (in services) `address name…`.

    Raises:
        errors.Invalid: an entry of `extra` that is neither.
    """
    lines = [*_HEADER, *extra_lines(extra, gateway), *_own_lines(hostname, domain, addresses)]
    return "\n".join(lines) + "\n"


def renamed(text: str, hostname: str, domain: str, gone: Iterable[str], there: Iterable[str]) -> str:
    """/etc/hosts of a container whose own addresses changed; all other lines stay."""
    old = set(_own_lines(hostname, domain, gone))
    lines = [line for line in text.splitlines() if line not in old]
    return "\n".join([*lines, *_own_lines(hostname, domain, there)]) + "\n"


def _own_lines(hostname: str, domain: str, addresses: Iterable[str]) -> list[str]:
    full = f"{hostname}.{domain} {hostname}" if domain else hostname
    return [f"{address}\t{full}" for address in addresses if address and hostname]


def extra_lines(extra: Sequence[str], gateway: str = "") -> list[str]:
    """The lines of `extra`; `host-gateway` stands for the address `gateway`."""
    lines = []
    for entry in extra:
        if " " in entry.strip():
            address, *names = entry.split()
        else:
            name, _, address = entry.partition("=") if "=" in entry else entry.partition(":")
            names = [name]
        if address == "host-gateway":
            address = gateway
            if not address:
                raise errors.Invalid(f"{entry!r}: the container is on no network that has a gateway")
        if not names or not all(map(_is_word, names)):
            raise errors.Invalid(f"bad format for add-host: {entry!r}: name:address is wanted")
        address = address.removeprefix("[").removesuffix("]")
        if not _is_address(address):
            raise errors.Invalid(f"invalid IP address in add-host: {address!r}")
        lines.append(f"{address}\t{' '.join(names)}")
    return lines


def _is_word(text: str) -> bool:
    return text.split() == [text] and "#" not in text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolv_conf(nameservers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    """/etc/resolv.conf; a search domain of "." means none."""
    lines = [f"nameserver {server}" for server in nameservers]
    domains = [domain for domain in search if domain != "."]
    if domains:
        lines.append(f"search {' '.join(domains)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def from_host(text: str, nameservers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    """The host's resolv.conf, with what the container says in the place of the host's."""
    kept: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] in kept:
            kept[fields[0]] += fields[1:]
    return resolv_conf(nameservers or kept["nameserver"], search or kept["search"], options or kept["options"])
