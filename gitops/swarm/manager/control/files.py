"""Secrets and configs: files that services mount. Their data never changes; only labels do.

A secret's data goes in and never comes out here: only the dispatcher hands it to nodes that need it.
"""

from __future__ import annotations

from msgspec.structs import replace

from gitops.objects.base import Version
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.swarm.manager import refusals, validation
from gitops.swarm.manager.control import filters as filtering
from gitops.swarm.manager.control import references
from gitops.swarm.manager.control.base import ControlBase, find
from gitops.swarm.manager.control.filters import Filters
from gitops.swarm.store.protocol import Tx

KEYS = ("id", "label", "name", "names")


class SecretControl(ControlBase):
    """Create, relabel, remove, find and list secrets."""

    async def create_secret(self, spec: SecretSpec) -> Secret:
        """Keep a secret; the answer is without its data.

        Raises:
            errors.Invalid: the name or the size can't be.
            errors.Conflict: the name is taken.
        """
        refusals.check(validation.secret(spec))

        def change(tx: Tx) -> Secret:
            if tx.by_name(Secret, spec.name) is not None:
                raise refusals.exists(f"secret {spec.name} already exists")
            return tx.create(Secret(id=self._ids(), spec=spec))

        return without_data(await self._store.update(change))

    async def update_secret(self, reference: str, version: int, spec: SecretSpec) -> Secret:
        """Set a secret's labels.

        Raises:
            errors.NotFound: no such secret.
            errors.OutOfSequence: it was changed since `version`.
            errors.Invalid: something else than the labels would change.
        """

        def change(tx: Tx) -> Secret:
            secret = find(tx, Secret, reference)
            if spec.name != secret.spec.name or (spec.data and spec.data != secret.spec.data):
                raise refusals.invalid("only updates to Labels are allowed")
            labelled = replace(secret.spec, labels=spec.labels)
            return tx.update(replace(secret, version=Version(version), spec=labelled))

        return without_data(await self._store.update(change))

    async def remove_secret(self, reference: str) -> None:
        """Take a secret away.

        Raises:
            errors.NotFound: no such secret.
            errors.Invalid: services use it.
        """

        def change(tx: Tx) -> None:
            secret = find(tx, Secret, reference)
            users = references.users_of_secret(tx, secret.id)
            if users:
                text = refusals.listed("service", users)
                raise refusals.invalid(f"secret '{secret.spec.name}' is in use by the following {text}")
            tx.delete(Secret, secret.id)

        await self._store.update(change)

    def secret(self, reference: str) -> Secret:
        """The secret with this id, name or beginning of an id, without its data.

        Raises:
            errors.NotFound, errors.Invalid: none, or several.
        """
        return without_data(find(self._store.view(), Secret, reference))

    def secrets(self, filters: Filters | None = None) -> list[Secret]:
        """The secrets that match (`id`, `label`, `name`, `names`), without their data.

        Raises:
            errors.Invalid: an unknown filter.
        """
        wanted = filtering.check_keys(filters, KEYS)
        return [without_data(item) for item in self._store.view().all(Secret) if _matches(item, wanted)]


class ConfigControl(ControlBase):
    """Create, relabel, remove, find and list configs."""

    async def create_config(self, spec: ConfigSpec) -> Config:
        """Keep a config.

        Raises:
            errors.Invalid: the name or the size can't be.
            errors.Conflict: the name is taken.
        """
        refusals.check(validation.config(spec))

        def change(tx: Tx) -> Config:
            if tx.by_name(Config, spec.name) is not None:
                raise refusals.exists(f"config {spec.name} already exists")
            return tx.create(Config(id=self._ids(), spec=spec))

        return await self._store.update(change)

    async def update_config(self, reference: str, version: int, spec: ConfigSpec) -> Config:
        """Set a config's labels.

        Raises:
            errors.NotFound: no such config.
            errors.OutOfSequence: it was changed since `version`.
            errors.Invalid: something else than the labels would change.
        """

        def change(tx: Tx) -> Config:
            config = find(tx, Config, reference)
            if spec.name != config.spec.name or (spec.data and spec.data != config.spec.data):
                raise refusals.invalid("only updates to Labels are allowed")
            labelled = replace(config.spec, labels=spec.labels)
            return tx.update(replace(config, version=Version(version), spec=labelled))

        return await self._store.update(change)

    async def remove_config(self, reference: str) -> None:
        """Take a config away.

        Raises:
            errors.NotFound: no such config.
            errors.Invalid: services use it.
        """

        def change(tx: Tx) -> None:
            config = find(tx, Config, reference)
            users = references.users_of_config(tx, config.id)
            if users:
                text = refusals.listed("service", users)
                raise refusals.invalid(f"config '{config.spec.name}' is in use by the following {text}")
            tx.delete(Config, config.id)

        await self._store.update(change)

    def config(self, reference: str) -> Config:
        """The config with this id, name or beginning of an id.

        Raises:
            errors.NotFound, errors.Invalid: none, or several.
        """
        return find(self._store.view(), Config, reference)

    def configs(self, filters: Filters | None = None) -> list[Config]:
        """The configs that match (`id`, `label`, `name`, `names`).

        Raises:
            errors.Invalid: an unknown filter.
        """
        wanted = filtering.check_keys(filters, KEYS)
        return [item for item in self._store.view().all(Config) if _matches(item, wanted)]


def without_data(secret: Secret) -> Secret:
    """The secret as it may be shown."""
    return replace(secret, spec=replace(secret.spec, data=b""))


def _matches(item: Secret | Config, filters: Filters) -> bool:
    return (
        filtering.has_prefix(filters, "id", item.id)
        and filtering.has_prefix(filters, "name", item.spec.name)
        and filtering.one_of(filters, "names", lambda text: text == item.spec.name)
        and filtering.has_labels(filters, "label", item.spec.labels)
    )
