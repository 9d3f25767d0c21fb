"""Fields that an older engine would drop without a word: found before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from gitops.manifests import Desired, DesiredSet, Position
from gitops.objects.mount import BindOptions, Mount, VolumeOptions
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate
from gitops.objects.service import (
    AppArmorOptions,
    ContainerSpec,
    GlobalJob,
    HealthConfig,
    Limits,
    Privileges,
    ResourceRequirements,
    SeccompOptions,
    SELinuxContext,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    Ulimit,
)
from gitops.reconciler import apiversions, targets


def service(mode: ServiceMode | None = None, limits: Limits | None = None, **container: Any) -> ServiceSpec:
    resources = ResourceRequirements(limits=limits) if limits else None
    template = TaskSpec(container_spec=ContainerSpec(image="a", **container), resources=resources)
    return ServiceSpec(name="web", task_template=template, mode=mode or ServiceMode())


CASES = [
    (service(), "", (0, 0)),
    (service(privileges=Privileges(selinux_context=SELinuxContext(disable=True))), "", (0, 0)),
    (service(ServiceMode(global_job=GlobalJob())), "deploy.mode of a job", (1, 41)),
    (service(limits=Limits(pids=5)), "deploy.resources.limits.pids", (1, 41)),
    (service(capability_add=["CAP_KILL"]), "cap_add", (1, 41)),
    (service(capability_drop=["ALL"]), "cap_drop", (1, 41)),
    (service(ulimits=[Ulimit("core", 1, 1)]), "ulimits", (1, 41)),
    (service(mounts=[Mount(bind_options=BindOptions(create_mountpoint=True))]), "create_host_path", (1, 42)),
    (service(mounts=[Mount(bind_options=BindOptions(read_only_non_recursive=True))]), "bind.recursive", (1, 44)),
    (service(mounts=[Mount(volume_options=VolumeOptions(subpath="a"))]), "volume.subpath", (1, 45)),
    (service(healthcheck=HealthConfig(start_interval=1)), "healthcheck.start_interval", (1, 44)),
    (service(privileges=Privileges(no_new_privileges=True)), "no-new-privileges", (1, 44)),
    (service(privileges=Privileges(seccomp=SeccompOptions("unconfined"))), "seccomp", (1, 44)),
    (service(privileges=Privileges(app_armor=AppArmorOptions("disabled"))), "apparmor", (1, 44)),
    (service(oom_score_adj=1), "oom_score_adj", (1, 46)),
]


@pytest.mark.parametrize(("spec", "field", "since"), CASES)
def test_a_field_is_lacking_before_the_version_that_brought_it(
    spec: ServiceSpec, field: str, since: tuple[int, int]
) -> None:
    assert list(apiversions.lacking(spec, since)) == []
    before = list(apiversions.lacking(spec, (since[0], since[1] - 1)))
    assert len(before) == bool(field)
    for found, version in before:
        assert field in found and version == f"{since[0]}.{since[1]}"


def test_the_version_that_is_spoken_is_the_older_one() -> None:
    assert apiversions.settled("1.41") == (1, 41)
    assert apiversions.settled("1.99") == apiversions.settled("1.47")
    assert apiversions.settled("") is None


def test_a_plan_for_an_older_engine_is_refused_with_field_and_service() -> None:
    spec = service(oom_score_adj=1)
    item = Desired("Service", "", "web", "web", Position("a.yaml", 1, 1), spec, {}, "")
    desired = DesiredSet((item,), {}, {})
    old = targets.Target(is_ours=False, api_version=(1, 41))
    (text,) = targets.refusals(desired, old, 1)
    assert "service web" in text and "oom_score_adj" in text and "1.46" in text and "1.41" in text
    assert targets.refusals(desired, targets.Target(), 1) == []
    assert targets.refusals(desired, targets.Target(is_ours=False, api_version=(1, 47)), 1) == []


def test_addresses_that_a_docker_swarm_would_not_keep_free_are_refused() -> None:
    pool = IPAMConfig("10.9.0.0/24", auxiliary_addresses={"printer": "10.9.0.7"})
    spec = NetworkCreate(name="front", ipam=IPAM(config=[pool]))
    desired = DesiredSet((Desired("Network", "", "front", "front", Position("a.yaml", 1, 1), spec, {}, ""),), {}, {})
    (text,) = targets.refusals(desired, targets.Target(is_ours=False), 1)
    assert "network front" in text and "aux_addresses" in text
    assert targets.refusals(desired, targets.Target(), 1) == []
