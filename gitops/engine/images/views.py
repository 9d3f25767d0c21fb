"""Images as the API shows them, and the filters of their list. Pure: rows and configs in, objects out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gitops import errors
from gitops.engine.images import records
from gitops.objects import base, image
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

FILTERS = frozenset({"reference", "dangling", "label", "label!", "before", "since", "until"})


@dataclass(frozen=True, slots=True)
class Entry:
    """An image with all that is known of it."""

    row: records.Image
    config: manifests.ImageConfig
    layers: Sequence[records.Layer]
    """Lowest first."""
    tags: Sequence[references.Reference]
    digests: Sequence[references.Reference]

    @property
    def created_ns(self) -> int:
        """When it was built; 0 where it doesn't say, or not in a way that can be read."""
        return _time(self.config.created)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(layer.unpacked_bytes for layer in self.layers)


def _time(text: str | None) -> int:
    try:
        return base.parse_time(text or "")
    except errors.Invalid:
        return 0


def summary(entry: Entry) -> image.ImageSummary:
    """A line of the list."""
    return image.ImageSummary(
        id=entry.row.id,
        repo_tags=[tag.familiar() for tag in entry.tags],
        repo_digests=[digest.familiar() for digest in entry.digests],
        created=entry.created_ns // base.SECOND,
        size=entry.size,
        labels=entry.config.run.labels,
    )


def inspect(entry: Entry, lower: Sequence[Path]) -> image.ImageInspect:
    """An image in full; `lower` are its directories, top first."""
    config = entry.config
    graph: dict[str, str] = {"UpperDir": str(lower[0])} if lower else {}
    if lower[1:]:
        graph["LowerDir"] = ":".join(str(path) for path in lower[1:])
    return image.ImageInspect(
        id=entry.row.id,
        repo_tags=[tag.familiar() for tag in entry.tags],
        repo_digests=[digest.familiar() for digest in entry.digests],
        created=base.format_time(entry.created_ns),
        config=config.run,
        architecture=config.architecture,
        os=config.os or "linux",
        variant=config.variant,
        size=entry.size,
        root_fs=image.RootFS(layers=list(config.rootfs.diff_ids)),
        comment=config.comment,
        author=config.author,
        docker_version=config.docker_version,
        graph_driver={"Name": "overlay2", "Data": graph},
        container_config=config.run,
        metadata={"LastTagTime": base.format_time(entry.row.tagged_ns)},
    )


def history(entry: Entry) -> list[image.HistoryItem]:
    """How an image came to be, newest step first; layers that its history doesn't tell of are steps without a text."""
    layers = list(entry.layers)
    steps: list[tuple[manifests.History, int]] = []
    for step in entry.config.history or []:
        layer = None if step.empty_layer or not layers else layers.pop(0)
        steps.append((step, layer.unpacked_bytes if layer else 0))
    steps += [(manifests.History(), layer.unpacked_bytes) for layer in layers]
    items = [
        image.HistoryItem(
            id="<missing>",
            created=_time(step.created) // base.SECOND,
            created_by=step.created_by,
            size=size,
            comment=step.comment,
        )
        for step, size in reversed(steps or [(manifests.History(created=entry.config.created), 0)])
    ]
    names = [tag.familiar() for tag in entry.tags] or None
    return [msgspec.structs.replace(items[0], id=entry.row.id, tags=names), *items[1:]]


# -- filters


def select(entries: Sequence[Entry], filters: Mapping[str, Sequence[str]], find: Callable[[str], Entry]) -> list[Entry]:
    """The entries that pass all filters; `find` gives the image that `before` or `since` names.

    `until` is in nanoseconds since the epoch.

    Raises:
        errors.Invalid: an unknown filter or value.
        errors.NotFound: the image of `before` or `since`.
    """
    for key in filters:
        if key not in FILTERS:
            raise errors.Invalid(f"invalid filter '{key}'")
    before = [find(name).created_ns for name in filters.get("before", ())]
    before += [int(limit) for limit in filters.get("until", ())]
    since = [find(name).created_ns for name in filters.get("since", ())]
    passed = [
        entry
        for entry in entries
        if all(entry.created_ns < limit for limit in before)
        and all(entry.created_ns > limit for limit in since)
        and _has_labels(entry, filters.get("label", ()))
        and not any(_has_labels(entry, [text]) for text in filters.get("label!", ()))
        and _is_dangling(entry, filters.get("dangling", ()))
    ]
    patterns = filters.get("reference", ())
    return [kept for entry in passed if (kept := _by_reference(entry, patterns))] if patterns else passed


def _has_labels(entry: Entry, wanted: Sequence[str]) -> bool:
    labels = entry.config.run.labels or {}
    pairs = [text.partition("=") for text in wanted]
    return all(key in labels and (not mark or labels[key] == value) for key, mark, value in pairs)


def _is_dangling(entry: Entry, values: Sequence[str]) -> bool:
    for value in values:
        if value.lower() in ("1", "true"):
            if entry.tags:
                return False
        elif value.lower() in ("0", "false"):
            if not entry.tags and not entry.digests:
                return False
        else:
            raise errors.Invalid(f"invalid filter 'dangling={value}'")
    return True


def _by_reference(entry: Entry, patterns: Sequence[str]) -> Entry | None:
    """The entry with the names that match; None where none does."""
    expressions = [_glob(pattern) for pattern in patterns]

    def matches(name: references.Reference) -> bool:
        shown = (name.familiar(), name.familiar_name)
        return any(expression.fullmatch(text) for expression in expressions for text in shown)

    tags, digests = [name for name in entry.tags if matches(name)], [name for name in entry.digests if matches(name)]
    if not tags and not digests:
        return None
    return Entry(entry.row, entry.config, entry.layers, tags, digests)


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of Go's path.Match, whose `*` and `?` don't match a slash."""
    pieces, position = [], 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if letter in "*?":
            pieces.append("[^/]*" if letter == "*" else "[^/]")
        elif letter == "[" and (end := pattern.find("]", position + 1)) > 0:
            inside = re.sub(r"([\\\[&~|])", r"\\\1", pattern[position:end]).replace("--", r"-\-")
            pieces.append(f"(?!/)[{inside}]")
            position = end + 1
        else:
            if letter == "\\" and position < len(pattern):
                letter, position = pattern[position], position + 1
            pieces.append(re.escape(letter))
    try:
        return re.compile("".join(pieces))
    except re.error as error:
        raise errors.Invalid(f"invalid filter 'reference={pattern}': {error}") from error
