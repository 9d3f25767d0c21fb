"""The parent's side of rendering: one child for all templates of a load, a new one where it died."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gitops.manifests.templating import worker
from gitops.manifests.text.scalars import SpelledFloat, SpelledInt

_WALL_S = 15.0
"""Time for one template, start of the child included; a template that only computes hits its processor time first."""
_MAX_ANSWER = 32 << 20
_MAX_DEATHS = 3
_HEADER = struct.Struct(">I")


class TemplateProblem(Exception):
    """A template can't be rendered; line from 1."""

    def __init__(self, line: int, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.line, self.reason, self.hint = line, reason, hint


class Renderer:
    """Renders templates over one set of values. A context manager; the child starts with the first template."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._child: subprocess.Popen[bytes] | None = None
        self._deaths = 0

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def render(self, source: str) -> str:
        """The text of a template.

        Raises:
            TemplateProblem: it is wrong, or needs too much.
        """
        if self._deaths >= _MAX_DEATHS:
            raise TemplateProblem(1, "not rendered: other templates used up the time", "mend those first")
        deadline = time.monotonic() + _WALL_S
        try:
            child = self._child or self._start()
            _send(child, {"source": source})
            answer = json.loads(_receive(child, deadline))
        except (OSError, EOFError, ValueError) as error:
            raise self._died(isinstance(error, TimeoutError)) from error
        if "text" in answer:
            return str(answer["text"])
        reason, hint = _reworded(str(answer["reason"]))
        raise TemplateProblem(int(answer["line"]), reason, hint)

    def _start(self) -> subprocess.Popen[bytes]:
        # As a file and isolated: the child sees neither our modules nor our environment.
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(Path(worker.__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        )
        _send(self._child, _encode(self._values))
        return self._child

    def _died(self, is_timeout: bool) -> TemplateProblem:
        self._deaths += 1
        status = self._stop()
        if is_timeout:
            return TemplateProblem(1, f"takes more than {_WALL_S:.0f} s to render")
        if status == -signal.SIGXCPU:
            return TemplateProblem(1, f"takes more than {worker.CPU_S} s of processor time to render")
        return TemplateProblem(1, f"ended its renderer (status {status})", "it probably needs too much memory")

    def _stop(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        for stream in (child.stdin, child.stdout):
            try:
                if stream:
                    stream.close()
            except BrokenPipeError:
                continue  # the child is gone; its status says why
        try:
            return child.wait(0.5)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def _send(child: subprocess.Popen[bytes], value: Any) -> None:
    assert child.stdin is not None
    data = json.dumps(value).encode()
    child.stdin.write(_HEADER.pack(len(data)) + data)
    child.stdin.flush()


def _receive(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    (size,) = _HEADER.unpack(_read(child, _HEADER.size, deadline))
    if size > _MAX_ANSWER:
        raise ValueError("the answer is too long")
    return _read(child, size, deadline)


def _read(child: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        chunk = os.read(descriptor, size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def _encode(value: Any) -> Any:
    """Values as JSON, numbers with the text that they were written as."""
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, SpelledInt):
        return {worker.SPELLED: [int(value), value.text]}
    if isinstance(value, SpelledFloat):
        return {worker.SPELLED: [float(value), value.text]}
    return value


def _reworded(reason: str) -> tuple[str, str]:
    if reason.endswith("is undefined") or "has no attribute" in reason:
        return reason, "set it in values.yaml, or by --set"
    return reason, ""
