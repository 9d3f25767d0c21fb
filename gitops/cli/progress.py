"""Progress of an apply: what goes on is redrawn in place, what is done stays above; else one line a change of state.

Drawing never fails an apply: names and reasons of any length are cut at the terminal's edge, and only as many lines
are redrawn as the terminal has.
"""

from __future__ import annotations

import contextlib
import sys
import termios
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
_NAME = 16
"""Characters of a name that are shown however narrow the terminal is."""
_ENDED = {"done": ("✓", "green"), "kept": ("!", "yellow"), "failed": ("✗", "red"), "blocked": ("✗", "yellow")}
"""How an object that has come to an end is marked."""


class Progress:
    """A context manager; call it with each update."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._open: dict[tuple[str, str], Update] = {}
        self._begun: dict[tuple[str, str], float] = {}
        self._printed: dict[tuple[str, str], str] = {}
        self._live: Live | None = None
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._is_terminal:
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False, soft_wrap=False)
            self._live = Live(_Lines(self._open, self._begun), console=console, refresh_per_second=8)
            self._exits.enter_context(_quiet_keys())
            self._exits.callback(self._live.stop)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def __call__(self, update: Update) -> None:
        """Show an update."""
        key = (update.kind, update.name)
        if self._live is None:
            self._print(key, update)
            return
        self._begun.setdefault(key, time.monotonic())
        if update.state in _ENDED:
            self._open.pop(key, None)
            console = self._live.console
            console.print(
                _line(update, self._begun.pop(key), console.width), no_wrap=True, overflow="ellipsis", crop=True
            )
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
        if update.state == "failed":
            text = f"failed: {update.text}"
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
            yield _line(update, self._begun[key], options.max_width)
        if len(items) > room:
            yield Text(f"and {len(items) - room} more", style="dim")


def _line(update: Update, begun: float, width: int) -> Text:
    """`· Service web  ████░░░░ 2/5 running, 2 preparing  12s`.

    What doesn't fit goes in the order of its worth: the bar, the head of the name, the end of the text.
    """
    from rich.text import Text

    mark, style = _ENDED.get(update.state, ("·", "dim"))
    progress = update.progress
    message = update.text.replace("\n", " ")
    seconds = int(time.monotonic() - begun)
    age = f"  {seconds}s" if seconds else ""
    room = width - len(f"{mark} {update.kind} {update.name}  {message}{age}")
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{mark} ", style=style)
    text.append(f"{update.kind} {_tail(update.name, len(update.name) + min(0, room))}  ")
    if progress is not None and progress.desired and update.state != "done" and room > _BAR:
        done = _BAR * min(progress.running, progress.desired) // progress.desired
        text.append("█" * done, style="green")
        text.append("░" * (_BAR - done) + " ", style="dim")
    text.append(message, style="red" if update.state == "failed" or (progress and progress.reason) else "")
    text.append(age, style="dim")
    return text


def _tail(name: str, width: int) -> str:
    """The end of a name that is too long, since names that begin alike differ there."""
    width = max(width, _NAME)
    return name if len(name) <= width else "…" + name[1 - width :]


@contextlib.contextmanager
def _quiet_keys() -> Iterator[None]:
    """No echo of keys, `^C` included: it would shift the lines that are drawn anew."""
    if not sys.stdin.isatty():
        yield
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(handle, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
