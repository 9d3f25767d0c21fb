"""Services: what a user declares is checked, resolved and stored; the loops do the rest.

An update names the version that it was made from. It keeps the former spec for one rollback, gives the spec a new
version, and clears the state of a former update. A job begins a new iteration.

Registry credentials are kept with the spec that they were given with. They go in and never come out here: only the
dispatcher hands them to nodes, for tasks that have to pull.
"""

from __future__ import annotations

from msgspec.structs import replace

from gitops import errors
from gitops.objects import base
from gitops.objects.base import Version
from gitops.objects.node import Node
from gitops.objects.service import Credentials, JobStatus, Service, ServiceSpec, ServiceStatus
from gitops.objects.task import TaskState
from gitops.swarm.manager import refusals, validation
from gitops.swarm.manager.control import filters as filtering
from gitops.swarm.manager.control import references
from gitops.swarm.manager.control.base import ControlBase, find
from gitops.swarm.manager.control.filters import Filters
from gitops.swarm.scheduling import modes, restart, rollout
from gitops.swarm.scheduling.tasks import is_runnable
from gitops.swarm.store.protocol import Tx, View
from gitops.swarm.store.snapshot import OUT_OF_SEQUENCE

PREVIOUS_SPEC = "previous-spec"
CREDENTIALS_FROM = ("spec", PREVIOUS_SPEC)


class ServiceControl(ControlBase):
    """Create, update, remove, find and list services."""

    async def create_service(self, spec: ServiceSpec, *, credentials: Credentials | None = None) -> Service:
        """Declare a service; its nodes pull with `credentials`.

        Raises:
            errors.Invalid: the spec is wrong, or a port is another service's.
            errors.NotFound: a network is missing.
            errors.Conflict: the name is taken.
            errors.Unsupported: a runtime that isn't there.
        """
        refusals.check(validation.service(spec))

        def change(tx: Tx) -> Service:
            resolved = references.resolve(tx, spec)
            references.check_ports(tx, resolved, "")
            kept = credentials if credentials and credentials.data else None
            made = Service(id=self._ids(), spec=resolved, spec_version=Version(tx.version), credentials=kept)
            return tx.create(self._first_iteration(made))

        return without_credentials(await self._store.update(change))

    async def update_service(
        self,
        reference: str,
        version: int,
        spec: ServiceSpec,
        *,
        rollback: bool = False,
        credentials: Credentials | None = None,
        credentials_from: str = "",
    ) -> Service:
        """Declare a service anew; with `rollback`, exchange its spec for the previous one (`spec` doesn't count).

        Without `credentials` those of the present spec stay, or with `credentials_from` "previous-spec" those of the
        previous one come back; empty ones take them away.

        Raises:
            errors.NotFound: no such service, or a network is missing.
            errors.OutOfSequence: it was changed since `version`.
            errors.Invalid: the spec is wrong, there is no previous one, or `credentials_from` is no such word.
            errors.Unsupported: a new name or another mode.
        """
        if not rollback:
            refusals.check(validation.service(spec))
        if credentials_from not in ("", *CREDENTIALS_FROM):
            raise errors.Invalid("unsupported registryAuthFrom value")

        def change(tx: Tx) -> Service:
            service = find(tx, Service, reference)
            if service.version.index != version:
                raise errors.OutOfSequence(OUT_OF_SEQUENCE)
            if rollback:
                return tx.update(self._next_iteration(self._rolled_back(tx, service)))
            kept = _kept(service, credentials, credentials_from)
            return tx.update(self._next_iteration(replace(_updated(tx, service, spec), credentials=kept)))

        return without_credentials(await self._store.update(change))

    async def remove_service(self, reference: str) -> None:
        """Take a service away; its tasks stop and go.

        Raises:
            errors.NotFound: no such service.
        """
        await self._store.update(lambda tx: tx.delete(Service, find(tx, Service, reference).id))

    def service(self, reference: str) -> Service:
        """The service with this id, name or beginning of an id.

        Raises:
            errors.NotFound, errors.Invalid: none, or several.
        """
        return without_credentials(find(self._store.view(), Service, reference))

    def services(self, filters: Filters | None = None, *, status: bool = False) -> list[Service]:
        """The services that match (`id`, `label`, `mode`, `name`); with `status`, each with its counts of tasks.

        Raises:
            errors.Invalid: an unknown filter, or value of one.
        """
        wanted = filtering.check_keys(filters, ("id", "label", "mode", "name"))
        filtering.check_values(wanted, "mode", modes.MODES)
        view = self._store.view()
        found = [without_credentials(service) for service in view.all(Service) if _matches(service, wanted)]
        return [replace(service, service_status=counts(view, service)) for service in found] if status else found

    def _first_iteration(self, service: Service) -> Service:
        if not modes.is_job(service.spec.mode):
            return service
        return replace(service, job_status=JobStatus(last_execution=base.format_time(self._clock.now_ns())))

    def _next_iteration(self, service: Service) -> Service:
        """A job runs anew with every declaration, and there is no update of it that could go on or fail."""
        begun = self._first_iteration(service)
        if begun.job_status is None:
            return service
        following = Version(modes.iteration(service) + 1)
        return replace(begun, job_status=replace(begun.job_status, job_iteration=following), update_status=None)

    def _rolled_back(self, tx: Tx, service: Service) -> Service:
        if service.previous_spec is None:
            raise refusals.precondition(f"service {service.id} does not have a previous spec")
        references.check_exists(tx, service.previous_spec)
        references.check_ports(tx, service.previous_spec, service.id)
        return rollout.rolled_back_by_hand(service, self._clock.now_ns(), tx.version)


