"""The differing fields of two canonical forms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops.reconciler.diff import HIDDEN, Cause, FieldChange, fields, hidden

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
FORMS = st.dictionaries(st.text(max_size=4), VALUES, max_size=5)


def test_changes_carry_their_path_and_both_values() -> None:
    old = {"image": "a:1", "deploy": {"replicas": 2, "update_config": {"delay": 10}}}
    new = {"image": "a:2", "deploy": {"replicas": 2, "update_config": {"delay": 20}}}
    assert fields(old, new) == (
        FieldChange("deploy.update_config.delay", 10, 20),
        FieldChange("image", "a:1", "a:2"),
    )


def test_maps_are_compared_key_by_key_and_lists_as_a_whole() -> None:
    old = {"environment": {"A": "1", "B": "2"}, "command": ["a", "b"]}
    new = {"environment": {"A": "1", "C": "3"}, "command": ["a", "c"]}
    assert [change.path for change in fields(old, new)] == ["command", "environment.B", "environment.C"]


def test_a_key_with_an_empty_value_is_not_the_same_as_none() -> None:
    assert fields({}, {"environment": {"DEBUG": ""}}) == (FieldChange("environment.DEBUG", None, ""),)
    assert fields({"networks": {"a": {}}}, {"networks": {}}) == (FieldChange("networks.a", {}, None),)


def test_keys_with_dots_stand_in_brackets() -> None:
    assert [change.path for change in fields({}, {"labels": {"com.example.a": "1"}})] == ["labels[com.example.a]"]


def test_what_the_manifest_still_says_as_applied_is_drift_and_the_rest_intent() -> None:
    applied = {"image": "a:1", "deploy": {"replicas": 2}, "environment": {"A": "1"}}
    live = {"image": "a:1", "deploy": {"replicas": 5}, "environment": {"A": "1", "B": "2"}}
    desired = {"image": "a:2", "deploy": {"replicas": 2}, "environment": {"A": "1"}}
    assert {change.path: change.cause for change in fields(live, desired, applied)} == {
        "deploy.replicas": Cause.DRIFT,
        "environment.B": Cause.DRIFT,
        "image": Cause.INTENT,
    }
    both = fields({"image": "a:x"}, {"image": "a:2"}, {"image": "a:1"})
    assert [change.cause for change in both] == [Cause.INTENT], "the manifest changed too"
    assert all(change.cause is Cause.INTENT for change in fields(live, desired)), "nothing is known of an apply"


def test_what_is_hidden_is_taken_for_the_same_and_told() -> None:
    old = {"environment": {"PASSWORD": HIDDEN, "A": "1"}, "command": [HIDDEN]}
    new = {"environment": {"PASSWORD": "x", "A": "2"}, "command": ["sh", "-c", "y"]}
    assert [change.path for change in fields(old, new)] == ["environment.A"]
    assert hidden(old, new) == ["command", "environment.PASSWORD"]


@given(FORMS)
def test_a_form_does_not_differ_from_itself(form: dict[str, object]) -> None:
    assert fields(form, form) == ()


@given(FORMS, FORMS)
def test_a_difference_reads_the_same_from_both_sides(old: dict[str, object], new: dict[str, object]) -> None:
    there = {change.path for change in fields(old, new)}
    assert there == {change.path for change in fields(new, old)}
