"""Calls on images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from gitops import errors
from gitops.client import answers
from gitops.client.transport import Filters, Transport, filters_of, path_of
from gitops.objects.image import (
    AuthConfig,
    DistributionInspect,
    HistoryItem,
    ImageDelete,
    ImageInspect,
    ImageSummary,
    Progress,
)

Report = Callable[[Progress], None]
_BLOCK = 2**20
_LOADED = ("Loaded image: ", "Loaded image ID: ")


class ImageCalls:
    """Images of the engine, and what registries hold."""

    _transport: Transport

    async def images(self, filters: Filters | None = None, *, all: bool = False) -> list[ImageSummary]:
        """Images, newest first."""
        query = {"filters": filters_of(filters), "all": all}
        return await self._transport.call("GET", "/images/json", list[ImageSummary], query=query)

    async def image(self, name: str) -> ImageInspect:
        """An image by name, id or unique prefix of one."""
        return await self._transport.call("GET", path_of("images", name, "json"), ImageInspect)

    async def image_history(self, name: str) -> list[HistoryItem]:
        """How an image came to be, newest step first."""
        return await self._transport.call("GET", path_of("images", name, "history"), list[HistoryItem])

    async def pull_image(
        self,
        reference: str,
        *,
        auth: AuthConfig | None = None,
        platform: str | None = None,
        progress: Report | None = None,
    ) -> None:
        """Fetch an image: `reference` has a tag or a digest (none means the tag latest).

        Raises:
            errors.NotFound: no such image, or it needs a login. errors.RuntimeFailure: the pull broke off.
        """
        name, tag = split_reference(reference)
        query = {"fromImage": name, "tag": tag, "platform": platform}
        await self._report(self._transport.lines("POST", "/images/create", query=query, auth=auth), progress)

    async def load_image(self, source: Path | IO[bytes], *, progress: Report | None = None) -> list[str]:
        """Take the images of an archive; their names, or ids where they have none."""
        if isinstance(source, Path):
            with source.open("rb") as file:
                return await self.load_image(file, progress=progress)
        names: list[str] = []

        def note(line: Progress) -> None:
            for prefix in _LOADED:
                if line.stream.startswith(prefix):
                    names.append(line.stream.removeprefix(prefix).strip())
            if progress is not None:
                progress(line)

        lines = self._transport.lines("POST", "/images/load", query={"quiet": progress is None}, data=_blocks(source))
        await self._report(lines, note)
        return names

    async def push_image(
        self, reference: str, *, auth: AuthConfig | None = None, progress: Report | None = None
    ) -> str:
        """Send an image to the registry of its name, which has a tag; the digest that it has there.

        Raises:
            errors.NotFound: no such image. errors.RuntimeFailure: the push broke off, or the registry refused it.
        """
        name, tag = split_reference(reference)
        found: list[str] = []

        def note(line: Progress) -> None:
            if line.aux and line.aux.get("Digest"):
                found.append(str(line.aux["Digest"]))
            if progress is not None:
                progress(line)

        path = path_of("images", name, "push")
        # Docker wants the header in any case, and `{}` for nobody's credentials.
        lines = self._transport.lines("POST", path, query={"tag": tag}, auth=auth or AuthConfig())
        await self._report(lines, note)
        if not found:
            raise errors.RuntimeFailure(f"the push of {reference} ended without a digest")
        return found[-1]

    async def tag_image(self, name: str, new_reference: str) -> None:
        """Give an image one more name."""
        repository, tag = split_reference(new_reference)
        await self._transport.act("POST", path_of("images", name, "tag"), query={"repo": repository, "tag": tag})

    async def remove_image(self, name: str, *, force: bool = False) -> list[ImageDelete]:
        """Untag, and delete with the last name."""
        path = path_of("images", name)
        return await self._transport.call("DELETE", path, list[ImageDelete], query={"force": force})

    async def distribution(self, reference: str, *, auth: AuthConfig | None = None) -> DistributionInspect:
        """What the registry holds under a name."""
        path = path_of("distribution", reference, "json")
        return await self._transport.call("GET", path, DistributionInspect, auth=auth)

    async def _report(self, lines: AsyncIterator[bytes], progress: Report | None) -> None:
        async for line in lines:
            item = answers.decode(line, Progress)
            if item.error or item.error_detail:
                raise errors.RuntimeFailure(item.error or (item.error_detail.message if item.error_detail else ""))
            if progress is not None:
                progress(item)


def split_reference(reference: str) -> tuple[str, str]:
    """Name and tag (or digest) of a reference, as the API wants them apart; the tag `latest` where there is none."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    name, separator, tag = reference.rpartition(":")
    if separator and "/" not in tag:
        return name, tag
    return reference, "latest"


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
