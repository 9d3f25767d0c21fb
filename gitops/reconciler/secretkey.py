"""The operator's key: names of secrets carry an HMAC of their value under it, so that a change is seen and no more.

It is kept beside the operator's other keys, never in the repository and never on the engine. Whoever applies the same
manifests from another machine needs the same key, or every secret looks changed to him once.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gitops import errors

FILE_VARIABLE = "GITOPS_SECRET_KEY_FILE"
_BYTES = 32


def path() -> Path:
    """Where the key is: GITOPS_SECRET_KEY_FILE, else `gitops/secret-key` in the user's configuration."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "gitops" / "secret-key"


def read() -> bytes:
    """The key; made, 0600, when there is none.

    Raises:
        errors.Invalid: it can't be read, others can read it, or it is too short.
    """
    place = path()
    try:
        return _checked(place)
    except FileNotFoundError:
        pass
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
    except FileExistsError:
        pass
    except OSError as error:
        raise errors.Invalid(f"{place}: the key for secrets can't be made: {error.strerror}") from error
    return _checked(place)


def _checked(place: Path) -> bytes:
    try:
        with place.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise errors.Invalid(f"{place}: others can read the key for secrets: chmod 600 {place}")
            key = file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise errors.Invalid(f"{place}: the key for secrets can't be read: {error.strerror}") from error
    if len(key) < _BYTES:
        raise errors.Invalid(f"{place}: the key for secrets has {len(key)} bytes, {_BYTES} are needed")
    return key
