"""What status says of stacks and services."""

from __future__ import annotations

import pytest

from gitops.objects import base
from gitops.reconciler.converge import Progress, Verdict
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.status import ServiceStatus, StackStatus, ago

NOW = base.parse_time("2026-01-02T00:00:00Z")


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ("2026-01-02T00:00:00.5Z", "just now"),
        ("2026-01-01T23:59:59Z", "1 second ago"),
        ("2026-01-01T23:58:30Z", "90 seconds ago"),
        ("2026-01-01T23:55:00Z", "5 minutes ago"),
        ("2026-01-01T00:00:00Z", "24 hours ago"),
        ("2025-12-30T00:00:00Z", "3 days ago"),
        ("", ""),
    ],
)
def test_ages_are_in_one_unit(when: str, shown: str) -> None:
    assert ago(when, NOW) == shown


def status(verdict: Verdict, update: str = "", reason: str = "", former: int = 0) -> str:
    progress = Progress("app_web", verdict, 1, 3, former, {}, update, reason)
    return ServiceStatus("app_web", "", "", "", progress).state


def test_a_state_says_what_goes_on_and_why() -> None:
    assert status(Verdict.CONVERGED, "completed") == "converged"
    assert status(Verdict.WAITING, "updating", former=2) == "updating, 2 as before"
    assert status(Verdict.WAITING, "rollback_started", "rollback started: task x") == "rollback started: task x"
    assert status(Verdict.FAILED, "", "slot 1 failed 5 times: exit 3") == "failed: slot 1 failed 5 times: exit 3"


def test_a_headline_never_lies_about_an_apply_that_was_cut_off() -> None:
    found = Record("app", "/site#.", "3f2c", "rev", Outcome.APPLYING, applied_at="2026-01-01T23:55:00Z")
    assert StackStatus("app", found, ()).headline(NOW) == [
        "Stack app, commit 3f2c, applying, begun 5 minutes ago",
        "   from /site",
    ]


def test_a_held_revision_is_told_with_the_way_out() -> None:
    found = Record("app", "/site#.", "", "rev", Outcome.FAILED, "slot 1 failed", "rev")
    lines = StackStatus("app", found, ()).headline(NOW)
    assert "   slot 1 failed" in lines and lines[-1].endswith("gitops resume app")
