"""A stack's record: what was applied last, from where, and how it ended.

It is kept in the cluster, the same way on our engine and on a real Docker Swarm: one swarm Config a stack, whose labels
change by compare-and-set on its version (the data of a Config can't change).
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass, fields
from dataclasses import replace as replaced
from typing import Any

from msgspec.structs import replace

from gitops import client as clients
from gitops import errors
from gitops.objects import labels
from gitops.objects.secret import Config, ConfigSpec
from gitops.reconciler import versions

RECORD_KIND = "record"
_PREFIX = "gitops.record."
_LISTS = ("images", "brought", "claims")
_RETRIES = 5
_STACK_LENGTH = 36
_STACK_CUT = 25


class Outcome(enum.StrEnum):
    """How the last apply of a stack ended, or that it goes on (or was killed on its way)."""

    NONE = ""
    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled-back"


@dataclass(frozen=True, slots=True)
class Record:
    """The labels of a record, typed.

    `revision` names a state of the manifests; `held` is the one that isn't tried again by itself; `images` are the
    references that the manifests bring; `brought` is every version of them that may still be on the engine, as
    `name:tag@digest`, the latest last; `claims` are objects that moved here from another stack and whose labels can't
    say so (`claiming`); `key` is a fingerprint of the operator's key for secrets.
    """

    stack: str
    source: str = ""
    commit: str = ""
    revision: str = ""
    outcome: Outcome = Outcome.NONE
    message: str = ""
    held: str = ""
    applied_at: str = ""
    images: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    key: str = ""
    suspended: str = ""
    """Since when watch leaves the stack alone; empty where it doesn't."""
    suspend_reason: str = ""
    lease_holder: str = ""
    lease_until: str = ""
    """By the engine's clock."""
    lease_phase: str = ""
    lease_fence: str = ""
    """Counts the holders: the number of the present one, or of the last."""
    claims: tuple[str, ...] = ()

    @property
    def image_names(self) -> set[str]:
        """What the engine may call the images that the stack brought."""
        return {*self.images, *map(versions.as_digest, self.brought), *map(versions.name_of, self.brought)}

    @property
    def suspension(self) -> str:
        """That the stack is suspended, and why."""
        why = f" ({self.suspend_reason})" if self.suspend_reason else ""
        return f"stack {self.stack!r} is suspended since {self.suspended[:16].replace('T', ' ')} UTC{why}"


def config_name(stack: str) -> str:
    """The record's name on the engine."""
    return shortened("gitops-record", stack)


def shortened(stem: str, stack: str) -> str:
    """`<stem>-<stack>`, cut where an engine, which takes 64 characters, would refuse it or what is still to follow."""
    if len(stack) > _STACK_LENGTH:
        stack = f"{stack[:_STACK_CUT]}-{hashlib.sha256(stack.encode()).hexdigest()[:10]}"
    return f"{stem}-{stack}" if stack else stem


def parse(config: Config) -> Record:
    """The record in a Config's labels; what is missing or unknown reads as empty."""
    found = {key.removeprefix(_PREFIX): value for key, value in config.spec.labels.items() if key.startswith(_PREFIX)}
    outcome = found.pop("outcome", "")
    lists: dict[str, Any] = {key: tuple(json.loads(found.pop(key, "[]"))) for key in _LISTS}
    known = {field.name for field in fields(Record)}
    texts: dict[str, Any] = {
        key.replace("-", "_"): value for key, value in found.items() if key.replace("-", "_") in known
    }
    return Record(
        stack=config.spec.labels.get(labels.STACK, ""),
        outcome=Outcome(outcome) if outcome in set(Outcome) else Outcome.NONE,
        **lists,
        **{key: value for key, value in texts.items() if key != "stack"},
    )


def to_labels(record: Record) -> dict[str, str]:
    """The labels that hold a record."""
    texts = {
        field.name.replace("_", "-"): str(getattr(record, field.name))
        for field in fields(Record)
        if field.name not in ("stack", *_LISTS)
    }
    texts |= {key: json.dumps(getattr(record, key)) for key in _LISTS}
    owner = {labels.STACK: record.stack, labels.KIND: RECORD_KIND}
    return owner | {_PREFIX + key: value for key, value in texts.items()}


async def read(client: clients.EngineClient) -> dict[str, Record]:
    """All records, by stack."""
    found = await client.configs({"label": [f"{labels.KIND}={RECORD_KIND}"]})
    return {record.stack: record for record in map(parse, found)}


async def write(client: clients.EngineClient, stack: str, *, fence: str | None = None, **changes: object) -> Record:
    """Change a stack's record, made if it is missing; writes nothing when nothing changes.

    Raises:
        errors.OutOfSequence: somebody else keeps writing it.
        errors.Refused: another apply has got the lease since it had the fencing number `fence`.
    """
    name = config_name(stack)
    for attempt in range(_RETRIES):
        config = await _find(client, name)
        former = parse(config) if config else Record(stack)
        if fence is not None and former.lease_fence != fence:
            raise taken_over(former)
        record = replaced(former, **changes)  # type: ignore[arg-type]
        if config and record == former:
            return record
        try:
            if config is None:
                await client.create_config(ConfigSpec(name=name, labels=to_labels(record), data=b"gitops\n"))
            else:
                spec = replace(config.spec, labels=to_labels(record))
                await client.update_config(config.id, config.version.index, spec)
            return record
        except errors.Conflict:
            if attempt == _RETRIES - 1:
                raise
    raise AssertionError("unreachable")


def taken_over(found: Record) -> errors.Refused:
    """What is said to an apply whose lease is somebody else's by now."""
    who = f"{found.lease_holder}, which applies it now" if found.lease_holder else "another apply"
    return errors.Refused(f"stack {found.stack!r} was taken over by {who}: see gitops status")


async def remove(client: clients.EngineClient, stack: str) -> None:
    """Forget a stack; nothing happens where there is no record."""
    config = await _find(client, config_name(stack))
    if config:
        await client.remove_config(config.id)


async def _find(client: clients.EngineClient, name: str) -> Config | None:
    found = await client.configs({"name": [name]})
    return next((config for config in found if config.spec.name == name), None)
