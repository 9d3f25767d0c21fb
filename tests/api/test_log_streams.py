from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from gitops import errors
from gitops.api import logs
from gitops.engine.containers.boundary import LogRecord


def _query(text: str) -> logs.LogQuery:
    return logs.parse(make_mocked_request("GET", f"/x?{text}"))


def test_one_stream_must_be_chosen() -> None:
    with pytest.raises(errors.Invalid, match="at least one stream"):
        _query("follow=1")


@pytest.mark.parametrize(("text", "lines"), [("all", None), ("", None), ("5", 5), ("0", 0), ("-1", None), ("x", None)])
def test_a_tail_that_is_no_number_means_all(text: str, lines: int | None) -> None:
    assert _query(f"stdout=1&tail={text}").tail == lines


def test_a_frame_has_stream_and_length() -> None:
    writer = logs.Writer(_query("stdout=1"), is_terminal=False)
    assert writer.encode(LogRecord("stderr", 0, b"oh\n")) == b"\x02\0\0\0\0\0\0\x03oh\n"


def test_a_terminal_has_no_frames() -> None:
    writer = logs.Writer(_query("stdout=1"), is_terminal=True)
    assert writer.encode(LogRecord("stdout", 0, b"ok\n")) == b"ok\n"


def test_time_comes_before_details_and_details_before_the_text() -> None:
    writer = logs.Writer(_query("stdout=1&timestamps=1&details=1"), is_terminal=True, details={"b": "2 3", "a": "1"})
    assert writer.encode(LogRecord("stdout", 5, b"hi\n")) == b"1970-01-01T00:00:00.000000005Z a=1,b=2%203 hi\n"


def test_a_line_in_pieces_has_one_prefix() -> None:
    writer = logs.Writer(_query("stdout=1&timestamps=1"), is_terminal=True)
    parts = [
        LogRecord("stdout", 1, b"a"),
        LogRecord("stderr", 2, b"x\n"),
        LogRecord("stdout", 3, b"b\n"),
        LogRecord("stdout", 4, b"c\n"),
    ]
    text = b"".join(writer.encode(part) for part in parts).decode()
    assert text.count("1970-") == 3
    assert "000000003Z" not in text
