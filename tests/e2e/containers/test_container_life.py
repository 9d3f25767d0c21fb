"""Real containers: what runs in them, how they end, what is left of them."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import ContainerService, InjectedFile, cgroups, syscalls
from gitops.objects.base import MILLISECOND, SECOND
from gitops.objects.container import HostConfig, LogConfig, RestartPolicy
from gitops.objects.mount import Mount, TmpfsOptions, VolumeDriver, VolumeOptions
from gitops.objects.service import HealthConfig, Ulimit

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.e2e
Call = "Callable[..., Any]"


async def output(service: ContainerService, container: str, **options: Any) -> str:
    return b"".join([entry.data async for entry in service.logs(container, **options)]).decode()


async def run(service: ContainerService, body: Any, **options: Any) -> tuple[int, str]:
    """Exit code and output of a container that runs to its end and is removed."""
    made = await service.create(body, **options)
    await service.start_container(made.id)
    code = await service.wait(made.id)
    text = await output(service, made.id)
    await service.remove(made.id, volumes=True)
    return code, text


async def until(service: ContainerService, container: str, wanted: Callable[[Any], bool]) -> Any:
    """The first state that fits."""
    async with asyncio.timeout(30):
        async for state in service.changes(container):
            if wanted(state):
                return state
    raise AssertionError("it was removed")


async def line_of(service: ContainerService, container: str, wanted: str) -> None:
    """Return when the container has said `wanted`."""
    async with asyncio.timeout(30):
        async for entry in service.logs(container, follow=True):
            if wanted in entry.data.decode():
                return
    raise AssertionError(f"it never said {wanted!r}")


async def test_output_streams_and_exit_code_are_kept(service: ContainerService, call: Any) -> None:
    made = await service.create(call("sh", "-c", "echo out; echo err >&2; printf end; exit 3"), "talker")
    assert made.name == "/talker" and made.state.status == "created"
    assert await service.start_container("talker") is True
    assert await service.wait(made.id[:12]) == 3
    assert await output(service, made.id, stderr=False) == "out\nend"
    assert await output(service, made.id, stdout=False) == "err\n"
    assert await output(service, made.id, stderr=False, tail=1) == "end"
    stamped = await output(service, made.id, timestamps=True, stderr=False)
    assert [line[30:] for line in stamped.splitlines()] == [" out", " end"]
    state = service.get("/talker").state
    assert (state.status, state.exit_code, state.running, state.pid) == ("exited", 3, False, 0)
    assert state.started_at < state.finished_at


async def test_nothing_is_left_of_a_container_that_was_removed(service: ContainerService, host: Any, call: Any) -> None:
    files = [InjectedFile("/run/secrets/s", b"x")]
    made = await service.create(call("true", host=HostConfig(memory=32 << 20, binds=["/data"])), files=files)
    await service.start_container(made.id)
    await service.wait(made.id)
    assert [entry for entry in host.leftovers() if not entry.startswith(("data ", "secrets/", "mount "))] == []
    await service.remove(made.id, volumes=True)
    assert host.leftovers() == []
    assert list((host.config.data_root / "volumes").iterdir()) == []


async def test_the_process_has_its_environment_user_and_directory(service: ContainerService, call: Any) -> None:
    script = "id -u; id -g; id -G; pwd; echo $HOME $FROM_IMAGE $MINE; hostname; cat /proc/self/status"
    body = call(
        "sh", "-c", script, user="worker", working_dir="/made/here", env=["MINE=yes"], hostname="box",
        host=HostConfig(group_add=["staff", "77"], security_opt=["no-new-privileges"]),
    )  # fmt: skip
    code, text = await run(service, body)
    lines = text.splitlines()
    assert code == 0
    assert lines[:6] == ["1001", "1002", "1002 77 1003", "/made/here", "/home/worker yes yes", "box"]
    status = dict(line.split(":", 1) for line in lines[6:])
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert (status["CapEff"].strip(), status["CapBnd"].strip()) == ("0" * 16, "00000000a80425fb")


async def test_the_kept_filter_confines_as_the_compiled_one_did(
    service: ContainerService, host: Any, call: Any
) -> None:
    script = "cat /proc/self/status; mount -t tmpfs x /tmp 2>&1; true"
    first = await run(service, call("sh", "-c", script))
    assert len(list((host.config.data_root / "seccomp").glob("*.bpf"))) == 1
    second = await run(service, call("sh", "-c", script))
    for code, text in (first, second):
        assert code == 0
        assert "Seccomp:\t2" in text and "CapEff:\t00000000a80425fb" in text
        assert "Operation not permitted" in text or "permission denied" in text
    unconfined = HostConfig(security_opt=["seccomp=unconfined"])
    assert "Seccomp:\t0" in (await run(service, call("sh", "-c", script, host=unconfined)))[1]


async def test_limits_are_in_effect(service: ContainerService, host: Any, call: Any) -> None:
    limits = HostConfig(
        memory=48 << 20, nano_cpus=500_000_000, pids_limit=7, shm_size=1 << 20, oom_score_adj=300,
        ulimits=[Ulimit("nofile", 10_000_000, 123)], sysctls={"net.ipv4.ip_forward": "1"}, tmpfs={"/t": "size=64k"},
    )  # fmt: skip
    script = "ulimit -n; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; mount; echo ready; sleep 1000"
    made = await service.create(call("sh", "-c", script, host=limits))
    await service.start_container(made.id)
    await line_of(service, made.id, "ready")
    text = await output(service, made.id)
    assert text.splitlines()[:3] == ["123", "300", "1"]
    assert "size=1024k" in next(line for line in text.splitlines() if " /dev/shm " in line)
    assert "size=64k" in next(line for line in text.splitlines() if " /t " in line)
    groups = cgroups.Groups(host.config.cgroup_parent)
    if groups.is_v2:
        folder = groups.folder(made.id, "memory")
        assert (folder / "memory.max").read_text().strip() == str(48 << 20)
        assert (folder / "cpu.max").read_text().split() == ["50000", "100000"]
        assert (folder / "pids.max").read_text().strip() == "7"
    else:
        assert (groups.folder(made.id, "memory") / "memory.limit_in_bytes").read_text().strip() == str(48 << 20)
        assert (groups.folder(made.id, "memory") / "memory.memsw.limit_in_bytes").read_text().strip() == str(96 << 20)
        assert (groups.folder(made.id, "cpu") / "cpu.cfs_quota_us").read_text().strip() == "50000"
        assert (groups.folder(made.id, "pids") / "pids.max").read_text().strip() == "7"
    await service.stop(made.id, 0)
    assert not service.get(made.id).state.oom_killed


async def test_a_process_that_takes_too_much_memory_is_killed_and_it_is_said(
    service: ContainerService, call: Any
) -> None:
    limits = HostConfig(memory=16 << 20, memory_swap=16 << 20)
    made = await service.create(call("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1", host=limits))
    await service.start_container(made.id)
    assert await service.wait(made.id) == 137
    assert service.get(made.id).state.oom_killed


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["nope"], 127, "executable file not found"),
        (["/bin/nope"], 127, "executable file not found"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "permission denied"),
    ],
)
async def test_a_command_that_can_t_be_run_is_told_as_docker_tells_it(
    service: ContainerService, host: Any, call: Any, command: list[str], code: int, text: str
) -> None:
    made = await service.create(call(*command))
    with pytest.raises(errors.Invalid, match=text):
        await service.start_container(made.id)
    state = service.get(made.id).state
    assert (state.status, state.exit_code) == ("created", code) and text in state.error
    assert [entry for entry in host.leftovers() if not entry.startswith("data ")] == []


async def test_an_unknown_user_is_told_and_nothing_is_left(service: ContainerService, host: Any, call: Any) -> None:
    made = await service.create(call("true", user="stranger"))
    with pytest.raises(errors.Invalid, match="unable to find user stranger"):
        await service.start_container(made.id)
    assert [entry for entry in host.leftovers() if not entry.startswith("data ")] == []


async def test_a_passwd_that_is_a_link_out_of_the_image_leads_nowhere(
    service: ContainerService, host: Any, call: Any
) -> None:
    outside = host.root / "outside"
    outside.write_text("evil:x:0:0::/:\n")
    passwd = host.images.layer / "etc" / "passwd"
    passwd.unlink()
    passwd.symlink_to(outside)
    made = await service.create(call("true", user="evil"))
    with pytest.raises(errors.Invalid, match="unable to find user evil"):
        await service.start_container(made.id)


async def test_stop_asks_first_and_kills_after_the_grace_period(service: ContainerService, call: Any) -> None:
    polite = "trap 'echo bye; exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    made = await service.create(call("sh", "-c", polite, stop_signal="SIGUSR1"))
    await service.start_container(made.id)
    await line_of(service, made.id, "ready")
    assert await service.stop(made.id, 20) is True
    assert service.get(made.id).state.exit_code == 7
    assert "bye" in await output(service, made.id)
    assert await service.stop(made.id) is False

    stubborn = await service.create(call("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    await service.start_container(stubborn.id)
    await line_of(service, stubborn.id, "ready")
    began = asyncio.get_running_loop().time()
    assert await service.stop(stubborn.id, 0.5) is True
    assert 0.5 <= asyncio.get_running_loop().time() - began < 5
    assert service.get(stubborn.id).state.exit_code == 137


async def test_calls_in_the_wrong_state_have_docker_s_texts(service: ContainerService, call: Any) -> None:
    made = await service.create(call("sleep", "1000"), "one")
    with pytest.raises(errors.Conflict, match='The container name "/one" is already in use by container "'):
        await service.create(call("true"), "one")
    with pytest.raises(errors.Conflict, match="is not running"):
        await service.kill("one")
    with pytest.raises(errors.Conflict, match="is not running"):
        await service.pause("one")
    await service.start_container("one")
    assert await service.start_container("one") is False
    with pytest.raises(
        errors.Conflict, match='cannot remove container "/one": container is running: stop the container'
    ):
        await service.remove("one")
    with pytest.raises(errors.RuntimeFailure, match="is not paused"):
        await service.unpause("one")
    with pytest.raises(errors.Invalid, match="invalid signal: SIGFOO"):
        await service.kill("one", "SIGFOO")
    with pytest.raises(errors.NotFound, match="No such container: other"):
        service.get("other")
    with pytest.raises(errors.Invalid, match="invalid filter 'colour'"):
        service.list(filters={"colour": ["red"]})
    assert await service.create(call("true")) is not None
    await service.remove(made.id, force=True)
    with pytest.raises(errors.NotFound):
        service.get(made.id)


async def test_a_paused_container_stands_still_and_can_be_killed(service: ContainerService, call: Any) -> None:
    made = await service.create(call("sleep", "1000"))
    await service.start_container(made.id)
    await service.pause(made.id)
    assert service.get(made.id).state.status == "paused"
    assert "(Paused)" in service.list()[0].status
    with pytest.raises(errors.Conflict, match="already paused"):
        await service.pause(made.id)
    with pytest.raises(errors.Conflict, match="cannot start a paused container"):
        await service.start_container(made.id)
    with pytest.raises(errors.Conflict, match="is paused and must be unpaused first"):
        await service.remove(made.id)
    await service.unpause(made.id)
    await service.pause(made.id)
    await service.kill(made.id)
    assert await service.wait(made.id) == 137


async def test_a_second_run_keeps_the_files_of_the_first(service: ContainerService, call: Any) -> None:
    made = await service.create(call("sh", "-c", "cat /kept 2>/dev/null; echo again >> /kept"))
    for _ in range(2):
        await service.start_container(made.id)
        await service.wait(made.id)
    assert await output(service, made.id) == "again\n"


async def test_a_read_only_root_refuses_writes_but_to_what_is_mounted(service: ContainerService, call: Any) -> None:
    body = call(
        "sh", "-c", "touch /x 2>&1; touch /tmp/x && touch /dev/shm/x && echo fine",
        host=HostConfig(readonly_rootfs=True, tmpfs={"/tmp": ""}),
    )  # fmt: skip
    code, text = await run(service, body)
    assert code == 0 and "Read-only file system" in text and "fine" in text


async def test_new_volumes_are_filled_from_the_image_once(service: ContainerService, host: Any, call: Any) -> None:
    script = "cat /data/seed; stat -c %u:%g /data; echo more >> /data/seed"
    mount = Mount(type="volume", source="store", target="/data")
    for expected in ("from the image\n1001:1002\n", "from the image\nmore\n1001:1002\n"):
        assert await run(service, call("sh", "-c", script, host=HostConfig(mounts=[mount]))) == (0, expected)
    assert (host.config.data_root / "volumes" / "store" / "_data" / "seed").exists()


async def test_a_volume_with_options_is_mounted_while_it_is_used(
    service: ContainerService, host: Any, call: Any
) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=64k,mode=700"}
    driver = VolumeDriver(name="local", options=options)
    mount = Mount(
        type="volume",
        source="scratch",
        target="/data",
        volume_options=VolumeOptions(no_copy=True, driver_config=driver),
    )
    path = host.config.data_root / "volumes" / "scratch" / "_data"
    made = await service.create(call("sh", "-c", "mount; sleep 1000", host=HostConfig(mounts=[mount])))
    await service.start_container(made.id)
    await line_of(service, made.id, "tmpfs on /data type tmpfs")
    assert mountinfo.is_mount_point(path)
    await host.stop()
    service = await host.start()
    await service.stop(made.id, 0)
    assert not mountinfo.is_mount_point(path)


async def test_a_volume_that_is_a_directory_of_the_host_never_takes_it_along(
    service: ContainerService, host: Any, call: Any
) -> None:
    outside = host.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("data\n")
    options = {"type": "none", "device": str(outside), "o": "bind"}
    wanted = VolumeOptions(driver_config=VolumeDriver(name="local", options=options))
    mounts = [Mount(type="volume", source="bound", target="/data", volume_options=wanted)]
    for _ in range(2):
        assert await run(service, call("cat", "/data/precious", host=HostConfig(mounts=mounts))) == (0, "data\n")
    made = await service.create(call("sleep", "1000", host=HostConfig(mounts=mounts)))
    await service.start_container(made.id)
    await host.stop()
    service = await host.start()
    volumes = service._volumes
    with pytest.raises(errors.Conflict, match="volume is in use"):
        await volumes.remove("bound")
    await service.remove(made.id, force=True)
    await volumes.remove("bound")
    assert (outside / "precious").read_text() == "data\n"


async def test_binds_and_tmpfs_are_where_they_should_be(service: ContainerService, host: Any, call: Any) -> None:
    shared = host.root / "shared"
    shared.mkdir()
    (shared / "file").write_text("from the host\n")
    (shared / "sub").mkdir()
    syscalls.mount("tmpfs", shared / "sub", "tmpfs")
    body = call(
        "sh", "-c", "cat /ro/file; touch /ro/x 2>&1; touch /ro/sub/x 2>&1; touch /rw/made; mount",
        host=HostConfig(
            binds=[f"{shared}:/ro:ro", f"{host.root}/new:/rw"],
            mounts=[Mount(type="tmpfs", target="/scratch", tmpfs_options=TmpfsOptions(size_bytes=65536, mode=0o700))],
        ),
    )  # fmt: skip
    code, text = await run(service, body)
    assert code == 0 and "from the host" in text and text.count("Read-only file system") == 2
    syscalls.unmount(shared / "sub")
    assert (host.root / "new" / "made").exists()
    scratch = next(line for line in text.splitlines() if " /scratch " in line)
    assert "size=64k" in scratch and "mode=700" in scratch and "noexec" in scratch
    with pytest.raises(errors.Invalid, match="bind source path does not exist: /does/not/exist"):
        await service.create(
            call("true", host=HostConfig(mounts=[Mount(type="bind", source="/does/not/exist", target="/x")]))
        )


async def test_secrets_are_in_memory_only(service: ContainerService, host: Any, call: Any) -> None:
    word = b"correct horse battery staple"
    files = [InjectedFile("/run/secrets/token", word, 0o440, 1001, 1002), InjectedFile("/etc/app.conf", b"x=1\n")]
    script = "cat /run/secrets/token; echo; stat -c '%a %u:%g' /run/secrets/token; cat /etc/app.conf"
    made = await service.create(call("sh", "-c", script + "; sleep 1000", user="worker"), files=files)
    await service.start_container(made.id)
    await line_of(service, made.id, "x=1")
    assert await output(service, made.id) == f"{word.decode()}\n440 1001:1002\nx=1\n"
    mounted = host.config.run_root / "secrets" / made.id
    assert os.path.ismount(mounted) and stat.S_IMODE(mounted.stat().st_mode) == 0o700
    log = Path(service.get(made.id).log_path)
    on_disk = [
        path for path in host.root.rglob("*")
        if path.is_file() and mounted not in path.parents and path != log and word in path.read_bytes()
    ]  # fmt: skip
    assert [path for path in on_disk if "rootfs" not in path.parts] == []
    await service.remove(made.id, force=True)
    assert not mounted.exists()


async def test_an_init_reaps_and_passes_signals_on(service: ContainerService, call: Any) -> None:
    body = call("sh", "-c", "cat /proc/1/comm; sleep 1000", host=HostConfig(init=True))
    made = await service.create(body)
    await service.start_container(made.id)
    await line_of(service, made.id, "docker-init")
    await service.stop(made.id, 20)
    assert service.get(made.id).state.exit_code == 143


async def test_the_engine_s_files_say_who_the_container_is(service: ContainerService, call: Any) -> None:
    host = HostConfig(extra_hosts=["db:10.1.2.3"], dns=["9.9.9.9"], dns_search=["lan"])
    body = call("sh", "-c", "cat /etc/hostname /etc/hosts /etc/resolv.conf", hostname="me", host=host)
    _, text = await run(service, body)
    assert text.startswith("me\n127.0.0.1\tlocalhost\n")
    assert "10.1.2.3\tdb" in text and "nameserver 9.9.9.9\nsearch lan\n" in text


async def test_health_turns_with_the_probe(service: ContainerService, call: Any) -> None:
    check = HealthConfig(
        test=["CMD-SHELL", "echo $MINE; test -e /tmp/ok"], interval=50 * MILLISECOND, retries=2, timeout=5 * SECOND
    )
    script = "touch /tmp/ok; echo ready; trap 'rm -f /tmp/ok' USR1; while :; do sleep 0.05; done"
    script = script.replace("rm -f", "/bin/busybox rm -f")
    made = await service.create(call("sh", "-c", script, healthcheck=check, env=["MINE=probe says"]))
    await service.start_container(made.id)
    state = await until(service, made.id, lambda state: state.health.status == "healthy")
    assert state.health.log[-1].output == "probe says\n" and state.health.failing_streak == 0
    assert "(healthy)" in service.list()[0].status
    await service.kill(made.id, "USR1")
    state = await until(service, made.id, lambda state: state.health.status == "unhealthy")
    assert state.health.failing_streak >= 2 and state.health.log[-1].exit_code == 1
    assert state.running
    await service.stop(made.id, 0)


async def test_a_probe_that_takes_too_long_is_killed(service: ContainerService, host: Any, call: Any) -> None:
    check = HealthConfig(
        test=["CMD-SHELL", "echo begun; sleep 1000"], interval=20 * MILLISECOND, timeout=200 * MILLISECOND, retries=1
    )
    made = await service.create(call("sleep", "1000", healthcheck=check))
    await service.start_container(made.id)
    state = await until(service, made.id, lambda state: state.health.status == "unhealthy")
    assert state.health.log[-1].exit_code == -1
    assert state.health.log[-1].output == "Health check exceeded timeout (200ms): begun\n"
    await service.stop(made.id, 0)


async def test_restart_policies_start_again_what_ended(service: ContainerService, call: Any) -> None:
    policy = HostConfig(restart_policy=RestartPolicy("on-failure", 2))
    made = await service.create(call("sh", "-c", "echo run; exit 9", host=policy))
    await service.start_container(made.id)
    assert await service.wait(made.id) == 9
    await until(service, made.id, lambda state: state.status == "exited")
    assert service.get(made.id).restart_count == 2
    assert await output(service, made.id) == "run\n" * 3


async def test_always_starts_again_until_it_is_stopped(service: ContainerService, call: Any) -> None:
    policy = HostConfig(restart_policy=RestartPolicy("always"))
    made = await service.create(call("sleep", "1000", host=policy))
    await service.start_container(made.id)
    first = service.get(made.id).state.pid
    os.kill(first, 9)
    state = await until(service, made.id, lambda state: state.running and state.pid not in (0, first))
    assert state.status == "running"
    await service.stop(made.id, 0)
    assert service.get(made.id).state.status == "exited"


async def test_auto_remove_takes_the_container_and_its_anonymous_volumes(
    service: ContainerService, host: Any, call: Any
) -> None:
    made = await service.create(call("sh", "-c", "exit 4", host=HostConfig(auto_remove=True, binds=["/data"])))
    waiting = asyncio.create_task(service.wait(made.id, "removed"))
    await asyncio.sleep(0)
    await service.start_container(made.id)
    assert await waiting == 4
    assert service.list(all=True) == []


async def test_logs_are_rotated_without_losing_lines(service: ContainerService, call: Any) -> None:
    log = LogConfig(config={"max-size": "20k", "max-file": "50"})
    script = "for i in $(seq 1 2000); do echo line-$i; test $((i % 400)) = 0 && sleep 1; done; true"
    made = await service.create(call("sh", "-c", script, host=HostConfig(log_config=log)))
    await service.start_container(made.id)
    followed = [entry.data async for entry in service.logs(made.id, follow=True)]
    expected = [f"line-{number}\n".encode() for number in range(1, 2001)]
    assert followed == expected
    assert [entry.data async for entry in service.logs(made.id)] == expected
    assert len(list(Path(service.get(made.id).log_path).parent.iterdir())) > 2
    assert await output(service, made.id, tail=2) == "line-1999\nline-2000\n"


async def test_no_log_is_kept_where_none_is_wanted(service: ContainerService, call: Any) -> None:
    made = await service.create(call("echo", "secret", host=HostConfig(log_config=LogConfig(type="none"))))
    await service.start_container(made.id)
    await service.wait(made.id)
    with pytest.raises(errors.Unsupported, match="does not support reading"):
        await output(service, made.id)


async def test_an_image_without_layers_runs_what_is_mounted_into_it(
    service: ContainerService, host: Any, call: Any
) -> None:
    binds = [f"{host.images.layer}/bin:/bin:ro"]
    host.images.layers = lambda image_id: []
    assert await run(service, call("/bin/echo", "hello", host=HostConfig(binds=binds))) == (0, "hello\n")


async def test_an_image_of_very_many_layers_can_be_mounted(service: ContainerService, host: Any, call: Any) -> None:
    layers = [host.images.layer]
    for number in range(120):
        layer = host.root / ("layer-with-a-long-name-" + "x" * 40) / f"{number:04d}"
        layer.mkdir(parents=True)
        (layer / f"f{number}").write_text(str(number))
        layers.insert(0, layer)
    host.images.layers = lambda image_id: layers
    assert await run(service, call("cat", "/f0", "/f119")) == (0, "0119")


async def test_a_container_can_share_the_network_of_another(service: ContainerService, call: Any) -> None:
    first = await service.create(call("sleep", "1000"), "netowner")
    shared = HostConfig(network_mode="container:netowner")
    second = await service.create(call("ls", "-l", "/proc/self/ns/net", host=shared))
    with pytest.raises(errors.Conflict, match="cannot join network of a non running container"):
        await service.start_container(second.id)
    await service.start_container(first.id)
    await service.start_container(second.id)
    assert await service.wait(second.id) == 0
    space = os.readlink(f"/proc/{service.get(first.id).state.pid}/ns/net")
    assert space in await output(service, second.id)


async def test_a_caller_that_goes_away_doesn_t_leave_a_start_half_done(service: ContainerService, call: Any) -> None:
    made = await service.create(call("sleep", "1000"))
    starting = asyncio.create_task(service.start_container(made.id))
    await asyncio.sleep(0.004)
    starting.cancel()
    state = await until(service, made.id, lambda state: state.running)
    assert state.pid > 0


async def test_many_start_at_once(service: ContainerService, host: Any, call: Any) -> None:
    made = [await service.create(call("sleep", "1000")) for _ in range(12)]
    await asyncio.gather(*(service.start_container(one.id) for one in made))
    assert len(service.list()) == 12
    await asyncio.gather(*(service.remove(one.id, force=True) for one in made))
    assert host.leftovers() == []


async def test_a_name_can_be_changed_and_used_again(service: ContainerService, call: Any) -> None:
    made = await service.create(call("true"), "old")
    await service.create(call("true"), "other")
    with pytest.raises(errors.Conflict, match="already in use"):
        await service.rename("old", "other")
    await service.rename("old", "new")
    assert service.get("new").id == made.id
    await service.create(call("true"), "old")
    names = [line.names for line in service.list(all=True)]
    assert names == [["/old"], ["/other"], ["/new"]]


async def test_a_privileged_container_has_what_the_engine_has(service: ContainerService, call: Any) -> None:
    script = "cat /proc/self/status; mount -t tmpfs x /tmp && echo mounted; ls /dev"
    code, text = await run(service, call("sh", "-c", script, host=HostConfig(privileged=True)))
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert code == 0 and own in text and "Seccomp:\t0" in text and "mounted" in text
    assert {"null", "pts", "kmsg"} <= set(text.split())


async def test_a_container_with_a_terminal_or_an_open_input_runs(service: ContainerService, call: Any) -> None:
    tty = await service.create(call("sh", "-c", "test -t 0 && test -t 1 && echo $TERM", tty=True, open_stdin=True))
    await service.start_container(tty.id)
    assert await service.wait(tty.id) == 0
    assert await output(service, tty.id) == "xterm\r\n"
    reader = await service.create(call("sh", "-c", "echo ready; cat", open_stdin=True))
    await service.start_container(reader.id)
    await line_of(service, reader.id, "ready")
    assert service.get(reader.id).state.running
