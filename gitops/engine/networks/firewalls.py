"""Living beside a firewall that drops what it doesn't know, dockerd's among them.

An accept in our own table doesn't undo a drop in somebody else's: each table has its say. So where a forward chain
drops by default, two rules go in front of it that accept what comes from or goes to links of this instance; what may
pass is then still decided by our table. Docker leaves the chain DOCKER-USER to its owner for that. The rules carry
the instance as their comment, are put again when the firewall was reloaded, and are told as warnings.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.engine.networks import naming
from gitops.engine.networks.nft import Tables

_LEGACY_TABLES = Path("/proc/thread-self/net/ip_tables_names")
_LEGACY = "iptables-legacy"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A chain that drops forwarded packets by default, and the chain to put our rules into."""

    family: str
    table: str
    chain: str
    target: str

    @property
    def place(self) -> str:
        """The target in nft's words."""
        return f"{self.family} {self.table} {self.target}"


def obstacles(listing: dict[str, Any], own_table: str) -> list[Obstacle]:
    """Find them in the JSON of `list chains`."""
    chains = [item["chain"] for item in listing.get("nftables", ()) if "chain" in item]
    names = {(chain["family"], chain["table"], chain["name"]) for chain in chains}
    found = []
    for chain in chains:
        family, table, name = chain["family"], chain["table"], chain["name"]
        if chain.get("hook") != "forward" or chain.get("policy") != "drop":
            continue
        if family not in ("ip", "inet") or table == own_table:
            continue
        has_docker = (family, table, "DOCKER-USER") in names
        found.append(Obstacle(family, table, name, "DOCKER-USER" if has_docker else name))
    return found


def open_ways(tables: Tables, instance: str) -> list[str]:
    """Put the rules where they are missing; the warnings that describe what stands now. Idempotent."""
    warnings = []
    for obstacle in obstacles(tables.list("chains"), naming.table(instance)):
        if not _is_open(tables, obstacle, instance):
            tables.run(_commands(obstacle, instance))
        warnings.append(
            f"the firewall drops forwarded packets by default (nft chain {obstacle.family} {obstacle.table} "
            f"{obstacle.chain}): rules in {obstacle.target} accept those of links named {naming.prefix(instance)}*"
        )
    return warnings + _legacy(instance)


def close_ways(tables: Tables, instance: str) -> None:
    """Take our rules out of other tables."""
    listing = tables.list("ruleset")
    for item in listing.get("nftables", ()):
        rule = item.get("rule")
        if rule and rule.get("comment") == naming.table(instance):
            tables.run(f"delete rule {rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}\n")
    if _has_legacy() and shutil.which(_LEGACY):
        for arguments in _legacy_rules(instance):
            _run(_LEGACY, "-w", "-D", *arguments)


def _is_open(tables: Tables, obstacle: Obstacle, instance: str) -> bool:
    listing = tables.list(f"chain {obstacle.place}")
    rules = [item["rule"] for item in listing.get("nftables", ()) if "rule" in item]
    return len([rule for rule in rules if rule.get("comment") == naming.table(instance)]) == 2


def _commands(obstacle: Obstacle, instance: str) -> str:
    """`counter` makes the rule one that iptables-nft can show."""
    return "".join(
        f'insert rule {obstacle.place} {side} "{naming.prefix(instance)}*" counter accept '
        f'comment "{naming.table(instance)}"\n'
        for side in ("iifname", "oifname")
    )


def _has_legacy() -> bool:
    try:
        return "filter" in _LEGACY_TABLES.read_text().split()
    except OSError:
        return False


def _legacy(instance: str) -> list[str]:
    """The same for tables of the old iptables, which nft doesn't see."""
    if not _has_legacy():
        return []
    if shutil.which(_LEGACY) is None:
        return [
            f"the host has tables of the old iptables, but {_LEGACY} is not installed: if forwarding fails, look there"
        ]
    present = _run(_LEGACY, "-w", "-S", "FORWARD").splitlines()
    if "-P FORWARD DROP" not in present:
        return []
    for arguments in _legacy_rules(instance):
        if f"-A {' '.join(arguments)}" not in present:
            _run(_LEGACY, "-w", "-I", *arguments)
    return [
        f"the firewall drops forwarded packets by default ({_LEGACY}, FORWARD): rules in FORWARD accept those of links "
        f"named {naming.prefix(instance)}*"
    ]


def _legacy_rules(instance: str) -> Sequence[tuple[str, ...]]:
    link = f"{naming.prefix(instance)}+"
    return (("FORWARD", "-i", link, "-j", "ACCEPT"), ("FORWARD", "-o", link, "-j", "ACCEPT"))


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=_TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or str(error)
        raise errors.RuntimeFailure(f"{' '.join(command)} failed: {words.strip()}") from error
