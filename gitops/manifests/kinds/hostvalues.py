"""Values that name things of the kernel and the network: signals, capabilities, addresses, hosts, sysctls."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.values import one_or_texts, text_map

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
    findings = Findings()
    result: list[str] = []
    for index, item in enumerate(value):
        name = str(item).upper().removeprefix("CAP_")
        full = name if name == "ALL" else f"CAP_{name}"
        if not isinstance(item, str) or (name != "ALL" and name not in CAPABILITIES):
            near = difflib.get_close_matches(name, CAPABILITIES, 1)
            findings.add(f"{shown(item)} is no capability", f'did you mean "{near[0]}"?' if near else "", index)
        elif full in result:
            findings.add(f"{shown(item)} is given twice", "remove one", index)
        result.append(full)
    findings.finish()
    return result


Capabilities = Annotated[list[str], BeforeValidator(capabilities, json_schema_input_type=list[str])]


def addresses(value: Any) -> Any:
    """One address or a list of them."""
    result = one_or_texts(value)
    findings = Findings()
    for index, item in enumerate(result if isinstance(result, list) else ()):
        if not is_address(item):
            findings.add(
                f"{shown(item)} is no IP address", "as in 10.0.0.7", *([index] if isinstance(value, list) else [])
            )
    findings.finish()
    return result


def is_address(text: Any) -> bool:
    """Whether a text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


Addresses = Annotated[list[str], BeforeValidator(addresses, json_schema_input_type=str | list[str])]


def extra_hosts(value: Any) -> Any:
    """`host:address` or `host=address` in a list, or a map of host to addresses; to lines of a hosts file."""
    findings = Findings()
    lines = []
    for at, host, found in _host_pairs(value, findings):
        address = str(found).strip("[]")
        if not is_address(address):
            hint = (
                "a name such as host-gateway isn't supported yet" if address == "host-gateway" else "as in db:10.0.0.7"
            )
            findings.add(f"{shown(address)} is no IP address", hint, at)
        if not host or any(mark in host for mark in " \t\n"):
            findings.add(f"{shown(host)} is no host name", "", at)
        lines.append(f"{address} {host}")
    findings.finish()
    return lines if isinstance(value, dict | list) else value


def _host_pairs(value: Any, findings: Findings) -> Iterator[tuple[str | int, str, Any]]:
    if isinstance(value, dict):
        for host, found in value.items():
            for address in found if isinstance(found, list) else [found]:
                yield host, host, address
    elif isinstance(value, list):
        for index, item in enumerate(value):
            host, mark, address = str(item).partition("=" if "=" in str(item) else ":")
            if isinstance(item, str) and mark:
                yield index, host, address
            else:
                findings.add(f"{shown(item)} is no host with its address", "as in db:10.0.0.7", index)


ExtraHosts = Annotated[
    list[str], BeforeValidator(extra_hosts, json_schema_input_type=list[str] | dict[str, str | list[str]])
]


_NAMESPACED = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.", "net.")
"""What the kernel keeps per container (IPC and network namespace); the rest would change the host."""


def sysctls(value: Any) -> Any:
    """A map, or a list of KEY=VALUE, of settings that belong to a namespace."""
    result = text_map(value)
    if not isinstance(result, dict):
        return result
    findings = Findings()
    for key in result:
        if not key.replace("/", ".").startswith(_NAMESPACED):
            hint = "kernel.shm*, kernel.msg*, fs.mqueue.* and net.* are"
            findings.add("this setting isn't the container's own", hint, key, on_key=True)
    findings.finish()
    return {key.replace("/", "."): item for key, item in result.items()}


Sysctls = Annotated[dict[str, str], BeforeValidator(sysctls, json_schema_input_type=dict[str, str | int] | list[str])]
