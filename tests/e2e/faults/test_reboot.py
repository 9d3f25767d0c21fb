"""A reboot or a power cut: what lived in memory is gone, the data root stays, and the host comes back by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_after_a_reboot_services_converge_and_containers_follow_their_policies(
    served: Any, cut_power: Any, ending: str
) -> None:
    host = served.host
    (host.data_root / "volumes" / "app_data" / "_data" / "kept").write_text("kept")
    served.run_plain("always", "--restart", "always", "-v", "own:/own", "-p", "9090:8080")
    served.run_plain("never")
    served.run_plain("failing", "--restart", "on-failure")
    served.run_plain("stopped", "--restart", "unless-stopped")
    host.docker("stop", "-t", "0", "stopped")
    served.run_plain("done", command=("/bin/busybox", "true"))
    host.docker("wait", "done")
    served.run_plain("itself", "--rm")
    host.docker("create", "--name", "fresh", "app:v1")
    tasks = {task["ID"] for task in served.tasks()}
    images = host.docker("images", "--no-trunc", "-q")
    if ending == "stop":
        host.stop()
    cut_power(host)
    host.start()
    served.settled(plain=2)
    assert not tasks & {task["ID"] for task in served.tasks()}, "a task that was lost is said to run"
    lost = [task for task in host.api("/tasks") if task["ID"] in tasks]
    assert {task["Status"]["State"] for task in lost} == {"failed"}
    assert {task["Status"]["ContainerStatus"]["ExitCode"] for task in lost} == {137}
    host.wait(lambda: served.state("always")["Running"])
    never = served.state("never")
    assert (never["Status"], never["ExitCode"], never["Pid"]) == ("exited", 137, 0)
    assert "exit code is unknown" in never["Error"]
    assert served.state("failing")["Running"], "137 is a failure"
    assert served.state("stopped")["Status"] == "exited"
    assert served.state("done")["ExitCode"] == 0
    assert served.state("fresh")["Status"] == "created"
    assert "itself" not in host.docker("ps", "-a", "--format", "{{.Names}}")
    assert host.docker("images", "--no-trunc", "-q") == images
    assert (host.data_root / "volumes" / "app_data" / "_data" / "kept").read_text() == "kept"
    veths = json.loads(host.run("ip", "-j", "link", "show", "type", "veth").stdout)
    # Two legs for a task (its network, docker_gwbridge), one for a plain container.
    assert len([link for link in veths if link]) == 2 * 2 + 2
    served.calm()


def test_power_cuts_one_after_another_leave_nothing(served: Any, cut_power: Any) -> None:
    """Also one that comes while the host is still coming back."""
    host = served.host
    for pause in (0.0, 0.3, 1.0):
        cut_power(host)
        host.start()
        host.run("sleep", str(pause))
    served.settled()
    served.calm()
