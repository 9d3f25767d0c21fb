"""What a registry asks for in WWW-Authenticate, parsed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|$)")
_PARAMETER = re.compile(rf'\s*,?\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; `scheme` and the names of `parameters` in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse(header: str) -> list[Challenge]:
    """The challenges of one WWW-Authenticate header, in its order (RFC 9110 §11.6.1); garbage ends the list."""
    found: list[Challenge] = []
    position, header = 0, header[:_LONGEST]
    while match := _SCHEME.match(header, position):
        challenge = Challenge(match[1].lower())
        position = match.end()
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            challenge.parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
            position = parameter.end()
        found.append(challenge)
    return found


def choose(headers: Iterable[str]) -> Challenge | None:
    """The challenge to answer: Bearer before Basic; None where neither is offered."""
    offered = [challenge for header in headers for challenge in parse(header)]
    for scheme in ("bearer", "basic"):
        for challenge in offered:
            if challenge.scheme == scheme:
                return challenge
    return None
