"""What no object can see by itself: collisions and cycles between objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from gitops.manifests import problems
from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.desired import DEFAULT_NETWORK
from gitops.manifests.kinds.values import MAX_NAME
from gitops.manifests.problems import Issue
from gitops.manifests.text.fieldpath import Path
from gitops.objects import labels

if TYPE_CHECKING:
    from gitops.manifests.kinds.image import Image
    from gitops.manifests.kinds.network import Network
    from gitops.manifests.kinds.service import Service


def check_names(catalog: Catalog, item: Item) -> None:
    """The name on the engine has a limit of its own, and can be one object's only."""
    if item.kind in ("Image", "Stack") or item.is_external:
        return
    name = item.unversioned_name
    first = catalog.engine_names.setdefault((item.kind, name), item)
    if first is not item:
        path: Path = ("spec", "name") if item.own_name else ("metadata", "name")
        catalog.report(item, Issue(path, f"a second {item.kind} that is {name!r} on the engine", f"at {first.where}"))
    if len(name) > MAX_NAME and item.kind not in ("Secret", "Config"):
        reason = f"{name!r}, the name on the engine, has {len(name)} characters"
        catalog.report(item, Issue(("metadata", "name"), reason, f"at most {MAX_NAME} are allowed"))


def check_stack(catalog: Catalog, item: Item) -> None:
    """A Stack isn't in a stack."""
    if item.kind == "Stack" and item.stack not in ("", item.name):
        hint = "leave it out: its name is the stack"
        catalog.report(item, Issue(("metadata", "stack"), "a Stack belongs to no other", hint, on_key=True))


def check_move(catalog: Catalog, item: Item) -> None:
    """What moves is an object of ours that has a stack of its own, and comes from another one."""
    if item.moved_from is None:
        return
    path: Path = ("metadata", "moved_from")
    if item.is_external or item.kind in ("Image", "Stack"):
        what = "what is external" if item.is_external else f"a kind that has no stack on the engine: {item.kind}"
        catalog.report(item, Issue(path, "has no meaning here", f"leave it out of {what}", on_key=True))
    elif item.moved_from == item.stack:
        catalog.report(item, Issue(path, "is the stack that it is in", "name the one that it was in before"))


def check_protection(catalog: Catalog, item: Item) -> None:
    """What can be protected is an object of ours that has labels on the engine."""
    found = item.model.metadata.labels if item.model else None
    if found and labels.PROTECT in found and (item.is_external or item.kind in ("Image", "Stack")):
        what = "what is external is never removed" if item.is_external else f"a kind without labels: {item.kind}"
        catalog.report(item, Issue(("metadata", "labels", labels.PROTECT), "protects nothing here", what, on_key=True))


def check_default_networks(catalog: Catalog) -> None:
    """The default network of a stack can't be one of another, such as one that moved there."""
    for stack, item in catalog.default_networks.items():
        name = labels.engine_name(stack, DEFAULT_NETWORK)
        other = catalog.engine_names.get(("Network", name))
        if other is not None:
            reason = f"would join {name!r}, which is a network of stack {other.stack!r}"
            catalog.report(item, Issue(("metadata", "name"), reason, f"at {other.where}: say which networks it joins"))


def check_images(catalog: Catalog) -> None:
    """Two images of one name, bases that nobody declares, and bases that need each other."""
    for item in catalog.of("Image"):
        first = catalog.images.setdefault(item.engine_name, item)
        if first is not item:
            issue = Issue(
                ("spec", "reference"), f"a second Image {item.engine_name!r}", f"the first is at {first.where}"
            )
            catalog.report(item, issue)
    for item in catalog.of("Image"):
        _check_base(catalog, item)


def _check_base(catalog: Catalog, item: Item) -> None:
    base = _base(item)
    path = ("spec", "build", "base")
    if base and base not in catalog.images:
        if not catalog.is_incomplete:
            near = problems.closest(base, list(catalog.images))
            hint = f'did you mean "{near}"?' if near else "scratch, or the reference of an Image manifest"
            catalog.report(item, Issue(path, f"no Image manifest has the reference {base!r}", hint))
        return
    seen = [item.engine_name]
    while base and base in catalog.images:
        if base == item.engine_name:
            chain = " <- ".join([*seen, base])
            catalog.report(item, Issue(path, f"an image can't be based on itself: {chain}"))
            return
        if base in seen:
            return  # a cycle further down, reported there
        seen.append(base)
        base = _base(catalog.images[base])


def _base(item: Item) -> str:
    build = cast("Image", item.model).spec.build
    return build.base if build else ""


def images_in_order(catalog: Catalog) -> Iterator[Item]:
    """Images, each after its base."""
    done: set[str] = set()

    def visit(item: Item) -> Iterator[Item]:
        if item.engine_name in done:
            return
        done.add(item.engine_name)
        base = _base(item)
        if base in catalog.images:
            yield from visit(catalog.images[base])
        yield item

    for name in sorted(catalog.images):
        yield from visit(catalog.images[name])


def check_ports(catalog: Catalog) -> None:
    """Two services can't publish one port, unless both do so on their own hosts only."""
    shared: dict[tuple[int, str], tuple[Item, Path]] = {}
    own: dict[tuple[int, str], tuple[Item, Path]] = {}
    for item in catalog.of("Service"):
        for number, protocol, mode, path in _published(item):
            key = (number, protocol)
            other = shared.get(key) or (own.get(key) if mode == "ingress" else None)
            if other is not None and other[0] is not item:
                reason = f"port {number}/{protocol} is published by service {other[0].name!r} too"
                place = other[0].document.problem(Issue(other[1], ""))
                catalog.report(item, Issue(path, reason, f"at {place.file}:{place.line}"))
            (shared if mode == "ingress" else own).setdefault(key, (item, path))


def _published(item: Item) -> Iterator[tuple[int, str, str, Path]]:
    for index, port in enumerate(cast("Service", item.model).spec.ports or ()):
        if port.published and port.published[0]:
            for number in range(port.published[0], port.published[1] + 1):
                yield number, port.protocol or "tcp", port.mode or "ingress", ("spec", "ports", index)


def check_subnets(catalog: Catalog) -> None:
    """Networks of one engine can't overlap."""
    seen: list[tuple[ipaddress.IPv4Network, Item]] = []
    for item in catalog.of("Network"):
        spec = cast("Network", item.model).spec
        ipam = spec.ipam if spec else None
        for index, pool in enumerate((ipam.config if ipam else None) or ()):
            subnet = ipaddress.IPv4Network(pool.subnet)
            for other, owner in seen:
                if subnet.overlaps(other):
                    issue = Issue(
                        ("spec", "ipam", "config", index, "subnet"),
                        f"{subnet} overlaps {other} of network {owner.name!r}",
                        f"at {owner.where}",
                    )
                    catalog.report(item, issue)
            seen.append((subnet, item))
