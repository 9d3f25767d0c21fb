"""Layers from a server: resumed, refused, cut off; and what becomes of workers, zygote and daemon that die."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import hashlib
import ipaddress
import os
import random
import select
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gitops import errors
from gitops.engine.images import unpack

pytestmark = pytest.mark.e2e


@dataclass
class Server:
    """Serves one blob as it is told to."""

    data: bytes = b""
    url: str = ""
    status: int = 0
    answer: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    ranges: bool = True
    hold: threading.Event | None = None
    asked: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        told: Server = self.server.told
        told.asked.append(dict(self.headers))
        start, status = 0, 200
        asked = self.headers.get("Range")
        if told.ranges and asked:
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
        if told.status:
            self.send_response(told.status)
            for name, value in told.answer.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(told.data) - 1}/{len(told.data)}")
        self.send_header("Content-Length", str(len(told.data) - start))
        self.end_headers()
        self.wfile.write(told.data[start : told.cut_at])
        if told.hold is not None:
            self.wfile.flush()
            told.hold.wait(30)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        return


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@pytest.fixture
def httpd() -> Iterator[ThreadingHTTPServer]:
    with QuietServer(("127.0.0.1", 0), Handler) as made:
        yield made


@pytest.fixture
def server(httpd: ThreadingHTTPServer) -> Iterator[Server]:
    told = Server(url=f"http://127.0.0.1:{httpd.server_port}/v2/blob?signature=secret")
    httpd.told = told  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield told
    if told.hold is not None:
        told.hold.set()
    httpd.shutdown()
    thread.join()


@pytest.fixture
def fetch(lab: Any, server: Server, entry: Callable[..., Any], layer: Callable[..., bytes]) -> Callable[..., Any]:
    """Makes jobs for a layer of 2 MB that the server has."""
    tar = layer(entry("f", random.Random(7).randbytes(2 << 20)), entry("d/g", b"x"))
    server.data = gzip.compress(tar, 1)

    def make(**changes: Any) -> unpack.LayerJob:
        fields: dict[str, Any] = {
            "source": unpack.HttpSource(server.url, {"Authorization": "Bearer secret"}, timeout_s=10),
            "target": lab.fresh(),
            "digest": f"sha256:{hashlib.sha256(server.data).hexdigest()}",
            "size": len(server.data),
            "diff_id": f"sha256:{hashlib.sha256(tar).hexdigest()}",
            "blob_path": lab.folder / "blob",
            **changes,
        }
        return unpack.LayerJob(**fields)

    return make


def part(job: unpack.LayerJob) -> Path:
    assert job.part_path is not None
    return job.part_path


async def test_a_blob_is_fetched_verified_kept_and_unpacked(lab: Any, server: Server, fetch: Any) -> None:
    seen: list[unpack.LayerProgress] = []
    job = fetch()
    result = await lab.unpacker.unpack(job, seen.append)
    assert (job.target / "f").stat().st_size == 2 << 20
    assert job.blob_path.read_bytes() == server.data
    assert not part(job).exists()
    assert result.size == len(server.data) == seen[-1].blob_bytes
    assert [one.blob_bytes for one in seen] == sorted(one.blob_bytes for one in seen)
    assert server.asked[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("ranges", [True, False], ids=["the server knows ranges", "the server sends all again"])
async def test_a_broken_download_is_resumed(lab: Any, server: Server, fetch: Any, ranges: bool) -> None:
    server.cut_at, server.ranges = 1_000_000, ranges
    job = fetch()
    with pytest.raises(unpack.FetchFailed, match=r"ended at 1000000 of \d+ bytes") as caught:
        await lab.unpacker.unpack(job, lambda _: None)
    assert caught.value.is_temporary
    assert part(job).stat().st_size == 1_000_000
    server.cut_at = None
    seen: list[unpack.LayerProgress] = []
    again = fetch()
    await lab.unpacker.unpack(again, seen.append)
    assert seen[-1].resumed_bytes == 1_000_000
    assert server.asked[1]["Range"] == "bytes=1000000-"
    assert again.blob_path.read_bytes() == server.data


async def test_a_whole_part_file_needs_no_server(lab: Any, server: Server, fetch: Any) -> None:
    job = fetch()
    part(job).write_bytes(server.data)
    await lab.unpacker.unpack(job, lambda _: None)
    assert server.asked == []


async def test_a_damaged_part_file_is_thrown_away(lab: Any, server: Server, fetch: Any) -> None:
    job = fetch()
    part(job).write_bytes(bytes(1000))
    with pytest.raises(errors.Invalid):
        await lab.unpacker.unpack(job, lambda _: None)
    assert not part(job).exists()
    await lab.unpacker.unpack(fetch(), lambda _: None)


async def test_a_part_file_that_is_too_long_is_started_over(lab: Any, server: Server, fetch: Any) -> None:
    job = fetch()
    part(job).write_bytes(server.data + b"more")
    await lab.unpacker.unpack(job, lambda _: None)
    assert job.blob_path.read_bytes() == server.data


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Denied),
        (403, errors.Denied),
        (404, errors.NotFound),
        (429, unpack.FetchFailed),
        (503, unpack.FetchFailed),
        (307, errors.RuntimeFailure),
        (400, errors.RuntimeFailure),
    ],
)
async def test_the_servers_answers_become_errors_without_secrets(
    lab: Any, server: Server, fetch: Any, status: int, kind: type[errors.GitopsError]
) -> None:
    server.status, server.answer = status, {"Retry-After": "7", "Location": server.url}
    with pytest.raises(kind, match=f"answered {status}") as caught:
        await lab.unpacker.unpack(fetch(), lambda _: None)
    assert "secret" not in str(caught.value)
    if isinstance(caught.value, unpack.FetchFailed):
        assert (caught.value.status, caught.value.retry_after_s) == (status, 7.0)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_certificates_are_verified_unless_the_operator_says_otherwise(
    lab: Any, server: Server, fetch: Any, httpd: ThreadingHTTPServer
) -> None:
    certificate, key = self_signed(lab.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(errors.RuntimeFailure, match="self-signed certificate"):
        await lab.unpacker.unpack(fetch(source=unpack.HttpSource(url)), lambda _: None)
    for source in (unpack.HttpSource(url, ca_file=certificate), unpack.HttpSource(url, insecure_tls=True)):
        job = fetch(source=source)
        await lab.unpacker.unpack(job, lambda _: None)
        assert job.blob_path.read_bytes() == server.data


async def test_no_server_is_temporary(lab: Any, fetch: Any) -> None:
    source = unpack.HttpSource("http://127.0.0.1:1/blob", timeout_s=5)
    with pytest.raises(unpack.FetchFailed, match="refused"):
        await lab.unpacker.unpack(fetch(source=source), lambda _: None)


async def test_a_silent_server_is_given_up(lab: Any, server: Server, fetch: Any) -> None:
    server.cut_at, server.hold = 500_000, threading.Event()
    with pytest.raises(unpack.FetchFailed, match="timed out"):
        await lab.unpacker.unpack(fetch(source=unpack.HttpSource(server.url, timeout_s=0.5)), lambda _: None)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


async def held(lab: Any, server: Server, job: unpack.LayerJob) -> tuple[asyncio.Task[Any], int]:
    """A job that waits for its server, and its worker's pid."""
    server.cut_at, server.hold = 500_000, threading.Event()
    started = asyncio.Event()
    task = asyncio.create_task(lab.unpacker.unpack(job, lambda _: started.set()))
    await started.wait()
    [worker] = children(lab.unpacker._pid)
    return task, worker


