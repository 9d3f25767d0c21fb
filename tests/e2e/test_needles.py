"""The search for secrets finds what it should, before it says that there is nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

VALUE = b"Zq/+ &%\xff" + os.urandom(8).hex().encode()
LYING_ABOUT = {
    "plain": VALUE,
    "URL": urllib.parse.quote(VALUE).replace("/", "%2F").encode(),
    "form": urllib.parse.urlencode({"password": VALUE}).encode(),
    "hex": VALUE.hex().encode(),
    **{f"base64 after {count}": base64.b64encode(b"a" * count + VALUE + b"b" * (5 - count)) for count in range(4)},
    "base64 of a URL": base64.urlsafe_b64encode(b"user:" + VALUE),
    **{f"{name}, hex": hashlib.new(name, VALUE).hexdigest()[:12].encode() for name in ("md5", "sha1", "sha256")},
    **{f"{name}, raw": hashlib.new(name, VALUE).digest() for name in ("md5", "sha1", "sha256")},
    **{f"{name}, base64": base64.b64encode(hashlib.new(name, VALUE).digest()) for name in ("md5", "sha1", "sha256")},
}
CHUNK = 1 << 20


def test_it_finds_each_form_in_files_across_the_pieces_that_are_read(needles: Any, tmp_path: Path) -> None:
    search = needles({"value": VALUE})
    for name, data in LYING_ABOUT.items():
        assert search.within(data), name
        (tmp_path / name).write_bytes(b"x" * (CHUNK - 5) + data + b"y")
    found = search.in_files(tmp_path)
    assert {line.partition(": ")[0] for line in found} == {str(tmp_path / name) for name in LYING_ABOUT}
    assert search.in_files(tmp_path, [tmp_path / name for name in LYING_ABOUT]) == []
    assert needles({"other": os.urandom(16)}).in_files(tmp_path) == []


def test_it_finds_arguments_and_environments_of_processes(needles: Any) -> None:
    value = os.urandom(12).hex()
    search, known = needles({"value": value.encode()}), set()
    assert search.in_processes() == []
    for arguments, more in (([value], {}), ([], {"VALUE": value})):
        program = [sys.executable, "-c", "print(flush=True); input()", *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(program, env={**os.environ, **more}, stdin=pipe, stdout=pipe) as process:
            assert process.stdout is not None and process.stdout.readline()
            found = search.in_processes(known=known)
            assert {line.partition(":")[0] for line in found} == {
                f"process {process.pid}, {'environ' if more else 'cmdline'}"
            }
            assert search.in_processes(known=known) == []
            assert bool(search.in_processes(["VALUE"])) != bool(more)
            process.communicate(b"\n")
