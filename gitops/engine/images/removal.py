"""What may be removed: Docker's rules as one pure decision, in its words.

A name given takes that name away, and the image with its last tag. An id given takes all names, if they are of one
repository. A container blocks: a running one always, a stopped one unless forced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gitops import errors
from gitops.engine.images import report
from gitops.oci import reference as references


class ImageUser(Protocol):
    """A container that was made from an image."""

    @property
    def id(self) -> str:
        """Of the container."""
        ...

    @property
    def is_running(self) -> bool:
        """Running or paused."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a removal does."""

    untag: tuple[references.Reference, ...]
    is_deleted: bool
    """The image goes too."""


def plan(
    image_id: str,
    given: references.Reference | None,
    names: Sequence[references.Reference],
    users: Sequence[ImageUser],
    *,
    force: bool,
) -> Plan:
    """What removing the image by the name `given`, or by id where it is None, does; `names` are all that it has.

    Raises:
        errors.Conflict: a container or another name forbids it.
    """
    if given is None:
        return _by_id(image_id, names, users, force)
    gone = _untagged(given, names)
    if len(gone) < len(names):
        return Plan(gone, is_deleted=False)
    if users and not force:
        raise errors.Conflict(
            f'conflict: unable to remove repository reference "{given}" (must force) - container '
            f"{users[0].id[:12]} is using its referenced image {report.short_id(image_id)}"
        )
    _check_containers(image_id, users, force)
    return Plan(gone, is_deleted=True)


def _by_id(image_id: str, names: Sequence[references.Reference], users: Sequence[ImageUser], force: bool) -> Plan:
    _check_containers(image_id, users, force)
    if not force and not _is_single(names):
        raise _conflict(image_id, "must be forced", "image is referenced in multiple repositories")
    return Plan(tuple(names), is_deleted=True)


def _untagged(given: references.Reference, names: Sequence[references.Reference]) -> tuple[references.Reference, ...]:
    """The name, and with the last tag of a repository its digests too."""
    others = [name for name in names if name.name == given.name and name != given]
    if given.digest is None and all(name.digest is not None for name in others):
        return (given, *others)
    return (given,)


def _is_single(names: Sequence[references.Reference]) -> bool:
    tags = [name for name in names if name.digest is None]
    return len(tags) <= 1 and len({name.name for name in names}) <= 1


def _check_containers(image_id: str, users: Sequence[ImageUser], force: bool) -> None:
    for user in users:
        if user.is_running:
            reason = f"image is being used by running container {user.id[:12]}"
            raise _conflict(image_id, "cannot be forced", reason)
    if users and not force:
        raise _conflict(image_id, "must be forced", f"image is being used by stopped container {users[0].id[:12]}")


def _conflict(image_id: str, force: str, reason: str) -> errors.Conflict:
    return errors.Conflict(f"conflict: unable to delete {report.short_id(image_id)} ({force}) - {reason}")
