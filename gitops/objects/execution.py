"""Processes that are run in a container beside its first one, as the API takes and shows them."""

from __future__ import annotations

import msgspec

from gitops.objects.base import Full, Wire


class ExecCreate(Wire, frozen=True):
    """The body of POST /containers/{id}/exec. `console_size` is height and width, in characters."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    tty: bool = False
    console_size: list[int] | None = None
    env: list[str] | None = None
    cmd: list[str] | None = None
    privileged: bool = False
    user: str = ""
    working_dir: str = ""


class ExecStart(Wire, frozen=True):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class ProcessConfig(Full, frozen=True):
    """What an exec runs."""

    tty: bool = msgspec.field(name="tty", default=False)
    entrypoint: str = msgspec.field(name="entrypoint", default="")
    arguments: list[str] = msgspec.field(name="arguments", default_factory=list)
    privileged: bool = msgspec.field(name="privileged", default=False)
    user: str = msgspec.field(name="user", default="")


class ExecInspect(Full, frozen=True):
    """GET /exec/{id}/json. `exit_code` is None until it has ended."""

    id: str = msgspec.field(name="ID")
    running: bool
    exit_code: int | None
    process_config: ProcessConfig
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str = msgspec.field(name="ContainerID")
    detach_keys: str = ""
    pid: int = 0
