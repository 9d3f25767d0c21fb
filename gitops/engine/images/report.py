"""What a pull, load or push tells of itself, in Docker's words and order, since clients look for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from gitops.objects import image
from gitops.oci import digest as digests

Report = Callable[[image.Progress], None]

_EVERY_S = 0.1
"""Between two counts of one layer."""


def silent(_: image.Progress) -> None:
    """The report that nobody reads."""


def short_id(digest: str) -> str:
    """The first twelve hex digits, as people see ids."""
    return digests.parse(digest).hex[:12]


class Listener(Protocol):
    """Is told how a layer comes along."""

    def say(self, status: str) -> None:
        """One line without counts."""
        ...

    def fetched(self, current: int, total: int) -> None:
        """So many bytes of the blob are here; the last one ends the download."""
        ...

    def restarted(self) -> None:
        """The blob is read from its start again."""
        ...

    def unpacked(self, total: int) -> None:
        """The blob is unpacked; what the layers below decide is to follow."""
        ...

    def retrying(self, pause_s: float) -> None:
        """The connection broke."""
        ...


class LoadReport:
    """The lines of one layer of an archive, named by its short diff id."""

    def __init__(self, send: Report, name: str) -> None:
        self._send = send
        self._name = name
        self._next_s = 0.0

    def say(self, status: str) -> None:
        """Nothing: `docker load` shows counts only."""

    def fetched(self, current: int, total: int) -> None:
        """So many bytes of the blob are read."""
        now = time.monotonic()
        if now >= self._next_s or current == total:
            self._next_s = now + _EVERY_S
            detail = image.ProgressDetail(current=current, total=total)
            self._send(image.Progress(status="Loading layer", id=self._name, progress_detail=detail))

    def restarted(self) -> None:
        """Nothing to say."""

    def unpacked(self, total: int) -> None:
        """All is read."""
        self.fetched(total, total)

    def retrying(self, pause_s: float) -> None:
        """Files aren't tried again."""


class LayerReport:
    """The lines of one layer, named by the short digest of its blob."""

    def __init__(self, send: Report, name: str) -> None:
        self._send = send
        self._name = name
        self._next_s = 0.0
        self._is_fetched = False

    def say(self, status: str) -> None:
        """One line without counts."""
        self._send(image.Progress(status=status, id=self._name))

    def fetched(self, current: int, total: int) -> None:
        """So many bytes of the blob are here; the last one ends the download."""
        if self._is_fetched:
            return
        if current < total:
            self._count("Downloading", current, total)
            return
        self._is_fetched = True
        self._count("Downloading", total, total, is_due=True)
        self.say("Verifying Checksum")
        self.say("Download complete")
        self._count("Extracting", 0, total, is_due=True)

    def restarted(self) -> None:
        """The blob is fetched from its start again."""
        self._is_fetched = False

    def unpacked(self, total: int) -> None:
        """The blob is unpacked; what the layers below decide is to follow."""
        self.fetched(total, total)
        self._count("Extracting", total, total, is_due=True)

    def retrying(self, pause_s: float) -> None:
        """The connection broke."""
        self.say(f"Retrying in {max(1, round(pause_s))} seconds")

    def _count(self, status: str, current: int, total: int, *, is_due: bool = False) -> None:
        now = time.monotonic()
        if is_due or now >= self._next_s:
            self._next_s = now + _EVERY_S
            detail = image.ProgressDetail(current=current, total=total)
            self._send(image.Progress(status=status, id=self._name, progress_detail=detail))


class PushReport:
    """The lines of one layer on its way to a registry, named by its short diff id."""

    def __init__(self, send: Report, name: str) -> None:
        self._send = send
        self._name = name
        self._next_s = 0.0

    def say(self, status: str) -> None:
        """One line without counts."""
        self._send(image.Progress(status=status, id=self._name, progress_detail=image.ProgressDetail()))

    def sent(self, current: int, total: int) -> None:
        """So many bytes of the blob are sent."""
        now = time.monotonic()
        if now >= self._next_s or current == total:
            self._next_s = now + _EVERY_S
            detail = image.ProgressDetail(current=current, total=total)
            self._send(image.Progress(status="Pushing", id=self._name, progress_detail=detail))
