"""Images in archives: what `docker save` writes, OCI archives (tar, perhaps compressed), OCI layout directories.

An archive is read as an index of names to pieces of a file. No name of an archive ever becomes a path on disk, and
nothing outside the archive can be reached through it. An OCI layout directory is opened without following links.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, TypeVar, cast

import msgspec

from gitops import errors
from gitops.oci import compression, tarheader, tarstream
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci import reference as references
from gitops.oci.blob import LayerBlob, Section
from gitops.oci.limits import DEFAULT, Limits

T = TypeVar("T")

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_INDEX_DEPTH = 4
_IMAGES = 10_000


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive. Its layers can be opened as long as the archive is."""

    tags: Sequence[str]
    """Canonical references, as far as the archive names any."""
    config: bytes
    layers: Sequence[LayerBlob]
    """Lowest first, one for each diff id of the config."""
    manifest: bytes | None = None
    """As it stands in an OCI archive; what `docker save` writes has none."""

    @property
    def id(self) -> str:
        """The image's id: the digest of its config."""
        return digests.sha256(self.config)

    def parsed_config(self) -> manifests.ImageConfig:
        """The config, read."""
        return manifests.parse_config(self.config)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A member of the archive: where its bytes lie."""

    path: Path
    offset: int
    size: int
    descriptor: int

    def open(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(Section(self.descriptor, self.offset, self.size), 256 << 10))


class _Files(Protocol):
    """Members by name."""

    def get(self, name: str) -> _Piece | None: ...
    def close(self) -> None: ...


class ImageArchive:
    """An open archive and the images in it; a context manager."""

    def __init__(self, images: Sequence[ArchivedImage], files: _Files) -> None:
        self.images: list[ArchivedImage] = list(images)
        self._files = files

    def close(self) -> None:
        """Close the archive; its layers can't be opened any more."""
        self._files.close()

    def __enter__(self) -> ImageArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_archive(
    path: Path,
    *,
    scratch: Path | None = None,
    platform: manifests.Platform | None = None,
    limits: Limits = DEFAULT,
) -> ImageArchive:
    """Open an archive or an OCI layout directory and find its images.

    An archive that is compressed as a whole is uncompressed into a nameless file in `scratch` (default: the system's).
    Of an index for several platforms, the image for `platform` (default: this machine) is taken. Blocking.

    Raises:
        errors.Invalid: neither, damaged, or contradictory.
        errors.NotFound: no such file, or no image for the platform.
        errors.Unsupported: compressed in a way that we don't know.
    """
    try:
        files: _Files = _Directory(path) if path.is_dir() else _Tar(path, scratch, limits)
    except FileNotFoundError as error:
        raise errors.NotFound(f"no such archive: {path}") from error
    except OSError as error:
        raise errors.Invalid(f"can't read the archive {path}: {error.strerror}") from error
    try:
        return ImageArchive(_Reader(files, platform or manifests.host()).images(), files)
    except BaseException:
        files.close()
        raise


class _Tar:
    """The regular members of a tar by name, with the symlinks between them."""

    def __init__(self, path: Path, scratch: Path | None, limits: Limits) -> None:
        self._path = path
        self._pieces: dict[str, _Piece] = {}
        self._links: dict[str, str] = {}
        self._file: BinaryIO = path.open("rb")
        try:
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise errors.Invalid(f"the archive {path} is not a regular file")
            if compression.recognise(self._file.read(6)):
                self._file, self._path = _uncompressed(self._file, scratch, limits)
            self._file.seek(0)
            self._read_index(limits)
        except BaseException:
            self._file.close()
            raise

    def _read_index(self, limits: Limits) -> None:
        reader = tarstream.TarReader(lambda: self._file.read(64 << 10), limits)
        descriptor = self._file.fileno()
        for member in reader:
            name = _clean(member.name)
            if member.kind == tarheader.FILE and member.pieces is None:
                self._pieces[name] = _Piece(self._path, reader.offset, member.size, descriptor)
                self._seek_past(reader, member.size)
            elif member.kind in (tarheader.SYMLINK, tarheader.HARDLINK):
                target = member.linkname.decode("utf-8", "surrogateescape")
                base = posixpath.dirname(name) if member.kind == tarheader.SYMLINK else ""
                self._links[name] = _clean(posixpath.join("/", base, target).encode("utf-8", "surrogateescape"))

    def _seek_past(self, reader: tarstream.TarReader, size: int) -> None:
        end = os.fstat(self._file.fileno()).st_size
        if reader.offset + size > end:
            raise errors.Invalid(f"the archive {self._path} is cut short")
        reader.jump(self._file.seek)

    def get(self, name: str) -> _Piece | None:
        name = _clean(name.encode("utf-8", "surrogateescape"))
        # `docker save` writes a layer that two images share once, and a symlink for the second.
        return self._pieces.get(name) or self._pieces.get(self._links.get(name, ""))

    def close(self) -> None:
        self._file.close()


