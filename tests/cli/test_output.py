"""How plans look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from gitops.cli import applying, main, output, planning, stacks, validating, watching
from gitops.manifests import DesiredSet
from gitops.reconciler import planner
from gitops.reconciler.diff import Cause, FieldChange
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step, Unplaced
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.source import Source


def update(*changes: FieldChange, **more: Any) -> Step:
    fields = {"position": "web.yaml:3"} | more
    return Step("Service", "app", "web", "app_web", Action.UPDATE, Reason.CHANGED, changes, **fields)


def prepared(*steps: Step, records: dict[str, Record] | None = None, **plan: Any) -> Prepared:
    request = planner.Request(DesiredSet((), {}, {}), {}, frozenset({"app"}))
    source = Source("path:/site", Path("/site"), "3f2c1ab0d1e2")
    return Prepared(source, "rev", request, Live(records=records or {}), Plan(steps, **plan))


def text(found: Prepared) -> list[str]:
    return click.unstyle(output.plan_text(found, "unix:///engine.sock")).splitlines()


def test_a_plan_has_a_line_for_each_object_then_its_fields_then_what_it_comes_to() -> None:
    step = update(
        FieldChange("deploy.update_config.delay", 10_000_000_000, 20_000_000_000),
        FieldChange("image", "app:v1@sha256:" + "a" * 64, "app:v2@sha256:" + "b" * 64),
        note="5 tasks replaced, 2 at a time",
    )
    same = Step("Network", "app", "default", "app_default", Action.NONE, Reason.SAME)
    assert text(prepared(step, same)) == [
        "Stack app, commit 3f2c1ab0d1e2, on unix:///engine.sock",
        "",
        "  ~ Service  web  update_config.delay, image  5 tasks replaced, 2 at a time",
        "  = 1 unchanged",
        "",
        "~ Service web                                           web.yaml:3",
        "    deploy.update_config.delay  10s  ->  20s",
        "    image                       app:v1 (sha256:aaaaaaaaaaaa)  ->  app:v2 (sha256:bbbbbbbbbbbb)",
        "",
        "1 to update. No drift. Can be scheduled.",
    ]


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("environment.PASS", "environment"),
        ("labels[com.example.a]", "labels"),
        ("ipam.config[10.77.0.0/24].gateway", "ipam"),
        ("ports[80:8080/tcp].mode", "ports"),
        ("configs[/www/page].source", "configs"),
        ("deploy.replicas", "replicas"),
        ("deploy.resources.limits.memory", "resources.limits"),
    ],
)
def test_a_summary_names_fields_without_their_keys(path: str, word: str) -> None:
    assert output._word(path) == word


@pytest.mark.parametrize(
    ("path", "found", "shown"),
    [
        ("a", None, "(none)"),
        ("a", "", '""'),
        ("volumes", {}, "{}"),
        ("deploy.resources.limits.cpus", 500_000_000, "0.5"),
        ("deploy.resources.limits.memory", 64 * 2**20, "64 MiB"),
        ("healthcheck.interval", 90_000_000_000, "1m30s"),
        ("init", False, "False"),
    ],
)
def test_values_have_units_and_nothing_is_told_from_empty(path: str, found: Any, shown: str) -> None:
    assert output.value(path, found) == shown


def test_long_values_stand_below_one_another() -> None:
    lines = text(prepared(update(FieldChange("command", ["sh", "-c", "x" * 80], ["sh", "-c", "y" * 80]))))
    begin = lines.index("    command")
    assert lines[begin + 1].startswith('      - ["sh"') and lines[begin + 2].startswith('      + ["sh"')


def test_what_forbids_a_plan_is_in_it() -> None:
    refused = prepared(update(), refused=("port 80/tcp is taken",))
    assert text(refused)[-2:] == ["refused: port 80/tcp is taken", "1 to update. No drift. Can NOT be applied."]
    assert output.verdict(refused.plan) == "refused"
    unplaced = prepared(update(), unplaced=(Unplaced("app_web", 1, "no suitable node"),))
    assert "service app_web: 1 task can't be placed: no suitable node" in text(unplaced)
    assert text(unplaced)[-1] == "1 to update. No drift. Can NOT be scheduled."


def test_a_last_apply_of_the_same_revision_that_failed_is_told_though_nothing_differs() -> None:
    records = {"app": Record("app", revision="rev", outcome=Outcome.FAILED, message="slot 1 failed")}
    lines = text(prepared(records=records))
    assert "warning: the last apply of stack app, of this very revision, failed: slot 1 failed" in lines
    assert lines[-1] == "No changes: the engine is as the manifests say."
    other = {"app": Record("app", revision="another", outcome=Outcome.FAILED, message="slot 1 failed")}
    assert not [line for line in text(prepared(records=other)) if "warning" in line]


def test_json_has_every_step_and_a_stable_set_of_keys() -> None:
    document = json.loads(output.plan_json(prepared(update(FieldChange("image", "a", "b")))))
    assert set(document) == {
        *("format_version", "source", "commit", "revision", "stacks", "verdict", "changes", "unplaced"),
        *("refused", "warnings"),
    }
    assert document["verdict"] == "changes" and document["changes"][0]["fields"] == [
        {"path": "image", "old": "a", "new": "b", "cause": "intent", "sensitive": False}
    ]


def test_drift_stands_apart_from_what_the_manifests_ask_for() -> None:
    step = update(FieldChange("deploy.replicas", 5, 2, Cause.DRIFT), FieldChange("image", "app:v1", "app:v2"))
    gone = Step("Network", "app", "net", "app_net", Action.CREATE, Reason.REMOVED)
    lines = text(prepared(step, gone))
    begin = lines.index("Changed or removed by somebody else since the last apply, to be put back:")
    assert "    image  app:v1  ->  app:v2" in lines[:begin]
    assert lines[begin + 2] == "    deploy.replicas  5  ->  2" and lines[begin + 4] == "    removed"
    assert lines[-1] == "1 to create, 1 to update. Drift on 2 objects. Can be scheduled."


def test_every_command_on_manifests_can_be_called() -> None:
    modules = (applying, planning, stacks, validating, watching)
    written = {name for module in modules for name, found in vars(module).items() if isinstance(found, click.Command)}
    assert written <= set(main._COMMANDS)
