"""Digests of file contents. Takes a name and gives hex digits. Reads the file once and follows no link."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator

from tklb.host.files.handles.read_limits import ReadLimits, has_holes, open_to_read, read_chunk

_MOST_AT_ONCE = 1 << 20
_TRIES = 2


class ContentChanged(OSError):
    """A file changed while it was read, twice in a row."""

    def __init__(self, path: bytes) -> None:
        super().__init__(errno.EBUSY, "changed while being read", path)


def file_digest(path: bytes, algorithm: str) -> str:
    """Give the digest (`sha256` or `md5`, lowercase hex) of a regular file. Raises OSError, ContentChanged."""
    return digest_with_status(path, algorithm)[0]


def digest_with_status(
    name: bytes,
    algorithm: str,
    folder: int | None = None,
    check: Callable[[], object] = lambda: None,
    limits: ReadLimits | None = None,
) -> tuple[str, os.stat_result]:
    """Give the digest of a regular file and the status of exactly this content: a later write changes the ctime.

    `folder` is the descriptor that `name` is relative to. `check` is called between reads and may raise to end them.
    A file that changes while it is read is read once more. If it does nothing but grow, as a log does, this is the
    content up to the length that it had when it was opened then. `limits` are those of the run; without them this call
    has its own. Raises OSError, ContentChanged.
    """
    limits = limits or ReadLimits()
    last: tuple[int, str] | None = None
    for _ in range(_TRIES):
        descriptor = open_to_read(name, folder)
        try:
            limits.admit(descriptor)
            before = os.fstat(descriptor)
            limits.wait_a_tick(before)
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
    content = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in _chunks(descriptor, min(mark, status.st_size), holes=has_holes(status)):
        content.update(chunk)
        check()
    start = content.hexdigest()
    for chunk in _chunks(descriptor, status.st_size - mark, holes=has_holes(status)):
        content.update(chunk)
        check()
    return content.hexdigest(), start


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _chunks(descriptor: int, size: int, *, holes: bool) -> Iterator[bytes]:
    read = read_chunk if holes else os.read
    while size > 0 and (chunk := read(descriptor, min(size, _MOST_AT_ONCE))):
        yield chunk
        size -= len(chunk)
