"""The engine as a service of the host: a systemd unit, enabled and started, and the group of those who may use it.

Promises: doing it twice changes nothing; what is missing is told before anything is changed; containers run on through
installation, change and removal; removal takes away what was made, and leaves the data unless it was told to.
"""

from __future__ import annotations

import grp
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gitops
from gitops import errors
from gitops.config import EngineConfig
from gitops.daemon import background, commandline, prerequisites, unit

UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, slots=True)
class Installation:
    """What an installation comes to."""

    path: Path
    """Of the unit."""
    text: str
    group: str
    """The group that is to be made; "" where it is there."""
    is_new: bool
    """Whether the unit isn't there yet."""
    is_changed: bool
    """Whether it says something else than the one that is there."""
    remarks: tuple[str, ...] = ()
    """What a person should know."""


def prepare(config: EngineConfig, *, log_level: str = "info") -> Installation:
    """What an installation would make; changes nothing, and needs neither root nor systemd.

    Raises:
        errors.Refused: a unit of that name is there, and isn't ours.
    """
    path = UNITS / unit.NAME
    former, made = _installed(path)
    has_group = _has_group(config.socket_group)
    is_ours = not has_group or (made is not None and made.has_group)
    text = unit.text(
        commandline.words(config, log_level), unit.Made(config.data_root, config.run_root, has_group=is_ours)
    )
    return Installation(
        path,
        text,
        group="" if has_group else config.socket_group,
        is_new=not former,
        is_changed=text != former,
        remarks=tuple(_remarks()),
    )


def install(config: EngineConfig, wanted: Installation) -> background.Status:
    """Make it so; how the engine is then.

    Raises:
        errors.Denied: not root. errors.Unsupported: this host isn't run by systemd. errors.Invalid: something is
            missing. errors.RuntimeFailure: a step failed, or the engine doesn't start.
    """
    _check_host(commandline.words(config, "info"))
    missing = prerequisites.missing()
    if missing:
        raise errors.Invalid("the engine can't run on this host yet:\n" + "\n".join(f"  {item}" for item in missing))
    if wanted.group:
        _run("groupadd", "--system", wanted.group)
    if not _is_active():
        # One that was started by hand makes room; its containers run on, and the service takes them up.
        background.stop(config)
    if wanted.is_changed:
        _write(wanted.path, wanted.text)
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", unit.NAME)
    _start("restart" if wanted.is_changed else "start")
    found = background.status(config)
    if not found.is_running:
        raise errors.RuntimeFailure(f"the service runs, and the engine does not answer: {found.problem or _LOG}")
    return found


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal took away."""

    made: unit.Made
    group: str
    """The group that went with it, or ""."""
    running: int
    """Containers that run on."""


def uninstall(group: str, *, purge: bool = False) -> Removal | None:
    """Take the service away; None where there is none. With `purge`, containers, images, volumes and both roots too.

    Raises:
        errors.Denied: not root. errors.Refused: the unit, or the data root, isn't ours. errors.Unsupported: no systemd.
        errors.RuntimeFailure: a step failed.
    """
    path = UNITS / unit.NAME
    _, made = _installed(path)
    if made is None:
        return None
    _check_host(["gitops", "engine", "stop"])
    config = EngineConfig(data_root=made.data_root, run_root=made.run_root)
    if purge:
        background.check_purgeable(config)
        if not background.status(config).is_running and config.data_root.exists():
            # Only an engine can end containers of before in order.
            _start("start")
    before = background.status(config)
    if purge:
        background.stop(config, containers=True)
    # Ends the engine where the service runs it; one that was started by hand meanwhile isn't the service's.
    _run("systemctl", "disable", "--now", unit.NAME)
    path.unlink(missing_ok=True)
    _run("systemctl", "daemon-reload")
    if purge:
        background.purge(config)
    removed = group if made.has_group and _has_group(group) else ""
    if removed:
        _run("groupdel", removed)
    return Removal(made, removed, 0 if purge else before.running)


_LOG = f"see `journalctl -u {unit.NAME.removesuffix('.service')}`"


def _check_host(otherwise: list[str]) -> None:
    if os.geteuid() != 0:
        raise errors.Denied("the service is the whole host's: run this as root")
    if not prerequisites.has_systemd():
        raise errors.Unsupported(
            "this host is not run by systemd: use `gitops engine start`, which runs the engine in the background until "
            f"the next boot, or let your service manager run `{shlex.join(otherwise)}` and kill that process alone"
        )


def _installed(path: Path) -> tuple[str, unit.Made | None]:
    """The unit that is there, "" for none, and what it made."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return "", None
    made = unit.read(text)
    if made is None:
        raise errors.Refused(f"{path} is not of our making: move it away, or do without the service")
    return text, made


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _remarks() -> list[str]:
    places = {Path(sys.executable), Path(sys.prefix), Path(gitops.__file__).parent}
    return [
        f"{path} can be changed by others than root, and the service runs it as root: install gitops below /opt or /usr"
        for path in sorted(prerequisites.writable_by_others(places))
    ]


def _write(path: Path, text: str) -> None:
    """Put a unit in place, never half-written."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise errors.RuntimeFailure(f"{path} can't be written: {error.strerror}") from error


def _is_active() -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit.NAME], check=False).returncode == 0


def _start(verb: str) -> None:
    try:
        _run("systemctl", verb, unit.NAME)
    except errors.RuntimeFailure as error:
        raise errors.RuntimeFailure(f"the service does not start ({_LOG}): {error}") from error


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise errors.RuntimeFailure(f"the program {command[0]} is missing") from error
    if done.returncode != 0:
        raise errors.RuntimeFailure(f"`{shlex.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
