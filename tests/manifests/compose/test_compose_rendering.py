"""Compose files come out as manifests that ask for the same objects."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops import errors, manifests
from gitops.cli import main
from gitops.manifests import DesiredSet, LoadOptions

PROJECTS = Path(__file__).parent / "projects"
PARTS = """\
command: [serve, "--fast", "0440"]
command: "sh -c 'echo $$HOME'"
entrypoint: /bin/init
environment: {A: 1, B: "0x1F", C: "yes", D: 1.10, E: ""}
environment: [A=b, "C=d: e"]
env_file: more.env
ports: ["8080:80", "9000-9001:90-91/udp", {target: 53, protocol: udp, mode: host, published: "5353"}]
volumes: ["db_data:/data", "./here:/there:ro", {type: tmpfs, target: /tmp, tmpfs: {size: 1m, mode: 0700}}]
volumes: [{type: bind, source: /srv, target: /srv, bind: {create_host_path: true, recursive: disabled}}, /anonymous]
secrets: [key, {source: Key.2, target: again, mode: 0400}]
configs: [{source: page, target: /index.html, mode: 0440, uid: "5"}]
networks: {front_net: {aliases: [www]}, default: {}}
networks: [front_net]
deploy: {replicas: 3, placement: {constraints: [node.role == manager]}, update_config: {delay: 5s, parallelism: 2}}
deploy: {mode: global, endpoint_mode: dnsrr, resources: {limits: {cpus: "0.5", memory: 64M, pids: 10}}}
deploy: {mode: replicated-job, restart_policy: {condition: on-failure, max_attempts: 2, window: 1m}}
restart: on-failure:3
mem_limit: 64m
healthcheck: {test: "curl -f http://localhost || exit 1", interval: 10s, retries: 3}
healthcheck: {disable: true}
labels: {com.example.a: "1", b: "true"}
logging: {driver: json-file, options: {max-size: 10m, max-file: "3"}}
security_opt: ["no-new-privileges:true", "seccomp:unconfined"]
extra_hosts: ["db:10.0.0.7"]
depends_on: {other: {condition: service_healthy, required: false}}
sysctls: {net.core.somaxconn: 1024}
ulimits: {nofile: 1024}
user: "1000"
hostname: host.example
stop_grace_period: 1m30s
""".splitlines()
REST = """\
  other: {image: "nginx:1.27", build: .}
networks:
  front_net: {name: "the-front", driver_opts: {com.docker.network.driver.mtu: 1400}}
  outer: {external: true}
volumes:
  db_data: {name: kept-data}
secrets:
  key: {file: key.txt}
  Key.2: {environment: KEY, name: own-name}
configs:
  page: {content: "<h1>\\n  ${TITLE}\\n</h1>\\n"}
