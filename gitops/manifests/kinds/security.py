"""`security_opt`, as far as services of a swarm can have it: what the Engine API calls privileges."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.values import texts

_SPLIT = re.compile(r"[=:]")
_KNOWN = "no-new-privileges, seccomp=unconfined, seccomp=FILE, apparmor=unconfined and label=disable"
_FLAGS = {"": True, "true": True, "false": False}
Options = dict[str, str | bool]
"""By name: no-new-privileges true or false; seccomp default, unconfined or a path; apparmor and label."""


def security_opt(value: Any) -> Any:
    """A list of `name=value` or `name:value`; to a map."""
    found = texts(value)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        return found
    findings = Findings()
    result: Options = {}
    for index, item in enumerate(found):
        name, given = (*_SPLIT.split(item, maxsplit=1), "")[:2]
        meant = _option(name, given)
        if meant is None:
            findings.add(f"{shown(item)} is no option that services have", f"there are {_KNOWN}", index)
        elif name in result:
            findings.add(f"{name} is given twice", "remove one", index)
        else:
            result[name] = meant
    findings.finish()
    return result


def _option(name: str, given: str) -> str | bool | None:
    if name == "no-new-privileges":
        return _FLAGS.get(given)
    if name == "seccomp" and given:
        return "default" if given == "builtin" else given
    if name == "apparmor" and given in ("unconfined", "docker-default"):
        return "default" if given == "docker-default" else given
    return given if (name, given) == ("label", "disable") else None


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        raise problem("must be a list", f"as in [{value}]")
    return security_opt(value)


SecurityOpt = Annotated[Options, BeforeValidator(_listed, json_schema_input_type=list[str])]
