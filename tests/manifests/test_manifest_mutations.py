"""Whatever stands in a place of a manifest, the answer is a problem with a place, never another exception."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gitops.manifests import documents
from gitops.manifests.documents import SourceText
from gitops.manifests.text import construct

SAMPLES = """
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: site, labels: {a: b}, annotations: [a=b]}
spec:
  image: nginx
  command: [a, b]
  entrypoint: a b
  working_dir: /a
  user: a
  group_add: [a]
  hostname: a
  init: true
  stop_signal: TERM
  stop_grace_period: 1s
  environment: {A: b}
  env_file: [{path: a, required: true}]
  labels: [a=b]
  healthcheck: {test: [CMD, a], interval: 1s, retries: 1, disable: false}
  ports: [{target: 80, published: 80, mode: host}, {target: 81, published: 81, protocol: tcp, mode: host}]
  networks: {front: {aliases: [a]}}
  volumes: ["/a:/a:ro", {type: bind, source: /b, target: /b, bind: {propagation: shared}}, {type: tmpfs, target: /c}]
  tmpfs: /run
  configs: [a, {source: b, target: c, uid: 1, mode: "0444"}]
  secrets: [a]
  cap_add: [CHOWN]
  sysctls: {net.a: 1}
  ulimits: {nofile: 1, core: {soft: 1, hard: 1}}
  dns: [10.0.0.1]
  dns_search: a
  dns_opt: [a]
  extra_hosts: [a:10.0.0.1]
  oom_score_adj: 1
  logging: {driver: json-file, options: {max-size: 1m, max-file: 2}}
  deploy:
    mode: replicated
    replicas: 1
    endpoint_mode: dnsrr
    labels: {a: b}
    update_config: {parallelism: 1, delay: 1s, failure_action: pause, max_failure_ratio: 0.1, order: stop-first}
    restart_policy: {condition: any, delay: 1s, max_attempts: 1, window: 1s}
    resources: {limits: {cpus: 1, memory: 64M, pids: 1}, reservations: {cpus: "1", memory: 64M}}
    placement: {constraints: [node.role==worker], preferences: [{spread: node.labels.a}], max_replicas_per_node: 1}
---
apiVersion: gitops/v1
kind: Image
metadata: {name: a}
spec:
  reference: a:1
  build:
    base: scratch
    layers: [{files: [{from: a, to: /a, mode: "0755", uid: 1, gid: 1}, {link: a, to: /b}, {content: a, to: /c}]}]
    config:
      {entrypoint: [a], cmd: [a], env: {A: b}, working_dir: /, user: a, expose: [80], labels: {a: b}, stop_signal: 9,
       volumes: [/a], healthcheck: {test: a}}
---
apiVersion: gitops/v1
kind: Image
metadata: {name: b}
spec: {pull: {repository: a, tag: b}}
---
apiVersion: gitops/v1
kind: Image
metadata: {name: c}
spec: {reference: c, archive: {path: a}}
---
apiVersion: gitops/v1
kind: Network
metadata: {name: a}
spec:
  driver: overlay
  driver_opts: {com.docker.network.driver.mtu: 1400}
  internal: true
  attachable: true
  ipam: {driver: default, config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1}]}
  labels: {a: b}
---
apiVersion: gitops/v1
kind: Volume
metadata: {name: a}
spec: {driver: local, driver_opts: {type: nfs, o: a, device: ":/a"}, labels: {a: b}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: a}
spec: {content: a, labels: {a: b}}
---
apiVersion: gitops/v1
kind: Config
metadata: {name: a}
spec: {external: true, name: a}
---
apiVersion: gitops/v1
kind: Stack
metadata: {name: a}
spec: {description: a, prune: true}
"""
STRANGE: list[Any] = [
    *(None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", " ", "a", "é\u200b", "-", "::", "[", "a\nb"),
    *(
        "1" * 5000,
        "0",
        "999999h",
        "1e999",
        [],
        [None],
        [[]],
        [{}],
        [1],
        {},
        {"": ""},
        {"a": None},
        {"a": []},
        {"a": {}},
    ),
]


def documents_of() -> list[documents.Document]:
    return documents.parse(SourceText("samples.yaml", SAMPLES))


def data_of(document: documents.Document) -> Any:
    return construct.Builder().build(document.root)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def test_the_samples_are_right() -> None:
    problems = [problem.headline() for document in documents_of() for problem in document.problems()]
    assert problems == []


@pytest.mark.parametrize("number", range(len(documents_of())))
def test_a_strange_value_anywhere_is_a_problem_or_fine(number: int) -> None:
    document = documents_of()[number]
    kind = document.parsed.kind
    model = documents.registry.KINDS[kind]()
    for path in places(data_of(document)):
        for strange in STRANGE:
            data = data_of(document)
            owner = data
            for part in path[:-1]:
                owner = owner[part]
            owner[path[-1]] = copy.deepcopy(strange)
            _, issues = documents.check_model(model, data, kind)
            for issue in issues:
                problem = document.problem(issue)
                assert problem.line and problem.column and problem.reason and problem.field.isprintable()
                assert (problem.reason + problem.hint).isprintable()


@pytest.mark.parametrize("number", range(len(documents_of())))
def test_an_unknown_key_anywhere_is_named_and_one_of_ones_own_is_fine(number: int) -> None:
    document = documents_of()[number]
    model = documents.registry.KINDS[document.parsed.kind]()
    free = {"labels", "annotations", "environment", "env", "sysctls", "ulimits", "networks", "driver_opts", "options"}
    for path in [(), *places(data_of(document))]:
        data = data_of(document)
        owner = data
        for part in path:
            owner = owner[part]
        if not isinstance(owner, dict) or (path and path[-1] in free):
            continue
        owner["x-mine"] = 1
        assert documents.check_model(model, data, document.parsed.kind)[1] == ()
        owner["zzz"] = 1
        found = documents.check_model(model, data, document.parsed.kind)[1]
        assert [(issue.path, issue.reason) for issue in found if issue.path[-1:] == ("zzz",)] == [
            ((*path, "zzz"), "unknown key")
        ]
