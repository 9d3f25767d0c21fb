"""Values encrypted as SOPS does it: AES-256-GCM with the path as additional data, and one code over all of them. Pure.

A tree is plain data: maps with text keys, lists, and leaves that are texts, integers, floats, booleans or None. Bytes
that are no UTF-8 stand in texts as surrogate escapes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 32
_TAG_BYTES = 16
_VALUE = re.compile(r"ENC\[AES256_GCM,data:(.+),iv:(.+),tag:(.+),type:(.+)\]", re.DOTALL)
_ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
"""What the code begins with when it covers encrypted values only, so that neither kind passes for the other."""


class Broken(Exception):
    """A value or the whole doesn't decrypt; the text names the path, never a value."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which values are encrypted: by the ends of the keys that lead to them, or by expressions that match one."""

    unencrypted_suffix: str = ""
    encrypted_suffix: str = ""
    unencrypted_regex: str = ""
    encrypted_regex: str = ""
    mac_only_encrypted: bool = False

    def encrypts(self, path: tuple[str, ...]) -> bool:
        """Whether the value at `path` is encrypted; each rule overrules those before it."""
        result = True
        if self.unencrypted_suffix and any(key.endswith(self.unencrypted_suffix) for key in path):
            result = False
        if self.encrypted_suffix:
            result = any(key.endswith(self.encrypted_suffix) for key in path)
        if self.unencrypted_regex and any(re.search(self.unencrypted_regex, key) for key in path):
            result = False
        if self.encrypted_regex:
            result = any(re.search(self.encrypted_regex, key) for key in path)
        return result


def encrypt(tree: Any, key: bytes, rules: Rules) -> tuple[Any, str]:
    """The tree with its values encrypted under the data key, and the code over them in upper-case hex."""
    code = _code(rules)

    def leaf(value: Any, path: tuple[str, ...]) -> Any:
        encrypts = rules.encrypts(path)
        if encrypts or not rules.mac_only_encrypted:
            code.update(as_bytes(value))
        return encrypt_value(value, key, _data(path)) if encrypts else value

    return _walk(tree, (), leaf), code.hexdigest().upper()


def decrypt(tree: Any, key: bytes, rules: Rules) -> tuple[Any, str]:
    """The tree in clear, and the code over it.

    Raises:
        Broken: a value was tampered with, moved, or isn't encrypted though it should be.
    """
    code = _code(rules)

    def leaf(value: Any, path: tuple[str, ...]) -> Any:
        encrypts = rules.encrypts(path)
        clear = decrypt_value(value, key, _data(path), ".".join(path)) if encrypts else value
        if encrypts or not rules.mac_only_encrypted:
            code.update(as_bytes(clear))
        return clear

    return _walk(tree, (), leaf), code.hexdigest().upper()


def encrypt_value(value: Any, key: bytes, data: bytes) -> str:
    """`ENC[…]`, bound to the additional data; an empty text stays empty."""
    if value == "":
        return ""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, as_bytes(value), data)
    parts = (sealed[:-_TAG_BYTES], nonce, sealed[-_TAG_BYTES:])
    content, iv, tag = (base64.b64encode(part).decode() for part in parts)
    return f"ENC[AES256_GCM,data:{content},iv:{iv},tag:{tag},type:{_type(value)}]"


def decrypt_value(text: Any, key: bytes, data: bytes, where: str) -> Any:
    """The value in its type; `where` names it in errors.

    Raises:
        Broken: it isn't one of SOPS, or not one of this key and path.
    """
    if text == "":
        return ""
    match = _VALUE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Broken(f"{where} is not encrypted, though the file says that it is")
    try:
        content, iv, tag = (base64.b64decode(part, validate=True) for part in match.groups()[:3])
        clear = AESGCM(key).decrypt(iv, content + tag, data).decode("utf-8", "surrogateescape")
        return _typed(clear, match.group(4))
    except (InvalidTag, binascii.Error, ValueError, KeyError) as error:
        raise Broken(f"{where} does not decrypt: it was changed or moved after it was encrypted") from error


def as_bytes(value: Any) -> bytes:
    """How a value is spelled where it is encrypted or summed up, as Go's and Python's SOPS agreed on it."""
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, float):
        text = format(Decimal(repr(float(value))), "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    return str(int(value)).encode() if isinstance(value, int) else str(value).encode("utf-8", "surrogateescape")


def _typed(text: str, kind: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        "str": str,
        "bytes": str,
        "time": str,
        "int": int,
        "float": float,
        "bool": lambda found: {"true": True, "false": False}[found.lower()],
    }
    if kind not in readers:
        raise ValueError(kind)
    return readers[kind](text)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else "str"


def _data(path: tuple[str, ...]) -> bytes:
    return (":".join(path) + ":").encode()


def _code(rules: Rules) -> Any:
    return hashlib.sha512(_ONLY_ENCRYPTED if rules.mac_only_encrypted else b"")


def _walk(node: Any, path: tuple[str, ...], leaf: Callable[[Any, tuple[str, ...]], Any]) -> Any:
    """The items of a list have the list's path; None is never encrypted, and not summed up."""
    if isinstance(node, dict):
        return {key: _walk(value, (*path, str(key)), leaf) for key, value in node.items()}
    if isinstance(node, list):
        return [_walk(item, path, leaf) for item in node]
    return None if node is None else leaf(node, path)
