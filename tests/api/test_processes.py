"""Processes of a container in the columns of ps."""

from __future__ import annotations

import os

import pytest

from gitops import errors
from gitops.api import processes


def test_a_process_is_shown_in_docker_s_columns() -> None:
    (row,) = processes.rows([os.getpid()])
    assert len(row) == len(processes.TITLES) and row[1] == str(os.getpid())
    assert processes.rows([2**22 + 1]) == [], "one that has gone is left out"


def test_the_host_s_ps_gives_other_columns_of_the_same_processes() -> None:
    titles, rows = processes.by_ps([os.getpid()], ["-o", "pid,comm"])
    assert titles == ["PID", "COMMAND"]
    assert [row[0] for row in rows] == [str(os.getpid())]


def test_a_command_with_spaces_is_one_column() -> None:
    text = "USER   PID COMMAND\nroot     7 sleep 10 20\nroot     8 other\n"
    assert processes.parse_ps(text, [7]) == (["USER", "PID", "COMMAND"], [["root", "7", "sleep 10 20"]])


@pytest.mark.parametrize("arguments", [["-o", "comm"], ["--no-such-option"], ["-o", "no_such_column"]])
def test_arguments_without_pids_or_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(errors.Invalid, match=r"PID|ps:"):
        processes.by_ps([1], arguments)
