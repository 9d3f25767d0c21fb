"""Revisions: what each apply of a stack was of, what it meant to do, and how it ended, kept in the cluster.

A revision is one swarm Config or several: `gitops-revision-<stack>-<number>`, whose data (compressed JSON, cut to what
a Config holds) never changes and whose labels take the outcome by compare-and-set; further chunks are `….<chunk>`.
Chunks are written first, so that a revision that can be seen is whole. Values of secrets, and the data of configs, are
never in it: their versions are named, and stay on the engine as long as a kept revision names them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from dataclasses import replace as replaced
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from gitops import client as clients
from gitops import errors
from gitops.objects import base, labels
from gitops.objects.memory import Memory
from gitops.objects.secret import Config, ConfigSpec
from gitops.reconciler.record import Outcome, shortened

REVISION_KIND = "revision"
KEPT = 10
CHUNK_BYTES = 900_000
"""Of a Config's data: Docker takes 1000 KiB, and sends base64."""

_PREFIX = "gitops.revision."
_CHUNK_OF = _PREFIX + "chunk-of"
_RETRIES = 5
_MESSAGE_LIMIT = 2000
_DECODED = 32
"""Revisions whose data is kept decoded: those of a few stacks."""


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object as it was asked for: `spec` is the API's JSON, `canonical` the form that diffs compare."""

    kind: str
    stack: str
    name: str
    engine_name: str
    position: str
    spec: msgspec.Raw
    canonical: dict[str, Any]
    hash: str = ""
    needs: list[tuple[str, str]] = []
    depends_on: list[dict[str, Any]] = []
    deadline_ns: int | None = None
    image: dict[str, Any] = {}
    """Of an image: its digest, its id, and the name that it is pulled by."""

    @property
    def key(self) -> tuple[str, str]:
        """Kind and engine name."""
        return self.kind, self.engine_name


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the apply meant to do to an object: the paths of its fields, never their values."""

    kind: str
    name: str
    action: str
    reason: str = ""
    paths: list[str] = []


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a revision."""

    objects: list[Stored] = []
    changes: list[Change] = []
    externals: list[Stored] = []
    settings: dict[str, Any] = {}
    """What the Stack manifest says: `prune`, `description`, `labels`."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the labels of a revision say. Times are RFC 3339, of the host that applied."""

    stack: str
    number: int
    source: str = ""
    commit: str = ""
    author: str = ""
    subject: str = ""
    revision: str = ""
    """The state of the manifests, as in the record."""
    digest: str = ""
    """Over all objects: two revisions of the same digest ask for the same."""
    by: str = ""
    started_at: str = ""
    ended_at: str = ""
    outcome: Outcome = Outcome.APPLYING
    message: str = ""
    rollback_to: int = 0
    """The revision that it brings back; 0: it is no rollback."""
    part: str = ""
    """The path in the stack's source that it came from, if it is only a part of that."""
    chunks: int = 1
    counts: Mapping[str, int] = field(default_factory=dict)
    """Objects by what was to be done: create, update, replace, delete."""

    @property
    def duration_s(self) -> float | None:
        """From the first write to the end, in seconds; None while it goes on."""
        if not self.ended_at:
            return None
        return max(0, base.parse_time(self.ended_at) - base.parse_time(self.started_at)) / base.SECOND

    @property
    def label(self) -> str:
        """The commit as people read it: twelve digits, with `+` where files differed from it."""
        return self.commit[:12] + ("+" if self.commit.endswith("+") else "")

    @property
    def is_healthy(self) -> bool:
        """Whether everything ran as asked for in the end."""
        return self.outcome is Outcome.APPLIED


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision in the cluster; `data` is what its chunks hold together, None where some are missing."""

    head: Head
    config: Config
    data: bytes | None = field(default=None, repr=False)
    chunk_ids: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Its number in its stack, from 1."""
        return self.head.number

    @property
    def body(self) -> Body:
        """What it holds.

        Raises:
            errors.Invalid: a part of it is missing or damaged.
        """
        if self.data is None:
            raise errors.Invalid(f"revision {self.number} of stack {self.head.stack!r}: a part of it has gone")
        try:
            return _decoded(self.data)
        except (zlib.error, msgspec.DecodeError) as error:
            raise errors.Invalid(f"revision {self.number} of stack {self.head.stack!r} is damaged: {error}") from error

    @property
    def objects(self) -> Mapping[tuple[str, str], Stored]:
        """The objects by kind and engine name."""
        return {item.key: item for item in self.body.objects}


