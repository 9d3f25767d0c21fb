"""The stored bytes of a layer, from a file or from a server, hashed and kept while they are read.

A download that breaks leaves its `.part` file; the next begins with that file and asks the server for the rest. What
has to look outside (names, certificates, files) is done by `open_blob`, before the worker locks itself in.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import os
import re
import ssl
import stat
import time
import urllib.parse
from collections.abc import Callable
from typing import Protocol, TypeVar

from gitops import errors
from gitops.engine.images.unpack.job import FileSource, HttpSource, LayerJob

T = TypeVar("T")

_CHUNK = 256 << 10
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class FetchFailed(errors.Unavailable):
    """The server didn't give the blob this time. `status` is its answer, 0 for none; `retry_after_s` its advice."""

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class Source(Protocol):
    """Bytes in order."""

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes, b"" at the end."""
        ...


class Blob:
    """The stored bytes: `read` hashes them, counts them, and keeps new ones in the part file."""

    def __init__(self, source: Source, job: LayerJob, part: int | None, resumed: int) -> None:
        self._source = source
        self._job = job
        self._part = part
        self._digest = hashlib.sha256()
        self.resumed = resumed
        self.size = 0

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes, b"" at the end.

        Raises:
            FetchFailed: the server or the network.
            errors.Invalid: more bytes than there may be, or a file with fewer.
        """
        piece = self._source.read(min(limit, _CHUNK))
        if not piece:
            self._check_end()
            return b""
        start = self.size
        self.size += len(piece)
        if self._job.size is not None and self.size > self._job.size:
            raise errors.Invalid(f"the blob has more than the {self._job.size} bytes that its descriptor says")
        self._digest.update(piece)
        if self._part is not None and self.size > self.resumed:
            _write(self._part, piece[max(0, self.resumed - start) :])
        return piece

    def drain(self) -> None:
        """Refuse what follows the compressed data.

        Raises:
            errors.Invalid: there is something.
        """
        if self.read(1):
            raise errors.Invalid("the layer's compressed data is followed by something else")

    def digest(self) -> str:
        """Of what was read."""
        return f"sha256:{self._digest.hexdigest()}"

    def _check_end(self) -> None:
        wanted = self._job.size
        if wanted is None or self.size == wanted:
            return
        if isinstance(self._job.source, HttpSource):
            raise FetchFailed(f"{self._job.source.place}: the connection ended at {self.size} of {wanted} bytes")
        raise errors.Invalid(f"the blob has {self.size} bytes, its descriptor says {wanted}")


def open_blob(job: LayerJob) -> Blob:
    """Open the source and, where the blob is kept, its part file.

    Raises:
        FetchFailed: the server or the network.
        errors.NotFound: no such file or blob.
        errors.Denied: the server refused.
    """
    part = _open_part(job)
    source = job.source
    if isinstance(source, FileSource):
        if part is not None:
            os.ftruncate(part, 0)
        return Blob(_File(source), job, part, 0)
    resumed = os.fstat(part).st_size if part is not None else 0
    if part is not None and job.size is not None and resumed > job.size:
        os.ftruncate(part, 0)
        resumed = 0
    if part is not None and resumed and resumed == job.size:
        return Blob(_Part(part, resumed, None), job, part, resumed)
    remote = _Http(source, resumed, job.size)
    return Blob(_Part(part, resumed, remote) if part is not None else remote, job, part, resumed)


def _open_part(job: LayerJob) -> int | None:
    if job.part_path is None:
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(job.part_path, flags, 0o600)


class _File:
    def __init__(self, source: FileSource) -> None:
        try:
            self._descriptor = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise errors.NotFound(f"{source.path}: no such file") from error
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise errors.Invalid(f"{source.path} is not a regular file")
        self._offset = source.offset
        self._end = status.st_size if source.size is None else source.offset + source.size
        if self._end > status.st_size:
            raise errors.Invalid(f"{source.path} has {status.st_size} bytes; the layer would end at {self._end}")

    def read(self, limit: int) -> bytes:
        piece = os.pread(self._descriptor, max(0, min(limit, self._end - self._offset)), self._offset)
        self._offset += len(piece)
        return piece


