"""What a snapshot must not hold: values that may be secrets, and whatever is made of the value of a secret. Pure.

Nothing on an engine says which variable of a service is a secret, so that is judged by its name (`DB_PASSWORD`) and by
its form (a URL with a password, a PEM block, a token of random digits). In doubt it is hidden: what is hidden can't be
compared, which is told; what is shown can't be taken back. Versions of secrets (an HMAC in their name) become numbers,
and hashes over whole objects are left out, since they cover hidden values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from gitops.objects import labels
from gitops.objects.mount import Mount
from gitops.objects.service import ContainerSpec, ServiceSpec, TaskSpec
from gitops.reconciler.diff import HIDDEN

_WORDS = frozenset(
    {
        *("apikey", "auth", "authorization", "cert", "cookie", "cred", "creds", "credential", "credentials", "dsn"),
        *("hmac", "jwt", "key", "keys", "otp", "passphrase", "passwd", "password", "passwords", "pat", "pin"),
        *("private", "psk", "pw", "pwd", "salt", "secret", "secrets", "session", "signature", "token", "tokens"),
        "webhook",
    }
)
_PARTS = ("password", "passwd", "passphrase", "secret", "token", "credential", "apikey")
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_FORMS = re.compile(
    r"[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@"  # a URL with a password
    r"|-----BEGIN|AGE-SECRET-KEY-|\beyJ[A-Za-z0-9_-]{8,}"  # keys, tokens of three parts
    r"|\b(?:gh[pousr]_|glpat-|xox[abp]-|sk-|AKIA)[A-Za-z0-9_-]{8,}",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(r"([A-Za-z][\w.-]*)[\"']?\s*[=:]\s*[^\s,;]")
_RANDOM = re.compile(r"[A-Za-z0-9+_-]{24,}={0,2}")
_FLAG = re.compile(r"--?([A-Za-z][\w.-]*)$")
_VERSION = re.compile(r"(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])")


def is_private(name: str, value: str) -> bool:
    """Whether the value of a variable, label or option may be a secret."""
    return bool(value) and (_is_private_name(name) or _has_private_form(value))


def _is_private_name(name: str) -> bool:
    words = [word.lower() for word in _SPLIT.split(name) if word]
    if words and words[-1] in ("file", "path", "dir"):
        return False  # where a secret is, as in POSTGRES_PASSWORD_FILE
    is_pass = any(word.endswith("pass") for word in words)
    return is_pass or not _WORDS.isdisjoint(words) or any(part in "".join(words) for part in _PARTS)


def _has_private_form(value: str) -> bool:
    if _FORMS.search(value) or any(_is_private_name(name) for name in _ASSIGNED.findall(value)):
        return True
    return any(_is_random(word) for word in _RANDOM.findall(value))


def _is_random(word: str) -> bool:
    """Whether it looks like a key: long, of letters and digits mixed."""
    return sum(mark.isdigit() for mark in word) >= 4 and any(mark.isalpha() for mark in word)


def service(spec: ServiceSpec, *, all_variables: bool = False) -> ServiceSpec:
    """A service's spec without what may be a secret; with `all_variables`, without the value of any variable."""
    return replace(
        spec, labels=entries(spec.labels), task_template=template(spec.task_template, all_variables=all_variables)
    )


def template(spec: TaskSpec, *, all_variables: bool = False) -> TaskSpec:
    """The same of what a task runs."""
    driver, container = spec.log_driver, spec.container_spec
    return replace(
        spec,
        container_spec=_container(container, all_variables) if container else None,
        log_driver=replace(driver, options=entries(driver.options)) if driver else None,
    )


def _container(spec: ContainerSpec, all_variables: bool) -> ContainerSpec:
    check = spec.healthcheck
    return replace(
        spec,
        env=[_variable(text, all_variables) for text in spec.env],
        command=_command(spec.command),
        args=_command(spec.args),
        healthcheck=replace(check, test=_command(check.test)) if check else None,
        labels=entries(spec.labels),
        mounts=[_mount(mount) for mount in spec.mounts],
    )


def _variable(text: str, is_all: bool) -> str:
    name, mark, value = text.partition("=")
    return f"{name}={HIDDEN}" if mark and value and (is_all or is_private(name, value)) else text


def _command(found: list[str]) -> list[str]:
    """A command line is hidden as a whole: its words have no names by which they could be compared one by one."""
    named = any((flag := _FLAG.match(word)) and _is_private_name(flag[1]) for word in found)
    return [HIDDEN] if named or any(_has_private_form(word) for word in found) else found


