"""Fields of services that came to the Engine API later than the oldest engine that we talk to.

An older engine drops such a field without a word, and the service would differ from its manifest for ever. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gitops import config
from gitops.objects.mount import BindOptions, VolumeOptions
from gitops.objects.service import ContainerSpec, HealthConfig, Privileges, ServiceSpec

Version = tuple[int, int]


def parse(text: str) -> Version | None:
    """`1.41` as numbers; None for anything else."""
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def settled(theirs: str) -> Version | None:
    """The version that is spoken with an engine whose newest is `theirs`."""
    found, ours = parse(theirs), parse(config.API_VERSION)
    return min(found, ours) if found is not None and ours is not None else None


def lacking(spec: ServiceSpec, version: Version) -> Iterator[tuple[str, str]]:
    """What a service says and an engine of that version doesn't know: the field, and the version that brought it."""
    for since, field, is_given in _FIELDS:
        if version < since and is_given(spec):
            yield field, f"{since[0]}.{since[1]}"


def _container(spec: ServiceSpec) -> ContainerSpec:
    return spec.task_template.container_spec or ContainerSpec()


def _privileges(spec: ServiceSpec) -> Privileges:
    return _container(spec).privileges or Privileges()


def _makes_paths(spec: ServiceSpec) -> bool:
    return any((mount.bind_options or BindOptions()).create_mountpoint for mount in _container(spec).mounts)


def _says_how_deep(spec: ServiceSpec) -> bool:
    found = [mount.bind_options or BindOptions() for mount in _container(spec).mounts]
    return any(options.read_only_non_recursive or options.read_only_force_recursive for options in found)


def _mounts_parts(spec: ServiceSpec) -> bool:
    return any((mount.volume_options or VolumeOptions()).subpath for mount in _container(spec).mounts)


def _starts_checking(spec: ServiceSpec) -> bool:
    return bool((_container(spec).healthcheck or HealthConfig()).start_interval)


def _is_job(spec: ServiceSpec) -> bool:
    return spec.mode.replicated_job is not None or spec.mode.global_job is not None


def _limits_processes(spec: ServiceSpec) -> bool:
    resources = spec.task_template.resources
    return bool(resources and resources.limits and resources.limits.pids)


_FIELDS: tuple[tuple[Version, str, Callable[[ServiceSpec], bool]], ...] = (
    ((1, 41), "deploy.mode of a job", _is_job),
    ((1, 41), "deploy.resources.limits.pids", _limits_processes),
    ((1, 41), "cap_add", lambda spec: bool(_container(spec).capability_add)),
    ((1, 41), "cap_drop", lambda spec: bool(_container(spec).capability_drop)),
    ((1, 41), "ulimits", lambda spec: bool(_container(spec).ulimits)),
    ((1, 42), "volumes.bind.create_host_path", _makes_paths),
    ((1, 44), "volumes.bind.recursive", _says_how_deep),
    ((1, 44), "healthcheck.start_interval", _starts_checking),
    ((1, 44), "security_opt.no-new-privileges", lambda spec: _privileges(spec).no_new_privileges),
    ((1, 44), "security_opt.seccomp", lambda spec: _privileges(spec).seccomp is not None),
    ((1, 44), "security_opt.apparmor", lambda spec: _privileges(spec).app_armor is not None),
    ((1, 45), "volumes.volume.subpath", _mounts_parts),
    ((1, 46), "oom_score_adj", lambda spec: bool(_container(spec).oom_score_adj)),
)
