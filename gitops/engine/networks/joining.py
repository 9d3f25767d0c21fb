"""Networks joined and left by a sandbox that is in use.

Promises: a call that failed leaves the sandbox as it was; the default route, the resolver's view and the rules of
published ports follow the leg that leads out, whichever that is afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gitops import errors
from gitops.engine.networks.boundary import Attachment
from gitops.engine.networks.catalogue import Catalogue
from gitops.engine.networks.kernel import Kernel
from gitops.engine.networks.records import LegRecord, NetworkRecord, SandboxRecord
from gitops.engine.networks.rules import RuleKeeper
from gitops.engine.networks.sandboxes import Sandboxes


class Joining:
    """Adds legs to sandboxes and takes them away; the caller holds the sandbox's lock."""

    def __init__(
        self,
        catalogue: Catalogue,
        sandboxes: Sandboxes,
        kernel: Kernel,
        rules: RuleKeeper,
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        """`forget` drops the flows of an address."""
        self._catalogue = catalogue
        self._sandboxes = sandboxes
        self._kernel = kernel
        self._rules = rules
        self._forget = forget

    async def join(self, container_id: str, attachment: Attachment) -> tuple[NetworkRecord, SandboxRecord]:
        """Add a leg.

        Raises:
            errors.NotFound (network, or no sandbox), errors.Denied (it is there already), errors.Conflict (address in
            use), errors.Invalid, errors.Unavailable, errors.RuntimeFailure.
        """
        before = self._record(container_id)
        # From here to the plan nothing is awaited: a network that is found can't go before it is used.
        network = self._catalogue.find(attachment.network)
        if not network.bridge:
            raise errors.Denied("container cannot be connected to host or none network together with others")
        if any(leg.network_id == network.id for leg in before.legs):
            name = before.name or container_id[:12]
            raise errors.Denied(f"endpoint with name {name} already exists in network {network.name}")
        after, leg = self._sandboxes.plan_leg(before, network, attachment)
        path = self._sandboxes.path(container_id)
        try:
            await self._kernel.join_sandbox(
                path, self._sandboxes.kernel_leg(after, leg), self._new_gateway(before, after)
            )
            self._sandboxes.save(after)
        except BaseException:
            await asyncio.shield(self._kernel.remove_links([leg.host_link]))
            self._sandboxes.unplan_leg(before, leg)
            raise
        self._sandboxes.refresh(after)
        await self._rules.sync()
        return network, after

    async def leave(self, container_id: str, network_name: str) -> tuple[NetworkRecord, SandboxRecord]:
        """Take a leg away.

        Raises:
            errors.NotFound: no such network or sandbox. errors.Denied: it isn't there. errors.RuntimeFailure.
        """
        before = self._record(container_id)
        network = self._catalogue.find(network_name)
        leg = next((leg for leg in before.legs if leg.network_id == network.id), None)
        if leg is None:
            raise errors.Denied(f"container {container_id} is not connected to network {network.name}")
        after = self._sandboxes.without_leg(before, leg)
        self._sandboxes.save(after)
        self._sandboxes.refresh(after)
        # Rules first: no port may lead to an address that another container gets.
        await self._rules.sync()
        path = self._sandboxes.path(container_id)
        await self._kernel.leave_sandbox(path, leg.host_link, self._new_gateway(before, after))
        self._sandboxes.give_back(container_id, leg)
        await self._forget(leg.address)
        return network, after

    def _record(self, container_id: str) -> SandboxRecord:
        record = self._sandboxes.find(container_id)
        if record is None:
            raise errors.NotFound(f"container {container_id} has no network sandbox: start it first")
        return record

    def _new_gateway(self, before: SandboxRecord, after: SandboxRecord) -> str:
        """The default route's next hop where it changes, else ""."""
        old, new = self._sandboxes.way_out(before), self._sandboxes.way_out(after)
        if new is None or (old is not None and old.endpoint_id == new.endpoint_id):
            return ""
        return self._gateway_of(new)

    def _gateway_of(self, leg: LegRecord) -> str:
        network = self._catalogue.by_id(leg.network_id)
        return network.gateway if network else ""
