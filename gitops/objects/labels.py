"""The labels that say who owns what."""

from __future__ import annotations

STACK = "gitops.stack"
KIND = "gitops.kind"
NAME = "gitops.name"
HASH = "gitops.hash"
PROTECT = "gitops.protect"
"""With the value `true`, in the metadata of a manifest: the object is neither deleted nor replaced."""
EXTENSION = "gitops.x."
"""Before the path of a manifest's field that the API has no place for."""
NAMESPACE = "com.docker.stack.namespace"
"""Docker's own, so that `docker stack` sees our stacks."""


def engine_name(stack: str, name: str) -> str:
    """The name of an object on the engine: `<stack>_<name>`, or `<name>` where no stack is given."""
    return f"{stack}_{name}" if stack else name
