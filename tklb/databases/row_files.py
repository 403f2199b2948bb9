"""Rows as lines, spread over files so that a change touches few of them.

A table is cut where a line's own checksum says so, about every 4 MiB: an inserted, changed or deleted row moves no
other cut, and all files but the one it is in stay the same, byte by byte. The first file has the name of the table,
each further one is named after the line it begins with. Takes blocks of lines; writes private files into a folder.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from isal.isal_zlib import crc32

from tklb.base.fs import PRIVATE_FILE, private_folder

_PER_BYTE = (1 << 32) // (4 << 20)  # of all checksums, those that cut: a share that grows with the line


@dataclass(slots=True)
class RowWriter:
    """The rows of one table. `files` are the names written so far, in order; `rows` counts lines, `size` bytes."""

    folder: Path
    stem: str
    files: list[str] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    _stream: IO[bytes] | None = None
    _begun: dict[str, int] = field(default_factory=dict)  # how many files began with the same line

    def __enter__(self) -> Self:
        private_folder(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream:
            self._stream.close()

    def write(self, block: bytes) -> None:
        """Add whole lines, each with its newline."""
        if not block:
            return
        lines = block.split(b"\n")
        if lines.pop():
            raise ValueError("a block must end with a newline")
        self.rows += len(lines)
        self.size += len(block)
        stream = self._stream or self._open(self.stem)
        start = place = 0
        checksums = list(map(crc32, lines))
        if min(checksums) >= max(map(len, lines)) * _PER_BYTE:
            stream.write(block)
            return
        for line, checksum in zip(lines, checksums, strict=True):
            length = len(line)
            if checksum < length * _PER_BYTE and (place or self.rows > len(lines)):
                stream.write(block[start:place])
                stream = self._open(f"{self.stem}+{hashlib.sha256(line).hexdigest()[:16]}")
                start = place
            place += length + 1
        stream.write(block[start:])

    def _open(self, name: str) -> IO[bytes]:
        if self._stream:
            self._stream.close()
        self._begun[name] = again = self._begun.get(name, -1) + 1
        name = f"{name}+{again}" if again else name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._stream = open(os.open(self.folder / name, flags, PRIVATE_FILE), "wb")  # noqa: SIM115 - until the next cut
        self.files.append(name)
        return self._stream
