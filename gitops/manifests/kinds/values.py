"""The values of fields: how people may write them, and what they mean. What is wrong is said by `findings.problem`."""

from __future__ import annotations

import functools
import re
import shlex
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict, ValidationInfo

from gitops import errors
from gitops.manifests import imagename
from gitops.manifests.kinds.findings import Findings, problem, shown
from gitops.manifests.text import scalars
from gitops.objects import labels
from gitops.objects.base import MICROSECOND, MILLISECOND, SECOND

Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]

_REMEMBERED = 1024
"""Texts of each sort whose values are remembered: a thousand services have a handful of different durations."""

NANO = 1_000_000_000
MIN_CPU = NANO // 1000
MIN_MEMORY = 4 << 20


def text(value: Any) -> Any:
    """A scalar as it was written; `user: 1000` is the text 1000."""
    return scalars.to_text(value) if isinstance(value, bool | int | float) else value


def texts(value: Any) -> Any:
    """A list of scalars as they were written."""
    if not isinstance(value, list):
        return value
    findings = Findings()
    for index, item in enumerate(value):
        if item is None or isinstance(item, list | dict):
            findings.add("must be a text", 'write "" for an empty one' if item is None else "", index)
    findings.finish()
    return [item if type(item) is str else text(item) for item in value]


def one_or_texts(value: Any) -> Any:
    """A list of texts, or one text."""
    return texts(value) if isinstance(value, list) else [text(value)] if isinstance(value, str | int | float) else value


def words(value: Any) -> Any:
    """A command: a list, or a text that is split as a shell splits it (no variables, no globs)."""
    if not isinstance(value, str):
        return texts(value)
    try:
        return shlex.split(value)
    except ValueError as error:
        raise problem(f"can't be split into words: {str(error).lower()}", "write it as a list") from error


def _pairs(value: list[Any], findings: Findings) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for index, item in enumerate(value):
        if not isinstance(item, str):
            findings.add("must be a text", "write KEY=VALUE", index)
            continue
        key, mark, content = item.partition("=")
        if key in result:
            findings.add(f"{shown(key)} is given twice", "remove one", index)
        result[key] = content if mark else None
    return result


def _map(value: Any, findings: Findings, empty: str | None) -> Any:
    """A map of texts, or a list of KEY=VALUE; `empty` is what no value means, None that it is refused."""
    if isinstance(value, list):
        value = _pairs(value, findings)
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        if type(item) is str:
            result[key] = item
        elif item is None and empty is not None:
            result[key] = empty
        elif item is None:
            reason = "has no value, and none is taken from the shell: a commit must give the same result everywhere"
            findings.add(reason, 'write "" for an empty one, or use a template', key)
        elif isinstance(item, list | dict):
            findings.add("must be a text", "", key)
        else:
            result[key] = text(item)
    if "" in value:
        findings.add("has an entry without a name", "", "", on_key=True)
    return result


def text_map(value: Any) -> Any:
    """A map, or a list of KEY=VALUE; no value is an empty one."""
    findings = Findings()
    result = _map(value, findings, "")
    findings.finish()
    return result


def label_map(value: Any) -> Any:
    """A `text_map` whose names are free for people, for objects that can be protected."""
    return _label_map(value, can_protect=True)


def plain_label_map(value: Any) -> Any:
    """The same for labels that protect nothing: those of containers and images."""
    return _label_map(value, can_protect=False)


def _label_map(value: Any, *, can_protect: bool) -> Any:
    findings = Findings()
    result = _map(value, findings, "")
    for key, given in result.items() if isinstance(result, dict) else ():
        if key == labels.PROTECT and can_protect:
            if given not in ("true", "false"):
                findings.add(f'{given!r} is neither "true" nor "false"', "", key)
        elif key == labels.PROTECT:
            findings.add(
                "protects nothing here",
                "say it in metadata.labels, or in the deploy.labels of a service",
                key,
                on_key=True,
            )
        elif key.startswith("gitops.") or key == "com.docker.stack.namespace":
            findings.add("this label is kept for gitops itself", "use another name", key, on_key=True)
    findings.finish()
    return result


