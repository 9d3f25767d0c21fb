"""The ledger: whole, printed, documented, and held to by the models."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import manifests
from gitops.cli import main
from gitops.manifests.compose import ledger, reference
from gitops.manifests.compose.ledger_service import DEPLOY, SERVICE
from gitops.manifests.kinds.deploy import Deploy
from gitops.manifests.kinds.service import ServiceSpec


def test_the_document_is_current() -> None:
    assert reference.main(["--check"]) == 0


def test_every_honoured_key_of_a_service_is_a_word_of_our_manifests() -> None:
    honoured = {name for name, key in SERVICE.items() if key.status == "honoured"}
    assert honoured - set(ServiceSpec.model_fields) == {"extends", "profiles"} | (
        {"links"} if SERVICE["links"].status == "honoured" else set()
    )
    assert {name for name, key in DEPLOY.items() if key.status == "honoured"} <= set(Deploy.model_fields)


def test_every_key_that_is_emulated_or_refused_says_how_or_what_to_do() -> None:
    assert [path for path, key in ledger.entries() if key.status in ("emulated", "refused") and not key.note] == []


def test_the_figures_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["compose", "--keys"]) == 0
    printed = capsys.readouterr().out
    figures = ledger.figures()
    assert f"keys          {sum(figures.values())}" in printed
    assert f"warned        {figures['warned']}" in printed
    assert "services.*.deploy.replicas" in printed


def test_every_warned_key_is_told_and_the_service_runs(tmp_path: Path) -> None:
    values = {
        "annotations": "{a: b}", "blkio_config": "{weight: 10}", "cgroup": "host", "cgroup_parent": "x",
        "container_name": "one", "cpu_count": "1", "cpu_percent": "1", "cpu_shares": "1", "cpu_quota": "1",
        "cpu_period": "1", "cpu_rt_period": "1", "cpu_rt_runtime": "1", "cpuset": "'0'", "credential_spec": "{file: a}",
        "device_cgroup_rules": "[a]", "devices": "[/dev/a]", "domainname": "a", "external_links": "[a]", "gpus": "all",
        "ipc": "host", "isolation": "a", "mac_address": "a", "mem_swappiness": "1", "memswap_limit": "1g",
        "network_mode": "host", "models": "[a]", "oom_kill_disable": "true", "pid": "host", "platform": "linux/amd64",
        "post_start": "[{command: a}]", "pre_stop": "[{command: a}]", "privileged": "true", "pull_policy": "always",
        "pull_refresh_after": "1h", "runtime": "a", "security_opt": "[a]", "shm_size": "1g", "storage_opt": "{a: b}",
        "use_api_socket": "true", "uts": "host", "userns_mode": "host",
    }  # fmt: skip
    warned = {name for name, key in SERVICE.items() if key.status == "warned"}
    assert warned == set(values) & warned
    lines = "".join(f"    {name}: {values[name]}\n" for name in sorted(warned))
    (tmp_path / "compose.yaml").write_text(f"services:\n  web:\n    image: nginx\n{lines}")
    found = manifests.load(tmp_path, manifests.LoadOptions(root=tmp_path, environ={}))
    assert [warning.field for warning in found.warnings] == [f"services.web.{name}" for name in sorted(warned)]
    assert [warning.line for warning in found.warnings] == list(range(4, 4 + len(warned)))
    assert len(found.of("Service")) == 1
