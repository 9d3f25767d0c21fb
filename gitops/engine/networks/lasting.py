"""Writes that must not hold up the kernel: what takes something away is done, and stored as soon as the disk allows.

A full disk would otherwise leave rules that lead to containers that are gone. A crash before the disk allows it is no
harm: the next start compares rows with what lives. Sandboxes don't outlive a boot, so their rows don't wait for the
disk.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from gitops import errors
from gitops.engine.database import Database
from gitops.engine.networks import records

log = logging.getLogger(__name__)


class Lasting:
    """Rows of this package that are written, at once or later; one object for all writers of a row."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[tuple[str, str], Any] = {}

    def put(self, table: str, key: str, value: Any) -> None:
        """Write a row now. Raises errors.RuntimeFailure."""
        with self._as_lasting_as(table):
            self._database.put(table, key, value)
        self._open.pop((table, key), None)

    def put_or_later(self, table: str, key: str, value: Any) -> None:
        """Write a row, now or when the disk allows it."""
        self._attempt(table, key, value)

    def delete_or_later(self, table: str, key: str) -> None:
        """Delete a row, now or when the disk allows it."""
        self._attempt(table, key, None)

    def flush(self) -> None:
        """Try again what could not be written."""
        for (table, key), value in list(self._open.items()):
            self._attempt(table, key, value)

    def _attempt(self, table: str, key: str, value: Any) -> None:
        try:
            with self._as_lasting_as(table):
                if value is None:
                    self._database.delete(table, key)
                else:
                    self._database.put(table, key, value)
        except errors.RuntimeFailure as error:
            if (table, key) not in self._open:
                log.warning("row %s of %s is written later: %s", key, table, error)
            self._open[table, key] = value
        else:
            self._open.pop((table, key), None)

    def _as_lasting_as(self, table: str) -> contextlib.AbstractContextManager[None]:
        return self._database.until_boot() if table == records.SANDBOXES else contextlib.nullcontext()
