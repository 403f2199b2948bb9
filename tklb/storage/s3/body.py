"""What an S3 service is sent, as a stream: a stretch of a file, read as the connection takes it.

Takes an open file; gives what an HTTP client reads. Touches nothing but that file.
"""

import hashlib
import os
from collections.abc import Callable
from typing import IO

from tklb.storage.backend import Moved

_BLOCK = 1 << 20


class Changed(Exception):
    """The file is not as long as it was."""


class Body:
    """`size` bytes of a file from `start` on. `moved` is told what was taken.

    An HTTP client makes a failure of its own of whatever is raised while it reads: the true one is in `failure`.
    With `hashed` the digests of what was sent last are in `md5` and `sha256`.
    """

    def __init__(self, file: IO[bytes], start: int, size: int, moved: Moved, *, hashed: bool) -> None:
        self._file, self._start, self._size = file, start, size
        self._moved, self.is_hashed = moved, hashed
        self._position = 0
        self.failure: BaseException | None = None
        self.seek(0)

    def read(self, amount: int | None = None) -> bytes:
        """The next bytes, at most `amount`, none at the end."""
        left = self._size - self._position
        wanted = left if amount is None or amount < 0 else min(amount, left)
        try:
            block = _stretch(self._file, self._start + self._position, wanted)
            self._moved(len(block))
        except BaseException as exc:
            self.failure = exc
            raise
        self._position += len(block)
        if self.is_hashed:
            self.md5.update(block)
            self.sha256.update(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place. Only from the start on are digests right."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position if whence else 0, os.SEEK_END: self._size}[whence]
        self._position = min(max(origin + offset, 0), self._size)
        if self._position == 0:
            self.md5 = hashlib.md5(usedforsecurity=False)  # what S3 calls an ETag
            self.sha256 = hashlib.sha256()
        return self._position

    def tell(self) -> int:
        return self._position


def digest_of_stretch(file: IO[bytes], start: int, size: int, tell: Callable[[bytes], object]) -> bytes:
    """SHA-256 of a stretch of a file, whose blocks `tell` gets too. Raises Changed where the file ends early."""
    digest, position = hashlib.sha256(), start
    while position < start + size:
        block = _stretch(file, position, min(_BLOCK, start + size - position))
        digest.update(block)
        tell(block)
        position += len(block)
    return digest.digest()


def _stretch(file: IO[bytes], position: int, size: int) -> bytes:
    block = os.pread(file.fileno(), size, position)
    if size and not block:
        raise Changed
    return block
