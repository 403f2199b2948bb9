"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02), with extensions of OpenSSH: what a backend needs of it.

Takes a channel to an SFTP server; gives attributes, names and content. It sends many requests before the first answer
comes, which makes it fast over long distances. Every answer is hostile until it is parsed.
"""

import contextlib
import stat
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from tklb.lazy_dataclass import dataclass

NO_SUCH_FILE, DENIED, FAILURE = 2, 3, 4
UNFIT = (5, 8, 20)  # a name or value that is not possible (OpenSSH calls it a bad message), an operation that it lacks
READ_ONLY = 12  # write protected: of later versions, too
FULL = (14, 15)  # no space, quota exceeded: of later versions, which some servers use all the same
READ, WRITE_NEW = 0x01, 0x2A  # SSH_FXF_READ; _WRITE | _CREAT | _EXCL

_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = 1, 2, 3, 4, 5, 6, 7, 8
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _STAT, _RENAME = 11, 12, 13, 14, 17, 18
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED, _EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201
_OK, _EOF = 0, 1

_SMALLEST_BLOCK = 1 << 15  # bytes; what every server must take
_LARGEST_BLOCK = 255 << 10  # OpenSSH takes packets of 256 KiB
_UNDER_WAY = 4 << 20  # bytes asked for and not yet answered: some 40 MB/s at 100 ms
_LARGEST_PACKET = 1 << 20
_MOST_NAMES = 1 << 20  # in one folder


class Channel(Protocol):
    """A connection to the server. Raises ConnectionError, and TimeoutError where nothing comes."""

    def sendall(self, data: bytes) -> None: ...
    def recv(self, size: int) -> bytes: ...


class RequestRefused(Exception):
    """The server refused a request; `code` is a number of the protocol."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text or f"status {code}"


class Garbled(Exception):
    """The server violates the protocol."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Size in bytes, mode with the kind of file, time of change in seconds; None where the server gives none."""

    size: int | None = None
    mode: int | None = None
    modified: int | None = None

    @property
    def is_file(self) -> bool:
        return self.mode is not None and stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return self.mode is not None and stat.S_ISDIR(self.mode)


class ListedName(NamedTuple):
    name: bytes
    attributes: Attributes


class Disk(NamedTuple):
    """`room` is in bytes."""

    room: int
    is_read_only: bool


