"""What a command loads before it does its work: most of the time that a small one takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("aiohttp", "anyio", "cryptography", "dnslib", "docker", "git", "isal", "jinja2", "prometheus_client"),
    *("pyroute2", "rich", "structlog", "watchdog", "zstandard"),
}
OF_MANIFESTS = {"msgspec", "pydantic", "ruamel"}
OTHERS = ("gitops.api", "gitops.client", "gitops.daemon", "gitops.engine", "gitops.swarm", "gitops.oci.archive")
SERVICE = "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web, stack: shop}\nspec: {image: nginx}\n"


def loaded_by(*arguments: str) -> set[str]:
    """The modules that are there after a command."""
    code = "import sys; from gitops.cli import main; code = main.run(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def heavy_in(modules: set[str]) -> set[str]:
    """Other people's packages among them that cost much, and ours that they have no business with."""
    return {name for name in modules if name in HEAVY or name.startswith(OTHERS)}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_neither_what_reads_manifests_nor_an_engine(arguments: list[str]) -> None:
    modules = loaded_by(*arguments)
    assert heavy_in(modules) | (modules & (OF_MANIFESTS | {"asyncio", "gitops.manifests"})) == set()


def test_validate_loads_what_reads_manifests_and_only_the_kinds_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(SERVICE)
    modules = loaded_by("validate", str(tmp_path))
    assert modules >= OF_MANIFESTS and heavy_in(modules) == set()
    kinds = {name.rpartition(".")[2] for name in modules if name.startswith("gitops.manifests.kinds.")}
    assert "service" in kinds and not kinds & {"image", "network", "stack", "storage"}


def test_templates_are_loaded_in_the_child_that_renders_them(tmp_path: Path) -> None:
    (tmp_path / "web.yaml.j2").write_text(SERVICE)
    assert heavy_in(loaded_by("validate", str(tmp_path))) == set()
