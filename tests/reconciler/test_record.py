"""The record of a stack in the labels of a Config."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops.objects.secret import Config, ConfigSpec
from gitops.reconciler import record

TEXT = st.text(max_size=20)


@given(TEXT, TEXT, st.sampled_from(record.Outcome), TEXT, st.lists(TEXT, max_size=3))
def test_what_is_written_is_what_is_read(
    stack: str, commit: str, outcome: record.Outcome, message: str, images: list[str]
) -> None:
    made = record.Record(
        stack, "src", commit, "rev", outcome, message, "held", "when", tuple(images), tuple(images), "k"
    )
    assert record.parse(Config(spec=ConfigSpec(name="x", labels=record.to_labels(made)))) == made


def test_labels_of_a_newer_version_are_passed_over() -> None:
    labels = {"gitops.record.outcome": "unheard-of", "gitops.record.later": "x", "gitops.stack": "app"}
    assert record.parse(Config(spec=ConfigSpec(labels=labels))) == record.Record("app")


def test_each_stack_has_a_name_of_its_own() -> None:
    assert record.config_name("app") == "gitops-record-app" and record.config_name("") == "gitops-record"
