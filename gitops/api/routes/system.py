"""Ping, version, info, disk usage: what the engine says of itself."""

from __future__ import annotations

import platform
import time
from typing import Any

from aiohttp import web
from msgspec.structs import replace

import gitops
from gitops import config, errors
from gitops.api import answers, hostfacts, middleware
from gitops.api.context import engine_of, swarm_of
from gitops.engine.engine import Engine
from gitops.engine.networks import ipam
from gitops.objects import base, system

_USAGES = {"container", "image", "volume", "build-cache"}


async def ping(request: web.Request) -> web.Response:
    """The first call of every client; it negotiates by the headers."""
    headers = {
        "Builder-Version": "1",
        "Swarm": middleware.swarm_header(request.app),
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
    }
    text = None if request.method == "HEAD" else "OK"
    return web.Response(text=text, content_type="text/plain", charset="utf-8", headers=headers)


async def version(request: web.Request) -> web.Response:
    """Versions of the engine and of what it is made of."""
    details = {
        "ApiVersion": config.API_VERSION,
        "MinAPIVersion": config.MIN_API_VERSION,
        "Arch": hostfacts.architecture(),
        "Os": "linux",
        "KernelVersion": hostfacts.kernel(),
        # The CLI prints a line for each; Python's version stands where Docker has Go's.
        "GoVersion": f"python{platform.python_version()}",
        "GitCommit": "",
        "BuildTime": "",
        "Experimental": "false",
    }
    components = [system.Component("Engine", gitops.__version__, details)]
    components += [
        system.Component(name, text, {"GitCommit": ""})
        for name, text in (await engine_of(request).components()).items()
    ]
    return answers.json(
        system.EngineVersion(
            platform=system.PlatformName("gitops engine"),
            components=components,
            version=gitops.__version__,
            api_version=config.API_VERSION,
            min_api_version=config.MIN_API_VERSION,
            go_version=details["GoVersion"],
            arch=details["Arch"],
            kernel_version=details["KernelVersion"],
        )
    )


async def info(request: web.Request) -> web.Response:
    """The engine's state: counts, drivers, the swarm, and what to know about this host."""
    engine = engine_of(request)
    return answers.json(_host(engine) | _counts(engine) | _drivers(engine) | {"Swarm": swarm_of(request).info()})


def _counts(engine: Engine) -> dict[str, Any]:
    states = [item.state for item in engine.containers.list(all=True)]
    paused = states.count("paused")
    running = states.count("running")
    return {
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(states) - running - paused,
        "Images": len(engine.images.list(all=True)),
    }


def _host(engine: Engine) -> dict[str, Any]:
    return {
        "ID": engine.id,
        "Name": hostfacts.hostname(),
        "ServerVersion": gitops.__version__,
        "OperatingSystem": hostfacts.operating_system(),
        "OSType": "linux",
        "OSVersion": "",
        "Architecture": hostfacts.machine(),
        "KernelVersion": hostfacts.kernel(),
        "NCPU": hostfacts.cpus(),
        "MemTotal": hostfacts.memory_bytes(),
        "SystemTime": base.format_time(time.time_ns()),
        "DockerRootDir": str(engine.config.data_root),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": hostfacts.cgroup_version(),
        "MemoryLimit": hostfacts.has_controller("memory"),
        "SwapLimit": hostfacts.has_controller("memory"),
        "CpuCfsPeriod": hostfacts.has_controller("cpu"),
        "CpuCfsQuota": hostfacts.has_controller("cpu"),
        "CPUShares": hostfacts.has_controller("cpu"),
        "CPUSet": hostfacts.has_controller("cpuset"),
        "PidsLimit": hostfacts.has_controller("pids"),
        "OomKillDisable": False,
        "IPv4Forwarding": hostfacts.ip_forwarding(),
        "Debug": False,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": False,
        "LiveRestoreEnabled": True,
        "Warnings": engine.warnings(),
    }


def _drivers(engine: Engine) -> dict[str, Any]:
    return {
        "Driver": "overlay2",
        "DriverStatus": [["Backing store", str(engine.config.data_root)], ["Instance", engine.config.instance]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null", "overlay"],
            "Authorization": None,
            "Log": ["json-file"],
        },
        "LoggingDriver": "json-file",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(engine),
        "Runtimes": {"crun": {"path": "crun"}},
        "DefaultRuntime": "crun",
        "InitBinary": "docker-init",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "GenericResources": None,
        "DefaultAddressPools": [{"Base": pool, "Size": ipam.CUT_PREFIX} for pool in engine.config.local_pools],
    }


def _registries(engine: Engine) -> dict[str, Any]:
    named, mirrors = engine.config.insecure_registries, list(engine.config.registry_mirrors)
    hub = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
    others = {
        name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False} for name in named if "/" not in name
    }
    return {
        "AllowNondistributableArtifactsCIDRs": None,
        "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *(name for name in named if "/" in name)],
        "IndexConfigs": {"docker.io": hub, **others},
        "Mirrors": mirrors or None,
    }


async def disk_usage(request: web.Request) -> web.Response:
    """`docker system df`: what there is of each kind, with the bytes that it takes."""
    engine = engine_of(request)
    kinds = set(request.query.getall("type", [])) or _USAGES
    if unknown := kinds - _USAGES:
        raise errors.Invalid(f"unknown object type: {min(unknown)}")
    found: dict[str, Any] = {"BuildCache": []} if "build-cache" in kinds else {}
    if "image" in kinds:
        found |= {"LayersSize": engine.images.usage().layers_bytes, "Images": engine.images.list(has_use=True)}
    if "container" in kinds:
        found["Containers"] = [
            replace(item, size_rw=own, size_root_fs=whole)
            for item in engine.containers.list(all=True)
            for own, whole in [await engine.containers.trees.sizes(item.id)]
        ]
    if "volume" in kinds:
        found["Volumes"] = [
            base.to_builtins(volume) | {"UsageData": {"Size": size, "RefCount": users}}
            for volume, size, users in await engine.volumes.usage()
        ]
    return answers.json(found)


ROUTES = [
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/system/df", disk_usage),
]