def encode(body: Body) -> bytes:
    """The data of a revision."""
    return zlib.compress(msgspec.json.encode(body), 6)


@lru_cache(maxsize=_DECODED)
def _decoded(data: bytes) -> Body:
    return msgspec.json.decode(zlib.decompress(data), type=Body)


def digest(body: Body, remembered: Memory[bytes] | None = None) -> str:
    """SHA-256 over what the objects are asked to be; where they stand in their files says nothing."""
    memory: Memory[bytes] = remembered or Memory()
    state = hashlib.sha256()
    for item in sorted(body.objects, key=lambda item: item.key):
        state.update(memory.of(_digested, item))
    return state.hexdigest()


def _digested(item: Stored) -> bytes:
    return msgspec.json.encode([item.kind, item.engine_name, item.canonical, item.image], order="sorted")


def config_name(stack: str, number: int, chunk: int = 0) -> str:
    """The name of a chunk of a revision on the engine; the first one has the labels."""
    stem = shortened("gitops-revision", stack)
    return f"{stem}-{number}" + (f".{chunk}" if chunk else "")


def to_labels(head: Head) -> dict[str, str]:
    """The labels that hold a head."""
    found = {labels.STACK: head.stack, labels.KIND: REVISION_KIND}
    for item in fields(Head):
        value = getattr(head, item.name)
        if item.name == "stack" or not value:
            continue
        text = json.dumps(dict(value)) if item.name == "counts" else str(value)
        found[_PREFIX + item.name.replace("_", "-")] = text
    return found


def _head(config: Config) -> Head | None:
    """The head in a Config's labels; None of a chunk, or of what isn't a revision of ours."""
    found = {
        key.removeprefix(_PREFIX).replace("-", "_"): value
        for key, value in config.spec.labels.items()
        if key.startswith(_PREFIX)
    }
    if config.spec.labels.get(labels.KIND) != REVISION_KIND or not found.get("number", "").isdecimal():
        return None
    known = {item.name for item in fields(Head)} - {"stack"}
    values: dict[str, Any] = {key: value for key, value in found.items() if key in known}
    for key in ("number", "rollback_to", "chunks"):
        if key in values:
            values[key] = int(values[key])
    values["counts"] = json.loads(values.get("counts", "{}"))
    outcome = values.get("outcome", "")
    values["outcome"] = Outcome(outcome) if outcome in set(Outcome) else Outcome.NONE
    return Head(stack=config.spec.labels.get(labels.STACK, ""), **values)


def parse(configs: Iterable[Config]) -> dict[str, list[Revision]]:
    """The revisions among Configs, by stack, newest first."""
    found = {item.spec.name: item for item in configs if item.spec.labels.get(labels.KIND) == REVISION_KIND}
    result: dict[str, list[Revision]] = {}
    for config in found.values():
        head = _head(config)
        if head is None:
            continue
        rest = [found.get(config_name(head.stack, head.number, chunk)) for chunk in range(1, head.chunks)]
        present = [item for item in rest if item is not None]
        data = b"".join([config.spec.data, *(item.spec.data for item in present)])
        is_whole = len(present) == len(rest)
        ids = tuple(item.id for item in present)
        result.setdefault(head.stack, []).append(Revision(head, config, data if is_whole else None, ids))
    for revisions in result.values():
        revisions.sort(key=lambda item: -item.number)
    return result


def next_number(configs: Iterable[Config], stack: str) -> int:
    """The number of a stack's next revision; those of revisions that were cut short are not used again."""
    mine = (item.spec.labels for item in configs if item.spec.labels.get(labels.STACK, "") == stack)
    texts = (found.get(key, "") for found in mine for key in (_PREFIX + "number", _CHUNK_OF))
    return 1 + max((int(text) for text in texts if text.isdecimal()), default=0)


