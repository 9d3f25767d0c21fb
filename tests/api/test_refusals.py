from __future__ import annotations

import json
from typing import Any

import pytest

from gitops import errors
from gitops.api import refusals


def _body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("name", "value"), [("CgroupParent", "/x"), ("DeviceRequests", [{"Count": -1}]), ("Isolation", "process")]
)
def test_what_is_not_supported_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(errors.Unsupported, match=name):
        refusals.check_container(_body(HostConfig={name: value}))


def test_a_runtime_that_is_not_there_is_named_in_docker_s_words() -> None:
    refusals.check_container(_body(HostConfig={"Runtime": "crun"}))
    with pytest.raises(errors.Invalid, match="unknown or invalid runtime name: kata"):
        refusals.check_container(_body(HostConfig={"Runtime": "kata"}))


def test_what_the_cli_sends_by_default_passes() -> None:
    refusals.check_container(
        _body(
            Image="x",
            OnBuild=None,
            Shell=None,
            HostConfig={
                "PidMode": "",
                "IpcMode": "private",
                "Devices": [],
                "MemorySwappiness": -1,
                "OomKillDisable": False,
                "Links": None,
                "ConsoleSize": [0, 0],
                "Unheard": "of",
            },
        )
    )


def test_an_empty_skeleton_of_privileges_passes() -> None:
    refusals.check_service(
        _body(TaskTemplate={"ContainerSpec": {"Privileges": {"CredentialSpec": None, "SELinuxContext": {"Type": ""}}}})
    )


@pytest.mark.parametrize(
    "privileges",
    [
        {"NoNewPrivileges": True},
        {"Seccomp": {"Mode": "unconfined"}, "AppArmor": {"Mode": "disabled"}},
        {"SELinuxContext": {"Disable": True}},
    ],
)
def test_privileges_that_the_engine_has_pass(privileges: dict[str, object]) -> None:
    refusals.check_service(_body(TaskTemplate={"ContainerSpec": {"Privileges": privileges}}))


@pytest.mark.parametrize(
    "privileges", [{"CredentialSpec": {"File": "spec.json"}}, {"SELinuxContext": {"Disable": False, "Type": "x_t"}}]
)
def test_accounts_of_windows_and_labels_of_selinux_are_refused(privileges: dict[str, object]) -> None:
    with pytest.raises(errors.Unsupported, match="Privileges"):
        refusals.check_service(_body(TaskTemplate={"ContainerSpec": {"Privileges": privileges}}))


def test_generic_resources_are_refused() -> None:
    spec = {"Resources": {"Reservations": {"GenericResources": [{}]}}, "ContainerSpec": {}}
    with pytest.raises(errors.Unsupported, match="GenericResources"):
        refusals.check_service(_body(TaskTemplate=spec))


def test_a_refused_secret_does_not_show_its_data() -> None:
    with pytest.raises(errors.Unsupported, match="Driver") as caught:
        refusals.check_secret(_body(Name="x", Data="aHVzaA==", Driver={"Name": "vault"}))
    assert "aHVzaA" not in str(caught.value)


def test_templates_are_those_of_go() -> None:
    refusals.check_secret(_body(Name="x", Data="aHVzaA==", Templating={"Name": "golang"}))
    refusals.check_secret(_body(Name="x", Data="aHVzaA==", Templating={"Name": "", "Options": None}))
    with pytest.raises(errors.Unsupported, match="'jinja'"):
        refusals.check_secret(_body(Name="x", Data="aHVzaA==", Templating={"Name": "jinja"}))


@pytest.mark.parametrize("data", [b"{", b"\xff"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(errors.Invalid):
        refusals.check_container(data)
