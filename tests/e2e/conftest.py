"""A host for each test: a network namespace of its own with a daemon in it, and nothing left of it afterwards."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
_numbers = itertools.count(1)


@dataclass
class Host:
    """A machine in small: its namespace, its roots, its daemon."""

    name: str
    directory: Path
    daemon: subprocess.Popen[bytes] | None = None
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)
    options: list[str | Path] = field(default_factory=list)
    """More for `gitops engine run`."""

    @property
    def data_root(self) -> Path:
        return self.directory / "data"

    @property
    def run_root(self) -> Path:
        return self.directory / "run"

    @property
    def socket(self) -> str:
        return f"unix://{self.run_root}/engine.sock"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GITOPS_", "DOCKER_"))}
        return kept | {
            "GITOPS_HOST": self.socket,
            "DOCKER_HOST": self.socket,
            "DOCKER_CONFIG": str(self.directory / "docker-config"),
            "HOME": str(self.directory),
            "NO_COLOR": "1",
            "PYTHONFAULTHANDLER": "1",
        }

    def command(self, *arguments: str | Path) -> list[str]:
        """A command line that runs inside the host's network namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *map(str, arguments)]

    def run(
        self, *arguments: str | Path, check: bool = True, timeout: float = 60, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host to its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            input=stdin,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def gitops(
        self, *arguments: str | Path, check: bool = True, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """Run our command line."""
        return self.run(BIN / "gitops", *arguments, check=check, timeout=timeout)

    def docker(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        """Run the docker CLI; its output."""
        return self.run("docker", *arguments, check=check, timeout=timeout).stdout

    def docker_fails(self, *arguments: str) -> str:
        """Run the docker CLI, which must fail; what it says."""
        done = self.run("docker", *arguments, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def api(self, path: str) -> Any:
        """GET from the daemon's socket."""
        socket = self.socket.removeprefix("unix://")
        done = self.run("curl", "-sS", "--fail-with-body", "--unix-socket", socket, f"http://d{path}")
        return json.loads(done.stdout)

    def spawn(self, *arguments: str | Path, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a program in the host; it is ended with the host."""
        output: Any = log.open("ab") if log else subprocess.DEVNULL
        process = subprocess.Popen(
            self.command(*arguments), env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
        if log:
            output.close()
        self.processes.append(process)
        return process

    @property
    def log(self) -> Path:
        return self.directory / "engine.log"

    def start(self, timeout: float = 30) -> None:
        """Start the daemon and wait until it answers."""
        self.daemon = self.spawn(
            BIN / "gitops",
            *("engine", "run", "--data-root", self.data_root, "--run-root", self.run_root),
            *("--cgroup-parent", self.name),
            *self.options,
            log=self.log,
        )
        self.wait(lambda: self._answers(), timeout, "the daemon does not answer")

    def kill(self) -> None:
        """SIGKILL the daemon."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.daemon = None

    def stop(self) -> None:
        """SIGTERM the daemon and wait."""
        assert self.daemon is not None
        self.daemon.terminate()
        self.daemon.wait(30)
        self.daemon = None

    def _answers(self) -> bool:
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.daemon.returncode}\n{self.log.read_text()[-4000:]}")
        socket = self.socket.removeprefix("unix://")
        done = self.run("curl", "-s", "-m", "2", "--unix-socket", socket, "http://d/_ping", check=False)
        return done.stdout == "OK"

    def wait(
        self, condition: Callable[[], Any], timeout: float = 30, message: str = "it did not happen in time"
    ) -> Any:
        """Poll until `condition` gives something true, and return that."""
        end = time.monotonic() + timeout
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > end:
                tail = self.log.read_text()[-4000:] if self.log.exists() else ""
                raise AssertionError(f"{message}\n{tail}")
            time.sleep(0.1)

    def get(self, url: str) -> str:
        """The body of an HTTP answer, or "" when there is none."""
        return self.run("curl", "-s", "-m", "3", url, check=False).stdout

    def containers(self) -> list[dict[str, Any]]:
        """The running containers."""
        return list(self.api("/containers/json"))

    # What a host holds, for tests that nothing is left or doubled.
    def mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return sorted(line.split()[4] for line in lines if str(self.directory) in line)

    def links(self) -> list[str]:
        return [link["ifname"] for link in json.loads(self.run("ip", "-j", "link").stdout)]

    def cgroups(self) -> list[str]:
        return sorted({path.name for path in Path("/sys/fs/cgroup").glob(f"*/{self.name}/*") if path.is_dir()})

    def conmons(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if words[0].endswith(b"conmon") and str(self.directory).encode() in b"\0".join(words):
                        found.append(int(entry.name))
        return sorted(found)

    def close(self) -> None:
        """End all that the host started and take its traces away."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._end_containers()
        for mount in sorted(self.mounts(), key=len, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)
        for path in sorted(Path("/sys/fs/cgroup").glob(f"*/{self.name}/*"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        for path in Path("/sys/fs/cgroup").glob(f"*/{self.name}"):
            with contextlib.suppress(OSError):
                path.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_containers(self) -> None:
        pids = self.conmons()
        for path in Path("/sys/fs/cgroup").glob(f"*/{self.name}/*/cgroup.procs"):
            with contextlib.suppress(OSError):
                pids += [int(word) for word in path.read_text().split()]
        for pid in set(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 5
        while self.conmons() and time.monotonic() < end:
            time.sleep(0.05)


class DockerHost(Host):
    """A host whose engine is Debian's dockerd; with `tls`, it also listens on tcp://127.0.0.1:2376 for clients with a
    certificate."""

    tls: Path | None = None

    @property
    def socket(self) -> str:
        return f"unix://{self.run_root}/docker.sock"

    @property
    def log(self) -> Path:
        return self.directory / "dockerd.log"

    def start(self, timeout: float = 60) -> None:
        self.run_root.mkdir(exist_ok=True)
        words: list[str | Path] = ["dockerd", "-H", self.socket, "--cgroup-parent", f"/{self.name}"]
        words += ["--data-root", self.data_root, "--exec-root", self.run_root / "exec"]
        words += ["-p", self.run_root / "docker.pid", "--storage-driver", "overlay2"]
        if self.tls:
            words += ["-H", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", self.tls / "ca.pem"]
            words += ["--tlscert", self.tls / "server.pem", "--tlskey", self.tls / "server-key.pem"]
        self.daemon = self.spawn(*words, log=self.log)
        self.wait(lambda: self._answers(), timeout, "dockerd does not answer")

    def close(self) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            # It ends its containerd and its containers, which a SIGKILL would leave behind.
            self.run("docker", "swarm", "leave", "--force", check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        super().close()


@contextlib.contextmanager
def _maker() -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def make(kind: type[Host] = Host) -> Host:
        name = f"gt{os.getpid()}x{next(_numbers)}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        host = kind(name, Path(tempfile.mkdtemp(prefix="gt-")))
        made.append(host)
        return host

    yield make
    for host in made:
        host.close()


@pytest.fixture
def make_host() -> Iterator[Callable[..., Host]]:
    """Makes hosts, of the built-in engine or of another kind; the daemon is the test's to start."""
    with _maker() as make:
        yield make


@pytest.fixture(scope="module")
def module_host() -> Iterator[Host]:
    """A host whose daemon runs, for all tests of a module: what one leaves there, the next one finds."""
    with _maker() as make:
        made = make()
        made.start()
        yield made


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    """A host whose daemon runs, in no swarm."""
    made = make_host()
    made.start()
    return made


@pytest.fixture
def swarm(host: Host) -> Host:
    """A host that is a swarm of one."""
    host.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    return host


@pytest.fixture
def dockerd(make_host: Callable[..., Host]) -> Host:
    """A host of a real dockerd, in no swarm."""
    made = make_host(DockerHost)
    made.start()
    return made


@pytest.fixture(params=["gitops", "dockerd"])
def engine_host(request: pytest.FixtureRequest, make_host: Callable[..., Host]) -> Host:
    """A swarm of one, on the built-in engine and on a real dockerd.

    Judge by what both show: API state, and ports of mode host. The kernel's balancer of virtual addresses, which
    dockerd needs for ports of mode ingress, is missing on some machines.
    """
    made = make_host(DockerHost if request.param == "dockerd" else Host)
    made.start()
    made.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
    return made


def write(directory: Path, files: dict[str, str]) -> Path:
    """Lay out text files."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes a directory of manifests with Debian's static busybox in `bin/`."""

    def make(files: dict[str, str], name: str = "project") -> Path:
        directory = write(tmp_path / name, files)
        (directory / "bin").mkdir(exist_ok=True)
        shutil.copy("/bin/busybox", directory / "bin" / "busybox")
        return directory

    return make


def busybox_image(tag: str, text: str, extra: Sequence[str] = ()) -> str:
    """The manifest of an image that serves `text` on port 8080."""
    return f"""\
apiVersion: gitops/v1
kind: Image
metadata: {{name: {tag.replace(":", "-").replace("/", "-")}, stack: app}}
spec:
  reference: {tag}
  build:
    base: scratch
    layers:
      - files:
          - {{from: ./bin/busybox, to: /bin/busybox, mode: "0755"}}
          - {{link: /bin/busybox, to: /bin/sh}}
          - {{content: "{text}\\n", to: /www/index.html, mode: "0644"}}
    config: {{cmd: [/bin/busybox, httpd, -f, -p, "8080", -h, /www]}}
"""


@pytest.fixture
def image() -> Callable[..., str]:
    """The function that writes an Image manifest."""
    return busybox_image


CHUNK = 1 << 20
HASHES = ("md5", "sha1", "sha256", "sha512")


def forms(value: bytes) -> dict[str, bytes]:
    """The ways in which a value could lie somewhere. Of a hash, the beginning will do: names carry no more of one."""
    found = {
        "plain": value,
        "URL": urllib.parse.quote(value, safe="").encode(),
        "URL of a form": urllib.parse.quote_plus(value).encode(),
        "hex": value.hex().encode(),
        "HEX": value.hex().upper().encode(),
    }
    for shift in range(3):  # at any place in what is encoded
        whole = base64.b64encode(b"-" * shift + value)
        part = whole[-(-shift * 8 // 6) : (shift + len(value)) * 8 // 6]
        found[f"base64, {shift}"] = part
        found[f"base64 of a URL, {shift}"] = part.translate(bytes.maketrans(b"+/", b"-_"))
    for name in HASHES:
        digest = hashlib.new(name, value).digest()
        found[f"{name}, hex"] = digest.hex()[:12].encode()
        found[f"{name}, HEX"] = digest.hex().upper()[:12].encode()
        found[f"{name}, base64"] = base64.b64encode(digest)[:10]
        found[f"{name}, base64 of a URL"] = base64.urlsafe_b64encode(digest)[:10]
        found[f"{name}, raw"] = digest[:8]
    return found


class Needles:
    """Searches for values that must not lie about, in every form of `forms`."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._needles = {f"{name} ({form})": item for name, one in values.items() for form, item in forms(one).items()}
        self._longest = max(map(len, self._needles.values()))

    def within(self, data: bytes | str) -> list[str]:
        """The names of those in some data."""
        found = data.encode() if isinstance(data, str) else data
        return [name for name, needle in self._needles.items() if needle in found]

    def in_files(self, root: Path, without: Collection[Path] = ()) -> list[str]:
        """The files below a directory that hold one, each with its name."""
        return [f"{path}: {name}" for path in _files(root, without) for name in sorted(self._in_file(path))]

    def _in_file(self, path: Path) -> set[str]:
        seen: set[str] = set()
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            tail = b""
            while chunk := file.read(CHUNK):
                seen.update(self.within(tail + chunk))
                tail = (tail + chunk)[-self._longest :]
        return seen

    def in_processes(self, given: Collection[str] = (), known: set[tuple[str, bytes]] | None = None) -> list[str]:
        """The processes with one in arguments or environment, apart from the variables `given`.

        With `known`, what was looked at before is passed over.
        """
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            for file in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    data = (entry / file).read_bytes()
                    if known is not None:
                        if (entry.name, data) in known:
                            continue
                        known.add((entry.name, data))
                    words = [
                        word for word in data.split(b"\0") if word.partition(b"=")[0].decode("latin-1") not in given
                    ]
                    found += [f"process {entry.name}, {file}: {name}" for name in self.within(b"\0".join(words))]
        return found


def _files(root: Path, without: Collection[Path]) -> Iterator[Path]:
    """All regular files of a directory's own file system: what is mounted below it, tmpfs say, is memory."""
    device = root.stat().st_dev
    for folder, names, entries in os.walk(root):
        names[:] = [name for name in names if _is_on(device, Path(folder, name)) and Path(folder, name) not in without]
        for entry in entries:
            path = Path(folder, entry)
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(path.lstat().st_mode) and _is_on(device, path) and path not in without:
                    yield path


def _is_on(device: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_dev == device
    return False


@pytest.fixture
def needles() -> Callable[[Mapping[str, bytes]], Needles]:
    """Makes a search for values, by name."""
    return Needles
