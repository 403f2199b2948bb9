"""Rows as lines, spread over files so that a change touches few of them.

A table is cut after about every 4 MiB, where the checksum of a line says so. So an inserted, changed or deleted row
moves no other cut, and all other files stay the same, byte by byte. The first file has the name of the table,
the name of each further one has a digest of its first line. Takes blocks of lines; writes private files into a folder.
"""

import hashlib
import os
from pathlib import Path
from typing import IO, Self

from isal.isal_zlib import crc32

from tklb.base.fs import PRIVATE_FILE, private_folder

_PER_BYTE = (1 << 32) // (4 << 20)  # of all checksums, those that cut: a share that grows with the line


class RowWriter:
    """The rows of one table. `files` are the names written so far, in order; `rows` counts lines, `size` bytes."""

    __slots__ = ("_repeats", "_stream", "files", "folder", "rows", "size", "stem")

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem
        self.files: list[str] = []
        self.rows = self.size = 0
        self._stream: IO[bytes] | None = None
        self._repeats: dict[str, int] = {}  # how many files begin with the same line

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the folder. A file is made only for a row."""
        private_folder(self.folder)

    def close(self) -> None:
        if self._stream:
            self._stream.close()

    def write(self, block: bytes) -> None:
        """Add whole lines, each with its newline."""
        if not block:
            return
        if not block.endswith(b"\n"):
            raise ValueError("a block must end with a newline")
        # a long row is in memory as few times as can be
        is_one = block.find(b"\n") == len(block) - 1
        lines: list[bytes | memoryview] = [memoryview(block)[:-1]] if is_one else [*block[:-1].split(b"\n")]
        self.rows += len(lines)
        self.size += len(block)
        stream = self._stream or self._begin_file(self.stem)
        start = place = 0
        checksums = list(map(crc32, lines))
        if min(checksums) >= max(map(len, lines)) * _PER_BYTE:
            stream.write(block)
            return
        for line, checksum in zip(lines, checksums, strict=True):
            length = len(line)
            if checksum < length * _PER_BYTE and (place or self.rows > len(lines)):
                stream.write(block[start:place])
                stream = self._begin_file(f"{self.stem}+{hashlib.sha256(line).hexdigest()[:16]}")
                start = place
            place += length + 1
        stream.write(block[start:])

    def _begin_file(self, name: str) -> IO[bytes]:
        if self._stream:
            self._stream.close()
        self._repeats[name] = again = self._repeats.get(name, -1) + 1
        name = f"{name}+{again}" if again else name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._stream = open(os.open(self.folder / name, flags, PRIVATE_FILE), "wb")  # noqa: SIM115 - until the next cut
        self.files.append(name)
        return self._stream
