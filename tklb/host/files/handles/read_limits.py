"""Read files of users so that nobody can hold tklb up: no lease is waited for, no hole is read, and not too many.

Takes names in open folders and open files. Gives descriptors and content. Changes nothing.
"""

import contextlib
import errno
import os
import threading
import time

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LEASE_LOOK, _LEASE_EACH, _LEASE_ALL = 0.02, 0.5, 3.0  # seconds
_ZEROS = bytes(1 << 20)
_TICK = 20_000_000  # nanoseconds; two changes of a file within one tick of the kernel have the same ctime
_TICKS = 50  # waits of a tick in one run
_SMALL = 64 << 20  # bytes; a file of this length may be all holes
_RATIO = 4  # times the data: so many holes have images of disks
_HOLES_OF_ROOT = 16 << 30  # bytes beyond that in one run
_HOLES_EACH, _HOLES_ALL = 512 << 20, 2 << 30  # the same for each user, and for all users together
_MOST_PARTS = 10_000  # of a file that are looked at; one with more counts by its blocks

Identity = tuple[int, int]


class _LeaseWait:
    """Waits for holders of leases: some time for each file, and some for all files of this process."""

    def __init__(self) -> None:
        self._left = _LEASE_ALL

    def open(self, name: bytes, flags: int, folder: int | None) -> int:
        until = time.monotonic() + min(self._left, _LEASE_EACH)
        while (descriptor := _try_open(name, flags, folder)) is None:
            if time.monotonic() >= until:
                raise BlockingIOError(errno.EAGAIN, "a program holds a lease of it and does not give it up", name)
            time.sleep(_LEASE_LOOK)
            self._left -= _LEASE_LOOK
        return descriptor


def _try_open(name: bytes, flags: int, folder: int | None) -> int | None:
    try:
        return os.open(name, flags, dir_fd=folder)
    except BlockingIOError:
        return None


_leases = _LeaseWait()


def open_to_read(name: bytes, folder: int | None = None) -> int:
    """Open a file for reading: follow no link, wait for no pipe, and keep its access time where that is allowed.

    The owner of a file may hold a lease of it (fcntl(2)). Then open(2) would wait for 45 seconds, for each file. An
    honest holder gives it up within milliseconds; so this waits a moment, but not much for all files together.
    """
    try:
        return _leases.open(name, _OPEN | os.O_NOATIME, folder)
    except PermissionError:  # only root and the owner may read without a new access time
        return _leases.open(name, _OPEN, folder)


def has_holes(status: os.stat_result) -> bool:
    """Whether a file has less on its disk than its length. One that the file system compresses has, too."""
    return status.st_blocks * 512 < status.st_size


def may_be_mostly_holes(status: os.stat_result) -> bool:
    """Whether a file is large, and most of it may be holes: only its content tells."""
    return status.st_size > _SMALL and status.st_size > (1 + _RATIO) * status.st_blocks * 512


def read_chunk(descriptor: int, most: int) -> bytes:
    """Read on, at most `most` bytes and a mebibyte. A hole of this size is not read: lseek(2) finds it, it is zeros."""
    count = min(most, len(_ZEROS))
    here = os.lseek(descriptor, 0, os.SEEK_CUR)
    if here + count <= _find_data(descriptor, here):
        os.lseek(descriptor, here + count, os.SEEK_SET)
        return _ZEROS[:count]
    os.lseek(descriptor, here, os.SEEK_SET)
    return os.read(descriptor, count)


def _find_data(descriptor: int, here: int) -> int:
    """Give where the next data begins; the end of the file where there is a hole up to the end."""
    try:
        return os.lseek(descriptor, here, os.SEEK_DATA)
    except OSError as exc:
        return os.fstat(descriptor).st_size if exc.errno == errno.ENXIO else here


class ReadLimits:
    """What one run may spend on files that cost their owner nothing. Safe for several threads.

    A file of any length can be made out of nothing: one hole. Holes cost as much time as data, so their sum is limited,
    for each owner and for all users. Holes up to some times the data of a file are free.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[Identity, int] = {}
        self._used: dict[int, int] = {}
        self._ticks = _TICKS

    def admit(self, descriptor: int) -> None:
        """Raise OSError where an open file has more holes than this run may still read. The same file counts once."""
        status = os.fstat(descriptor)
        price = _price(descriptor, status)
        if price <= 0:
            return
        identity, owner = (status.st_dev, status.st_ino), status.st_uid
        with self._lock:
            price -= self._taken.get(identity, 0)
            if price > min(self._count_left(owner), _HOLES_OF_ROOT if owner == 0 else self._count_left_for_users()):
                raise OSError(errno.EFBIG, "it is mostly holes, and together with others more than a run reads")
            if price > 0:
                self._taken[identity] = self._taken.get(identity, 0) + price
                self._used[owner] = self._used.get(owner, 0) + price

    def _count_left(self, owner: int) -> int:
        return (_HOLES_EACH if owner else _HOLES_OF_ROOT) - self._used.get(owner, 0)

    def _count_left_for_users(self) -> int:
        return _HOLES_ALL - sum(self._used.values()) + self._used.get(0, 0)

    def wait_a_tick(self, status: os.stat_result) -> None:
        """Wait until a later change of a file has another ctime. A user who touches files all the time ends that.

        Without it two changes may look like one. Then the digests of what was read differ, and the file is named.
        """
        if self._ticks > 0 and 0 <= time.time_ns() - status.st_ctime_ns < _TICK:
            self._ticks -= 1
            time.sleep(_TICK / 1e9)


def _price(descriptor: int, status: os.stat_result) -> int:
    """The holes of a file beyond those that are free, rounded up, in bytes.

    The number of blocks says nothing where the file system compresses, or has not written yet: so holes are counted.
    """
    if not may_be_mostly_holes(status):
        return 0
    counted = _count_data(descriptor, status.st_size)
    data = status.st_blocks * 512 if counted is None else counted
    return max(0, status.st_size - (1 + _RATIO) * data + len(_ZEROS))


def _count_data(descriptor: int, size: int) -> int | None:
    """Count the bytes of a file that are in no hole. None for a file of too many parts."""
    count = end = 0
    for _ in range(_MOST_PARTS):
        begin = _find_data(descriptor, end)
        if begin >= size:
            break
        end = size
        with contextlib.suppress(OSError):
            end = min(size, os.lseek(descriptor, begin, os.SEEK_HOLE))
        count += end - begin
    else:
        return None
    os.lseek(descriptor, 0, os.SEEK_SET)
    return count
