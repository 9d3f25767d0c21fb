"""The key under which secrets lie on disk, and the sealing with it: AES-256-GCM, bound to the object's id.

The key is in a file of its own (mode 0600), apart from the data, so that a copy of the database alone tells nothing.
It is never logged, and has no repr.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gitops import errors

_KEY_BYTES = 32
_NONCE_BYTES = 12
WAY_OUT = "restore it from a backup, or give the swarm up with `docker swarm leave --force`; tasks run on"
"""What to do about a file of a swarm that is lost or damaged."""
_PREFIX = b"\x01"
"""The version of the sealed format."""


class Seal:
    """Seals and opens with one key."""

    def __init__(self, key: bytes, origin: Path | None = None) -> None:
        self.origin = origin
        """The file that the key is from."""
        self._cipher = AESGCM(key)
        self.fingerprint = hashlib.sha256(b"gitops store key" + key).hexdigest()[:16]
        """Tells keys apart without telling the key."""

    @classmethod
    def create(cls, path: Path) -> Seal:
        """Make a new key and keep it at `path`; the file is complete or absent, whenever the power fails.

        Raises:
            errors.RuntimeFailure: it can't be written.
        """
        key = AESGCM.generate_key(_KEY_BYTES * 8)
        draft = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key.hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise errors.RuntimeFailure(f"can't write the key file {path}: {error}") from error
        return cls(key, path)

    @classmethod
    def load(cls, path: Path) -> Seal:
        """The key at `path`.

        Raises:
            errors.NotFound: there is no such file.
            errors.RuntimeFailure: it can't be read, holds no key, or others may read it.
        """
        try:
            mode = path.stat().st_mode
            text = path.read_text(encoding="ascii")
        except FileNotFoundError as error:
            raise errors.NotFound(
                f"the key file {path} is missing, and secrets can't be read without it: {WAY_OUT}"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise errors.RuntimeFailure(f"can't read the key file {path}: {error}") from error
        if mode & 0o077:
            raise errors.RuntimeFailure(f"others may read the key file {path}: run chmod 600 on it")
        try:
            key = bytes.fromhex(text.strip())
        except ValueError as error:
            raise errors.RuntimeFailure(
                f"the key file {path} is damaged, it holds no hexadecimal key: {WAY_OUT}"
            ) from error
        if len(key) != _KEY_BYTES:
            raise errors.RuntimeFailure(f"the key file {path} is damaged, it holds {len(key)} bytes: {WAY_OUT}")
        return cls(key, path)

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt `data`; it opens only with the same `context`, so that sealed values can't change places."""
        nonce = os.urandom(_NONCE_BYTES)
        return _PREFIX + nonce + self._cipher.encrypt(nonce, data, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            errors.RuntimeFailure: it was made with another key or context, or is damaged.
        """
        if not sealed.startswith(_PREFIX):
            raise errors.RuntimeFailure(f"the data of {context} is not sealed in a known way")
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, body, context.encode())
        except (InvalidTag, ValueError) as error:
            raise errors.RuntimeFailure(f"the data of {context} does not open with this key, or is damaged") from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
