"""What all conversions share."""

from __future__ import annotations

from gitops.manifests import canonical
from gitops.manifests.catalog import Item
from gitops.manifests.desired import Desired, Spec


def desired(
    item: Item, spec: Spec, form: canonical.Canonical, digest: str, needs: tuple[tuple[str, str], ...] = ()
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
        positions=item.document.positions,
    )
