"""Encrypted files of the formats yaml, json, dotenv and binary: what they say of their keys, and what is in them.

What isn't understood is refused by name: other kinds of keys than age, key groups, rules by comments, INI files.
"""

from __future__ import annotations

import datetime
import hmac
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gitops.manifests.sops import cipher, identities
from gitops.manifests.text import construct, graph

FORMATS = ("yaml", "json", "dotenv", "binary")
DEFAULT_SUFFIX = "_unencrypted"
VERSION = "3.9.0"
"""The version of SOPS whose format is written."""
_RULES = ("unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex")
_OTHER_KEYS = ("pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms")
_REFUSED = ("unencrypted_comment_regex", "encrypted_comment_regex")
_FLAT = "sops_"
_FLAT_AGE = re.compile(r"age__list_(\d+)__map_(enc|recipient)")


class Unreadable(Exception):
    """A file isn't one of SOPS, or not one that can be read here; `hint` says the way out."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A file of SOPS, parsed and not decrypted; `sealed` are the copies of its data key by recipient."""

    form: str
    tree: dict[str, Any]
    sealed: Mapping[str, str]
    rules: cipher.Rules
    code: str
    changed_at: str


def form_of(name: str) -> str:
    """The format that a file's name stands for, as in `sops`.

    Raises:
        Unreadable: an INI file.
    """
    ends = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".env": "dotenv"}
    name = name.lower()
    if name.endswith(".ini"):
        raise Unreadable("is an INI file", "give it as yaml, json, dotenv or binary")
    suffix = PurePath(name).suffix or (name if name.startswith(".") else "")
    return ends.get(suffix, "binary")


def parse(data: bytes, form: str) -> Encrypted:
    """A file, by its content.

    Raises:
        Unreadable: it is no file of SOPS, or not one for age keys.
    """
    tree = _plain(data, form)
    meta = _take_flat(tree) if form == "dotenv" else tree.pop("sops", None)
    if not isinstance(meta, dict):
        raise Unreadable("is not encrypted: it has no part named sops", "encrypt it with `sops encrypt` for an age key")
    for key in _REFUSED:
        if meta.get(key):
            raise Unreadable(f"uses {key}, which is not supported", f"use one of {', '.join(_RULES)}")
    if meta.get("key_groups"):
        raise Unreadable("has key groups, which are not supported", "encrypt it for age keys without groups")
    keys = meta.get("age") or []
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise Unreadable("has a broken list of age keys")
    if not keys:
        others = [name for name in _OTHER_KEYS if meta.get(name)]
        what = f"is encrypted for {', '.join(others)} alone" if others else "names no key that opens it"
        raise Unreadable(what, "add an age key to it with `sops rotate --add-age`")
    return Encrypted(
        form,
        tree,
        {str(key.get("recipient", "")): str(key.get("enc", "")) for key in keys},
        cipher.Rules(**{name: str(meta.get(name) or "") for name in _RULES}, mac_only_encrypted=_is_true(meta)),
        str(meta.get("mac") or ""),
        str(meta.get("lastmodified") or ""),
    )


def decrypt(file: Encrypted, keys: identities.Identities) -> dict[str, Any]:
    """What is in it.

    Raises:
        identities.NoKey: none of the keys opens it.
        cipher.Broken: it was changed by something else than SOPS.
        Unreadable: an expression of its rules is none.
    """
    key = identities.open_key(file.sealed, keys)
    try:
        tree, code = cipher.decrypt(file.tree, key, file.rules)
    except re.error as error:
        raise Unreadable(f"has a rule that is no expression: {error}") from error
    stored = cipher.decrypt_value(file.code, key, file.changed_at.encode(), "the code over all values")
    if not hmac.compare_digest(str(stored).encode(), code.encode()):
        raise cipher.Broken("the code over all values differs: a value was added, removed or changed without SOPS")
    return dict(tree)


def encrypt(data: bytes, form: str, recipients: Sequence[str], suffix: str = DEFAULT_SUFFIX) -> bytes:
    """A file in clear, encrypted for age keys, as `sops` would have written it.

    Comments of a YAML file stay as they are, in clear.

    Raises:
        Unreadable: it isn't of that format, or encrypted already.
        ValueError: a recipient is none.
    """
    if not recipients:
        raise ValueError("no recipient: give at least one age key")
    rules = cipher.Rules(unencrypted_suffix=suffix)
    key = os.urandom(cipher.KEY_BYTES)
    tree = {"data": data.decode("utf-8", "surrogateescape")} if form == "binary" else _plain(data, form)
    if "sops" in tree or any(name.startswith(_FLAT) for name in tree if form == "dotenv"):
        raise Unreadable("is encrypted already, or has a key named sops", "rename that key")
    sealed, code = cipher.encrypt(tree, key, rules)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = {
        "age": [{"recipient": name, "enc": armored} for name, armored in identities.seal_key(key, recipients).items()],
        "lastmodified": now,
        "mac": cipher.encrypt_value(code, key, now.encode()),
        "unencrypted_suffix": suffix,
        "version": VERSION,
    }
    return _emit(data, form, sealed, meta)


