"""Volume, Secret and Config."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gitops.manifests.kinds.base import Manifest, Model, optional
from gitops.manifests.kinds.findings import Findings, problem
from gitops.manifests.kinds.values import Bool, EngineName, Labels, text, text_map

_DRIVER_OPTS = ("type", "o", "device")


def _driver_opts(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    findings = Findings()
    for key, item in value.items():
        if key not in _DRIVER_OPTS:
            findings.add("the driver local has no such option", "it has type, o and device", key, on_key=True)
        elif item is None or isinstance(item, list | dict):
            findings.add("must be a text", "", key)
    findings.finish()
    return text_map(value)


DriverOpts = Annotated[dict[str, str], BeforeValidator(_driver_opts, json_schema_input_type=dict[str, str | int])]


class VolumeSpec(Model):
    """A named volume; without a spec it is a plain one of the driver local."""

    NOT_YET: ClassVar = dict.fromkeys(("size", "access_mode", "topology", "retain", "backup"), "")

    driver: Literal["local"] | None = optional("Only `local` is supported.")
    driver_opts: DriverOpts | None = optional("`type`, `o` and `device` of a mount, as for mount(8).")
    labels: Labels | None = optional("Labels on the engine, with those of metadata.")
    external: Bool | None = optional("The volume exists already: it is never made, changed or deleted.")
    name: EngineName | None = optional(
        "Its name on the engine; default: stack and name, or with external metadata.name."
    )


class Volume(Manifest, defer_build=False):
    """A named volume."""

    kind: Literal["Volume"] = Field(description="Volume.")
    spec: VolumeSpec | None = optional("How the volume is made.")


_CONTENT = BeforeValidator(text, json_schema_input_type=str)
_SOURCES = ("file", "sops", "content", "environment", "external")
_LATER = {
    "provider": "fetch it before, and give it by `environment`",
    "keep_versions": "",
    **dict.fromkeys(("driver", "driver_opts"), "fetch it before, and give it by `environment`"),
}


class SopsSource(Model):
    """A file encrypted with SOPS for an age key."""

    file: str = Field(description="The encrypted file in the repository, relative to the manifest.")
    key: str | None = optional("Which of its values, as `db.password`; needed for yaml and json.")
    format: Literal["yaml", "json", "dotenv", "binary"] | None = optional("Its format; default by the file's name.")


def _sops(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


Sops = Annotated[SopsSource, BeforeValidator(_sops, json_schema_input_type=SopsSource | str)]


class SecretSpec(Model):
    """Exactly one source."""

    NOT_YET: ClassVar = _LATER

    file: str | None = optional("A file in the repository, relative to the manifest.")
    sops: Sops | None = optional("A file encrypted with SOPS for an age key: its name, or file, key and format.")
    content: Annotated[SecretStr, _CONTENT] | None = optional("The value itself. It is then in git.")
    environment: str | None = optional("The variable of the operator's environment that holds the value.")
    labels: Labels | None = optional("Labels on the engine, with those of metadata.")
    template_driver: Literal["golang"] | None = optional("golang: each task gets it with its placeholders expanded.")
    external: Bool | None = optional("The secret exists already: it is never made, changed or deleted.")
    name: EngineName | None = optional(
        "Its name on the engine, before its version; default: stack and name, or with external metadata.name."
    )


class ConfigSpec(Model):
    """Exactly one source."""

    NOT_YET: ClassVar = _LATER

    file: str | None = optional("A file in the repository, relative to the manifest.")
    sops: Sops | None = optional("A file encrypted with SOPS for an age key: its name, or file, key and format.")
    content: Annotated[str, _CONTENT] | None = optional("The content itself.")
    environment: str | None = optional("The variable of the operator's environment that holds it.")
    labels: Labels | None = optional("Labels on the engine, with those of metadata.")
    template_driver: Literal["golang"] | None = optional("golang: each task gets it with its placeholders expanded.")
    external: Bool | None = optional("The config exists already: it is never made, changed or deleted.")
    name: EngineName | None = optional(
        "Its name on the engine, before its version; default: stack and name, or with external metadata.name."
    )


def _one_source(spec: Any) -> Any:
    given = [name for name in _SOURCES if getattr(spec, name) not in (None, False)]
    if not given:
        raise problem("has no source", "give one of file, sops, content, environment, external")
    if len(given) > 1:
        raise problem(f"has {len(given)} sources: {', '.join(given)}", "give exactly one")
    return spec


class Secret(Manifest, defer_build=False):
    """A secret file in the containers of services that name it."""

    kind: Literal["Secret"] = Field(description="Secret.")
    spec: Annotated[SecretSpec, AfterValidator(_one_source)] = Field(description="Where the value comes from.")


class Config(Manifest, defer_build=False):
    """A file in the containers of services that name it."""

    kind: Literal["Config"] = Field(description="Config.")
    spec: Annotated[ConfigSpec, AfterValidator(_one_source)] = Field(description="Where the content comes from.")
