"""Digests of file contents. Takes a name and gives hex digits. Reads the file once and follows no link."""

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
    """A file changed while it was read, twice in a row."""

    def __init__(self, path: bytes) -> None:
        super().__init__(errno.EBUSY, "changed while being read", path)


def file_digest(path: bytes, algorithm: str) -> str:
    """Give the digest (`sha256` or `md5`, lowercase hex) of a regular file. Raises OSError, ContentChanged."""
    return digest_with_status(path, algorithm)[0]


def digest_with_status(
    name: bytes, algorithm: str, folder: int | None = None, check: Callable[[], object] = lambda: None
) -> tuple[str, os.stat_result]:
    """Give the digest of a regular file and the status of exactly this content: a later write changes the ctime.

    `folder` is the descriptor that `name` is relative to. `check` is called between reads and may raise to end them.
    A file that changes while it is read is read once more. If it does nothing but grow, as a log does, this is the
    content up to the length that it had when it was opened then. Raises OSError, ContentChanged.
    """
    last: tuple[int, str] | None = None
    for _ in range(_TRIES):
        descriptor = _open(name, folder)
        try:
            before = os.fstat(descriptor)
            digest, start = _digest(descriptor, algorithm, before, last[0] if last else 0, check)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if _version(before) == _version(after):
            return digest, after
        if last and start == last[1] and before.st_size <= after.st_size:
            return digest, before
        last = before.st_size, digest
    raise ContentChanged(name)


def _digest(
    descriptor: int, algorithm: str, status: os.stat_result, mark: int, check: Callable[[], object]
) -> tuple[str, str]:
    """Give the digest of the whole, and that of the first `mark` bytes."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if 0 <= time.time_ns() - status.st_ctime_ns < _TICK:
        time.sleep(_TICK / 1e9)
    content = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in _chunks(descriptor, min(mark, status.st_size)):
        content.update(chunk)
        check()
    start = content.hexdigest()
    for chunk in _chunks(descriptor, status.st_size - mark):
        content.update(chunk)
        check()
    return content.hexdigest(), start


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open(name: bytes, folder: int | None) -> int:
    try:
        return os.open(name, _OPEN | os.O_NOATIME, dir_fd=folder)
    except PermissionError:  # only root and the owner may read without a new access time
        return os.open(name, _OPEN, dir_fd=folder)


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := os.read(descriptor, min(size, _MOST_AT_ONCE))):
        yield chunk
        size -= len(chunk)
