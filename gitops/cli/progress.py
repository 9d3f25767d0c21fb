"""Progress of an apply: what goes on is redrawn in place, what is done stays above; else one line a change of state.

Drawing never fails an apply: names and reasons of any length are cut at the terminal's edge, and only as many lines
are redrawn as the terminal has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from gitops.reconciler.waiting import Update

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.text import Text

_BAR = 20
_ENDED = ("done", "kept")


class Progress:
    """A context manager; call it with each update."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._open: dict[tuple[str, str], Update] = {}
        self._begun: dict[tuple[str, str], float] = {}
        self._printed: dict[tuple[str, str], str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._is_terminal:
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False, soft_wrap=False)
            self._live = Live(_Lines(self._open, self._begun), console=console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, update: Update) -> None:
        """Show an update."""
        key = (update.kind, update.name)
        if self._live is None:
            self._print(key, update)
            return
        self._begun.setdefault(key, time.monotonic())
        # A service is sent first and rolls afterwards: only the end of the latter is its end.
        if update.state in _ENDED and (update.kind != "Service" or update.progress or update.text == "removed"):
            self._open.pop(key, None)
            self._live.console.print(_line(update, self._begun.pop(key)), no_wrap=True, overflow="ellipsis", crop=True)
        else:
            self._open[key] = update

    def _print(self, key: tuple[str, str], update: Update) -> None:
        """A line, unless it says what the last one of the object said."""
        if update.state == "progress":
            return
        progress = update.progress
        text = f"{progress.counts}: {progress.reason}" if progress and progress.reason else update.text
        if progress and update.state == "done":
            text = f"converged, {update.text}"
        if self._printed.get(key) != text:
            self._printed[key] = text
            click.echo(f"{time.strftime('%H:%M:%S')} {update.kind.lower()} {update.name}: {text}")


class _Lines:
    """What goes on, drawn anew at each refresh: as many lines as fit, and how many more there are."""

    def __init__(self, lines: dict[tuple[str, str], Update], begun: dict[tuple[str, str], float]) -> None:
        self._lines = lines
        self._begun = begun

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        room = max(1, (options.height or console.height) - 2)
        items = list(self._lines.items())
        for key, update in items[:room]:
            yield _line(update, self._begun[key])
        if len(items) > room:
            yield Text(f"and {len(items) - room} more", style="dim")


def _line(update: Update, begun: float) -> Text:
    """`Service web  [████░░░░] 2/5 running, 2 preparing  12s`."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    mark, style = {"done": ("✓", "green"), "kept": ("!", "yellow")}.get(update.state, ("·", "dim"))
    text.append(f"{mark} ", style=style)
    text.append(f"{update.kind} {update.name}  ")
    progress = update.progress
    if progress is not None and progress.desired and update.state != "done":
        done = _BAR * min(progress.running, progress.desired) // progress.desired
        text.append("█" * done, style="green")
        text.append("░" * (_BAR - done) + " ", style="dim")
    text.append(update.text.replace("\n", " "), style="red" if progress and progress.reason else "")
    seconds = int(time.monotonic() - begun)
    if seconds:
        text.append(f"  {seconds}s", style="dim")
    return text
