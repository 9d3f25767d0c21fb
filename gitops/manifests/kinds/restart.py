"""Compose's short `restart`, which means a `deploy.restart_policy`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from gitops.manifests.kinds.findings import problem, shown

_WORDS = {"no": "none", "always": "any", "unless-stopped": "any"}
_ON_FAILURE = re.compile(r"on-failure(?::([0-9]{1,9}))?")
Restart = tuple[str, int]
"""Condition and attempts of the policy that is meant; 0 attempts: without end."""


def restart(value: Any) -> Any:
    """`no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`."""
    if value is False:
        return "none", 0
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value], 0
    found = _ON_FAILURE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise problem(
            f"{shown(value)} is no way to restart", "one of no, always, unless-stopped, on-failure[:attempts]"
        )
    return "on-failure", int(found[1] or 0)


RestartWord = Annotated[Restart, BeforeValidator(restart, json_schema_input_type=str | bool)]
