"""Encrypted files, held against the reference program in both directions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyrage
import pytest

from gitops.manifests.sops import cipher, document, identities

SOPS = Path(sys.executable).parent / "sops"
YAML = """\
# the database
db:
  password: "s3cret: with a colon"   # rotated in spring
  port: 5432
  ratio: 0.25
  big: 1500000.0
  on: true
  nothing:
  empty: ""
  text: |
    two
    lines
users: [anna, {name: bert, pin: 17}, [x, y]]
plain_unencrypted: 12
"""
JSON = json.dumps({"a": {"b": "geheim äöü", "n": -3}, "l": [1, 2.5, False, None], "u_unencrypted": {"x": "seen"}})
DOTENV = "# a comment\nUSER=anna\nPASSWORD=a=b=c\nTEXT=two\\nlines\n"
BINARY = bytes(range(256)) * 3
FILES: dict[str, tuple[str, bytes]] = {
    "yaml": ("a.yaml", YAML.encode()),
    "json": ("a.json", JSON.encode()),
    "dotenv": ("a.env", DOTENV.encode()),
    "binary": ("a.p12", BINARY),
}


@pytest.fixture
def identity() -> Any:
    return pyrage.x25519.Identity.generate()


def sops(identity: Any, *arguments: str | Path, cwd: Path) -> bytes:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "SOPS_AGE_KEY": str(identity)}
    done = subprocess.run([SOPS, *arguments], cwd=cwd, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def mine(identity: Any) -> identities.Identities:
    return identities.Identities((identity,), "the test")


def opened(data: bytes, form: str, identity: Any) -> dict[str, Any]:
    return document.decrypt(document.parse(data, form), mine(identity))


def clear(form: str) -> dict[str, Any]:
    data = FILES[form][1]
    return {"data": data.decode("utf-8", "surrogateescape")} if form == "binary" else document._plain(data, form)


@pytest.mark.parametrize("form", document.FORMATS)
@pytest.mark.parametrize("only_encrypted", ["false", "true"])
def test_what_sops_encrypts_is_read(form: str, only_encrypted: str, identity: Any, tmp_path: Path) -> None:
    name, data = FILES[form]
    (tmp_path / name).write_bytes(data)
    rule = f"{{age: {identity.to_public()}, mac_only_encrypted: {only_encrypted}}}"
    (tmp_path / ".sops.yaml").write_text(f"creation_rules: [{rule}]\n")
    encrypted = sops(identity, "encrypt", name, cwd=tmp_path)
    # Of a binary file sops doesn't take the rule over: all of it is encrypted anyway.
    assert (b"mac_only_encrypted" in encrypted) == (only_encrypted == "true" and form != "binary")
    assert opened(encrypted, form, identity) == clear(form)


@pytest.mark.parametrize("form", document.FORMATS)
def test_what_is_encrypted_here_sops_reads(form: str, identity: Any, tmp_path: Path) -> None:
    name, data = FILES[form]
    encrypted = document.encrypt(data, form, [str(identity.to_public())])
    (tmp_path / name).write_bytes(encrypted)
    found = sops(identity, "decrypt", name, cwd=tmp_path)
    if form == "binary":
        assert found == data
    else:
        assert document._plain(found, form) == clear(form)


@pytest.mark.parametrize(
    "options",
    [
        ("--unencrypted-suffix", "port"),
        ("--encrypted-suffix", "word"),
        ("--unencrypted-regex", "^(port|name)$"),
        ("--encrypted-regex", "^pass"),
    ],
    ids=lambda options: options[0],
)
def test_rules_on_keys_are_those_of_sops(options: tuple[str, str], identity: Any, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(YAML)
    encrypted = sops(identity, "encrypt", *options, "--age", str(identity.to_public()), "a.yaml", cwd=tmp_path)
    assert opened(encrypted, "yaml", identity) == clear("yaml")


@pytest.mark.parametrize("form", document.FORMATS)
def test_no_value_is_left_in_an_encrypted_file(form: str, identity: Any) -> None:
    encrypted = document.encrypt(FILES[form][1], form, [str(identity.to_public())])
    for value in (b"s3cret", b"anna", b"geheim", b"a=b=c", b"bert", BINARY[60:90]):
        assert value not in encrypted


def test_comments_of_a_yaml_file_stay(identity: Any) -> None:
    encrypted = document.encrypt(YAML.encode(), "yaml", [str(identity.to_public())]).decode()
    assert "# the database" in encrypted and "# rotated in spring" in encrypted


def test_a_file_opens_for_each_of_its_recipients_and_for_nobody_else(identity: Any) -> None:
    other = pyrage.x25519.Identity.generate()
    stranger = pyrage.x25519.Identity.generate()
    encrypted = document.encrypt(b"x", "binary", [str(identity.to_public()), str(other.to_public())])
    assert opened(encrypted, "binary", identity) == opened(encrypted, "binary", other) == {"data": "x"}
    with pytest.raises(identities.NoKey, match=str(identity.to_public())) as raised:
        opened(encrypted, "binary", stranger)
    assert "AGE-SECRET-KEY" not in str(raised.value)


def _tampered(identity: Any, change: Any) -> bytes:
    tree = json.loads(document.encrypt(JSON.encode(), "json", [str(identity.to_public())]))
    change(tree)
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["a"].update(b=tree["a"]["n"]),
        lambda tree: tree["a"].update(b="in clear"),
        lambda tree: tree["a"].pop("b"),
        lambda tree: tree["u_unencrypted"].update(x="changed"),
        lambda tree: tree["sops"].update(mac=""),
        lambda tree: tree["sops"].update(lastmodified="2020-01-01T00:00:00Z"),
        lambda tree: tree["l"].reverse(),
    ],
    ids=["moved", "in-clear", "removed", "unencrypted-changed", "no-code", "other-date", "order"],
)
def test_what_was_changed_without_sops_is_refused(change: Any, identity: Any) -> None:
    with pytest.raises(cipher.Broken) as raised:
        opened(_tampered(identity, change), "json", identity)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "form", "reason"),
    [
        (b"a: 1\n", "yaml", "is not encrypted"),
        (b"{", "json", "is no json file: line 1"),
        (b"[" * 100_000, "json", "nests too deep"),
        (b"a: 1\na: 2\n", "yaml", "line 2"),
        (b"- 1\n", "yaml", "no map at its top"),
        (b"NAME\n", "dotenv", "line 1 is no NAME=value"),
        (b'{"sops": {"pgp": [{"fp": "x"}]}}', "json", "is encrypted for pgp alone"),
        (b'{"sops": {"key_groups": [{"age": []}], "age": []}}', "json", "has key groups"),
        (b'{"sops": {"encrypted_comment_regex": "x"}}', "json", "uses encrypted_comment_regex"),
        (b'{"sops": {"age": "x"}}', "json", "broken list of age keys"),
    ],
)
def test_what_is_no_file_of_sops_is_refused_with_the_reason(data: bytes, form: str, reason: str) -> None:
    with pytest.raises(document.Unreadable, match=reason):
        document.parse(data, form)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("db.password", b"s3cret: with a colon"),
        ("db.port", b"5432"),
        ("db.on", b"true"),
        ("db.ratio", b"0.25"),
        ("users.1.name", b"bert"),
        ("db.text", b"two\nlines\n"),
    ],
)
def test_a_key_picks_one_value(key: str, value: bytes) -> None:
    assert document.pick(clear("yaml"), "yaml", key) == value


@pytest.mark.parametrize(
    ("key", "reason"),
    [("", "holds many values"), ("db", "no single value"), ("db.nothing", "no single value"), ("x.y", "no value at")],
)
def test_a_key_that_leads_to_no_single_value_is_refused(key: str, reason: str) -> None:
    with pytest.raises(document.Unreadable, match=reason):
        document.pick(clear("yaml"), "yaml", key)


def test_keys_are_found_where_sops_looks_for_them(tmp_path: Path, identity: Any) -> None:
    other = pyrage.x25519.Identity.generate()
    default = tmp_path / ".config" / "sops" / "age" / "keys.txt"
    default.parent.mkdir(parents=True)
    default.write_text(f"# created today\n{identity}\n")
    assert len(identities.read({"HOME": str(tmp_path)}).keys) == 1
    assert len(identities.read({"HOME": str(tmp_path), "SOPS_AGE_KEY": str(other)}).keys) == 2
    broken = identities.read({"HOME": "/nonexistent", "SOPS_AGE_KEY": "AGE-SECRET-KEY-1XX", "SOPS_AGE_KEY_FILE": "/no"})
    assert broken.keys == () and len(broken.trouble) == 2 and "1XX" not in repr(broken) + "".join(broken.trouble)
