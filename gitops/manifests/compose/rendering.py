"""Compose projects as our own manifests, in a text that loads to the same objects.

Relative paths stay relative to the project's directory, so the text is at home there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gitops.manifests import documents
from gitops.manifests.compose.objects import ComposeDocument
from gitops.manifests.kinds import registry
from gitops.manifests.text import emit


def texts(found: Iterable[ComposeDocument]) -> dict[str, str]:
    """The manifests of each stack, by a line that names it and its files. The documents must have kept their data."""
    stacks: dict[str, list[ComposeDocument]] = {}
    for document in found:
        stacks.setdefault(document.parsed.stack, []).append(document)
    return {
        _title(stack, items): emit.documents([_manifest(item) for item in items]) for stack, items in stacks.items()
    }


def _title(stack: str, items: list[ComposeDocument]) -> str:
    files = dict.fromkeys(item.source.name for item in items)
    return f"stack {stack}, from {', '.join(files)}"


def _manifest(document: ComposeDocument) -> dict[str, Any]:
    """What the document was made of; where its names are none by our own rule, it says whose they are."""
    assert document.data is not None
    data, kind = dict(document.data), document.parsed.kind
    _, issues = documents.check_model(registry.KINDS[kind](), data, kind)
    if issues:
        data["metadata"] = {**data["metadata"], "naming": "compose"}
    return data
