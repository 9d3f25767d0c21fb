"""Several files made into one node graph: Compose's rules of merging, on nodes, so that every one keeps its place.

Maps are merged key by key, lists appended, everything else is replaced; what deviates from that stands in the tables.
`!reset` takes a value away, `!override` replaces it as a whole. No node is ever changed: anchors share them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from gitops.manifests.documents import SourceText
from gitops.manifests.text import graph
from gitops.manifests.text.graph import MappingNode, Node, ScalarNode, SequenceNode

RESET, OVERRIDE = "!reset", "!override"
Path = tuple[str, ...]
N = TypeVar("N", MappingNode, SequenceNode, ScalarNode)


class Unmergeable(Exception):
    """Two values of different sorts at one place."""

    def __init__(self, node: Node, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.node, self.reason, self.hint = node, reason, hint


@dataclass(slots=True)
class Weave:
    """The nodes of a project, each with the file that it stands in."""

    main: SourceText
    _owners: dict[int, SourceText] = field(default_factory=dict)
    _kept: list[Node] = field(default_factory=list)
    """Owners are known by identity, which is good only while a node lives."""

    def adopt(self, root: Node, source: SourceText) -> None:
        """Take in the nodes of a file."""
        self._kept.append(root)
        todo, owners = [root], self._owners
        while todo:
            node = todo.pop()
            if id(node) not in owners:
                owners[id(node)] = source
                todo.extend(graph.children(node))

    def owner(self, node: Node) -> SourceText:
        """The file that a node stands in."""
        return self._owners.get(id(node), self.main)

    def mapping(self, pairs: list[tuple[Node, Node]], like: Node) -> MappingNode:
        """A map in the place of another node."""
        return self._made(MappingNode(None, pairs, like.start_mark, like.end_mark, False), like)

    def sequence(self, items: list[Node], like: Node) -> SequenceNode:
        """A list in the place of another node."""
        return self._made(SequenceNode(None, items, like.start_mark, like.end_mark, False), like)

    def scalar(self, value: str, like: Node, *, style: str = '"') -> ScalarNode:
        """A text in the place of another node; with no style it is read as a plain scalar."""
        return self._made(ScalarNode(None, value, like.start_mark, like.end_mark, style), like)

    def _made(self, node: N, like: Node) -> N:
        self._kept.append(node)
        self._owners[id(node)] = self.owner(like)
        return node

    def flat(self, root: Node) -> Node:
        """Without `<<` keys: what they bring stands in their place, below what is written beside them."""
        known: dict[int, Node] = {}

        def flatten(node: Node) -> Node:
            if isinstance(node, ScalarNode):
                return node
            found = known.get(id(node))
            if found is not None:
                return found
            if isinstance(node, SequenceNode):
                items = [flatten(item) for item in node.value]
                same = all(a is b for a, b in zip(items, node.value, strict=True))
                result: Node = node if same else self.sequence(items, node)
            else:
                pairs = list(self._flat_pairs(node, flatten))
                same = len(pairs) == len(node.value) and all(
                    a is b for (_, a), (_, b) in zip(pairs, node.value, strict=True)
                )
                result = node if same else self.mapping(pairs, node)
            if result is not node:
                result.tag = node.tag
            known[id(node)] = result
            return result

        return flatten(root)

    def _flat_pairs(self, node: MappingNode, flatten: Callable[[Node], Node]) -> Iterator[tuple[Node, Node]]:
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                continue
            if key.value == "<<" and key.tag is None and not key.style:
                for source in value.value if isinstance(value, SequenceNode) else [value]:
                    flat = flatten(source)
                    for pair in flat.value if isinstance(flat, MappingNode) else ():
                        merged.setdefault(text_of(pair[0]), pair)
            else:
                own[key.value] = (key, flatten(value))
        yield from own.values()
        yield from (pair for name, pair in merged.items() if name not in own)

    def clean(self, root: Node) -> Node | None:
        """Without `!reset` values and `!override` tags; None if nothing is left.

        Raises:
            Unmergeable: an anchor contains itself.
        """
        known: dict[int, Node] = {}
        pending: set[int] = set()

        def clean(node: Node) -> Node | None:
            if node.tag == RESET:
                return None
            if isinstance(node, ScalarNode):
                return self.scalar(node.value, node, style=node.style) if node.tag == OVERRIDE else node
            if id(node) in known:  # what an anchor shares stays shared
                return known[id(node)]
            if id(node) in pending:
                raise Unmergeable(node, "an anchor contains itself", "remove the alias")
            pending.add(id(node))
            result = inner(node)
            result.tag = None if node.tag == OVERRIDE else node.tag
            known[id(node)] = result
            return result

        def inner(node: SequenceNode | MappingNode) -> Node:
            if isinstance(node, SequenceNode):
                return self.sequence([item for each in node.value if (item := clean(each)) is not None], node)
            return self.mapping([(key, item) for key, each in node.value if (item := clean(each)) is not None], node)

        return clean(root)

    def merge(self, base: Node, over: Node, path: Path = ()) -> Node:
        """`over` laid over `base`, both at `path`.

        Raises:
            Unmergeable: a list meets a map.
        """
        place = _place(path)
        if over.tag == OVERRIDE or place in _REPLACED:
            return over
        if is_null(base) or (isinstance(base, ScalarNode) and is_null(over)):
            return over
        if is_null(over):
            return base
        base, over = self.long(base, place), self.long(over, place)
        if isinstance(base, MappingNode) and isinstance(over, MappingNode):
            if place == ("services", "logging") and _differ(base, over, "driver"):
                return over
            return self._maps(base, over, path)
        if isinstance(base, SequenceNode) and isinstance(over, SequenceNode):
            return self._lists(base, over, place)
        if isinstance(base, ScalarNode) or isinstance(over, ScalarNode):
            return over
        here, there = ("a list", "a map") if isinstance(over, SequenceNode) else ("a map", "a list")
        at = f"{self.owner(base).name}:{base.start_mark.line + 1}"
        raise Unmergeable(over, f"{here} can't be laid over {there}", f"{there} is at {at}: write it the same way")

    def _maps(self, base: MappingNode, over: MappingNode, path: Path) -> MappingNode:
        merged = {text_of(key): (key, value) for key, value in base.value}
        for key, value in over.value:
            name = text_of(key)
            if value.tag == RESET:
                merged.pop(name, None)
            elif name in merged:
                first, under = merged[name]
                merged[name] = (
                    key if isinstance(value, ScalarNode) else first,
                    self.merge(under, value, (*path, name)),
                )
            else:
                merged[name] = (key, value)
        return self.mapping(list(merged.values()), base)

    def _lists(self, base: SequenceNode, over: SequenceNode, place: Path) -> SequenceNode:
        identity = _name if place[-1] in ("aliases", "link_local_ips") else _UNIQUE.get(place)
        items = [*base.value, *(item for item in over.value if item.tag != RESET)]
        if identity is None:
            return self.sequence(items, base)
        unique: dict[object, Node] = {}
        for item in items:
            unique[identity(item)] = item
        return self.sequence(list(unique.values()), base)

    def long(self, node: Node, place: Path) -> Node:
        """The long form of what has a short one, so that both merge."""
        if place in _PAIRS and isinstance(node, SequenceNode):
            return self.mapping([self._pair(item) for item in node.value], node)
        if place in _NAMES and isinstance(node, SequenceNode):
            return self.mapping([(item, self._use(item, place)) for item in node.value], node)
        if place in _ONE_OR_MORE and isinstance(node, ScalarNode | MappingNode) and not is_null(node):
            return self.sequence([node], node)
        if place == ("services", "extra_hosts") and isinstance(node, MappingNode):
            return self.sequence(list(self._hosts(node)), node)
        if place == ("services", "build") and isinstance(node, ScalarNode):
            return self.mapping([(self.scalar("context", node), node)], node)
        return node

    def _pair(self, item: Node) -> tuple[Node, Node]:
        name, mark, value = text_of(item).partition("=")
        return self.scalar(name, item), self.scalar(value, item, style='"' if mark else "")

    def _use(self, item: Node, place: Path) -> Node:
        if place[-1] == "networks":
            return self.scalar("", item, style="")
        if place[-1] == "models":
            return self.mapping([], item)
        return self.mapping([(self.scalar("condition", item), self.scalar("service_started", item))], item)

    def _hosts(self, node: MappingNode) -> Iterator[Node]:
        for key, value in node.value:
            for address in value.value if isinstance(value, SequenceNode) else [value]:
                yield self.scalar(f"{text_of(key)}={text_of(address)}", key)


def is_null(node: Node) -> bool:
    """Whether nothing is written."""
    return isinstance(node, ScalarNode) and not node.style and node.value in ("", "~", "null", "Null", "NULL")


def text_of(node: Node) -> str:
    """A scalar's text; "" for anything else."""
    return node.value if isinstance(node, ScalarNode) else ""


