"""The body of an S3 request: a stretch of a file, read as fast as the connection takes it.

Takes an open file; gives a stream for an HTTP client. Touches nothing but that file.
"""

import hashlib
import os
from collections.abc import Callable
from typing import IO

from tklb.storage.backend import Moved

_BLOCK = 1 << 20


class FileChanged(Exception):
    """The file changed during the upload."""


class UploadBody:
    """`size` bytes of a file from `start` on. `moved` gets the bytes that the client takes.

    An HTTP client replaces any exception of its body by one of its own: the true one is in `failure`. With `hashed`,
    `md5` and `sha256` are the digests of the bytes taken since the last seek to the start.
    """

    def __init__(
        self, file: IO[bytes], start: int, size: int, moved: Moved, *, hashed: bool, known_sha256: str = ""
    ) -> None:
        self.known_sha256 = known_sha256  # of the whole body, in hex; "" where a header of the request has it
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
        """Go to a place. The digests are right only from the start on."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position if whence else 0, os.SEEK_END: self._size}[whence]
        self._position = min(max(origin + offset, 0), self._size)
        if self._position == 0:
            self.md5 = hashlib.md5(usedforsecurity=False)  # what S3 calls an ETag
            self.sha256 = hashlib.sha256()
        return self._position

    def measure_md5(self) -> bytes:
        """Give the MD5 of the whole body. Reads it, and counts nothing as moved."""
        md5 = hashlib.md5(usedforsecurity=False)
        digest_stretch(self._file, self._start, self._size, md5.update)
        return md5.digest()

    def tell(self) -> int:
        return self._position


def digest_stretch(file: IO[bytes], start: int, size: int, take: Callable[[bytes], object]) -> bytes:
    """SHA-256 of a stretch of a file; `take` gets every block too. Raises FileChanged where the file ends early."""
    digest, position = hashlib.sha256(), start
    while position < start + size:
        block = _stretch(file, position, min(_BLOCK, start + size - position))
        digest.update(block)
        take(block)
        position += len(block)
    return digest.digest()


def _stretch(file: IO[bytes], position: int, size: int) -> bytes:
    block = os.pread(file.fileno(), size, position)
    if size and not block:
        raise FileChanged
    return block
