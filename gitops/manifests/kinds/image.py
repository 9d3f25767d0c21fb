"""Image: pulled, read from an archive, or assembled from files of the repository."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gitops import errors
from gitops.manifests.kinds.base import Manifest, Model, optional
from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.kinds.healthcheck import Healthcheck
from gitops.manifests.kinds.hostvalues import Signal
from gitops.manifests.kinds.values import (
    AbsolutePath,
    Environment,
    ImageName,
    Int,
    Mode,
    PlainLabels,
    Text,
    Texts,
    image,
    text,
)
from gitops.oci import digest as digests
from gitops.oci import reference as references

_MAX_ID = (1 << 31) - 1


def _digest(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return digests.validate(value)
    except errors.Invalid as error:
        raise problem(str(error), "as in sha256: and 64 hex digits") from error


def _repository(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parsed = references.parse(value)
    except errors.Invalid as error:
        raise problem(str(error), "as in nginx, or registry.example/team/app") from error
    if parsed.tag or parsed.digest:
        raise problem(f"{shown(value)} has more than the repository", "write the tag and the digest beside it")
    return parsed.familiar()


_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def _tag(value: Any) -> Any:
    value = text(value)
    if isinstance(value, str) and not _TAG.fullmatch(value):
        raise problem(f"{shown(value)} is no tag", "letters, digits, dots, dashes and underscores")
    return value


class Pull(Model):
    """A repository of a registry, with a tag, a digest, or both."""

    NOT_YET: ClassVar = {
        "ref": "write repository, tag and digest",
        "policy": "",
        "interval": "",
        "credentials": "log in with `docker login`",
        "platforms": "",
        "verify": "",
    }

    repository: Annotated[str, BeforeValidator(_repository, json_schema_input_type=str)] = Field(
        description="As in nginx, or registry.example/team/app."
    )
    tag: Annotated[str, BeforeValidator(_tag, json_schema_input_type=str | int | float)] | None = optional("The tag.")
    digest: Annotated[str, BeforeValidator(_digest, json_schema_input_type=str)] | None = optional(
        "sha256:…: exactly this image, whatever the tag says."
    )


def _tag_or_digest(pull: Pull) -> Pull:
    if not pull.tag and not pull.digest:
        raise problem("has neither tag nor digest", "write tag: latest if you mean it")
    return pull


class Archive(Model):
    """A local archive."""

    path: str = Field(
        description="A docker-archive, an OCI archive or an OCI layout directory; relative to the manifest."
    )


class Entry(Model):
    """One entry of a layer: exactly one of from, link, content."""

    NOT_YET: ClassVar = {"owner": "write uid and gid", "exclude": "", "hardlink": ""}

    source: str | None = Field(
        default=None, alias="from", description="A file or directory, relative to the manifest, inside the repository."
    )
    link: str | None = optional("The target of a symlink.")
    content: Annotated[str, BeforeValidator(text, json_schema_input_type=str)] | None = optional(
        "The content of a file."
    )
    to: AbsolutePath = Field(description="Where it goes in the image.")
    mode: Mode | None = optional('Permission bits, as in "0755"; default: those of the file, 0644 for content.')
    uid: Annotated[Int, Field(ge=0, le=_MAX_ID)] | None = optional("The owner; default 0.")
    gid: Annotated[Int, Field(ge=0, le=_MAX_ID)] | None = optional("The group; default 0.")


def _one_entry(entry: Entry) -> Entry:
    given = [
        name
        for name, value in (("from", entry.source), ("link", entry.link), ("content", entry.content))
        if value is not None
    ]
    if len(given) != 1:
        raise problem(
            "needs exactly one of from, link, content", f"it has {', '.join(given)}" if given else "it has none"
        )
    if entry.link is not None and entry.mode is not None:
        raise problem("a link has no mode of its own", "leave it out", "mode")
    if entry.link == "":
        raise problem("a link needs a target", "", "link")
    return entry


class Layer(Model):
    """A layer of files."""

    files: list[Annotated[Entry, AfterValidator(_one_entry)]] = Field(description="What the layer holds.", min_length=1)


_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp))?")


def _expose(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    findings = Findings()
    result = []
    for index, item in enumerate(value):
        found = _PORT.fullmatch(str(item))
        if isinstance(item, bool) or found is None or not 1 <= int(found[1]) <= 65535:
            findings.add(f"{shown(item)} is no port", "as in 8080 or 53/udp", index)
        else:
            result.append(f"{int(found[1])}/{found[2] or 'tcp'}")
    findings.finish()
    return result


class RunConfig(Model):
    """What the image runs."""

    NOT_YET: ClassVar = {"shell": "", "onbuild": ""}

    entrypoint: Texts | None = optional("The program that every container runs, as a list.")
    cmd: Texts | None = optional("Its arguments, or the program where there is no entrypoint, as a list.")
    env: Environment | None = optional("Variables, over those of the base.")
    working_dir: AbsolutePath | None = optional("The directory that the program starts in.")
    user: Text | None = optional("user, uid, user:group or uid:gid.")
    expose: Annotated[list[str], BeforeValidator(_expose, json_schema_input_type=list[int | str])] | None = optional(
        "Ports that it listens on, as in 8080 or 53/udp."
    )
    labels: PlainLabels | None = optional("Labels of the image.")
    stop_signal: Signal | None = optional("The signal that asks it to stop.")
    healthcheck: Healthcheck | None = optional("How its health is checked.")
    volumes: list[AbsolutePath] | None = optional("Paths that get a volume of their own.")


def _base(value: Any) -> Any:
    return "" if value == "scratch" else image(value)


class Build(Model):
    """An image assembled from files, the same to the byte wherever it is built."""

    NOT_YET: ClassVar = dict.fromkeys(
        ("context", "dockerfile", "args", "target", "secrets", "cache_from", "cache"),
        "build with a Dockerfile elsewhere, and give the result by `archive`",
    )

    base: Annotated[str, BeforeValidator(_base, json_schema_input_type=str)] = Field(
        default="", description="`scratch`, or the reference of another Image."
    )
    layers: list[Layer] = Field(default_factory=list, description="Layers, lowest first.")
    config: RunConfig | None = optional("What the image runs.")


def _push(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parsed = references.parse(value)
    except errors.Invalid as error:
        raise problem(str(error), "as in registry.example/team/app, or with a tag") from error
    if parsed.digest:
        raise problem(f"{shown(value)} has a digest", "leave it out: the image decides it")
    return parsed.familiar()


class ImageSpec(Model):
    """Exactly one of pull, archive, build."""

    NOT_YET: ClassVar = {
        "ref": "write pull with repository and tag",
        "policy": "",
        "interval": "",
        "credentials": "log in with `docker login`",
        "platforms": "",
        "verify": "",
        "write_back": "",
        "hold": "",
        "gc": "",
    }

    reference: ImageName | None = optional(
        "The name that it has on the engine; default, with pull: repository and tag."
    )
    pull: Annotated[Pull, AfterValidator(_tag_or_digest)] | None = optional("From a registry.")
    archive: Archive | None = optional("From a local archive.")
    build: Build | None = optional("From files of the repository.")
    push: Annotated[str, BeforeValidator(_push, json_schema_input_type=str)] | None = optional(
        "Where a swarm of several nodes pulls it from: a repository of a registry; default tag: that of reference."
    )


def _one_source(spec: ImageSpec) -> ImageSpec:
    given = [name for name in ("pull", "archive", "build") if getattr(spec, name) is not None]
    if len(given) != 1:
        reason = f"has {len(given)} sources: {', '.join(given)}" if given else "has no source"
        raise problem(reason, "give exactly one of pull, archive, build")
    if spec.reference is None and (spec.pull is None or spec.pull.tag is None):
        raise problem("reference is missing", "give the name that the image has on the engine, as in app:v1")
    if spec.reference is not None and "@" in spec.reference:
        raise problem("a name on the engine has no digest", "write the digest under pull", "reference")
    if spec.push is not None and spec.pull is not None:
        raise problem("what is pulled is in a registry already", "leave it out", "push", on_key=True)
    return spec


class Image(Manifest, defer_build=False):
    """An image that the engine must have."""

    kind: Literal["Image"] = Field(description="Image.")
    spec: Annotated[ImageSpec, AfterValidator(_one_source)] = Field(description="Its name and its source.")