def _updated(tx: Tx, service: Service, spec: ServiceSpec) -> Service:
    if spec.name != service.spec.name:
        raise refusals.unimplemented("renaming services is not supported")
    if modes.mode_of(spec.mode) != modes.mode_of(service.spec.mode):
        raise refusals.unimplemented("service mode change is not allowed")
    resolved = references.resolve(tx, spec)
    references.check_ports(tx, resolved, service.id)
    return replace(
        service,
        spec=resolved,
        spec_version=Version(tx.version),
        previous_spec=service.spec,
        previous_spec_version=service.spec_version,
        previous_credentials=service.credentials,
        update_status=None,
    )


def _kept(service: Service, given: Credentials | None, source: str) -> Credentials | None:
    """The credentials of a service's next spec."""
    if given is not None:
        return given if given.data else None
    if source != PREVIOUS_SPEC:
        return service.credentials
    if service.previous_spec is None:
        raise errors.Invalid("service does not have a previous spec")
    return service.previous_credentials


def without_credentials(service: Service) -> Service:
    """The service as it may be shown."""
    if service.credentials is None and service.previous_credentials is None:
        return service
    return replace(service, credentials=None, previous_credentials=None)


def counts(view: View, service: Service) -> ServiceStatus:
    """How many tasks run, are wanted and are done; what a node that is down ran doesn't count as running.

    Wanted are a replicated service's replicas, the tasks of a global one, and of a job those that are still to end.
    """
    down = {node.id for node in view.all(Node) if node.status.state == "down"}
    tasks = [task for task in view.tasks_of_service(service.id) if modes.is_of_iteration(service, task)]
    is_replicated = modes.mode_of(service.spec.mode) == modes.REPLICATED
    wanted = {task.place for task in tasks if is_runnable(task) and not restart.is_done(task)}
    return ServiceStatus(
        running_tasks=sum(task.status.state is TaskState.RUNNING and task.node_id not in down for task in tasks),
        desired_tasks=modes.replicas(service.spec) if is_replicated else len(wanted),
        completed_tasks=sum(task.status.state is TaskState.COMPLETE for task in tasks),
    )


def _matches(service: Service, filters: Filters) -> bool:
    return (
        filtering.has_prefix(filters, "id", service.id)
        and filtering.has_prefix(filters, "name", service.spec.name)
        and filtering.has_labels(filters, "label", service.spec.labels)
        and filtering.one_of(filters, "mode", lambda mode: mode == modes.mode_of(service.spec.mode))
    )
