"""Services of every shape through the real API: what is read back has the canonical form of the manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gitops import manifests
from gitops.manifests import canonical
from gitops.objects import wire
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.objects.service import Service, ServiceSpec

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SHAPES = {
    "plain": "{}",
    "process": """
  command: [serve, --fast]
  entrypoint: /bin/busybox httpd
  working_dir: /www
  user: "1000:1000"
  group_add: [staff, 20]
  hostname: "{{.Service.Name}}-{{.Task.Slot}}"
  init: true
  tty: true
  stdin_open: true
  read_only: true
  stop_signal: 15
  stop_grace_period: 1m30s
  environment: {EMPTY: "", NODE: "{{.Node.Hostname}}", b: c}
  labels: {tier: front}""",
    "kernel": """
  cap_add: [NET_ADMIN]
  cap_drop: [ALL]
  security_opt: [no-new-privileges, "seccomp=profile.json", "apparmor:unconfined", "label:disable"]
  sysctls: {net.core.somaxconn: 1024}
  ulimits: {nofile: {soft: 1, hard: 2}, core: -1}
  oom_score_adj: -5
  restart: on-failure:3
  pull_policy: missing""",
    "unconfined": """
  security_opt: ["seccomp:unconfined"]
  restart: "no"
  logging: {driver: none}""",
    "network": """
  dns: [192.0.2.53, 192.0.2.54]
  dns_search: example.org
  dns_opt: ["ndots:2"]
  extra_hosts: {db: [192.0.2.1, 192.0.2.2], cache: 192.0.2.3}
  networks: {front: {aliases: [www, web]}, back: {}}
  ports: ["8080:80", "8443:443/udp", {target: 90, published: 9000, mode: host, name: admin}, "99"]
  logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}""",
    "names": """
  deploy: {endpoint_mode: dnsrr}
  networks: [back]
  ports: [{target: 90, published: 9001, mode: host}]""",
    "files": """
  volumes:
    - data:/data
    - /srv
    - {type: volume, source: data, target: /again, read_only: true, volume: {nocopy: true}}
    - /tmp:/host:ro
    - {type: bind, source: /tmp, target: /bound, bind: {propagation: rslave, recursive: disabled,
       create_host_path: true}}
    - {type: volume, source: data, target: /part, volume: {subpath: part/of}}
    - {type: bind, source: /tmp, target: /deep, read_only: true, bind: {recursive: readonly}}
    - {type: bind, source: /tmp, target: /flat, read_only: true, bind: {recursive: writable}}
    - {type: tmpfs, target: /dev/shm, tmpfs: {size: 64M, mode: 01777}}
  tmpfs: ["/run:size=1m,mode=0755"]
  secrets: [password, {source: password, target: again, uid: 5, gid: 6, mode: 0400}]
  configs: [settings, {source: settings, target: /etc/settings, mode: 0440}]
  healthcheck: {test: "true", interval: 10s, timeout: 3s, retries: 2, start_period: 4s, start_interval: 1s}""",
    "unchecked": """
  healthcheck: {disable: true}
  depends_on: {plain: {condition: healthy, required: false}, network: {condition: service_started}}
  deploy: {deadline: 3m}""",
    "deployed": """
  deploy:
    labels: {owner: ops}
    update_config: {parallelism: 0, delay: 1s, failure_action: rollback, monitor: 2s, max_failure_ratio: 0.3,
                    order: start-first}
    rollback_config: {parallelism: 2, order: stop-first, failure_action: continue}
    restart_policy: {condition: on-failure, delay: 3s, max_attempts: 4, window: 1m}
    resources: {limits: {cpus: 0.5, memory: 64M, pids: 20}, reservations: {cpus: "0.1", memory: 32M}}
    placement: {constraints: [node.role == manager, node.labels.zone != a], preferences: [{spread: node.labels.zone}],
                max_replicas_per_node: 2}""",
}
NOWHERE = "placement: {constraints: [node.labels.nowhere == yes]}"
MODES = {
    "everywhere": f"{{mode: global, {NOWHERE}, update_config: {{parallelism: 2}}}}",
    "job": "{mode: replicated-job, replicas: 0, max_concurrent: 3, restart_policy: {condition: none}}",
    "job-each": f"{{mode: global-job, {NOWHERE}}}",
}
OURS = "gitops engine"
AUXILIARY = ", aux_addresses: {printer: 10.99.0.7}"
"""What no Docker Swarm keeps free."""
OTHERS = """
apiVersion: gitops/v1
kind: Network
metadata: {name: front, stack: app, labels: {a: b}}
spec:
  attachable: true
  driver_opts: {com.docker.network.driver.mtu: 1400}
  ipam: {config: [{subnet: 10.99.0.0/24, ip_range: 10.99.0.128/25, aux_addresses: {printer: 10.99.0.7}}]}