def get(node: Node | None, name: str) -> Node | None:
    """The value of a key of a map; None if there is none."""
    found = entry(node, name)
    return found[1] if found else None


def entry(node: Node | None, name: str) -> tuple[Node, Node] | None:
    """A key and its value."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == name:
                return key, value
    return None


def _differ(base: Node, over: Node, name: str) -> bool:
    one, two = get(base, name), get(over, name)
    return one is not None and two is not None and text_of(one) != text_of(two)


def _place(path: Path) -> Path:
    """The path without the names that people chose."""
    return (path[0], *path[2:]) if len(path) > 2 else path


def _port(node: Node) -> object:
    if not isinstance(node, MappingNode):
        text = text_of(node)
        found = re.fullmatch(r"(?:(.*):)?([^:/]*)(?:/(.*))?", text)
        return (found[1] or "", found[2], found[3] or "tcp", "") if found else text
    host, published = text_of(get(node, "host_ip") or node), text_of(get(node, "published") or node)
    return (
        f"{host}:{published}" if host else published,
        text_of(get(node, "target") or node),
        text_of(get(node, "protocol") or node) or "tcp",
        "host" if text_of(get(node, "mode") or node) == "host" else "",
    )


def _mount(node: Node) -> object:
    if isinstance(node, MappingNode):
        return text_of(get(node, "target") or node)
    parts = text_of(node).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _file_use(node: Node) -> object:
    if isinstance(node, MappingNode):
        return text_of(get(node, "target") or get(node, "source") or node).removeprefix("/")
    return text_of(node)


def _name(node: Node) -> object:
    return text_of(node).partition("=")[0] if isinstance(node, ScalarNode) else id(node)


def _path(node: Node) -> object:
    return text_of(get(node, "path") or node)


def _service(*names: str) -> frozenset[Path]:
    return frozenset(("services", *name.split(".")) for name in names)


_REPLACED = _service("command", "entrypoint", "healthcheck.test")
_PAIRS = _service("annotations", "environment", "labels", "sysctls", "deploy.labels", "build.args", "build.labels") | {
    ("networks", "labels"), ("volumes", "labels"), ("secrets", "labels"), ("configs", "labels"),
}  # fmt: skip
_NAMES = _service("depends_on", "networks", "models")
_ONE_OR_MORE = _service("dns", "dns_search", "env_file", "label_file", "tmpfs")
_UNIQUE: dict[Path, Callable[[Node], object]] = {
    ("services", "ports"): _port,
    ("services", "volumes"): _mount,
    ("services", "devices"): _mount,
    ("services", "configs"): _file_use,
    ("services", "secrets"): _file_use,
    ("services", "env_file"): _path,
    **dict.fromkeys(
        _service("cap_add", "cap_drop", "dns", "dns_opt", "dns_search", "expose", "extra_hosts", "external_links",
                 "group_add", "links", "profiles", "security_opt", "tmpfs", "volumes_from", "label_file",
                 "device_cgroup_rules"), _name
    ),
}  # fmt: skip


def has_tags(text: str) -> bool:
    """Whether a text may hold tags of Compose."""
    return RESET in text or OVERRIDE in text
