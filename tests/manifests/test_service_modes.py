"""Modes, `restart`, `security_opt`, binds and pools: what they become for the swarm, and in the canonical form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops import manifests
from gitops.manifests import canonical
from gitops.objects.mount import BindOptions
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate
from gitops.objects.service import (
    AppArmorOptions,
    Global,
    GlobalJob,
    Privileges,
    Replicated,
    ReplicatedJob,
    RestartPolicy,
    SeccompOptions,
    SELinuxContext,
    ServiceMode,
    ServiceSpec,
)

HEAD = "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web}\nspec:\n  image: nginx\n"


def service(tmp_path: Path, body: str) -> ServiceSpec:
    (tmp_path / "service.yaml").write_text(HEAD + body)
    (found,) = manifests.load(tmp_path).of("Service")
    assert isinstance(found.spec, ServiceSpec)
    assert found.canonical == canonical.service(found.spec)
    return found.spec


def deploy_of(spec: ServiceSpec) -> Any:
    return canonical.service(spec)["deploy"]


@pytest.mark.parametrize(
    ("deploy", "mode"),
    [
        ("{}", ServiceMode(replicated=Replicated(None))),
        ("{mode: replicated, replicas: 0}", ServiceMode(replicated=Replicated(0))),
        ("{mode: global}", ServiceMode(global_=Global())),
        ("{mode: global-job}", ServiceMode(global_job=GlobalJob())),
        ("{mode: replicated-job}", ServiceMode(replicated_job=ReplicatedJob(1, 1))),
        ("{mode: replicated-job, replicas: 6}", ServiceMode(replicated_job=ReplicatedJob(6, 6))),
        ("{mode: replicated-job, replicas: 6, max_concurrent: 2}", ServiceMode(replicated_job=ReplicatedJob(2, 6))),
    ],
)
def test_each_mode_is_one_of_the_swarm(tmp_path: Path, deploy: str, mode: ServiceMode) -> None:
    assert service(tmp_path, f"  deploy: {deploy}\n").mode == mode


def test_a_job_ends_and_has_no_updates(tmp_path: Path) -> None:
    spec = service(tmp_path, "  deploy: {mode: replicated-job, replicas: 6, max_concurrent: 2}\n")
    assert spec.task_template.restart_policy == RestartPolicy("on-failure")
    form = deploy_of(spec)
    assert (form["mode"], form["replicas"], form["max_concurrent"]) == ("replicated-job", 6, 2)
    assert "update_config" not in form and "rollback_config" not in form


def test_a_global_service_has_no_count(tmp_path: Path) -> None:
    form = deploy_of(service(tmp_path, "  deploy: {mode: global}\n"))
    assert form["mode"] == "global"
    assert "replicas" not in form and "max_concurrent" not in form


def test_what_an_engine_fills_in_for_a_job_is_no_difference() -> None:
    bare = ServiceSpec(name="a", mode=ServiceMode(replicated_job=ReplicatedJob()))
    full = ServiceSpec(name="a", mode=ServiceMode(replicated_job=ReplicatedJob(1, 1)))
    assert canonical.service(bare) == canonical.service(full)


@pytest.mark.parametrize(
    ("word", "policy"),
    [
        ("no", RestartPolicy("none")),
        ('"no"', RestartPolicy("none")),
        ("false", RestartPolicy("none")),
        ("always", RestartPolicy("any")),
        ("unless-stopped", RestartPolicy("any")),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:3", RestartPolicy("on-failure", max_attempts=3)),
    ],
)
def test_the_short_restart_is_a_policy(tmp_path: Path, word: str, policy: RestartPolicy) -> None:
    spec = service(tmp_path, f"  restart: {word}\n")
    assert spec.task_template.restart_policy == policy
    long = f"{{condition: {policy.condition}, max_attempts: {policy.max_attempts or 0}}}"
    assert deploy_of(service(tmp_path, f"  deploy: {{restart_policy: {long}}}\n")) == deploy_of(spec)


@pytest.mark.parametrize(
    ("options", "privileges", "form"),
    [
        ("[no-new-privileges]", Privileges(no_new_privileges=True), {"no-new-privileges": True}),
        ("[no-new-privileges:false, seccomp=builtin, apparmor=docker-default]", None, None),
        (
            '["seccomp:unconfined", "apparmor:unconfined"]',
            Privileges(seccomp=SeccompOptions("unconfined"), app_armor=AppArmorOptions("disabled")),
            {"seccomp": "unconfined", "apparmor": "unconfined"},
        ),
        ('["label:disable"]', Privileges(selinux_context=SELinuxContext(disable=True)), {"label": {"disable": True}}),
    ],
)
def test_security_options_are_privileges(tmp_path: Path, options: str, privileges: Any, form: Any) -> None:
    spec = service(tmp_path, f"  security_opt: {options}\n")
    assert spec.task_template.container_spec is not None
    assert spec.task_template.container_spec.privileges == privileges
    assert canonical.service(spec).get("security_opt") == form


def test_a_seccomp_profile_is_read_from_the_repository_and_shown_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    spec = service(tmp_path, "  security_opt: [seccomp=profile.json]\n")
    assert spec.task_template.container_spec is not None
    found = spec.task_template.container_spec.privileges
    assert found == Privileges(seccomp=SeccompOptions("custom", b'{"defaultAction": "SCMP_ACT_ALLOW"}'))
    assert canonical.service(spec)["security_opt"]["seccomp"].startswith("sha256:")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{recursive: disabled, create_host_path: true}", BindOptions(non_recursive=True, create_mountpoint=True)),
        ("{recursive: writable}", BindOptions(read_only_non_recursive=True)),
        ("{recursive: readonly}", BindOptions(propagation="rprivate", read_only_force_recursive=True)),
    ],
)
def test_options_of_a_bind_mount_reach_the_engine(tmp_path: Path, options: str, expected: BindOptions) -> None:
    body = f"  volumes:\n  - {{type: bind, source: /srv, target: /srv, read_only: true, bind: {options}}}\n"
    (tmp_path / "service.yaml").write_text(HEAD + body)
    (found,) = manifests.load(tmp_path, manifests.LoadOptions(allow_host=True)).of("Service")
    assert isinstance(found.spec, ServiceSpec) and found.spec.task_template.container_spec is not None
    (mount,) = found.spec.task_template.container_spec.mounts
    assert mount.bind_options == expected
    said = {name: True for name in BindOptions.__struct_fields__ if getattr(expected, name) is True}
    assert found.canonical["volumes"]["/srv"]["bind"] == said


def test_a_part_of_a_volume_reaches_the_engine(tmp_path: Path) -> None:
    volume = "---\napiVersion: gitops/v1\nkind: Volume\nmetadata: {name: data}\nspec: {driver_opts: {type: tmpfs}}\n"
    body = "  volumes: [{type: volume, source: data, target: /a, volume: {subpath: b/c, nocopy: true}}]\n"
    (tmp_path / "service.yaml").write_text(HEAD + body + volume)
    (found,) = manifests.load(tmp_path).of("Service")
    assert isinstance(found.spec, ServiceSpec) and found.spec.task_template.container_spec is not None
    options = found.spec.task_template.container_spec.mounts[0].volume_options
    assert options is not None and options.driver_config is not None
    assert (options.subpath, options.no_copy, options.driver_config.options) == ("b/c", True, {"type": "tmpfs"})
    assert found.canonical["volumes"]["/a"]["volume"]["subpath"] == "b/c"


def test_a_pool_has_a_range_and_kept_addresses(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(
        "apiVersion: gitops/v1\nkind: Network\nmetadata: {name: front}\nspec: {ipam: {config: [{subnet: 10.9.0.0/24, "
        "ip_range: 10.9.0.128/25, aux_addresses: {printer: 10.9.0.7}}]}}\n"
    )
    (found,) = manifests.load(tmp_path).of("Network")
    assert isinstance(found.spec, NetworkCreate)
    pool = IPAMConfig("10.9.0.0/24", "10.9.0.128/25", "", {"printer": "10.9.0.7"})
    assert found.spec.ipam == IPAM(config=[pool])
    chosen = IPAM(config=[IPAMConfig("10.9.0.0/24", "10.9.0.128/25", "10.9.0.129", {"printer": "10.9.0.7"})])
    live = NetworkCreate(name="front", driver="overlay", ipam=chosen, labels=found.spec.labels)
    assert canonical.network(live, found.spec) == found.canonical
