"""Projects of several files: merged, extended, included, filled in, by profile, with the place of every problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.manifests import Desired, DesiredSet, LoadOptions

KINDS = ("Secret", "Config")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def load(path: Path, **options: Any) -> DesiredSet:
    options.setdefault("environ", {})
    root = path if path.is_dir() else path.parent
    return manifests.load(path, LoadOptions(root=options.pop("root", root), **options))


def headlines(path: Path, **options: Any) -> list[str]:
    with pytest.raises(errors.InvalidManifest) as caught:
        load(path, **options)
    return [problem.headline() for problem in caught.value.problems]


def service(found: DesiredSet, name: str) -> Desired:
    return next(item for item in found.of("Service") if item.name == name)


def env(found: DesiredSet, name: str) -> list[str]:
    return list(service(found, name).spec.task_template.container_spec.env)  # type: ignore[union-attr]


def args(found: DesiredSet, name: str) -> list[str]:
    return list(service(found, name).spec.task_template.container_spec.args)  # type: ignore[union-attr]


def test_a_compose_file_is_a_stack_of_its_directorys_name(tmp_path: Path) -> None:
    root = write(tmp_path / "My.Shop", {"compose.yaml": "services: {web: {image: nginx}}\n"})
    found = load(root)
    assert [item.engine_name for item in found.objects] == ["myshop_default", "myshop_web"]
    assert list(found.stacks) == ["myshop"]
    assert str(service(found, "web").position) == "compose.yaml:1"


def test_the_name_is_the_files_and_the_users_before_that(tmp_path: Path) -> None:
    root = write(tmp_path, {"compose.yaml": "name: shop\nservices: {web: {image: nginx}}\n"})
    assert list(load(root).stacks) == ["shop"]
    assert list(load(root, project_name="other").stacks) == ["other"]


def test_names_of_compose_are_kept(tmp_path: Path) -> None:
    text = "name: my_shop\nservices: {Web_1.a: {image: nginx, secrets: [A_b]}}\nsecrets: {A_b: {environment: X}}\n"
    found = load(write(tmp_path, {"compose.yaml": text}), environ={"X": "1"})
    assert service(found, "Web_1.a").engine_name == "my_shop_Web_1.a"


def test_the_override_file_is_laid_over(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "services: {web: {image: a, command: [x, y], environment: {A: 1, B: 2}, dns: 1.1.1.1}}\n",
            "compose.override.yaml": "services: {web: {command: z, environment: [B=3, C=4], dns: [1.0.0.1]}}\n",
        },
    )
    found = load(root)
    assert args(found, "web") == ["z"]
    assert env(found, "web") == ["A=1", "B=3", "C=4"]
    dns = service(found, "web").spec.task_template.container_spec.dns_config  # type: ignore[union-attr]
    assert dns.nameservers == ["1.1.1.1", "1.0.0.1"]


def test_files_that_are_named_are_laid_over_each_other_in_order(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "services: {web: {image: a, ports: ['80:80', '81:81']}}\n",
            "b.yaml": "services: {web: {image: b, ports: ['80:80', '82:82']}}\n",
            "c.yaml": "services: {web: {image: c}}\n",
        },
    )
    found = load(root, compose_files=("compose.yaml", "b.yaml", "c.yaml"))
    spec = service(found, "web").spec
    assert spec.task_template.container_spec.image == "c:latest"  # type: ignore[union-attr]
    assert [port.published_port for port in spec.endpoint_spec.ports] == [80, 81, 82]  # type: ignore[union-attr]
    alone = load(root)
    assert [warning.headline() for warning in alone.warnings] == [
        f"{name}:1:1: is no part of the project of compose.yaml, and left out, name it, as in "
        f"--compose-file compose.yaml --compose-file {name}"
        for name in ("b.yaml", "c.yaml")
    ]


def test_reset_takes_away_and_override_replaces(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "services: {web: {image: a, command: x, ports: ['80:80'], environment: {A: 1, B: 2}}}\n",
            "compose.override.yaml": "services:\n  web:\n    command: !reset\n    ports: !override ['81:81']\n"
            "    environment: {A: !reset null}\n",
        },
    )
    found = load(root)
    assert args(found, "web") == []
    assert env(found, "web") == ["B=2"]
    ports = service(found, "web").spec.endpoint_spec.ports  # type: ignore[union-attr]
    assert [port.published_port for port in ports] == [81]


def test_a_list_over_a_map_is_refused_with_both_places(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "services: {web: {image: a, build: {ssh: {a: b}}, models: {a: {}}}}\n",
            "compose.override.yaml": "services: {web: {models: [b], build: {ssh: [a]}}}\n",
        },
    )
    assert headlines(root) == [
        "compose.override.yaml:1:44: a list can't be laid over a map, a map is at compose.yaml:1: write it the same way"
    ]


def test_anchors_stay_bounded_where_there_are_tags(tmp_path: Path) -> None:
    endless = "x-a: &a [*a]\nservices: {web: {image: a, command: !reset []}}\n"
    assert headlines(write(tmp_path, {"compose.yaml": endless})) == [
        "compose.yaml:1:6: an anchor contains itself, remove the alias"
    ]
    levels = [f"x-{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 12)]
    laughs = "\n".join(["x-0: &a0 [lol]", *levels, "services: {web: {image: a, command: !reset []}}", ""])
    (found,) = headlines(write(tmp_path, {"compose.yaml": laughs}))
    assert "aliases of anchors expand to more than 50000 values" in found


def test_a_service_extends_another_one_of_its_file_and_of_another(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "services:\n  a: {extends: b, environment: {A: 1}}\n"
            "  b: {extends: {file: base/base.yaml, service: c}, environment: {B: 2}}\n",
            "base/base.yaml": "services:\n"
            "  c: {image: nginx, env_file: c.env, environment: {B: 0}, volumes: ['./d:/d']}\n",
            "base/c.env": "C=3\nD='x y'\nE=$C\n",
        },
    )
    found = load(root)
    assert env(found, "a") == ["A=1", "B=2", "C=3", "D=x y", "E=3"]
    mounts = service(found, "a").spec.task_template.container_spec.mounts  # type: ignore[union-attr]
    assert mounts[0].source == f"{root}/base/d"


def test_a_circle_of_extends_is_refused_with_its_chain(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"compose.yaml": "services:\n  a: {extends: b}\n  b:\n    extends: {service: c}\n  c: {extends: a}\n"},
    )
    assert headlines(root) == [
        "compose.yaml:5:16: services.c.extends: a service can't extend itself: a (compose.yaml) -> b (compose.yaml) -> "
        "c (compose.yaml) -> a (compose.yaml), cut the chain"
    ]


def test_what_is_extended_must_be_there(tmp_path: Path) -> None:
    root = write(tmp_path, {"compose.yaml": "services:\n  web: {extends: bse}\n  base: {image: a}\n"})
    assert headlines(root) == [
        "compose.yaml:2:18: services.web.extends: no service 'bse' in compose.yaml, did you mean \"base\"?"
    ]


def test_an_included_project_has_its_own_directory_and_variables(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "include: [db/compose.yaml, {path: more.yaml, env_file: more.env}]\n"
            "services: {web: {image: nginx, depends_on: [db]}}\n",
            "db/compose.yaml": "services: {db: {image: 'pg:${VERSION}', secrets: [pw]}}\n"
            "secrets: {pw: {file: pw.txt}}\n",
            "db/.env": "VERSION=16\n",
            "db/pw.txt": "secret",
            "more.yaml": "services: {more: {image: 'm:${TAG:-none}'}}\n",
            "more.env": "TAG=7\n",
        },
    )
    found = load(root)
    images = {item.name: item.spec.task_template.container_spec.image for item in found.of("Service")}  # type: ignore[union-attr]
    assert images == {"web": "nginx:latest", "db": "pg:16", "more": "m:7"}
    assert service(found, "db").position.file == "db/compose.yaml"
    assert list(found.stacks) == [manifests.load(root, LoadOptions(root=root)).of("Service")[0].stack]


def test_included_objects_must_not_differ_from_own_ones(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"compose.yaml": "include: [a.yaml]\nservices: {web: {image: a}}\n", "a.yaml": "services: {web: {image: b}}\n"},
    )
    assert headlines(root) == [
        "compose.yaml:2:12: services.web: services.web of an included file stands here too, and differs, "
        "the other is at a.yaml:1: rename one"
    ]


def test_a_circle_of_includes_is_refused_with_its_chain(tmp_path: Path) -> None:
    root = write(tmp_path, {"compose.yaml": "include: [a.yaml]\n", "a.yaml": "include: [b.yaml]\n"})
    write(tmp_path, {"b.yaml": "include:\n  - a.yaml\n"})
    assert headlines(root) == [
        "b.yaml:2:5: include: a file can't include itself: compose.yaml -> a.yaml -> b.yaml -> a.yaml, cut the chain"
    ]


def test_only_services_of_active_profiles_are_run(tmp_path: Path) -> None:
    text = "services:\n  a: {image: a}\n  b: {image: b, profiles: [debug]}\n  c: {image: c, depends_on: [b]}\n"
    root = write(tmp_path, {"compose.yaml": text})
    found = load(root)
    assert [item.name for item in found.of("Service")] == ["a", "c"]
    assert found.warnings[0].headline().startswith("compose.yaml:4:30: services.c.depends_on.b: is left out")
    assert len(load(root, profiles=("debug",)).of("Service")) == 3
    assert len(load(root, environ={"COMPOSE_PROFILES": "x, debug"}).of("Service")) == 3


def test_the_environment_wins_over_dot_env(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"compose.yaml": "services: {a: {image: 'a:${TAG}', environment: [B, MISSING]}}\n", ".env": "TAG=1\nB=2\n"},
    )
    assert env(load(root), "a") == ["B=2"]
    spec = service(load(root, environ={"TAG": "9"}), "a").spec
    assert spec.task_template.container_spec.image == "a:9"  # type: ignore[union-attr]


def test_secrets_and_configs_may_name_variables_of_dot_env(tmp_path: Path) -> None:
    text = "services: {a: {image: a}}\nsecrets: {s: {environment: KEY}}\nconfigs: {c: {environment: PAGE}}\n"
    root = write(tmp_path, {"compose.yaml": text, ".env": "KEY=hush\nPAGE=hello\n"})
    data = {item.name: item.spec.data for item in load(root, environ={"PAGE": "mine"}).objects if item.kind in KINDS}  # type: ignore[union-attr]
    assert data == {"s": b"hush", "c": b"mine"}
    write(tmp_path, {".env": ""})
    assert headlines(root) == [
        "compose.yaml:2:28: secrets.s.environment: the variable 'KEY' isn't set, export it before",
        "compose.yaml:3:28: configs.c.environment: the variable 'PAGE' isn't set, export it before",
    ]


def test_the_environment_of_this_process_is_closed_to_a_repository(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TAG", "from-the-host")
    root = write(tmp_path, {"compose.yaml": "services: {a: {image: 'a:${TAG:-none}'}}\n"})
    spec = service(load(root, environ=None, allow_host=False), "a").spec
    assert spec.task_template.container_spec.image == "a:none"  # type: ignore[union-attr]


def test_a_variable_that_is_not_set_is_told(tmp_path: Path) -> None:
    root = write(tmp_path, {"compose.yaml": "services:\n  a:\n    image: a\n    hostname: h${X}\n"})
    assert [warning.headline() for warning in load(root).warnings] == [
        "compose.yaml:4:15: the variable X isn't set, and stands for nothing, set it in .env, or write ${X:-default}"
    ]


def test_compose_files_stand_beside_manifests(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "compose.yaml": "name: shop\nservices: {web: {build: .}}\n",
            "image.yaml": "apiVersion: gitops/v1\nkind: Image\nmetadata: {name: web}\n"
            "spec: {reference: 'shop-web:latest', pull: {repository: nginx, tag: '1.27'}}\n",
        },
    )
    found = load(root)
    assert ("Image", "shop-web:latest") in service(found, "web").needs


def test_two_files_of_one_directory_are_not_one_stack(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.yaml": "services: {a: {image: a}}\n", "b.yaml": "services: {b: {image: b}}\n"})
    assert "a second Compose file of the stack" in headlines(root)[0]
    write(tmp_path, {"b.yaml": "name: other\nservices: {b: {image: b}}\n"})
    assert len(load(root).stacks) == 2


def test_problems_and_positions_are_those_of_the_compose_file(tmp_path: Path) -> None:
    text = "services:\n  web:\n    image: nginx\n    restart: always\n    ports:\n      - 80:80\n      - 443:443\n"
    root = write(tmp_path, {"compose.yaml": text})
    positions = service(load(root), "web").positions
    assert positions["spec.ports[1]"] == (7, 9)
    assert positions["spec.deploy.restart_policy"] == (4, 5)
    write(tmp_path, {"compose.override.yaml": "services:\n  web:\n    mem_limit: lots\n"})
    assert headlines(root) == [
        "compose.override.yaml:3:16: services.web.mem_limit: 'lots' is no size, as in 64M or 1.5G"
    ]
