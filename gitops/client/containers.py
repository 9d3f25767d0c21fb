"""Calls on containers of one engine, and the frames of their logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gitops import errors
from gitops.client import answers
from gitops.client.streams import RawStream
from gitops.client.transport import Filters, Transport, filters_of, path_of
from gitops.objects.container import ContainerCreate, ContainerInspect, ContainerSummary
from gitops.objects.execution import ExecCreate, ExecInspect, ExecStart

_HEADER_SIZE = 8
_STREAMS: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}
_SYSTEM_ERROR = 3


@dataclass(frozen=True, slots=True)
class LogFrame:
    """A piece of output, mostly a line, with its newline."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class Top(msgspec.Struct, frozen=True, rename="pascal"):
    """The processes of a container: a line each, under titles."""

    titles: list[str]
    processes: list[list[str]] | None = None


class _Exit(msgspec.Struct, frozen=True, rename="pascal"):
    status_code: int = 0
    error: dict[str, Any] | None = None


class _Created(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = ""
    warnings: list[str] | None = None


class ContainerCalls:
    """Containers by id, name or unique prefix of an id."""

    _transport: Transport

    async def containers(
        self, filters: Filters | None = None, *, all: bool = False, limit: int | None = None
    ) -> list[ContainerSummary]:
        """Running containers, or all, newest first."""
        query = {"filters": filters_of(filters), "all": all, "limit": limit}
        return await self._transport.call("GET", "/containers/json", list[ContainerSummary], query=query)

    async def container(self, container: str) -> ContainerInspect:
        """A container in full."""
        return await self._transport.call("GET", path_of("containers", container, "json"), ContainerInspect)

    async def create_container(self, body: ContainerCreate, *, name: str | None = None) -> str:
        """Make a container; its id."""
        answer = await self._transport.call("POST", "/containers/create", _Created, query={"name": name}, body=body)
        return answer.id

    async def start_container(self, container: str) -> None:
        """Start it; nothing happens where it runs."""
        await self._transport.act("POST", path_of("containers", container, "start"))

    async def stop_container(self, container: str, *, timeout_s: int | None = None) -> None:
        """Stop it; nothing happens where it doesn't run."""
        await self._transport.act(
            "POST", path_of("containers", container, "stop"), query={"t": timeout_s}, is_long=True
        )

    async def restart_container(self, container: str, *, timeout_s: int | None = None) -> None:
        """Stop it, and start it again."""
        await self._post(container, "restart", {"t": timeout_s})

    async def kill_container(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        await self._post(container, "kill", {"signal": signal})

    async def pause_container(self, container: str) -> None:
        """Freeze its processes."""
        await self._post(container, "pause")

    async def unpause_container(self, container: str) -> None:
        """Let them run again."""
        await self._post(container, "unpause")

    async def rename_container(self, container: str, name: str) -> None:
        """Give it another name."""
        await self._post(container, "rename", {"name": name})

    async def resize_container(self, container: str, height: int, width: int) -> None:
        """Give its terminal another size, in characters."""
        await self._post(container, "resize", {"h": height, "w": width})

    async def _post(self, container: str, action: str, query: Mapping[str, Any] | None = None) -> None:
        await self._transport.act("POST", path_of("containers", container, action), query=query, is_long=True)

    async def container_top(self, container: str, columns: str = "") -> Top:
        """Its processes, in the columns of ps."""
        path = path_of("containers", container, "top")
        return await self._transport.call("GET", path, Top, query={"ps_args": columns or None})

    def attach(self, container: str, *, stdin: bool, detach_keys: str = "") -> AbstractAsyncContextManager[RawStream]:
        """Its streams, from now on; where it doesn't run, those of its next run."""
        query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": detach_keys or None}
        return self._transport.hijack("POST", path_of("containers", container, "attach"), query=query)

    async def create_exec(self, container: str, body: ExecCreate) -> str:
        """Make ready what is to run in a container; its id."""
        path = path_of("containers", container, "exec")
        return (await self._transport.call("POST", path, _Created, body=body)).id

    async def start_exec(self, exec_id: str) -> None:
        """Run it without its streams."""
        await self._transport.act("POST", path_of("exec", exec_id, "start"), body=ExecStart(detach=True))

    def run_exec(self, exec_id: str, *, tty: bool) -> AbstractAsyncContextManager[RawStream]:
        """Run it with its streams."""
        return self._transport.hijack("POST", path_of("exec", exec_id, "start"), body=ExecStart(tty=tty))

    async def exec_exit_code(self, exec_id: str) -> int:
        """Of one that has ended."""
        found = await self._transport.call("GET", path_of("exec", exec_id, "json"), ExecInspect)
        return found.exit_code or 0

    async def resize_exec(self, exec_id: str, height: int, width: int) -> None:
        """Give its terminal another size, in characters."""
        await self._transport.act("POST", path_of("exec", exec_id, "resize"), query={"h": height, "w": width})

    async def wait_container(
        self, container: str, *, condition: Literal["not-running", "next-exit", "removed"] = "not-running"
    ) -> int:
        """Its exit code, when `condition` holds."""
        path = path_of("containers", container, "wait")
        chunks = [part async for part in self._transport.chunks("POST", path, query={"condition": condition})]
        answer = answers.decode(b"".join(chunks), _Exit)
        if answer.error and answer.error.get("Message"):
            raise errors.RuntimeFailure(str(answer.error["Message"]))
        return answer.status_code

    async def remove_container(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Take it away; `force` kills it first, `volumes` takes its anonymous volumes too."""
        query = {"force": force, "v": volumes}
        await self._transport.act("DELETE", path_of("containers", container), query=query, is_long=True)

    async def container_logs(
        self,
        container: str,
        *,
        follow: bool = False,
        timestamps: bool = False,
        tail: int | None = None,
        since: str | None = None,
    ) -> AsyncIterator[LogFrame]:
        """Its output, oldest first; with a terminal all of it is stdout."""
        is_terminal = (await self.container(container)).config.tty
        path = path_of("containers", container, "logs")
        async for frame in self._logs(path, is_terminal, follow=follow, timestamps=timestamps, tail=tail, since=since):
            yield frame

    async def _logs(
        self, path: str, is_terminal: bool, *, follow: bool, timestamps: bool, tail: int | None, since: str | None
    ) -> AsyncIterator[LogFrame]:
        query = {
            "stdout": True,
            "stderr": True,
            "follow": follow,
            "timestamps": timestamps,
            "tail": "all" if tail is None else tail,
            "since": since,
        }
        chunks = self._transport.chunks("GET", path, query=query)
        if is_terminal:
            async for chunk in chunks:
                yield LogFrame("stdout", chunk)
            return
        async for frame in frames(chunks):
            yield frame


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[LogFrame]:
    """Take a multiplexed stream apart: 8 bytes of header (stream, length), then the payload.

    Raises:
        errors.RuntimeFailure: the engine reports an error inside the stream.
    """
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        while len(pending) >= _HEADER_SIZE:
            end = _HEADER_SIZE + int.from_bytes(pending[4:8], "big")
            if len(pending) < end:
                break
            kind, payload = pending[0], bytes(pending[_HEADER_SIZE:end])
            del pending[:end]
            if kind == _SYSTEM_ERROR:
                raise errors.RuntimeFailure(payload.decode("utf-8", "replace").strip())
            yield LogFrame(_STREAMS.get(kind, "stdout"), payload)
