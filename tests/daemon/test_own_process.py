from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops.daemon import process


def test_the_service_manager_is_told_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        process.notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_without_a_service_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    process.notify("READY=1")


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("_root_logger")
def test_a_line_has_time_level_and_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    process.set_up_logging("info")
    logging.getLogger("gitops.x").info("hello")
    assert capsys.readouterr().err.rstrip().endswith("Z INFO gitops.x: hello")


@pytest.mark.usefixtures("_root_logger")
def test_the_journal_gets_a_priority_and_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    process.set_up_logging("info")
    logging.getLogger("gitops.x").warning("hello")
    assert capsys.readouterr().err == "<4>WARNING gitops.x: hello\n"


def test_as_many_files_may_be_open_as_the_machine_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        process.raise_limits()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
