"""What all conversions share."""

from __future__ import annotations

from gitops.manifests import canonical
from gitops.manifests.catalog import Item
from gitops.manifests.desired import Dependency, Desired, Spec
from gitops.manifests.kinds.healthcheck import HealthcheckFields
from gitops.objects.service import HealthConfig


def desired(
    item: Item,
    spec: Spec,
    form: canonical.Canonical,
    digest: str,
    needs: tuple[tuple[str, str], ...] = (),
    depends_on: tuple[Dependency, ...] = (),
    deadline_ns: int | None = None,
) -> Desired:
    """An item's object, whole."""
    return Desired(
        kind=item.kind,
        stack=item.stack,
        name=item.name,
        engine_name=item.engine_name,
        position=item.document.position,
        spec=spec,
        canonical=form,
        hash=digest,
        needs=needs,
        depends_on=depends_on,
        deadline_ns=deadline_ns,
        moved_from=item.moved_from,
        positions=item.document.positions,
    )


def healthcheck(check: HealthcheckFields | None) -> HealthConfig | None:
    """A health check as the API has it; None where none is written."""
    if check is None:
        return None
    if check.disable:
        return HealthConfig(test=["NONE"])
    return HealthConfig(
        test=check.test or [],
        interval=check.interval or 0,
        timeout=check.timeout or 0,
        start_period=check.start_period or 0,
        start_interval=check.start_interval or 0,
        retries=check.retries or 0,
    )
