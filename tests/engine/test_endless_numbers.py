"""Numbers of thousands of digits, which Python refuses by an error of its own, are refused like any other junk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gitops import errors
from gitops.api import requests
from gitops.engine.containers import creation, devices, signals
from gitops.engine.networks import ipam
from gitops.objects import base
from gitops.objects.container import LogConfig

NINES = "9" * 5000


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (signals.parse, NINES),
        (signals.parse, f"RTMIN+{NINES}"),
        (creation.parse_port, f"{NINES}/tcp"),
        (devices.parse_rule, f"c {NINES}:1 rwm"),
        (lambda text: creation.log_limits(LogConfig("json-file", {"max-file": text})), NINES),
        (lambda text: creation.log_limits(LogConfig("json-file", {"max-size": text})), f"{NINES}k"),
        (lambda text: ipam.parse_address(text, "address"), f"10.0.0.1/{NINES}"),
        (lambda text: ipam.parse_network(text, "subnet"), f"10.0.0.0/{NINES}"),
        (base.parse_duration, f"{NINES}h"),
        (requests.until, f"{NINES}h"),
        (requests.until, NINES),
        (lambda text: requests.past(text, "since", 0), f"{NINES}h"),
        (lambda text: requests.past(text, "since", 0), f"{NINES}-01-01"),
        (base.parse_time, f"2026-01-01T00:00:00+{NINES}"),
    ],
)
def test_an_endless_number_is_refused(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(errors.Invalid):
        read(text)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", f"2026-01-01T00:00:00.{NINES}Z"]
)
def test_the_ends_of_time_can_be_read(text: str) -> None:
    assert isinstance(base.parse_time(text), int)
