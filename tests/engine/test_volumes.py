"""Named volumes: names, options, users, removal, crashes."""

from __future__ import annotations

import asyncio
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.volumes import ANONYMOUS_LABEL, VolumeService
from gitops.objects.container import VolumeCreate


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "engine.db") as found:
        yield found


@pytest.fixture
def events() -> EventBus:
    return EventBus()


@pytest.fixture
async def volumes(tmp_path: Path, database: Database, events: EventBus) -> VolumeService:
    service = VolumeService(EngineConfig(data_root=tmp_path, run_root=tmp_path), database, events)
    await service.start()
    return service


def names(volumes: VolumeService, **filters: list[str]) -> list[str]:
    return [volume.name for volume in volumes.list(filters)]


async def test_a_volume_has_a_directory_and_is_told_of(volumes: VolumeService, events: EventBus) -> None:
    made = await volumes.create(VolumeCreate(name="data", labels={"a": "1"}))
    assert Path(made.mountpoint).is_dir() and made.mountpoint == str(volumes.path("data"))
    assert (made.driver, made.scope, made.labels) == ("local", "local", {"a": "1"})
    assert volumes.get("data") == made
    assert [(event.type, event.action, event.actor.id) for event in events.recent()] == [("volume", "create", "data")]


async def test_making_it_again_gives_the_one_that_is_there(volumes: VolumeService) -> None:
    made = await volumes.create(VolumeCreate(name="data", labels={"a": "1"}))
    assert await volumes.create(VolumeCreate(name="data")) == made
    with pytest.raises(errors.Conflict, match="already exists with other options"):
        await volumes.create(VolumeCreate(name="data", driver_opts={"type": "tmpfs", "device": "tmpfs"}))


async def test_a_volume_without_a_name_gets_one_and_a_mark(volumes: VolumeService) -> None:
    made = await volumes.create(VolumeCreate())
    assert len(made.name) == 64 and made.labels == {ANONYMOUS_LABEL: ""}


@pytest.mark.parametrize("name", ["a", "../x", "a/b", ".hidden", "a b", "-x", "x" * 250, "ä1"])
async def test_bad_names_are_refused(volumes: VolumeService, name: str) -> None:
    with pytest.raises(errors.Invalid, match="includes invalid characters"):
        await volumes.create(VolumeCreate(name=name))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (VolumeCreate(name="vol", driver="nfs"), 'plugin "nfs" not found'),
        (VolumeCreate(name="vol", driver_opts={"size": "1"}), 'invalid option: "size"'),
        (VolumeCreate(name="vol", driver_opts={"type": "nfs"}), "missing device"),
        (VolumeCreate(name="vol", driver_opts={"device": "x"}), "missing type"),
    ],
)
async def test_what_isn_t_there_is_refused_by_name(volumes: VolumeService, body: VolumeCreate, text: str) -> None:
    with pytest.raises((errors.NotFound, errors.Invalid), match=text):
        await volumes.create(body)
    assert names(volumes) == []


async def test_a_used_volume_stays(volumes: VolumeService) -> None:
    made = await volumes.create(VolumeCreate(name="data"))
    (Path(made.mountpoint) / "file").write_text("x")
    volumes.users = lambda name: ["c1"]
    with pytest.raises(errors.Conflict, match=r"remove data: volume is in use - \[c1\]"):
        await volumes.remove("data", force=True)
    volumes.users = lambda name: []
    await volumes.remove("data")
    assert not Path(made.mountpoint).parent.exists()
    with pytest.raises(errors.NotFound, match="get data: no such volume"):
        await volumes.remove("data")
    await volumes.remove("data", force=True)


