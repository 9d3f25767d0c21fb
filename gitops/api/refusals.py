"""Fields of a request that this engine knows and doesn't have: refused by name, since to ignore them would be worse.

Fields that nobody knows are ignored, as the API wants it. A field at its zero value asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gitops import errors
from gitops.objects import placeholders

# Each with the values, beside the empty ones, that ask for what happens anyway.
_HOST_CONFIG: dict[str, tuple[Any, ...]] = {
    "Cgroup": (),
    "CgroupParent": (),
    "VolumeDriver": ("local",),
    "DeviceRequests": (),
    "CpuRealtimePeriod": (),
    "CpuRealtimeRuntime": (),
    "KernelMemory": (),
    "KernelMemoryTCP": (),
    "StorageOpt": (),
    "Isolation": ("default",),
}
_CONFIG = ("OnBuild", "Shell", "ArgsEscaped")
_RUNTIMES = ("crun",)


def check_container(data: bytes) -> None:
    """Refuse the body of a container's creation where it asks for what isn't there.

    Raises:
        errors.Unsupported: names the first such field.
    """
    body = _object(data)
    for name in _CONFIG:
        if body.get(name):
            raise errors.Unsupported(f"{name} is not supported by this engine")
    host = body.get("HostConfig")
    if not isinstance(host, Mapping):
        return
    for name, accepted in _HOST_CONFIG.items():
        value = host.get(name)
        if value and value not in accepted:
            raise errors.Unsupported(f"HostConfig.{name} is not supported by this engine")
    runtime = host.get("Runtime")
    if runtime and runtime not in _RUNTIMES:
        raise errors.Invalid(f"unknown or invalid runtime name: {runtime}")


def check_update(data: bytes) -> None:
    """Refuse the body of a container's update where it asks for what isn't there, or can't change.

    Raises:
        errors.Unsupported: names the first such field.
    """
    body = _object(data)
    for name in ("CpuRealtimePeriod", "CpuRealtimeRuntime", "KernelMemory"):
        if body.get(name):
            raise errors.Unsupported(f"{name} is not supported by this engine")


def check_service(data: bytes) -> None:
    """Refuse a service's spec where it asks for what isn't there.

    Raises:
        errors.Unsupported: names the first such field.
    """
    body = _object(data)
    template = body.get("TaskTemplate")
    if not isinstance(template, Mapping):
        return
    if template.get("PluginSpec") or template.get("NetworkAttachmentSpec"):
        raise errors.Unsupported("only services of containers are supported by this engine")
    container = template.get("ContainerSpec")
    if not isinstance(container, Mapping):
        return
    privileges = container.get("Privileges")
    context = privileges.get("SELinuxContext") if isinstance(privileges, Mapping) else None
    if isinstance(privileges, Mapping) and _is_asking(privileges.get("CredentialSpec")):
        raise errors.Unsupported("ContainerSpec.Privileges.CredentialSpec is not supported by this engine")
    if isinstance(context, Mapping) and any(context.get(name) for name in ("User", "Role", "Type", "Level")):
        raise errors.Unsupported("ContainerSpec.Privileges.SELinuxContext is not supported by this engine: Disable is")
    configs = container.get("Configs")
    for item in configs if isinstance(configs, list) else ():
        if isinstance(item, Mapping) and item.get("Runtime"):
            raise errors.Unsupported("ContainerSpec.Configs[].Runtime is not supported by this engine")
    resources = template.get("Resources")
    reservations = resources.get("Reservations") if isinstance(resources, Mapping) else None
    if isinstance(reservations, Mapping) and reservations.get("GenericResources"):
        raise errors.Unsupported("Resources.Reservations.GenericResources is not supported by this engine")


def _is_asking(value: Any) -> bool:
    """Whether there is anything but empty values in it: the CLI sends skeletons."""
    if isinstance(value, Mapping):
        return any(_is_asking(item) for item in value.values())
    return bool(value)


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        parsed = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.Invalid(f"invalid JSON: {error}") from error
    return parsed if isinstance(parsed, Mapping) else {}


def check_secret(data: bytes) -> None:
    """Refuse the spec of a secret or config that asks for a driver, or for templates of another kind than Go's.

    Raises:
        errors.Unsupported: names the field; never the data.
    """
    body = _object(data) if data else {}
    if _is_asking(body.get("Driver")):
        raise errors.Unsupported("Driver of secrets and configs is not supported by this engine")
    templating = body.get("Templating")
    if isinstance(templating, Mapping) and templating.get("Name") not in (None, "", placeholders.GOLANG):
        raise errors.Unsupported(f"Templating of secrets and configs by {templating['Name']!r} is not supported")