class Wire:
    """One session, for one thread at a time. After a failure the caller must close it.

    All methods raise Refused, Garbled, and what the channel does: ConnectionError, TimeoutError.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._number = 0
        self._expected: set[int] = set()
        self._early: dict[int, tuple[int, _Fields]] = {}
        self._channel.sendall(_packet(_INIT, struct.pack(">I", 3)))
        kind, content = self._packet()
        fields = _Fields(content)
        if kind != _VERSION or fields.number() < 3:
            raise Garbled("it speaks no SFTP of version 3")
        self._offers: dict[bytes, bytes] = {}
        while fields.rest:
            name = fields.text()
            self._offers[name] = fields.text()
        self._block = self._block_size()

    def lstat(self, path: bytes) -> Attributes | None:
        """The attributes of a name, of a link itself; None where there is none."""
        with contextlib.suppress(_Missing):
            return self._ask(_ATTRS, _LSTAT, _text(path)).attributes()
        return None

    def stat(self, path: bytes) -> Attributes:
        return self._ask(_ATTRS, _STAT, _text(path)).attributes()

    def fstat(self, handle: bytes) -> Attributes:
        return self._ask(_ATTRS, _FSTAT, _text(handle)).attributes()

    def make_folder(self, path: bytes, mode: int) -> None:
        self._ask(_STATUS, _MKDIR, _text(path), _mode(mode))

    def remove(self, path: bytes) -> None:
        """Remove a name. A missing one is no failure."""
        with contextlib.suppress(_Missing):
            self._ask(_STATUS, _REMOVE, _text(path))

    def replace(self, path: bytes, other: bytes) -> None:
        """Rename `path` to `other` and replace that; in one step where the server can."""
        if self._offers.get(b"posix-rename@openssh.com") == b"1":
            self._ask(_STATUS, _EXTENDED, _text(b"posix-rename@openssh.com"), _text(path), _text(other))
        else:
            self.remove(other)
            self.rename(path, other)

    def rename(self, path: bytes, other: bytes) -> None:
        """Rename `path`. Where something has the name `other`, servers differ: most refuse."""
        self._ask(_STATUS, _RENAME, _text(path), _text(other))

    def link(self, path: bytes, other: bytes) -> bool:
        """Give a file a second name; False where the server cannot, or where something has that name."""
        if self._offers.get(b"hardlink@openssh.com") != b"1":
            return False
        try:
            self._ask(_STATUS, _EXTENDED, _text(b"hardlink@openssh.com"), _text(path), _text(other))
        except RequestRefused:
            return False
        return True

    def disk(self, path: bytes) -> Disk | None:
        """The file system of a name; None where the server gives none."""
        if b"statvfs@openssh.com" not in self._offers:
            return None
        fields = self._ask(_EXTENDED_REPLY, _EXTENDED, _text(b"statvfs@openssh.com"), _text(path))
        _, fragment, _, _, available, _, _, _, _, flags, _ = (fields.long() for _ in range(11))
        return Disk(fragment * available, bool(flags & 1))

    def sync(self, handle: bytes) -> None:
        """Make the content durable, if the server can."""
        if b"fsync@openssh.com" in self._offers:
            self._ask(_STATUS, _EXTENDED, _text(b"fsync@openssh.com"), _text(handle))

    def names(self, folder: bytes) -> Iterator[ListedName]:
        """All names in a folder except `.` and `..`, in no order."""
        handle = self._ask(_HANDLE, _OPENDIR, _text(folder)).text()
        left = _MOST_NAMES
        while left > 0:
            try:
                fields = self._ask(_NAME, _READDIR, _text(handle))
            except EOFError:
                self.close(handle)
                return
            entries = [fields.entry() for _ in range(min(fields.number(), left))]
            yield from (entry for entry in entries if entry.name not in (b".", b".."))
            left -= max(1, len(entries))
        raise Garbled("its folder has no end")

    def open(self, path: bytes, flags: int, mode: int = 0o600) -> bytes:
        """A handle of a file."""
        return self._ask(_HANDLE, _OPEN, _text(path), struct.pack(">I", flags), _mode(mode)).text()

    def close(self, handle: bytes) -> None:
        self._ask(_STATUS, _CLOSE, _text(handle))

    def write(self, handle: bytes, read: Callable[[int], bytes], count: Callable[[bytes], object]) -> int:
        """Write what `read` gives until its end. `count` gets every block that the server confirmed. Gives the size."""
        offset, under_way = 0, deque[tuple[int, bytes]]()
        most = 2  # and more as they are answered: where the line is slow, nobody would hear of it for minutes
        while block := read(self._block):
            fields = (_text(handle), struct.pack(">Q", offset), _text(block))
            under_way.append((self._send(_WRITE, *fields), block))
            offset += len(block)
            if len(under_way) >= most:
                self._confirm(*under_way.popleft(), count)
                most = min(most + 1, _UNDER_WAY // self._block)
        while under_way:
            self._confirm(*under_way.popleft(), count)
        return offset

    def read(self, handle: bytes, size: int, take: Callable[[bytes], object]) -> int:
        """Read up to `size` bytes from the start; `take` gets them in order. Gives their number."""
        under_way = deque[tuple[int, int, int]]()
        asked = got = 0
        while asked < size or under_way:
            if asked < size and len(under_way) * self._block < _UNDER_WAY:
                length = min(self._block, size - asked)
                under_way.append((self._send_read(handle, asked, length), asked, length))
                asked += length
                continue
            number, offset, length = under_way.popleft()
            for block in self._whole(number, handle, offset, length):
                take(block)
                got += len(block)
            if got < offset + length:
                break  # the file is shorter than it was
        return got

    def _whole(self, number: int, handle: bytes, offset: int, length: int) -> Iterable[bytes]:
        """The blocks of one request, which the server may answer in part."""
        while length:
            try:
                block = self._answer(number, _DATA).text()
            except EOFError:
                return
            if not 0 < len(block) <= length:
                raise Garbled("it sent another length than it was asked for")
            yield block
            offset, length = offset + len(block), length - len(block)
            if length:
                number = self._send_read(handle, offset, length)

    def _send_read(self, handle: bytes, offset: int, length: int) -> int:
        return self._send(_READ, _text(handle), struct.pack(">QI", offset, length))

    def _confirm(self, number: int, block: bytes, count: Callable[[bytes], object]) -> None:
        self._answer(number, _STATUS)
        count(block)

    def _block_size(self) -> int:
        if self._offers.get(b"limits@openssh.com") != b"1":
            return _SMALLEST_BLOCK
        fields = self._ask(_EXTENDED_REPLY, _EXTENDED, _text(b"limits@openssh.com"))
        _, reading, writing, _ = (fields.long() for _ in range(4))
        return max(_SMALLEST_BLOCK, min(reading, writing, _LARGEST_BLOCK))

    def _ask(self, wanted: int, kind: int, *fields: bytes) -> "_Fields":
        return self._answer(self._send(kind, *fields), wanted)

    def _send(self, kind: int, *fields: bytes) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._expected.add(self._number)
        self._channel.sendall(_packet(kind, struct.pack(">I", self._number), *fields))
        return self._number

    def _answer(self, number: int, wanted: int) -> "_Fields":
        """The answer to a request. Raises _Missing, Refused, EOFError for what the server says instead."""
        kind, fields = self._hear(number)
        if kind == _STATUS:
            _check(fields)
        if kind != wanted:
            raise Garbled(f"it answered with packet {kind} instead of {wanted}")
        return fields

    def _hear(self, number: int) -> tuple[int, "_Fields"]:
        while number not in self._early:
            kind, content = self._packet()
            fields = _Fields(content)
            other = fields.number()
            if other not in self._expected or other in self._early:
                raise Garbled("it answered what nobody asked")
            self._early[other] = kind, fields
        self._expected.discard(number)
        return self._early.pop(number)

    def _packet(self) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", self._receive(4))
        if not 1 <= length <= _LARGEST_PACKET:
            raise Garbled(f"it sent a packet of {length} bytes")
        content = self._receive(length)
        return content[0], content[1:]

    def _receive(self, size: int) -> bytes:
        while len(self._received) < size:
            block = self._channel.recv(1 << 18)
            if not block:
                raise ConnectionResetError("the server ended the connection")
            self._received += block
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


class _Missing(RequestRefused):
    """The server has no such name."""


class _Fields:
    """The fields of a packet, one after the other. Raises Garbled where the packet ends too early."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    @property
    def rest(self) -> int:
        return len(self._content) - self._at

    def _take(self, size: int) -> bytes:
        if size > self.rest:
            raise Garbled("it sent a packet that is cut off")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self) -> int:
        return int.from_bytes(self._take(4))

    def long(self) -> int:
        return int.from_bytes(self._take(8))

    def text(self) -> bytes:
        return self._take(self.number())

    def entry(self) -> ListedName:
        name = self.text()
        self.text()  # the line that `ls -l` would print
        return ListedName(name, self.attributes())

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.long() if flags & 1 else None
        if flags & 2:
            self._take(8)  # uid and gid
        mode = self.number() if flags & 4 else None
        modified = (self.number(), self.number())[1] if flags & 8 else None
        for _ in range(2 * self.number() if flags & 0x80000000 else 0):
            self.text()
        return Attributes(size, mode, modified)


def _check(fields: _Fields) -> None:
    code = fields.number()
    if code == _OK:
        return
    if code == _EOF:
        raise EOFError
    reason = fields.text().decode("utf-8", "backslashreplace") if fields.rest else ""
    raise (_Missing if code == NO_SUCH_FILE else RequestRefused)(code, reason)


def _packet(kind: int, *fields: bytes) -> bytes:
    content = b"".join(fields)
    return struct.pack(">IB", len(content) + 1, kind) + content


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _mode(mode: int) -> bytes:
    return struct.pack(">II", 4, mode)