def _mount(mount: Mount) -> Mount:
    options = mount.volume_options
    if options is None or options.driver_config is None:
        return mount
    driver = replace(options.driver_config, options=entries(options.driver_config.options))
    return replace(mount, volume_options=replace(options, driver_config=driver))


def entries(found: Mapping[str, str] | None) -> dict[str, str]:
    """Labels or options without what may be a secret, and without a hash over the whole object.

    Those of ours name objects and are no secrets.
    """
    return {
        key: HIDDEN if not key.startswith("gitops.") and is_private(key, value) else value
        for key, value in (found or {}).items()
        if key != labels.HASH
    }


class Aliases:
    """Numbers in the place of versions of secrets, in every text of a document."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are those that end with a version, the oldest first."""
        self._aliases: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        numbers: dict[str, int] = {}
        for name in names:
            stem, _, digits = name.rpartition("-")
            numbers[stem] = numbers.get(stem, 0) + 1
            self._aliases[name] = f"{stem}-{numbers[stem]}"
            self._names.setdefault(digits, []).append(name)

    def applied(self, value: Any) -> Any:
        """Plain data with every version replaced, in keys too."""
        return walked(value, self._text) if self._names else value

    def _text(self, text: str) -> str:
        """A text with whole names by their aliases, and digits that stand alone hidden."""
        parts, done = [], 0
        for match in _VERSION.finditer(text):
            names = self._names.get(match[0])
            if names is None:
                continue
            name = next((name for name in names if text.endswith(name, done, match.end())), "")
            begin = match.end() - len(name) if name else match.start()
            parts += [text[done:begin], self._aliases.get(name, HIDDEN)]
            done = match.end()
        return "".join((*parts, text[done:])) if parts else text


def walked(value: Any, change: Callable[[str], str]) -> Any:
    """Plain data with `change` done to every text of it, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [walked(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key) if isinstance(key, str) else key: walked(item, change) for key, item in value.items()}
    return value


def has_version(name: str) -> bool:
    """Whether a name ends with the version of a secret or config."""
    return _VERSION.fullmatch(name.rpartition("-")[2]) is not None


# The way back: what is hidden is taken for what is wanted, since it can't be told from it.


def filled(found: ServiceSpec, wanted: ServiceSpec) -> ServiceSpec:
    """A spec of a snapshot with what is hidden in it as in `wanted`, where that has it."""
    return replace(
        found,
        labels=_filled_entries(found.labels, wanted.labels),
        task_template=filled_template(found.task_template, wanted.task_template),
    )


def filled_template(found: TaskSpec, wanted: TaskSpec) -> TaskSpec:
    """The same of what a task runs."""
    driver, other = found.log_driver, wanted.log_driver
    if driver and other:
        driver = replace(driver, options=_filled_entries(driver.options, other.options))
    container = found.container_spec
    if container and wanted.container_spec:
        container = _filled_container(container, wanted.container_spec)
    return replace(found, container_spec=container, log_driver=driver)


def _filled_container(found: ContainerSpec, wanted: ContainerSpec) -> ContainerSpec:
    given = {text.partition("=")[0]: text for text in wanted.env}
    check, other = found.healthcheck, wanted.healthcheck
    if check and other and check.test == [HIDDEN]:
        check = replace(check, test=other.test)
    mounts = {mount.target: mount for mount in wanted.mounts}
    return replace(
        found,
        env=[given.get(name, text) for text in found.env for name in [_hidden_name(text)]],
        command=wanted.command if found.command == [HIDDEN] and wanted.command else found.command,
        args=wanted.args if found.args == [HIDDEN] and wanted.args else found.args,
        healthcheck=check,
        labels=_filled_entries(found.labels, wanted.labels),
        mounts=[_filled_mount(mount, mounts.get(mount.target)) for mount in found.mounts],
    )


def _hidden_name(text: str) -> str:
    name, _, value = text.partition("=")
    return name if value == HIDDEN else "\0"


def _filled_mount(found: Mount, wanted: Mount | None) -> Mount:
    options = found.volume_options
    other = wanted.volume_options if wanted else None
    if not (options and options.driver_config and other and other.driver_config):
        return found
    driver = replace(
        options.driver_config, options=_filled_entries(options.driver_config.options, other.driver_config.options)
    )
    return replace(found, volume_options=replace(options, driver_config=driver))


def _filled_entries(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {key: wanted.get(key, value) if value == HIDDEN else value for key, value in found.items()}
