"""The familiar form of an image's name (`nginx` is `nginx:latest`), in which names are compared.

It is remembered: a name is normalised as it is read, and for the canonical forms of what is declared and what is live.
"""

from __future__ import annotations

import functools

from gitops.oci import reference


@functools.lru_cache(maxsize=8192)
def familiar(text: str) -> str:
    """The familiar form with a tag.

    Raises:
        errors.Invalid: no reference.
    """
    return reference.parse(text).with_default_tag().familiar()
