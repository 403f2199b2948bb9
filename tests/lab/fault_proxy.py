"""An HTTP proxy on the loopback before an S3 server that breaks request number k, or all from k on.

It keeps the Host header, so that signatures stay valid. Takes the server's port; gives a port of its own, and what it
saw. It shares no code with tklb.
"""

import contextlib
import ctypes
import hashlib
import http.client
import re
import select
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.utils import formatdate
from enum import Enum
from typing import IO, NoReturn, Self

REFUSED_SECONDS = 0.15  # that nobody listens, where a refusal does not last


class Fault(Enum):
    """What can go wrong with one request, as S3 and networks do it."""

    INTERNAL_ERROR = "500"
    SLOW_DOWN = "503"
    TOO_MANY = "429"
    EXPIRED_TOKEN = "403"
    RESET_BEFORE = "connection reset before the server has the request"
    RESET_AFTER = "connection reset when the server has done it: the answer is lost"
    REFUSED = "nobody listens for a moment"
    STALL = "no byte any more, in the middle of an answer's body if it has one"
    LOST = "a write is acknowledged and never done"
    FLIPPED = "one bit of a body that is read is another"
    TRUNCATED = "half of a body that is read, then the end of the connection"
    SHORT = "half of a body that is read, and its length says that this is all"
    STALE = "a listing as it was before"
    ERROR_INSIDE = "status 200, and an error in the body"


_STATUS = {
    Fault.INTERNAL_ERROR: (500, "InternalError", "We encountered an internal error. Please try again."),
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.TOO_MANY: (429, "TooManyRequests", "Please reduce your request rate."),
    Fault.EXPIRED_TOKEN: (403, "ExpiredToken", "The provided token has expired."),
    Fault.ERROR_INSIDE: (200, "InternalError", "We encountered an internal error. Please try again."),
}


class Dialect(Enum):
    """What a service lacks that calls itself compatible with S3."""

    B2 = "400 to checksums in headers"
    R2 = "501 to checksums in headers"
    S3RVER = "501 to a listing of uploads in parts"
    PREFIX = "403 to questions about the whole bucket, and to a listing of uploads"
    APPEND = "403 to deletes"
    HIDING = "403 to a missing object, as to who may not list the whole bucket"
    UNCONDITIONAL = "501 to a condition on a PUT"
    BARE = "501 to checksums, to listings of uploads and to questions about the bucket; 403 to deletes"


def _refuse_by(dialect: Dialect | None, request: "_Request") -> "_Answer | None":
    bucket = "/" not in request.path.partition("?")[0].strip("/")
    has_checksum = any(name.lower().startswith(("x-amz-checksum", "x-amz-sdk-checksum")) for name in request.headers)
    lists_uploads = request.method == "GET" and re.search(r"[?&]uploads", request.path)
    match dialect:
        case Dialect.B2 if has_checksum:
            return _error(400, "InvalidArgument")
        case Dialect.R2 | Dialect.BARE if has_checksum:
            return _error(501, "NotImplemented")
        case Dialect.S3RVER | Dialect.BARE if lists_uploads:
            return _error(501, "NotImplemented")
        case Dialect.BARE if bucket and request.method == "HEAD":
            return _error(501, "")
        case Dialect.UNCONDITIONAL if request.method == "PUT" and "If-None-Match" in request.headers:
            return _error(501, "NotImplemented")
        case Dialect.PREFIX if bucket and (request.method == "HEAD" or lists_uploads):
            return _error(403, "AccessDenied")
        case Dialect.APPEND | Dialect.BARE if request.method == "DELETE":
            return _error(403, "AccessDenied")
    return None


def _error(status: int, code: str) -> "_Answer":
    body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
    headers = (("Content-Type", "application/xml"), ("Content-Length", str(len(body))))
    return _Answer(status, "Refused", headers, body)


