"""What appears in a service's containers: mounts, secrets, configs, each at a place of its own."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from msgspec.structs import replace
from pydantic_core import PydanticCustomError

from gitops.manifests.catalog import Catalog, Item, owner_labels
from gitops.manifests.convert.storage import host_refusal
from gitops.manifests.kinds import mounts as kind
from gitops.manifests.kinds import values
from gitops.manifests.kinds.findings import found_by, problem
from gitops.manifests.kinds.service import ServiceSpec
from gitops.manifests.problems import Issue
from gitops.manifests.text.fieldpath import Path
from gitops.objects import labels
from gitops.objects.mount import BindOptions, Mount, TmpfsOptions, VolumeDriver, VolumeOptions
from gitops.objects.service import ConfigReference, FileTarget, SecretReference

_SECRETS = "/run/secrets"
_FILE_MODE = 0o444


@dataclass(slots=True)
class Targets:
    """Builds them, and notices when two go to one place."""

    catalog: Catalog
    item: Item
    _seen: dict[str, Path] = field(default_factory=dict)

    def mounts(self, spec: ServiceSpec, needs: list[tuple[str, str]]) -> list[Mount]:
        """Volumes, binds and tmpfs."""
        result = []
        for index, mount in enumerate(spec.volumes or ()):
            path: Path = ("spec", "volumes", index)
            self._take(mount.target, path)
            if mount.type == "volume":
                result.append(self._volume(mount, path, needs))
            elif mount.type == "bind":
                result.append(self._bind(mount, path))
            else:
                size, mode = (mount.tmpfs.size, mount.tmpfs.mode) if mount.tmpfs else (None, None)
                result.append(_tmpfs(mount.target, bool(mount.read_only), size, mode))
        for index, text in enumerate(spec.tmpfs or ()):
            mounted = self._short_tmpfs(text, ("spec", "tmpfs", index))
            if mounted is not None:
                result.append(mounted)
        return result

    def secrets(self, spec: ServiceSpec, needs: list[tuple[str, str]]) -> list[SecretReference]:
        """Secrets, by default under /run/secrets."""
        result = []
        for index, use in enumerate(spec.secrets or ()):
            name = self._file(use, "Secret", ("spec", "secrets", index), _SECRETS, needs)
            if name:
                result.append(SecretReference(file=_target(use), secret_name=name))
        return result

    def configs(self, spec: ServiceSpec, needs: list[tuple[str, str]]) -> list[ConfigReference]:
        """Configs, by default at the root."""
        result = []
        for index, use in enumerate(spec.configs or ()):
            name = self._file(use, "Config", ("spec", "configs", index), "/", needs)
            if name:
                result.append(ConfigReference(file=_target(use), config_name=name))
        return result

    def _file(self, use: kind.FileUseFields, what: str, path: Path, below: str, needs: list[tuple[str, str]]) -> str:
        self._take(posixpath.join(below, use.target or use.source), path)
        found = self.catalog.find(what, self.item, use.source, (*path, "source"))
        if found is None or not found.engine_name:
            return ""
        needs.append((what, found.engine_name))
        return found.engine_name

    def _take(self, target: str, path: Path) -> None:
        normal = posixpath.normpath(target)
        first = self._seen.setdefault(normal, path)
        if first != path:
            hint = f"{first[1]}[{first[2]}] is there already"
            self.catalog.report(self.item, Issue(path, f"{normal!r} is given twice", hint))

    def _volume(self, mount: kind.MountFields, path: Path, needs: list[tuple[str, str]]) -> Mount:
        given = mount.volume or kind.VolumeOptions()
        options = VolumeOptions(no_copy=bool(given.nocopy), subpath=given.subpath or "")
        source = ""
        if mount.source:
            found = self.catalog.find("Volume", self.item, mount.source, (*path, "source"))
            if found is not None:
                source = found.engine_name
                needs.append(("Volume", source))
                options = _volume_options(found, options)
        has_options = options != VolumeOptions()
        return Mount(
            type="volume",
            source=source,
            target=mount.target,
            read_only=bool(mount.read_only),
            volume_options=options if has_options else None,
        )

    def _bind(self, mount: kind.MountFields, path: Path) -> Mount:
        assert mount.source is not None
        refusal = host_refusal(self.catalog, mount.source)
        if refusal:
            self.catalog.report(self.item, Issue((*path, "source"), *refusal))
        given = mount.bind or kind.BindOptions()
        options = BindOptions(
            # Engines take `readonly` only with what is the default, said.
            propagation=given.propagation or ("rprivate" if given.recursive == "readonly" else ""),
            non_recursive=given.recursive == "disabled",
            create_mountpoint=bool(given.create_host_path),
            read_only_non_recursive=given.recursive == "writable",
            read_only_force_recursive=given.recursive == "readonly",
        )
        return Mount(
            type="bind",
            source=mount.source,
            target=mount.target,
            read_only=bool(mount.read_only),
            bind_options=options if options != BindOptions() else None,
        )

    def _short_tmpfs(self, text: str, path: Path) -> Mount | None:
        """`/path[:size=64m,mode=1777]`."""
        target, _, options = text.partition(":")
        size = mode = None
        read_only = False
        try:
            values.absolute(target)
            for option in filter(None, options.split(",")):
                key, _, value = option.partition("=")
                if key == "size":
                    size = values.size(value)
                elif key == "mode":
                    mode = values.mode(value)
                elif key in ("ro", "rw"):
                    read_only = key == "ro"
                else:
                    raise problem(f"the option {key!r} of a tmpfs is not supported yet", "size and mode")
        except PydanticCustomError as error:
            for reason, hint, _, _ in found_by(error.context):
                self.catalog.report(self.item, Issue(path, reason, hint))
            return None
        self._take(target, path)
        return _tmpfs(target, read_only, size, mode)


def _tmpfs(target: str, read_only: bool, size: int | None, mode: int | None) -> Mount:
    options = TmpfsOptions(size_bytes=size or 0, mode=mode or 0)
    return Mount(
        type="tmpfs",
        target=target,
        read_only=read_only,
        tmpfs_options=options if options != TmpfsOptions() else None,
    )


def _volume_options(found: Item, given: VolumeOptions) -> VolumeOptions:
    """What a node needs to make the volume by itself, when the first task that uses it comes to it."""
    from gitops.manifests.kinds.storage import Volume, VolumeSpec

    if found.is_external or not isinstance(found.model, Volume):
        return given
    spec = found.model.spec or VolumeSpec()
    return replace(
        given,
        labels=_volume_labels(found, (found.model.metadata.labels or {}) | (spec.labels or {})),
        driver_config=VolumeDriver("local", dict(spec.driver_opts)) if spec.driver_opts else None,
    )


def _volume_labels(found: Item, own: dict[str, str]) -> dict[str, str]:
    """The labels of a volume that is made for a task. Changing them restarts tasks, so they tell neither that it moved
    nor that it is protected."""
    stack = found.moved_from or found.stack
    plain = {key: value for key, value in own.items() if key != labels.PROTECT}
    return plain | owner_labels("Volume", stack, found.name)


def _target(use: kind.FileUseFields) -> FileTarget:
    return FileTarget(
        name=use.target or use.source,
        uid=use.uid or "0",
        gid=use.gid or "0",
        mode=_FILE_MODE if use.mode is None else use.mode,
    )
