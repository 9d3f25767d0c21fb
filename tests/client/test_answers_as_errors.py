from __future__ import annotations

import pytest

from gitops import errors
from gitops.client import answers
from gitops.objects import wire
from gitops.objects.container import ContainerCreate
from gitops.objects.image import ImageSummary
from gitops.objects.network import NetworkResource
from gitops.objects.service import Service, ServiceSpec


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "bad", errors.Invalid),
        (401, "who", errors.Denied),
        (403, "no", errors.Denied),
        (404, "No such container: x", errors.NotFound),
        (409, "taken", errors.Conflict),
        (500, "rpc error: code = Unknown desc = update out of sequence", errors.OutOfSequence),
        (500, "the kernel refused", errors.RuntimeFailure),
        (501, "not yet", errors.Unsupported),
        (503, "This node is not a swarm manager. Use ...", errors.NotInSwarm),
        (503, "This node is not part of a swarm", errors.NotInSwarm),
        (503, "later", errors.Unavailable),
        (418, "teapot", errors.RuntimeFailure),
    ],
)
def test_each_status_is_an_error_with_the_engine_s_text(status: int, text: str, kind: type[Exception]) -> None:
    error = answers.error_of(status, f'{{"message":"{text}"}}'.encode())
    assert type(error) is kind
    assert str(error) == text


@pytest.mark.parametrize("body", [b"", b"plain words", b"[1]", b"\xff\xfe"])
def test_a_body_that_is_no_message_still_gives_an_error(body: bytes) -> None:
    assert str(answers.error_of(502, body))


def test_null_counts_as_absent() -> None:
    found = wire.decode('{"ID":"s","Spec":{"Name":"x","Labels":null,"EndpointSpec":{"Ports":null}}}', Service)
    assert found.spec.labels == {}
    assert found.spec.endpoint_spec is not None
    assert found.spec.endpoint_spec.ports == []


def test_null_counts_as_absent_in_lists_too() -> None:
    text = '[{"Name":"n","Id":"1","Created":"","IPAM":{"Config":null},"Options":null,"Containers":null}]'
    (found,) = wire.decode(text, list[NetworkResource])
    assert (found.options, found.containers) == ({}, {})


def test_null_and_nothing_stand_for_the_empty_value_of_a_field_that_must_be_there() -> None:
    (found,) = wire.decode('[{"Id":"i","RepoTags":["a:1"],"RepoDigests":null,"Created":5}]', list[ImageSummary])
    assert (found.repo_digests, found.size) == ([], 0)


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(errors.Invalid, match=r"\$\.Spec\.Name"):
        wire.decode('{"Spec":{"Name":5,"Labels":null}}', Service)


def test_an_answer_of_another_kind_is_the_engine_s_failure() -> None:
    with pytest.raises(errors.RuntimeFailure, match="can't be read"):
        answers.decode(b'[{"Id":1}]', list[ImageSummary])


def test_the_case_of_a_request_s_field_names_is_free_and_map_keys_are_data() -> None:
    text = '{"name":"x","Mode":{"replicated":{"replicas":2}},"labels":{"aB":"1","Ab":null},"TaskTemplate":null}'
    spec = wire.decode_request(text, ServiceSpec)
    assert spec.mode.replicated is not None
    assert (spec.name, spec.mode.replicated.replicas, spec.labels) == ("x", 2, {"aB": "1"})


def test_the_exact_name_wins_over_one_of_another_case() -> None:
    assert wire.decode_request('{"name":"a","Name":"b","NAME":"c"}', ServiceSpec).name == "b"


def test_values_of_other_kinds_are_left_to_the_check() -> None:
    created = wire.decode_request('{"Cmd":"a b","Env":null,"HostConfig":{"memory":5,"Binds":null}}', ContainerCreate)
    assert created.host_config is not None
    assert (created.cmd, created.host_config.memory) == ("a b", 5)
    with pytest.raises(errors.Invalid, match=r"\$\.Name"):
        wire.decode_request('{"name":5}', ServiceSpec)
    with pytest.raises(errors.Invalid):
        wire.decode_request("[" * 100_000, ServiceSpec)


def test_the_envelope_of_a_managers_answer_is_not_shown_to_people() -> None:
    body = b'{"message": "rpc error: code = InvalidArgument desc = port \'80\' is already in use"}'
    assert str(answers.error_of(400, body)) == "port '80' is already in use"
