"""How progress looks: with and without a terminal, wide and narrow."""

from __future__ import annotations

import time

import pytest

from gitops.cli import progress
from gitops.reconciler.converge import Progress, Verdict
from gitops.reconciler.waiting import Update


def rolling(running: int, reason: str = "", state: str = "waiting", name: str = "app_web") -> Update:
    found = Progress(name, Verdict.WAITING, running, 4, 0, {}, "", reason)
    return Update("Service", name, state, found.summary if state != "done" else found.counts, found)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]


def test_without_a_terminal_each_change_is_a_line_and_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress(is_terminal=False) as show:
        show(Update("Image", "app:v1", "started", "creating"))
        show(Update("Image", "app:v1", "progress", "Loading 10 %"))
        show(Update("Image", "app:v1", "done", "created"))
        for update in (rolling(1), rolling(1), rolling(2, "exit 3"), rolling(2, "exit 3"), rolling(4, state="done")):
            show(update)
    assert lines(capsys) == [
        "image app:v1: creating",
        "image app:v1: created",
        "service app_web: 1/4 running",
        "service app_web: 2/4 running: exit 3",
        "service app_web: converged, 4/4 running",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_line_shows_the_counts_however_narrow_the_terminal_and_however_long_the_name(width: int) -> None:
    update = rolling(2, name="a-very-long-name-of-a-service-that-does-not-fit-01")
    line = progress._line(update, time.monotonic(), width).plain
    assert "-01  " in line and "2/4 running" in line
    assert ("█" in line) == (width == 200)
    assert len(line) <= max(width, 45)


def test_what_has_ended_leaves_the_lines_that_are_drawn_anew() -> None:
    show = progress.Progress(is_terminal=True)
    with show:
        show(Update("Network", "app_net", "started", "creating"))
        show(Update("Service", "app_web", "sent", "created"))
        show(rolling(1))
        assert set(show._open) == {("Network", "app_net"), ("Service", "app_web")}
        show(Update("Network", "app_net", "done", "created"))
        show(rolling(4, state="done"))
        assert not show._open


def test_what_waits_for_another_object_says_so_and_what_failed_leaves_the_lines_that_are_drawn_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    updates = [
        Update("Service", "app_web", "waits", "waits for app_db (healthy)"),
        Update("Service", "app_db", "failed", "0/1 running: exit 1"),
        Update("Service", "app_web", "blocked", "not sent: app_db (healthy): 0/1 running: exit 1"),
    ]
    with progress.Progress(is_terminal=False) as show:
        for update in updates:
            show(update)
    assert lines(capsys) == [
        "service app_web: waits for app_db (healthy)",
        "service app_db: failed: 0/1 running: exit 1",
        "service app_web: not sent: app_db (healthy): 0/1 running: exit 1",
    ]
    drawn = progress.Progress(is_terminal=True)
    with drawn:
        drawn(updates[0])
        assert set(drawn._open) == {("Service", "app_web")}
        for update in updates[1:]:
            drawn(update)
        assert not drawn._open
