"""The commands on encrypted files of secrets: check and encrypt."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from gitops import errors
from gitops.cli import common


@click.group()
def secret() -> None:
    """Files of secrets, encrypted with SOPS for age keys."""


@secret.command()
@common.path_argument
@common.values
def check(path: Path, env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> int:
    """Say of each encrypted file that the manifests of PATH read who can open it, and whether you can.

    Exit code 1 if there is one that you can't.
    """
    from gitops import manifests
    from gitops.cli import output
    from gitops.manifests.sops import identities

    options = common.load_options(env, sets, allowed, key=b"check")
    found = manifests.load(common.existing(path), options).encrypted
    mine = identities.read()
    rows: list[tuple[str, ...]] = [("KIND", "NAME", "FILE", "OPENS", "RECIPIENTS")]
    missing = []
    for item in sorted(found, key=lambda item: (item.file, item.kind, item.stack, item.name)):
        try:
            identities.open_key(item.sealed, mine)
            opens = "yes"
        except identities.NoKey as error:
            missing.append(f"{item.file}: {error}")
            opens = "no"
        name = f"{item.stack}/{item.name}" if item.stack else item.name
        rows.append((item.kind, name, item.file, opens, ", ".join(item.sealed)))
    click.echo(output.table(rows) if found else f"{path}: no secret and no config comes from an encrypted file.")
    if missing:
        raise errors.Invalid("; ".join(dict.fromkeys(missing)))
    if found:
        # That the values themselves are whole shows when they are decrypted.
        manifests.load(path, replace(options, opens_sops=True))
    return 0


@secret.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--age", "recipients", multiple=True, required=True, metavar="KEY", help="For whom: age1… or an SSH key.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to; standard output if not given.")
@click.option("--format", "form", type=click.Choice(["yaml", "json", "dotenv", "binary"]), help="Else by the name.")
def encrypt(file: Path, recipients: tuple[str, ...], output: Path | None, form: str | None) -> None:
    """Encrypt FILE for age keys, as `sops encrypt` does, so that it can be kept in git."""
    from gitops.manifests.sops import document

    try:
        data = document.encrypt(file.read_bytes(), form or document.form_of(file.name), recipients)
    except document.Unreadable as error:
        raise errors.Invalid(f"{file} {error.reason}" + (f": {error.hint}" if error.hint else "")) from error
    except (ValueError, OSError) as error:
        raise errors.Invalid(f"{file}: {error}") from error
    if output is None:
        sys.stdout.buffer.write(data)
        return
    _replace(output, data)
    click.echo(f"{output}: encrypted for {', '.join(recipients)}; {file} is as it was: keep it out of git.", err=True)


def _replace(path: Path, data: bytes) -> None:
    """All of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise errors.Invalid(f"{path} can't be written: {error.strerror}") from error