def environment(value: Any) -> Any:
    """A map, or a list of KEY=VALUE; a name without a value is refused."""
    findings = Findings()
    result = _map(value, findings, None)
    for key in result if isinstance(result, dict) else ():
        if "=" in key or "\0" in key:
            findings.add(f"{shown(key)} is no name of a variable", "", key, on_key=True)
    findings.finish()
    return result


Text = Annotated[str, BeforeValidator(text, json_schema_input_type=str | int | float | bool)]
Texts = Annotated[list[str], BeforeValidator(texts, json_schema_input_type=list[str | int | float | bool])]
OneOrTexts = Annotated[list[str], BeforeValidator(one_or_texts, json_schema_input_type=str | list[str])]
Words = Annotated[list[str], BeforeValidator(words, json_schema_input_type=str | list[str | int | float])]
_MapInput = dict[str, str | int | float | bool | None] | list[str]
Labels = Annotated[dict[str, str], BeforeValidator(label_map, json_schema_input_type=_MapInput)]
PlainLabels = Annotated[dict[str, str], BeforeValidator(plain_label_map, json_schema_input_type=_MapInput)]
Environment = Annotated[dict[str, str], BeforeValidator(environment, json_schema_input_type=_MapInput)]


_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
MAX_NAME = 63


def dns_label(value: Any) -> Any:
    """A name by DNS-1123: lower-case letters, digits and dashes."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = text(value)
    if not isinstance(value, str):
        return value
    if len(value) > MAX_NAME:
        raise problem(f"has {len(value)} characters", f"at most {MAX_NAME} are allowed")
    if not _DNS_LABEL.fullmatch(value):
        better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")
        hint = f"as in {better!r}" if better else ""
        raise problem(f"{shown(value)} is no name: lower-case letters, digits and dashes inside only", hint)
    return value


_COMPOSE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def _name(value: Any, info: ValidationInfo) -> Any:
    """A name by our rule, or by Compose's, which engines take as well: what is there must keep its name."""
    is_of_compose = info.context is not None and info.context.get("names") == "compose"
    if is_of_compose and isinstance(value, str) and len(value) <= MAX_NAME and _COMPOSE_NAME.fullmatch(value):
        return value
    return dns_label(value)


Name = Annotated[
    str,
    BeforeValidator(
        _name,
        json_schema_input_type=Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_NAME)],
    ),
]

_ENGINE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")


def engine_name(value: Any) -> Any:
    """The name of an object that exists already on the engine."""
    if isinstance(value, str) and not _ENGINE_NAME.fullmatch(value):
        raise problem(f"{shown(value)} can't be the name of an object on the engine")
    return value


EngineName = Annotated[str, BeforeValidator(engine_name, json_schema_input_type=str)]


def image(value: Any) -> Any:
    """An image reference; normalised to the familiar form with a tag."""
    if not isinstance(value, str):
        return value
    try:
        return imagename.familiar(value)
    except errors.Invalid as error:
        raise problem(str(error), "as in nginx:1.27, or registry.example/team/app:v1") from error


ImageName = Annotated[str, BeforeValidator(image, json_schema_input_type=str)]


_UNITS = {
    "ns": 1, "us": MICROSECOND, "µs": MICROSECOND, "μs": MICROSECOND, "ms": MILLISECOND,
    "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND,
}  # fmt: skip
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
MAX_DURATION = (1 << 63) - 1


def duration(value: Any) -> Any:
    """`1m30s`, `500ms`, `1.5h`, or 0; to nanoseconds."""
    if value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return 0
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise problem(f"{value} has no unit", f"as in {value}s")
    if not isinstance(value, str):
        raise problem("must be a duration", "as in 10s, 1m30s or 500ms")
    return _duration(value)


