"""Wait until no other program changes packages. Takes the root of a file system; changes nothing.

apt waits by itself for dpkg's first lock only. dpkg, debconf and the refresh of the lists end at once where another
program holds a lock: an apt that a killed restore left behind, for example.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tklb.errors import PackagesFailed, printable

_OF_RECORDS = (
    b"var/lib/dpkg/lock-frontend",
    b"var/lib/dpkg/lock",
    b"var/lib/apt/lists/lock",
    b"var/cache/apt/archives/lock",
)  # locked by fcntl(2), which tells the holder
_OF_FILES = (b"var/cache/debconf/config.dat", b"var/cache/debconf/templates.dat")  # locked by flock(2)
_FLOCK = "hhqqi4x"  # struct flock of fcntl(2): type, whence, start, length, process
_LOOK = 0.5  # seconds between two looks

Report = Callable[[str], None]


def wait_for_locks(root: bytes, seconds: float, report: Report = lambda _text: None) -> None:
    """Return when no other program holds a lock of dpkg, apt or debconf; tell `report` once who is waited for.

    Raises PackagesFailed where one is still held after `seconds`.
    """
    end, seen = time.monotonic() + seconds, ""
    while holder := find_holder(root):
        if time.monotonic() > end:
            raise PackagesFailed(reason=f"{holder}, still after {seconds:g} seconds")
        if holder != seen:
            report(f"waiting: {holder}")
        seen = holder
        time.sleep(_LOOK)


def find_holder(root: bytes) -> str:
    """Say which program holds which lock; "" where none does."""
    for name in _OF_RECORDS:
        if (pid := _ask_record_lock(os.path.join(root, name))) is not None:
            return f"{_describe_process(pid)} holds /{name.decode()}"
    for name in _OF_FILES:
        if _is_locked(os.path.join(root, name)):
            return f"another process holds /{name.decode()}"
    return ""


def _ask_record_lock(path: bytes) -> int | None:
    """Give the process that holds a lock on a file, None where none does."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        finally:
            os.close(descriptor)
        kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
        return None if kind == fcntl.F_UNLCK else pid
    return None


def _is_locked(path: bytes) -> bool:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _describe_process(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{printable(Path(f'/proc/{pid}/comm').read_bytes().strip())} (process {pid})"
    return f"process {pid}"
