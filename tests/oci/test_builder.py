from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.objects.service import HealthConfig
from gitops.oci import archive, builder, digest, manifest
from gitops.oci.builder import BuildConfig, BuildPlan, ContentEntry, DirectoryEntry, Entry, FileEntry, LinkEntry
from gitops.oci.manifest import Platform

AMD64 = Platform(os="linux", architecture="amd64")


def layer(*entries: Entry) -> dict[str, tarfile.TarInfo]:
    with builder.build(BuildPlan(layers=[entries])) as built, built.layers[0].open() as content:
        data = content.read()
        assert digest.sha256(data) == built.layers[0].digest == built.layers[0].diff_id
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {member.name: member for member in tar.getmembers()}


def config(plan: BuildPlan) -> dict[str, Any]:
    with builder.build(plan) as built:
        decoded: dict[str, Any] = json.loads(built.config)
        return decoded


def archived(plan: BuildPlan) -> bytes:
    output = io.BytesIO()
    with builder.build(plan) as built:
        builder.write_archive(built, output)
    return output.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "www"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "index.html").write_text("hello")
    (root / "sub" / "run").write_text("#!")
    (root / "sub" / "run").chmod(0o755)
    (root / "sub").chmod(0o750)
    (root / "out").symlink_to("/etc/passwd")
    (root / "up").symlink_to("..", target_is_directory=True)
    return root


def test_entries_become_members_with_their_parents_and_fixed_times(tree: Path) -> None:
    found = layer(
        DirectoryEntry(tree, "/www"),
        FileEntry(tree / "index.html", "/a/b/file", mode=0o4755, uid=7, gid=8),
        ContentEntry(b"v1\n", "etc/version"),
        LinkEntry("/a/b/file", "/bin/sh"),
    )
    assert list(found) == [
        *("a", "a/b", "a/b/file", "bin", "bin/sh", "etc", "etc/version", "www", "www/index.html"),
        *("www/out", "www/sub", "www/sub/deep", "www/sub/run", "www/up"),
    ]
    assert {member.mtime for member in found.values()} == {0}
    assert (found["a/b/file"].mode, found["a/b/file"].uid, found["a/b/file"].gid) == (0o4755, 7, 8)
    assert (found["a"].mode, found["a"].uid, found["a"].type) == (0o755, 0, tarfile.DIRTYPE)
    assert (found["www/sub"].mode, found["www/sub/run"].mode) == (0o750, 0o755)
    assert (found["bin/sh"].type, found["bin/sh"].linkname) == (tarfile.SYMTYPE, "/a/b/file")


def test_symlinks_of_a_source_directory_are_copied_never_followed(tree: Path) -> None:
    found = layer(DirectoryEntry(tree, "/"))
    assert (found["out"].type, found["out"].linkname) == (tarfile.SYMTYPE, "/etc/passwd")
    assert (found["up"].type, found["up"].linkname) == (tarfile.SYMTYPE, "..")


def test_a_mode_for_a_directory_holds_for_files_and_lets_directories_be_searched(tree: Path) -> None:
    found = layer(DirectoryEntry(tree, "/www", mode=0o640, uid=3))
    assert (found["www"].mode, found["www/sub"].mode, found["www/sub/run"].mode) == (0o750, 0o750, 0o640)
    assert found["www/up"].uid == 3


def test_directories_of_several_entries_merge(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "more").write_text("x")
    found = layer(DirectoryEntry(tree, "/www"), DirectoryEntry(other, "/www"))
    assert {"www/more", "www/index.html"} <= set(found)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([ContentEntry(b"", "/a"), ContentEntry(b"", "a")], "two entries"),
        ([ContentEntry(b"", "/a"), ContentEntry(b"", "/a/b")], "a file or link"),
        ([LinkEntry("/x", "/a"), ContentEntry(b"", "/a/b")], "a file or link"),
        ([ContentEntry(b"", "/../a")], "not a path inside"),
        ([ContentEntry(b"", "")], "not a path inside"),
        ([ContentEntry(b"", "/")], "must name a file"),
        ([ContentEntry(b"", "/a/")], "must name a file"),
        ([ContentEntry(b"", "/a/.wh.b")], "mark deletions"),
        ([ContentEntry(b"", "/a", mode=0o10000)], "out of range"),
        ([ContentEntry(b"", "/a", uid=-1)], "out of range"),
        ([LinkEntry("", "/a")], "no valid target"),
        ([DirectoryEntry(Path("/etc/passwd"), "/a")], "is not a directory"),
        ([FileEntry(Path("/etc"), "/a")], "no regular file"),
        ([FileEntry(Path("/dev/null"), "/a")], "no regular file"),
    ],
)
def test_entries_that_cannot_be_are_refused(entries: Sequence[Entry], reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        builder.build(BuildPlan(layers=[entries]))


def test_a_source_that_is_missing_or_a_socket_in_a_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="no such file"):
        builder.build(BuildPlan(layers=[[FileEntry(tmp_path / "none", "/a")]]))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.Invalid, match="only files, directories and symlinks"):
        builder.build(BuildPlan(layers=[[DirectoryEntry(tmp_path, "/a")]]))