async def read(client: clients.EngineClient, stack: str) -> list[Revision]:
    """The kept revisions of a stack, newest first."""
    return parse(await _configs(client, stack)).get(stack, [])


async def _configs(client: clients.EngineClient, stack: str) -> list[Config]:
    """All that is of a stack's revisions. An empty value in the API's filter stands for any."""
    found = await client.configs({"label": [f"{labels.KIND}={REVISION_KIND}", f"{labels.STACK}={stack}"]})
    return [item for item in found if item.spec.labels.get(labels.STACK, "") == stack]


async def create(client: clients.EngineClient, head: Head, body: Body) -> Revision:
    """Write a new revision.

    Raises:
        errors.Refused: there is one of that number already: somebody else applies the same stack.
    """
    data = encode(body)
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    whole = replaced(head, chunks=len(chunks), digest=digest(body))
    plain = {labels.STACK: head.stack, labels.KIND: REVISION_KIND, _CHUNK_OF: str(head.number)}
    for index, chunk in enumerate(chunks[1:], 1):
        await _create(client, ConfigSpec(config_name(head.stack, head.number, index), plain, chunk), head)
    first = ConfigSpec(config_name(head.stack, head.number), to_labels(whole), chunks[0])
    created = await _create(client, first, head)
    return Revision(whole, Config(id=created, spec=first), data)


async def _create(client: clients.EngineClient, spec: ConfigSpec, head: Head) -> str:
    try:
        return await client.create_config(spec)
    except errors.Conflict as error:
        raise errors.Refused(
            f"stack {head.stack!r} has a revision {head.number} already: somebody else applies it; run it again"
        ) from error


async def finish(client: clients.EngineClient, revision: Revision, **changes: Any) -> None:
    """Note in a revision how it ended (`outcome`, `message`, `ended_at`); nothing where it was removed meanwhile.

    Raises:
        errors.OutOfSequence: somebody else keeps writing it.
    """
    if "message" in changes:
        changes["message"] = str(changes["message"])[:_MESSAGE_LIMIT]
    for attempt in range(_RETRIES):
        try:
            config = await client.config(revision.config.id)
            head = _head(config)
            if head is None:
                return
            spec = replace(config.spec, labels=to_labels(replaced(head, **changes)))
            await client.update_config(config.id, config.version.index, spec)
            return
        except errors.NotFound:
            return
        except errors.OutOfSequence:
            if attempt == _RETRIES - 1:
                raise


def kept(found: list[Revision]) -> list[Revision]:
    """Those of a stack, newest first, that stay.

    The last ten; the last one of each of the last ten states, so that healing drift again and again pushes nothing
    out; and always the last healthy one.
    """
    states: dict[str, Revision] = {}
    for item in found:
        states.setdefault(item.head.digest, item)
    staying = {item.number for item in (*found[:KEPT], *list(states.values())[:KEPT])}
    if healthy := next((item for item in found if item.head.is_healthy), None):
        staying.add(healthy.number)
    return [item for item in found if item.number in staying]


async def collect(client: clients.EngineClient, stack: str) -> None:
    """Remove the revisions of a stack that don't stay, and what is left of those that were never finished."""
    configs = await _configs(client, stack)
    found = parse(configs).get(stack, [])
    staying = kept(found)
    for item in found:
        if item not in staying:
            await _remove(client, (item.config.id, *item.chunk_ids))
    numbers = {str(item.number) for item in found}
    newest = found[0].number if found else 0
    for config in configs:
        number = config.spec.labels.get(_CHUNK_OF, "")
        if number.isdecimal() and number not in numbers and int(number) < newest:
            await _remove(client, (config.id,))


async def remove(client: clients.EngineClient, stack: str) -> None:
    """Forget a stack's history."""
    await _remove(client, [config.id for config in await _configs(client, stack)])


async def _remove(client: clients.EngineClient, ids: Iterable[str]) -> None:
    """Heads come first: what is left of a removal that was cut short is not taken for a revision."""
    for config_id in ids:
        try:
            await client.remove_config(config_id)
        except errors.NotFound:
            continue