@functools.lru_cache(maxsize=_REMEMBERED)
def _duration(value: str) -> int:
    if value == "0":
        return 0
    if value.startswith("-"):
        raise problem("can't be negative")
    if not _DURATION.fullmatch(value):
        hint = f"as in {value}s" if value.isdigit() else "as in 10s, 1m30s or 500ms"
        raise problem(f"{shown(value)} is no duration", hint)
    total = int(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    if total > MAX_DURATION:
        raise problem(f"{shown(value)} is too long")
    return total


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_SIZE_HINT = "as in 64M or 1.5G"
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def size(value: Any) -> Any:
    """`64M`, `1.5GiB`, or a number of bytes; k, M, G are powers of 1024, as Docker has it."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise problem("can't be negative")
        return int(value)
    if not isinstance(value, str):
        raise problem(f"{shown(value)} is no size" if isinstance(value, float) else "must be a size", _SIZE_HINT)
    return _size(value)


@functools.lru_cache(maxsize=_REMEMBERED)
def _size(value: str) -> int:
    found = _SIZE.fullmatch(value)
    if found is None:
        raise problem(f"{shown(value)} is no size", _SIZE_HINT)
    total = int(Decimal(found[1]) * (1 << _SHIFT[found[2].lower()]))
    if total > MAX_DURATION:
        raise problem(f"{shown(value)} is too much")
    return total


def memory(value: Any) -> Any:
    """A size that a container can start with."""
    total: int = size(value)
    if 0 < total < MIN_MEMORY:
        raise problem(f"{shown(value)} is less than the minimum of 4M", "64M is written with its unit")
    return total


def cpus(value: Any) -> Any:
    """`0.5` or `"0.5"`, a number of CPUs; to billionths."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem("must be a number of CPUs", "as in 0.5")
    return _cpus(str(value))


@functools.lru_cache(maxsize=_REMEMBERED)
def _cpus(value: str) -> int:
    try:
        number = Decimal(value) * NANO
    except InvalidOperation as error:
        raise problem(f"{shown(value)} is no number of CPUs", "as in 0.5") from error
    if not number.is_finite() or number < 0 or number > 1_000_000 * NANO:
        raise problem(f"{shown(value)} is no number of CPUs", "as in 0.5")
    if 0 < number < MIN_CPU or number != int(number):
        raise problem(f"{shown(value)} can't be counted", "at least 0.001 CPU, with at most nine decimals")
    return int(number)


def mode(value: Any) -> Any:
    """Permission bits in octal: `0440` or `"0440"`."""
    if isinstance(value, scalars.SpelledInt) and value.text.startswith("0") and not value.text.startswith("0x"):
        bits = int(value)
    elif isinstance(value, str) and re.fullmatch(r"0?o?[0-7]{1,4}", value):
        bits = int(value.removeprefix("0o").removeprefix("o"), 8)
    elif isinstance(value, int) and not isinstance(value, bool):
        hint = f"write 0{value}" if re.fullmatch(r"[0-7]{3}", str(value)) else "as in 0440"
        raise problem(f"{value} isn't octal", hint)
    else:
        raise problem("must be permission bits in octal", "as in 0440")
    if not 0 <= bits <= 0o7777:
        raise problem(f"{shown(value)} is more than 07777")
    return bits


Duration = Annotated[int, BeforeValidator(duration, json_schema_input_type=str | int)]
Size = Annotated[int, BeforeValidator(size, json_schema_input_type=str | int)]
Memory = Annotated[int, BeforeValidator(memory, json_schema_input_type=str | int)]
Cpus = Annotated[int, BeforeValidator(cpus, json_schema_input_type=str | float)]
Mode = Annotated[int, BeforeValidator(mode, json_schema_input_type=str | int)]


def check_time(value: Any) -> Any:
    """A duration of a health check: 0, or at least a millisecond."""
    total: int = duration(value)
    if 0 < total < MILLISECOND:
        raise problem("is shorter than 1ms")
    return total


CheckTime = Annotated[int, BeforeValidator(check_time, json_schema_input_type=str | int)]


def absolute(value: Any) -> Any:
    """A path in a container."""
    if isinstance(value, str):
        if not value.startswith("/"):
            raise problem(f"{shown(value)} isn't absolute", f"as in /{value.lstrip('./')}")
        if "\0" in value or "/../" in f"{value}/":
            raise problem(f"{shown(value)} must not have .. in it")
    return value


AbsolutePath = Annotated[str, BeforeValidator(absolute, json_schema_input_type=Annotated[str, Field(pattern="^/")])]
