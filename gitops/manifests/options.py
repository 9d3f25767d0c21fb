"""What the operator, not the manifest, decides about a load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Values for templates, and what a manifest may ask of this host."""

    env: str = ""
    """`values.<env>.yaml` is laid over `values.yaml`."""
    sets: tuple[str, ...] = ()
    """`a.b=c`, laid over the values files; the value is a YAML scalar."""
    root: Path | None = None
    """The repository that manifests may read files of; None: the git work tree around a path, else the path itself."""
    allow_host: bool = True
    """Whether bind mounts and secrets from the environment are allowed: yes by hand, no for `watch --repo`."""
    allow_host_paths: tuple[Path, ...] = ()
    """What may be read outside the repository, and bind-mounted even where `allow_host` says no."""
    secret_key: bytes = b""
    """Names of secrets carry an HMAC of their value under this key. Empty: a key of this process, so that names are
    good for this process only."""
    environ: Mapping[str, str] | None = None
    """Where `environment:` of secrets and configs looks; None: this process's, if `allow_host`."""
    opens_sops: bool = True
    """Whether files encrypted with SOPS are decrypted, by the operator's age keys. Otherwise what they hold stays
    unknown: good for checking manifests, not for comparing them with anything."""
    reads_secrets: bool = True
    """Whether the values of Secrets are read at all. Otherwise they stay unknown, and needn't be there."""
    compose_files: tuple[str, ...] = ()
    """Compose files to lay over each other, in order, relative to the path; empty: those of Compose's own names."""
    profiles: tuple[str, ...] = ()
    """Active profiles of Compose files; empty: those of COMPOSE_PROFILES."""
    env_files: tuple[str, ...] = ()
    """Files of variables for Compose files, in place of the `.env` beside each, where they are looked for too."""
    project_name: str = ""
    """The stack of Compose files, in place of what they say and of their directory's name."""
    only_checks: bool = False
    """Whether the set is only asked whether it is valid: services are then left without canonical form and hash."""
