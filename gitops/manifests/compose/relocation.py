"""Relative paths of a file from another directory, made absolute before it becomes part of a project."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from gitops.manifests.compose.weaving import Weave, get, text_of
from gitops.manifests.text.graph import MappingNode, Node, ScalarNode, SequenceNode

_SECCOMP = re.compile(r"(seccomp[=:])(.+)")


def file(weave: Weave, root: Node, directory: str) -> Node:
    """A whole file."""

    def section(name: str, node: Node) -> Node:
        if name == "services":
            return _each(weave, node, lambda value: service(weave, value, directory))
        if name in ("secrets", "configs"):
            return _each(weave, node, lambda value: _fields(weave, value, {"file": _path(weave, directory)}))
        return node

    if not isinstance(root, MappingNode):
        return root
    return weave.mapping([(key, section(text_of(key), value)) for key, value in root.value], root)


def service(weave: Weave, node: Node, directory: str) -> Node:
    """One service."""
    path = _path(weave, directory)

    def one(item: Node) -> Node:
        return _fields(weave, item, {"path": path}) if isinstance(item, MappingNode) else path(item)

    def files(value: Node) -> Node:
        return (
            weave.sequence([one(item) for item in value.value], value)
            if isinstance(value, SequenceNode)
            else one(value)
        )

    return _fields(
        weave,
        node,
        {
            "env_file": files,
            "label_file": files,
            "security_opt": _items(weave, lambda item: _profile(weave, item, directory)),
            "volumes": _items(weave, lambda item: _mount(weave, item, directory)),
        },
    )


def _profile(weave: Weave, item: Node, directory: str) -> Node:
    """The file of a seccomp profile, in an item of `security_opt`."""
    found = _SECCOMP.fullmatch(text_of(item))
    if found is None or found[2] in ("unconfined", "builtin") or found[2].startswith("/"):
        return item
    return weave.scalar(found[1] + os.path.normpath(os.path.join(directory, found[2])), item)


def _mount(weave: Weave, item: Node, directory: str) -> Node:
    if isinstance(item, MappingNode):
        if text_of(get(item, "type") or item) != "bind":
            return item
        return _fields(weave, item, {"source": _path(weave, directory)})
    text = text_of(item)
    source, mark, rest = text.partition(":")
    if not mark or not source.startswith("."):
        return item
    return weave.scalar(f"{os.path.normpath(os.path.join(directory, source))}:{rest}", item)


def _path(weave: Weave, directory: str) -> Callable[[Node], Node]:
    def absolute(node: Node) -> Node:
        text = text_of(node)
        if not isinstance(node, ScalarNode) or not text or text.startswith(("/", "~")):
            return node
        return weave.scalar(os.path.normpath(os.path.join(directory, text)), node)

    return absolute


def _fields(weave: Weave, node: Node, changes: dict[str, Callable[[Node], Node]]) -> Node:
    if not isinstance(node, MappingNode):
        return node
    pairs = [(key, changes[text_of(key)](value) if text_of(key) in changes else value) for key, value in node.value]
    return weave.mapping(pairs, node)


def _each(weave: Weave, node: Node, change: Callable[[Node], Node]) -> Node:
    if not isinstance(node, MappingNode):
        return node
    return weave.mapping([(key, change(value)) for key, value in node.value], node)


def _items(weave: Weave, change: Callable[[Node], Node]) -> Callable[[Node], Node]:
    def changed(node: Node) -> Node:
        return weave.sequence([change(item) for item in node.value], node) if isinstance(node, SequenceNode) else node

    return changed