def pick(tree: Mapping[str, Any], form: str, key: str) -> bytes:
    """The value at `key` (`db.password`, `list.0`); without a key all of a binary or dotenv file.

    Raises:
        Unreadable: there is no such value, or it is no single one.
    """
    if not key:
        if form == "binary":
            return cipher.as_bytes(tree.get("data", ""))
        if form == "dotenv":
            return "".join(f"{name}={_line(value)}\n" for name, value in tree.items()).encode()
        raise Unreadable("holds many values", "say which one by key, as in key: db.password")
    node: Any = tree
    for part in key.split("."):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            raise Unreadable(f"has no value at {key!r}", f"there are: {', '.join(map(str, tree)) or 'none'}")
    if node is None or isinstance(node, Mapping | list):
        raise Unreadable(f"has no single value at {key!r}", "the key must lead to a text or a number")
    if isinstance(node, bool):
        return b"true" if node else b"false"
    return cipher.as_bytes(node)


# -- the formats


def _plain(data: bytes, form: str) -> dict[str, Any]:
    try:
        if form == "dotenv":
            return _dotenv(_text(data))
        found = _yaml(data) if form == "yaml" else json.loads(data)
    except RecursionError as error:
        raise Unreadable(f"is no {form} file: it nests too deep") from error
    except (graph.TextProblem, ValueError) as error:
        raise Unreadable(f"is no {form} file: {_why(error)}") from error
    if not isinstance(found, dict):
        raise Unreadable(f"is no map at its top, as an encrypted {form} file is")
    return found


def _why(error: Exception) -> str:
    """Where a text is broken; never a piece of it."""
    if isinstance(error, graph.TextProblem):
        return f"line {error.line + 1}: {error.reason}"
    return f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "not UTF-8"


def _yaml(data: bytes) -> Any:
    roots = graph.compose(graph.decode(data))
    if len(roots) != 1:
        raise Unreadable(f"has {len(roots)} documents", "one file, one document")
    builder = construct.Builder()
    value = builder.build(roots[0])
    for problem in builder.problems:
        raise Unreadable(f"line {problem.node.start_mark.line + 1}: {problem.reason}", problem.hint)
    return value


def _dotenv(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        name, mark, value = line.partition("=")
        if not mark:
            raise Unreadable(f"line {number} is no NAME=value")
        found[name] = value.replace("\\n", "\n")
    return found


def _line(value: Any) -> str:
    return str(value).replace("\n", "\\n")


def _take_flat(tree: dict[str, Any]) -> dict[str, Any] | None:
    """The part named sops of a format without maps, whose names are `sops_mac`, `sops_age__list_0__map_enc`."""
    flat = {name.removeprefix(_FLAT): tree.pop(name) for name in list(tree) if name.startswith(_FLAT)}
    if not flat:
        return None
    keys: dict[int, dict[str, str]] = {}
    for name, value in flat.items():
        if match := _FLAT_AGE.fullmatch(name):
            keys.setdefault(int(match.group(1)), {})[match.group(2)] = str(value)
    others = {kind: True for kind in _OTHER_KEYS if any(name.startswith(kind) for name in flat)}
    return {**flat, **others, "age": [keys[number] for number in sorted(keys)]}


def _is_true(meta: Mapping[str, Any]) -> bool:
    return str(meta.get("mac_only_encrypted", "")).lower() == "true"


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("is not UTF-8", "a binary value can't be kept in a text format") from error


def _emit(data: bytes, form: str, sealed: dict[str, Any], meta: dict[str, Any]) -> bytes:
    if form == "dotenv":
        flat = {name: value for name, value in meta.items() if name != "age"}
        for number, key in enumerate(meta["age"]):
            flat |= {f"age__list_{number}__map_{name}": value for name, value in key.items()}
        lines = [*sealed.items(), *((f"{_FLAT}{name}", value) for name, value in sorted(flat.items()))]
        return "".join(f"{name}={_line(value)}\n" for name, value in lines).encode()
    if form != "yaml":
        return (json.dumps({**sealed, "sops": meta}, indent="\t", ensure_ascii=False) + "\n").encode()
    from ruamel.yaml import YAML

    writer = YAML()
    writer.width = 4096
    kept = writer.load(data)
    _lay(kept, sealed)
    kept["sops"] = meta
    output = io.BytesIO()
    writer.dump(kept, output)
    return output.getvalue()


def _lay(kept: Any, sealed: Any) -> None:
    """Values of `sealed` into the tree that has the comments."""
    for key in kept if isinstance(kept, dict) else range(len(kept)):
        if isinstance(kept[key], dict | list):
            _lay(kept[key], sealed[key])
        else:
            kept[key] = sealed[key]
