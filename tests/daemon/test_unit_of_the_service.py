"""The systemd unit, as text; where systemd is installed, its own checker judges it too."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gitops import errors
from gitops.config import EngineConfig, TlsConfig
from gitops.daemon import commandline, installing, prerequisites, unit

MADE = unit.Made(Path("/d"), Path("/r"), has_group=True)


def _setting(text: str, name: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name}="))
    return line.partition("=")[2]


def test_the_service_leaves_containers_alone_and_owns_its_cgroups() -> None:
    text = unit.text(["/bin/true"], MADE)
    assert _setting(text, "KillMode") == "process"
    assert _setting(text, "Delegate") == "yes"
    assert _setting(text, "Type") == "notify"
    assert int(_setting(text, "LimitNOFILE")) >= 2**20


def test_it_is_started_again_after_a_failure_and_not_after_an_end_that_was_asked_for() -> None:
    assert _setting(unit.text(["/bin/true"], MADE), "Restart") == "on-failure"


def test_words_come_through_systemd_s_quoting_as_they_are() -> None:
    words = ["/opt/a b/python", "--x", 'say "hi"', "50%", "$HOME", "back\\slash", ""]
    quoted = _setting(unit.text(words, MADE), "ExecStart")
    assert "%%" in quoted
    assert "$$HOME" in quoted
    assert [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(quoted)] == words


def test_the_unit_runs_the_engine_with_the_settings_it_was_installed_with() -> None:
    tls = TlsConfig(Path("/ca"), Path("/cert"), Path("/key"))
    config = EngineConfig(data_root=Path("/srv/g"), hosts=("tcp://0.0.0.0:2376",), tls=tls)
    words = shlex.split(_setting(unit.text(commandline.words(config, "info"), MADE), "ExecStart"))
    assert words == commandline.words(config, "info")
    assert words[0] == sys.executable


@pytest.mark.parametrize("has_group", [True, False])
def test_what_was_made_can_be_read_back(has_group: bool) -> None:
    made = unit.Made(Path("/srv/my data"), Path("/run/g"), has_group)
    assert unit.read(unit.text(["/bin/true"], made)) == made


@pytest.mark.parametrize(
    "text", ["", "[Service]\nExecStart=/bin/true\n", "[X-Gitops]\nDataRoot=/\nRunRoot=/\nGroupMade=no\n"]
)
def test_a_unit_of_somebody_else_is_not_ours(text: str) -> None:
    assert unit.read(text) is None


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_with_it(tmp_path: Path) -> None:
    (tmp_path / unit.NAME).write_text(unit.text(commandline.words(EngineConfig(), "info"), MADE))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit.NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_unit_of_somebody_else_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "UNITS", tmp_path)
    (tmp_path / unit.NAME).write_text("[Service]\n")
    for act in (lambda: installing.prepare(EngineConfig()), lambda: installing.uninstall("gitops")):
        with pytest.raises(errors.Refused, match="not of our making"):
            act()
    assert (tmp_path / unit.NAME).read_text() == "[Service]\n"


def test_what_a_host_lacks_is_told_all_at_once() -> None:
    missing = prerequisites.missing(lambda name: None)
    assert [item.partition(":")[0] for item in missing[:4]] == ["conmon", "crun or runc", "mount", "umount"]
    assert all("install the package" in item for item in missing[:4])
    assert not [item for item in prerequisites.missing(lambda name: f"/bin/{name}") if item.startswith("crun")]


def test_a_program_that_others_can_change_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    mine, open_to_all = tmp_path / "mine", tmp_path / "open"
    for path, mode in ((mine, 0o755), (open_to_all, 0o775)):
        path.mkdir()
        path.chmod(mode)
    found = prerequisites.writable_by_others([open_to_all / "..", mine, open_to_all])
    assert open_to_all in found
    assert prerequisites.writable_by_others([Path("/usr/bin")]) == []


def test_the_packages_that_are_named_are_those_that_the_installation_brings() -> None:
    script = (Path(__file__).parents[2] / "scripts" / "packages").read_text()
    found = re.search(r"^run=\((.*)\)$", script, re.MULTILINE)
    assert found is not None
    brought = {entry.partition(":")[0] for entry in found[1].split()}
    named = {item.rpartition(" ")[2] for item in prerequisites.missing(lambda _: None) if "package" in item}
    assert named
    assert named <= brought
