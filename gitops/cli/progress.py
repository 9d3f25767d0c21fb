"""Progress of an apply: a line for each object, redrawn in place; without a terminal a line for each change."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click

from gitops.reconciler.waiting import Update

_BAR = 20


class Progress:
    """A context manager; call it with each update."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._lines: dict[tuple[str, str], str] = {}
        self._live: object = None

    def __enter__(self) -> Self:
        if self._is_terminal:
            from rich.live import Live

            self._live = Live(refresh_per_second=8, transient=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()  # type: ignore[attr-defined]

    def __call__(self, update: Update) -> None:
        """Show an update."""
        text = _text(update)
        key = (update.kind, update.name)
        if self._lines.get(key) == text:
            return
        self._lines[key] = text
        if self._live is None:
            if update.state != "progress":
                click.echo(f"{time.strftime('%H:%M:%S')} {update.kind.lower()} {update.name}: {text}")
            return
        from rich.text import Text

        width = max(len(f"{kind} {name}") for kind, name in self._lines)
        rows = [f"{f'{kind} {name}':<{width}}  {line}" for (kind, name), line in self._lines.items()]
        self._live.update(Text("\n".join(rows)))  # type: ignore[attr-defined]


def _text(update: Update) -> str:
    progress = update.progress
    if progress is None or not progress.desired:
        return update.text
    done = _BAR * min(progress.running, progress.desired) // progress.desired
    mark = " ✓" if update.state == "done" else ""
    return f"[{'█' * done}{'░' * (_BAR - done)}] {update.text}{mark}"
