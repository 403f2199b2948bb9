"""The contents of files on their way into place: found in one of the stages, and hashed, large ones before their turn.

Takes stages (private folders) and paths; gives open files and their digests. Changes nothing.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from tklb.host.files.openat import Beneath, digest_of
from tklb.host.files.readahead import Reader, is_large, read_in_turn
from tklb.model.files import FileEntry

T = TypeVar("T")


@dataclass(slots=True)
class Content:
    """An open file in a stage, to be closed; `begun` is its digest in the making."""

    descriptor: int
    stage: Beneath
    begun: Future[str] | None = None

    def sha256(self) -> str:
        """Its digest in lowercase hex."""
        return self.begun.result() if self.begun else digest_of(self.descriptor, "sha256")

    def close(self) -> None:
        if self.begun and not self.begun.cancel():
            self.begun.exception()  # nobody may read a descriptor that is closed and soon another file's
        os.close(self.descriptor)


class StagedContents:
    """The files of some stages. What was begun ahead waits here for its turn; close it when done."""

    def __init__(self, stages: Sequence[bytes]) -> None:
        self._begun: dict[bytes, Content] = {}
        self._reader = Reader()
        with ExitStack() as opened:
            self._stages = [opened.enter_context(Beneath(stage)) for stage in stages]
            self._opened = opened.pop_all()

    def open(self, path: bytes) -> Content | None:
        """The content of `path`; None where no stage has it. Raises as Beneath.open_file() does else."""
        if begun := self._begun.pop(path, None):
            return begun
        for stage in self._stages:
            with contextlib.suppress(FileNotFoundError):
                return Content(stage.open_file(path), stage)
        return None

    def ahead(self, items: Iterable[T], entry_of: Callable[[T], FileEntry | None]) -> Iterator[T]:
        """Give `items` in their order, while large files that they write are hashed; open() has those then."""
        paths = ((item, self._begin(entry_of(item))) for item in items)
        for item, path in read_in_turn(paths, lambda pair: pair[1] is not None):
            yield item
            if path and (unused := self._begun.pop(path, None)):
                unused.close()

    def close(self) -> None:
        self._reader.close()
        for path in tuple(self._begun):
            self._begun.pop(path).close()
        self._opened.close()

    def _begin(self, entry: FileEntry | None) -> bytes | None:
        """Give the path where reading it has begun. What is copied because of its holes is hashed on the way."""
        if entry is None or entry.sparse or not is_large(entry):
            return None
        with contextlib.suppress(OSError, ValueError):  # its own turn will tell
            if content := self.open(entry.path):
                content.begun = self._reader.begin(digest_of, content.descriptor, "sha256", self._reader.check)
                self._begun[entry.path] = content
                return entry.path
        return None
