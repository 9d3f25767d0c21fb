"""Secrets and configs that are templates: what each task gets."""

from __future__ import annotations

import pytest

from gitops import errors
from gitops.executors import files
from gitops.executors.templates import Expander
from gitops.objects.node import NodeDescription
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec, Templating
from gitops.objects.service import ConfigReference, ContainerSpec, FileTarget, SecretReference
from gitops.objects.task import Task
from gitops.swarm.agent.executor import Dependencies

TASK = Task(id="t1", service_id="s1", service_name="web", slot=2, node_id="n1", service_labels={"tier": "front"})
GO = Templating("golang")


def expanded(text: bytes, templating: Templating | None = GO) -> dict[str, bytes]:
    spec = ContainerSpec(
        image="a",
        env=["SLOT={{.Task.Slot}}", "EMPTY="],
        secrets=[SecretReference(FileTarget("password"), "i1", "password-1")],
        configs=[
            ConfigReference(FileTarget("/etc/plain"), "i2", "plain-1"),
            ConfigReference(FileTarget("/etc/app"), "i3", "app-1"),
        ],
    )
    dependencies = Dependencies(
        secrets={"i1": Secret(id="i1", spec=SecretSpec("password-1", data=b"hunter2"))},
        configs={
            "i2": Config(id="i2", spec=ConfigSpec("plain-1", data=b"{{.Task.Slot}}")),
            "i3": Config(id="i3", spec=ConfigSpec("app-1", {}, text, templating)),
        },
    )
    expand = Expander(TASK, NodeDescription(hostname="host-a"))
    return {file.path: file.data for file in files.files(spec, dependencies, expand)}


def test_a_template_is_expanded_for_each_task() -> None:
    text = b'{{.Service.Name}} {{.Node.Hostname}} {{env "SLOT"}}{{ env "EMPTY" }} {{secret "password"}}'
    found = expanded(text + b' {{config "/etc/plain"}} {{.Service.Labels.tier}}')
    assert found["/etc/app"] == b"web host-a 2 hunter2 {{.Task.Slot}} front"


def test_what_is_no_template_stays_as_it_is() -> None:
    found = expanded(b"{{.Task.Slot}} {{nothing}} \xff", None)
    assert found["/etc/app"] == b"{{.Task.Slot}} {{nothing}} \xff"
    assert found["/etc/plain"] == b"{{.Task.Slot}}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"password: hidden {{nothing}}", "/etc/app has a placeholder"),
        (b"password: hidden {{.Service.Labels.owner}}", "/etc/app has a placeholder"),
        (b'{{secret "other"}}', "no secret at 'other'"),
        (b'{{config "other"}}', "no config at 'other'"),
        (b'{{env "OTHER"}}', "no variable 'OTHER'"),
        (b"\xff", "no UTF-8"),
    ],
)
def test_what_can_not_be_expanded_is_said_without_the_content(text: bytes, reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason) as caught:
        expanded(text)
    assert "hidden" not in str(caught.value) and "hunter2" not in str(caught.value)
