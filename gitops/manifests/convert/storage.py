"""Networks, volumes, secrets and configs."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gitops.manifests import canonical
from gitops.manifests.catalog import Catalog, Item, owner_labels
from gitops.manifests.convert.common import desired
from gitops.manifests.desired import Desired
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused
from gitops.objects import labels
from gitops.objects.container import VolumeCreate
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate
from gitops.objects.secret import ConfigSpec, SecretSpec, Templating

if TYPE_CHECKING:
    from gitops.manifests.kinds import network as network_kind
    from gitops.manifests.kinds import storage as storage_kind

MAX_SECRET = 500 * 1024 - 1
MAX_CONFIG = 1000 * 1024 - 1
MAX_VERSIONED_NAME = 64
_DIGITS = 12
_UNREAD = b"(unread)"
_process_key = os.urandom(32)


def external_name(item: Item, spec: object) -> str:
    """The engine name of what exists already."""
    return str(getattr(spec, "name", None) or item.name)


def network(catalog: Catalog, item: Item) -> Desired:
    """A network."""
    from gitops.manifests.kinds.network import NetworkSpec

    model = cast("network_kind.Network", item.model)
    spec = model.spec or NetworkSpec()
    _check_external(catalog, item, ("driver_opts", "internal", "attachable", "ipam", "labels"))
    found = (model.metadata.labels or {}) | (spec.labels or {}) | owner_labels("Network", item.stack, item.name)
    pools = [
        IPAMConfig(pool.subnet, pool.ip_range or "", pool.gateway or "", pool.aux_addresses or {})
        for pool in (spec.ipam and spec.ipam.config) or ()
    ]
    create = NetworkCreate(
        name=item.engine_name,
        driver="overlay",
        scope="swarm",
        internal=bool(spec.internal),
        attachable=bool(spec.attachable),
        ipam=IPAM(config=pools) if pools else None,
        options=dict(spec.driver_opts or {}) or None,
        labels=found,
    )
    return _network(item, create)


def default_network(item: Item) -> Desired:
    """The network that a stack has without anybody writing it; `item` stands for the service that needs it first."""
    found = owner_labels("Network", item.stack, item.name)
    return _network(item, NetworkCreate(name=item.engine_name, driver="overlay", scope="swarm", labels=found))


def _network(item: Item, create: NetworkCreate) -> Desired:
    form = canonical.network(create)
    digest = canonical.digest(form)
    assert create.labels is not None
    create.labels[labels.HASH] = digest
    return desired(item, create, form, digest)


def volume(catalog: Catalog, item: Item) -> Desired:
    """A volume."""
    from gitops.manifests.kinds.storage import VolumeSpec

    model = cast("storage_kind.Volume", item.model)
    spec = model.spec or VolumeSpec()
    _check_external(catalog, item, ("driver", "driver_opts", "labels"))
    _check_device(catalog, item, spec.driver_opts or {})
    found = (model.metadata.labels or {}) | (spec.labels or {}) | owner_labels("Volume", item.stack, item.name)
    create = VolumeCreate(
        name=item.engine_name, driver="local", driver_opts=dict(spec.driver_opts or {}) or None, labels=found
    )
    form = canonical.volume(create)
    digest = canonical.digest(form)
    found[labels.HASH] = digest
    return desired(item, create, form, digest)


def _check_device(catalog: Catalog, item: Item, options: dict[str, str]) -> None:
    """A volume over a path of the host is a bind mount by another name, and a device worse than that."""
    device = options.get("device", "")
    if device.startswith("/") and options.get("type") not in ("nfs", "nfs4", "cifs", "smb3"):
        refusal = host_refusal(catalog, device)
        if refusal:
            catalog.report(item, Issue(("spec", "driver_opts", "device"), *refusal))
    if options and not options.get("type") and not options.get("o"):
        catalog.report(item, Issue(("spec", "driver_opts"), "says neither type nor o", "as in type: nfs"))


def host_refusal(catalog: Catalog, path: str) -> tuple[str, str] | None:
    """Why a path of the host may not be mounted; None if it may."""
    if catalog.options.allow_host:
        return None
    catalog.looks += 1
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(allowed) for allowed in catalog.options.allow_host_paths):
        return None
    return f"mounting {path!r} of the host is refused here", "the operator can allow it with --allow-host-path"


def _check_external(catalog: Catalog, item: Item, others: tuple[str, ...]) -> None:
    spec = getattr(item.model, "spec", None)
    if spec is None:
        return
    for name in others if item.is_external else ():
        if getattr(spec, name, None) is not None:
            hint = "it is only looked up, never made"
            catalog.report(item, Issue(("spec", name), "has no meaning with external", hint, on_key=True))


def config(catalog: Catalog, item: Item) -> Desired | None:
    """A config; None if its content can't be had."""
    model = cast("storage_kind.Config", item.model)
    _check_external(catalog, item, ("labels", "template_driver"))
    found = (model.metadata.labels or {}) | (model.spec.labels or {}) | owner_labels("Config", item.stack, item.name)
    if item.is_external:
        return _config(item, ConfigSpec(name=item.engine_name, labels=found))
    data = _content(catalog, item, model.spec, model.spec.content, MAX_CONFIG)
    if data is None:
        return None
    templating = _templating(model.spec.template_driver)
    item.engine_name = _versioned(catalog, item, hashlib.sha256(_versioned_by(data, templating)).hexdigest())
    return _config(item, ConfigSpec(item.engine_name, found, data, templating))


