"""Fields that clients read without a look, since Docker sends them whatever they hold."""

from __future__ import annotations

from gitops.objects import base
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import ServiceSpec
from gitops.objects.task import ContainerStatus


def test_labels_and_counters_are_sent_where_they_are_empty() -> None:
    spec = base.to_builtins(ServiceSpec(name="web"))
    assert (spec["Labels"], spec["TaskTemplate"]["ForceUpdate"]) == ({}, 0)
    assert base.to_builtins(SecretSpec(name="key"))["Labels"] == {}
    assert base.to_builtins(ConfigSpec(name="file"))["Labels"] == {}
    assert base.to_builtins(ContainerStatus(container_id="c")) == {"ContainerID": "c", "PID": 0, "ExitCode": 0}


def test_objects_don_t_share_their_empty_labels() -> None:
    assert ServiceSpec().labels is not ServiceSpec().labels
