"""The examples for CI: what they call exists, and they give away no more than they must."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gitops.cli import main

DIRECTORY = Path(__file__).parents[2] / "examples" / "ci"
SCRIPT = (DIRECTORY / "gitops-ci").read_text()
VERBS = re.findall(r"^(\w+)\)", SCRIPT, re.MULTILINE)


def _yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(DIRECTORY / name)
    return found


def _scripts() -> list[str]:
    jobs = _yaml("github-actions.yaml")["jobs"].values()
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    pipeline = _yaml("gitlab-ci.yaml")
    parts = [pipeline["default"], pipeline["plan"], pipeline["apply"]]
    words = ("before_script", "script", "after_script")
    return steps + [line for part in parts for word in words for line in part.get(word, [])]


def test_the_script_calls_commands_and_options_that_exist() -> None:
    calls = re.findall(r"gitops (\w+) ([^>|\n;]*)", re.sub(r"^#.*$", "", SCRIPT, flags=re.MULTILINE))
    assert {name for name, _ in calls} == {"validate", "diff", "apply", "snapshot"}
    for name, rest in calls:
        command = main.cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, name


@pytest.mark.parametrize("script", [SCRIPT, *_scripts()])
def test_all_that_is_run_is_shell(script: str) -> None:
    # What GitHub puts in before the shell sees it.
    text = re.sub(r"\$\{\{.*?\}\}", "x", script)
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_every_pipeline_calls_the_script_as_it_is_meant() -> None:
    calls = [verb for script in _scripts() for verb in re.findall(r"ci/gitops-ci (\w+)", script)]
    assert sorted(calls) == ["apply", "apply", "plan", "plan", "plan", "snapshot"]
    assert set(calls) <= set(VERBS)


def test_variables_that_the_pipelines_set_are_those_that_the_script_reads() -> None:
    read = set(re.findall(r"^#   ([A-Z_]+(?:, [A-Z_]+)*)", SCRIPT, re.MULTILINE))
    names = {name for group in read for name in group.split(", ")}
    for job in _yaml("github-actions.yaml")["jobs"].values():
        for step in job["steps"]:
            if "ci/gitops-ci" in step.get("run", ""):
                assert set(step["env"]) <= names
    assert {"GITOPS_HOST", "TLS_KEY", "SSH_KEY", "GITOPS_SECRET_KEY", "PLAN_AGAINST"} <= names


def test_pull_requests_of_forks_come_near_no_secret() -> None:
    workflow = _yaml("github-actions.yaml")
    # The event that runs a fork's files with the repository's secrets.
    assert "pull_request_target" not in workflow[True if True in workflow else "on"]
    assert workflow["permissions"] == {"contents": "read"}
    fork = workflow["jobs"]["plan-of-fork"]
    assert "secrets." not in str(fork)
    assert "environment" not in fork
    for name in ("plan", "plan-of-fork"):
        assert "head.repo.full_name" in workflow["jobs"][name]["if"]


def test_no_script_takes_text_of_a_pull_request_for_code() -> None:
    for script in _scripts():
        assert "${{" not in script
