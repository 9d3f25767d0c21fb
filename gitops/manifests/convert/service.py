"""Services: what the swarm is told to run."""

from __future__ import annotations

from collections.abc import Iterator

from gitops import errors
from gitops.manifests import canonical, extensions
from gitops.manifests.catalog import Catalog, Item, owner_labels
from gitops.manifests.convert import dependencies, mounts
from gitops.manifests.convert.common import desired, healthcheck
from gitops.manifests.convert.environment import environment
from gitops.manifests.convert.security import privileges
from gitops.manifests.desired import DEFAULT_NETWORK, Desired
from gitops.manifests.kinds import deploy as deploy_kind
from gitops.manifests.kinds import service as kind
from gitops.manifests.problems import Issue
from gitops.manifests.text.fieldpath import Path
from gitops.objects import defaults, labels, placeholders
from gitops.objects.service import (
    ContainerSpec,
    DNSConfig,
    EndpointSpec,
    Global,
    GlobalJob,
    Limits,
    LogDriver,
    NetworkAttachmentConfig,
    Placement,
    PlacementPreference,
    PortConfig,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    SpreadOver,
    TaskSpec,
    Ulimit,
    UpdateConfig,
)

Need = tuple[str, str]
_NO_DEPLOY = deploy_kind.Deploy.model_construct()


def convert(catalog: Catalog, item: Item) -> Desired:
    """A service. Problems with what it refers to are reported; the result is then not to be used."""
    model = item.model
    assert isinstance(model, kind.Service)
    spec, deploy = model.spec, model.spec.deploy or _NO_DEPLOY
    needs: list[Need] = []
    if spec.image in catalog.images:
        needs.append(("Image", spec.image))
    container = _container(catalog, item, spec, needs)
    waits = dependencies.resolve(catalog, item, spec)
    ours = extensions.labels_of(waits, deploy.deadline, deploy.min_available)
    service = ServiceSpec(
        name=item.engine_name,
        labels={
            **(model.metadata.labels or {}),
            **(deploy.labels or {}),
            **ours,
            **owner_labels("Service", item.stack, item.name),
        },
        task_template=TaskSpec(
            container_spec=container,
            resources=_resources(deploy.resources),
            restart_policy=_restart_policy(spec, deploy),
            placement=_placement(deploy.placement),
            networks=list(_networks(catalog, item, spec, needs)),
            log_driver=_log_driver(spec.logging),
        ),
        mode=_mode(deploy),
        update_config=_update_config(deploy.update_config),
        rollback_config=_update_config(deploy.rollback_config),
        endpoint_spec=_endpoint(catalog, item, spec, deploy),
    )
    _check_placeholders(catalog, item, container, service.labels)
    form, digest = ({}, "") if catalog.options.only_checks else _canonical(service)
    return desired(item, service, form, digest, tuple(dict.fromkeys(needs)), waits, deploy.deadline)


def _canonical(service: ServiceSpec) -> tuple[canonical.Canonical, str]:
    """The canonical form and its hash, which becomes a label."""
    form = canonical.service(service)
    digest = canonical.digest(form)
    service.labels[labels.HASH] = digest
    return form, digest


def _check_placeholders(catalog: Catalog, item: Item, container: ContainerSpec, known: dict[str, str]) -> None:
    """What no task could expand is found before there is one; `known` are the service's labels."""
    found: list[tuple[Path, str]] = [(("spec", "hostname"), container.hostname)]
    found += [(("spec", "environment", entry.partition("=")[0]), entry) for entry in container.env]
    for index, mount in enumerate(container.mounts):
        found += [(("spec", "volumes", index), text) for text in (mount.source, mount.target)]
    for path, text in found:
        if "{{" in text:
            try:
                placeholders.check(text, known)
            except errors.Invalid as error:
                catalog.report(item, Issue(path, str(error)))


def _container(catalog: Catalog, item: Item, spec: kind.ServiceSpec, needs: list[Need]) -> ContainerSpec:
    files = mounts.Targets(catalog, item)
    container_labels = dict(spec.labels or {})
    if item.moved_from or item.stack:
        # A label of the container: changing it would restart what moves to another stack.
        container_labels[labels.NAMESPACE] = item.moved_from or item.stack
    dns = None
    if spec.dns or spec.dns_search or spec.dns_opt:
        dns = DNSConfig(spec.dns or [], spec.dns_search or [], spec.dns_opt or [])
    return ContainerSpec(
        image=spec.image,
        labels=container_labels,
        command=spec.entrypoint or [],
        args=spec.command or [],
        hostname=spec.hostname or "",
        env=environment(catalog, item, spec),
        dir=spec.working_dir or "",
        user=spec.user or "",
        groups=spec.group_add or [],
        tty=bool(spec.tty),
        open_stdin=bool(spec.stdin_open),
        read_only=bool(spec.read_only),
        mounts=files.mounts(spec, needs),
        stop_signal=spec.stop_signal or "",
        stop_grace_period=spec.stop_grace_period,
        healthcheck=healthcheck(spec.healthcheck),
        hosts=spec.extra_hosts or [],
        dns_config=dns,
        secrets=files.secrets(spec, needs),
        configs=files.configs(spec, needs),
        init=spec.init,
        privileges=privileges(catalog, item, spec.security_opt),
        sysctls=spec.sysctls or {},
        capability_add=spec.cap_add or [],
        capability_drop=spec.cap_drop or [],
        ulimits=[Ulimit(name, limit.hard, limit.soft) for name, limit in (spec.ulimits or {}).items()],
        oom_score_adj=spec.oom_score_adj or 0,
    )


