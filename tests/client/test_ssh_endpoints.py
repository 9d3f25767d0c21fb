"""Engines behind ssh: the address, the command line, and connections through a program that plays ssh's part.

The program runs the remote command in a shell on this host, as sshd does on another one.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gitops import client, errors
from gitops.client import ssh

SHELL = '#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n'


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ssh://box", ssh.Target("box")),
        ("ssh://box/", ssh.Target("box")),
        ("ssh://me@Box.Example", ssh.Target("Box.Example", "me")),
        ("ssh://me@box:2222", ssh.Target("box", "me", 2222)),
        ("ssh://box/var/run/docker.sock", ssh.Target("box", socket="/var/run/docker.sock")),
        ("ssh://me@[fe80::1]:22/x.sock", ssh.Target("fe80::1", "me", 22, "/x.sock")),
    ],
)
def test_an_address_is_what_the_docker_cli_takes(text: str, target: ssh.Target) -> None:
    assert ssh.parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "ssh://me@",
        "ssh://:22",
        "ssh://box:0",
        "ssh://box:70000",
        "ssh://box:port",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@box",
        "ssh://a b",
        "ssh://box?x=1",
        "ssh://box#x",
        "ssh://[box",
    ],
)
def test_what_is_no_address_or_would_be_an_option_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid, match="ssh://user@host"):
        ssh.parse(text)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(errors.Invalid, match="password") as caught:
        ssh.parse("ssh://me:hush@box")
    assert "hush" not in str(caught.value)


def test_the_host_stands_behind_the_end_of_the_options() -> None:
    words = ssh.command(ssh.Target("box", "me", 2222, "/a b.sock"), Path("/c"))
    assert words[0] == "ssh"
    assert words[words.index("--") + 1 :][0] == "box"
    assert (words[words.index("-l") + 1], words[words.index("-p") + 1]) == ("me", "2222")
    assert words[-1].endswith("'/a b.sock'")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The PATH's first directory; the rest of it has neither docker nor gitops."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "cat"):
        (directory / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(directory))
    _program(directory, "ssh", SHELL)
    return directory


def _program(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)
    (directory / name).chmod(0o755)


def _gitops(directory: Path) -> None:
    _program(directory, "gitops", f'#!/bin/sh\nexec {sys.executable} -m gitops "$@"\n')


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[str]:
    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": "1.47"})

    async def volumes(_: web.Request) -> web.Response:
        return web.json_response({"Volumes": [{"Name": "data"}]})

    app = web.Application()
    app.router.add_get("/_ping", ping)
    app.router.add_get("/v1.47/volumes", volumes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    path = tmp_path / "e.sock"
    await web.UnixSite(runner, str(path)).start()
    yield str(path)
    await runner.cleanup()


async def test_a_host_with_gitops_alone_is_reached(programs: Path, engine: str) -> None:
    _gitops(programs)
    async with client.connect(f"ssh://box{engine}") as connected:
        found = await asyncio.gather(*(connected.volumes() for _ in range(3)))
    assert [[volume.name for volume in volumes] for volumes in found] == [["data"]] * 3


async def test_a_host_with_docker_alone_is_reached(programs: Path, engine: str) -> None:
    _program(programs, "docker", f'#!/bin/sh\necho "$@" >>{programs}/asked\nshift 2\nexec {programs}/dial {engine}\n')
    dial = f'import pathlib; from gitops.daemon import dialing; dialing.join(pathlib.Path("{engine}"))'
    _program(programs, "dial", f"#!/bin/sh\nexec {sys.executable} -c '{dial}'\n")
    async with client.connect(f"ssh://box{engine}") as connected:
        assert len(await connected.volumes()) == 1
    assert (programs / "asked").read_text().splitlines()[0] == f"--host unix://{engine} system dial-stdio"


async def test_a_host_with_neither_says_so(programs: Path, engine: str) -> None:
    with pytest.raises(errors.Unavailable, match="neither gitops nor docker is on the PATH"):
        async with client.connect(f"ssh://box{engine}"):
            pass


async def test_the_reason_is_ssh_s_own(programs: Path) -> None:
    _program(programs, "ssh", "#!/bin/sh\necho 'ssh: Could not resolve hostname box: no such host' >&2\nexit 255\n")
    with pytest.raises(errors.Unavailable, match=r"ssh://box can't be reached: .*Could not resolve hostname"):
        async with client.connect("ssh://box"):
            pass


async def test_a_login_that_is_refused_is_no_passing_trouble(programs: Path) -> None:
    _program(programs, "ssh", "#!/bin/sh\necho 'me@box: Permission denied (publickey).' >&2\nexit 255\n")
    with pytest.raises(errors.Denied, match="publickey"):
        async with client.connect("ssh://me@box"):
            pass


async def test_an_engine_that_does_not_run_there_is_told_by_the_far_end(programs: Path) -> None:
    _gitops(programs)
    with pytest.raises(errors.Unavailable, match=r"no engine answers on /nowhere\.sock"):
        async with client.connect("ssh://box/nowhere.sock"):
            pass


async def test_a_host_without_ssh_says_what_is_missing(programs: Path) -> None:
    (programs / "ssh").unlink()
    with pytest.raises(errors.Unavailable, match="the program ssh can't be run"):
        async with client.connect("ssh://box"):
            pass


async def test_nothing_is_left_when_the_client_closes(programs: Path, engine: str) -> None:
    _gitops(programs)
    tunnel = ssh.Tunnel(ssh.parse(f"ssh://box{engine}"))
    path = tunnel.open()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    await tunnel.close()
    assert not path.parent.exists()
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    writer.close()


async def test_the_end_of_input_leaves_the_output_open(programs: Path, tmp_path: Path) -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read()
        writer.write(b"after the end: " + said)
        await writer.drain()
        writer.close()

    _gitops(programs)
    server = await asyncio.start_unix_server(late, tmp_path / "late.sock")
    tunnel = ssh.Tunnel(ssh.parse(f"ssh://box{tmp_path}/late.sock"))
    reader, writer = await asyncio.open_unix_connection(tunnel.open())
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"after the end: hello"
    writer.close()
    await tunnel.close()
    server.close()
    await server.wait_closed()
