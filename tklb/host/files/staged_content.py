"""The contents of files that wait in a stage: found there and hashed, large ones before their turn; and their copies.

Takes stages (private folders) and paths; gives open files and their digests. Changes no stage.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from tklb.host.files.openat import RootedTree, digest_of
from tklb.host.files.readahead import BackgroundReader, is_large, read_in_turn
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry

T = TypeVar("T")
_CHUNK = 1 << 16
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class StagedContent:
    """An open file in a stage. Close it after use. `pending` is its digest, if a thread makes one."""

    descriptor: int
    stage: RootedTree
    pending: Future[str] | None = None

    def sha256(self) -> str:
        """Give the digest in lowercase hex. Reads the file, unless a thread does."""
        return self.pending.result() if self.pending else digest_of(self.descriptor, "sha256")

    def close(self) -> None:
        if self.pending and not self.pending.cancel():
            self.pending.exception()  # wait: a closed descriptor is soon that of another file
        os.close(self.descriptor)


class StagedContents:
    """The files of some stages. Files that a thread hashes wait here for their turn. Close it when done."""

    def __init__(self, stages: Sequence[bytes]) -> None:
        self._waiting: dict[bytes, StagedContent] = {}
        self._reader = BackgroundReader()
        with ExitStack() as opened:
            self._stages = [opened.enter_context(RootedTree(stage)) for stage in stages]
            self._opened = opened.pop_all()

    def open(self, path: bytes) -> StagedContent | None:
        """Open the content of `path`; None if no stage has it. Raises as RootedTree.open_file() does."""
        if waiting := self._waiting.pop(path, None):
            return waiting
        for stage in self._stages:
            with contextlib.suppress(FileNotFoundError):
                return StagedContent(stage.open_file(path), stage)
        return None

    def prepare_ahead(self, items: Iterable[T], entry_of: Callable[[T], FileEntry | None]) -> Iterator[T]:
        """Give `items` in their order, while threads hash the large files of the next ones; open() gives those."""
        paths = ((item, self._start(entry_of(item))) for item in items)
        for item, path in read_in_turn(paths, lambda pair: pair[1] is not None):
            yield item
            if path and (unused := self._waiting.pop(path, None)):
                unused.close()

    def close(self) -> None:
        self._reader.close()
        for path in tuple(self._waiting):
            self._waiting.pop(path).close()
        self._opened.close()

    def _start(self, entry: FileEntry | None) -> bytes | None:
        """Let a thread hash the file, and give its path; None for others. The copy of a file with holes hashes it."""
        if entry is None or entry.sparse or not is_large(entry):
            return None
        with contextlib.suppress(OSError, ValueError):  # its own turn will report it
            if content := self.open(entry.path):
                pending = self._reader.start(digest_of, content.descriptor, "sha256", self._reader.check)
                self._waiting[entry.path] = replace(content, pending=pending)
                return entry.path
        return None


def copy_content(source: int, target: int, *, holes: bool) -> str:
    """Copy to the present end and give the SHA-256. With `holes`, blocks of zeros become holes."""
    digest, size, most = hashlib.sha256(), 0, os.fstat(source).st_size
    while chunk := os.read(source, min(_CHUNK, most - size)):
        digest.update(chunk)
        _write_chunk(target, chunk, size, holes=holes)
        size += len(chunk)
    os.ftruncate(target, size)
    return digest.hexdigest()


def _write_chunk(target: int, chunk: bytes, offset: int, *, holes: bool) -> None:
    step = _BLOCK if holes else len(chunk)
    for start in range(0, len(chunk), step):
        block = chunk[start : start + step]
        if not holes or block.count(0) != len(block):
            _write_all(target, block, offset + start)


def _write_all(target: int, block: bytes, offset: int) -> None:
    while block:
        written = os.pwrite(target, block, offset)
        block, offset = block[written:], offset + written