def _networks(
    catalog: Catalog, item: Item, spec: kind.ServiceSpec, needs: list[Need]
) -> Iterator[NetworkAttachmentConfig]:
    wanted = spec.networks
    if wanted is None:
        if not item.stack:
            return
        wanted = {DEFAULT_NETWORK: None}
    for name, use in wanted.items():
        target = _network(catalog, item, name)
        if target:
            needs.append(("Network", target))
            aliases = dict.fromkeys((item.name, *((use.aliases if use else None) or ())))
            yield NetworkAttachmentConfig(target=target, aliases=list(aliases))


def _network(catalog: Catalog, item: Item, name: str) -> str:
    """The engine name of a network that a service joins; "" where there is none."""
    if name == DEFAULT_NETWORK and item.stack and ("Network", item.stack, name) not in catalog.items:
        catalog.default_networks.setdefault(item.stack, item)
        return labels.engine_name(item.stack, name)
    found = catalog.find("Network", item, name, ("spec", "networks", name))
    return found.engine_name if found else ""


def _endpoint(catalog: Catalog, item: Item, spec: kind.ServiceSpec, deploy: deploy_kind.Deploy) -> EndpointSpec | None:
    ports = list(_ports(catalog, item, spec))
    if not ports and not deploy.endpoint_mode:
        return None
    return EndpointSpec(mode=deploy.endpoint_mode or "", ports=ports)


def _ports(catalog: Catalog, item: Item, spec: kind.ServiceSpec) -> Iterator[PortConfig]:
    seen: set[tuple[int, int, str]] = set()
    for index, port in enumerate(spec.ports or ()):
        for offset in range(port.target[1] - port.target[0] + 1):
            published = port.published[0] + offset if port.published and port.published[0] else 0
            target, protocol = port.target[0] + offset, port.protocol or "tcp"
            key = (published, 0 if published else target, protocol)
            if key in seen:
                what = f"port {published or target}/{protocol}"
                issue = Issue(("spec", "ports", index), f"{what} is given twice", "remove one")
                catalog.report(item, issue)
                break
            seen.add(key)
            yield PortConfig(port.name or "", protocol, target, published, port.mode or "ingress")


def _update_config(config: deploy_kind.UpdateConfig | None) -> UpdateConfig | None:
    if config is None:
        return None
    return UpdateConfig(
        # Said in any case: Docker takes a config without it for 0, which is all at once.
        parallelism=defaults.UPDATE_PARALLELISM if config.parallelism is None else config.parallelism,
        delay=config.delay or 0,
        failure_action=config.failure_action or "",
        monitor=config.monitor,
        max_failure_ratio=config.max_failure_ratio or 0.0,
        order=config.order or "",
    )


def _mode(deploy: deploy_kind.Deploy) -> ServiceMode:
    if deploy.mode == "global":
        return ServiceMode(global_=Global())
    if deploy.mode == "global-job":
        return ServiceMode(global_job=GlobalJob())
    if deploy.mode == "replicated-job":
        total = defaults.REPLICAS if deploy.replicas is None else deploy.replicas
        return ServiceMode(replicated_job=ReplicatedJob(deploy.max_concurrent or max(total, 1), total))
    return ServiceMode(replicated=Replicated(replicas=deploy.replicas))


def _restart_policy(spec: kind.ServiceSpec, deploy: deploy_kind.Deploy) -> RestartPolicy | None:
    policy = deploy.restart_policy
    # What always starts again never ends; engines take it for on-failure, and here it is said.
    condition = "on-failure" if deploy.mode in deploy_kind.JOBS else ""
    if policy is not None:
        return RestartPolicy(policy.condition or condition, policy.delay, policy.max_attempts, policy.window)
    if spec.restart is not None:
        return RestartPolicy(spec.restart[0], max_attempts=spec.restart[1] or None)
    return RestartPolicy(condition) if condition else None


def _resources(resources: deploy_kind.Resources | None) -> ResourceRequirements | None:
    if resources is None:
        return None
    limits, reservations = resources.limits, resources.reservations
    return ResourceRequirements(
        limits=Limits(limits.cpus or 0, limits.memory or 0, limits.pids or 0) if limits else None,
        reservations=Resources(reservations.cpus or 0, reservations.memory or 0) if reservations else None,
    )


def _placement(placement: deploy_kind.Placement | None) -> Placement | None:
    if placement is None:
        return None
    return Placement(
        constraints=placement.constraints or [],
        preferences=[PlacementPreference(SpreadOver(item.spread)) for item in placement.preferences or ()],
        max_replicas=placement.max_replicas_per_node or 0,
    )


def _log_driver(logging: kind.Logging | None) -> LogDriver | None:
    if logging is None or (logging.driver is None and not logging.options):
        return None
    return LogDriver(logging.driver or "json-file", logging.options or {})