class _Part:
    """The part file as far as it went, then the rest."""

    def __init__(self, descriptor: int, size: int, rest: Source | None) -> None:
        self._descriptor = descriptor
        self._size = size
        self._rest = rest
        self._offset = 0
        os.lseek(descriptor, size, os.SEEK_SET)

    def read(self, limit: int) -> bytes:
        if self._offset < self._size:
            piece = os.pread(self._descriptor, min(limit, self._size - self._offset), self._offset)
            self._offset += len(piece)
            return piece
        return self._rest.read(limit) if self._rest is not None else b""


class _Http:
    """A GET from `start` on. Every read is one read of the socket, so that a slow server shows its progress."""

    def __init__(self, source: HttpSource, start: int, size: int | None) -> None:
        self._place = source.place
        self._start = start
        self._skip = 0
        self._is_done = False
        self._response = self._guarded(lambda: self._request(source))
        self._check(size)

    def read(self, limit: int) -> bytes:
        while self._skip and not self._is_done:
            piece = self._guarded(lambda: self._response.read1(min(self._skip, _CHUNK)))
            self._skip -= len(piece)
            self._is_done = not piece
        return b"" if self._is_done else self._guarded(lambda: self._response.read1(limit))

    def _request(self, source: HttpSource) -> http.client.HTTPResponse:
        url = urllib.parse.urlsplit(source.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise errors.Invalid(f"{self._place}: not an http or https URL")
        connection = _connection(url, source)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {"Accept-Encoding": "identity", **source.headers}
        if self._start:
            headers["Range"] = f"bytes={self._start}-"
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _check(self, size: int | None) -> None:
        status = self._response.status
        if status == 206 and self._start:
            self._check_range(size)
        elif status == 200:
            self._skip = self._start
        elif status == 416 and self._start and self._start == size:
            self._is_done = True
        else:
            self._refuse(status)

    def _check_range(self, size: int | None) -> None:
        match = _CONTENT_RANGE.fullmatch(self._response.getheader("Content-Range", ""))
        if match is None or int(match[1]) != self._start or (size and match[3] not in ("*", str(size))):
            raise FetchFailed(f"{self._place}: the server resumed at another place than asked", status=206)

    def _refuse(self, status: int) -> None:
        text = f"{self._place}: the server answered {status} {self._response.reason}"[:300]
        if status in (401, 403):
            raise errors.Denied(text)
        if status in (404, 410):
            raise errors.NotFound(text)
        if status in (408, 416, 425, 429) or status >= 500:
            raise FetchFailed(text, status=status, retry_after_s=self._retry_after())
        raise errors.RuntimeFailure(text)

    def _retry_after(self) -> float | None:
        value = self._response.getheader("Retry-After", "")
        if value.isascii() and value.isdigit():
            return float(value)
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        return None

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ssl.SSLCertVerificationError as error:
            raise errors.RuntimeFailure(f"{self._place}: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            text = str(error) or type(error).__name__
            raise FetchFailed(f"{self._place}: {text}") from error


def _connection(url: urllib.parse.SplitResult, source: HttpSource) -> http.client.HTTPConnection:
    host = url.hostname or ""
    try:
        if url.scheme == "http":
            return http.client.HTTPConnection(host, url.port, timeout=source.timeout_s)
        return http.client.HTTPSConnection(host, url.port, timeout=source.timeout_s, context=_context(source))
    except ValueError as error:
        raise errors.Invalid(f"{source.place}: {error}") from error


def _context(source: HttpSource) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Certificates that do for Docker do for us: the strictness that Python 3.13 brought asks for more.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if source.ca_file is not None:
        context.load_verify_locations(cafile=source.ca_file)
    if source.client_certificate is not None:
        context.load_cert_chain(source.client_certificate, source.client_key)
    if source.insecure_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