class _Directory:
    """The files of an OCI layout directory: `oci-layout`, `index.json`, `manifest.json` and blobs."""

    _NAMES = re.compile(r"oci-layout|index\.json|manifest\.json|blobs/sha256/[0-9a-f]{64}")

    def __init__(self, path: Path) -> None:
        self._path = path.resolve(strict=True)
        self._open: dict[str, _Piece] = {}

    def get(self, name: str) -> _Piece | None:
        if name in self._open:
            return self._open[name]
        if not self._NAMES.fullmatch(name):
            return None
        path = self._path
        try:
            for part in posixpath.dirname(name).split("/"):
                path = path / part
                if path.is_symlink():
                    raise errors.Invalid(f"{path} is a symlink; an OCI layout must hold its blobs itself")
            descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.Invalid(f"can't read {self._path / name}: {error.strerror}") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise errors.Invalid(f"{self._path / name} is not a regular file")
        self._open[name] = _Piece(self._path / name, 0, status.st_size, descriptor)
        return self._open[name]

    def close(self) -> None:
        for piece in self._open.values():
            with contextlib.suppress(OSError):
                os.close(piece.descriptor)
        self._open.clear()


class _DockerImage(msgspec.Struct, frozen=True):
    """A line of manifest.json."""

    config: str = msgspec.field(name="Config")
    layers: list[str] | None = msgspec.field(name="Layers", default=None)
    repo_tags: list[str] | None = msgspec.field(name="RepoTags", default=None)


