"""Mounts, secrets and configs of a service, in Compose's short and long syntax."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gitops.manifests.kinds.base import Model, optional
from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.values import AbsolutePath, Bool, Mode, Name, Size, absolute, text

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_ID = re.compile(r"[0-9]{1,10}")


def _subpath(value: Any) -> Any:
    value = text(value)
    if isinstance(value, str) and (value.startswith("/") or "\0" in value or ".." in value.split("/")):
        raise problem(f"{shown(value)} leads out of the volume", "a path below its root, as in site/html")
    return value


class BindOptions(Model):
    """Options of a bind mount."""

    NEVER: ClassVar = {
        "selinux": "leave it out: nothing is relabelled",
    }

    propagation: Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"] | None = optional(
        "How mounts below it are shared; default rprivate."
    )
    create_host_path: Bool | None = optional("Make the path on the host where it is missing; default false.")
    recursive: Literal["enabled", "disabled", "writable", "readonly"] | None = optional(
        "Whether what is mounted below the path comes along; default enabled. With read_only: writable: only the path"
        " itself can't be written to; readonly: nothing can, or the task fails."
    )


class VolumeOptions(Model):
    """Options of a volume mount."""

    NEVER: ClassVar = {"labels": "write them on the Volume"}

    nocopy: Bool | None = optional("Don't fill a new volume from the image.")
    subpath: Annotated[str, BeforeValidator(_subpath, json_schema_input_type=str)] | None = optional(
        "Only this file or directory of the volume, which must be there."
    )


class TmpfsOptions(Model):
    """Options of a tmpfs mount."""

    size: Size | None = optional("At most, as in 64M; default: no limit but the container's memory.")
    mode: Mode | None = optional('Permission bits; default "1777".')


class MountFields(Model):
    """A mount."""

    NOT_YET: ClassVar = {"image": "build an Image on it"}
    NEVER: ClassVar = {"consistency": "leave it out: it has no effect on Linux"}

    type: Literal["bind", "volume", "tmpfs"] = Field(description="bind, volume or tmpfs.")
    source: str | None = optional("bind: a path of the host; volume: the name of a Volume.")
    target: AbsolutePath = Field(description="Where it is in the container.")
    read_only: Bool | None = optional("It can't be written to.")
    bind: BindOptions | None = optional("With type bind.")
    volume: VolumeOptions | None = optional("With type volume.")
    tmpfs: TmpfsOptions | None = optional("With type tmpfs.")


def _type(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type") == "npipe":
        raise problem("the type npipe is for Windows", "use bind, volume or tmpfs", "type")
    if value.get("type") in ("image", "cluster"):
        raise problem(f"the type {value['type']} is known, but not supported yet", "use bind, volume or tmpfs", "type")
    return value


def short(value: Any) -> Any:
    """`[source:]target[:options]`; to the long form."""
    if isinstance(value, dict):
        return _type(value)
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) > 3 or not all(parts):
        raise problem(f"{shown(value)} is no mount", "as in data:/var/lib/data or /host/path:/path:ro")
    if len(parts) == 1:
        return {"type": "volume", "target": absolute(parts[0])}
    source, target = parts[0], absolute(parts[1])
    if source.startswith((".", "~")):
        raise problem(
            f"{shown(source)} is relative, and a service has no directory on the host that it runs on",
            "give an absolute path, or use a Config for a file",
        )
    kind = "bind" if source.startswith("/") else "volume"
    return _options({"type": kind, "source": source, "target": target}, parts[2] if len(parts) == 3 else "")


def _options(mount: dict[str, Any], options: str) -> dict[str, Any]:
    for option in filter(None, options.split(",")):
        if option in ("ro", "rw"):
            mount["read_only"] = option == "ro"
        elif option == "nocopy" and mount["type"] == "volume":
            mount["volume"] = {"nocopy": True}
        elif option in _PROPAGATION and mount["type"] == "bind":
            mount["bind"] = {"propagation": option}
        elif option in ("z", "Z", "cached", "delegated", "consistent"):
            raise problem(f"the option {option} has no effect on a service", "leave it out")
        else:
            raise problem(f"{shown(option)} is no option of a {mount['type']} mount", "as in ro")
    return mount


_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""Nodes of a swarm may run Windows, though none of ours does."""


def is_windows_path(text: str) -> bool:
    """Whether a text is an absolute path of Windows."""
    return _WINDOWS_PATH.match(text) is not None


def _check_host_path(source: str) -> None:
    findings = Findings()
    try:
        if not is_windows_path(source):
            absolute(source)
    except PydanticCustomError as error:
        findings.take(error, "source")
    findings.finish()


def _check_recursive(mount: MountFields, bind: BindOptions) -> None:
    if bind.recursive in ("writable", "readonly") and not mount.read_only:
        raise problem(
            f"{bind.recursive} is for mounts that can't be written to", "add read_only: true", "bind", "recursive"
        )
    if bind.recursive == "readonly" and bind.propagation not in (None, "rprivate"):
        raise problem("readonly is for propagation rprivate", "leave propagation out", "bind", "recursive")


def _whole(mount: MountFields) -> MountFields:
    for kind in ("bind", "volume", "tmpfs"):
        if mount.type != kind and getattr(mount, kind) is not None:
            raise problem(f"options of a {kind} mount on one of type {mount.type}", "", kind)
    if mount.type == "bind":
        if not mount.source:
            raise problem("a bind mount needs a source", "an absolute path of the host")
        _check_host_path(mount.source)
        _check_recursive(mount, mount.bind or BindOptions())
    if mount.volume is not None and mount.volume.subpath and not mount.source:
        raise problem("a volume without a name is new and empty", "name the volume in source", "volume", "subpath")
    if mount.type == "tmpfs" and mount.source:
        raise problem("a tmpfs mount has no source", "leave it out", "source")
    return mount


Mount = Annotated[MountFields, AfterValidator(_whole), BeforeValidator(short, json_schema_input_type=str | MountFields)]


def _owner(value: Any) -> Any:
    value = text(value)
    if isinstance(value, str) and not _ID.fullmatch(value):
        raise problem(f"{shown(value)} is no numeric id", "as in 1000")
    return value


def _target(value: Any) -> Any:
    if isinstance(value, str) and (not value or "\0" in value or "/../" in f"/{value}/"):
        raise problem(f"{shown(value)} is no path", "a name, or an absolute path")
    return value


class FileUseFields(Model):
    """A secret or config as a file in the containers."""

    source: Name = Field(description="The name of the Secret or Config.")
    target: Annotated[str, BeforeValidator(_target, json_schema_input_type=str)] | None = optional(
        "The file; default: the name, under /run/secrets (secrets) or / (configs)."
    )
    uid: Annotated[str, BeforeValidator(_owner, json_schema_input_type=str | int)] | None = optional(
        "The owner; default 0."
    )
    gid: Annotated[str, BeforeValidator(_owner, json_schema_input_type=str | int)] | None = optional(
        "The group; default 0."
    )
    mode: Mode | None = optional('Permission bits; default "0444".')


def _use(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


FileUse = Annotated[FileUseFields, BeforeValidator(_use, json_schema_input_type=str | FileUseFields)]
