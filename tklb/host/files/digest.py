"""Digests of file contents. Takes a name and gives hex; reads the file once, without following a link."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_AT_ONCE = 1 << 20
_TRIES = 2
_TICK = 20_000_000  # nanoseconds; two changes of a file within one tick of the kernel have the same ctime


class ContentChanged(OSError):
    """A file that changed while it was being read, twice."""

    def __init__(self, path: bytes) -> None:
        super().__init__(errno.EBUSY, "changed while being read", path)


def file_digest(path: bytes, algorithm: str) -> str:
    """Give the digest (`sha256` or `md5`, lowercase hex) of a regular file. Raises OSError, ContentChanged."""
    return digest_with_status(path, algorithm)[0]


def digest_with_status(
    name: bytes, algorithm: str, folder: int | None = None, check: Callable[[], object] = lambda: None
) -> tuple[str, os.stat_result]:
    """Give the digest of a regular file and the status that goes with just this content: whoever writes to the file
    later moves its ctime.

    `folder` is the descriptor that `name` is relative to; `check` is called now and then and may raise an end. One
    change while reading is forgiven. Raises OSError, ContentChanged.
    """
    for _ in range(_TRIES):
        descriptor = _open(name, folder)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", name)
            if 0 <= time.time_ns() - before.st_ctime_ns < _TICK:
                time.sleep(_TICK / 1e9)
            content = hashlib.new(algorithm, usedforsecurity=False)
            for chunk in _chunks(descriptor, min(before.st_size + 1, _MOST_AT_ONCE)):
                content.update(chunk)
                check()
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
        ):
            return content.hexdigest(), after
    raise ContentChanged(name)


def _open(name: bytes, folder: int | None) -> int:
    try:
        return os.open(name, _OPEN | os.O_NOATIME, dir_fd=folder)
    except PermissionError:  # only the owner and root may leave the time of access alone
        return os.open(name, _OPEN, dir_fd=folder)


def _chunks(descriptor: int, length: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, length):
        yield chunk
