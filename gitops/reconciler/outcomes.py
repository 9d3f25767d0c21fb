"""How an apply failed, as one error for a person: every object that failed, and what was not sent because of it. Pure.

The error's class, and with it the exit code, is that of the gravest: a failed rollout, before tasks without a node,
before a refusal, before whatever a call said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitops import errors
from gitops.reconciler.graph import Condition, Edge, Key

_SHOWN = 20
_GRAVITY = (errors.RolloutFailed, errors.Unschedulable, errors.Refused)


@dataclass(frozen=True, slots=True)
class Failed:
    """An object whose call or rollout failed."""

    key: Key
    error: errors.GitopsError

    @property
    def text(self) -> str:
        """What happened, with the object's name."""
        name = f"{self.key[0].lower()} {self.key[1]}"
        return str(self.error) if self.key[1] in str(self.error) else f"{name}: {self.error}"

    @property
    def reason(self) -> str:
        """What happened, without the object's name at its head."""
        return self.text.removeprefix(f"{self.key[0].lower()} {self.key[1]}: ")


@dataclass(frozen=True, slots=True)
class Blocked:
    """An object that was not sent, since what it waits for failed or was blocked itself."""

    key: Key
    edge: Edge
    behind: Failure

    @property
    def text(self) -> str:
        """`service web waits for db (healthy): 0/1 running: exit 1`, through all that stand between them."""
        return f"{self.key[0].lower()} {self.key[1]} waits for {self.link}"

    @property
    def reason(self) -> str:
        """What is at the end of the chain."""
        return self.behind.reason

    @property
    def link(self) -> str:
        """What it waits for, and so on, and what is at the end of the chain."""
        link = waits_for(self.edge)
        if isinstance(self.behind, Blocked):
            return f"{link}, which waits for {self.behind.link}"
        return f"{link}: {self.behind.reason}"


Failure = Failed | Blocked


def waits_for(edge: Edge) -> str:
    """`db (healthy)`, `network app_net`: what an object waits for."""
    kind, name = edge.key
    if kind != "Service":
        return f"{kind.lower()} {name}"
    what = {Condition.SENT: "its turn", Condition.DONE: "gone"}.get(edge.condition, str(edge.condition))
    return f"{name} ({what})"


def error(failures: Sequence[Failure], not_removed: Sequence[str] = ()) -> errors.GitopsError:
    """One error for all failures, of which there is at least one; `not_removed` is what stays because of them."""
    failed = [item for item in failures if isinstance(item, Failed)]
    chosen = min(failed, key=lambda item: _gravity(item.error))
    first = [chosen, *(item for item in failed if item is not chosen)]
    texts = list(dict.fromkeys(item.text for item in (*first, *(item for item in failures if item not in failed))))
    if not_removed:
        texts.append(f"not removed before the rest is there: {', '.join(not_removed[:_SHOWN])}")
    if len(texts) > _SHOWN:
        texts = [*texts[:_SHOWN], f"and {len(texts) - _SHOWN} more"]
    made = _same_class(chosen.error, "\n  ".join(texts))
    made.__cause__ = chosen.error
    made.objects = tuple(
        errors.ObjectFailure(*item.key, "failed" if isinstance(item, Failed) else "blocked", item.text)
        for item in failures
    )
    return made


def _gravity(found: errors.GitopsError) -> int:
    return next((place for place, kind in enumerate(_GRAVITY) if isinstance(found, kind)), len(_GRAVITY))


def _same_class(found: errors.GitopsError, text: str) -> errors.GitopsError:
    """An error of the same class and another text; manifests' errors have no place in an apply."""
    return errors.Invalid(text) if isinstance(found, errors.InvalidManifest) else type(found)(text)