---
apiVersion: gitops/v1
kind: Network
metadata: {name: back, stack: app}
spec: {internal: true}
---
apiVersion: gitops/v1
kind: Volume
metadata: {name: data, stack: app}
spec: {driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}, labels: {c: d}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: password, stack: app}
spec: {content: hunter2}
---
apiVersion: gitops/v1
kind: Config
metadata: {name: settings, stack: app}
spec: {content: "a = {{.Task.Slot}}", template_driver: golang}
"""
TEMPLATE = """
apiVersion: gitops/v1
kind: Config
metadata: {name: template, stack: app}
spec: {content: '{{env "SELF"}} on {{.Node.ID}}', template_driver: golang}
"""
PROFILE = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})


HEAD = "apiVersion: gitops/v1\nkind: Service\nmetadata: {{name: {name}, stack: app}}\nspec:\n  image: app:v1"


_PARTS = """
    - {type: volume, source: data, target: /part, volume: {subpath: part/of}}
    - {type: bind, source: /tmp, target: /deep, read_only: true, bind: {recursive: readonly}}
    - {type: bind, source: /tmp, target: /flat, read_only: true, bind: {recursive: writable}}"""
NEWER = {
    "kernel": (', "seccomp=profile.json", "apparmor:unconfined"', "no-new-privileges, ", "  oom_score_adj: -5\n"),
    "unconfined": ('  security_opt: ["seccomp:unconfined"]\n',),
    "files": (", start_interval: 1s", ",\n       create_host_path: true", _PARTS),
}
"""What the Docker Engine of some machines is too old for."""


def for_older(shapes: dict[str, str]) -> dict[str, str]:
    """The shapes without what came to the API after version 1.41."""
    found = dict(shapes)
    for name, parts in NEWER.items():
        for part in parts:
            assert part in found[name], part
            found[name] = found[name].replace(part, "")
    return found


def manifest(name: str, body: str, replicas: int = 0) -> str:
    if body == "{}":
        body = ""
    if "  deploy: {" in body:
        body = body.replace("  deploy: {", f"  deploy: {{replicas: {replicas}, ")
    elif "  deploy:" in body:
        body = body.replace("  deploy:", f"  deploy:\n    replicas: {replicas}")
    else:
        body += f"\n  deploy: {{replicas: {replicas}}}"
    return f"{HEAD.format(name=name)}{body}\n"


def names(host: Any) -> canonical.Names:
    def by_id(kind: str) -> dict[str, str]:
        return {item["ID"]: item["Spec"]["Name"] for item in host.api(f"/{kind}")}

    networks = {item["Id"]: item["Name"] for item in host.api("/networks")}
    return canonical.Names(networks, by_id("secrets"), by_id("configs"))


def applied(swarm: Any, path: Path) -> manifests.DesiredSet:
    """Apply, and find that nothing is left to do; the set as it was meant."""
    swarm.gitops("apply", path, "--yes")
    left = swarm.gitops("diff", path, check=False)
    assert left.returncode == 0, left.stdout
    return manifests.load(path)


def test_every_field_comes_back_from_the_engine_as_it_was_written(engine_host: Any, project: Any, image: Any) -> None:
    version = tuple(map(int, engine_host.api("/version")["ApiVersion"].split(".")))
    shapes = for_older(SHAPES) if version < (1, 46) else SHAPES
    others = OTHERS if engine_host.api("/version")["Platform"]["Name"] == OURS else OTHERS.replace(AUXILIARY, "")
    services = {f"{name}.yaml": manifest(name, body) for name, body in shapes.items()}
    services |= {f"{name}.yaml": f"{HEAD.format(name=name)}\n  deploy: {deploy}\n" for name, deploy in MODES.items()}
    path = project({"image.yaml": image("app:v1", "v1"), "others.yaml": others, "profile.json": PROFILE, **services})
    wanted = applied(engine_host, path)
    known = names(engine_host)
    live = {found["Spec"]["Name"]: wire.decode(json.dumps(found), Service) for found in engine_host.api("/services")}
    for item in wanted.of("Service"):
        assert isinstance(item.spec, ServiceSpec)
        form = canonical.service(live[item.engine_name].spec, known)
        expected = dict(item.canonical)
        # The one thing that an apply adds: which image of this name it was, by digest or by id.
        assert form.pop("image") and expected.pop("image")
        for secret in (*form.get("secrets", {}).values(), *expected.get("secrets", {}).values()):
            # Its version is made with the operator's key, which only his own process has.
            secret["source"] = secret["source"].rpartition("-")[0]
        assert form == expected, item.engine_name
    networks = {
        found["Name"]: wire.decode(json.dumps(found), NetworkResource) for found in engine_host.api("/networks")
    }
    for item in wanted.of("Network"):
        assert isinstance(item.spec, NetworkCreate)
        assert canonical.network(networks[item.engine_name], item.spec) == item.canonical


def process_of(host: Any, service: str) -> Path:
    """/proc/PID of the program in a service's only container."""

    def pid() -> int:
        found = host.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}").split()
        return int(host.docker("inspect", "--format", "{{.State.Pid}}", found[0])) if found else 0

    return Path(f"/proc/{host.wait(pid, 30)}")


