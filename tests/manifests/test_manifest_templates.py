"""Templates: values, errors with their lines, and bounds on what a template can take."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import errors, manifests
from gitops.manifests.templating.renderer import Renderer, TemplateProblem

SERVICE = """\
apiVersion: gitops/v1
kind: Service
metadata: {name: web}
spec:
  image: nginx:{{ tag }}
  deploy: {replicas: {{ web.replicas }}}
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


def test_values_come_from_files_then_the_environment_then_the_command_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        web__yaml__j2=SERVICE,
        values__yaml="tag: 1.10\nweb: {replicas: 1, other: 2}\n",
        values__prod__yaml="web: {replicas: 5}\n",
    )

    def replicas(**options: object) -> tuple[str, int]:
        (service,) = manifests.load(tmp_path, manifests.LoadOptions(**options)).of("Service")  # type: ignore[arg-type]
        return service.canonical["image"], service.canonical["deploy"]["replicas"]

    assert replicas() == ("nginx:1.10", 1), "a number is rendered as it was written"
    assert replicas(env="prod") == ("nginx:1.10", 5)
    assert replicas(env="prod", sets=("web.replicas=7", "tag=1.20")) == ("nginx:1.20", 7)


def test_an_environment_without_a_values_file_and_a_bad_set_are_errors(tmp_path: Path) -> None:
    write(tmp_path, web__yaml__j2=SERVICE)
    with pytest.raises(errors.InvalidManifest) as caught:
        manifests.load(tmp_path, manifests.LoadOptions(env="prod", sets=("nonsense",)))
    assert [problem.reason for problem in caught.value.problems] == ["is no assignment", "no such values file"]


def test_render_gives_the_text_of_all_manifests(tmp_path: Path) -> None:
    write(
        tmp_path, a__yaml__j2="{% if true %}\nname: {{ x }}\n{% endif %}\n", b__yaml="plain: 1\n", values__yaml="x: y\n"
    )
    assert manifests.render(tmp_path) == {"a.yaml.j2": "name: y\n", "b.yaml": "plain: 1\n"}


def test_the_files_that_had_a_say_are_known(tmp_path: Path) -> None:
    write(tmp_path, web__yaml__j2=SERVICE, values__yaml="tag: '1'\nweb: {replicas: 2}\n")
    assert set(manifests.load(tmp_path).files_read) == {"web.yaml.j2", "values.yaml"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a\nb {{ x.y }}\n", "'dict object' has no attribute 'y'"),
        ("a\n{{ ''.__class__.__mro__ }}\n", "unsafe"),
        ("a\n{{ x.update({'y': 1}) }}\n", "is unsafe"),
        ("a\n{{ 1 / 0 }}\n", "ZeroDivisionError"),
        ("a\n{% include 'other' %}\n", "no loader"),
        ("a\n{{ range(10000000) | list }}\n", "OverflowError"),
    ],
)
def test_what_a_template_does_wrong_is_said_with_its_line(template: str, reason: str) -> None:
    with Renderer({"x": {}}) as renderer, pytest.raises(TemplateProblem) as caught:
        renderer.render(template)
    assert caught.value.line == 2 and reason in caught.value.reason


def test_memory_output_and_time_are_bounded_and_the_next_template_is_rendered_all_the_same() -> None:
    with Renderer({}) as renderer:
        with pytest.raises(TemplateProblem, match="memory"):
            renderer.render("{{ 'x' * 1000000000 }}")
        with pytest.raises(TemplateProblem, match="characters"):
            renderer.render("{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}")
        # More than its processor time, or more time than it has where others compute, too.
        with pytest.raises(TemplateProblem, match="takes more than"):
            renderer.render("{{ 9 ** (9 ** 9) }}")
        assert renderer.render("{{ 1 + 1 }}") == "2"


def test_a_template_sees_neither_files_nor_environment() -> None:
    with Renderer({}) as renderer:
        for expression in ("environ", "open('/etc/passwd')", "self.__init__.__globals__", "cycler.__init__"):
            with pytest.raises(TemplateProblem):
                renderer.render("{{ " + expression + " }}")


def test_one_child_serves_all_templates() -> None:
    with Renderer({"x": "y"}) as renderer:
        renderer.render("{{ x }}")
        child = renderer._child
        renderer.render("{{ x }}")
        assert child is not None and renderer._child is child
    assert child.poll() is not None


@pytest.mark.parametrize("expression", ["'\\ud800'", "'\\0'"])
def test_characters_that_only_a_template_can_make_are_problems_too(tmp_path: Path, expression: str) -> None:
    write(tmp_path, web__yaml__j2="apiVersion: gitops/v1\nkind: {{ " + expression + " }}\n")
    with pytest.raises(errors.InvalidManifest) as caught:
        manifests.load(tmp_path)
    (problem,) = caught.value.problems
    assert (
        (problem.line, problem.column) == (2, 7) and problem.headline().isprintable() and problem.source.isprintable()
    )
