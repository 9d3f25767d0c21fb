"""What is mounted into a container: short binds, long mounts, tmpfs and the image's volumes as one list. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

import msgspec

from gitops import errors
from gitops.engine.containers.record import MountRecord
from gitops.objects.container import ContainerConfig, HostConfig, VolumeCreate
from gitops.objects.mount import BindOptions, Mount

_PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_IGNORED_MODES = frozenset({"z", "Z", "consistent", "cached", "delegated"})
_IN_PROC = re.compile(
    r"/proc/(cpuinfo|diskstats|meminfo|stat|swaps|uptime|loadavg|slabinfo|net/dev|sys/kernel/ns_last_pid"
    r"|sys/crypto/fips_enabled)"
)
"""What runc allows."""
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
TMPFS_OPTIONS = re.compile(
    r"(ro|rw|exec|noexec|suid|nosuid|dev|nodev|sync|async|dirsync|atime|noatime|diratime|nodiratime|relatime|norelatime"
    r"|strictatime|nostrictatime|(size|nr_blocks|nr_inodes)=[0-9]+[kKmMgG%]?|mode=[0-7]{1,4}|uid=[0-9]+|gid=[0-9]+)"
)


def plan(
    config: ContainerConfig, host: HostConfig, anonymous: Callable[[], str], inherited: Sequence[MountRecord] = ()
) -> list[MountRecord]:
    """All mounts of a container, by target; `anonymous` gives a name for a volume without one.

    `inherited` are those of other containers (`--volumes-from`); the container's own win over them.

    Raises:
        errors.Invalid: a bad one, or two at one target. errors.Unsupported: a type that isn't here.
    """
    explicit = [parse_bind(text, anonymous) for text in host.binds or ()]
    explicit += [_from_mount(mount, anonymous) for mount in host.mounts or ()]
    explicit += [_from_tmpfs(target, options) for target, options in (host.tmpfs or {}).items()]
    found: dict[str, MountRecord] = {}
    for mount in explicit:
        if mount.target in found:
            raise errors.Invalid(f"Duplicate mount point: {mount.target}")
        found[mount.target] = mount
    # Of two containers with a volume at one place the last one's counts, as with Docker.
    found = {**{mount.target: mount for mount in inherited}, **found}
    for target in config.volumes or ():
        clean = clean_target(target)
        if clean not in found:
            found[clean] = MountRecord(type="volume", source=anonymous(), target=clean, is_anonymous=True)
    # Outer before inner, or the outer one would hide the inner one.
    return sorted(found.values(), key=lambda mount: (mount.target.count("/"), mount.target))


def inherit(mounts: Sequence[MountRecord], mode: str) -> list[MountRecord]:
    """Another container's volumes and binds, for `--volumes-from NAME:mode`.

    Raises:
        errors.Invalid: no such mode.
    """
    words = set(mode.split(",")) - {""}
    if words - _IGNORED_MODES - {"ro", "rw"} or {"ro", "rw"} <= words:
        raise errors.Invalid(f'invalid mode: "{mode}"')
    return [
        msgspec.structs.replace(mount, read_only=mount.read_only or "ro" in words, copies=False)
        for mount in mounts
        if mount.type in ("volume", "bind")
    ]


def parse_bind(text: str, anonymous: Callable[[], str]) -> MountRecord:
    """`source:target[:mode]`, or `target` alone for an anonymous volume."""
    if "\0" in text:
        raise errors.Invalid(f"invalid volume specification: {text!r}")
    parts = text.split(":")
    if len(parts) == 1:
        return MountRecord(type="volume", source=anonymous(), target=clean_target(text), is_anonymous=True)
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise errors.Invalid(f"invalid volume specification: '{text}'")
    mode = parts[2] if len(parts) == 3 else ""
    words = set(mode.split(",")) - {""}
    spread = words & _PROPAGATIONS
    if words - _PROPAGATIONS - _IGNORED_MODES - {"ro", "rw", "nocopy"} or len(spread) > 1 or {"ro", "rw"} <= words:
        raise errors.Invalid(f"invalid mode: {mode}")
    if parts[0].startswith("/"):
        return MountRecord(
            type="bind",
            source=posixpath.normpath(parts[0]),
            target=clean_target(parts[1]),
            read_only="ro" in words,
            propagation=spread.pop() if spread else "",
            makes_source=True,
            mode=mode,
        )
    if spread:
        raise errors.Invalid(f"invalid volume specification: '{text}': a volume takes no propagation")
    _check_volume(parts[0], text)
    return MountRecord(
        type="volume",
        source=parts[0],
        target=clean_target(parts[1]),
        read_only="ro" in words,
        copies="nocopy" not in words,
        mode=mode or "z",
    )


def _from_mount(mount: Mount, anonymous: Callable[[], str]) -> MountRecord:
    makers = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs}
    kind = mount.type or "volume"
    if kind not in makers:
        raise errors.Unsupported(f'mount type "{kind}" is not supported: use bind, volume or tmpfs')
    if not mount.target:
        raise errors.Invalid(f'invalid mount config for type "{kind}": field Target must not be empty')
    for option, owner in (
        (mount.bind_options, "bind"),
        (mount.volume_options, "volume"),
        (mount.tmpfs_options, "tmpfs"),
    ):
        if option is not None and owner != kind:
            raise errors.Invalid(
                f'invalid mount config for type "{kind}": field {owner.title()}Options must not be specified'
            )
    return makers[kind](mount, anonymous)


def _bind(mount: Mount, _: Callable[[], str]) -> MountRecord:
    options = mount.bind_options
    if not mount.source:
        raise errors.Invalid('invalid mount config for type "bind": field Source must not be empty')
    if not mount.source.startswith("/") or "\0" in mount.source:
        raise errors.Invalid(
            f"invalid mount config for type \"bind\": invalid mount path: '{mount.source}' mount path must be absolute"
        )
    if options and options.propagation and options.propagation not in _PROPAGATIONS:
        raise errors.Invalid(f'invalid mount config for type "bind": invalid propagation mode: {options.propagation}')
    deep = _deep(mount, options) if options else ""
    return MountRecord(
        type="bind",
        source=posixpath.normpath(mount.source),
        target=clean_target(mount.target),
        read_only=mount.read_only,
        propagation=options.propagation if options else "",
        is_recursive=not (options and options.non_recursive),
        makes_source=bool(options and options.create_mountpoint),
        deep=deep,
    )


def _deep(mount: Mount, options: BindOptions) -> str:
    refused = 'invalid mount config for type "bind": '
    if options.read_only_force_recursive and options.read_only_non_recursive:
        raise errors.Invalid(f"{refused}ReadOnlyForceRecursive and ReadOnlyNonRecursive can't both be set")
    if options.read_only_force_recursive and not mount.read_only:
        raise errors.Invalid(f"{refused}mount must be read-only for ReadOnlyForceRecursive")
    if options.read_only_force_recursive and options.propagation != "rprivate":
        raise errors.Invalid(f"{refused}ReadOnlyForceRecursive can only be set with propagation rprivate")
    if options.read_only_force_recursive:
        return "force"
    return "off" if options.read_only_non_recursive else ""


def _volume(mount: Mount, anonymous: Callable[[], str]) -> MountRecord:
    options = mount.volume_options
    if mount.source:
        _check_volume(mount.source, mount.source)
    driver = options.driver_config if options else None
    subpath = options.subpath if options else ""
    if subpath and not mount.source:
        raise errors.Invalid(
            'invalid mount config for type "volume": must not set Subpath when using anonymous volumes'
        )
    if subpath.startswith("/") or "\0" in subpath or ".." in subpath.split("/"):
        raise errors.Invalid(
            'invalid mount config for type "volume": subpath must be a relative path within the volume'
        )
    return MountRecord(
        type="volume",
        source=mount.source or anonymous(),
        target=clean_target(mount.target),
        read_only=mount.read_only,
        copies=not (options and options.no_copy),
        is_anonymous=not mount.source,
        subpath=subpath,
        volume_driver=driver.name if driver else "",
        volume_options=driver.options if driver else {},
        volume_labels=options.labels if options else {},
    )


def _tmpfs(mount: Mount, _: Callable[[], str]) -> MountRecord:
    if mount.source:
        raise errors.Invalid('invalid mount config for type "tmpfs": field Source must not be specified')
    options = mount.tmpfs_options
    words = ["ro"] if mount.read_only else []
    if options and options.size_bytes:
        words.append(f"size={options.size_bytes}")
    if options and options.mode:
        words.append(f"mode={options.mode:o}")
    return MountRecord(
        type="tmpfs", target=clean_target(mount.target), read_only=mount.read_only, options=",".join(words)
    )


def _from_tmpfs(target: str, options: str) -> MountRecord:
    for word in options.split(",") if options else ():
        if not TMPFS_OPTIONS.fullmatch(word):
            raise errors.Invalid(f"invalid tmpfs option {word!r}")
    return MountRecord(type="tmpfs", target=clean_target(target), read_only="ro" in options.split(","), options=options)


def clean_target(path: str) -> str:
    """A place in a container, in one form.

    Raises:
        errors.Invalid: not absolute, the root, or in /proc, where a mount could make the process believe anything of
            itself; runc, and so Docker, lets in only what some tools (lxcfs) put there.
    """
    if not path.startswith("/") or "\0" in path:
        raise errors.Invalid(f"invalid mount path: '{path}' mount path must be absolute")
    # normpath keeps two leading slashes, which POSIX lets mean something else.
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if clean == "/":
        raise errors.Invalid("invalid specification: destination can't be '/'")
    if f"{clean}/".startswith("/proc/") and not _IN_PROC.fullmatch(clean):
        raise errors.Invalid(f"invalid mount path: '{path}' cannot be mounted because it is inside /proc")
    return clean


def _check_volume(name: str, text: str) -> None:
    if not _VOLUME_NAME.fullmatch(name):
        raise errors.Invalid(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def volumes(records: Sequence[MountRecord]) -> list[MountRecord]:
    """The mounts that are volumes."""
    return [record for record in records if record.type == "volume"]


def declaration(mount: MountRecord) -> VolumeCreate:
    """The volume of a mount, as it is to be where it isn't there yet."""
    return VolumeCreate(
        name=mount.source,
        driver=mount.volume_driver or "local",
        driver_opts=mount.volume_options or None,
        labels=mount.volume_labels or None,
    )