async def ended(handle: int) -> None:
    """Wait for the end of a process that is not our child."""
    await asyncio.to_thread(select.select, [handle], [], [])
    os.close(handle)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_cancelled_jobs_worker_is_dead_when_the_cancellation_returns(
    lab: Any, server: Server, fetch: Any
) -> None:
    task, worker = await held(lab, server, fetch())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(worker)
    server.hold.set()  # type: ignore[union-attr]
    server.cut_at = None
    await lab.unpacker.unpack(fetch(), lambda _: None)


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [(signal.SIGSEGV, errors.Invalid, "died by signal 11"), (signal.SIGKILL, errors.Unavailable, "was killed")],
)
async def test_a_worker_that_dies_is_a_layer_refused(
    lab: Any, server: Server, fetch: Any, number: int, kind: type[Exception], reason: str
) -> None:
    task, worker = await held(lab, server, fetch())
    os.kill(worker, number)
    with pytest.raises(kind, match=reason):
        await task
    assert children(lab.unpacker._pid) == []


async def test_a_zygote_that_dies_takes_its_workers_along_and_is_replaced(lab: Any, server: Server, fetch: Any) -> None:
    task, worker = await held(lab, server, fetch())
    handle = os.pidfd_open(worker)
    former = lab.unpacker._pid
    os.kill(former, signal.SIGKILL)
    with pytest.raises(errors.Unavailable, match="helper process has died"):
        await task
    await ended(handle)
    server.hold.set()  # type: ignore[union-attr]
    server.cut_at = None
    await lab.unpacker.unpack(fetch(), lambda _: None)
    assert lab.unpacker._pid != former
    assert children(lab.unpacker._pid) == []