def status(process: Path) -> dict[str, str]:
    lines = (process / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_security_options_and_templates_hold_in_the_containers(swarm: Any, project: Any, image: Any) -> None:
    kernel = """
  security_opt: [no-new-privileges, "seccomp=profile.json"]
  cap_drop: [ALL]
  environment: {SELF: "{{.Service.Name}}.{{.Task.Slot}}"}
  hostname: "h-{{.Task.Slot}}"
  configs: [{source: template, target: /etc/app}]
  volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 1M}}]"""
    path = project(
        {
            "image.yaml": image("app:v1", "v1"),
            "profile.json": PROFILE,
            "template.yaml": TEMPLATE,
            "strict.yaml": manifest("strict", kernel, 1),
            "loose.yaml": manifest("loose", '\n  security_opt: ["seccomp:unconfined"]', 1),
            "plain.yaml": manifest("plain", "{}", 1),
        }
    )
    applied(swarm, path)
    strict, loose, plain = (process_of(swarm, f"app_{name}") for name in ("strict", "loose", "plain"))
    found = status(strict)
    assert (found["NoNewPrivs"], found["Seccomp"], int(found["CapEff"], 16)) == ("1", "2", 0)
    assert (status(loose)["NoNewPrivs"], status(loose)["Seccomp"]) == ("0", "0")
    assert (status(plain)["NoNewPrivs"], status(plain)["Seccomp"]) == ("0", "2")
    assert b"SELF=app_strict.1" in (strict / "environ").read_bytes().split(b"\0")
    assert swarm.run("nsenter", "-u", "-t", strict.name, "hostname").stdout == "h-1\n"
    (node,) = swarm.api("/nodes")
    assert (strict / "root" / "etc" / "app").read_text() == f"app_strict.1 on {node['ID']}"
    shared_memory = os.statvfs(strict / "root" / "dev" / "shm")
    assert shared_memory.f_blocks * shared_memory.f_frsize == 1 << 20


def test_a_service_may_use_the_network_of_its_host(swarm: Any, project: Any, image: Any) -> None:
    network = "apiVersion: gitops/v1\nkind: Network\nmetadata: {name: outside}\nspec: {external: true, name: host}\n"
    body = "\n  networks: [outside]"
    path = project({"i.yaml": image("app:v1", "v1"), "n.yaml": network, "s.yaml": manifest("bare", body, 1)})
    applied(swarm, path)
    assert swarm.get("http://127.0.0.1:8080/") == "v1\n"
