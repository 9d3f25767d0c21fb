"""How plans look."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from gitops.cli import applying, explaining, main, markdown, output, planning, schedule, stacks, validating, watching
from gitops.manifests import DesiredSet
from gitops.objects.image import ImageSummary
from gitops.objects.node import Node
from gitops.objects.secret import Config
from gitops.objects.service import Service, ServiceSpec
from gitops.objects.task import Task
from gitops.reconciler import planner, redacted, revisions
from gitops.reconciler.diff import HIDDEN, Cause, FieldChange
from gitops.reconciler.forecast import Forecast, LostNode, NodeForecast, Refusal, ServiceForecast
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step, Unplaced
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Head, Revision
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
        *("refused", "warnings", "summary", "nodes", "lost_node", "against"),
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


def forecast(**more: Any) -> Forecast:
    fields: dict[str, Any] = {
        "wanted": 5,
        "before": {"wrk1": 3, "mgr1": 2},
        "after": {"wrk1": 3, "mgr1": 2},
        "restarted": (1, 2, 3, 4, 5),
        "batches": ((1, 2), (3, 4), (5,)),
        "order": "stop-first",
        "min_healthy": 3,
        "best_case_s": 45.0,
        "pulls": {"wrk1": 12 * 2**20, "mgr1": None},
        "pulls_unknown": ("wrk2",),
    }
    nodes = tuple(NodeForecast(name, 2, 10**9, 10**9, 2**30, 2**30) for name in ("mgr1", "wrk1"))
    return Forecast({"app_web": ServiceForecast("app_web", **(fields | more))}, nodes)


def test_a_plan_says_what_it_does_to_what_runs_and_where_that_is() -> None:
    change = FieldChange("image", "app:v1", "app:v2")
    lines = text(prepared(update(change), forecast=forecast()))
    assert lines[2].endswith("5 tasks restarted, 2 at a time, at least 3 healthy, about 45 s")
    assert (
        "    schedule   wrk1 3, mgr1 2 (unchanged); pulls 12 MiB on 2 nodes;"
        " whether it must be pulled on 1 node is unknown"
    ) in lines
    assert "    if a node is lost: holds without any one node" in lines
    more = {"pulls": {}, "pulls_unknown": ()}
    moved = text(prepared(update(change), forecast=forecast(after={"mgr1": 5}, has_outage=True, **more)))
    assert "    schedule   wrk1 3, mgr1 2  ->  mgr1 5" in moved and "OUTAGE" in moved[2]


def test_a_plan_says_of_each_mode_what_it_does() -> None:
    def brief(action: Action, **more: Any) -> str:
        step = replace(
            update(FieldChange("image", "a", "b")), action=action, note="app:v1, a task on each node that fits"
        )
        return schedule.brief(step, forecast(**more))

    job = {"mode": "replicated-job", "batches": ((0, 1), (2,)), "restarted": (1,), "min_healthy": 0}
    assert brief(Action.UPDATE, **job) == "runs anew: 3 tasks, 2 at a time, 1 stopped before its end"
    assert brief(Action.UPDATE, **job | {"restarted": ()}) == "runs anew: 3 tasks, 2 at a time"
    each = {"mode": "global", "batches": (("a",), ("b",)), "restarted": ("a", "b"), "created": ("c",), "min_healthy": 1}
    assert brief(Action.UPDATE, **each) == "2 tasks restarted, 1 at a time, 1 task more, at least 1 healthy, about 45 s"
    assert brief(Action.CREATE, **each) == "app:v1, a task on each node that fits: 2 nodes"


def test_updates_that_are_alike_are_told_once() -> None:
    steps = [
        Step(
            "Service", "app", name, f"app_{name}", Action.UPDATE, Reason.CHANGED, (FieldChange("image", "a:1", "a:2"),)
        )
        for name in ("a", "b", "c")
    ]
    lines = text(prepared(*steps))
    begin = lines.index("~ 3 services alike")
    assert lines[begin + 1 : begin + 3] == ["    image  a:1  ->  a:2", "    of a, b, c"]
    assert sum("a:1  ->  a:2" in line for line in lines) == 1


def test_what_can_not_be_placed_is_told_filter_by_filter() -> None:
    item = Unplaced("app_web", 2, "no suitable node", (Refusal("memory", 2, "memory exhausted on 2 nodes"),))
    found = prepared(update(), unplaced=(item,))
    assert "    memory exhausted on 2 nodes" in text(found)
    unplaced = json.loads(output.plan_json(found))["unplaced"][0]
    assert unplaced["filters"] == [{"dimension": "memory", "nodes": 2, "text": "memory exhausted on 2 nodes"}]


def everything() -> Prepared:
    """A plan with something of each sort in it."""
    secret = (FieldChange("data", HIDDEN, HIDDEN, is_sensitive=True),)
    form = {"data": HIDDEN, "labels": {"a": "b"}}
    return prepared(
        update(FieldChange("image", "a", "b"), FieldChange("deploy.replicas", 5, 2, Cause.DRIFT)),
        Step("Secret", "app", "key", "app_key-1", Action.UPDATE, Reason.CHANGED, secret, before=form, after=form),
        Step("Network", "app", "net", "app_net", Action.REPLACE, Reason.IMMUTABLE, (FieldChange("x", [1], None),)),
        Step("Config", "app", "old", "app_old-1", Action.DELETE, Reason.LEFT),
        Step("Volume", "app", "data", "app_data", Action.NONE, Reason.SAME),
        unplaced=(Unplaced("app_web", 2, "no suitable node", (Refusal("memory", 2, "memory"),)),),
        warnings=("a warning",),
        refused=("a refusal",),
        forecast=replace(forecast(), lost=(LostNode("wrk1", "app_web", 2, "memory"),)),
    )


def test_json_is_as_its_schema_says() -> None:
    schema = json.loads((Path(__file__).parents[2] / "schemas" / "plan.schema.json").read_text())
    for found in (everything(), prepared()):
        assert problems(json.loads(output.plan_json(found)), schema, schema) == []
    broken = json.loads(output.plan_json(everything())) | {"verdict": "maybe"}
    broken["changes"][0]["position"] = 3
    assert problems(broken, schema, schema) == ["verdict: maybe", "changes.position: 3"]
    assert problems({"more": 1}, schema, schema)


def test_a_snapshot_is_as_its_schema_says() -> None:
    schema = json.loads((Path(__file__).parents[2] / "schemas" / "snapshot.schema.json").read_text())
    service = Service(id="s1", spec=ServiceSpec(name="app_web", labels={"gitops.stack": "app"}))
    head = Head("app", 1, outcome=Outcome.APPLIED)
    seen = Live(
        services={"app_web": service},
        tasks=(Task(id="t1", service_id="s1"),),
        nodes=(Node(id="n1"),),
        records={"app": Record("app", source="path:/site", images=("app:v1",))},
        revisions={"app": [Revision(head, Config(), revisions.encode(revisions.Body()))]},
    )
    found = redacted.made(seen, [ImageSummary("sha256:1", ["app:v1"], [], 0, 5)], "unix:///engine.sock", 1)
    assert problems(found, schema, schema) == []
    assert problems(found | {"format_version": 2, "more": 1}, schema, schema) == ["format_version: 2", "more: unknown"]


_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def problems(value: Any, schema: Any, root: Any, path: str = "") -> list[str]:
    """What a JSON Schema says against a value; knows the words that ours use."""
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, path)
    if "oneOf" in schema:
        fitting = [one for one in schema["oneOf"] if not problems(value, one, root, path)]
        return [] if len(fitting) == 1 else [f"{path}: {value!r:.80}"]
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    fits = not names or any(value is None if name == "null" else isinstance(value, _TYPES[name]) for name in names)
    if not fits or ("enum" in schema and value not in schema["enum"]):
        return [f"{path}: {value}"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{path}: {value}"]
    found = []
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{path}.{key}: missing" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            below = f"{path}.{key}" if path else key
            rule = known.get(key, more)
            found += [f"{below}: unknown"] if rule is False else problems(item, rule, root, below)
    for item in value if isinstance(value, list) else []:
        found += problems(item, schema.get("items", {}), root, path)
    return found


def test_a_sensitive_value_is_marked_in_a_tree_beside_the_values() -> None:
    secret = json.loads(output.plan_json(everything()))["changes"][1]
    assert secret["before_sensitive"] == secret["after_sensitive"] == {"data": True}
    assert secret["fields"][0] == {
        "path": "data",
        "old": "(hidden)",
        "new": "(hidden)",
        "cause": "intent",
        "sensitive": True,
    }


def test_markdown_has_a_table_and_folded_fields() -> None:
    found = markdown.plan(everything(), "unix:///engine.sock")
    lines = found.splitlines()
    assert lines[0] == "### Stack app, commit 3f2c1ab0d1e2, on `unix:///engine.sock`"
    assert any(line.startswith("| ~ update | Service | `web` | image, replicas |") for line in lines)
    begin = lines.index("<details><summary>~ update Service web</summary>")
    assert lines[begin + 2 : begin + 6] == ["```diff", "# image", "- a", "+ b"]
    assert "> **refused:** a refusal" in lines and "> warning: a warning" in lines
    assert found.count("<details>") == found.count("</details>") == 3


def test_a_comment_in_markdown_stays_within_its_limit_and_says_what_was_cut() -> None:
    steps = [update(FieldChange("command", [], ["x" * 250 + str(number)])) for number in range(400)]
    found = markdown.plan(prepared(*steps), "host", limit=20_000)
    assert len(found) <= 20_000 and "more entries were cut" in found and "| | | and 300 more | | |" in found


def test_nothing_in_a_value_is_taken_for_markup_of_the_comment() -> None:
    nasty = "```\n</details> <script> @everyone"
    found = markdown.plan(prepared(update(FieldChange("command", "a", nasty)), warnings=("<b> @all | x",)), "h")
    assert found.count("```") == 2 and "&lt;b> &#64;all" in found


def test_every_command_on_manifests_can_be_called() -> None:
    modules = (applying, explaining, planning, stacks, validating, watching)
    written = {name for module in modules for name, found in vars(module).items() if isinstance(found, click.Command)}
    assert written <= set(main._COMMANDS)