def _config(item: Item, spec: ConfigSpec) -> Desired:
    form = canonical.config(spec)
    digest = canonical.digest(form)
    spec.labels[labels.HASH] = digest
    return desired(item, spec, form, digest)


def secret(catalog: Catalog, item: Item) -> Desired | None:
    """A secret; None if its value can't be had."""
    model = cast("storage_kind.Secret", item.model)
    _check_external(catalog, item, ("labels", "template_driver"))
    found = (model.metadata.labels or {}) | (model.spec.labels or {}) | owner_labels("Secret", item.stack, item.name)
    if item.is_external:
        return _secret(item, SecretSpec(name=item.engine_name, labels=found))
    content = model.spec.content.get_secret_value() if model.spec.content is not None else None
    data = _content(catalog, item, model.spec, content, MAX_SECRET)
    if data is None:
        return None
    key = catalog.options.secret_key or _process_key
    templating = _templating(model.spec.template_driver)
    version = hmac.new(key, _versioned_by(data, templating), hashlib.sha256).hexdigest()
    item.engine_name = _versioned(catalog, item, version)
    return _secret(item, SecretSpec(item.engine_name, found, data, templating))


def _secret(item: Item, spec: SecretSpec) -> Desired:
    form = canonical.secret(spec)
    digest = canonical.digest(form)
    spec.labels[labels.HASH] = digest
    return desired(item, spec, form, digest)


def _templating(driver: str | None) -> Templating | None:
    return Templating(driver) if driver else None


def _versioned_by(data: bytes, templating: Templating | None) -> bytes:
    """What a version stands for: the content, and that it is a template, since neither can be changed in place."""
    return data if templating is None else data + b"\0" + templating.name.encode()


def _versioned(catalog: Catalog, item: Item, digest: str) -> str:
    name = f"{item.unversioned_name}-{digest[:_DIGITS]}"
    if len(name) > MAX_VERSIONED_NAME:
        longest = MAX_VERSIONED_NAME - _DIGITS - 1
        reason = f"{name[: -_DIGITS - 1]!r}, the name on the engine, has {len(name) - _DIGITS - 1} characters"
        catalog.report(item, Issue(("metadata", "name"), reason, f"at most {longest}, since a version follows"))
    return name


def _content(
    catalog: Catalog,
    item: Item,
    spec: storage_kind.SecretSpec | storage_kind.ConfigSpec,
    content: str | None,
    limit: int,
) -> bytes | None:
    data: bytes | None
    if item.kind == "Secret" and not catalog.options.reads_secrets:
        return _UNREAD
    if spec.file is not None:
        source = "file"
        try:
            data = item.repository.read(item.repository.resolve(item.directory, spec.file), limit)
        except Refused as error:
            catalog.report(item, Issue(("spec", "file"), error.reason, error.hint))
            return None
    elif spec.sops is not None:
        from gitops.manifests.convert import encrypted

        source = "sops"
        data = encrypted.content(catalog, item, spec.sops, limit)
    elif spec.environment is not None:
        source = "environment"
        data = _variable(catalog, item, spec.environment)
    else:
        source = "content"
        data = (content or "").encode()
    if data is None:
        return None
    if not data:
        catalog.report(item, Issue(("spec", source), "is empty", f"a {item.kind.lower()} needs at least one byte"))
        return None
    if len(data) > limit:
        catalog.report(item, Issue(("spec", source), f"has {len(data)} bytes, more than the limit of {limit}"))
        return None
    return data


def _variable(catalog: Catalog, item: Item, variable: str) -> bytes | None:
    catalog.looks += 1
    value = catalog.environ.get(variable)
    if value is None:
        value = item.variables.get(variable)
    if value is None:
        hint = (
            "export it before"
            if catalog.options.allow_host or catalog.options.environ is not None
            else "the operator's environment is not open to manifests here"
        )
        catalog.report(item, Issue(("spec", "environment"), f"the variable {variable!r} isn't set", hint))
        return None
    return os.fsencode(value)
