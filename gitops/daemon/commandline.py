"""The command line that a daemon with given settings is started by: in the background, and by a service manager."""

from __future__ import annotations

import sys

from gitops.config import EngineConfig


def words(config: EngineConfig, log_level: str) -> list[str]:
    """`… engine run …` by this very interpreter and its gitops, whatever PATH and the working directory say."""
    return [
        *(sys.executable, "-P", "-m", "gitops", "engine", "run"),
        *("--data-root", str(config.data_root)),
        *("--run-root", str(config.run_root)),
        *("--cgroup-parent", config.cgroup_parent),
        *("--log-level", log_level),
        *(word for host in config.hosts for word in ("--host", host)),
        *(word for name in config.insecure_registries for word in ("--insecure-registry", name)),
        *(word for address in config.registry_mirrors for word in ("--registry-mirror", address)),
        *_tls(config),
        *(["--allow-plain-tcp"] if config.allow_plain_tcp else []),
    ]


def _tls(config: EngineConfig) -> list[str]:
    if config.tls is None:
        return []
    files = ("--tlscacert", config.tls.ca), ("--tlscert", config.tls.certificate), ("--tlskey", config.tls.key)
    return ["--tlsverify", *(word for name, path in files for word in (name, str(path)))]
