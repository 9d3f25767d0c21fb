"""The swarm itself: one object, with the settings of all loops."""

from __future__ import annotations

from msgspec.structs import replace

from gitops import errors
from gitops.objects.base import Version
from gitops.objects.node import Cluster, ClusterSpec
from gitops.swarm.manager import refusals, validation
from gitops.swarm.manager.control.base import ControlBase
from gitops.swarm.store.protocol import Tx, View


class ClusterControl(ControlBase):
    """Read and set the swarm's settings."""

    def cluster(self) -> Cluster:
        """The swarm.

        Raises:
            errors.Unavailable: it has not been made yet.
        """
        return cluster_of(self._store.view())

    async def update_cluster(self, version: int, spec: ClusterSpec) -> Cluster:
        """Set the swarm's settings.

        Raises:
            errors.OutOfSequence: it was changed since `version`.
            errors.Invalid: a setting that can't be.
            errors.Unsupported: autolock.
        """
        refusals.check(validation.cluster(spec))
        if spec.encryption_config.auto_lock_managers:
            raise errors.Unsupported("autolock is not supported by this version: leave it off")

        def change(tx: Tx) -> Cluster:
            cluster = cluster_of(tx)
            named = replace(spec, name=spec.name or cluster.spec.name)
            return tx.update(replace(cluster, version=Version(version), spec=named))

        return await self._store.update(change)


def cluster_of(view: View) -> Cluster:
    """The one cluster object.

    Raises:
        errors.Unavailable: there is none yet.
    """
    found = view.all(Cluster)
    if not found:
        raise errors.Unavailable("the swarm is being set up; try again")
    return found[0]
