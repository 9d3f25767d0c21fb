"""A set that is the same byte for byte isn't checked again; any other is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitops import errors, manifests
from gitops.manifests import verdicts

SERVICE = (
    "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web, stack: shop}\nspec: {image: ghcr.io/team/app:3}\n"
)
OPTIONS = manifests.LoadOptions(secret_key=b"validate", only_checks=True, opens_sops=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gitops" / "verdicts"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "web.yaml").write_text(SERVICE)
    return tmp_path / "shop"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sets that were checked in earnest."""
    found: list[object] = []
    real = manifests.load_found

    def load(*given: object) -> manifests.DesiredSet:
        found.append(given)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(manifests, "load_found", load)
    return found


def test_what_is_the_same_is_checked_once(shop: Path, cache: Path, checked: list[object]) -> None:
    first, second = verdicts.check(shop, OPTIONS), verdicts.check(shop, OPTIONS)
    assert first == second == verdicts.Verdict({"Network": 1, "Service": 1})
    assert len(checked) == 1


def test_nothing_of_the_manifests_is_kept(shop: Path, cache: Path) -> None:
    verdicts.check(shop, OPTIONS)
    (kept,) = cache.iterdir()
    assert kept.read_text() == '{"objects": {"Network": 1, "Service": 1}, "externals": 0}'
    assert kept.stat().st_mode & 0o077 == 0 and cache.stat().st_mode & 0o077 == 0


def test_any_change_is_checked(shop: Path, cache: Path, checked: list[object]) -> None:
    verdicts.check(shop, OPTIONS)
    verdicts.check(shop, manifests.LoadOptions(secret_key=b"validate", only_checks=True, env="prod"))
    (shop / "more.yaml").write_text(SERVICE.replace("web", "db"))
    assert verdicts.check(shop, OPTIONS).objects["Service"] == 2
    (shop / "more.yaml").write_text(SERVICE.replace("web", "db").replace("image", "imag"))
    for _ in range(2):
        with pytest.raises(errors.InvalidManifest, match="imag"):
            verdicts.check(shop, OPTIONS)
    assert len(checked) == 5


def test_another_version_of_the_program_checks_again(
    shop: Path, cache: Path, checked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts.check(shop, OPTIONS)
    monkeypatch.setattr(verdicts, "_program", lambda: [("gitops/manifests/checks.py", 1, 1)])
    verdicts.check(shop, OPTIONS)
    assert len(checked) == 2


@pytest.mark.parametrize(
    "more",
    [
        SERVICE.replace("spec: {", "spec: {env_file: web.env, "),
        SERVICE
        + "---\napiVersion: gitops/v1\nkind: Secret\nmetadata: {name: pw}\nspec: {environment: SHOP_PASSWORD}\n",
        SERVICE + "---\napiVersion: gitops/v1\nkind: Config\nmetadata: {name: motd}\nspec: {file: web.env}\n",
    ],
    ids=["env_file", "environment", "file"],
)
def test_what_asks_for_more_than_its_own_files_is_checked_each_time(
    shop: Path, cache: Path, checked: list[object], monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    (shop / "web.env").write_text("A=1\n")
    (shop / "web.yaml").write_text(more)
    for _ in range(2):
        verdicts.check(shop, OPTIONS)
    assert len(checked) == 2 and not list(cache.glob("*"))
    monkeypatch.delenv("SHOP_PASSWORD")
    (shop / "web.env").unlink()
    with pytest.raises(errors.InvalidManifest):
        verdicts.check(shop, OPTIONS)


def test_a_compose_file_is_checked_each_time(shop: Path, cache: Path, checked: list[object]) -> None:
    (shop / "compose.yaml").write_text("services: {db: {image: postgres}}\n")
    for _ in range(2):
        verdicts.check(shop, OPTIONS)
    assert len(checked) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"objects": {"Service": "many"}, "externals": 0}'])
def test_a_damaged_cache_is_no_cache(shop: Path, cache: Path, checked: list[object], content: str) -> None:
    verdicts.check(shop, OPTIONS)
    (kept,) = cache.iterdir()
    kept.write_text(content)
    assert verdicts.check(shop, OPTIONS).objects == {"Network": 1, "Service": 1}
    assert len(checked) == 2 and kept.read_text() != content


def test_nor_is_one_that_others_can_write(shop: Path, cache: Path, checked: list[object]) -> None:
    verdicts.check(shop, OPTIONS)
    cache.chmod(0o777)
    verdicts.check(shop, OPTIONS)
    assert len(checked) == 2


def test_a_cache_that_can_not_be_made_is_done_without(
    shop: Path, tmp_path: Path, checked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert verdicts.check(shop, OPTIONS).objects == {"Network": 1, "Service": 1}
    assert len(checked) == 2


def test_the_oldest_verdicts_go(shop: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_KEPT", 2)
    for number in range(4):
        (shop / "web.yaml").write_text(SERVICE.replace("web", f"web-{number}"))
        verdicts.check(shop, OPTIONS)
        for age, kept in enumerate(sorted(cache.iterdir(), key=lambda path: -path.stat().st_mtime)):
            os.utime(kept, (1000 - age, 1000 - age))
    assert len(list(cache.iterdir())) == 2
