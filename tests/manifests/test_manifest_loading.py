"""A set of manifests as a whole: order, names, versions, externals, what was read, what is cached."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import pytest

from gitops import errors, manifests
from gitops.manifests import documents
from gitops.manifests.kinds.storage import Secret
from gitops.objects import labels
from gitops.objects.container import VolumeCreate
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import ServiceSpec

EXAMPLES = Path(__file__).parents[2] / "examples" / "manifests"
EVERYTHING = """
apiVersion: gitops/v1
kind: Service
metadata: {name: web, stack: site}
spec: {image: app:1, networks: [shared], secrets: [password], configs: [nginx, motd], volumes: ["data:/data"]}
---
apiVersion: gitops/v1
kind: Config
metadata: {name: nginx, stack: site}
spec: {content: "events {}"}
---
apiVersion: gitops/v1
kind: Config
metadata: {name: motd}
spec: {external: true, name: the-motd}
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: password, stack: site, labels: {owner: me}}
spec: {content: hunter2}
---
apiVersion: gitops/v1
kind: Volume
metadata: {name: data, stack: site}
---
apiVersion: gitops/v1
kind: Network
metadata: {name: shared}
spec: {attachable: true, ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.1}]}}
---
apiVersion: gitops/v1
kind: Image
metadata: {name: app, stack: site}
spec: {reference: "app:1", build: {base: base}}
---
apiVersion: gitops/v1
kind: Image
metadata: {name: base, stack: site}
spec: {reference: base, pull: {repository: debian, tag: 12, digest: "sha256:DIGEST"}}
---
apiVersion: gitops/v1
kind: Stack
metadata: {name: site}
spec: {description: A site, prune: false}
""".replace("DIGEST", "a" * 64)


def write(directory: Path, text: str = EVERYTHING, name: str = "all.yaml") -> Path:
    (directory / name).write_text(text)
    return directory


def names(loaded: manifests.DesiredSet) -> list[tuple[str, str]]:
    return [item.key for item in loaded.objects]


def test_objects_come_in_the_order_in_which_they_need_each_other(tmp_path: Path) -> None:
    loaded = manifests.load(write(tmp_path))
    secret, config = loaded.of("Secret")[0].engine_name, loaded.of("Config")[0].engine_name
    assert names(loaded) == [
        ("Image", "base:latest"),
        ("Image", "app:1"),
        ("Network", "shared"),
        ("Volume", "site_data"),
        ("Secret", secret),
        ("Config", config),
        ("Service", "site_web"),
    ]
    assert [(item.kind, item.engine_name) for item in loaded.externals] == [("Config", "the-motd")]
    (service,) = loaded.of("Service")
    assert set(service.needs) == {*names(loaded)[1:-1], ("Config", "the-motd")}
    assert loaded.of("Image")[1].needs == (("Image", "base:latest"),)


def test_every_object_is_what_the_api_takes_and_says_whose_it_is(tmp_path: Path) -> None:
    loaded = manifests.load(write(tmp_path))
    for item in loaded.objects:
        assert str(item.position).startswith("all.yaml:")
        if isinstance(item.spec, manifests.ImageSource):
            continue
        found = item.spec.labels
        assert found is not None and found[labels.NAME] == item.name and found[labels.HASH] == item.hash
        assert found.get(labels.STACK, "") == item.stack
    (network,) = loaded.of("Network")
    assert isinstance(network.spec, NetworkCreate)
    assert (network.spec.driver, network.spec.scope, network.spec.attachable) == ("overlay", "swarm", True)
    (volume,) = loaded.of("Volume")
    assert isinstance(volume.spec, VolumeCreate) and volume.spec.name == "site_data"
    base = loaded.of("Image")[0].spec
    assert isinstance(base, manifests.ImageSource)
    assert (base.reference, base.pull) == ("base:latest", "debian:12@sha256:" + "a" * 64)


def test_a_stack_has_its_settings_or_the_defaults(tmp_path: Path) -> None:
    stacks = manifests.load(write(tmp_path)).stacks
    assert (stacks["site"].description, stacks["site"].prune) == ("A site", False)
    assert stacks[""].prune and stacks[""].position is None


def test_a_field_has_its_place(tmp_path: Path) -> None:
    (service,) = manifests.load(write(tmp_path)).of("Service")
    assert service.positions["spec.networks[0]"] == (5, 33)
    assert service.positions["metadata.name"] == (4, 12)
    assert "spec.nothing" not in service.positions


def test_secrets_and_configs_change_their_name_with_their_content_and_roll_their_users(tmp_path: Path) -> None:
    options = manifests.LoadOptions(secret_key=b"key")
    before = manifests.load(write(tmp_path), options)
    assert names(manifests.load(tmp_path, options)) == names(before)
    after = manifests.load(write(tmp_path, EVERYTHING.replace("hunter2", "hunter3")), options)
    assert before.of("Secret")[0].engine_name != after.of("Secret")[0].engine_name
    assert before.of("Config")[0].engine_name == after.of("Config")[0].engine_name
    assert before.of("Service")[0].hash != after.of("Service")[0].hash
    other = manifests.load(tmp_path, manifests.LoadOptions(secret_key=b"another key"))
    assert other.of("Secret")[0].engine_name != after.of("Secret")[0].engine_name


def test_without_a_key_a_secrets_name_tells_nothing(tmp_path: Path) -> None:
    import hashlib
    import hmac

    (secret,) = manifests.load(write(tmp_path)).of("Secret")
    guesses = [hashlib.sha256(b"hunter2").hexdigest(), hmac.new(b"", b"hunter2", hashlib.sha256).hexdigest()]
    assert not any(guess.startswith(secret.engine_name.rpartition("-")[2]) for guess in guesses)


def test_a_secret_never_shows(tmp_path: Path) -> None:
    loaded = manifests.load(write(tmp_path))
    (secret,) = loaded.of("Secret")
    assert isinstance(secret.spec, SecretSpec) and secret.spec.data == b"hunter2"
    assert "hunter2" not in repr(loaded) and "hunter2" not in str(secret)
    document = documents.parse(documents.SourceText("a.yaml", EVERYTHING))[3]
    assert document.parsed.kind == "Secret" and "hunter2" not in repr(document)
    model = Secret.model_validate(
        {"apiVersion": "gitops/v1", "kind": "Secret", "metadata": {"name": "a"}, "spec": {"content": "hunter2"}}
    )
    assert "hunter2" not in repr(model)
    with pytest.raises(Exception) as caught:
        Secret.model_validate({"kind": "Secret", "metadata": {}, "spec": {"content": "hunter2", "fil": "hunter2"}})
    assert "hunter2" not in str(caught.value) + repr(caught.value)


def test_content_comes_from_files_and_from_the_operators_environment(tmp_path: Path) -> None:
    head = "apiVersion: gitops/v1\nkind: {}\nmetadata: {{name: a}}\nspec: {}\n"
    (tmp_path / "motd").write_bytes(b"\x00binary\xff")
    write(tmp_path, head.format("Config", "{file: ./motd}") + "---\n" + head.format("Secret", "{environment: PW}"))
    loaded = manifests.load(tmp_path, manifests.LoadOptions(environ={"PW": "hunter2"}))
    config, secret = loaded.of("Config")[0].spec, loaded.of("Secret")[0].spec
    assert isinstance(config, ConfigSpec) and config.data == b"\x00binary\xff"
    assert isinstance(secret, SecretSpec) and secret.data == b"hunter2"
    with pytest.raises(errors.InvalidManifest, match="not open to manifests here"):
        manifests.load(tmp_path, manifests.LoadOptions(allow_host=False))


@pytest.mark.parametrize(("kind", "limit"), [("Secret", 500 * 1024), ("Config", 1000 * 1024)])
def test_too_large_a_secret_or_config_is_refused(tmp_path: Path, kind: str, limit: int) -> None:
    write(tmp_path, f"apiVersion: gitops/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{file: big}}\n")
    (tmp_path / "big").write_bytes(b"x" * limit)
    with pytest.raises(errors.InvalidManifest, match=rf"has {limit} bytes, more than the limit of {limit - 1}"):
        manifests.load(tmp_path)
    (tmp_path / "big").write_bytes(b"x" * (limit - 1))
    manifests.load(tmp_path)


def test_directories_are_searched_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    stack = "apiVersion: gitops/v1\nkind: Stack\nmetadata: {{name: {}}}\n"
    for name in ("a.yaml", "sub/b.yml", ".hidden/c.yaml", "sub/.d.yaml", "e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(stack.format(Path(name).stem.strip(".")))
    loaded = manifests.load(tmp_path)
    assert sorted(loaded.stacks) == ["a", "b"]
    assert set(loaded.files_read) == {"a.yaml", "sub/b.yml"}
    assert loaded.directories == (tmp_path, tmp_path / "sub")
    assert list(manifests.load(tmp_path / "sub" / "b.yml").stacks) == ["b"]
    assert sorted(manifests.load([tmp_path / "a.yaml", tmp_path / "sub"]).files_read) == ["a.yaml", "sub/b.yml"]


def test_a_file_that_a_manifest_reads_needs_to_be_no_manifest(tmp_path: Path) -> None:
    text = "apiVersion: gitops/v1\nkind: Config\nmetadata: {name: a}\nspec: {file: prometheus.yml}\n"
    write(tmp_path, text)
    write(tmp_path, "global: {scrape_interval: 15s}\n", "prometheus.yml")
    manifests.load(tmp_path)
    write(tmp_path, "{{ not even yaml }}: [", "prometheus.yml")
    manifests.load(tmp_path)
    write(tmp_path, "a: 1\n", "stray.yml")
    with pytest.raises(errors.InvalidManifest, match=r"stray\.yml:1:1: no manifest: apiVersion and kind are missing"):
        manifests.load(tmp_path)


def test_a_path_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="nowhere"):
        manifests.load(tmp_path / "nowhere")


def test_an_empty_directory_asks_for_nothing(tmp_path: Path) -> None:
    loaded = manifests.load(write(tmp_path, "# nothing yet\n"))
    assert loaded.objects == () and loaded.stacks == {} and list(loaded.files_read) == ["all.yaml"]


def test_a_broken_file_causes_no_complaint_about_references_into_it(tmp_path: Path) -> None:
    write(tmp_path, EVERYTHING.replace("kind: Volume", "kind: Volume\nspec: {driver: [}"))
    write(
        tmp_path,
        "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: b}\nspec: {image: a, networks: [shared]}\n",
        "b.yaml",
    )
    with pytest.raises(errors.InvalidManifest) as caught:
        manifests.load(tmp_path)
    assert len(caught.value.problems) == 1
    write(tmp_path, EVERYTHING.replace("attachable: true", "attachable: yes"))
    with pytest.raises(errors.InvalidManifest) as caught:
        manifests.load(tmp_path)
    assert [problem.field for problem in caught.value.problems] == ["spec.attachable"]


def test_an_unchanged_file_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = manifests.LoadMemory()
    before = manifests.load(write(tmp_path), memory=memory)
    parsed: list[object] = []
    real = documents._parse
    monkeypatch.setattr(documents, "_parse", lambda root: parsed.append(root) or real(root))
    assert names(manifests.load(tmp_path, memory=memory)) == names(before)
    assert parsed == []
    write(tmp_path, EVERYTHING.replace("hunter2", "another one"))
    manifests.load(tmp_path, memory=memory)
    assert len(parsed) == EVERYTHING.count("kind:")


def test_a_load_changes_nothing_that_the_next_one_sees(tmp_path: Path) -> None:
    options = manifests.LoadOptions(secret_key=b"k")
    first = manifests.load(write(tmp_path), options)
    kept = copy.deepcopy([item.canonical for item in first.objects])
    second = manifests.load(tmp_path, options)
    assert [item.canonical for item in second.objects] == kept
    assert [item.spec for item in second.objects] == [item.spec for item in first.objects]
    assert gc.isenabled()


def test_the_books_services_are_what_the_book_says(tmp_path: Path) -> None:
    import shutil

    copied = Path(shutil.copytree(EXAMPLES, tmp_path / "manifests", ignore=shutil.ignore_patterns("bin")))
    (copied / "bin").mkdir()
    (copied / "bin" / "busybox").write_bytes(b"\x7fELF")
    loaded = manifests.load(copied)
    services = {item.name: item.spec for item in loaded.of("Service")}
    web, uber = services["web-fe"], services["uber-svc"]
    assert isinstance(web, ServiceSpec) and isinstance(uber, ServiceSpec)
    assert web.mode.replicated is not None and web.mode.replicated.replicas == 5
    assert uber.mode.replicated is not None and uber.mode.replicated.replicas == 12
    assert uber.update_config is not None
    assert (uber.update_config.parallelism, uber.update_config.delay) == (2, 20_000_000_000)
    assert [(port.published_port, port.target_port) for port in web.endpoint_spec.ports] == [(8080, 8080)]  # type: ignore[union-attr]
    assert [(port.published_port, port.target_port) for port in uber.endpoint_spec.ports] == [(80, 80)]  # type: ignore[union-attr]
    assert uber.task_template.networks[0].target == "book_uber-net"
    assert {"tu-demo:v1", "tu-demo:v2"} <= {item.engine_name for item in loaded.of("Image")}
    assert (EXAMPLES / "www/tu-demo-v1/index.html").read_text().count("Football?") == 2
    assert (EXAMPLES / "www/tu-demo-v2/index.html").read_text().count("Soccer?") == 2
