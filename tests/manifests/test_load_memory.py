"""Loading again with a memory: what didn't change is the same object, and what comes out is what a fresh load gives."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops import errors, manifests

HEAD = "apiVersion: gitops/v1\nkind: {kind}\nmetadata: {{name: {name}, stack: shop}}\n"
VARIANTS = {
    "web.yaml": [
        HEAD.format(kind="Service", name="web") + "spec: {image: nginx}\n",
        HEAD.format(kind="Service", name="web") + "spec: {image: nginx, networks: [back], depends_on: [db]}\n",
        HEAD.format(kind="Service", name="web") + "spec: {image: app, secrets: [password], configs: [motd]}\n",
        HEAD.format(kind="Service", name="web") + "spec: {image: app, env_file: web.env, volumes: ['data:/data']}\n",
        HEAD.format(kind="Service", name="web") + "spec: {image: app\n",
        "",
    ],
    "db.yaml": [
        HEAD.format(kind="Service", name="db") + "spec: {image: app}\n",
        HEAD.format(kind="Service", name="db") + "spec: {image: app, networks: [default, back]}\n",
        HEAD.format(kind="Service", name="db").replace(", stack: shop", "") + "spec: {image: app}\n",
        HEAD.format(kind="Service", name="db") + "spec: {image: app, restart: on-failure, secrets: [password]}\n",
    ],
    "network.yaml": [
        HEAD.format(kind="Network", name="back"),
        HEAD.format(kind="Network", name="back") + "spec: {external: true, name: theirs}\n",
        HEAD.format(kind="Network", name="default") + "---\n" + HEAD.format(kind="Network", name="back"),
        "",
    ],
    "secret.yaml": [
        HEAD.format(kind="Secret", name="password") + "spec: {content: hunter2}\n",
        HEAD.format(kind="Secret", name="password") + "spec: {content: hunter3}\n",
        HEAD.format(kind="Secret", name="password").replace(", stack: shop", "") + "spec: {content: hunter2}\n",
    ],
    "other.yaml": [
        HEAD.format(kind="Config", name="motd")
        + "spec: {file: motd.txt}\n---\n"
        + HEAD.format(kind="Volume", name="data"),
        HEAD.format(kind="Config", name="motd")
        + "spec: {content: hello}\n---\n"
        + HEAD.format(kind="Volume", name="data")
        + "spec: {labels: {a: b}}\n",
        HEAD.format(kind="Image", name="app")
        + "spec: {reference: app, pull: {repository: debian, tag: 12}}\n---\n"
        + HEAD.format(kind="Volume", name="data"),
    ],
    "web.env": ["A=1\n", "A=2\n"],
    "motd.txt": ["one\n", "two\n"],
}
EDITS = st.lists(st.sampled_from([(name, text) for name, texts in VARIANTS.items() for text in texts]), max_size=12)


def write(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)


def outcome(directory: Path, memory: manifests.LoadMemory | None) -> object:
    """The set, or what is wrong with it."""
    try:
        return manifests.load(directory, memory=memory)
    except errors.InvalidManifest as error:
        return error.problems


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name, texts in VARIANTS.items():
        write(tmp_path, name, texts[0])
    return tmp_path


def services(found: manifests.DesiredSet) -> dict[str, manifests.Desired]:
    return {item.name: item for item in found.of("Service")}


@given(EDITS)
@settings(deadline=None, max_examples=60)
def test_a_load_with_a_memory_gives_what_a_fresh_one_gives(edits: list[tuple[str, str]]) -> None:
    memory = manifests.LoadMemory()
    with tempfile.TemporaryDirectory() as directory:
        for name, texts in VARIANTS.items():
            write(Path(directory), name, texts[0])
        for name, text in (("web.env", "A=1\n"), *edits):
            write(Path(directory), name, text)
            assert outcome(Path(directory), memory) == outcome(Path(directory), None)


def test_what_did_not_change_is_the_same_object(shop: Path) -> None:
    memory = manifests.LoadMemory()
    before = services(manifests.load(shop, memory=memory))
    write(shop, "web.yaml", VARIANTS["web.yaml"][0].replace("nginx", "nginx:1.27"))
    after = services(manifests.load(shop, memory=memory))
    assert after["db"] is before["db"] and after["web"] is not before["web"]


def test_neither_did_the_documents_above_the_one_that_changed(tmp_path: Path) -> None:
    memory = manifests.LoadMemory()
    texts = [HEAD.format(kind="Service", name=name) + "spec: {image: nginx}\n" for name in ("a", "b", "c")]
    write(tmp_path, "all.yaml", "---\n".join(texts))
    for _ in range(3):
        before = services(manifests.load(tmp_path, memory=memory))
    write(tmp_path, "all.yaml", "---\n".join(texts).replace("{name: b, stack: shop}", "\n  name: b\n  stack: shop"))
    after = services(manifests.load(tmp_path, memory=memory))
    assert [after[name] is before[name] for name in "abc"] == [True, False, False]
    assert after["c"].position.line == before["c"].position.line + 2


def test_a_secret_that_changes_makes_its_users_anew(shop: Path) -> None:
    memory = manifests.LoadMemory()
    write(shop, "db.yaml", VARIANTS["db.yaml"][3])
    before = services(manifests.load(shop, memory=memory))
    write(shop, "secret.yaml", VARIANTS["secret.yaml"][1])
    after = services(manifests.load(shop, memory=memory))
    assert after["web"] is before["web"] and after["db"].needs != before["db"].needs


def test_a_file_that_a_service_reads_is_read_each_time(shop: Path) -> None:
    memory = manifests.LoadMemory()
    write(shop, "web.yaml", VARIANTS["web.yaml"][3])
    before = services(manifests.load(shop, memory=memory))
    write(shop, "web.env", "A=2\n")
    after = services(manifests.load(shop, memory=memory))
    assert after["web"].spec != before["web"].spec and after["db"] is before["db"]


def test_broken_manifests_forget_nothing(shop: Path) -> None:
    memory = manifests.LoadMemory()
    before = services(manifests.load(shop, memory=memory))
    for text in ("spec: [", "spec: {", "kind: Nothing"):
        write(shop, "network.yaml", f"apiVersion: gitops/v1\n{text}\n")
        assert isinstance(outcome(shop, memory), list | tuple)
    write(shop, "network.yaml", VARIANTS["network.yaml"][0])
    assert services(manifests.load(shop, memory=memory))["web"] is before["web"]
