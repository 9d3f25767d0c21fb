"""Documents in any order, in any number of files, ask for the same objects."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gitops import manifests
from gitops.manifests import Desired

DOCUMENTS = [
    "kind: Network\nmetadata: {name: net, stack: app}\nspec: {}\n",
    "kind: Volume\nmetadata: {name: data, stack: app}\nspec: {}\n",
    "kind: Config\nmetadata: {name: page, stack: app}\nspec: {content: hello}\n",
    "kind: Secret\nmetadata: {name: key, stack: app}\nspec: {content: hush}\n",
    "kind: Stack\nmetadata: {name: app}\nspec: {prune: false}\n",
    "kind: Image\nmetadata: {name: b, stack: app}\nspec: {reference: 'base:v1', pull: {repository: a, tag: '1'}}\n",
    """\
kind: Service
metadata: {name: db, stack: app}
spec: {image: 'base:v1', networks: [net], volumes: ["data:/data"], secrets: [key]}
""",
    """\
kind: Service
metadata: {name: web, stack: app}
spec: {image: 'base:v1', networks: [net], configs: [page], depends_on: {db: {condition: healthy}, job: {}}}
""",
    "kind: Service\nmetadata: {name: job, stack: app}\nspec: {image: 'base:v1', deploy: {mode: replicated-job}}\n",
]


def asked_for(item: Desired) -> tuple[Any, ...]:
    return item.spec, item.canonical, item.hash, frozenset(item.needs), item.depends_on, item.deadline_ns


def load(files: list[list[str]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    with tempfile.TemporaryDirectory() as directory:
        for number, documents in enumerate(files):
            text = "---\n".join(f"apiVersion: gitops/v1\n{document}" for document in documents)
            (Path(directory) / f"{number}.yaml").write_text(text)
        found = manifests.load(Path(directory), manifests.LoadOptions(secret_key=b"k" * 32))
    return {item.key: asked_for(item) for item in found.objects}


@settings(deadline=None, max_examples=40)
@given(st.permutations(DOCUMENTS), st.sets(st.integers(1, len(DOCUMENTS) - 1)))
def test_the_order_of_documents_and_their_files_make_no_difference(documents: list[str], cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(documents)]
    files = [documents[start:end] for start, end in itertools.pairwise(edges)]
    assert load(files) == load([DOCUMENTS])
