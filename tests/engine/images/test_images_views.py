"""Images as the API shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.engine.images import records, views
from gitops.objects import container
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

ID = "sha256:" + "ab" * 32


def layer(number: int) -> records.Layer:
    digest = f"sha256:{number:064x}"
    return records.Layer(digest, "", digest, digest, 10, "", number, number, 1, "short")


def entry(
    *names: str,
    created: str | None = "2026-01-02T03:04:05Z",
    labels: dict[str, str] | None = None,
    history: list[manifests.History] | None = None,
    layers: int = 2,
) -> views.Entry:
    parsed = [references.parse(name) for name in names]
    config = manifests.ImageConfig(
        created=created, config=container.ContainerConfig(labels=labels), history=history, architecture="amd64"
    )
    return views.Entry(
        records.Image(ID, manifests.Descriptor(manifests.OCI_MANIFEST, ID, 1), [], 0),
        config,
        [layer(number + 1) for number in range(layers)],
        [name for name in parsed if name.digest is None],
        [name for name in parsed if name.digest is not None],
    )


def test_a_summary_has_sizes_times_and_short_names() -> None:
    shown = views.summary(entry("app:1", f"app@{ID}", labels={"a": "b"}))
    assert (shown.repo_tags, shown.repo_digests, shown.size) == (["app:1"], [f"app@{ID}"], 3)
    assert (shown.created, shown.labels) == (1767323045, {"a": "b"})


@pytest.mark.parametrize("created", [None, "", "yesterday", "2026-13-45T99:00:00Z"])
def test_an_image_without_a_readable_time_is_shown_all_the_same(created: str | None) -> None:
    shown = views.inspect(entry("app:1", created=created), [])
    assert shown.created == "0001-01-01T00:00:00Z"


def test_inspect_shows_the_directories() -> None:
    shown = views.inspect(entry("app:1"), [Path("/l/a"), Path("/l/b"), Path("/l/c")])
    assert shown.graph_driver["Data"] == {"UpperDir": "/l/a", "LowerDir": "/l/b:/l/c"}


def test_history_joins_steps_and_layers_newest_first() -> None:
    steps = [
        manifests.History(created_by="base"),
        manifests.History(created_by="env", empty_layer=True),
        manifests.History(created_by="copy", comment="c"),
    ]
    shown = views.history(entry("app:1", history=steps))
    assert [(step.created_by, step.size) for step in shown] == [("copy", 2), ("env", 0), ("base", 1)]
    assert (shown[0].id, shown[0].tags, shown[1].id, shown[1].tags) == (ID, ["app:1"], "<missing>", None)


def test_history_that_is_missing_or_too_short_still_shows_every_layer() -> None:
    assert [step.size for step in views.history(entry("app:1"))] == [2, 1]
    assert [step.size for step in views.history(entry(history=[manifests.History(created_by="x")], layers=3))] == [
        3,
        2,
        1,
    ]
    assert len(views.history(entry(layers=0))) == 1


def passes(one: views.Entry, **filters: list[str]) -> bool:
    return bool(views.select([one], filters, lambda name: one))


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("app", "app:1", True),
        ("app:1", "app:1", True),
        ("app:2", "app:1", False),
        ("ap*", "app:1", True),
        ("*", "app:1", True),
        ("*", "team/app:1", False),
        ("*/*", "team/app:1", True),
        ("team/*:1", "team/app:1", True),
        ("a?p", "app:1", True),
        ("[a-c]pp", "app:1", True),
        ("[^b]pp", "app:1", True),
        ("[^a]pp", "app:1", False),
        ("registry.example/*", "registry.example/app:1", True),
        ("a[", "app:1", False),
    ],
)
def test_the_reference_filter_is_gos_path_match(pattern: str, name: str, is_match: bool) -> None:
    assert passes(entry(name), reference=[pattern]) is is_match


def test_only_the_names_that_match_are_shown() -> None:
    kept = views.select([entry("app:1", "other:1")], {"reference": ["app"]}, lambda _: entry())
    assert [name.familiar() for name in kept[0].tags] == ["app:1"]


@given(st.text(max_size=30))
def test_any_pattern_is_a_filter_or_refused(pattern: str) -> None:
    try:
        passes(entry("app:1"), reference=[pattern])
    except errors.Invalid:
        return


def test_labels_match_by_key_and_by_value() -> None:
    one = entry("app:1", labels={"a": "1", "b": "2"})
    assert passes(one, label=["a"]) and passes(one, label=["a=1", "b=2"])
    assert not passes(one, label=["a=2"]) and not passes(one, label=["c"])


def test_dangling_is_without_tags() -> None:
    assert passes(entry(f"app@{ID}"), dangling=["true"]) and not passes(entry("app:1"), dangling=["1"])
    assert passes(entry(f"app@{ID}"), dangling=["false"]) and not passes(entry(), dangling=["0"])
    with pytest.raises(errors.Invalid, match="dangling=perhaps"):
        passes(entry(), dangling=["perhaps"])
