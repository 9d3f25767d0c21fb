"""Who a container's process runs as: `user[:group]` by name or number, looked up in the image's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitops import errors
from gitops.engine.containers import rootfs

MAX_ID = 2**31 - 1
_FILE_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids of a process, and the home directory that its user has."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(root: Path, user: str, group_add: Sequence[str] = ()) -> Identity:
    """`user` and extra groups as ids, by the tree's /etc/passwd and /etc/group; blocks.

    Raises:
        errors.Invalid: a name that isn't there, or a number out of range.
    """
    with rootfs.opened(root) as top:
        return resolve_at(top, user, group_add)


def resolve_at(top: int, user: str, group_add: Sequence[str] = ()) -> Identity:
    """`resolve` in a tree whose root is open."""
    passwd = rootfs.read_file_at(top, "/etc/passwd", _FILE_LIMIT) or b""
    group = rootfs.read_file_at(top, "/etc/group", _FILE_LIMIT) or b""
    return identify(user, group_add, passwd.decode(errors="replace"), group.decode(errors="replace"))


def identify(user: str, group_add: Sequence[str], passwd: str, group: str) -> Identity:
    """The pure part of `resolve`, on the texts of the two files."""
    users = list(_users(passwd))
    groups = list(_groups(group))
    user_part, has_group, group_part = user.partition(":")
    entry, uid = _find_user(users, user_part or "0")
    gid = _find_group(groups, group_part) if has_group and group_part else entry.gid if entry else 0
    # The primary group is among the others, as in Docker since CVE-2022-36109: a file that is barred to a group must
    # not open itself to a process that gave its primary group away.
    extra = [gid]
    if entry and not (has_group and group_part):
        # As Docker: who names a group gets no others from the file.
        extra += [one.gid for one in groups if entry.name in one.members]
    extra += [_find_group(groups, name) for name in group_add]
    home = entry.home if entry and entry.home.startswith("/") else "/"
    return Identity(uid, gid, tuple(dict.fromkeys(extra)), home)


def _find_user(users: Sequence[_User], wanted: str) -> tuple[_User | None, int]:
    # A name that looks like a number is looked up as a name first, as Docker does.
    for user in users:
        if user.name == wanted:
            return user, user.uid
    number = _number(wanted)
    if number is None:
        raise errors.Invalid(f"unable to find user {wanted}: no matching entries in passwd file")
    return next((user for user in users if user.uid == number), None), number


def _find_group(groups: Sequence[_Group], wanted: str) -> int:
    for group in groups:
        if group.name == wanted:
            return group.gid
    number = _number(wanted)
    if number is None:
        raise errors.Invalid(f"unable to find group {wanted}: no matching entries in group file")
    return number


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit():
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise errors.Invalid(f"uids and gids must be in range 0-{MAX_ID}, {text} is not")
    return int(text)


def _users(text: str) -> Iterator[_User]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= 4 and fields[0] and _is_id(fields[2]) and _is_id(fields[3]):
            yield _User(fields[0], int(fields[2]), int(fields[3]), fields[5] if len(fields) > 5 else "")


def _groups(text: str) -> Iterator[_Group]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= 3 and fields[0] and _is_id(fields[2]):
            members = tuple(name for name in fields[3].split(",") if name) if len(fields) > 3 else ()
            yield _Group(fields[0], int(fields[2]), members)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_ID