"""
ORDER = ["services", "networks", "volumes", "secrets", "configs"]
SERVICES = {
    "a": "  a: {image: a, networks: [back, front], depends_on: [b], secrets: [key]}\n",
    "b": "  b: {networks: {front: {}, back: {}}, depends_on: {c: {condition: service_healthy}}, image: b}\n",
    "c": "  c: {configs: [page], volumes: ['data:/data'], image: c, healthcheck: {test: 'true'}}\n",
}
FILES = {".env": "TITLE=It's 5 o'clock\n", "more.env": "X=1\nY='a b'\n", "key.txt": "hush"}


def asked_for(found: DesiredSet) -> dict[Any, Any]:
    return {
        (is_external, item.key): (
            *(item.stack, item.name, item.spec, item.canonical, item.hash),
            *(frozenset(item.needs), item.depends_on, item.deadline_ns),
        )
        for is_external, items in ((False, found.objects), (True, found.externals))
        for item in items
    }


def options(root: Path, **more: Any) -> LoadOptions:
    environ = {"KEY": "v", "EVERY_KEY_TOKEN": "t", "EVERY_KEY_LEVEL": "l"}
    return LoadOptions(root=root, environ=environ, secret_key=b"k" * 32, **more)


def check(root: Path, path: Path, **more: Any) -> str:
    """See that the manifests of a Compose project are the project; returns them."""
    load = options(root, **more)
    expected = asked_for(manifests.load(path, load))
    text = "".join(manifests.render(path, load).values())
    rendered = (path if path.is_dir() else path.parent) / "rendered.gitops.yaml"
    rendered.write_text(text)
    try:
        assert asked_for(manifests.load(rendered, load)) == expected, path
    finally:
        rendered.unlink()
    return text


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PARTS), max_size=8, unique_by=lambda part: part.partition(":")[0]), st.booleans())
def test_manifests_of_a_compose_file_load_to_the_same_objects(parts: list[str], is_odd: bool) -> None:
    lines = "".join(f"    {part}\n" for part in parts if "mode: global" not in part or "ports" not in str(parts))
    name = "Web_1.a" if is_odd else "web"
    text = f"name: {'my_shop' if is_odd else 'shop'}\nservices:\n  {name}:\n    image: nginx\n{lines}{REST}"
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for file, content in {**FILES, "compose.yaml": text}.items():
            (directory / file).write_text(content)
        found = check(directory, directory / "compose.yaml")
        assert ("naming: compose" in found) is True  # db_data isn't a name of ours


@settings(deadline=None, max_examples=30)
@given(st.permutations(ORDER), st.permutations(["a", "b", "c"]))
def test_the_order_of_sections_services_and_keys_makes_no_difference(sections: list[str], names: list[str]) -> None:
    texts = {
        "services": "services:\n" + "".join(SERVICES[name] for name in names),
        "networks": "networks: {back: {}, front: {name: the-front}}\n",
        "volumes": "volumes: {data: {}}\n",
        "secrets": "secrets: {key: {file: key.txt}}\n",
        "configs": "configs: {page: {content: hello}}\n",
    }
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "key.txt").write_text("hush")
        (directory / "compose.yaml").write_text("name: shop\n" + "".join(texts[name] for name in sections))
        found = asked_for(manifests.load(directory, options(directory)))
        texts["services"] = "services:\n" + "".join(SERVICES.values())
        (directory / "compose.yaml").write_text("name: shop\n" + "".join(texts[name] for name in ORDER))
        assert found == asked_for(manifests.load(directory, options(directory)))


def test_a_project_of_several_files_comes_out_as_one_set(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "include: [db/compose.yaml]\nname: shop\nservices: {web: {extends: base, ports: ['80:80']},\n"
        "  base: {image: nginx, security_opt: ['seccomp:p.json']}, off: {image: a, profiles: [debug]}}\n",
        "compose.override.yaml": "services: {web: {environment: {A: b}}}\n",
        "db/compose.yaml": "services: {db: {image: pg, secrets: [pw], volumes: ['./data:/data']}}\n"
        "secrets: {pw: {file: pw.txt}}\n",
        "db/pw.txt": "hush",
        "p.json": "{}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    text = check(tmp_path, tmp_path)
    assert "hush" not in text and "debug" not in text
    assert "name: off" in check(tmp_path, tmp_path, profiles=("debug",))


def test_the_command_prints_manifests_with_their_origin_and_tells_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compose.yaml").write_text("name: shop\nservices: {web: {image: nginx, privileged: true}}\n")
    (tmp_path / "plain.yaml").write_text("apiVersion: gitops/v1\nkind: Volume\nmetadata: {name: data}\n")
    assert main.run(["render", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "# plain.yaml\napiVersion: gitops/v1\nkind: Volume\n" in printed.out
    assert printed.out.endswith(
        "---\n# stack shop, from compose.yaml\napiVersion: gitops/v1\nkind: Service\nmetadata:\n  name: web\n"
        "  stack: shop\nspec:\n  image: nginx\n"
    )
    assert "warning: compose.yaml:2:32: services.web.privileged: is not honoured" in printed.err


def test_what_is_wrong_with_a_compose_file_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: nginx, prots: []}}\n")
    assert main.run(["render", str(tmp_path)]) == 1
    assert 'compose.yaml:1:32: services.web.prots: unknown key, did you mean "ports"?' in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_every_project_of_ours_and_of_others_loads_from_its_manifests(
    tmp_path: Path, compose_corpus: Path | None
) -> None:
    shutil.copytree(PROJECTS, tmp_path / "own")
    files = [*sorted((tmp_path / "own").glob("*/compose.yaml"))]
    if compose_corpus is not None:
        rows = (compose_corpus / "INDEX.tsv").read_text().splitlines()[1:]
        files += [compose_corpus / row.split("\t")[1] for row in rows]
    count = 0
    for file in files:
        root = compose_corpus if compose_corpus and file.is_relative_to(compose_corpus) else tmp_path
        try:
            manifests.load(file, options(root))
        except errors.InvalidManifest:
            continue  # judged elsewhere
        check(root, file)
        count += 1
    print(f"{count} projects came out as manifests")
    assert count >= (100 if compose_corpus else 1)
