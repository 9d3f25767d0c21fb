"""The child process that renders templates; run as a file, and importing nothing of ours.

Templates are code of whoever writes the repository. Jinja2's immutable sandbox keeps them from Python's internals; this
process bounds what is left: memory, processor time, output, and what a hole in the sandbox would find (no environment,
no open files, no working directory). It speaks JSON with a length before it: first the values, then one request a
template.
"""

from __future__ import annotations

import codecs
import json
import resource
import struct
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from jinja2 import Environment

HEADER = struct.Struct(">I")
MEMORY_BYTES = 384 << 20
CPU_S = 3
"""Of processor time for one template."""
OUTPUT_CHARACTERS = 4 << 20
_NAME = "<template>"
SPELLED = "\0spelled"
"""The key under which a number travels with the text that it was written as."""


class _Int(int):
    text = ""

    def __str__(self) -> str:
        return self.text


class _Float(float):
    text = ""

    def __str__(self) -> str:
        return self.text


def _decode(item: dict[str, Any]) -> Any:
    if SPELLED not in item:
        return item
    value, text = item[SPELLED]
    number = _Int(value) if isinstance(value, int) else _Float(value)
    number.text = text
    return number


def _read(stream: BinaryIO) -> Any:
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    return json.loads(stream.read(*HEADER.unpack(head)), object_hook=_decode)


def _write(stream: BinaryIO, value: Any) -> None:
    data = json.dumps(value).encode()
    stream.write(HEADER.pack(len(data)) + data)
    stream.flush()


def _render(environment: Environment, source: str, values: dict[str, Any]) -> dict[str, Any]:
    from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

    try:
        pieces: list[str] = []
        size = 0
        for piece in environment.from_string(source).generate(values):
            size += len(piece)
            if size > OUTPUT_CHARACTERS:
                return {"reason": f"the result has more than {OUTPUT_CHARACTERS} characters", "line": 1}
            pieces.append(piece)
        return {"text": "".join(pieces)}
    except TemplateSyntaxError as error:
        return {"reason": error.message or "bad syntax", "line": error.lineno}
    except TemplateNotFound:
        return {"reason": "a template can't include or import another file", "line": 1}
    except MemoryError:
        return {"reason": f"needs more than {MEMORY_BYTES >> 20} MiB of memory", "line": 1}
    except RecursionError:
        return {"reason": "nests too deep", "line": 1}
    except TemplateError as error:
        return {"reason": str(error), "line": _line(error)}
    except Exception as error:  # whatever an expression of a template can raise
        return {"reason": f"{type(error).__name__}: {error}"[:500], "line": _line(error)}


def _line(error: BaseException) -> int:
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _limit_time() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_S + 1, resource.RLIM_INFINITY))


def _warm_up(environment: Environment) -> None:
    """Load what Jinja2 and Python would load on demand: afterwards no file can be opened."""
    import pprint
    import textwrap

    assert pprint and textwrap
    for codec in ("ascii", "utf-8", "latin-1", "unicode_escape", "raw_unicode_escape"):
        codecs.lookup(codec)
    _render(environment, "{{ 'a\\n' ~ {'a': 1.5}|pprint ~ 'b'|wordwrap(3) ~ [1]|tojson }}{{ missing }}", {})


def main() -> None:
    """Serve until the parent closes."""
    from jinja2 import StrictUndefined  # here, since the parent wants our bounds only
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    _warm_up(environment)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    values = _read(source)
    while (request := _read(source)) is not None:
        _limit_time()
        _write(sink, _render(environment, request["source"], values))


if __name__ == "__main__":
    main()
