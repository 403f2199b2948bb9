"""A target that nothing is written to: for runs that only show what they would do.

Takes a target; gives a Target that reads there and notes the rest. Touches what it reads.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tklb.storage.backend import Backend, ListedObject, Moved, StoredObject, check_name, ignore_moved


@dataclass(frozen=True, slots=True)
class Deed:
    """What would have been done: `kind` is put, delete, tidy or make; `size` in bytes, of a put."""

    kind: str
    name: str = ""
    size: int = 0


class Rehearsed:
    """See tklb.storage.backend.Backend. There is no spool: an engine would write there."""

    spool: Path | None = None

    def __init__(self, target: Backend) -> None:
        self._target = target
        self.deeds: list[Deed] = []

    @property
    def address(self) -> str:
        return self._target.address

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        size = os.stat(source).st_size
        self.deeds.append(Deed("put", check_name(name), size))
        moved(size)
        return StoredObject(size, sha256)

    def delete(self, name: str) -> None:
        self.deeds.append(Deed("delete", check_name(name)))

    def tidy(self) -> None:
        self.deeds.append(Deed("tidy"))

    def make(self) -> None:
        self.deeds.append(Deed("make"))

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        self._target.get(name, destination, moved)

    def read(self, name: str, limit: int) -> bytes:
        return self._target.read(name, limit)

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        return self._target.list(prefix)

    def stat(self, name: str) -> StoredObject | None:
        return self._target.stat(name)

    def close(self) -> None:
        self._target.close()