def test_two_builds_are_the_same_to_the_byte_whatever_the_times_of_the_sources(tree: Path) -> None:
    plan = BuildPlan(
        layers=[[DirectoryEntry(tree, "/www")]], config=BuildConfig(env={"B": "2", "A": "1"}), tags=["a:1"]
    )
    first = archived(plan)
    for path in (tree, tree / "index.html", tree / "sub"):
        os.utime(path, (1, 1))
    assert archived(plan) == first


contents = st.dictionaries(
    st.lists(st.text(alphabet="abc", min_size=1, max_size=3), min_size=1, max_size=2).map("/".join),
    st.binary(max_size=50),
    max_size=5,
).filter(lambda files: not any(one.startswith(two + "/") for one in files for two in files))


@given(contents, st.randoms())
def test_the_order_of_entries_does_not_matter_and_the_archive_reads_back(files: dict[str, bytes], random: Any) -> None:
    entries = [ContentEntry(content, name) for name, content in files.items()]
    first = archived(BuildPlan(layers=[entries], platform=AMD64))
    random.shuffle(entries)
    assert archived(BuildPlan(layers=[entries], platform=AMD64)) == first


def test_the_id_is_known_before_loading_and_the_archive_holds_the_image(tmp_path: Path) -> None:
    plan = BuildPlan(layers=[[ContentEntry(b"x", "/x")], [ContentEntry(b"y", "/y")]], tags=["app:1", "r.example/app:2"])
    with builder.build(plan) as built:
        path = tmp_path / "image.tar"
        with path.open("wb") as output:
            builder.write_archive(built, output)
        with archive.open_archive(path) as opened:
            [image] = opened.images
            assert image.id == built.id
            assert image.tags == ["docker.io/library/app:1", "r.example/app:2"]
            assert image.manifest == built.manifest
            assert [layer.digest for layer in image.layers] == [layer.digest for layer in built.layers]


def test_a_base_gives_its_layers_and_config(tmp_path: Path) -> None:
    health = HealthConfig(test=["CMD", "true"], interval=10**9)
    base = BuildPlan(
        layers=[[ContentEntry(b"base", "/base")]],
        config=BuildConfig(
            entrypoint=["/init"],
            cmd=["run"],
            env={"A": "1", "B": "1"},
            labels={"x": "1"},
            exposed_ports=["80"],
            user="7",
            healthcheck=health,
        ),
    )
    with builder.build(base) as lower:
        plan = BuildPlan(
            base=lower.image,
            layers=[[ContentEntry(b"top", "/top")]],
            config=BuildConfig(
                env={"C": "3", "B": "2"}, labels={"y": "2"}, exposed_ports=["53/udp"], stop_signal="SIGINT"
            ),
        )
        document = config(plan)
        diff_ids = document["rootfs"]["diff_ids"]
        assert diff_ids[0] == lower.layers[0].diff_id
        assert len(diff_ids) == 2
        run = document["config"]
        assert run["Entrypoint"] == ["/init"] and run["Cmd"] == ["run"] and run["User"] == "7"
        assert run["Env"] == ["A=1", "B=2", "C=3"]
        assert run["Labels"] == {"x": "1", "y": "2"}
        assert run["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
        assert run["StopSignal"] == "SIGINT"
        assert run["Healthcheck"]["Test"] == ["CMD", "true"]
        assert sum(not line.get("empty_layer") for line in document["history"]) == 2
        reset = config(BuildPlan(base=lower.image, config=BuildConfig(entrypoint=["/new"])))["config"]
        assert reset["Entrypoint"] == ["/new"] and reset["Cmd"] is None


@pytest.mark.parametrize(
    "wrong",
    [BuildConfig(env={"A=B": "1"}), BuildConfig(exposed_ports=["http"]), BuildConfig(exposed_ports=["80/quic"])],
)
def test_a_config_that_cannot_be_is_refused(wrong: BuildConfig) -> None:
    with pytest.raises(errors.Invalid):
        builder.build(BuildPlan(config=wrong))


def test_an_image_from_scratch_without_layers_is_an_image() -> None:
    document = config(BuildPlan(platform=Platform(os="linux", architecture="arm64", variant="v8")))
    assert (document["os"], document["architecture"], document["variant"]) == ("linux", "arm64", "v8")
    assert manifest.parse_config(json.dumps(document).encode()).rootfs.diff_ids == []


@pytest.mark.parametrize(
    ("call", "error", "kind"),
    [
        ("open", FileNotFoundError(errno.ENOENT, "No such file"), errors.Conflict),
        ("open", OSError(errno.ELOOP, "Too many links"), errors.Conflict),
        ("open", PermissionError(errno.EACCES, "Permission denied"), errors.Invalid),
        ("scandir", PermissionError(errno.EACCES, "Permission denied"), errors.Invalid),
    ],
)
def test_a_source_that_can_t_be_read_is_told_by_its_name(
    tree: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: OSError, kind: type[Exception]
) -> None:
    original = getattr(os, call)

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if os.fsdecode(path).startswith(str(tree)):
            raise error
        return original(path, *args, **options)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(kind, match=str(tree)):
        layer(DirectoryEntry(tree, "/www"))
