"""Every key of the Compose specification, and what happens to it: the one table.

honoured: the word of our own manifests, with the same meaning. emulated: reached by other means, said in the note.
meaningless: says nothing about a deployment (how to build, how to develop). warned: without effect, and the user is
told; `docker stack deploy` ignores these too, or refuses them. refused: would change what is meant or weaken a
protection. `docs/compose.md` is made of this, by `python -m gitops.manifests.compose.reference`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from gitops.manifests.compose.ledger_service import LIST_OR_MAP, SERVICE
from gitops.manifests.compose.shapes import (
    BOOL_TEXT,
    INT,
    NAMES,
    NULL,
    NUMBER,
    TEXT,
    Key,
    Shape,
    Status,
    fields,
    list_of,
    map_of,
)

_OPTIONS = map_of(TEXT | NUMBER, is_open=True)
_OPTION_TEXTS = map_of(TEXT)
_EXTERNAL_NAME = {"name": Key(TEXT, "honoured", "the old place of `name`")}
_EXTERNAL = BOOL_TEXT | fields(_EXTERNAL_NAME)
_EXTERNAL_OPEN = BOOL_TEXT | fields(_EXTERNAL_NAME, is_open=True)
_TEXT_OR_TEXTS = TEXT | list_of(TEXT, is_unique=True)

_POOL = {
    "subnet": Key(TEXT, "honoured", "the first IPv4 one; others are left out, with a warning"),
    "ip_range": Key(TEXT),
    "gateway": Key(TEXT),
    "aux_addresses": Key(map_of(TEXT)),
}
_IPAM = {
    "driver": Key(TEXT, "emulated", "`default` is the one that there is; others are left out, with a warning"),
    "config": Key(list_of(fields(_POOL))),
    "options": Key(_OPTION_TEXTS, "warned", "the only driver has no options"),
}
NETWORK = {
    "name": Key(TEXT, "honoured", "the network's name on the engine, in place of stack and name"),
    "driver": Key(TEXT, "emulated", "`overlay`; `bridge` becomes overlay, others are refused"),
    "driver_opts": Key(_OPTIONS, "honoured", "the MTU; `encrypted` is refused, others are left out, with a warning"),
    "ipam": Key(fields(_IPAM)),
    "external": Key(_EXTERNAL),
    "internal": Key(BOOL_TEXT),
    "enable_ipv4": Key(BOOL_TEXT, "meaningless", "a network of a swarm has IPv4"),
    "enable_ipv6": Key(BOOL_TEXT, "warned", "networks have IPv4 addresses"),
    "attachable": Key(BOOL_TEXT),
    "labels": Key(LIST_OR_MAP),
}
VOLUME = {
    "name": Key(TEXT, "honoured", "the volume's name on the engine, in place of stack and name"),
    "driver": Key(TEXT, "emulated", "`local`; for another one a plain local volume stands in, with a warning"),
    "driver_opts": Key(_OPTIONS, "honoured", "type, o and device; others are left out, with a warning"),
    "external": Key(_EXTERNAL),
    "labels": Key(LIST_OR_MAP),
}
SECRET = {
    "name": Key(TEXT, "honoured", "the secret's name on the engine, before its version"),
    "environment": Key(TEXT),
    "file": Key(TEXT),
    "external": Key(_EXTERNAL_OPEN),
    "labels": Key(LIST_OR_MAP),
    "driver": Key(TEXT, "refused", "fetch the value before, and give it by file or environment"),
    "driver_opts": Key(_OPTIONS, "refused", "fetch the value before, and give it by file or environment"),
    "template_driver": Key(TEXT, "honoured", "golang"),
}
CONFIG = {
    "name": Key(TEXT, "honoured", "the config's name on the engine, before its version"),
    "content": Key(TEXT),
    "environment": Key(TEXT),
    "file": Key(TEXT),
    "external": Key(_EXTERNAL_OPEN),
    "labels": Key(LIST_OR_MAP),
    "template_driver": Key(TEXT, "honoured", "golang"),
}
_MODEL = {
    "name": Key(TEXT, "warned"),
    "model": Key(TEXT, "warned"),
    "context_size": Key(INT, "warned"),
    "runtime_flags": Key(list_of(TEXT), "warned"),
}
_INCLUDE = {
    "path": Key(_TEXT_OR_TEXTS),
    "env_file": Key(_TEXT_OR_TEXTS),
    "project_directory": Key(TEXT),
}
TOP = {
    "version": Key(TEXT, "meaningless", "of old; the keys themselves say what they mean"),
    "name": Key(TEXT, "honoured", "the stack"),
    "include": Key(list_of(TEXT | fields(_INCLUDE, has_extensions=False))),
    "services": Key(map_of(fields(SERVICE), NAMES)),
    "models": Key(map_of(fields(_MODEL, ["model"]), NAMES, is_open=True), "warned", "run the model as a service"),
    "networks": Key(map_of(fields(NETWORK) | NULL, NAMES, is_open=True)),
    "volumes": Key(map_of(fields(VOLUME) | NULL, NAMES)),
    "secrets": Key(map_of(fields(SECRET), NAMES)),
    "configs": Key(map_of(fields(CONFIG), NAMES)),
}
FILE = fields(TOP)
"""A whole Compose file."""


def entries() -> Iterator[tuple[str, Key]]:
    """Every key of the specification by its path, `services.*.deploy.replicas`; those of a list's items end in `[]`."""
    yield from _entries(TOP, "", None)


def _entries(table: Mapping[str, Key], path: str, above: Key | None) -> Iterator[tuple[str, Key]]:
    for name, key in table.items():
        here = f"{path}.{name}" if path else name
        if above is not None:  # what is said of a whole holds for its parts
            key = Key(key.shape, above.status, above.note)
        yield here, key
        is_honoured = key.status in ("honoured", "emulated")
        yield from _below(key.shape, here, None if is_honoured else key)


def _below(shape: Shape, path: str, above: Key | None) -> Iterator[tuple[str, Key]]:
    if shape.table is not None:
        yield from _entries(shape.table, path, above)
    if shape.inner is not None:
        is_list = list in shape.by_type and dict not in shape.by_type
        yield from _below(shape.inner, path + ("[]" if is_list else ".*"), above)


def figures() -> dict[Status, int]:
    """How many keys there are of each status."""
    found = Counter(key.status for _, key in entries())
    return {status: found[status] for status in ("honoured", "emulated", "meaningless", "warned", "refused")}
