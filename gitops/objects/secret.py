"""Secrets and configs. A secret's data never leaves through the API, and no repr shows it."""

from __future__ import annotations

import msgspec

from gitops.objects.base import Version, Wire, always


class Templating(Wire, frozen=True):
    """Who expands the placeholders in a file; there is only `golang`."""

    name: str = ""
    options: dict[str, str] = {}


class ConfigSpec(Wire, frozen=True):
    """`data` is base64 on the wire."""

    name: str = ""
    labels: dict[str, str] = always({})
    data: bytes = b""
    templating: Templating | None = None


class Config(Wire, frozen=True):
    """A file that services mount, or a record of the reconciler."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: ConfigSpec = msgspec.field(default_factory=ConfigSpec)


class SecretSpec(Wire, frozen=True):
    """`data` is base64 on the wire, in one direction only."""

    name: str = ""
    labels: dict[str, str] = always({})
    data: bytes = b""
    templating: Templating | None = None

    def __repr__(self) -> str:
        return f"SecretSpec(name={self.name!r}, labels={self.labels!r}, data=<hidden>)"


class Secret(Wire, frozen=True):
    """A secret: as stored, with `spec.data` sealed by the manager's key; as shown, without."""

    id: str = msgspec.field(name="ID", default="")
    version: Version = msgspec.field(default_factory=Version)
    created_at: str = ""
    updated_at: str = ""
    spec: SecretSpec = msgspec.field(default_factory=SecretSpec)
