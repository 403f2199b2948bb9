"""SQLite databases among the files: which are in use, and a whole copy of one.

Takes paths as they are on this machine; gives the open files, and size and digest of a copy. Reads /proc and the
databases, writes the copy; changes neither the databases nor the files beside them. SQLite itself runs in a process of
its own without our rights; reader.py says why. So none of its locks is lost when we close a file.
"""

import os
import stat
import sys
import time
from collections.abc import Iterator
from itertools import islice

from tklb.base.fs import free_space
from tklb.base.process import ProcessResult, run
from tklb.diff.sqlite_names import LOGS
from tklb.errors import ProgramFailed
from tklb.host.files.handles.read_limits import open_to_read
from tklb.host.files.openat import NoFolder, RootedTree, digest_of
from tklb.host.sqlite import reader
from tklb.host.sqlite.patience import Seconds, expect_seconds
from tklb.lazy_dataclass import dataclass

HEADER = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat2.html#the_database_header

Identity = tuple[int, int]  # device, inode

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HEADER_SIZE = 100
_LARGEST_PAGE = 65536  # stored as 1
_GROWTH = 64 << 20  # bytes that a database may grow while we look
_START = 5.0  # seconds until the process that copies may be at work
_MOST_OPEN = 200_000  # descriptors that are looked at
_MOST_HOLES = 8  # times the data: databases have next to none, and compression of the file system gives less
_TRIES = 3
_ANY_STATUS = range(-64, 256)


class NotCopied(Exception):
    """No copy was made; `reason` says why, as the reason of a skipped item."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unfinished(NotCopied):
    """A process ended in the middle of a transaction. SQLite undoes it with the journal beside the database."""

    def __init__(self) -> None:
        super().__init__("a process ended in the middle of a transaction")


@dataclass(frozen=True, slots=True)
class CopiedDatabase:
    """A copy of a database: `size` in bytes, `sha256` lowercase hex."""

    size: int
    sha256: str


def is_sqlite(path: bytes) -> bool:
    """Whether `path` is a plain file that begins as SQLite databases do. An encrypted one does not."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # opening a device may do something
            return False
        descriptor = open_to_read(path)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, len(HEADER), 0) == HEADER
    except OSError:
        return False
    finally:
        os.close(descriptor)


def list_open_files() -> frozenset[Identity] | None:
    """List the plain files that any process but this one has open, as lstat of their paths gives them.

    Files that a container shares with the host (binds, volumes) have the same identity in both. Processes that end and
    files that close meanwhile are left out. None where so many are open that it would take long: any may be open then.
    """
    own = str(os.getpid())
    names = (name for pid in os.listdir("/proc") if pid.isdigit() and pid != own for name in _list_files_of(pid))
    seen = list(islice(names, _MOST_OPEN + 1))
    if len(seen) > _MOST_OPEN:
        return None
    return frozenset(identity for name in seen for identity in _identify(name))


def _list_files_of(pid: str) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        yield from (f"{folder}/{name}" for name in os.listdir(folder))
    except OSError:
        return


def _identify(descriptor: str) -> Iterator[Identity]:
    try:
        if not os.readlink(descriptor).startswith("/"):  # pipes, sockets and the like
            return
        status = os.stat(descriptor)
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        yield status.st_dev, status.st_ino


def is_in_use(path: bytes, identity: Identity, opened: frozenset[Identity] | None) -> bool:
    """Whether a process has the database open, or left content in a log beside it. None: any file may be open."""
    return opened is None or identity in opened or any(_size(path + end) for end in LOGS)


def _size(path: bytes, folder: int | None = None) -> int:
    try:
        status = os.lstat(path, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:  # a log that nobody can read may have content: the copy then reports it
        return 1
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def copy_database(source: bytes, seen: Identity, destination: bytes, patience: Seconds) -> CopiedDatabase:
    """Write the database `source`, which must be the file `seen`, to the new file `destination`, as of one moment.

    The same content gives the same bytes. The copy has mode 0600; a failure leaves none. Waits `patience` seconds for
    locks, in all tries together. Needs root. Raises NotCopied, and FileExistsError where there is a `destination`.
    """
    os.close(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with RootedTree(b"/") as machine:
            folder, name = _place(machine, source)
            _copy(folder, name, seen, destination, patience)
        return _check_copy(destination)
    except BaseException:
        os.unlink(destination)
        raise


def _place(machine: RootedTree, source: bytes) -> tuple[int, bytes]:
    try:
        return machine.place(source)
    except NoFolder as exc:
        raise NotCopied("a folder above it became something else") from exc
    except (OSError, ValueError) as exc:
        raise NotCopied(f"its folder cannot be entered: {exc}") from exc


def _copy(folder: int, name: bytes, seen: Identity, destination: bytes, patience: Seconds) -> None:
    until = time.monotonic() + patience
    for attempt in range(_TRIES):
        most, left = _most(folder, name, destination), max(0.0, until - time.monotonic())
        arguments = (folder, name, *seen, destination, left, most, attempt > 0)
        timeout = _START + left + expect_seconds(most - _GROWTH)
        argv = [sys.executable, "-IS", "-X", "utf8", reader.__file__]
        argv += [os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in arguments]
        try:
            result = run(argv, accept=_ANY_STATUS, timeout=timeout, pass_fds=[folder])
        except ProgramFailed as exc:
            raise NotCopied("the process that copies it was held up, or could not start") from exc
        if result.status == 0:
            return
        if result.status == reader.UNFINISHED:
            raise Unfinished
        if result.status != reader.CHANGED:
            raise NotCopied(_reason(result))
        os.truncate(destination, 0)
    raise NotCopied("it changed each time it was read")


def _most(folder: int, name: bytes, destination: bytes) -> int:
    """How large the copy may become. Raises NotCopied where it cannot be made."""
    try:
        status = os.lstat(name, dir_fd=folder)
    except OSError as exc:
        raise NotCopied("vanished before it was copied") from exc
    if status.st_nlink > 1:
        raise NotCopied("it has more than one name, and what was written last may lie beside another")
    if status.st_size > _MOST_HOLES * status.st_blocks * 512 + _GROWTH:
        raise NotCopied("it is mostly holes, and so no database")
    size = status.st_size + _size(name + b"-wal", folder)
    if size > free_space(destination):
        raise NotCopied(f"there is no room for a copy of {size} bytes")
    return size + _GROWTH


def _reason(result: ProcessResult) -> str:
    if result.status == reader.REFUSED and result.stdout:
        return result.stdout.decode("utf-8", "replace")
    message = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"the process that copies it ended with status {result.status} {message}".rstrip()


def _check_copy(destination: bytes) -> CopiedDatabase:
    """Check that the copy has as many pages as its header says. Raises NotCopied."""
    descriptor = os.open(destination, _OPEN)
    try:
        size = os.fstat(descriptor).st_size
        header = os.pread(descriptor, _HEADER_SIZE, 0)
        page = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        if not header.startswith(HEADER) or (_LARGEST_PAGE if page == 1 else page) * pages != size:
            raise NotCopied("the copy is not whole: the database is damaged")
        return CopiedDatabase(size, digest_of(descriptor, "sha256"))
    finally:
        os.close(descriptor)