async def test_a_volume_that_a_container_was_made_with_meanwhile_stays(
    volumes: VolumeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await volumes.create(VolumeCreate(name="data"))
    (Path(made.mountpoint) / "file").write_text("precious")

    def unmount(name: str) -> None:
        volumes.users = lambda name: ["c1"]

    monkeypatch.setattr(volumes, "_unmount_now", unmount)
    with pytest.raises(errors.Conflict, match="volume is in use"):
        await volumes.remove("data")
    assert (Path(volumes.get("data").mountpoint) / "file").read_text() == "precious"


async def test_two_removals_at_once_remove_once(volumes: VolumeService, events: EventBus) -> None:
    await volumes.create(VolumeCreate(name="data"))
    found = await asyncio.gather(volumes.remove("data"), volumes.remove("data"), return_exceptions=True)
    assert found[0] is None and isinstance(found[1], errors.NotFound)
    assert [event.action for event in events.recent()] == ["create", "destroy"]


async def test_a_removal_that_failed_half_way_is_no_hindrance_to_the_next(
    volumes: VolumeService, tmp_path: Path
) -> None:
    (tmp_path / "volumes" / ".removing-data" / "old").mkdir(parents=True)
    await volumes.create(VolumeCreate(name="data"))
    await volumes.remove("data")
    assert list((tmp_path / "volumes").iterdir()) == []


async def test_a_mount_that_hangs_tells_no_password(volumes: VolumeService, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(subprocess, "run", run)
    options = {"type": "cifs", "o": "password=hunter2", "device": "//host/share"}
    await volumes.create(VolumeCreate(name="share", driver_opts=options))
    with pytest.raises(errors.RuntimeFailure, match="no answer") as failure:
        await volumes.acquire("share", "c1")
    assert "hunter2" not in "".join(traceback.format_exception(failure.value))


async def test_filters_select(volumes: VolumeService) -> None:
    await volumes.create(VolumeCreate(name="web-data", labels={"tier": "web", "x": ""}))
    await volumes.create(VolumeCreate(name="db-data", labels={"tier": "db", "x": ""}))
    volumes.users = lambda name: ["c"] if name == "db-data" else []
    assert names(volumes, name=["web"]) == ["web-data"]
    assert names(volumes, label=["x", "tier=db"]) == ["db-data"]
    assert names(volumes, dangling=["true"]) == ["web-data"]
    assert names(volumes, dangling=["false"]) == ["db-data"]
    assert names(volumes, driver=["local"]) == ["db-data", "web-data"]
    with pytest.raises(errors.Invalid, match="invalid filter 'colour'"):
        names(volumes, colour=["red"])


async def test_prune_takes_unused_anonymous_volumes_and_named_ones_when_asked(volumes: VolumeService) -> None:
    used = await volumes.create(VolumeCreate())
    unused = await volumes.create(VolumeCreate())
    (Path(unused.mountpoint) / "file").write_bytes(b"x" * 10000)
    await volumes.create(VolumeCreate(name="named"))
    volumes.users = lambda name: ["c"] if name == used.name else []
    removed, freed = await volumes.prune()
    assert removed == [unused.name] and freed >= 10000
    assert await volumes.prune({"all": ["true"]}) == (["named"], 0) or names(volumes) == [used.name]
    assert names(volumes) == [used.name]


async def test_a_declared_volume_is_made_when_it_is_first_used(volumes: VolumeService, database: Database) -> None:
    with database.transaction():
        volumes.declare(VolumeCreate(name="later"))
    assert not volumes.path("later").exists()
    assert (await volumes.acquire("later", "c1")).is_dir()
    await volumes.release("later", "c1")
    with pytest.raises(errors.NotFound):
        await volumes.acquire("other", "c1")


async def test_a_declaration_that_is_rolled_back_leaves_nothing(volumes: VolumeService, database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction():
        volumes.declare(VolumeCreate(name="never"))
        raise RuntimeError
    assert names(volumes) == []


async def test_a_removal_that_a_crash_cut_off_is_finished(
    volumes: VolumeService, tmp_path: Path, database: Database, events: EventBus
) -> None:
    made = await volumes.create(VolumeCreate(name="data"))
    folder = Path(made.mountpoint).parent
    folder.rename(folder.parent / ".removing-data")
    again = VolumeService(EngineConfig(data_root=tmp_path, run_root=tmp_path), database, events)
    await again.start()
    assert names(again) == [] and list((tmp_path / "volumes").iterdir()) == []


async def test_data_without_a_row_is_taken_up_never_deleted(
    volumes: VolumeService, tmp_path: Path, database: Database, events: EventBus
) -> None:
    made = await volumes.create(VolumeCreate(name="data"))
    (Path(made.mountpoint) / "file").write_text("precious")
    database.delete("volumes", "data")
    again = VolumeService(EngineConfig(data_root=tmp_path, run_root=tmp_path), database, events)
    await again.start()
    assert (Path(again.get("data").mountpoint) / "file").read_text() == "precious"
