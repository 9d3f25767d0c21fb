"""What a service's spec may say, in Docker's words (A01, A02, A07)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.mount import Mount
from gitops.objects.service import (
    AppArmorOptions,
    ConfigReference,
    ContainerSpec,
    EndpointSpec,
    FileTarget,
    HealthConfig,
    Limits,
    Placement,
    PlacementPreference,
    PortConfig,
    Privileges,
    Replicated,
    ResourceRequirements,
    Resources,
    RestartPolicy,
    SeccompOptions,
    SecretReference,
    ServiceMode,
    ServiceSpec,
    SpreadOver,
    TaskSpec,
    UpdateConfig,
)
from gitops.swarm.manager import validation

SPEC = ServiceSpec(name="web", task_template=TaskSpec(container_spec=ContainerSpec(image="tu-demo:v1")))


def with_template(**fields: Any) -> ServiceSpec:
    return replace(SPEC, task_template=replace(SPEC.task_template, **fields))


def with_container(**fields: Any) -> ServiceSpec:
    return with_template(container_spec=ContainerSpec(**{"image": "tu-demo:v1", **fields}))


def with_ports(*ports: PortConfig, mode: str = "") -> ServiceSpec:
    return replace(SPEC, endpoint_spec=EndpointSpec(mode=mode, ports=list(ports)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("web", None),
        ("a", None),
        ("9_x-Y", None),
        ("a" * 63, None),
        ("", "meta: name must be provided"),
        ("-web", "name must be valid as a DNS name component"),
        ("web-", "name must be valid as a DNS name component"),
        ("we.b", "name must be valid as a DNS name component"),
        ("w b", "name must be valid as a DNS name component"),
        ("web\n", "name must be valid as a DNS name component"),
        ("wéb", "name must be valid as a DNS name component"),
        ("a" * 64, "name must be 63 characters or fewer"),
    ],
)
def test_a01_names(name: str, reason: str | None) -> None:
    assert validation.service(replace(SPEC, name=name)) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("image", "is_valid"),
    [
        ("nginx", True),
        ("nginx:1.27", True),
        ("library/nginx", True),
        ("127.0.0.1:5000/a/b_c/d--e:v1.2-x", True),
        ("registry.example.org/x@sha256:" + "a" * 64, True),
        ("[::1]:5000/x", True),
        ("nginx:1.27@sha256:" + "0" * 64, True),
        ("Nginx", False),
        ("nginx:", False),
        ("nginx:tag:tag", False),
        ("a b", False),
        ("/nginx", False),
        ("nginx@sha256:abc", False),
        ("-nginx", False),
    ],
)
def test_images_are_references(image: str, is_valid: bool) -> None:
    expected = [] if is_valid else [f'ContainerSpec: "{image}" is not a valid repository/tag']
    assert validation.service(with_container(image=image)) == expected


TARGET = FileTarget(name="x")

CASES: list[tuple[ServiceSpec, list[str]]] = [
    (with_template(container_spec=None), ["TaskSpec: missing runtime"]),
    (with_container(image=""), ["ContainerSpec: image reference must be provided"]),
    (
        with_template(resources=ResourceRequirements(Limits(nano_cpus=999_999), Resources(memory_bytes=1))),
        ["invalid cpu value 0.000999999: Must be at least 0.001", "invalid memory value 1: Must be at least 4MiB"],
    ),
    (with_template(resources=ResourceRequirements(Limits(nano_cpus=1_000_000, memory_bytes=4 << 20))), []),
    (with_template(restart_policy=RestartPolicy(delay=-1)), ["TaskSpec: restart-delay cannot be negative"]),
    (with_template(restart_policy=RestartPolicy(window=-1)), ["TaskSpec: restart-window cannot be negative"]),
    (with_template(restart_policy=RestartPolicy(condition="always")), ['invalid RestartCondition: "always"']),
    (replace(SPEC, update_config=UpdateConfig(delay=-1)), ["TaskSpec: update-delay cannot be negative"]),
    (replace(SPEC, rollback_config=UpdateConfig(monitor=-1)), ["TaskSpec: rollback-monitor cannot be negative"]),
    (
        replace(SPEC, update_config=UpdateConfig(max_failure_ratio=1.1)),
        ["TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1"],
    ),
    (replace(SPEC, update_config=UpdateConfig(max_failure_ratio=1.0, failure_action="rollback")), []),
    (
        replace(SPEC, rollback_config=UpdateConfig(failure_action="rollback")),
        ['unrecognized rollback failure action "rollback"'],
    ),
    (replace(SPEC, update_config=UpdateConfig(order="random")), ['unrecognized update order "random"']),
    (
        replace(SPEC, mode=ServiceMode(replicated=Replicated(replicas=-1))),
        ["Number of replicas must be non-negative"],
    ),
    (with_template(placement=Placement(constraints=["node.role"])), ["constraint expected one operator from ==, !="]),
    (
        with_template(placement=Placement(preferences=[PlacementPreference(SpreadOver("node.role"))])),
        ['invalid spread preference "node.role": only node.labels.KEY and engine.labels.KEY can be spread'],
    ),
    (with_template(placement=Placement(max_replicas=-1)), ["max replicas per node cannot be negative"]),
    (
        with_container(mounts=[Mount(type="tmpfs", target="/a"), Mount(type="volume", source="v", target="/a")]),
        ["ContainerSpec: duplicate mount point: /a"],
    ),
    (
        with_container(mounts=[Mount(type="npipe", target="")]),
        ["ContainerSpec: a mount has no target", 'invalid MountType: "npipe"'],
    ),
    (with_container(env=["A=1", "B", "=x"]), ["ContainerSpec: invalid environment variable: =x"]),
    (with_container(stop_grace_period=-1), ["ContainerSpec: stop-grace-period cannot be negative"]),
    (
        with_container(healthcheck=HealthConfig(test=["CMD", "x"], interval=base.MILLISECOND - 1, retries=-1)),
        [
            "ContainerSpec: Interval in HealthConfig cannot be less than 1ms",
            "ContainerSpec: Retries in HealthConfig cannot be negative",
        ],
    ),
    (
        with_container(healthcheck=HealthConfig(test=["RUN"])),
        ['ContainerSpec: unknown type "RUN" of health check test'],
    ),
    (with_container(healthcheck=HealthConfig(test=["NONE"])), []),
    (with_container(secrets=[SecretReference(file=TARGET)]), ["malformed secret reference"]),
    (
        with_container(configs=[ConfigReference(config_name="c")]),
        ["malformed file config reference, no target provided"],
    ),
    (
        with_container(secrets=[SecretReference(TARGET, "1", "a"), SecretReference(TARGET, "2", "b")]),
        ["secret references 'a' and 'b' have a conflicting target: 'x'"],
    ),
    (
        with_container(secrets=[SecretReference(TARGET, "1", "a"), SecretReference(FileTarget("y"), "1", "a")]),
        [],
    ),
    (
        with_ports(PortConfig(target_port=80), mode="dnsrr"),
        ["EndpointSpec: port published with ingress mode can't be used with dnsrr mode"],
    ),
    (with_ports(PortConfig(target_port=80, publish_mode="host"), mode="dnsrr"), []),
    (
        with_ports(PortConfig(target_port=80, published_port=80), PortConfig(target_port=81, published_port=80)),
        ["EndpointSpec: duplicate published ports provided"],
    ),
    (
        with_ports(
            PortConfig(target_port=80, published_port=80), PortConfig("", "udp", target_port=80, published_port=80)
        ),
        [],
    ),
    (with_ports(PortConfig(target_port=80), PortConfig(target_port=81)), []),
    (
        with_ports(PortConfig("", "icmp", 0, 70000, "mesh"), mode="magic"),
        [
            'invalid endpoint mode "magic"',
            "invalid target port 0: must be between 1 and 65535",
            "invalid published port 70000: must be between 0 and 65535",
            'invalid protocol "icmp": must be tcp, udp or sctp',
            'invalid publish mode "mesh": must be ingress or host',
        ],
    ),
]


@pytest.mark.parametrize(("spec", "reasons"), CASES)
def test_a02_specs(spec: ServiceSpec, reasons: list[str]) -> None:
    assert validation.service(spec) == reasons


@pytest.mark.parametrize(
    ("privileges", "reasons"),
    [
        (Privileges(no_new_privileges=True), []),
        (Privileges(seccomp=SeccompOptions("custom", b"{}"), app_armor=AppArmorOptions("default")), []),
        (Privileges(seccomp=SeccompOptions("strict")), ['ContainerSpec: unknown seccomp mode "strict"']),
        (
            Privileges(seccomp=SeccompOptions("custom")),
            ["ContainerSpec: a seccomp profile goes with mode custom, and with that alone"],
        ),
        (Privileges(app_armor=AppArmorOptions("own")), ['ContainerSpec: unknown AppArmor mode "own"']),
    ],
)
def test_privileges_have_modes(privileges: Privileges, reasons: list[str]) -> None:
    assert validation.service(with_container(privileges=privileges)) == reasons


def test_another_runtime_is_refused_by_name() -> None:
    with pytest.raises(errors.Unsupported, match="runtime 'plugin'"):
        validation.service(with_template(runtime="plugin"))


@given(st.text(max_size=70))
def test_any_name_gets_an_answer(name: str) -> None:
    reasons = list(validation.name(name))
    assert len(reasons) <= 1
    assert bool(reasons) or (name.isascii() and name[0].isalnum() and name[-1].isalnum() and len(name) <= 63)
