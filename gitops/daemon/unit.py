"""The systemd unit of the engine, as text, and what can be read from one again. Pure.

What the installation made beside the unit stands in the unit's own section `X-Gitops`, which systemd passes over: so
that taking it away takes exactly that, and there is no second file to lose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = "gitops-engine.service"
_HEAD = "# Made by `gitops engine install`, and taken away by `gitops engine uninstall`.\n"
_STOP_S = 150
"""More than an engine takes that stops its containers, each with its grace period."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the installation remembers."""

    data_root: Path
    run_root: Path
    has_group: bool
    """Whether the group was made with it."""


def text(command: Sequence[str], made: Made) -> str:
    """The unit that runs `command`.

    KillMode=process leaves the containers running when the engine stops, Delegate= leaves their cgroups to it. It is
    started again after a failure only, so that `gitops engine stop` ends it.
    """
    return f"""{_HEAD}\
# Your own changes belong into a drop-in: systemctl edit {NAME.removesuffix(".service")}
[Unit]
Description=gitops engine, containers behind the Docker Engine API
After=network-online.target nss-lookup.target firewalld.service nftables.service time-set.target
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=notify
ExecStart={" ".join(_quoted(word) for word in command)}
Restart=on-failure
RestartSec=2
KillMode=process
Delegate=yes
TimeoutStartSec=120
TimeoutStopSec={_STOP_S}
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target

[X-Gitops]
DataRoot={made.data_root}
RunRoot={made.run_root}
GroupMade={"yes" if made.has_group else "no"}
"""


def read(unit: str) -> Made | None:
    """What the installation of this unit made, or None where it isn't ours."""
    if not unit.startswith(_HEAD):
        return None
    found = dict(re.findall(r"^(DataRoot|RunRoot|GroupMade)=(.*)$", unit, re.MULTILINE))
    if len(found) != 3:
        return None
    return Made(Path(found["DataRoot"]), Path(found["RunRoot"]), found["GroupMade"] == "yes")


def _quoted(word: str) -> str:
    """A word as systemd reads it: % begins a specifier, $ a variable."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./\[\]$-]+", escaped, re.ASCII) else f'"{escaped}"'
