"""Published ports, in Compose's short and long syntax."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gitops.manifests.kinds.base import Model, optional
from gitops.manifests.kinds.findings import problem, shown

Range = tuple[int, int]
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SHORT = re.compile(
    r"(?:(?P<ip>\[[^\]]*\]|[^:]*\.[^:]*):)?(?:(?P<published>[^:]*):)?(?P<target>[^:/]+)(?:/(?P<protocol>.*))?"
)


def _range(value: Any, lowest: int) -> Range:
    found = _RANGE.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if found is None:
        raise problem(f"{shown(value)} is no port", "a number from 1 to 65535, or a range such as 8000-8010")
    first, last = int(found[1]), int(found[2] or found[1])
    if not lowest <= first <= 65535 or not lowest <= last <= 65535:
        raise problem(f"{shown(value)} is out of range", f"ports are from {lowest or 1} to 65535")
    if last < first:
        raise problem(f"the range {shown(value)} runs backwards", f"write {last}-{first}")
    return first, last


def _target(value: Any) -> Range:
    return _range(value, 1)


def _published(value: Any) -> Range:
    return _range(value, 0)


def _protocol(value: Any) -> Any:
    if value == "sctp":
        raise problem("sctp is known, but not supported yet", "use tcp or udp")
    return value


class PortFields(Model):
    """A published port."""

    NEVER: ClassVar = {
        "host_ip": "ports are published on all addresses of the host",
        "app_protocol": "leave it out: it says nothing to an engine",
    }

    target: Annotated[Range, BeforeValidator(_target, json_schema_input_type=int | str)] = Field(
        description="The port in the container, or a range."
    )
    published: Annotated[Range, BeforeValidator(_published, json_schema_input_type=int | str)] | None = optional(
        "The port on the hosts, or a range of the same length; default: a free one."
    )
    protocol: (
        Annotated[Literal["tcp", "udp"], BeforeValidator(_protocol, json_schema_input_type=Literal["tcp", "udp"])]
        | None
    ) = optional("tcp (default) or udp.")
    mode: Literal["ingress", "host"] | None = optional(
        "ingress (default): shared by all tasks, on all hosts. host: each task's own, on its host.",
    )
    name: str | None = optional("A name for people.")


def short(value: Any) -> Any:
    """`[published[-range]:]target[-range][/protocol]`, or the target as a number; to the long form."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"target": int(value)}
    if not isinstance(value, str):
        return value
    found = _SHORT.fullmatch(value)
    if found is None:
        raise problem(f"{shown(value)} is no port", "as in 8080:80, 8080:80/udp or 8000-8010:8000-8010")
    if found["ip"]:
        raise problem(
            f"no swarm publishes on one address of a host ({found['ip']})",
            "ports are published on all addresses of the host",
        )
    result = {"target": found["target"]}
    if found["published"]:
        result["published"] = found["published"]
    if found["protocol"] is not None:
        if found["protocol"] not in ("tcp", "udp", "sctp"):
            raise problem(f"{shown(found['protocol'])} is no protocol", "tcp or udp")
        result["protocol"] = found["protocol"]
    # Checked here, since the short text has no `target` that an error of the long form could point at.
    _target(result["target"])
    _published(result.get("published", "1"))
    _protocol(result.get("protocol"))
    return result


def _whole(port: PortFields) -> PortFields:
    if port.published is not None:
        targets = port.target[1] - port.target[0]
        published = port.published[1] - port.published[0]
        if targets != published:
            hint = "one of a range of published ports is known, but not supported yet" if not targets else ""
            raise problem(f"{published + 1} published ports for {targets + 1} of the container", hint)
    return port


Port = Annotated[
    PortFields, AfterValidator(_whole), BeforeValidator(short, json_schema_input_type=int | str | PortFields)
]
