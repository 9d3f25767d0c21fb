"""The small part of Go's templates that Docker documents for services, as a grammar: what may stand between the braces.

`{{.Service.ID}}`, `{{.Service.Name}}`, `{{.Service.Labels.KEY}}`, `{{.Node.ID}}`, `{{.Node.Hostname}}`,
`{{.Node.Platform.OS}}`, `{{.Node.Platform.Architecture}}`, `{{.Task.ID}}`, `{{.Task.Name}}`, `{{.Task.Slot}}`, and
`{{index .Service.Labels "KEY"}}` for keys with dots. In secrets and configs that are templates also
`{{secret "TARGET"}}`, `{{config "TARGET"}}` and `{{env "NAME"}}`. Anything else is an error, as it is in Docker. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator

from gitops import errors

VALUES = (
    ".Service.ID", ".Service.Name", ".Node.ID", ".Node.Hostname", ".Node.Platform.OS", ".Node.Platform.Architecture",
    ".Task.ID", ".Task.Name", ".Task.Slot",
)  # fmt: skip
FUNCTIONS = ("secret", "config", "env")
GOLANG = "golang"
"""The one driver of templates."""
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_LABEL = re.compile(r"\.Service\.Labels\.(\w+)")
_INDEX = re.compile(r"index\s+\.Service\.Labels\s+\"((?:[^\"\\]|\\.)*)\"")
_CALL = re.compile(rf"({'|'.join(FUNCTIONS)})\s+\"((?:[^\"\\]|\\.)*)\"")


def expand(text: str, value: Callable[[str], str]) -> str:
    """`text` with what `value` gives for each expression between braces."""
    return _ACTION.sub(lambda match: value(match.group(1)), text) if "{{" in text else text


def expressions(text: str) -> Iterator[str]:
    """What stands between braces."""
    return (match.group(1) for match in _ACTION.finditer(text)) if "{{" in text else iter(())


def label(expression: str) -> str | None:
    """The label of the service that an expression asks for; None if it asks for something else."""
    match = _LABEL.fullmatch(expression) or _INDEX.fullmatch(expression)
    return match.group(1) if match else None


def call(expression: str) -> tuple[str, str] | None:
    """Function and argument, where an expression is a call."""
    match = _CALL.fullmatch(expression)
    return (match.group(1), match.group(2)) if match else None


def unknown(expression: str, text: str) -> errors.Invalid:
    """The error for an expression that nobody can expand."""
    known = ", ".join("{{" + name + "}}" for name in VALUES)
    return errors.Invalid(f"unknown placeholder {{{{{expression}}}}} in {text!r}: there are {known}")


def check(text: str, labels: Container[str]) -> None:
    """See that every placeholder of a service's field has a value, whatever the task.

    Raises:
        errors.Invalid: one that isn't known, or a label that the service doesn't have.
    """
    for expression in expressions(text):
        wanted = label(expression)
        if wanted is None and expression not in VALUES:
            raise unknown(expression, text)
        if wanted is not None and wanted not in labels:
            raise errors.Invalid(f"the service has no label {wanted!r}, which {text!r} refers to")
