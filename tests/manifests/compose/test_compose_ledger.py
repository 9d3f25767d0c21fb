"""The ledger: whole, printed, documented, and held to by the models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.cli import main
from gitops.manifests.compose import ledger, reference
from gitops.manifests.compose.ledger_service import DEPLOY, SERVICE
from gitops.manifests.kinds.deploy import Deploy
from gitops.manifests.kinds.service import ServiceSpec
from gitops.manifests.text import construct, graph

PROJECTS = Path(__file__).parent / "projects"
CORPUS = Path(os.environ.get("GITOPS_COMPOSE_CORPUS") or Path(__file__).parents[4] / "shared" / "compose-corpus")
REFUSED = {
    "secrets.*.driver": "services: {a: {image: a}}\nsecrets: {s: {environment: A, driver: vault}}\n",
    "secrets.*.driver_opts": "services: {a: {image: a}}\nsecrets: {s: {environment: A, driver_opts: {a: b}}}\n",
}


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


def keys_of(schema: dict[str, Any], node: dict[str, Any], path: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key of a JSON Schema by its path, in the ledger's spelling."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from keys_of(schema, schema["definitions"][name], path, (*seen, name))
        return
    for choice in (*node.get("oneOf", ()), *node.get("anyOf", ()), *node.get("allOf", ())):
        yield from keys_of(schema, choice, path, seen)
    for name, below in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here
        yield from keys_of(schema, below, here, seen)
    for pattern, below in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            yield from keys_of(schema, below, f"{path}.*", seen)
    for name, mark in (("additionalProperties", ".*"), ("items", "[]")):
        if isinstance(node.get(name), dict):
            yield from keys_of(schema, node[name], path + mark, seen)


def test_the_ledger_has_the_keys_of_the_specifications_schema_and_no_others() -> None:
    if not CORPUS.is_dir():
        print(f"the schema isn't at {CORPUS}: set GITOPS_COMPOSE_CORPUS to its directory")
        return
    schema = json.loads((CORPUS / "compose-spec.json").read_text())
    assert set(keys_of(schema, schema, "")) == {path for path, _ in ledger.entries()}


def test_keys_are_counted_once_at_every_place() -> None:
    paths = [path for path, _ in ledger.entries()]
    assert len(paths) == len(set(paths)) == sum(ledger.figures().values())


def test_what_is_said_of_a_whole_holds_for_its_parts() -> None:
    found = dict(ledger.entries())
    assert found["services.*.build.secrets[].source"].status == "meaningless"
    assert found["services.*.blkio_config.weight"].status == "warned"
    assert found["services.*.depends_on.*.condition"].status == "honoured"


def holds(value: Any, parts: list[str]) -> bool:
    """Whether a key of the ledger stands in a file."""
    if not parts:
        return True
    if not isinstance(value, dict):
        return False
    name = parts[0].removesuffix("[]")
    found = list(value.values()) if name == "*" else [value[name]] if name in value else []
    if parts[0].endswith("[]"):
        found = [item for items in found if isinstance(items, list) for item in items]
    return any(holds(item, parts[1:]) for item in found)


def test_our_own_files_hold_every_key_that_is_not_refused() -> None:
    files = [graph.compose(path.read_text()) for path in PROJECTS.rglob("*.yaml")]
    values = [construct.Builder().build(root) for roots in files for root in roots]
    missing = [path for path, _ in ledger.entries() if not any(holds(value, path.split(".")) for value in values)]
    assert missing == list(REFUSED) == [path for path, key in ledger.entries() if key.status == "refused"]


def test_the_file_with_every_key_loads_and_each_key_without_effect_is_told() -> None:
    place = PROJECTS / "every-key"
    options = manifests.LoadOptions(
        root=place, environ={"EVERY_KEY_TOKEN": "t", "EVERY_KEY_LEVEL": "l"}, profiles=("all",)
    )
    found = manifests.load(place, options)
    assert [item.name for item in found.of("Service")] == ["web", "cache", "migrate", "included"]
    told = {warning.field for warning in found.warnings}
    for name, key in SERVICE.items():
        if key.status == "warned":
            assert {f"services.web.{name}", f"services.cache.{name}"} & told, name


@pytest.mark.parametrize("path", REFUSED)
def test_a_refused_key_is_named_with_its_place_and_a_way_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(REFUSED[path])
    with pytest.raises(errors.InvalidManifest) as caught:
        manifests.load(tmp_path, manifests.LoadOptions(root=tmp_path, environ={"A": "b"}))
    (problem,) = caught.value.problems
    note = dict(ledger.entries())[path].note
    assert problem.line > 0 and problem.field.endswith(path.rpartition(".")[2])
    assert problem.reason == "can't be honoured" and problem.hint == note
