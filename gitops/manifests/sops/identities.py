"""The operator's age keys, from where `sops` itself has them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage

KEY = "SOPS_AGE_KEY"
KEY_FILE = "SOPS_AGE_KEY_FILE"
SSH_KEY_FILE = "SOPS_AGE_SSH_PRIVATE_KEY_FILE"
_MARK = "AGE-SECRET-KEY-"


class NoKey(Exception):
    """None of the keys opens it; the text says which would, and where they are looked for."""


@dataclass(frozen=True, slots=True)
class Identities:
    """Private keys, and in words where they came from and what could not be read. No repr shows a key."""

    keys: tuple[Any, ...]
    places: str
    trouble: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Identities({len(self.keys)} from {self.places})"


def read(environ: Mapping[str, str] | None = None) -> Identities:
    """All that the environment and the user's configuration name: SOPS_AGE_KEY, SOPS_AGE_KEY_FILE, `sops/age/keys.txt`,
    and an SSH key by SOPS_AGE_SSH_PRIVATE_KEY_FILE."""
    env = os.environ if environ is None else environ
    keys: list[Any] = []
    trouble: list[str] = []
    home = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or Path.home()) / ".config")
    default = Path(home) / "sops" / "age" / "keys.txt"
    texts = [(KEY, env.get(KEY, ""))]
    files = [Path(env[KEY_FILE])] if env.get(KEY_FILE) else []
    for file in [*files, default]:
        try:
            texts.append((str(file), file.read_text()))
        except (OSError, UnicodeDecodeError) as error:
            if file != default:
                trouble.append(f"{file}: {getattr(error, 'strerror', None) or 'is no text'}")
    for place, text in texts:
        for line in (line.strip() for line in text.splitlines()):
            if line and not line.startswith("#"):
                _add(keys, trouble, place, line)
    if env.get(SSH_KEY_FILE):
        try:
            keys.append(pyrage.ssh.Identity.from_buffer(Path(env[SSH_KEY_FILE]).read_bytes()))
        except (OSError, pyrage.IdentityError) as error:
            trouble.append(f"{env[SSH_KEY_FILE]}: {error}")
    return Identities(tuple(keys), f"{KEY}, {KEY_FILE} or {default}", tuple(trouble))


def _add(keys: list[Any], trouble: list[str], place: str, line: str) -> None:
    try:
        keys.append(pyrage.x25519.Identity.from_str(line))
    except pyrage.IdentityError:
        what = "is no valid age key" if line.startswith(_MARK) else "is no age key (AGE-SECRET-KEY-1…)"
        trouble.append(f"{place}: a line {what}")


def open_key(sealed: Mapping[str, str], identities: Identities) -> bytes:
    """The data key, from its copies by recipient.

    Raises:
        NoKey: none of the identities opens any.
    """
    for armored in sealed.values():
        for identity in identities.keys:
            try:
                return bytes(pyrage.decrypt(armored.encode(), [identity]))
            except pyrage.DecryptError:
                continue
    whom = ", ".join(sealed)
    have = f"none of {len(identities.keys)} keys opens it" if identities.keys else "there is no age key to open it with"
    trouble = f" ({'; '.join(identities.trouble)})" if identities.trouble else ""
    raise NoKey(f"{have}{trouble}: it is encrypted for {whom}; put the key of one of them into {identities.places}")


def seal_key(key: bytes, recipients: Sequence[str]) -> dict[str, str]:
    """Armored copies of the data key, by recipient.

    Raises:
        ValueError: one is no recipient.
    """
    return {name: bytes(pyrage.encrypt(key, [_recipient(name)], armored=True)).decode() for name in recipients}


def _recipient(text: str) -> Any:
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ValueError(f"{text!r} is no age recipient (age1… or an SSH public key)") from error
