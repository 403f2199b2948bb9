"""S3 services to talk to: rclone's and moto's, and what may stand in between: a proxy, a slow line.

Takes a folder for what they keep; gives a `Service` inside a `with`. Each is a process of its own on a free port of
127.0.0.1, of this machine or of a box, and ends with the block, or with the test process at the latest.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from botocore.loaders import JSONFileLoader

from tests.lab.box import Box

# Every client of boto3 reads megabytes that describe the API: a fifth of a second, and most tests make a client.
_read_description = JSONFileLoader().load_file
JSONFileLoader.load_file = lambda _, path: _read_once(path)
TOOLS = Path(sys.executable).parent
T = TypeVar("T")
_SECONDS_TO_COME_UP = 60
_LISTENS = re.compile(r"Starting s3 server on \[https?://[^:]+:([0-9]+)/")


@dataclass(frozen=True)
class Service:
    """Where it is, and who may come in. `folder` holds the buckets of rclone as folders."""

    endpoint: str
    access_key: str
    secret_key: str
    folder: Path
    pid: int

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def address(self, bucket: str, prefix: str = "") -> str:
        """As tklb writes it."""
        return f"s3+{self.endpoint}/{bucket}" + (f"/{prefix}" if prefix else "")

    def credentials(self, path: Path, token: str = "") -> Path:
        """Write a credentials file, mode 0600."""
        return write_credentials(path, self.access_key, self.secret_key, token)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM. It vouches for itself: it is its own authority."""

    certificate: Path
    key: Path


def write_credentials(path: Path, access_key: str, secret_key: str, token: str = "", profile: str = "default") -> Path:
    lines = [f"[{profile}]", f"aws_access_key_id = {access_key}", f"aws_secret_access_key = {secret_key}"]
    lines += [f"aws_session_token = {token}"] if token else []
    path.touch(0o600)
    path.chmod(0o600)
    path.write_text("\n".join([*lines, ""]))
    return path


def new_keys() -> tuple[str, str]:
    """An access key and a secret key as long as Amazon's."""
    return "AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30)


