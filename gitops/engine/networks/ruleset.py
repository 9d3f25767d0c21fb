"""The host's nftables rules, as text: pure functions from networks and ports to commands.

The rules stand still, written once; networks and ports are only elements of their sets and maps. A change is the
difference of two states, in one transaction, so that no packet meets half of it and no connection breaks.

A shared port (`svc`) picks a chain by the number of its containers, which draws a slot at random; `be` says where the
slot leads: two look-ups a new connection, whatever the number of services. The slot travels in the packet's mark,
high enough to meet nobody's policy routing, and is cleared before the packet leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitops.engine.networks.boundary import SharedPort
from gitops.engine.networks.records import NetworkRecord

SLOT_BASE = 0x67690000
SLOT_MASK = 0xFFFF0000
MOST_BACKENDS = 0x10000
_CHUNK = 1000
"""Elements a command: netlink takes element lists of less than 64 KiB."""

SETS: Mapping[str, str] = {
    "bridges": "type ifname",
    "sealed": "type ifname",
    "peers": "type ifname . ifname",
    "own": "type ipv4_addr; flags interval",
    "masq": "type ipv4_addr; flags interval",
}
MAPS: Mapping[str, str] = {
    "pub": "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "puball": "type inet_proto . inet_service : ipv4_addr . inet_service",
    "be": "type inet_proto . inet_service . mark : ipv4_addr . inet_service",
    "svc": "type inet_proto . inet_service : verdict",
}

_PORTS = (
    "ip daddr != 127.0.0.0/8 fib daddr type != local return",
    "dnat ip to ip daddr . meta l4proto . th dport map @pub",
    "dnat ip to meta l4proto . th dport map @puball",
    "meta l4proto . th dport vmap @svc",
)
CHAINS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    # What is bound to loopback must not be reachable from a neighbour, which would see it through our address
    # translation before the kernel could call the packet a martian.
    "raw": ("type filter hook prerouting priority raw", ('iifname != "lo" ip daddr 127.0.0.0/8 drop',)),
    "pre": ("type nat hook prerouting priority dstnat", _PORTS),
    "out": ("type nat hook output priority -100", _PORTS),
    "forward": (
        "type filter hook forward priority filter",
        (
            "iifname != @bridges oifname != @bridges return",
            "ct state established,related accept",
            # Frames within one bridge pass here too where bridge-nf-call-iptables is on.
            "iifname . oifname @peers accept",
            "iifname @sealed drop",
            "oifname @sealed drop",
            "ct status dnat accept",
            "oifname @bridges drop",
        ),
    ),
    "unmark": (
        "type filter hook postrouting priority mangle",
        (f"meta mark & {SLOT_MASK:#x} == {SLOT_BASE:#x} meta mark set 0",),
    ),
    "post": (
        "type nat hook postrouting priority srcnat",
        (
            # A container that calls a port of its host and is sent to its own network would be answered past us.
            "ct status dnat oifname @bridges ip saddr @own masquerade",
            "ct status dnat oifname @bridges ip saddr 127.0.0.0/8 masquerade",
            "ip saddr @masq oifname != @bridges masquerade",
        ),
    ),
}

Elements = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Publication:
    """A port of one container on the host; `host_ip` is "" for all addresses."""

    host_ip: str
    protocol: str
    host_port: int
    address: str
    container_port: int


@dataclass(frozen=True, slots=True)
class Rules:
    """A state of the table: the elements of each set and map (value "" in a set), and the sizes that have a chain."""

    elements: Elements = field(default_factory=dict)
    sizes: frozenset[int] = frozenset()


def build(
    networks: Iterable[NetworkRecord], publications: Iterable[Publication], shared: Iterable[SharedPort]
) -> Rules:
    """The state that these networks and ports need."""
    elements: dict[str, dict[str, str]] = {name: {} for name in (*SETS, *MAPS)}
    for network in networks:
        _add_network(elements, network)
    for publication in publications:
        _add_publication(elements, publication)
    sizes = set()
    for port in shared:
        if port.addresses:
            sizes.add(len(port.addresses))
            _add_shared(elements, port)
    return Rules(elements, frozenset(sizes))


def _add_network(elements: dict[str, dict[str, str]], network: NetworkRecord) -> None:
    if not network.bridge:
        return
    link = f'"{network.bridge}"'
    elements["bridges"][link] = ""
    if network.icc:
        elements["peers"][f"{link} . {link}"] = ""
    if network.is_sealed:
        elements["sealed"][link] = ""
    if not network.is_overlay:
        elements["own"][network.subnet] = ""
        if network.masquerade and not network.internal:
            elements["masq"][network.subnet] = ""


def _add_publication(elements: dict[str, dict[str, str]], port: Publication) -> None:
    key = f"{port.protocol} . {port.host_port}"
    target = f"{port.address} . {port.container_port}"
    if port.host_ip:
        elements["pub"][f"{port.host_ip} . {key}"] = target
    else:
        elements["puball"][key] = target


def _add_shared(elements: dict[str, dict[str, str]], port: SharedPort) -> None:
    key = f"{port.protocol} . {port.published_port}"
    elements["svc"][key] = f"goto lb{len(port.addresses)}"
    for slot, address in enumerate(port.addresses):
        elements["be"][f"{key} . {SLOT_BASE + slot:#010x}"] = f"{address} . {port.target_port}"


def full(table: str, rules: Rules) -> str:
    """Commands that replace the whole table, in one transaction: connections that are established live on."""
    lines = [f"table ip {table}", f"delete table ip {table}", f"table ip {table} {{"]
    for name, kind in SETS.items():
        lines.append(f"set {name} {{ {kind}; }}")
    for name, kind in MAPS.items():
        lines.append(f"map {name} {{ {kind}; }}")
    for size in sorted(rules.sizes):
        lines += [f"chain lb{size} {{", balance(size), "}"]
    for name, (hook, statements) in CHAINS.items():
        lines += [f"chain {name} {{ {hook}; policy accept;", *statements, "}"]
    lines.append("}")
    return "\n".join(lines) + "\n" + _elements("add", table, rules.elements)


def balance(size: int) -> str:
    """The rule that draws one of `size` containers."""
    return (
        f"meta mark set numgen random mod {size} offset {SLOT_BASE} "
        "dnat ip to meta l4proto . th dport . meta mark map @be"
    )


def update(table: str, old: Rules, new: Rules) -> str:
    """Commands that turn `old` into `new`, in one transaction; "" where nothing changed. Chains are never removed."""
    lines = []
    for size in sorted(new.sizes - old.sizes):
        lines += [f"add chain ip {table} lb{size}", f"add rule ip {table} lb{size} {balance(size)}"]
    gone: dict[str, dict[str, str]] = {}
    fresh: dict[str, dict[str, str]] = {}
    for name in (*SETS, *MAPS):
        before, after = old.elements.get(name, {}), new.elements.get(name, {})
        gone[name] = {key: value for key, value in before.items() if after.get(key) != value}
        fresh[name] = {key: value for key, value in after.items() if before.get(key) != value}
    chains = "".join(line + "\n" for line in lines)
    return chains + _elements("delete", table, gone) + _elements("add", table, fresh)


def _elements(verb: str, table: str, elements: Elements) -> str:
    lines = []
    for name in (*SETS, *MAPS):
        items = [f"{key} : {value}" if value else key for key, value in elements.get(name, {}).items()]
        for start in range(0, len(items), _CHUNK):
            lines.append(f"{verb} element ip {table} {name} {{ {', '.join(items[start : start + _CHUNK])} }}\n")
    return "".join(lines)


def merge_sizes(rules: Rules, sizes: frozenset[int]) -> Rules:
    """`rules` with the chains of an earlier state kept."""
    return Rules(rules.elements, rules.sizes | sizes)


def read(listing: Mapping[str, Any]) -> tuple[Rules, dict[str, int]]:
    """The state in the JSON of `list table`, and how many rules each chain has."""
    elements: dict[str, dict[str, str]] = {name: {} for name in (*SETS, *MAPS)}
    sizes: set[int] = set()
    rules: dict[str, int] = {}
    for item in listing.get("nftables", ()):
        if "set" in item or "map" in item:
            found = item.get("set") or item["map"]
            elements[found["name"]] = dict(_read_element(element) for element in found.get("elem", ()))
        elif "chain" in item:
            name = item["chain"]["name"]
            rules.setdefault(name, 0)
            if name.startswith("lb"):
                sizes.add(int(name[2:]))
        elif "rule" in item:
            chain = item["rule"]["chain"]
            rules[chain] = rules.get(chain, 0) + 1
    return Rules(elements, frozenset(sizes)), rules


def expected_rules(sizes: Iterable[int]) -> dict[str, int]:
    """How many rules each chain must have."""
    return {name: len(statements) for name, (_, statements) in CHAINS.items()} | {f"lb{size}": 1 for size in sizes}


def _read_element(element: Any) -> tuple[str, str]:
    if isinstance(element, list):
        key, value = element
        return _text(key, is_key=True), _text(value, is_key=False)
    return _text(element, is_key=True), ""


def _text(value: Any, *, is_key: bool) -> str:
    """A part of an element in the words of `build`."""
    match value:
        case {"concat": parts}:
            return " . ".join(_text(part, is_key=is_key) for part in parts)
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"goto": {"target": target}}:
            return f"goto {target}"
        case {"elem": {"val": inner}}:
            return _text(inner, is_key=is_key)
        case int() if value >= SLOT_BASE:
            return f"{value:#010x}"
        case str() if is_key and value[:1] == "g" and "." not in value:
            return f'"{value}"'
        case _:
            return str(value)


def differences(wanted: Rules, found: Rules) -> Sequence[str]:
    """What the kernel lacks and has too much, as sentences."""
    sentences = []
    for name in (*SETS, *MAPS):
        want, have = wanted.elements.get(name, {}), found.elements.get(name, {})
        for key in sorted(want.keys() | have.keys()):
            if key not in have:
                sentences.append(f"nft {name}: {key} is missing")
            elif key not in want:
                sentences.append(f"nft {name}: {key} should not be there")
            elif want[key] != have[key]:
                sentences.append(f"nft {name}: {key} leads to {have[key]} instead of {want[key]}")
    return sentences
