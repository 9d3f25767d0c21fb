from __future__ import annotations

import subprocess
import sys

import pytest

from gitops import errors
from gitops.cli import main

_HEAVY = ("aiohttp", "pydantic", "rich", "msgspec", "ruamel", "jinja2", "git", "pyroute2", "cryptography", "asyncio")


def test_help_loads_little_more_than_the_command_parser() -> None:
    code = "import sys; from gitops.cli import main; main.run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "engine" in done.stdout
    assert not {name.partition(".")[0] for name in done.stderr.split()} & set(_HEAVY)


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["--no-such-option"], ["engine", "bogus"], ["engine", "run", "--x"], []]
)
def test_a_wrong_command_line_ends_with_1(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 1
    assert capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gitops ")


def test_each_problem_is_printed_with_its_line_and_a_caret(capsys: pytest.CaptureFixture[str]) -> None:
    problem = errors.Problem(
        "services/web.yaml",
        9,
        7,
        "spec.deploy.update_config.paralelism",
        "unknown key",
        'did you mean "parallelism"?',
        "      paralelism: 2",
        10,
    )
    main.report(errors.InvalidManifest([problem]))
    assert capsys.readouterr().err.splitlines() == [
        'error: services/web.yaml:9:7: spec.deploy.update_config.paralelism: unknown key, did you mean "parallelism"?',
        "  9 |       paralelism: 2",
        "    |       ^^^^^^^^^^",
    ]


def test_a_line_that_must_not_be_shown_is_not_shown() -> None:
    assert main.caret(errors.Problem("a.yaml", 3, 1, "data", "too long")) == []


def test_tabs_stay_tabs_under_the_line() -> None:
    assert main.caret(errors.Problem("a", 1, 3, "", "x", source="\t\tkey", width=3))[1] == "    | \t\t^^^"


def test_an_engine_that_does_not_run_has_exit_code_1(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path_factory.mktemp("roots"))
    assert main.run(["engine", "status", "--run-root", root, "--data-root", root]) == 1
    assert "does not run" in capsys.readouterr().out
