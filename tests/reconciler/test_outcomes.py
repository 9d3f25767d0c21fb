"""One error for an apply that failed: all that failed, what waits behind it, and the exit code."""

from __future__ import annotations

import pytest

from gitops import errors
from gitops.reconciler import outcomes
from gitops.reconciler.graph import Condition, Edge
from gitops.reconciler.outcomes import Blocked, Failed

DB = Failed(("Service", "db"), errors.RolloutFailed("service db: 0/1 running: exit 1"))
WEB = Blocked(("Service", "web"), Edge(("Service", "db"), Condition.HEALTHY), DB)
FRONT = Blocked(("Service", "front"), Edge(("Service", "web"), Condition.STARTED), WEB)


def test_a_blocked_object_names_what_it_waits_for_to_the_end_of_the_chain() -> None:
    assert WEB.text == "service web waits for db (healthy): 0/1 running: exit 1"
    assert FRONT.text == "service front waits for web (started), which waits for db (healthy): 0/1 running: exit 1"
    network = Failed(("Network", "net"), errors.Invalid("no such driver"))
    assert Blocked(("Service", "x"), Edge(("Network", "net"), Condition.DONE), network).text == (
        "service x waits for network net: no such driver"
    )


def test_all_failures_are_told_at_once_and_are_there_for_programs() -> None:
    other = Failed(("Service", "b"), errors.RolloutFailed("service b: update paused"))
    found = outcomes.error([WEB, DB, other], ["config old"])
    assert str(found).splitlines() == [
        "service db: 0/1 running: exit 1",
        "  service b: update paused",
        "  service web waits for db (healthy): 0/1 running: exit 1",
        "  not removed before the rest is there: config old",
    ]
    assert [(item.name, item.state) for item in found.objects] == [
        ("web", "blocked"),
        ("db", "failed"),
        ("b", "failed"),
    ]


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([errors.Invalid, errors.Unschedulable, errors.RolloutFailed], 4),
        ([errors.Refused, errors.Unschedulable], 3),
        ([errors.Invalid, errors.Refused], 5),
        ([errors.Conflict], 1),
    ],
)
def test_the_gravest_failure_gives_the_exit_code(kinds: list[type[errors.GitopsError]], code: int) -> None:
    failures = [Failed(("Service", f"s{number}"), kind("no")) for number, kind in enumerate(kinds)]
    assert outcomes.error(failures).exit_code == code


def test_a_long_list_is_cut_and_says_so() -> None:
    failures = [Failed(("Service", f"s{number}"), errors.Conflict("taken")) for number in range(30)]
    assert str(outcomes.error(failures)).endswith("and 10 more")
