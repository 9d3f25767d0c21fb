"""The one tree of errors, and what each means to a caller.

    GitopsError
    ├── NotFound              no such object (API 404)
    ├── Conflict              the object's state forbids it: name taken, in use (409)
    │   └── OutOfSequence     the version given is not the stored one (500 with Docker's text)
    ├── Invalid               bad input (400)
    │   └── InvalidManifest   many problems, each with file, line, column and field
    ├── Denied                the caller may not (403)
    ├── Unavailable           not now: try again (503)
    │   └── NotInSwarm        the engine is in no swarm, or is no manager (503)
    ├── Unsupported           we know it and don't have it (501)
    ├── RuntimeFailure        the kernel, the runtime or a peer refused (500)
    ├── Unschedulable         valid, but no node can hold it (exit code 3)
    ├── RolloutFailed         a rollout failed, was paused or was rolled back (exit code 4)
    └── Refused               stale plan, guard, declined, held, not ours (exit code 5)

One question is asked of each: `is_temporary`, that is whether trying again without any change may succeed. Only
`gitops.api` turns errors into HTTP, only `gitops.cli` into exit codes. Library errors are chained at the boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ObjectFailure:
    """What became of one object of an apply: `failed`, or `blocked` behind another one and not sent; and why."""

    kind: str
    name: str
    state: Literal["failed", "blocked"]
    text: str


class GitopsError(Exception):
    """Base of all errors that are meant for a person; the message says what failed, on what, and what to try."""

    is_temporary: bool = False
    exit_code: int = 1
    objects: tuple[ObjectFailure, ...] = ()
    """Of an apply that failed: every object that isn't as it should be."""


class NotFound(GitopsError):
    """No such object."""


class Conflict(GitopsError):
    """The state of an object forbids the call: a name is taken, an object is in use."""


class OutOfSequence(Conflict):
    """An update was made against a version that is not the stored one; read again and retry."""

    is_temporary = True


class Invalid(GitopsError):
    """Bad input; repeating the call can't help."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file: where (1-based line and column), which field, why, and the way out."""

    file: str
    line: int
    column: int
    field: str
    reason: str
    hint: str = ""
    source: str = ""
    """The line's text, for the caret under it; empty when it must not be shown."""
    width: int = 1
    """Characters to underline."""

    def headline(self) -> str:
        """`file:line:column: field: reason, hint`, without the empty parts."""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{self.field}: {self.reason}" if self.field else self.reason
        return f"{where}: {text}, {self.hint}" if self.hint else f"{where}: {text}"


class InvalidManifest(Invalid):
    """Everything that is wrong with a set of manifests, found in one run."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(problem.headline() for problem in self.problems))


class Denied(GitopsError):
    """The caller lacks the right."""


class Unavailable(GitopsError):
    """Not possible now; the same call may succeed later."""

    is_temporary = True


class NotInSwarm(Unavailable):
    """The engine is in no swarm, or is not a manager of it."""

    is_temporary = False


class Unsupported(GitopsError):
    """A known request that this version can't serve."""


class RuntimeFailure(GitopsError):
    """The kernel, the OCI runtime or another program refused."""


class Unschedulable(GitopsError):
    """Valid, but no node can hold it."""

    exit_code = 3


class RolloutFailed(GitopsError):
    """A rollout failed, was paused, or was rolled back."""

    exit_code = 4


class Refused(GitopsError):
    """Not done on purpose: a guard, a stale plan, a held revision, an object of somebody else, a declined question."""

    exit_code = 5
