"""How large something is, by a walk that ends after some thousand names: the answer may be a lower bound.

Remembers the answers for a day in the cache: a folder of terabytes is not walked at every run.
"""

import contextlib
import os
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

from tklb.base.json import read_state, write_state
from tklb.errors import NoSpace
from tklb.host.files.walk import list_folder, read_status
from tklb.lazy_dataclass import dataclass

_MOST_NAMES = 20_000
_VALID = timedelta(days=1)


class Size(NamedTuple):
    """`is_whole`: the walk came to its end."""

    files: int
    bytes: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class SizeCache:
    """The sizes of some paths, each with the state of the path at that time. `save` keeps those that were asked for."""

    place: Path
    now: datetime
    known: dict[str, list[Any]]
    fresh: dict[str, list[Any]]

    @classmethod
    def load(cls, place: Path, now: datetime) -> Self:
        return cls(place, now, read_state(place, dict, {}), {})

    def measure(self, path: bytes) -> Size:
        """Give the size of a path. What cannot be read has none."""
        key, state = os.fsdecode(path), _describe(path)
        found = self.known.get(key)
        if not self._is_valid(found, state):
            found = [*state, self.now.timestamp(), *measure_tree(path)]
        assert found is not None
        self.fresh[key] = found
        return Size(*found[-3:])

    def save(self) -> None:
        if self.fresh.keys() != self.known.keys() or self.fresh != self.known:
            with contextlib.suppress(OSError, NoSpace):  # it costs time only
                write_state(self.place, self.fresh)

    def _is_valid(self, found: list[Any] | None, state: list[int]) -> bool:
        if not isinstance(found, list) or len(found) != len(state) + 4 or found[: len(state)] != state:
            return False
        age = self.now.timestamp() - float(found[len(state)])
        return 0 <= age < _VALID.total_seconds()


def measure_tree(path: bytes) -> Size:
    """Count the files at and below a path, and their bytes. Follows no link and enters no other file system."""
    try:
        top = os.lstat(path)
    except OSError:
        return Size(0, 0, True)
    if not stat.S_ISDIR(top.st_mode):
        return Size(1, top.st_size, True)
    files = total = names = unread = 0
    waiting = [path]
    while waiting and names < _MOST_NAMES:
        entries = _list_statuses(waiting.pop())
        unread += entries is None
        here = [status for _, status in entries or () if not stat.S_ISDIR(status.st_mode)]
        names, files, total = names + len(entries or ()), files + len(here), total + sum(one.st_size for one in here)
        waiting += [path for path, status in entries or () if _is_folder_of(status, top.st_dev)]
    return Size(files, total, not waiting and not unread)


def _list_statuses(folder: bytes) -> list[tuple[bytes, os.stat_result]] | None:
    """Give what is in a folder; None if it cannot be read."""
    try:
        found = ((entry.path, read_status(entry)) for entry in list_folder(folder))
        return [(path, status) for path, status in found if status]
    except OSError:
        return None


def _is_folder_of(status: os.stat_result, device: int) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_dev == device


def _describe(path: bytes) -> list[int]:
    try:
        status = os.lstat(path)
    except OSError:
        return [0, 0, 0]
    return [status.st_dev, status.st_ino, status.st_mtime_ns]
