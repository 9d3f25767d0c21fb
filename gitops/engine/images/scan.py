"""At the start: what the rows say against what lies on disk, and the clearing of what a crash left.

Rows are believed as far as the disk bears them out. A layer without its directory, or an image without its layers,
manifest or config, is dropped and reported, so that the next pull brings it back; what has no row is garbage.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from gitops.engine.images import layout as layouts
from gitops.engine.images import records, trash
from gitops.oci import digest as digests

PARTS_KEPT_S = 7 * 24 * 3600
"""A download that nobody took up again for so long is deleted."""

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows, by their keys."""

    layers: dict[str, records.Layer]
    images: dict[str, records.Image]
    names: dict[str, str]


@dataclass(slots=True)
class Findings:
    """The result of `compare`."""

    problems: list[str] = field(default_factory=list)
    """For people: what is damaged, and what follows."""
    lost_layers: list[str] = field(default_factory=list)
    lost_images: list[str] = field(default_factory=list)
    lost_names: list[str] = field(default_factory=list)
    blobs: dict[str, int] = field(default_factory=dict)
    """Sizes in bytes of the blobs that are there."""


def compare(layout: layouts.Layout, tables: Tables) -> Findings:
    """Read the directories; change nothing but to make the missing ones."""
    layout.create()
    found = Findings(blobs=_blobs(layout.blobs))
    for chain_id in tables.layers:
        _look_at_layer(layout, chain_id, found)
    for image in tables.images.values():
        damage = _missing(image, tables, found) or _damage(layout, image, found.blobs)
        if damage:
            _lose(image, damage, tables, found)
    gone = set(found.lost_images)
    found.lost_names += [name for name, target in tables.names.items() if target in gone or target not in tables.images]
    return found


def compare_layers(layout: layouts.Layout, tables: Tables, image: records.Image) -> Findings:
    """Look for the directories of one image's layers; every image that lacks one of them is among the findings."""
    found = Findings()
    for layer in image.layers:
        row = tables.layers.get(layer.chain_id)
        if row is not None and _look_at_layer(layout, layer.chain_id, found):
            link_short(layout, row)
    if not found.lost_layers and _missing(image, tables, found) is None:
        return found
    for other in tables.images.values():
        if damage := _missing(other, tables, found):
            _lose(other, damage, tables, found)
    found.lost_names += [name for name, target in tables.names.items() if target in set(found.lost_images)]
    return found


def _look_at_layer(layout: layouts.Layout, chain_id: str, found: Findings) -> bool:
    if layout.layer(chain_id).is_dir():
        return True
    found.lost_layers.append(chain_id)
    found.problems.append(f"layer {chain_id} has no directory: dropped, the next pull of its image repairs it")
    return False


def _lose(image: records.Image, damage: str, tables: Tables, found: Findings) -> None:
    found.lost_images.append(image.id)
    names = ", ".join(name for name, target in tables.names.items() if target == image.id)
    found.problems.append(f"image {image.id} ({names or 'no name'}) {damage}: dropped, pull or load it again")


def _missing(image: records.Image, tables: Tables, found: Findings) -> str | None:
    for layer in image.layers:
        if layer.chain_id in found.lost_layers or layer.chain_id not in tables.layers:
            return f"lacks its layer {layer.chain_id}"
    return None


def _damage(layout: layouts.Layout, image: records.Image, blobs: dict[str, int]) -> str | None:
    for digest in (image.manifest.digest, image.id):
        if digest not in blobs:
            return f"lacks its blob {digest}"
        if digests.sha256(layout.blob(digest).read_bytes()) != digest:
            del blobs[digest]
            layout.blob(digest).unlink()
            return f"has a damaged blob {digest}"
    return None


def _blobs(directory: Path) -> dict[str, int]:
    with os.scandir(directory) as entries:
        return {
            f"sha256:{entry.name}": entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if _HEX.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        }


def tidy(layout: layouts.Layout, found: Findings, tables: Tables, bin: trash.Trash) -> None:
    """Throw away what no row knows; mend the short names."""
    known = {digests.parse(chain_id).hex for chain_id in tables.layers}
    for path in layout.layers.iterdir():
        if path.name not in known:
            bin.throw(path)
    for path in layout.tmp.iterdir():
        if not _is_resumable(path, found.blobs):
            bin.throw(path)
    shorts = {layer.short for layer in tables.layers.values()}
    for path in layout.short.iterdir():
        if path.name not in shorts:
            path.unlink()
    for layer in tables.layers.values():
        link_short(layout, layer)


def _is_resumable(path: Path, blobs: dict[str, int]) -> bool:
    name = path.name.removesuffix(layouts.PART)
    if name == path.name or not _HEX.fullmatch(name) or not path.is_file() or path.is_symlink():
        return False
    return f"sha256:{name}" not in blobs and time.time() - path.stat().st_mtime < PARTS_KEPT_S


def link_short(layout: layouts.Layout, layer: records.Layer) -> None:
    """Make the short name of a layer, if it isn't there and right."""
    link, target = layout.short / layer.short, f"../layers/{digests.parse(layer.chain_id).hex}"
    if not (link.is_symlink() and os.readlink(link) == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
