"""The commands that talk to no engine: validate and render."""

from __future__ import annotations

from pathlib import Path

import click

from gitops import errors
from gitops.cli import common


@click.command()
@common.path_argument
@common.values
def validate(path: Path, env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> None:
    """Check the manifests of PATH and report every problem at once. Talks to no engine."""
    from gitops.manifests import verdicts

    found = verdicts.check(path, common.load_options(env, sets, allowed, key=b"validate", only_checks=True))
    common.tell_warnings(found.warnings)
    if not found.objects and not found.externals:
        raise errors.Invalid(
            f"no manifests in {path}: files end in .yaml, .yml or .j2 and begin with apiVersion: gitops/v1"
        )
    kinds = ("Image", "Network", "Volume", "Secret", "Config", "Service")
    counts = [f"{found.objects[kind]} {kind}" for kind in kinds if found.objects.get(kind)]
    click.echo(f"{path} is valid: {', '.join(counts)}")


@click.command()
@common.path_argument
@common.values
def render(path: Path, env: str, sets: tuple[str, ...], allowed: tuple[Path, ...]) -> None:
    """Print the manifests of PATH as they are after their templates are rendered, and Compose files as manifests."""
    from gitops import manifests

    rendered = manifests.rendered(common.existing(path), common.load_options(env, sets, allowed, key=b"render"))
    common.tell_warnings(rendered.warnings)
    for name, text in rendered.texts.items():
        body = text.removeprefix("---\n").rstrip("\n")
        click.echo(f"---\n# {name}\n{body}")
