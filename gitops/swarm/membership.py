"""What a host remembers of its membership in a swarm: one small file, whole or absent whenever the power fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gitops import errors
from gitops.objects import base


class Membership(base.Full, frozen=True):
    """Who this host is in which swarm. `is_leaving`: it was told to leave, and did not finish."""

    node_id: str = ""
    address: str = ""
    listen_address: str = ""
    is_leaving: bool = False


class SwarmFolder:
    """The folder that holds all of a host's swarm state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store.db"
        self.key = path / "keys" / "store.key"
        self.tasks = path / "tasks.db"
        self._file = path / "membership.json"

    def read(self) -> Membership | None:
        """The membership; None where this host is in no swarm.

        Raises:
            errors.RuntimeFailure: the file can't be read.
        """
        try:
            return base.from_json(self._file.read_bytes(), Membership)
        except FileNotFoundError:
            return None
        except (OSError, errors.Invalid) as error:
            raise errors.RuntimeFailure(f"can't read {self._file}: {error}; restore it from a backup") from error

    def write(self, membership: Membership) -> None:
        """Remember it, on disk when this returns.

        Raises:
            errors.RuntimeFailure: it can't be written.
        """
        draft = self._file.with_name(self._file.name + ".new")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(base.to_json(membership))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise errors.RuntimeFailure(f"can't write {self._file}: {error}; check the free space") from error

    def clear(self) -> None:
        """Forget everything; no harm where there is nothing.

        Raises:
            errors.RuntimeFailure: something can't be removed.
        """
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
        except OSError as error:
            raise errors.RuntimeFailure(f"can't remove {self.path}: {error}") from error