DAEMON = """
import asyncio, os, sys
from pathlib import Path
from gitops.engine.images import unpack

unpacker = unpack.Unpacker()
unpacker.start()

async def main():
    def told(progress):
        print(unpacker._pid, flush=True)
    job = unpack.LayerJob(unpack.HttpSource(sys.argv[1]), Path(sys.argv[2]))
    await unpacker.unpack(job, told)

asyncio.run(main())
"""


async def test_when_the_daemon_is_killed_zygote_and_workers_end(lab: Any, server: Server, fetch: Any) -> None:
    server.cut_at, server.hold = 500_000, threading.Event()
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, server.url, str(lab.fresh())], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    zygote = int(await asyncio.to_thread(daemon.stdout.readline))
    handles = [os.pidfd_open(pid) for pid in (zygote, *children(zygote))]
    assert len(handles) == 2
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    for handle in handles:
        await ended(handle)


async def test_a_worker_is_locked_in_and_keeps_no_capability_that_it_does_not_need(
    lab: Any, server: Server, fetch: Any
) -> None:
    job = fetch()
    task, worker = await held(lab, server, job)
    status = Path(f"/proc/{worker}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    capabilities = int(fields["CapEff"], 16)
    # SYS_CHROOT, DAC_READ_SEARCH, SYS_PTRACE, NET_ADMIN, SYS_MODULE
    assert capabilities & (1 << 18 | 1 << 2 | 1 << 19 | 1 << 12 | 1 << 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert os.path.samefile(f"/proc/{worker}/root", job.target)
    links = [os.readlink(path) for path in Path(f"/proc/{worker}/fd").iterdir() if int(path.name) > 2]
    kept = [link for link in links if not link.startswith(f"{job.target}/")]  # the file that it writes may be open
    assert sorted(kind.partition(":")[0] for kind in kept) == sorted([str(part(job)), "socket", "socket", "pipe"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_layers_are_unpacked_at_once(lab: Any, server: Server, fetch: Any) -> None:
    jobs = [fetch(blob_path=lab.folder / f"blob-{number}") for number in range(6)]
    results = await asyncio.gather(*(lab.unpacker.unpack(job, lambda _: None) for job in jobs))
    assert len({result.diff_id for result in results}) == 1
    assert children(lab.unpacker._pid) == []


async def test_closing_ends_the_zygote(lab: Any, fetch: Any) -> None:
    pid = lab.unpacker._pid
    await lab.unpacker.close()
    await lab.unpacker.close()
    assert not is_alive(pid)
    with pytest.raises(errors.RuntimeFailure, match="not running"):
        await lab.unpacker.unpack(fetch(), lambda _: None)


async def test_a_job_that_is_cancelled_as_its_worker_ends_leaves_the_zygote_alive(
    lab: Any, layer: Any, entry: Any
) -> None:
    data = layer(entry("f", b"hello"))
    source = lab.folder / "layer"
    source.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    for number in range(400):
        target = lab.folder / f"target-{number}"
        target.mkdir()
        seen = asyncio.Event()
        job = unpack.LayerJob(unpack.FileSource(source), target, digest, diff_id=digest)
        task = asyncio.create_task(lab.unpacker.unpack(job, lambda _, seen=seen: seen.set()))
        await seen.wait()
        await asyncio.sleep(number % 40 / 10_000)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None, task.exception()