_WRITES = ("PUT", "POST", "DELETE")
_CONTENTS = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
_MODIFIED = re.compile(rb"<LastModified>(.*?)</LastModified>")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request: `fault` is None where it was passed on as it is."""

    number: int
    method: str
    path: str
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and ("list-type=" in self.path or "prefix=" in self.path)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _Gone(Exception):
    """The connection ends, without an answer or after half of one."""


class FaultProxy:
    """Use as a context. `break_at()` says what goes wrong next; `seen` is every request since then.

    It listens on 127.0.0.1, on that of the box whose process is `box` if that is not 0, at `port` or at any.
    """

    def __init__(self, server_port: int, box: int = 0, port: int = 0) -> None:
        self._server_port, self._box = server_port, box
        self._lock = threading.Lock()
        self._listings: dict[str, list[bytes]] = {}
        self._clients: set[socket.socket] = set()
        self._over = threading.Event()
        self.seen: list[Seen] = []
        self.dialect: Dialect | None = None
        self._fault: Fault | None = None
        self._first, self._last = 0, 0
        self._round = 0
        self._listener = self._listen(port)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        _shut(self._listener)
        self._reset_all()

    def break_at(self, fault: Fault | None, number: int = 0, lasting: bool = False) -> None:
        """Count from 0 again, and break request `number`; all from there on, if it is `lasting`."""
        with self._lock:
            self.seen = []
            self._fault, self._first, self._last = fault, number, 1 << 60 if lasting else number
            self._round += 1
            self._listings.clear()
        while self._listener.fileno() < 0:  # it is opened again soon
            time.sleep(0.005)

    # ------------------------------------------------------------ connections

    def _listen(self, port: int) -> socket.socket:
        with ThreadPoolExecutor(1) as thread:  # which ends with the block: only that thread is in the box
            return thread.submit(_listener, self._box, port).result()

    def _accept(self) -> None:
        while not self._over.is_set():
            listener = self._listener
            try:
                if not select.select([listener], [], [], 0.05)[0]:
                    continue
                client, _ = listener.accept()
            except (OSError, ValueError):  # closed meanwhile, for a refusal
                time.sleep(0.005)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)
        try:
            with client, client.makefile("rb") as stream, contextlib.suppress(OSError, _Gone):
                while request := _read_request(client, stream):
                    self._answer(client, request)
        finally:
            with self._lock:
                self._clients.discard(client)

    def _reset_all(self) -> None:
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            _reset(client)

    def _refuse(self) -> NoReturn:
        """Close the door, for a moment or till break_at() is called again; whoever is inside is thrown out."""
        with self._lock:
            lasting, called = self._last > self._first, self._round
            if self._listener.fileno() >= 0:
                _shut(self._listener)
                threading.Thread(target=self._open_again, args=(lasting, called), daemon=True).start()
        self._reset_all()
        raise _Gone

    def _open_again(self, lasting: bool, called: int) -> None:
        end = time.monotonic() + REFUSED_SECONDS
        while not self._over.is_set() and self._round == called and (lasting or time.monotonic() < end):
            time.sleep(0.005)
        if not self._over.is_set():
            self._listener = self._listen(self.port)

    # ------------------------------------------------------------ requests

    def _answer(self, client: socket.socket, request: _Request) -> None:
        with self._lock:
            number = len(self.seen)
            fault = self._fault if self._first <= number <= self._last and _fits(self._fault, request) else None
            self.seen.append(Seen(number, request.method, request.path, fault))
        match fault:
            case Fault.RESET_BEFORE:
                _reset(client)
                raise _Gone
            case Fault.REFUSED:
                self._refuse()
            case Fault.LOST:
                answer = _acknowledged(request)
            case Fault.INTERNAL_ERROR | Fault.SLOW_DOWN | Fault.TOO_MANY | Fault.EXPIRED_TOKEN | Fault.ERROR_INSIDE:
                answer = _failed(fault)
            case Fault.STALL if request.method != "GET":
                self._stall(client)
            case _:
                answer = _refuse_by(self.dialect, request) or self._passed_on(request)
        self._send(client, request, answer, fault)

    def _send(self, client: socket.socket, request: _Request, answer: _Answer, fault: Fault | None) -> None:
        body, length = answer.body, len(answer.body)
        half = length // 2
        match fault:
            case Fault.RESET_AFTER:
                _reset(client)
                raise _Gone
            case Fault.STALE:
                body = self._older_listing(request, body)
                length = len(body)
            case Fault.FLIPPED if body:
                body = body[:half] + bytes([body[half] ^ 0x20]) + body[half + 1 :]
            case Fault.SHORT:
                body, length = body[:half], half
            case Fault.STALL | Fault.TRUNCATED:
                body = body[:half]
            case _:
                pass
        client.sendall(_head(request, answer, length) + (b"" if request.method == "HEAD" else body))
        if fault is Fault.TRUNCATED:
            raise _Gone
        if fault is Fault.STALL:
            self._stall(client)

    def _passed_on(self, request: _Request) -> _Answer:
        server = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=60)
        with contextlib.closing(server):
            server.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in ("connection", "expect"):
                    server.putheader(name, value)
            server.putheader("Connection", "close")
            server.endheaders(request.body or None)
            got = server.getresponse()
            answer = _Answer(got.status, got.reason, tuple(got.getheaders()), got.read())
        if self.dialect is Dialect.HIDING and answer.status == 404:
            return _error(403, "AccessDenied")
        if request.is_listing and answer.status == 200:
            with self._lock:
                self._listings.setdefault(request.path, []).append(answer.body)
        return answer

    def _older_listing(self, request: _Request, body: bytes) -> bytes:
        """What was answered before; or the answer without the newest key, where nothing else was."""
        keys = _keys(body)
        for before in reversed(self._listings.get(request.path, [])):
            if _keys(before) != keys:
                return before
        found = _CONTENTS.findall(body)
        if not found:
            return body
        newest = max(found, key=_MODIFIED.findall)
        return body.replace(newest, b"")

    def _stall(self, client: socket.socket) -> NoReturn:
        """Wait till the client goes away."""
        while not self._over.is_set():
            if select.select([client], [], [], 0.05)[0] and not client.recv(1 << 16):
                break
        raise _Gone


def _listener(box: int, port: int) -> socket.socket:
    """A socket belongs to the network it was made in, whoever uses it afterwards."""
    if box:
        with open(f"/proc/{box}/ns/net") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener


def _fits(fault: Fault | None, request: _Request) -> bool:
    """Whether such a request can go wrong in this way."""
    if fault is Fault.LOST:
        return request.method in _WRITES
    if fault in (Fault.FLIPPED, Fault.TRUNCATED, Fault.SHORT):
        return request.method == "GET"
    return request.is_listing if fault is Fault.STALE else fault is not None


def _keys(listing: bytes) -> list[bytes]:
    return re.findall(rb"<Key>(.*?)</Key>", listing)


def _acknowledged(request: _Request) -> _Answer:
    """As S3 says that it has an object, its digest too where one was sent along."""
    headers = [("ETag", f'"{hashlib.md5(request.body).hexdigest()}"')]
    headers += [(name, value) for name, value in request.headers.items() if name.lower().startswith("x-amz-checksum-")]
    if request.method == "DELETE":
        return _Answer(204, "No Content", (), b"")
    return _Answer(200, "OK", tuple(headers), b"")


def _failed(fault: Fault) -> _Answer:
    status, code, told = _STATUS[fault]
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{told}</Message></Error>'
    return _Answer(status, http.client.responses[status], (("Content-Type", "application/xml"),), text.encode())


def _read_request(client: socket.socket, stream: IO[bytes]) -> _Request | None:
    line = stream.readline(65536).split()
    if len(line) != 3:
        return None
    head = b"".join(iter(lambda: stream.readline(65536), b"\r\n"))
    headers = BytesParser().parsebytes(head, headersonly=True)
    if headers.get("Expect", "").lower() == "100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        body = _read_chunks(stream)
    else:
        body = _exactly(stream, int(headers.get("Content-Length", 0)))
    return _Request(line[0].decode(), line[1].decode(), headers, body)


def _read_chunks(stream: IO[bytes]) -> bytes:
    """The body as it was sent, sizes of the chunks and all."""
    body = b""
    while True:
        line = stream.readline(65536)
        size = int(line.split(b";")[0], 16)
        chunk = _exactly(stream, size + 2) if size else b""
        body += line + chunk
        if not size:
            return body + b"".join(iter(lambda: stream.readline(65536), b"\r\n")) + b"\r\n"


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise _Gone
    return content


def _head(request: _Request, answer: _Answer, length: int) -> bytes:
    hidden = {"content-length", "transfer-encoding", "connection", "date"}
    headers = [(name, value) for name, value in answer.headers if name.lower() not in hidden]
    told = {name.lower(): value for name, value in answer.headers}.get("content-length")
    headers.append(("Content-Length", told if request.method == "HEAD" and told else str(length)))
    headers.append(("Date", formatdate(usegmt=True)))
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _reset(client: socket.socket) -> None:
    """End a connection with RST, as a router or a dying server does."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.shutdown(socket.SHUT_RD)
        client.close()


def _shut(listener: socket.socket) -> None:
    """Listen no more, at once: a close alone waits for whoever is in select(2)."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
