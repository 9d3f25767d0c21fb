"""Bringing a container up, and taking down what a run of it left: file system, network, volumes, bundle, process.

Promises: `launch` either returns with a process that waits to be let go, or raises and leaves nothing behind.
`take_down` is idempotent and goes on after a step that fails, so that a later sweep has less to do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine import mountinfo
from gitops.engine import networks as net
from gitops.engine.containers import (
    capabilities,
    copyup,
    creation,
    devices,
    host,
    hostfiles,
    places,
    processes,
    rootfs,
    sharing,
    spec,
    subpaths,
    users,
)
from gitops.engine.containers.boundary import Images
from gitops.engine.containers.cgroups import Groups
from gitops.engine.containers.injected import InjectedFiles
from gitops.engine.containers.logs import LOG_NAME
from gitops.engine.containers.record import ContainerRecord, Run
from gitops.engine.containers.runtime import Launch, Runtime
from gitops.engine.containers.seccomp import SeccompCache
from gitops.engine.volumes import VolumeService
from gitops.objects.container import EndpointSettings, PortBinding

T = TypeVar("T")

logger = logging.getLogger(__name__)

INIT_PROGRAM = Path("/usr/bin/tini-static")
_ETC_FILES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}


@dataclass(frozen=True, slots=True)
class Launched:
    """What a start brought."""

    run: Run
    attached: dict[str, EndpointSettings] = field(default_factory=dict)
    sandbox: str = ""
    gateway_address: str = ""
    ports: dict[str, list[PortBinding]] = field(default_factory=dict)


class Launcher:
    """The steps of a start and of its undoing."""

    def __init__(
        self,
        config: EngineConfig,
        runtime: Runtime,
        images: Images,
        networks: net.NetworkService,
        volumes: VolumeService,
        files: InjectedFiles,
    ) -> None:
        self._folder = config.data_root / "containers"
        self._seccomp_folder = config.data_root / "seccomp"
        self._runtime = runtime
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._files = files
        self.slots = asyncio.Semaphore(max(2, min(4, 2 * (os.cpu_count() or 1))))
        """Runs of the OCI runtime that start a process: more at a time only take longer each."""
        # Threads of our own: a slow disk here must not hold up what else the process does in threads.
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="containers")

    def prepare(self, groups: Groups) -> None:
        """Read what the host allows, once it is prepared."""
        self.groups = groups
        self.limits = host.limits(groups)
        self._seccomp = SeccompCache(self._seccomp_folder, self._runtime.version)
        self._seccomp.load()

    def close(self) -> None:
        """Give the threads back."""
        self._threads.shutdown(wait=False)

    def folder(self, container: str) -> Path:
        """The container's directory on the disk."""
        return self._folder / container

    def root(self, container: str) -> Path:
        """Where its root file system is mounted while it runs."""
        return self._runtime.bundle(container) / "rootfs"

    def log_folder(self, container: str) -> Path:
        """Where its log files are."""
        return self._folder / container / "log"

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        """Run something that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(function, *args))

    async def launch(self, record: ContainerRecord, peer: Callable[[str], ContainerRecord]) -> Launched:
        """Bring the container up as far as that only `let_go` is missing; `peer` finds whose network it shares.

        Raises:
            errors.GitopsError: nothing of the attempt is left.
        """
        try:
            return await self._launch(record, peer)
        except BaseException:
            await self.take_down(record)
            raise

    async def let_go(self, record: ContainerRecord) -> None:
        """Let the process of a launched container run.

        Raises:
            errors.GitopsError: it can't; nothing of the attempt is left.
        """
        try:
            await self._runtime.let_go(record.id)
        except BaseException:
            await self.take_down(record)
            raise

    async def _launch(self, record: ContainerRecord, peer: Callable[[str], ContainerRecord]) -> Launched:
        bundle = self._runtime.bundle(record.id)
        await self.take_down(record)
        self._runtime.exits.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The network and the file system know nothing of each other: side by side, and both to their end, so that
        # nothing is still being made while what is there is taken down.
        networked, mounted = await asyncio.gather(
            self._network(record, peer), self._file_system(record), return_exceptions=True
        )
        if isinstance(networked, BaseException):
            raise networked
        if isinstance(mounted, BaseException):
            raise mounted
        path, sandbox = networked
        identity, binds = mounted
        binds = self._etc(record, sandbox, peer) + binds
        around, seccomp_key = self._surroundings(record, identity, binds, path)
        # Threads only where there is something to do: a start is a matter of milliseconds.
        wanted = record.host_config
        joined = sharing.Joined() if sharing.is_alone(wanted) else await self.in_thread(self._join, record, peer)
        found = await self.in_thread(devices.find, wanted) if devices.are_asked_for(wanted) else devices.Devices()
        if record.host_config.privileged:
            found = dataclasses.replace(found, nodes=[*await self.in_thread(host.all_devices), *found.nodes])
        around = dataclasses.replace(around, devices=found, joined=joined)
        (bundle / "config.json").write_text(json.dumps(spec.build(places.named(record, peer), around)))
        async with self.slots:
            pid = await self._runtime.create(self._conmon(record))
        self._keep_seccomp(record.id, around, seccomp_key)
        ports = await self.publish(record)
        return Launched(
            run=Run(pid=pid, start_ticks=processes.start_ticks(pid) or 0, boot_id=processes.boot_id()),
            attached=dict(sandbox.endpoints) if sandbox else {},
            sandbox=str(sandbox.path) if sandbox else "",
            gateway_address=(sandbox.gateway_address or "") if sandbox else "",
            ports=ports,
        )

    async def _network(
        self, record: ContainerRecord, peer: Callable[[str], ContainerRecord]
    ) -> tuple[str | None, net.Sandbox | None]:
        mode = record.host_config.network_mode
        if mode == "host":
            return None, None
        if mode == "none":
            return "", None
        if sharing.donor(mode):
            return places.namespace(peer(sharing.donor(mode)), "net", "network"), None
        sandbox = await self._networks.create_sandbox(
            record.id,
            [places.attachment(name, settings) for name, settings in record.endpoints.items()],
            gateway_leg=record.gateway_leg,
            name=record.short_name,
            hostname=record.config.hostname,
            dns=net.DNSOptions(
                nameservers=tuple(record.host_config.dns or ()),
                search=tuple(record.host_config.dns_search or ()),
                options=tuple(record.host_config.dns_options or ()),
            ),
        )
        return str(sandbox.path), sandbox

    def _join(self, record: ContainerRecord, peer: Callable[[str], ContainerRecord]) -> sharing.Joined:
        """The namespaces that it shares; its own /dev/shm is made here where others may share that."""
        wanted = record.host_config
        paths: dict[str, str | None] = {}
        shm = ""
        if wanted.uts_mode == sharing.HOST:
            paths["uts"] = None
        if wanted.pid_mode == sharing.HOST:
            paths["pid"] = None
        elif sharing.donor(wanted.pid_mode):
            paths["pid"] = places.namespace(peer(sharing.donor(wanted.pid_mode)), "pid", "PID namespace")
        if wanted.ipc_mode == sharing.HOST:
            paths["ipc"], shm = None, "/dev/shm"
        elif wanted.ipc_mode == sharing.SHAREABLE:
            shm = str(self._shm(record.id))
            rootfs.mount_shm(Path(shm), wanted.shm_size)
        elif sharing.donor(wanted.ipc_mode):
            other = peer(sharing.donor(wanted.ipc_mode))
            paths["ipc"] = places.namespace(other, "ipc", "IPC namespace")
            if other.host_config.ipc_mode != sharing.SHAREABLE:
                raise errors.Invalid(
                    f"cannot join IPC namespace of container {other.id}: non-shareable IPC (hint: use "
                    "IpcMode:shareable for the donor container)"
                )
            shm = str(self._shm(other.id))
        return sharing.Joined(paths, shm)

    def _shm(self, container: str) -> Path:
        return self._runtime.bundle(container) / "shm"

    async def _file_system(self, record: ContainerRecord) -> tuple[users.Identity, list[spec.Bind]]:
        sources = {
            mount.source: await self._volumes.acquire(mount.source, record.id)
            for mount in record.mounts
            if mount.type == "volume"
        }
        layers = self._images.layers(record.image_id)
        return await self.in_thread(self._mount_now, record, layers, sources)

    def _mount_now(
        self, record: ContainerRecord, layers: Sequence[Path], sources: dict[str, Path]
    ) -> tuple[users.Identity, list[spec.Bind]]:
        bundle, folder = self._runtime.bundle(record.id), self.folder(record.id)
        bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log_folder(record.id).mkdir(mode=0o700, parents=True, exist_ok=True)
        root = bundle / "rootfs"
        is_passing = record.host_config.auto_remove
        rootfs.mount_overlay(layers, folder / "diff", folder / "work", root, is_passing=is_passing)
        identity = users.resolve(root, record.config.user, record.host_config.group_add or ())
        binds = [self._file_bind(record, number) for number in range(len(record.files))]
        for mount in record.mounts:
            if mount.type == "volume":
                source = sources[mount.source]
                if mount.subpath:
                    source = subpaths.mount(source, mount.subpath, bundle / "subpaths" / str(len(binds)))
                elif mount.copies and not record.is_filled:
                    copyup.fill_volume(root, mount.target, source)
                is_folder = source.is_dir()
                binds.append(spec.Bind(str(source), mount.target, mount.read_only, is_recursive=is_folder))
            elif mount.type == "bind":
                binds.append(places.bind(mount, self.limits))
        return identity, binds

    def _file_bind(self, record: ContainerRecord, number: int) -> spec.Bind:
        file = record.files[number]
        return spec.Bind(str(self._files.path(record.id, file)), file.path, read_only=True, is_recursive=False)

    def _etc(
        self, record: ContainerRecord, sandbox: net.Sandbox | None, peer: Callable[[str], ContainerRecord]
    ) -> list[spec.Bind]:
        folder, wanted, config = self.folder(record.id), record.host_config, record.config
        if sharing.donor(wanted.network_mode):
            # Whoever shares a network shares what says who is where on it.
            return self._etc_binds(record, self.folder(peer(sharing.donor(wanted.network_mode)).id))
        endpoints = list(sandbox.endpoints.values()) if sandbox else []
        servers = [net.RESOLVER] if sandbox else list(wanted.dns or ())
        own = _read("/etc/resolv.conf")
        texts = {
            "hosts": hostfiles.hosts(
                config.hostname,
                config.domainname,
                [endpoint.ip_address for endpoint in endpoints],
                wanted.extra_hosts or (),
                next((endpoint.gateway for endpoint in endpoints if endpoint.gateway), self._bridge_gateway()),
            ),
            "hostname": f"{config.hostname}\n",
            "resolv.conf": hostfiles.from_host(own, servers, wanted.dns_search or (), wanted.dns_options or ()),
        }
        if wanted.network_mode == "host":
            extra = hostfiles.extra_lines(wanted.extra_hosts or (), self._bridge_gateway())
            texts["hosts"] = "\n".join([_read("/etc/hosts"), *extra, ""])
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        return self._etc_binds(record, folder)

    def _etc_binds(self, record: ContainerRecord, folder: Path) -> list[spec.Bind]:
        taken = {mount.target for mount in record.mounts}
        return [
            spec.Bind(str(folder / name), target, is_recursive=False)
            for name, target in _ETC_FILES.items()
            if target not in taken
        ]

    def _bridge_gateway(self) -> str:
        """The host's address on the default bridge: what `host-gateway` means where no other network tells."""
        try:
            pools = self._networks.get("bridge").ipam.config or ()
        except errors.NotFound:
            return ""
        return next((pool.gateway for pool in pools if pool.gateway), "")

    def _surroundings(
        self, record: ContainerRecord, identity: users.Identity, binds: Sequence[spec.Bind], network: str | None
    ) -> tuple[spec.Surroundings, str]:
        wanted = record.host_config
        caps = capabilities.effective(
            wanted.cap_add or (), wanted.cap_drop or (), privileged=wanted.privileged, held=capabilities.held()
        )
        security = creation.security(wanted)
        key, rules, program = "", None, None
        if not wanted.privileged and security.seccomp != "unconfined":
            key, rules = self._seccomp.filter(caps, security.seccomp or None)
            program = self._seccomp.program(key) if self._runtime.is_crun else None
        around = spec.Surroundings(
            rootfs=str(self._runtime.bundle(record.id) / "rootfs"),
            cgroups_path=self.groups.path(record.id),
            identity=identity,
            capabilities=caps,
            seccomp_filter=rules,
            seccomp_program=program,
            no_new_privileges=security.no_new_privileges,
            network=network,
            binds=binds,
            limits=self.limits,
            init=str(INIT_PROGRAM) if wanted.init else "",
        )
        return around, key

    def _keep_seccomp(self, container: str, around: spec.Surroundings, key: str) -> None:
        if around.seccomp_filter is not None and around.seccomp_program is None and self._runtime.is_crun:
            program = self._runtime.compiled_seccomp(container)
            if program:
                self._seccomp.keep(key, program)

    def _conmon(self, record: ContainerRecord) -> Launch:
        log = record.host_config.log_config
        return Launch(
            container=record.id,
            name=record.short_name,
            bundle=self._runtime.bundle(record.id),
            log=None if log and log.type == "none" else self.log_folder(record.id) / LOG_NAME,
            has_tty=record.config.tty,
            has_stdin=record.config.open_stdin,
            stdin_once=record.config.stdin_once,
        )

    async def publish(self, record: ContainerRecord) -> dict[str, list[PortBinding]]:
        """Publish its ports; none where all its networks are internal, until it joins one that isn't.

        Raises:
            errors.Conflict: a port is taken. errors.Invalid: the host has no such address.
        """
        wanted = places.published_ports(record)
        if not wanted or not self._networks.leads_out(record.id):
            return {}
        shown: dict[str, list[PortBinding]] = {}
        for port in await self._networks.publish(record.id, wanted):
            binding = PortBinding(host_ip=port.host_ip or "0.0.0.0", host_port=str(port.host_port))
            shown.setdefault(f"{port.container_port}/{port.protocol}", []).append(binding)
        return shown

    async def process(self, record: ContainerRecord) -> dict[str, object]:
        """The `process` object of a running container, for one more process in it."""
        text = await self.in_thread((self._runtime.bundle(record.id) / "config.json").read_bytes)
        found: dict[str, object] = json.loads(text)["process"]
        return found

    async def take_down(self, record: ContainerRecord) -> None:
        """Remove everything that a run made, killing what still runs."""
        await self.take_down_id(record.id, [mount.source for mount in record.mounts if mount.type == "volume"])

    def adopt_volumes(self, record: ContainerRecord) -> None:
        """Note what a container holds that has run since before this start."""
        for mount in record.mounts:
            if mount.type == "volume":
                self._volumes.adopt(mount.source, record.id)

    async def take_down_id(self, container: str, volumes: Sequence[str] = ()) -> None:
        """`take_down` for a container of which only the id is known."""
        await self._try(container, self._stop_all(container))
        steps = [self._try(container, self._networks.remove_sandbox(container))]
        if self._runtime.bundle(container).exists():
            steps.append(self._try(container, self.in_thread(self._unmount, container)))
        await asyncio.gather(*steps)
        for volume in volumes:
            await self._try(container, self._volumes.release(volume, container))

    async def _stop_all(self, container: str) -> None:
        has_state = (self._runtime.state / container).exists()
        has_groups = any(self.groups.folders(container))
        if has_state and self.groups.processes(container):
            await self._runtime.delete(container)
            await self._runtime.await_conmon(container)
            has_groups = any(self.groups.folders(container))
        if has_groups and not await self.in_thread(self.groups.remove, container):
            raise errors.RuntimeFailure(f"cgroups of {container[:12]} are still in use")
        self._runtime.forget(container)

    def _unmount(self, container: str) -> None:
        bundle = self._runtime.bundle(container)
        rootfs.unmount_all(bundle)
        mountinfo.remove_tree(bundle)

    async def _try(self, container: str, step: Awaitable[object]) -> None:
        try:
            await step
        except (errors.GitopsError, OSError) as error:
            logger.warning("container %s: cleaning up: %s", container[:12], error)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