class _Reader:
    """Finds the images among the members."""

    def __init__(self, files: _Files, platform: manifests.Platform) -> None:
        self._files = files
        self._platform = platform

    def images(self) -> list[ArchivedImage]:
        # Where both are there, manifest.json names tags and the index has the manifests as pushed.
        docker = self._files.get("manifest.json")
        index = self._files.get("index.json")
        if index is not None and self._files.get("oci-layout") is not None:
            found = self._from_index(self._read("index.json", manifests.MANIFEST_LIMIT))
            return self._merge(found, self._from_docker()) if docker else found
        if docker is not None:
            return self._from_docker()
        raise errors.Invalid("no image in it: neither manifest.json (docker save) nor index.json (OCI layout)")

    # -- OCI -------------------------------------------------------------------------------------------------------

    def _from_index(self, data: bytes) -> list[ArchivedImage]:
        index = manifests.parse_manifest(data, manifests.OCI_INDEX)
        if not isinstance(index, manifests.Index):
            raise errors.Invalid("index.json is not an index")
        images: dict[str, ArchivedImage] = {}
        for entry in index.manifests:
            if entry.platform is not None and entry.platform.os == "unknown":
                continue
            image = self._image(entry, 0)
            tags = _names(entry.annotations or {})
            known = images.get(image.id)
            images[image.id] = replace(image, tags=_union(known.tags if known else (), tags))
        return list(images.values())

    def _image(self, entry: manifests.Descriptor, depth: int) -> ArchivedImage:
        document = manifests.parse_manifest(self._blob(entry, manifests.MANIFEST_LIMIT), entry.media_type)
        if isinstance(document, manifests.Index):
            if depth >= _INDEX_DEPTH:
                raise errors.Invalid("image indexes are nested too deeply")
            return self._image(manifests.select_platform(document, self._platform), depth + 1)
        config = self._blob(document.config, manifests.CONFIG_LIMIT)
        diff_ids = manifests.parse_config(config).rootfs.diff_ids
        if len(diff_ids) != len(document.layers):
            raise errors.Invalid(f"manifest of {len(document.layers)} layers, config of {len(diff_ids)} diff ids")
        layers = [self._layer(layer, diff_id) for layer, diff_id in zip(document.layers, diff_ids, strict=True)]
        return ArchivedImage((), config, layers, self._blob(entry, manifests.MANIFEST_LIMIT))

    def _layer(self, layer: manifests.Descriptor, diff_id: str) -> LayerBlob:
        if layer.media_type not in manifests.LAYER_TYPES:
            raise errors.Unsupported(f"layer of the type {layer.media_type[:100]!r}")
        piece = self._piece(_blob_name(layer.digest))
        if piece.size != layer.size:
            raise errors.Invalid(f"blob {layer.digest} has {piece.size} bytes, the manifest says {layer.size}")
        return LayerBlob(layer.size, layer.media_type, diff_id, layer.digest, piece.path, piece.offset, piece.open)

    def _blob(self, entry: manifests.Descriptor, limit: int) -> bytes:
        data = self._read(_blob_name(entry.digest), limit)
        if digests.sha256(data) != entry.digest:
            raise errors.Invalid(f"blob {entry.digest} has another content than its digest says")
        return data

    # -- docker save -----------------------------------------------------------------------------------------------

    def _from_docker(self) -> list[ArchivedImage]:
        data = self._read("manifest.json", manifests.MANIFEST_LIMIT)
        lines = _decoded(data, list[_DockerImage], "manifest.json")
        if len(lines) > _IMAGES:
            raise errors.Invalid(f"manifest.json lists {len(lines)} images: the limit is {_IMAGES}")
        return [self._docker_image(line) for line in lines]

    def _docker_image(self, line: _DockerImage) -> ArchivedImage:
        config = self._read(line.config, manifests.CONFIG_LIMIT)
        diff_ids = manifests.parse_config(config).rootfs.diff_ids
        names = line.layers or []
        if len(diff_ids) != len(names):
            raise errors.Invalid(f"manifest.json lists {len(names)} layers, the config {len(diff_ids)} diff ids")
        if len(names) > manifests.LAYER_LIMIT:
            raise errors.Invalid(f"image with {len(names)} layers: the limit is {manifests.LAYER_LIMIT}")
        tags = [_tag(tag) for tag in line.repo_tags or []]
        layers = [self._docker_layer(name, diff_id) for name, diff_id in zip(names, diff_ids, strict=True)]
        return ArchivedImage(tags, config, layers)

    def _docker_layer(self, name: str, diff_id: str) -> LayerBlob:
        piece = self._piece(name)
        with piece.open() as content:
            kind = compression.recognise(content.read(6))
        suffix = f"+{kind}" if kind else ""
        digest = None if kind else diff_id
        return LayerBlob(
            piece.size, manifests.OCI_LAYER + suffix, diff_id, digest, piece.path, piece.offset, piece.open
        )

    def _merge(self, found: Sequence[ArchivedImage], named: Sequence[ArchivedImage]) -> list[ArchivedImage]:
        """Both views of one archive: what both have is taken from the index, with the tags of both."""
        images = {image.id: image for image in named}
        for image in found:
            other = images.get(image.id)
            images[image.id] = replace(image, tags=_union(other.tags, image.tags)) if other else image
        return list(images.values())

    def _piece(self, name: str) -> _Piece:
        piece = self._files.get(name)
        if piece is None:
            raise errors.Invalid(f"the archive has no regular member {tarheader.show(name.encode(errors='replace'))!r}")
        return piece

    def _read(self, name: str, limit: int) -> bytes:
        piece = self._piece(name)
        if piece.size > limit:
            raise errors.Invalid(f"{name[:100]!r} has {piece.size} bytes: the limit is {limit}")
        with piece.open() as content:
            return content.read()


def _uncompressed(file: BinaryIO, scratch: Path | None, limits: Limits) -> tuple[BinaryIO, Path]:
    """The content of a compressed archive in a file that has no name; its path is the process's descriptor."""
    file.seek(0)
    output = cast(BinaryIO, tempfile.TemporaryFile(dir=scratch, buffering=0))  # noqa: SIM115
    try:
        decoder = compression.decoder(file.read)
        while chunk := decoder.read_chunk():
            output.write(chunk)
            if output.tell() > limits.layer_bytes:
                raise errors.Invalid(f"the archive has more than {limits.layer_bytes} bytes uncompressed")
    except BaseException:
        output.close()
        raise
    file.close()
    return output, Path(f"/proc/{os.getpid()}/fd/{output.fileno()}")


def _clean(name: bytes) -> str:
    """A member's name as a key: `./a//b/../c` and `/a/c` are `a/c`."""
    return posixpath.normpath("/" + name.decode("utf-8", "surrogateescape")).lstrip("/")


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digests.parse(digest).hex}"


def _names(annotations: dict[str, str]) -> list[str]:
    """The references that an index gives to an image: a name in full, or a bare tag that names nothing."""
    for key in (IMAGE_NAME, REF_NAME):
        value = annotations.get(key, "")
        if value and (key == IMAGE_NAME or ":" in value or "/" in value):
            return [_tag(value)]
    return []


def _tag(text: str) -> str:
    reference = references.parse(text)
    if reference.digest is not None:
        raise errors.Invalid(f"the archive names an image by digest: {text[:200]!r}")
    return reference.with_default_tag().canonical()


def _union(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _decoded(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.Invalid(f"invalid {what}: {error}") from error
