"""Compose files parsed in a child while the parent imports: what comes out is what one process alone gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.manifests import LoadOptions, ahead

TEXTS = {
    "plain": "name: shop\nservices:\n  web: {image: nginx, ports: ['80:80'], networks: [front]}\n  db:\n    image: pg\n"
    "    user: 0440\nnetworks:\n  front: {name: the-front}\nvolumes: {data: }\nsecrets: {key: {file: key.txt}}\n",
    "warned of": "services:\n  web: {image: nginx, privileged: true}\n",
    "warned of late": "services:\n  web:\n    image: nginx\n    logging: {driver: syslog}\n  b: {build: .}\n",
    "a circle": "services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b, depends_on: [a]}\n",
    "an unknown key": "services:\n  web: {imag: nginx}\n",
    "a wrong value": "services:\n  web:\n    image: nginx\n    mem_limit: lots\n",
    "a wrong name": "services: {web: {image: nginx}}\nsecrets: {key: {file: gone.txt}}\n",
    "no map": "services: [a]\n",
    "twice": "services:\n  web: {image: a}\n  web: {image: b}\n",
    "no yaml": "services: [\n",
    "an anchor": "x-a: &a {image: nginx}\nservices:\n  web: *a\n  db: *a\n",
    "a key of an anchor": "x-a: &a {web: {image: nginx}}\nservices:\n  <<: *a\n",
    "two documents": "services: {web: {image: a}}\n---\nservices: {web: {image: b}}\n",
    "a variable": "services: {web: {image: '${A:-nginx}'}}\n",
}


@pytest.fixture(autouse=True)
def _always_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_WORTH_IT", 0)
    monkeypatch.setattr(ahead, "_may_fork", lambda: True)


def said(path: Path, root: Path) -> Any:
    try:
        found = manifests.load(path, LoadOptions(root=root, environ={}, secret_key=b"k"))
    except errors.InvalidManifest as error:
        return error.problems
    places = [dict(item.positions) for item in found.objects]
    return found.objects, found.externals, found.files_read, found.warnings, places


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_is_what_one_process_makes_of_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yaml").write_text(TEXTS[name])
    (tmp_path / "key.txt").write_text("hush")
    found = said(tmp_path, tmp_path)
    monkeypatch.setattr(ahead, "_may_fork", lambda: False)
    assert found == said(tmp_path, tmp_path)


@pytest.mark.timeout(300)
def test_so_is_every_file_of_others(compose_corpus: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(compose_corpus.glob("*/**/*.y*ml")) if compose_corpus else []
    for path in files if compose_corpus else ():
        assert compose_corpus is not None
        with monkeypatch.context() as alone:
            alone.setattr(ahead, "_may_fork", lambda: False)
            expected = said(path, compose_corpus)
        assert said(path, compose_corpus) == expected, path
