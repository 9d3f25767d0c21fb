"""The control API: what users may do to a swarm, checked, in Docker's words; one module a noun.

Writers return when the change is stored; what follows from it is up to the loops. Readers look at the newest snapshot
and don't wait. References are full ids, names, or unique beginnings of ids, in this order.
"""

from __future__ import annotations

from gitops.swarm.manager.control.cluster import ClusterControl
from gitops.swarm.manager.control.files import ConfigControl, SecretControl
from gitops.swarm.manager.control.networks import NetworkControl
from gitops.swarm.manager.control.nodes import NodeControl
from gitops.swarm.manager.control.services import ServiceControl
from gitops.swarm.manager.control.tasks import TaskControl


class Control(ServiceControl, TaskControl, NodeControl, NetworkControl, SecretControl, ConfigControl, ClusterControl):
    """The whole of it."""


__all__ = ["Control"]
