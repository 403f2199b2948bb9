"""Copy one SQLite database with SQLite's own backup: a program of its own, started by copy_database().

Takes an open folder, a name in it and the path of the copy; prints why there is none. Before it opens the database it
locks itself into that folder (chroot) and becomes the database's owner, or that of the folder if they differ. So no
link leads it anywhere else, and the file that SQLite makes beside a database in use (-shm) is no root's. A database or
journal that was forged to make SQLite write, delete or crash reaches only what its owner can reach anyway: rolling back
a forged journal deletes the file that it names (`pager_delsuper` in SQLite's pager.c). Imports nothing of tklb.
"""

import contextlib
import ctypes
import os
import resource
import sqlite3
import stat
import struct
import sys
import time
from dataclasses import dataclass

# exit statuses: no copy; changed while being read, worth another try; left in the middle of a transaction
REFUSED, CHANGED, UNFINISHED = 74, 75, 76

_NOBODY = 65534
_KEEP_CAPABILITIES, _CAP_DAC_READ_SEARCH, _CAPABILITY_VERSION = 8, 2, 0x20080522  # prctl(2), capabilities(7), capget(2)
_STEP = 4096  # pages for which a writer is kept waiting at once
_DESCRIPTORS = 256  # more than this process ever opens
_TICK = 20_000_000  # nanoseconds; two changes of a file within one tick of the kernel have the same ctime
_WAL_VERSION = 2  # byte 18 of the header, https://www.sqlite.org/fileformat2.html#file_format_version_numbers
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class CopyRefused(Exception):
    """The database cannot be copied, and why."""


class DatabaseChanged(Exception):
    """The database changed while it was read, and must be read again."""


class _LockTimeout(Exception):
    """Another process kept its lock longer than this one waits."""


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """`folder` is an open descriptor; `name` in it must be the file with `identity` (device, inode).

    `patience` is in seconds, `most` is the size in bytes that the copy may reach. With `hold` writers wait until all is
    read; else they may write after every step, and if one does the database has changed.
    """

    folder: int
    name: bytes
    identity: tuple[int, int]
    destination: bytes
    patience: float
    most: int
    hold: bool


def main(arguments: list[str]) -> int:
    folder, name, device, inode, destination, patience, most, hold = arguments
    identity = int(device), int(inode)
    copy_to = os.fsencode(destination)
    order = CopyOrder(int(folder), os.fsencode(name), identity, copy_to, float(patience), int(most), hold == "True")
    try:
        with contextlib.closing(_connect(copy_to, order)) as copy:
            _prepare(copy)
            _confine(order)
            _read(order, copy)
    except DatabaseChanged:
        return CHANGED
    except (CopyRefused, _LockTimeout, sqlite3.Error, OSError) as exc:
        if _code(exc) == "SQLITE_READONLY_ROLLBACK":
            return UNFINISHED
        sys.stdout.write(_reason(exc))
        return REFUSED
    return 0


def _connect(database: bytes | str, order: CopyOrder) -> sqlite3.Connection:
    is_address = isinstance(database, str)
    return sqlite3.connect(database, timeout=order.patience, isolation_level=None, uri=is_address)


def _prepare(copy: sqlite3.Connection) -> None:
    """Have the new file open and locked for good: its path means something else as soon as we are confined."""
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
        copy.execute(f"PRAGMA {pragma}").fetchall()
    copy.execute("BEGIN EXCLUSIVE")
    copy.execute("COMMIT")


