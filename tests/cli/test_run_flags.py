"""The flags of `run`, and the container that they ask for; how listings look."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gitops import errors
from gitops.cli import runflags, tables
from gitops.objects import spans
from gitops.objects.container import ContainerCreate, PortBinding


def made(*arguments: str) -> ContainerCreate:
    """What `create ARGUMENTS` would send."""
    found: list[ContainerCreate] = []

    @click.command(context_settings={"allow_interspersed_args": False})
    @runflags.flags
    @click.argument("image")
    @click.argument("command", nargs=-1, type=click.UNPROCESSED)
    def create(image: str, command: tuple[str, ...], **given: Any) -> None:
        found.append(runflags.made(image, command, given))

    result = CliRunner().invoke(create, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return found[0]


def test_flags_become_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("NOWHERE", raising=False)
    words = "-e A=1 -e HERE -e NOWHERE -h box -w /srv -u 1:2 --entrypoint sh -l tier=front -m 64m --cpus 1.5"
    more = "--restart on-failure:3 --rm --init -v data:/data:ro -v /anonymous --tmpfs /t:size=1m --network front"
    rest = "--network-alias db --ip 10.0.0.5 --ulimit nofile=10:20 --health-cmd true --health-interval 1m30s"
    found = made(*words.split(), *more.split(), *rest.split(), "app:1", "echo", "-n", "hi")
    assert (found.image, found.cmd, found.entrypoint) == ("app:1", ["echo", "-n", "hi"], ["sh"])
    assert found.env == ["A=1", "HERE=yes"] and found.labels == {"tier": "front"}
    assert (found.hostname, found.working_dir, found.user) == ("box", "/srv", "1:2")
    assert found.volumes == {"/anonymous": {}} and found.healthcheck is not None
    assert (found.healthcheck.test, found.healthcheck.interval) == (["CMD-SHELL", "true"], 90_000_000_000)
    host = found.host_config
    assert host is not None and host.restart_policy is not None
    assert (host.memory, host.nano_cpus, host.init, host.auto_remove) == (64 << 20, 1_500_000_000, True, True)
    assert (host.restart_policy.name, host.restart_policy.maximum_retry_count) == ("on-failure", 3)
    assert host.binds == ["data:/data:ro"] and host.tmpfs == {"/t": "size=1m"} and host.network_mode == "front"
    assert host.ulimits is not None and (host.ulimits[0].soft, host.ulimits[0].hard) == (10, 20)
    places = found.networking_config and found.networking_config.endpoints_config
    assert places and places["front"].aliases == ["db"]


PORTS = ("80", "8080:80", "127.0.0.1:81:81", "[::1]::82/udp", "9000-9001:90-91")


def test_ports_are_published_as_docker_writes_them() -> None:
    found = made(*(part for text in PORTS for part in ("-p", text)), "app")
    assert found.host_config is not None
    assert found.host_config.port_bindings == {
        "80/tcp": [PortBinding("", ""), PortBinding("", "8080")],
        "81/tcp": [PortBinding("127.0.0.1", "81")],
        "82/udp": [PortBinding("::1", "")],
        "90/tcp": [PortBinding("", "9000")],
        "91/tcp": [PortBinding("", "9001")],
    }
    assert set(found.exposed_ports or ()) == set(found.host_config.port_bindings)


def test_mounts_are_written_out() -> None:
    words = "type=bind,src=/a,dst=/b,ro", "source=data,target=/d,volume-subpath=x", "type=tmpfs,target=/t,tmpfs-size=1m"
    found = made(*(part for word in words for part in ("--mount", word)), "app")
    assert found.host_config is not None and found.host_config.mounts is not None
    bind, volume, tmpfs = found.host_config.mounts
    assert (bind.type, bind.source, bind.target, bind.read_only) == ("bind", "/a", "/b", True)
    assert volume.type == "volume" and volume.volume_options is not None and volume.volume_options.subpath == "x"
    assert tmpfs.tmpfs_options is not None and tmpfs.tmpfs_options.size_bytes == 1 << 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-p x:y", "--publish x:y"),
        ("-p 70000:80", "between 1 and 65535"),
        ("-p 1-3:1-2", "differ in length"),
        ("-m much", "no size"),
        ("--mount type=bind,colour=red", "colour"),
        ("--ulimit nofile", "NAME=SOFT"),
        ("-l =x", "a name is wanted"),
        ("--restart on-failure:often", "no number"),
        ("--health-interval soon --health-cmd true", "not a duration"),
        ("--env-file /nowhere/env", "/nowhere/env"),
    ],
)
def test_a_flag_that_cannot_be_read_is_named(arguments: str, said: str) -> None:
    with pytest.raises(errors.GitopsError, match=said):
        made(*arguments.split(), "app")


def test_listings_are_tables_ids_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "1" * 12, "name": "a"}, {"id": "2" * 12, "name": "longer"}]
    titles = {"id": "CONTAINER ID", "name": "NAMES"}
    tables.show(rows, titles, form="table")
    assert capsys.readouterr().out == "CONTAINER ID   NAMES\n111111111111   a\n222222222222   longer\n"
    tables.show(rows, titles, form="table", quiet="id")
    assert capsys.readouterr().out.split() == ["1" * 12, "2" * 12]
    tables.show(rows, titles, form="json")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


def test_sizes_and_filters_are_those_of_docker() -> None:
    assert [spans.size(count) for count in (0, 999, 1000, 1_982_274, 187_400_000)] == [
        "0B",
        "999B",
        "1kB",
        "1.98MB",
        "187MB",
    ]
    assert tables.parse_filters(["label=a=b", "label=c", "status=exited"]) == {
        "label": ["a=b", "c"],
        "status": ["exited"],
    }
    with pytest.raises(click.UsageError, match="key=value"):
        tables.parse_filters(["exited"])
