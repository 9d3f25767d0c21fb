"""Images of one engine, with the flags and the output of the docker CLI."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops.cli import common, tables

if TYPE_CHECKING:
    from gitops.client import EngineClient
    from gitops.objects.image import ImageSummary, Progress

_TITLES = {"repository": "REPOSITORY", "tag": "TAG", "id": "IMAGE ID", "created": "CREATED", "size": "SIZE"}
_NONE = "<none>"


@click.command()
@common.host_option
@click.option("-a", "--all", is_flag=True, help="As without: there are no images in between.")
@tables.options
@click.argument("repository", required=False)
def images(
    host: str | None,
    all: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    quiet: bool,
    form: str,
    repository: str | None,
) -> None:
    """List images."""
    wanted = tables.parse_filters(filters)
    if repository:
        wanted.setdefault("reference", []).append(repository)
    found = common.with_client(host, lambda client: client.images(wanted, all=all))
    rows = [row for item in found for row in _rows(item, no_trunc)]
    tables.show(rows, _TITLES, form=form, quiet="id" if quiet else "")


def _rows(item: ImageSummary, no_trunc: bool) -> Iterator[dict[str, str]]:
    from gitops.objects import spans

    names = (
        item.repo_tags or [f"{name.partition('@')[0]}:{_NONE}" for name in item.repo_digests] or [f"{_NONE}:{_NONE}"]
    )
    for name in names:
        repository, _, tag = name.rpartition(":")
        yield {
            "repository": repository,
            "tag": tag,
            "id": item.id if no_trunc else tables.short(item.id),
            "created": tables.ago(item.created) if item.created else "N/A",
            "size": spans.size(item.size),
        }


@click.command()
@common.host_option
@click.option("-q", "--quiet", is_flag=True, help="Print the name alone.")
@click.option("--platform", metavar="OS/ARCHITECTURE", help="For another platform than the engine's.")
@click.argument("name")
def pull(host: str | None, quiet: bool, platform: str | None, name: str) -> None:
    """Fetch an image from its registry."""
    common.with_client(host, lambda client: pulled(client, name, is_quiet=quiet, platform=platform))
    if quiet:
        click.echo(_full(name))


async def pulled(
    client: EngineClient, name: str, *, is_quiet: bool, platform: str | None = None, to_errors: bool = False
) -> None:
    """Fetch an image with the credentials that are on file, and tell its progress."""
    from gitops.oci import reference
    from gitops.reconciler import credentials

    wanted = reference.parse(name).with_default_tag()
    auth = await asyncio.to_thread(credentials.for_image, name)
    view = None if is_quiet else Told(to_errors)
    await client.pull_image(wanted.familiar(), auth=auth, platform=platform, progress=view)


@click.command()
@common.host_option
@click.argument("name")
def push(host: str | None, name: str) -> None:
    """Send an image to its registry."""
    from gitops.reconciler import credentials

    auth = credentials.for_image(name)
    common.with_client(host, lambda client: client.push_image(_full(name), auth=auth, progress=Told()))


def _full(name: str) -> str:
    from gitops.oci import reference

    return reference.parse(name).with_default_tag().familiar()


class Told:
    """The lines of a pull or push as they come; of counted bytes only the beginning and the end."""

    def __init__(self, to_errors: bool = False) -> None:
        self._to_errors = to_errors
        self._last: dict[str, str] = {}

    def __call__(self, line: Progress) -> None:
        text = line.stream.rstrip("\n") or line.status
        if not text or self._last.get(line.id or text) == text:
            return
        self._last[line.id or text] = text
        click.echo(f"{line.id}: {text}" if line.id else text, err=self._to_errors)


@click.command()
@common.host_option
@click.option("-f", "--force", is_flag=True, help="Also where stopped containers have it.")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def rmi(host: str | None, force: bool, names: tuple[str, ...]) -> None:
    """Remove images, or names of them."""

    async def one(client: EngineClient, name: str) -> list[str]:
        gone = await client.remove_image(name, force=force)
        return [f"Untagged: {line.untagged}" if line.untagged else f"Deleted: {line.deleted}" for line in gone]

    tables.each(host, names, one)


@click.command()
@common.host_option
@click.argument("name")
@click.argument("new_name")
def tag(host: str | None, name: str, new_name: str) -> None:
    """Give an image one more name."""
    common.with_client(host, lambda client: client.tag_image(name, new_name))


@click.command()
@common.host_option
@click.option("-i", "--input", "path", type=click.Path(path_type=Path), help="The archive, else standard input.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def load(host: str | None, path: Path | None, quiet: bool) -> None:
    """Take the images of an archive."""
    source = common.existing(path) if path else sys.stdin.buffer
    names = common.with_client(host, lambda client: client.load_image(source, progress=None))
    if not quiet:
        click.echo("\n".join(f"Loaded image: {name}" for name in names))


@click.command()
@common.host_option
@click.option("--no-trunc", is_flag=True, help="Show everything in full.")
@click.argument("name")
def history(host: str | None, no_trunc: bool, name: str) -> None:
    """Show how an image came to be, newest step first."""
    from gitops.objects import spans

    found = common.with_client(host, lambda client: client.image_history(name))
    titles = {"id": "IMAGE", "created": "CREATED", "by": "CREATED BY", "size": "SIZE", "comment": "COMMENT"}
    rows = [
        {
            "id": tables.short(item.id, no_trunc),
            "created": tables.ago(item.created) if item.created else "N/A",
            "by": tables.cut(item.created_by, 45, no_trunc),
            "size": spans.size(item.size),
            "comment": item.comment,
        }
        for item in found
    ]
    tables.show(rows, titles, form="table")


@click.group()
def image() -> None:
    """Images; most of its commands are there without `image` too."""


for _command in (pull, push, tag, load, history):
    image.add_command(_command)
image.add_command(images, "ls")
image.add_command(rmi, "rm")