def make_certificate(folder: Path, *names: str) -> Certificate:
    """For 127.0.0.1, or for the given names (`DNS:…`, `IP:…`)."""
    made = Certificate(folder / "certificate.pem", folder / "certificate.key")
    told = ["-subj", "/CN=lab", "-addext", f"subjectAltName={','.join(names) or 'IP:127.0.0.1'}"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "3650"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(["openssl", "req", *kind, *told, *files], check=True, capture_output=True)
    return made


@contextlib.contextmanager
def rclone(folder: Path, *, tls: Certificate | None = None, box: Box | None = None) -> Iterator[Service]:
    """`rclone serve s3` with a folder behind it. With `box` it listens on the box's own 127.0.0.1."""
    access_key, secret_key = new_keys()
    secured = ["--cert", str(tls.certificate), "--key", str(tls.key)] if tls else []
    command = [str(TOOLS / "rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--config", "", *secured, str(folder)]
    environment = {
        "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"', "HOME": "/nonexistent", "PATH": os.environ["PATH"],
        "RCLONE_CACHE_DIR": "/nonexistent",
    }  # fmt: skip
    with running(command, environment, box) as (process, said):
        port = waited(process, said, lambda: _found(_LISTENS, said))
        endpoint = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        yield Service(endpoint, access_key, secret_key, folder, process.pid)


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[Service]:
    """moto's server: keeps all in memory, lets everybody in, and remembers what objects were put with."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}) as (process, said):
        waited(process, said, lambda: _answers(port))
        yield Service(f"http://127.0.0.1:{port}", *new_keys(), folder, process.pid)


@contextlib.contextmanager
def localbucket(folder: Path) -> Iterator[Service]:
    """LocalBucket: a small server that keeps buckets as folders and knows conditions, but no listing of uploads."""
    port = free_port()
    command = [str(TOOLS / "localbucket"), "--port", str(port), str(folder)]
    with running(command, {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}) as (process, said):
        waited(process, said, lambda: _answers(port))
        yield Service(f"http://127.0.0.1:{port}", *new_keys(), folder, process.pid)


def find_s3rver() -> Path | None:
    """The program of s3rver, None where nobody ran `npm install --prefix .cache/s3rver s3rver@3.7.1`."""
    script = Path(__file__).parents[2] / ".cache/s3rver/node_modules/s3rver/bin/s3rver.js"
    return script if script.exists() else None


@contextlib.contextmanager
def s3rver(folder: Path) -> Iterator[Service]:
    """s3rver, of npm: it checks signatures, and knows neither conditions nor a listing of uploads."""
    port = free_port()
    options = ["--openssl-legacy-provider"]  # it encrypts the places of its pages by DES
    command = [
        "node",
        *options,
        str(find_s3rver()),
        "--directory",
        str(folder),
        "--address",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with running(command, {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}) as (process, said):
        waited(process, said, lambda: _answers(port))
        yield Service(f"http://127.0.0.1:{port}", "S3RVER", "S3RVER", folder, process.pid)


@dataclass(frozen=True)
class Proxy:
    """`log` names every request that went through it."""

    url: str
    log: Path


@contextlib.contextmanager
def tinyproxy(folder: Path) -> Iterator[Proxy]:
    """An HTTP proxy that lets through whatever comes from 127.0.0.1."""
    port, log = free_port(), folder / "tinyproxy.log"
    settings = [
        f"Port {port}", "Listen 127.0.0.1", "Timeout 60", f'LogFile "{log}"', "LogLevel Info", "Allow 127.0.0.1",
        "MaxClients 50",
    ]  # fmt: skip
    written = folder / "tinyproxy.conf"
    written.write_text("\n".join([*settings, ""]))
    with running(["tinyproxy", "-d", "-c", str(written)], {"PATH": os.environ["PATH"]}) as (process, said):
        waited(process, said, lambda: _answers(port))
        yield Proxy(f"http://127.0.0.1:{port}", log)


@contextlib.contextmanager
def slow_line(port: int, seconds: float, at: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[int]:
    """Give a port that leads to another one, where every piece that comes back is late."""
    with socket.create_server(at) as server, contextlib.ExitStack() as lines:
        threading.Thread(target=_relay, args=(server, port, seconds, lines), daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)


def serve_in(box: Box, folder: Path, tls: Certificate | None = None) -> contextlib.AbstractContextManager[Service]:
    """rclone on the box's 127.0.0.1; what it keeps is in a folder of the host, which the box does not see."""
    return rclone(folder, tls=tls, box=box)


@functools.cache
def _read_once(path: str) -> object:
    return _read_description(path)


_SERVERS = {"rclone": rclone, "moto": moto, "localbucket": localbucket, "s3rver": s3rver}


@functools.cache
def shared(kind: str) -> Service:
    """One server of a kind, "rclone" for example, for all tests of this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tklb-s3-")))
    return stack.enter_context(_SERVERS[kind](folder))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: dict[str, str], box: Box | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a program that dies with this process; give it and the file that holds what it says."""
    inside = ["nsenter", f"--target={box.pid}", "--net", "--"] if box else []
    with tempfile.NamedTemporaryFile(prefix="tklb-said-") as said:
        process = subprocess.Popen(
            [*inside, "setpriv", "--pdeathsig", "KILL", "--", *command],
            env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/",
        )  # fmt: skip
        try:
            yield process, Path(said.name)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def waited(process: subprocess.Popen[bytes], said: Path, look: Callable[[], T]) -> T:
    """What `look` finds, as soon as it finds anything."""
    end = time.monotonic() + _SECONDS_TO_COME_UP
    while not (found := look()):
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"{process.args!r} did not come up: {said.read_text(errors='replace')}")
        time.sleep(0.02)
    return found


def _found(pattern: re.Pattern[str], said: Path) -> str:
    found = pattern.search(said.read_text(errors="replace"))
    return found[1] if found else ""


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _relay(server: socket.socket, port: int, seconds: float, lines: contextlib.ExitStack) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", port))
        for line in (near, far):
            lines.callback(line.close)
        threading.Thread(target=_pour, args=(near, far, 0.0), daemon=True).start()
        threading.Thread(target=_pour, args=(far, near, seconds), daemon=True).start()


def _pour(origin: socket.socket, destination: socket.socket, seconds: float) -> None:
    with contextlib.suppress(OSError):
        while block := origin.recv(1 << 16):
            time.sleep(seconds)
            destination.sendall(block)
    with contextlib.suppress(OSError):
        destination.shutdown(socket.SHUT_WR)