def _confine(order: CopyOrder) -> None:
    os.fchdir(order.folder)
    os.chroot(b".")
    status = _status(order)
    resource.setrlimit(resource.RLIMIT_FSIZE, (order.most, order.most))
    uid, gid = _choose_account(status, os.fstat(order.folder))
    is_stranger = uid != status.st_uid
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    if is_stranger:
        _call("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setresuid(uid, uid, uid)
    if is_stranger:
        _keep_reading()


def _choose_account(database: os.stat_result, folder: os.stat_result) -> tuple[int, int]:
    """The owner of the database, unless somebody else can put files beside it: then that one, or nobody.

    What lies beside a database leads SQLite. It must not lead one user, least of all root, in the folder of another.
    """
    if folder.st_uid not in (0, database.st_uid):
        return folder.st_uid, folder.st_gid
    if database.st_uid == 0 and folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return _NOBODY, _NOBODY
    return database.st_uid, database.st_gid


def _keep_reading() -> None:
    """Have the right to read all files, and no other right of root's: see capabilities(7)."""
    wanted = 1 << _CAP_DAC_READ_SEARCH
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _call("capset", header, struct.pack("=6I", wanted, wanted, 0, 0, 0, 0))


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _status(order: CopyOrder) -> os.stat_result:
    try:
        status = os.lstat(order.name)
    except FileNotFoundError as exc:
        raise CopyRefused("vanished before it was copied") from exc
    if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) != order.identity:
        raise CopyRefused("it became something else before it was copied")
    return status


def _read(order: CopyOrder, copy: sqlite3.Connection) -> None:
    """Choose the way of reading that makes no file beside the database, see https://www.sqlite.org/wal.html#readonly.

    Reading in WAL mode needs a -shm, and makes it and a -wal where there are none. But without a -wal all there is is
    in the database itself: then it is read as a file that does not change, and it must indeed not have changed. Only
    where the last process closes the database just after we looked, SQLite leaves both there, empty and the owner's.
    """
    has_log = _has_log(order)
    is_still = not has_log and _is_in_wal_mode(order.name)
    address = "file:/" + "".join(f"%{byte:02x}" for byte in order.name) + "?mode=ro"
    with contextlib.closing(_connect(address + "&immutable=1" * is_still, order)) as source:
        if order.identity not in _open_files():
            raise CopyRefused("it became something else before it was copied")
        if has_log or (order.hold and not is_still):
            source.execute("BEGIN")
            source.execute("PRAGMA schema_version").fetchall()  # the first look takes the lock
        before = _fingerprint_at_rest(order)
        source.backup(copy, pages=_STEP, progress=_Watch())
        # Without a log this holds for any kind of lock, and for a writer who takes none.
        if not has_log and (_has_log(order) or _fingerprint(_status(order)) != before):
            raise DatabaseChanged


def _has_log(order: CopyOrder) -> bool:
    return os.path.lexists(order.name + b"-wal")


def _fingerprint_at_rest(order: CopyOrder) -> tuple[int, ...]:
    """A fingerprint that any later change of the file changes: waits until the clock of the kernel can show it."""
    if 0 <= time.time_ns() - _status(order).st_ctime_ns < _TICK:
        time.sleep(_TICK / 1e9)
    return _fingerprint(_status(order))


def _fingerprint(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_in_wal_mode(name: bytes) -> bool:
    # Closed before SQLite opens the file: a close would take away the locks that this process has on it.
    descriptor = os.open(name, _READ)
    try:
        return os.pread(descriptor, 1, 18) == bytes([_WAL_VERSION])
    finally:
        os.close(descriptor)


def _open_files() -> set[tuple[int, int]]:
    """Device and inode of all that this process has open, and so of what SQLite opened by its name."""
    found = set()
    for descriptor in range(_DESCRIPTORS):
        with contextlib.suppress(OSError):
            status = os.fstat(descriptor)
            found.add((status.st_dev, status.st_ino))
    return found


class _Watch:
    """Called after every step: sqlite3 itself would wait for a lock, and begin anew, for ever."""

    def __init__(self) -> None:
        self._left: int | None = None

    def __call__(self, status: int, left: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _LockTimeout
        if status == sqlite3.SQLITE_OK:  # what else is wrong, sqlite3 raises itself
            if self._left is not None and left >= self._left:
                raise DatabaseChanged
            self._left = left


def _code(exc: Exception) -> str:
    return str(getattr(exc, "sqlite_errorname", ""))


def _reason(exc: Exception) -> str:
    if isinstance(exc, _LockTimeout) or _code(exc).startswith("SQLITE_BUSY"):
        return "another process kept it locked"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return f"SQLite could not read it: {exc}" if isinstance(exc, sqlite3.Error) else str(exc)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
