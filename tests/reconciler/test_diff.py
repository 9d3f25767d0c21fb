"""The differing fields of two canonical forms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops.reconciler.diff import FieldChange, fields

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


@given(FORMS)
def test_a_form_does_not_differ_from_itself(form: dict[str, object]) -> None:
    assert fields(form, form) == ()


@given(FORMS, FORMS)
def test_a_difference_reads_the_same_from_both_sides(old: dict[str, object], new: dict[str, object]) -> None:
    there = {change.path for change in fields(old, new)}
    assert there == {change.path for change in fields(new, old)}
