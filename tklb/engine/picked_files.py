"""The files that the engine reads: opened below folders that are held, compared with what the walk saw, and hashed.

Takes names below a source folder and, for each, the object that the walk saw there. Gives their status and open files.
Follows no link. Another object under the same name is an OSError: its content would get the owner, mode and
capabilities of the object that the metadata describe.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeVar

from tklb.diff.path_names import is_message
from tklb.host.files.handles.read_limits import ReadLimits, has_holes, open_to_read, read_chunk
from tklb.host.files.openat import RootedTree
from tklb.host.files.walk import open_moved_message

T = TypeVar("T")
Index = tuple[bytes, ...]
Found = tuple[os.stat_result, bytes | None]  # the status of an object, and the target of a link
_OF_THIS_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENOTCONN, errno.ENODEV)


class Identity(NamedTuple):
    """What tells a file from any other one. A new file may get the inode number of a deleted one, so owners count."""

    device: int
    inode: int
    mode: int  # st_mode: kind and permissions
    uid: int
    gid: int

    def find_difference(self, status: os.stat_result) -> str:
        """Say how an object differs from this one; nothing if it is this one. Of anything but a file, the kind counts.

        The engine takes no more than the kind of a folder, link or device: the metadata have the rest.
        """
        if stat.S_IFMT(status.st_mode) != stat.S_IFMT(self.mode):
            return "it became something else before it was read"
        if not stat.S_ISREG(self.mode):
            return ""
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            return "another file took its place before it was read"
        if (status.st_mode, status.st_uid, status.st_gid) != (self.mode, self.uid, self.gid):
            return "its owner or mode changed before it was read"
        return ""


class Wanted(NamedTuple):
    """A name, as an index of duplicity. `identity` is None for a folder above a name, and for files of our own."""

    parts: Index
    identity: Identity | None = None


def format_name(path: bytes, identity: Identity | None = None) -> bytes:
    """Give the line of a list of names for an absolute path. A name begins with no slash, so an identity can."""
    return path[1:] if identity is None else b"/" + b":".join(b"%d" % number for number in identity) + path


def parse_names(lines: Iterable[bytes]) -> Iterator[Wanted]:
    """Read lines of a list of names. Raises ValueError."""
    for line in lines:
        marks, _, name = line[1:].partition(b"/") if line.startswith(b"/") else (b"", b"", line)
        if name:
            yield Wanted(tuple(name.split(b"/")), Identity(*map(int, marks.split(b":"))) if marks else None)


def pick(names: Iterable[Wanted]) -> Iterator[Wanted]:
    """Give the names in the order of duplicity, each after all folders above it, the root first."""
    yield Wanted(())
    previous: Index = ()
    for wanted in sorted(names, key=itemgetter(0)):
        index, known = wanted.parts, 0
        if index == previous:
            continue
        while known < min(len(previous), len(index) - 1) and previous[known] == index[known]:
            known += 1
        yield from (Wanted(index[:depth]) for depth in range(known + 1, len(index)))
        yield wanted
        previous = index


class ReadReport(Protocol):
    """Takes the fate of a file that was read."""

    def add_stored(self, path: bytes, size: int, sha256: str, *, changed: bool) -> None: ...

    def add_failed(self, path: bytes, reason: str) -> None: ...

    def count_moved(self, count: int) -> None: ...


class SourceTree:
    """The source folder. It is for one thread."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._tree = RootedTree(root)
        self._limits = ReadLimits()

    def path_of(self, index: Index) -> bytes:
        return os.path.join(self.root, *index)

    def find(self, index: Index) -> Found | None:
        """Look at the object of that name; None if there is none. Raises OSError."""
        try:
            return self._reach(index, _look)
        except OSError as exc:
            if exc.errno in _ABSENT:
                return None
            raise

    def open(self, index: Index, seen: os.stat_result) -> int:
        """Open the file that was `seen`, and keep its access time.

        Raises FileNotFoundError with the reason if it is another one now, or none: duplicity passes over a file for a
        few errors only, and ends for all others. A lack of memory or descriptors is not the file's.
        """
        try:
            descriptor = self._reach(index, _open)
        except OSError as exc:
            if exc.errno in _OF_THIS_PROCESS:
                raise
            raise FileNotFoundError(errno.ENOENT, exc.strerror or str(exc)) from exc
        identity = Identity(seen.st_dev, seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid)
        if difference := identity.find_difference(os.fstat(descriptor)) or self._find_excess(descriptor):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, difference)
        return descriptor

    def _find_excess(self, descriptor: int) -> str:
        """Say why a file may not be read: the walk let it pass, but it may have grown by holes since."""
        try:
            self._limits.admit(descriptor)
        except OSError as exc:
            return exc.strerror or str(exc)
        return ""

    def _reach(self, index: Index, action: Callable[[int, bytes], T]) -> T:
        """Act on the open folder and the name in it; for a mail message that was moved meanwhile, on its new name."""
        folder, name = self._tree.place(b"/" + b"/".join(index))
        try:
            return action(folder, name)
        except FileNotFoundError:
            if not is_message(self.path_of(index)):
                raise
            with open_moved_message(folder, name) as place:
                if place is None:
                    raise
                return action(*place)


def _look(folder: int, name: bytes) -> Found:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return status, os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else None


def _open(folder: int, name: bytes) -> int:
    return open_to_read(name, folder)


class WatchedReader:
    """An open source file for duplicity: it hashes the content, and notices changes during the reading."""

    def __init__(self, name: bytes, descriptor: int, report: ReadReport) -> None:
        self.name = name  # the name in the report
        self._report = report
        self._stream = open(descriptor, "rb")  # noqa: SIM115 - duplicity closes it
        self._before = os.fstat(descriptor)
        self._left = self._before.st_size
        self._has_holes = has_holes(self._before)
        self._error: OSError | None = None
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, length: int = -1) -> bytes:
        wanted = self._left if length < 0 else min(length, self._left)
        try:
            block = b"" if self._error else self._read(wanted)
        except OSError as exc:
            self._error, block = exc, b""
        # duplicity reads on for its signature after the end of what it stores: there must be nothing more by then
        self._left = self._left - len(block) if len(block) == wanted else 0
        self._digest.update(block)
        self._size += len(block)
        self._report.count_moved(len(block))
        return block

    def _read(self, wanted: int) -> bytes:
        return read_chunk(self._stream.fileno(), wanted) if self._has_holes else self._stream.read(wanted)

    def close(self) -> None:
        after = os.fstat(self._stream.fileno())
        self._stream.close()
        if self._error:
            self._report.add_failed(self.name, f"read error: {self._error.strerror}")
            return
        if _rights(after) != _rights(self._before):
            self._report.add_failed(self.name, "its owner or mode changed while it was read")
            return
        changed = _state(after) != _state(self._before) or self._size != after.st_size
        self._report.add_stored(self.name, self._size, self._digest.hexdigest(), changed=changed)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _rights(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid
