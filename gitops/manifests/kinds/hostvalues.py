"""Values that name things of the kernel and the network: signals, capabilities, addresses, hosts, sysctls."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from gitops.manifests.kinds.values import label_map, one_or_texts, problem, shown

_SIGNAL_NAMES = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM "
    "TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ"
)
_SIGNALS = frozenset(_SIGNAL_NAMES.split())
_REALTIME = re.compile(r"RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?")


def stop_signal(value: Any) -> Any:
    """`SIGTERM`, `TERM` or `15`; to the name with SIG, or the number as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    if value.isdigit() and 1 <= int(value) <= 64:
        return value
    name = value.upper().removeprefix("SIG")
    if name in _SIGNALS or _REALTIME.fullmatch(name):
        return f"SIG{name}"
    raise problem(f"{shown(value)} is no signal", "as in SIGTERM")


Signal = Annotated[str, BeforeValidator(stop_signal, json_schema_input_type=str | int)]

_CAPABILITY_NAMES = (
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH "
    "FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN "
    "NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT "
    "SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
)
CAPABILITIES = frozenset(_CAPABILITY_NAMES.split())


def capabilities(value: Any) -> Any:
    """`NET_ADMIN`, `CAP_NET_ADMIN` or `ALL`; to the names with CAP_."""
    if not isinstance(value, list):
        return value
    result: list[str] = []
    for index, item in enumerate(value):
        name = str(item).upper().removeprefix("CAP_")
        if not isinstance(item, str) or (name != "ALL" and name not in CAPABILITIES):
            near = difflib.get_close_matches(name, CAPABILITIES, 1)
            raise problem(f"{shown(item)} is no capability", f"did you mean {near[0]!r}?" if near else "", index)
        full = name if name == "ALL" else f"CAP_{name}"
        if full in result:
            raise problem(f"{shown(item)} is given twice", "", index)
        result.append(full)
    return result


Capabilities = Annotated[list[str], BeforeValidator(capabilities, json_schema_input_type=list[str])]


def addresses(value: Any) -> Any:
    """One address or a list of them."""
    result = one_or_texts(value)
    for index, item in enumerate(result if isinstance(result, list) else ()):
        try:
            ipaddress.ip_address(item)
        except ValueError as error:
            raise problem(f"{shown(item)} is no IP address", "", index) from error
    return result


Addresses = Annotated[list[str], BeforeValidator(addresses, json_schema_input_type=str | list[str])]


def extra_hosts(value: Any) -> Any:
    """`host:address` or `host=address` in a list, or a map of host to addresses; to lines of a hosts file."""
    pairs: list[tuple[str | int, str, Any]]
    if isinstance(value, dict):
        pairs = [
            (host, host, address)
            for host, found in value.items()
            for address in (found if isinstance(found, list) else [found])
        ]
    elif isinstance(value, list):
        pairs = []
        for index, item in enumerate(value):
            host, mark, address = str(item).partition("=" if "=" in str(item) else ":")
            if not isinstance(item, str) or not mark:
                raise problem(f"{shown(item)} is no host with its address", "as in db.example:10.0.0.7", index)
            pairs.append((index, host, address))
    else:
        return value
    lines = []
    for at, host, address in pairs:
        try:
            ipaddress.ip_address(str(address).strip("[]"))
        except ValueError as error:
            hint = "a name such as host-gateway isn't supported yet" if address == "host-gateway" else ""
            raise problem(f"{shown(address)} is no IP address", hint, at) from error
        if not host or any(mark in host for mark in " \t\n"):
            raise problem(f"{shown(host)} is no host name", "", at)
        lines.append(f"{str(address).strip('[]')} {host}")
    return lines


ExtraHosts = Annotated[
    list[str], BeforeValidator(extra_hosts, json_schema_input_type=list[str] | dict[str, str | list[str]])
]


_NAMESPACED = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.", "net.")
"""What the kernel keeps per container (IPC and network namespace); the rest would change the host."""


def sysctls(value: Any) -> Any:
    """A map, or a list of KEY=VALUE, of settings that belong to a namespace."""
    result = label_map(value)
    for key in result if isinstance(result, dict) else ():
        if not key.replace("/", ".").startswith(_NAMESPACED):
            raise problem(
                "this setting is the host's, not the container's", "kernel.shm*, kernel.msg*, net.*, fs.mqueue.*", key
            )
    return {key.replace("/", "."): item for key, item in result.items()} if isinstance(result, dict) else result


Sysctls = Annotated[dict[str, str], BeforeValidator(sysctls, json_schema_input_type=dict[str, str | int] | list[str])]
