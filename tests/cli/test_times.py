"""Times on the command line."""

from __future__ import annotations

import click
import pytest

from gitops.cli import common


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("600", 600), ("2s", 2)]
)
def test_a_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert common.Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "5 m", "30s1m", "1.2.3s", "inf", "nan", "s"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time, as in 30s or 5m"):
        common.Seconds().convert(text, None, None)
