"""The canonical form: the same for what a manifest makes and for what comes back from the API, however it is put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gitops import manifests
from gitops.manifests import canonical
from gitops.manifests.convert import service as conversion
from gitops.manifests.kinds.deploy import Deploy
from gitops.manifests.kinds.service import Service
from gitops.manifests.kinds.service import ServiceSpec as ServiceModel
from gitops.objects import base, defaults, labels
from gitops.objects.container import Volume, VolumeCreate
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate, NetworkResource
from gitops.objects.secret import ConfigSpec
from gitops.objects.service import ServiceSpec

NAMES = st.text(alphabet="abc", min_size=1, max_size=3)
DURATIONS = st.sampled_from(["0s", "1s", "1m30s", "250ms"])
SIZES = st.sampled_from(["64M", "1G", 8 << 20])
COUNTS = st.integers(0, 20)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


UPDATES = optional(
    parallelism=COUNTS,
    delay=DURATIONS,
    failure_action=st.sampled_from(["pause", "continue"]),
    monitor=DURATIONS,
    max_failure_ratio=st.sampled_from([0, 0.1, 0.25, 1]),
    order=st.sampled_from(["stop-first", "start-first"]),
)
TEXT_MAPS = st.dictionaries(NAMES, st.text(alphabet="xy= ", max_size=3), max_size=4)
CAPABILITIES = st.lists(st.sampled_from(["CHOWN", "CAP_KILL", "NET_RAW"]), max_size=3, unique=True)
FILES = st.lists(
    st.sampled_from(["one", "two", "three"]).flatmap(
        lambda name: (
            st.just(name)
            | optional(target=st.just(f"of-{name}"), uid=COUNTS, mode=st.sampled_from(["0400", "0444"])).map(
                lambda use: {"source": name, **use}
            )
        )
    ),
    max_size=3,
    unique_by=lambda use: use["source"] if isinstance(use, dict) else use,
)
RESTARTS = optional(condition=st.sampled_from(["none", "on-failure"]), delay=DURATIONS, max_attempts=COUNTS)
COMMON = {
    "labels": TEXT_MAPS,
    "restart_policy": RESTARTS,
    "resources": optional(limits=optional(memory=SIZES, pids=COUNTS), reservations=optional(cpus=st.just("0.5"))),
    "deadline": st.sampled_from(["1s", "5m"]),
}
CONSTRAINTS = st.lists(st.sampled_from(["node.role==worker", "node.id != x"]), max_size=2, unique=True)
PREFERENCES = st.lists(st.sampled_from([{"spread": "node.labels.a"}, {"spread": "engine.labels.b"}]), max_size=2)
EACH_NODE = optional(constraints=CONSTRAINTS)
SPREAD = optional(constraints=CONSTRAINTS, preferences=PREFERENCES, max_replicas_per_node=COUNTS)
DEPLOYS = st.one_of(
    optional(mode=st.just("replicated"), replicas=COUNTS, update_config=UPDATES, rollback_config=UPDATES,
             placement=SPREAD, **COMMON),
    optional(update_config=UPDATES, placement=EACH_NODE, min_available=COUNTS, **COMMON).map(
        lambda found: {"mode": "global", **found}
    ),
    optional(replicas=COUNTS, max_concurrent=st.integers(1, 9), placement=SPREAD, **COMMON).map(
        lambda found: {"mode": "replicated-job", **found}
    ),
    optional(placement=EACH_NODE, **COMMON).map(lambda found: {"mode": "global-job", **found}),
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.just("nginx"),
    "pull_policy": st.just("missing"),
    "command": st.lists(NAMES, max_size=3),
    "entrypoint": st.lists(NAMES, max_size=2),
    "working_dir": st.just("/srv"),
    "user": NAMES,
    "group_add": st.lists(NAMES, max_size=3),
    "hostname": st.just("h{{.Task.Slot}}"),
    "init": st.booleans(),
    "tty": st.booleans(),
    "stdin_open": st.booleans(),
    "read_only": st.booleans(),
    "stop_signal": st.sampled_from(["TERM", "SIGTERM", "9", "SIGRTMIN+3"]),
    "stop_grace_period": DURATIONS,
    "environment": TEXT_MAPS,
    "labels": TEXT_MAPS,
    "healthcheck": st.just({"disable": True})
    | optional(
        test=st.just("true"),
        interval=DURATIONS,
        timeout=DURATIONS,
        start_period=DURATIONS,
        start_interval=DURATIONS,
        retries=COUNTS,
    ),
    "ports": st.lists(
        st.sampled_from(["1:80", "2:80", "3:53/udp", "80", "90/udp", {"target": 5, "published": 6, "mode": "host"}]),
        max_size=4,
        unique_by=str,
    ),
    "depends_on": st.lists(st.sampled_from(["api", "db", "other_queue"]), max_size=3, unique=True)
    | st.dictionaries(
        st.sampled_from(["api", "db", "other_queue"]),
        optional(condition=st.sampled_from(["healthy", "service_started"]), required=st.booleans()),
    ),
    "networks": st.lists(st.sampled_from(["front", "back"]), min_size=1, max_size=2, unique=True)
    | st.dictionaries(st.sampled_from(["front", "back"]), optional(aliases=st.lists(NAMES, max_size=3)), min_size=1),
    "volumes": st.lists(
        st.sampled_from(["/a:/a", "/b:/b:ro", "/c", "data:/data", {"type": "tmpfs", "target": "/e",
                         "tmpfs": {"size": 5, "mode": "0700"}}, {"type": "bind", "source": "/f", "target": "/f",
                         "bind": {"propagation": "rshared", "recursive": "disabled"}}]),
        max_size=3,
        unique_by=str,
    ),
    "tmpfs": st.just(["/run:size=1m"]),
    "configs": FILES,
    "secrets": FILES,
    "cap_add": CAPABILITIES,
    "cap_drop": CAPABILITIES,
    "security_opt": st.lists(
        st.sampled_from(["no-new-privileges", "seccomp=unconfined", "apparmor:unconfined", "label:disable"]),
        max_size=4,
        unique=True,
    ),
    "sysctls": st.dictionaries(st.sampled_from(["net.a", "net.b"]), NAMES),
    "ulimits": st.dictionaries(st.sampled_from(["nofile", "core"]), COUNTS),
    "dns": st.just(["10.0.0.1", "10.0.0.2"]),
    "dns_search": st.lists(NAMES, max_size=2),
    "dns_opt": st.lists(NAMES, max_size=2),
    "extra_hosts": st.lists(st.sampled_from(["a:10.0.0.1", "b:10.0.0.2", "a:10.0.0.3"]), max_size=3, unique=True),
    "oom_score_adj": st.integers(-1000, 1000),
    "logging": st.sampled_from([{"options": {"max-size": "10m"}}, {"driver": "none"}, {"driver": "local"}]),
    "deploy": DEPLOYS,
}  # fmt: skip
SPECS = st.fixed_dictionaries({"image": FIELDS["image"]}, optional={k: v for k, v in FIELDS.items() if k != "image"})
ELSEWHERE = {"env_file", "restart"}
"""What becomes another field: `environment`, `deploy.restart_policy`."""
NATURAL_KEYS = ("ports", "networks", "volumes", "secrets", "configs", "cap_add", "cap_drop", "group_add", "extra_hosts",
                "depends_on", "security_opt", "environment", "labels", "sysctls", "ulimits")  # fmt: skip


def test_the_random_services_have_every_field_that_there_is() -> None:
    assert set(FIELDS) | ELSEWHERE == set(ServiceModel.model_fields)
    assert {*DEPLOY_FIELDS} == set(Deploy.model_fields)


DEPLOY_FIELDS = (*COMMON, "mode", "replicas", "max_concurrent", "min_available", "update_config", "rollback_config",
                 "placement", "endpoint_mode")  # fmt: skip
"""The last one is at odds with published ports, and has a test of its own."""


OTHERS = (
    ("Service", "site", "api"),
    ("Service", "", "db"),
    ("Service", "other", "queue"),
    ("Network", "site", "front"),
    ("Network", "", "back"),
    ("Volume", "site", "data"),
    *((kind, "site", name) for kind in ("Secret", "Config") for name in ("one", "two", "three")),
)


def declared(spec: dict[str, Any]) -> ServiceSpec:
    """What a manifest with this spec becomes, without going through files."""
    from gitops.manifests.catalog import Catalog, Item
    from gitops.manifests.documents import SourceText, parse

    document = parse(SourceText("a.yaml", "apiVersion: gitops/v1\nkind: Stack\nmetadata: {name: a}\n"))[0]
    catalog = Catalog(manifests.LoadOptions(), {})
    for kind, stack, name in OTHERS:
        item = Item(document, None, kind, stack, name, None, labels.engine_name(stack, name))  # type: ignore[arg-type]
        catalog.add(item)
    data = {
        "apiVersion": "gitops/v1",
        "kind": "Service",
        "metadata": {"name": "web", "stack": "site"},
        "spec": {"image": "nginx", **spec},
    }
    model = Service.model_validate(data)
    item = Item(document, None, "Service", "site", "web", model, "site_web")  # type: ignore[arg-type]
    found = conversion.convert(catalog, item)
    assert not catalog.problems
    assert isinstance(found.spec, ServiceSpec)
    return found.spec


def as_from_the_api(spec: ServiceSpec, draw: st.DataObject) -> ServiceSpec:
    """The spec with defaults inserted, network ids for names, lists in another order, through JSON."""
    filled = defaults.fill(spec) if draw.draw(st.booleans()) else spec
    container = filled.task_template.container_spec
    assert container is not None

    def shuffled(items: list[Any]) -> list[Any]:
        return list(draw.draw(st.permutations(items)))

    container = replace(
        container,
        image="docker.io/library/nginx:latest",
        env=shuffled(container.env),
        mounts=shuffled(container.mounts),
        groups=shuffled(container.groups),
        hosts=shuffled(container.hosts),
        ulimits=shuffled(container.ulimits),
        capability_add=shuffled(container.capability_add),
        capability_drop=shuffled(container.capability_drop),
        secrets=shuffled(
            [replace(use, secret_id=f"id-of-{use.secret_name}", secret_name="") for use in container.secrets]
        ),
        configs=shuffled(
            [replace(use, config_id=f"id-of-{use.config_name}", config_name="") for use in container.configs]
        ),
        isolation=draw.draw(st.sampled_from(["", "default"])),
    )
    networks = shuffled(
        [
            replace(network, target="id-of-" + network.target, aliases=shuffled(network.aliases))
            for network in filled.task_template.networks
        ]
    )
    template = replace(filled.task_template, container_spec=container, networks=networks, force_update=3)
    endpoint = filled.endpoint_spec
    if endpoint is not None:
        endpoint = replace(endpoint, ports=shuffled(endpoint.ports))
    filled = replace(filled, task_template=template, endpoint_spec=endpoint)
    return base.from_json(base.to_json(filled), ServiceSpec)


IDS = canonical.Names(
    networks={f"id-of-{name}": name for name in ("site_default", "site_front", "back")},
    secrets={f"id-of-site_{name}": f"site_{name}" for name in ("one", "two", "three")},
    configs={f"id-of-site_{name}": f"site_{name}" for name in ("one", "two", "three")},
)


@given(SPECS, st.data())
def test_a_service_comes_back_from_the_api_as_what_was_declared(spec: dict[str, Any], data: st.DataObject) -> None:
    wanted = declared(spec)
    live = as_from_the_api(wanted, data)
    assert canonical.service(live, IDS) == canonical.service(wanted)
    assert wanted.labels[labels.HASH] == canonical.digest(canonical.service(live, IDS))


@given(SPECS, st.data())
def test_the_order_in_a_manifest_makes_no_difference_where_there_is_a_natural_key(
    spec: dict[str, Any], data: st.DataObject
) -> None:
    other = dict(data.draw(st.permutations(list(spec.items()))))
    for field in set(NATURAL_KEYS) & set(other):
        value = other[field]
        other[field] = (
            list(data.draw(st.permutations(value)))
            if isinstance(value, list)
            else dict(data.draw(st.permutations(list(value.items()))))
        )
    assert declared(other).labels[labels.HASH] == declared(spec).labels[labels.HASH]


DEFAULTS: dict[str, Any] = {
    "stop_grace_period": "10s",
    "networks": {"default": {}},
    "tty": False,
    "stdin_open": False,
    "read_only": False,
    "oom_score_adj": 0,
    "security_opt": ["seccomp=builtin", "no-new-privileges=false", "apparmor=docker-default"],
    "deploy": {
        "mode": "replicated",
        "replicas": 1,
        "update_config": {
            "parallelism": 1,
            "delay": "0s",
            "failure_action": "pause",
            "monitor": "5s",
            "max_failure_ratio": 0,
            "order": "stop-first",
        },
        "rollback_config": {"parallelism": 1, "monitor": "5s"},
        "restart_policy": {"condition": "any", "delay": "5s", "max_attempts": 0, "window": "0s"},
        "resources": {"limits": {}, "reservations": {"cpus": 0, "memory": 0}},
        "placement": {"max_replicas_per_node": 0, "constraints": []},
    },
}


def test_a_default_that_is_written_is_one_that_is_left_out() -> None:
    assert canonical.service(declared(DEFAULTS)) == canonical.service(declared({}))


@pytest.mark.parametrize(("one", "other"), [("9", "KILL"), ("15", "SIGTERM"), ("SIGIO", "poll"), ("CLD", "17")])
def test_a_signal_has_one_name(one: str, other: str) -> None:
    forms = [canonical.service(declared({"stop_signal": text}))["stop_signal"] for text in (one, other)]
    assert forms[0] == forms[1]


@given(SPECS, SPECS)
def test_two_services_have_one_form_only_if_they_mean_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = defaults.fill(declared(one)), defaults.fill(declared(other))
    if first.update_config != second.update_config or first.mode != second.mode:
        assert canonical.service(first) != canonical.service(second)
    for spec in (first, second):
        container = spec.task_template.container_spec
        assert container is not None
        form = canonical.service(spec)
        assert form.get("environment", {}) == dict(item.split("=", 1) for item in container.env)


@pytest.mark.parametrize("text", ["A", "A="])
def test_a_variable_that_is_unset_empty_or_missing_is_three_things(text: str) -> None:
    spec = declared({})
    container = spec.task_template.container_spec
    assert container is not None
    other = replace(spec, task_template=replace(spec.task_template, container_spec=replace(container, env=[text])))
    assert canonical.service(other) != canonical.service(spec)
    assert canonical.service(other)["environment"] == {"A": canonical.UNSET if text == "A" else ""}


def test_what_the_engine_chooses_for_a_network_is_no_difference() -> None:
    plain = NetworkCreate(name="a", driver="overlay", scope="swarm", labels={"x": "y", labels.HASH: "1"})
    live = NetworkResource(
        name="a",
        id="1",
        created="",
        scope="swarm",
        driver="overlay",
        ipam=IPAM(config=[IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]),
        options={"com.docker.network.driver.overlay.vxlanid_list": "4097"},
        labels={"x": "y", labels.HASH: "2"},
    )
    assert canonical.network(live, plain) == canonical.network(plain)
    subnet = replace(plain, ipam=IPAM(config=[IPAMConfig(subnet="10.0.1.0/24")]))
    assert canonical.network(live, subnet) == canonical.network(subnet)
    other = replace(plain, ipam=IPAM(config=[IPAMConfig(subnet="10.0.2.0/24")]))
    assert canonical.network(live, other) != canonical.network(other)
    assert canonical.network(replace(live, internal=True), plain) != canonical.network(plain)


def test_a_volume_comes_back_as_it_was_made() -> None:
    made = VolumeCreate("a", driver_opts={"type": "tmpfs"}, labels={"x": ""})
    live = Volume("a", options={"type": "tmpfs"}, labels={"x": ""}, mountpoint="/var/lib/x")
    assert canonical.volume(made) == canonical.volume(live)
    assert canonical.volume(VolumeCreate("a")) == canonical.volume(Volume("a"))


def test_the_version_in_a_name_stands_for_the_content() -> None:
    assert canonical.config(ConfigSpec("site_a-0123456789ab", data=b"x")) == {"version": "0123456789ab"}
    assert canonical.config(ConfigSpec("made-by-hand")) == {}


def test_an_image_changes_with_the_content_and_the_mode_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: gitops/v1\nkind: Image\nmetadata: {name: a}\nspec:\n  reference: a:1\n"
        "  build: {layers: [{files: [{from: www, to: /www}, {from: tool, to: /tool}]}]}\n"
    )
    (tmp_path / "www").mkdir()
    page, tool = tmp_path / "www" / "page.yaml", tmp_path / "tool"
    page.write_text("no manifest, but part of an image")
    tool.write_text("x")
    hashes = [manifests.load(tmp_path).objects[0].hash]
    page.write_text("other")
    hashes.append(manifests.load(tmp_path).objects[0].hash)
    tool.chmod(0o700)
    hashes.append(manifests.load(tmp_path).objects[0].hash)
    (tmp_path / "www" / "link").symlink_to("page.yaml")
    hashes.append(manifests.load(tmp_path).objects[0].hash)
    assert len(set(hashes)) == 4
    assert manifests.load(tmp_path).objects[0].hash == hashes[-1]


def test_a_file_whose_name_is_no_utf_8_goes_into_an_image(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "image.yaml").write_text(
        "apiVersion: gitops/v1\nkind: Image\nmetadata: {name: site}\n"
        "spec:\n  reference: site:v1\n  build: {layers: [{files: [{from: www, to: /www}]}]}\n"
    )
    hashes = set()
    for name in (b"\xff", b"\xfe", b"\xc3\xa9"):
        with open(bytes(tmp_path / "www") + b"/" + name, "wb"):
            hashes.add(manifests.load(tmp_path).objects[0].hash)
    assert len(hashes) == 3
