"""The system call filter: the profile cut to a container's capabilities, and its compiled form kept.

Compiling costs the runtime about 20 ms a container, and the result depends on the filtered profile alone. So the
program that crun leaves in its state directory is kept under a hash of all it depends on, and given to later
containers as an annotation. Where there is none yet, or the runtime isn't crun, the profile itself is given.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gitops import errors

logger = logging.getLogger(__name__)

PROFILE = Path("/usr/share/containers/seccomp.json")
"""Debian's package golang-github-containers-common; the list is Docker's."""
ANNOTATION = "run.oci.seccomp_bpf_data"
_ARCHITECTURES = {
    "x86_64": ("amd64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    "aarch64": ("arm64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
}


def filtered(profile: Mapping[str, Any], capabilities: Collection[str], machine: str) -> dict[str, Any]:
    """`profile` in the runtime's form: groups whose conditions don't hold for `capabilities` (`CAP_X`) are left out.

    A runtime ignores the conditions, and would apply every group of the raw file.
    """
    if machine not in _ARCHITECTURES:
        raise errors.Unsupported(f"no seccomp architecture is known for {machine}")
    arch, architectures = _ARCHITECTURES[machine]
    result: dict[str, Any] = {
        key: profile[key] for key in ("defaultAction", "defaultErrnoRet", "flags") if key in profile
    }
    result["architectures"] = architectures
    result["syscalls"] = [
        _rule(group) for group in profile.get("syscalls") or () if _applies(group, arch, set(capabilities))
    ]
    return result


def _applies(group: Mapping[str, Any], arch: str, capabilities: set[str]) -> bool:
    includes = group.get("includes") or {}
    excludes = group.get("excludes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if not set(includes.get("caps") or ()) <= capabilities:
        return False
    return arch not in (excludes.get("arches") or ()) and not capabilities & set(excludes.get("caps") or ())


def _rule(group: Mapping[str, Any]) -> dict[str, Any]:
    names = group.get("names") or ([group["name"]] if group.get("name") else [])
    rule: dict[str, Any] = {"names": list(names), "action": group["action"]}
    if group.get("args"):
        rule["args"] = group["args"]
    if group.get("errnoRet") is not None:
        rule["errnoRet"] = group["errnoRet"]
    return rule


class SeccompCache:
    """Filters ready for use, by capabilities, with their compiled form where one is kept."""

    def __init__(self, folder: Path, runtime_version: str, profile: Path = PROFILE) -> None:
        self._folder = folder
        self._profile = profile
        self._salt = f"{runtime_version}\n{platform.machine()}\n{platform.release()}\n"
        self._raw: dict[str, Any] | None = None
        self._keys: dict[frozenset[str], tuple[str, dict[str, Any]]] = {}
        self._programs: dict[str, str] = {}

    def load(self) -> None:
        """Read the profile and the programs that are kept.

        Raises:
            errors.RuntimeFailure: the profile is missing or damaged; without it no container would be confined.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._raw = json.loads(self._profile.read_bytes())
        except (OSError, ValueError) as error:
            raise errors.RuntimeFailure(
                f"can't read the seccomp profile {self._profile}: {error}; "
                "install the package golang-github-containers-common"
            ) from error
        for path in self._folder.glob("*.bpf"):
            self._programs[path.stem] = base64.b64encode(path.read_bytes()).decode()

    def filter(self, capabilities: Collection[str], profile: str | None = None) -> tuple[str, dict[str, Any]]:
        """A key and the filter of `capabilities`; `profile` is JSON that takes the default's place.

        Raises:
            errors.Invalid: `profile` isn't a seccomp profile.
        """
        if profile is not None:
            return self._keyed(_parsed(profile), capabilities)
        known = frozenset(capabilities)
        if known not in self._keys:
            if self._raw is None:
                self.load()
            self._keys[known] = self._keyed(self._raw or {}, capabilities)
        return self._keys[known]

    def program(self, key: str) -> str | None:
        """The compiled filter, base64, where one is kept."""
        return self._programs.get(key)

    def keep(self, key: str, program: bytes) -> None:
        """Keep what the runtime compiled; a failure to write costs time later, and nothing else."""
        if not program or len(program) % 8:
            return
        self._programs[key] = base64.b64encode(program).decode()
        partial = self._folder / f"{key}.{os.getpid()}.partial"
        try:
            partial.write_bytes(program)
            partial.rename(self._folder / f"{key}.bpf")
        except OSError as error:
            logger.warning("a compiled seccomp filter could not be kept: %s", error)

    def _keyed(self, profile: Mapping[str, Any], capabilities: Collection[str]) -> tuple[str, dict[str, Any]]:
        result = filtered(profile, capabilities, platform.machine())
        text = self._salt + json.dumps(result, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest(), result


class _Conditions(msgspec.Struct, omit_defaults=True):
    arches: list[str] | None = None
    caps: list[str] | None = None


class _Group(msgspec.Struct, omit_defaults=True):
    action: str
    names: list[str] | None = None
    name: str | None = None
    args: list[dict[str, Any]] | None = None
    includes: _Conditions | None = None
    excludes: _Conditions | None = None
    errno: int | None = msgspec.field(name="errnoRet", default=None)


class _Profile(msgspec.Struct, omit_defaults=True):
    default_action: str = msgspec.field(name="defaultAction")
    default_errno: int | None = msgspec.field(name="defaultErrnoRet", default=None)
    flags: list[str] | None = None
    syscalls: list[_Group] | None = None


def _parsed(text: str) -> dict[str, Any]:
    try:
        profile = json.loads(text)
        checked: dict[str, Any] = msgspec.to_builtins(msgspec.convert(profile, _Profile))
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise errors.Invalid(f"Decoding seccomp profile failed: {error}") from error
    return checked
