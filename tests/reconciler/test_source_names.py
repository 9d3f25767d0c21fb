"""Names of states of the manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import manifests
from gitops.reconciler import source
from gitops.reconciler.reconcile import Options, Reconciler

SECRET = "apiVersion: gitops/v1\nkind: Secret\nmetadata: {name: key, stack: app}\nspec: {file: value.txt}\n"
CONFIG = SECRET.replace("Secret", "Config")


async def name(path: Path, key: bytes) -> str:
    reconciler = Reconciler(None, Options(manifests.LoadOptions(secret_key=key)))  # type: ignore[arg-type]
    return await reconciler.revision(source.of_path(path))


@pytest.mark.parametrize(("text", "is_keyed"), [(SECRET, True), (CONFIG, False)])
async def test_the_name_of_a_state_tells_whoever_lacks_the_key_nothing_of_secrets(
    tmp_path: Path, text: str, is_keyed: bool
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "value.txt").write_text("1234")
    first, other_key = await name(tmp_path, b"a" * 32), await name(tmp_path, b"b" * 32)
    assert (first != other_key) == is_keyed
    assert await name(tmp_path, b"a" * 32) == first
    (tmp_path / "value.txt").write_text("1235")
    assert await name(tmp_path, b"a" * 32) != first
